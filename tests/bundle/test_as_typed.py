"""What a config's texts are after MONAI's command line, Fire, has read them."""

import json
import sys
from pathlib import Path

import fire
import monai.bundle
import monai.bundle.__main__ as bundle_main
import pytest
from monai.bundle import ConfigParser

from sizeloss_monai.bundle import ConfigError, literal
from sizeloss_monai.bundle.guard import typed_settings

CONFIG = """
imports:
  - $import json
  - $import os
dataset_dir: data/here
datalist_file: null
output_dir: "$'runs/' + @experiment"
experiment: one
epochs: 3
checkpoint: "$os.path.join(@output_dir, 'model.pt')"
values: ["@dataset_dir", "@datalist_file", "@output_dir", "@experiment", "@checkpoint", "@epochs"]
seen: "$os.environ['SEEN']"
initialize:
  - {_target_: sizeloss_monai.bundle.use_what_was_typed}
  - {_target_: sizeloss_monai.bundle.check_names}
run:
  - "$open(@seen, 'w').write(json.dumps(@values))"
"""
NAMES = ("dataset_dir", "datalist_file", "output_dir", "experiment", "checkpoint", "epochs")


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Runs the config as `python -m monai.bundle run` does, and returns what its items then are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    monkeypatch.setenv("HOME", "/home/of_mine")
    Path("metadata.json").write_text("{}")
    Path("test.yaml").write_text(CONFIG)

    def typed(*args):
        monkeypatch.setattr(sys, "argv", [bundle_main.__file__, "run", "--config_file", "test.yaml", *args])
        fire.Fire({"run": monai.bundle.run})
        return dict(zip(NAMES, json.loads(Path("seen.json").read_text()), strict=True))

    return typed


def cause(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@pytest.mark.parametrize(
    "text",
    [
        *(
            "scans#2",
            "#2",
            "20240115",
            "1e5",
            "1_000",
            "0x10",
            "True",
            "a,b",
            "[x]",
            "{a}",
            "{a: b}",
            "(1)",
            "'quoted'",
        ),
        *("@home", "@home/scans", "@#x", "$x", "$HOME", "$5", "$x (copy)", "$import os", "$a b", "a b", "é", "a'b\"c"),
        # items that need the setting itself cannot be meant
        *("@dataset_dir", "@values", "@values#0", "@run"),
        *("None", "a\\b", "a%b", "x=y", "../@a#b$c", "\udcff", "null"),
    ],
)
@pytest.mark.parametrize("equals", [False, True])
def test_texts_are_what_was_typed(bundle, text, equals):
    values = bundle(f"--dataset_dir={text}") if equals else bundle("--dataset_dir", text, "--experiment", text)
    assert values["dataset_dir"] == text
    if not equals:
        assert values["output_dir"] == f"runs/{text}"


@pytest.mark.parametrize("name", ["dataset_dir", "datalist_file", "output_dir", "checkpoint"])
def test_the_home_folder(bundle, name):
    assert bundle(f"--{name}", "~/x#1")[name] == "/home/of_mine/x#1"


def test_what_monai_reads_rightly_keeps_its_meaning(bundle):
    values = bundle("--output_dir", "$@dataset_dir + '/out'", "--experiment", "@dataset_dir", "--epochs", "5")
    assert values == {
        "dataset_dir": "data/here",
        "datalist_file": None,
        "output_dir": "data/here/out",
        "experiment": "data/here",
        "checkpoint": "data/here/out/model.pt",
        "epochs": 5,
    }
    assert bundle("--checkpoint", "$os.path.join('a', 'b')")["checkpoint"] == "a/b"
    assert bundle("--datalist-file", "None")["datalist_file"] is None
    assert bundle("--checkpoint", "$''.join(c for c in 'ab')")["checkpoint"] == "ab"


def test_the_last_of_two(bundle):
    assert bundle("--dataset_dir", "1", "--dataset_dir=2")["dataset_dir"] == "2"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--epochs", "5#0"], r"^epochs must be without '#', got '5#0'"),
        (["--dataset_dir", "--epochs", "5"], r"^dataset_dir must be a text, got no value\. .*--dataset_dir=VALUE"),
        (["--epochs", "5", "--dataset_dir"], r"^dataset_dir must be a text, got no value"),
    ],
)
def test_what_cannot_be_used_is_said(bundle, args, message):
    with pytest.raises(RuntimeError) as caught:
        bundle(*args)
    error = cause(caught.value)
    assert isinstance(error, ConfigError)
    with pytest.raises(ConfigError, match=message):
        raise error


def test_a_caller_in_python(bundle, monkeypatch):
    """Whose process was started with arguments of another meaning."""
    monkeypatch.setattr(sys, "argv", ["server", "--dataset_dir", "another"])
    options = {"config_file": "test.yaml", "dataset_dir": Path("scans#2"), "output_dir": "@home"}
    monai.bundle.run(**options)
    assert json.loads(Path("seen.json").read_text())[:3] == ["scans#2", None, "@home"]
    with pytest.raises(RuntimeError) as caught:
        monai.bundle.run(**{**options, "dataset_dir": 20240115})
    assert str(cause(caught.value)) == "dataset_dir must be a text, got 20240115 (int): put it in quotes."


@pytest.mark.parametrize("text", ["plain/text", "@a", "$b", "%c", "a#b", "$'\"\\\n@a", "é#"])
def test_literal(text):
    parser = ConfigParser({"a": 1, "text": literal(text), "copy": "@text"})
    assert parser.get_parsed_content("copy") == text


def test_typed_settings():
    program = "/lib/monai/bundle/__main__.py"
    args = ["run", "training", "--a", "1", "--b=2=3", "--c-d", "-x", "--e", "-5", "--f", "--", "--trace"]
    assert typed_settings([program, *args]) == {"a": "1", "b": "2=3", "c_d": None, "x": None, "e": "-5", "f": None}
    assert typed_settings(["pytest", *args]) == {}
