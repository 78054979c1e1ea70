import monai.bundle
import pytest
import yaml
from monai.bundle import ConfigWorkflow

from sizeloss_monai.bundle import ConfigError, check_names, unused_names


def make_config(**changes):
    return {
        "imports": ["$import os"],
        "epochs": 3,
        "output_dir": "runs",
        "loss": {"_target_": "torch.nn.Identity"},
        "network": {"_target_": "torch.nn.Identity"},
        "optimizer": {"lr": 1, "momentum": 0.9},
        "train": {
            "dataset": [1],
            "steps": "$[@epochs] * 2",
            "trainer": {"_target_": "builtins.dict", "s": "@train#steps"},
        },
        "folder": "$os.path.join(@output_dir, str(@optimizer#lr), str(@optimizer::momentum))",
        "initialize": ["$@folder"],
        "run": ["$@train#trainer", "$@loss", "$@network"],
        **changes,
    }


def test_nothing_is_unused():
    assert unused_names(make_config()) == {}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("epoch", "epochs"),
        ("Epochs", "epochs"),
        ("outputdir", "output_dir"),
        ("optimiser", "optimizer"),
        ("initialise", "initialize"),
        ("trian", "train"),
    ],
)
def test_misspelt_name_with_a_suggestion(name, suggestion):
    unused = unused_names(make_config(**{name: 1}))
    assert unused.keys() == {name}
    assert suggestion in unused[name]


@pytest.mark.parametrize(
    ("section", "child", "suggestion"),
    [("train", "step", "train::steps"), ("train", "datasets", "train::dataset"), ("optimizer", "lrr", "optimizer::lr")],
)
def test_misspelt_name_in_a_section(section, child, suggestion):
    config = make_config()
    config[section] = {**config[section], child: 1}
    unused = unused_names(config)
    assert unused.keys() == {f"{section}::{child}"}
    assert suggestion in unused[f"{section}::{child}"]


def test_a_name_like_no_other_has_no_suggestion():
    assert unused_names(make_config(zzzzzz=1)) == {"zzzzzz": []}


def test_every_unused_name_is_found():
    assert unused_names(make_config(epoch=1, zzzzzz=1)).keys() == {"epoch", "zzzzzz"}


def test_a_section_that_misses_in_the_config_altogether():
    # an override of a nested name makes the section
    assert "trian" in unused_names(make_config(trian={"steps": 1}))


def test_a_name_is_used_wherever_the_reference_stands():
    config = make_config(a=1, b=2, c=3, d=4)
    config["run"] += [{"_target_": "builtins.dict", "x": [{"y": "@a"}]}, "$[@b for _ in range(2)]", "$f(@c) + @d"]
    assert unused_names(config) == {}


def test_mentioned_in_no_reference_is_not_used():
    assert unused_names(make_config(a=1, note="$'a'")).keys() == {"a", "note"}


def test_arguments_of_a_component_are_its_own_business():
    config = make_config()
    config["loss"]["anything"] = 1
    assert unused_names(config) == {}


def test_a_dictionary_used_as_a_whole_may_hold_anything():
    config = make_config(checkpoint_items={"model": 1, "trainer": 2})
    config["run"].append("$@checkpoint_items")
    assert unused_names(config) == {}


def test_ids_that_monais_workflows_ask_for_are_used():
    config = {
        "bundle_root": ".",
        "dataset_dir": ".",
        "device": "cpu",
        "network_def": 1,
        "train": {"trainer": 1, "dataset": {"data": []}, "inferer": 1, "preprocessing": 1, "key_metric": 1},
        "validate": {"evaluator": 1, "dataset": 1, "postprocessing": 1, "handlers": 1},
        "evaluator": 1,
        "dataset": {"data": []},
    }
    assert unused_names(config) == {}
    for section in ("train", "validate"):
        changed = {**config, section: {**config[section], "datset": 1}}
        unused = unused_names(changed)
        assert unused.keys() == {f"{section}::datset"}
        assert unused[f"{section}::datset"][0] == f"{section}::dataset"


@pytest.mark.parametrize("name", ["imports", "initialize", "run", "finalize", "_meta_", "_requires_"])
def test_entry_points_are_used(name):
    assert unused_names({name: {"a": 1}}) == {}


# ---- in a workflow


CHECK = {"_target_": "sizeloss_monai.bundle.check_names"}


def write(file, **changes):
    config = make_config(**changes)
    config["initialize"].append(CHECK)
    file.write_text(yaml.safe_dump(config))
    return str(file)


@pytest.fixture
def run(tmp_path):
    """Run a config with overrides through MONAI's own workflow; return what its ``run`` gives."""

    def call(**overrides):
        workflow = ConfigWorkflow(
            config_file=write(tmp_path / "train.yaml"),
            workflow_type="train",
            meta_file=None,
            logging_file=False,
            **overrides,
        )
        workflow.initialize()
        return workflow.run()

    return call


def causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_right_overrides_pass(run):
    assert run(epochs=7)[0] == {"s": [7, 7]}
    assert run(**{"train#steps": "$[5, @epochs]"})[0] == {"s": [5, 3]}


@pytest.mark.parametrize(
    ("name", "suggestion"), [("epoch", "'epochs'"), ("train#step", "'train::steps'"), ("ouput_dir", "'output_dir'")]
)
def test_misspelt_override_stops_the_workflow(run, name, suggestion):
    with pytest.raises(RuntimeError, match="Failed to instantiate") as caught:
        run(**{name: 1})
    errors = [error for error in causes(caught.value) if isinstance(error, ConfigError)]
    assert len(errors) == 1
    assert repr(name.replace("#", "::")) in str(errors[0])
    assert f"did you mean {suggestion}" in str(errors[0])


@pytest.mark.parametrize(("name", "now"), [("slice_wise", "supervision#per"), ("copies", "train#copies")])
def test_a_setting_of_another_name_than_before(run, name, now):
    with pytest.raises(RuntimeError) as caught:
        run(**{name: 1})
    (error,) = [str(error) for error in causes(caught.value) if isinstance(error, ConfigError)]
    assert f"  {name!r} is now {now}." in error


@pytest.fixture
def run_with_an_overlay(tmp_path):
    """A config that uses `weight` and `scale`; an overlay, or the command line, may replace what uses them."""

    def call(overlay, repeated=False, **overrides):
        loss = {"_target_": "torch.nn.Identity", "weight": "@weight", "scale": "@scale"}
        scale = {"_target_": "builtins.dict", "unit": "mm"}
        (tmp_path / "configs").mkdir()
        (tmp_path / "overlays").mkdir()
        file = write(tmp_path / "configs" / "train.yaml", weight=0.1, scale=scale, loss=loss)
        check = {**CHECK, "settings_repeated": True}
        added = {"initialize": [check]} if repeated else {}
        (tmp_path / "overlays" / "other.yaml").write_text(yaml.safe_dump({**overlay, **added}))
        monai.bundle.run(config_file=[file, str(tmp_path / "overlays" / "other.yaml")], logging_file=False, **overrides)

    return call


WITHOUT = {"loss": {"_target_": "torch.nn.Identity"}}


def test_an_overlay_may_leave_a_name_of_the_bundle_unused(run_with_an_overlay):
    run_with_an_overlay(WITHOUT, epochs=2)


@pytest.mark.parametrize(("override", "name"), [("weight", "weight"), ("scale", "scale"), ("scale#unit", "scale")])
def test_a_value_of_the_callers_has_an_effect(run_with_an_overlay, override, name):
    with pytest.raises(RuntimeError) as caught:
        run_with_an_overlay(WITHOUT, **{override: 2})
    errors = [str(error) for error in causes(caught.value) if isinstance(error, ConfigError)]
    assert errors == [f"found a value for {name!r}, which these config files make no use of: leave it out."]


def test_an_evaluation_takes_the_settings_of_the_training(run_with_an_overlay):
    run_with_an_overlay(WITHOUT, repeated=True, weight=2)


def test_a_used_name_takes_the_callers_value(run_with_an_overlay):
    run_with_an_overlay(WITHOUT, weight=2, epochs="$int(@weight)")


@pytest.mark.parametrize("repeated", [False, True])
def test_a_misspelt_name_in_an_overlay(run_with_an_overlay, repeated):
    with pytest.raises(RuntimeError) as caught:
        run_with_an_overlay({"epoch": 1}, repeated)
    (error,) = [str(error) for error in causes(caught.value) if isinstance(error, ConfigError)]
    assert "'epoch'; did you mean 'epochs'" in error


def test_outside_a_workflow():
    with pytest.raises(RuntimeError, match="initialize"):
        check_names()
