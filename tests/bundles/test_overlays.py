"""Every overlay in `configs/` is a working experiment: its loss, bounds and one training batch."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.experiments.tables import SPECIFICATION
from sizeloss_monai.bundle import ConfigError
from sizeloss_monai.handlers import KeyMetricLrHandler
from sizeloss_monai.metrics import size_violation
from sizeloss_monai.phantoms import write_cine_phantoms
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLE, make_workflow

PROTOCOLS = ("small.yaml", "paper.yaml", "demo.yaml", "release.yaml")
SUPERVISION = ("partial_ce.yaml", "tags.yaml", "common_bounds.yaml", "individual_bounds.yaml", "full.yaml")
# of the smallest and the largest slice, by row of Table 4
BOUND_FACTORS = {
    "common_upper_2": (0.9, 2.0),
    "common_upper_5": (0.9, 5.0),
    "common_upper_10": (0.9, 10.0),
    "common_no_lower": (0.0, 1.1),
    "common_no_lower_upper_5": (0.0, 5.0),
    "common_no_lower_upper_10": (0.0, 10.0),
}


def workflow(phantoms: Path, output: Path, overlays: list[str], **overrides: Any) -> ConfigWorkflow:
    files = [
        f"{BUNDLE}/train.yaml",
        *(overlay if os.path.isabs(overlay) else str(next((ROOT / "configs").rglob(overlay))) for overlay in overlays),
    ]
    made = ConfigWorkflow(
        config_file=[str(ROOT / file) for file in files],
        meta_file=str(ROOT / BUNDLE / "metadata.json"),
        logging_file=False,
        dataset_dir=str(phantoms),
        output_dir=str(output),
        device=torch.device("cpu"),
        **overrides,
    )
    made.initialize()
    return made


def first_batch(made: ConfigWorkflow) -> dict[str, Any]:
    batch: dict[str, Any] = next(iter(made.parser.get_parsed_content("train#dataloader")))
    return batch


def loss_of(made: ConfigWorkflow, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    parse = made.parser.get_parsed_content
    image, targets = parse("train#trainer").prepare_batch(batch)
    loss = parse("loss")
    return loss(parse("network")(image), targets), loss.values


def config_error(error: BaseException | None) -> str:
    """The message of the ConfigError behind another error."""
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__
    return str(error)


def test_no_overlay_is_left_out() -> None:
    names = {"supervision": {path.name for path in (ROOT / "configs" / "supervision").iterdir()}}
    names["protocols"] = {path.name for path in (ROOT / "configs" / "protocols").iterdir()}
    assert {path.name for path in (ROOT / "configs").iterdir()} == set(names)
    assert names["supervision"] == {
        *SUPERVISION,
        "hybrid.yaml",
        "lagrangian.yaml",
        "lagrangian_as_published.yaml",
        "volume_bounds.yaml",
        "scribbles.yaml",
        "slice_bounds.yaml",  # in test_cardiac_scribbles.py
    }
    assert names["protocols"] == {
        *PROTOCOLS,
        "augmented_copies.yaml",
        "select_without_masks.yaml",
        "small_3d.yaml",  # for volumes, in test_other_bundles.py
        "acdc_scribbles.yaml",  # in test_cardiac_scribbles.py
    }


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_an_overlay_says_in_a_sentence_what_it_is(file: Path) -> None:
    first = file.read_text().partition("\n")[0]
    assert re.fullmatch(r"# [A-Z].{20,125}\.", first), first


@pytest.mark.parametrize("overlay", SUPERVISION)
def test_supervision(phantoms: Path, tiny: str, tmp_path: Path, overlay: str) -> None:
    made = workflow(phantoms, tmp_path / "run", [tiny, overlay], batch_size=64)
    batch = first_batch(made)
    total, terms = loss_of(made, batch)
    expected = {"partial_ce.yaml": {"partial_ce"}, "full.yaml": {"ce"}}.get(overlay, {"partial_ce", "size"})
    assert set(terms) == expected
    total.backward()
    assert torch.isfinite(total)
    size = (batch["label"] == 1).flatten(1).sum(dim=1)
    lower, upper = batch["size_bounds"][:, 1].unbind(-1)
    positive = size > 0
    assert positive.any()
    assert (~positive).any()
    assert (upper[~positive] == 0).all()
    if overlay == "tags.yaml":
        assert (lower[positive] == 1).all()
        assert (upper[positive] == 64 * 64).all()
    elif overlay == "common_bounds.yaml":
        assert len(lower[positive].unique()) == 1
    else:
        torch.testing.assert_close(lower, 0.9 * size)
        torch.testing.assert_close(upper, 1.1 * size)


def test_bound_settings_scale_the_common_bounds(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    def bounds(row: str) -> list[float]:
        run = SPECIFICATION["runs"][row]
        assert run["overlays"] == ["common_bounds"]
        made = workflow(phantoms, tmp_path / row, [tiny, "common_bounds.yaml"], **run.get("options", {}))
        found: list[float] = made.parser.get_parsed_content("supervision#common_bounds")[1]
        return found

    lower, upper = bounds("common_bounds")
    for row, (lower_factor, upper_factor) in BOUND_FACTORS.items():
        assert bounds(row) == pytest.approx([lower / 0.9 * lower_factor, upper / 1.1 * upper_factor])


def test_volume_bounds(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    made = workflow(
        phantoms, tmp_path / "run", [tiny, "volume_bounds.yaml"], batch_size=2, **{"train#inferer#chunk_size": 3}
    )
    batch = first_batch(made)
    assert len(batch["volume"].unique()) == 2
    for volume in batch["volume"].unique():
        of_it = batch["volume"] == volume
        assert sorted(batch["slice"][of_it].tolist()) == list(range(int(of_it.sum())))
        torch.testing.assert_close(
            batch["size_bounds"][of_it, 1].sum(dim=0) / (batch["label"][of_it] == 1).sum(), torch.tensor([0.9, 1.1])
        )
    image, targets = made.parser.get_parsed_content("train#trainer").prepare_batch(batch)
    network = made.parser.get_parsed_content("network")
    logits = made.parser.get_parsed_content("train#inferer")(image, network)
    loss = made.parser.get_parsed_content("loss")
    loss(logits, targets).backward()
    size = logits.detach().softmax(dim=1)[:, 1].sum(dim=(1, 2))
    penalties = []
    for v in batch["volume"].unique():
        of_it = batch["volume"] == v
        excess = size[of_it].sum() - 1.1 * (batch["label"][of_it] == 1).sum()
        penalties.append(excess**2 / (of_it.sum() * 64**2))
    expected = 0.01 * sum(penalties) / 2
    assert loss.values["size"].item() == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture(scope="session")
def zooming(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An overlay whose augmentation rotates and zooms every slice, as release.yaml's does some of them."""
    file = tmp_path_factory.mktemp("configs") / "zooming.yaml"
    file.write_text(
        """
train#augmentation:
  - _target_: RandAffined
    keys: [image, label, weak_label]
    prob: 1.0
    rotate_range: 0.5
    scale_range: [0.2, 0.2]
    mode: [bilinear, nearest, nearest]
    padding_mode: [zeros, zeros, border]
"""
    )
    return str(file)


def in_both_units(
    phantoms: Path, output: Path, overlays: list[str], **overrides: Any
) -> tuple[list[ConfigWorkflow], list[dict[str, Any]]]:
    """Workflows with bounds in voxels and in mm, and the same batch of both."""
    made = [workflow(phantoms, output / unit, overlays, unit=unit, **overrides) for unit in ("voxels", "mm2")]
    batches = []
    for one in made:
        torch.manual_seed(0)
        batches.append(first_batch(one))
    assert torch.equal(torch.as_tensor(batches[0]["label"]), torch.as_tensor(batches[1]["label"]))
    assert (batches[0]["voxel_size"] == 1).all()
    return made, batches


def pixel_areas(batch: dict[str, Any]) -> torch.Tensor:
    """mm² of a pixel of each slice, by the affines of a batch's labels."""
    axes = torch.as_tensor(batch["label"].affine)[:, :3, :2].double()
    return (axes.mT @ axes).det().sqrt().float()


@pytest.mark.parametrize("overlay", ["tags.yaml", "individual_bounds.yaml", "common_bounds.yaml"])
def test_bounds_in_mm_follow_the_live_voxel_size(
    phantoms: Path, tiny: str, zooming: str, tmp_path: Path, overlay: str
) -> None:
    (_, made), (voxels, mm) = in_both_units(phantoms, tmp_path, [tiny, overlay, zooming], batch_size=64)
    area = pixel_areas(mm)
    assert area.min() < 0.8 * 9 < 1.2 * 9 < area.max(), "no zoom"
    torch.testing.assert_close(mm["voxel_size"], area)
    if overlay == "common_bounds.yaml":  # in mm they stay the same, however a slice is zoomed; 3 mm is `pixdim`
        torch.testing.assert_close(mm["size_bounds"], 9 * voxels["size_bounds"])
        return
    torch.testing.assert_close(mm["size_bounds"], area[:, None, None] * voxels["size_bounds"])
    if overlay == "individual_bounds.yaml":
        before = {(s["case"], s["slice"]): s["label"] for s in made.parser.get_parsed_content("train#dataset").data}
        names = zip(mm["case"], mm["slice"].tolist(), strict=True)
        pixels = torch.tensor([float((before[name] == 1).sum()) for name in names])
        large = pixels > 60
        assert large.sum() > 3
        torch.testing.assert_close(
            mm["size_bounds"][large, 1, 0], 0.9 * 9 * pixels[large], rtol=0.1, atol=0, msg="augmentation changes mm2"
        )


@pytest.mark.parametrize(("scale", "factor"), [("relative", 1), ("image", 9)])
@pytest.mark.parametrize("overlay", ["tags.yaml", "individual_bounds.yaml", "common_bounds.yaml"])
def test_penalty_in_mm(phantoms: Path, tiny: str, tmp_path: Path, overlay: str, scale: str, factor: float) -> None:
    """The relative one does not depend on the unit; Eq. 3 over |Omega| is larger by the size of a pixel, 9 mm²."""
    overlays = [tiny, overlay]
    made, batches = in_both_units(phantoms, tmp_path, overlays, batch_size=64, **{"loss#terms#size#loss#scale": scale})
    logits = torch.randn(len(batches[0]["image"]), 2, 64, 64, generator=torch.Generator().manual_seed(0))
    penalties = []
    for one, batch in zip(made, batches, strict=True):
        _, targets = one.parser.get_parsed_content("train#trainer").prepare_batch(batch)
        loss = one.parser.get_parsed_content("loss")
        loss(logits, targets)
        penalties.append(loss.values["size"].item())
    assert penalties[0] > 0
    assert penalties[1] == pytest.approx(factor * penalties[0], rel=1e-5)


def test_volume_bounds_in_ml(phantoms: Path, tiny: str, zooming: str, tmp_path: Path) -> None:
    """A volume's bounds are 10 % about its mL, whose slices are each zoomed in a way of their own."""
    overlays = [tiny, "volume_bounds.yaml", zooming]
    options = {"loss#terms#size#loss#scale": "relative"}
    made = workflow(phantoms, tmp_path / "run", overlays, batch_size=2, unit="mL", **options)
    batch = first_batch(made)
    for volume in batch["volume"].unique():
        of_it = batch["volume"] == volume
        case = batch["case"][int(of_it.nonzero()[0])]
        mask = nib.load(phantoms / f"{case}_gt.nii.gz")
        ml = (np.asarray(mask.dataobj) == 3).sum() * abs(np.linalg.det(mask.affine)) / 1000
        assert len(batch["voxel_size"][of_it].unique()) > 1
        assert batch["size_bounds"][of_it, 1].sum(dim=0).tolist() == pytest.approx([0.9 * ml, 1.1 * ml], rel=0.05)
    # a prediction that is the truth keeps to them, whatever the zoom
    _, targets = made.parser.get_parsed_content("train#trainer").prepare_batch(batch)
    logits = 50 * torch.nn.functional.one_hot(torch.as_tensor(batch["label"])[:, 0].long(), 2).movedim(-1, 1).float()
    loss = made.parser.get_parsed_content("loss")
    loss(logits, targets)
    assert loss.values["size"] == 0
    loss(-logits, targets)
    assert loss.values["size"] > 0


@pytest.mark.parametrize("overlays", [["lagrangian.yaml"], ["lagrangian.yaml", "hybrid.yaml"]])
def test_proposals_are_in_voxels(phantoms: Path, tiny: str, tmp_path: Path, overlays: list[str]) -> None:
    with pytest.raises(RuntimeError) as caught:
        workflow(phantoms, tmp_path / "run", [tiny, "common_bounds.yaml", *overlays], num_full=1, unit="mm2")
    assert "--unit must be voxels" in config_error(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bounds", ["tags", "common", "individual"])
@pytest.mark.parametrize("published", [False, True])
def test_lagrangian_proposals(phantoms: Path, tiny: str, tmp_path: Path, bounds: str, published: bool) -> None:
    weak = "tags.yaml" if bounds == "tags" else f"{bounds}_bounds.yaml"
    overlays = [tiny, weak, "lagrangian.yaml", *["lagrangian_as_published.yaml"] * published]
    made = workflow(phantoms, tmp_path / "run", overlays, batch_size=8, epochs=1)
    name = f"lagrangian_{'as_published_' * published}{weak.removesuffix('.yaml')}"
    assert made.parser.get_parsed_content("experiment") == name
    trainer = made.parser.get_parsed_content("train#trainer")
    assert trainer.proposals.solver == ("gradient_ascent" if published else "exact")
    image, targets = trainer.prepare_batch(first_batch(made))
    trainer.state.output = {}
    trainer.loss_function(trainer.network(image), targets).backward()
    proposal, weak_label = trainer.state.output["proposal"], targets["weak_label"]
    assert (proposal[weak_label != 255] == weak_label[weak_label != 255]).all()
    if not published:
        absent = targets["size_bounds"][:, 1, 1] == 0
        assert absent.any()
        assert (proposal[absent] == 0).all()
    if bounds == "individual" and not published:  # one whole epoch, with its handlers
        made.run()
        files = [EventAccumulator(str(f)).Reload().Tags() for f in (tmp_path / "run" / "tensorboard").iterdir()]
        scalars = {tag for tags in files for tag in tags["scalars"]}
        assert {"proposal_ce", "proposal_seconds", "proposal_iterations", "proposal_violation"} <= scalars
        assert any(tag.startswith("proposal/") for tags in files for tag in tags["images"])


@pytest.mark.parametrize("later", [["common_bounds.yaml"], ["lagrangian.yaml"]])
def test_volume_bounds_go_with_nothing_else(phantoms: Path, tiny: str, tmp_path: Path, later: list[str]) -> None:
    with pytest.raises(RuntimeError) as caught:
        workflow(phantoms, tmp_path / "run", [tiny, "volume_bounds.yaml", *later])
    assert "it goes with no other bounds or loss" in config_error(caught.value)
    assert not (tmp_path / "run").exists()


def test_hybrid(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    overlays = [tiny, "common_bounds.yaml", "hybrid.yaml"]
    made = workflow(phantoms, tmp_path / "run", overlays, num_full=2, batch_size=64)
    batch = first_batch(made)
    full = (batch["weak_label"] != 255).flatten(1).all(dim=1)
    marks = {item["case"]: item["supervision"] for item in made.parser.get_parsed_content("train#dataset#data")}
    assert sorted(marks.values()) == ["full", "full", "weak", "weak"]
    assert [marks[case] == "full" for case in batch["case"]] == full.tolist()
    assert torch.isinf(batch["size_bounds"][full, 1, 1]).all()
    assert torch.isfinite(batch["size_bounds"][~full, 1, 1]).all()
    total, terms = loss_of(made, batch)
    assert torch.isfinite(total)
    assert set(terms) == {"partial_ce", "size"}
    assert made.parser.get_parsed_content("loss").losses["partial_ce"].per_item
    assert made.parser.get_parsed_content("experiment") == "hybrid_2"


@pytest.mark.parametrize(
    ("overlays", "experiment"),
    [
        (["lagrangian.yaml", "hybrid.yaml"], "lagrangian_hybrid_2"),
        (["hybrid.yaml", "lagrangian.yaml"], "lagrangian_hybrid_2"),
        (["lagrangian.yaml", "lagrangian_as_published.yaml", "hybrid.yaml"], "lagrangian_as_published_hybrid_2"),
        (["hybrid.yaml", "lagrangian.yaml", "lagrangian_as_published.yaml"], "lagrangian_as_published_hybrid_2"),
    ],
)
def test_hybrid_with_proposals(phantoms: Path, tiny: str, tmp_path: Path, overlays: list[str], experiment: str) -> None:
    overlays = [tiny, "common_bounds.yaml", *overlays]
    made = workflow(phantoms, tmp_path / "run", overlays, num_full=2, batch_size=64)
    assert made.parser.get_parsed_content("experiment") == experiment
    trainer = made.parser.get_parsed_content("train#trainer")
    batch = first_batch(made)
    marks = {item["case"]: item["supervision"] for item in made.parser.get_parsed_content("train#dataset#data")}
    full = torch.tensor([marks[case] == "full" for case in batch["case"]])
    assert full.any()
    assert not full.all()
    image, targets = trainer.prepare_batch(batch)
    trainer.state.output = {}
    trainer.loss_function(trainer.network(image), targets).backward()
    proposal = trainer.state.output["proposal"]
    assert (proposal[full] == batch["label"][full]).all()
    assert (proposal[~full] != batch["label"][~full]).any()


def test_hybrid_asks_for_its_number_of_full_volumes(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        workflow(phantoms, tmp_path / "run", [tiny, "common_bounds.yaml", "hybrid.yaml"])
    assert "give their number, such as --num_full 5" in config_error(caught.value)
    assert not (tmp_path / "run").exists()


def test_hybrid_takes_the_marks_of_a_data_list(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    marked = Path(shutil.copytree(phantoms, tmp_path / "marked"))
    datalist = json.loads((marked / "datalist.json").read_text())
    datalist["training"][0]["supervision"] = "full"
    (marked / "datalist.json").write_text(json.dumps(datalist))
    made = workflow(marked, tmp_path / "run", [tiny, "common_bounds.yaml", "hybrid.yaml"])
    marks = [item["supervision"] for item in made.parser.get_parsed_content("train#dataset#data")]
    assert marks.count("full") == 1


@pytest.mark.parametrize("overlays", [["full.yaml", "hybrid.yaml"], ["hybrid.yaml", "full.yaml"]])
def test_hybrid_is_not_on_top_of_full_supervision(
    phantoms: Path, tiny: str, tmp_path: Path, overlays: list[str]
) -> None:
    with pytest.raises(RuntimeError) as caught:
        workflow(phantoms, tmp_path / "run", [tiny, *overlays], num_full=2)
    assert "it goes with a weak supervision, not with full.yaml" in config_error(caught.value)


@pytest.mark.parametrize("number", [5, 10, 25])
def test_numbers_of_full_volumes(phantoms: Path, tiny: str, tmp_path: Path, number: int) -> None:
    rows = SPECIFICATION["runs"]
    assert rows[f"hybrid_{number}"] == {"overlays": ["common_bounds", "hybrid"], "options": {"num_full": number}}
    options = {**rows[f"full_{number}"]["options"], "num_full": 2}
    assert rows[f"full_{number}"]["options"]["num_full"] == number
    made = workflow(phantoms, tmp_path / "run", [tiny, "full.yaml"], **options)
    assert len(made.parser.get_parsed_content("train#dataset#data")) == 2
    slices = len(made.parser.get_parsed_content("train#dataset"))
    assert len(made.parser.get_parsed_content("train#dataloader").dataset) == 4 * slices


@pytest.mark.parametrize("overlay", PROTOCOLS)
def test_protocol(phantoms: Path, tmp_path: Path, overlay: str) -> None:
    made = workflow(phantoms, tmp_path / "run", [overlay], batch_size=1)
    batch = first_batch(made)
    total, _ = loss_of(made, batch)
    total.backward()
    assert torch.isfinite(total)
    edge = {"small.yaml": 128, "paper.yaml": 256, "demo.yaml": 72, "release.yaml": 128}[overlay]
    assert batch["image"].shape == (1, 1, edge, edge)


@pytest.mark.parametrize("overlay", ["individual_bounds.yaml", "common_bounds.yaml"])
def test_the_demo_has_a_weight_of_its_own_and_takes_another(
    phantoms: Path, tiny: str, tmp_path: Path, overlay: str
) -> None:
    for order in (["demo.yaml", overlay], [overlay, "demo.yaml"]):
        for weight in (None, 0.7):
            given = {} if weight is None else {"size_weight": weight}
            made = workflow(phantoms, tmp_path / f"{order[0]}_{weight}", [*order, tiny], **given)
            assert made.parser.get_parsed_content("loss").weights["size"] == (weight or 0.3)


def test_augmented_copies(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    made = workflow(phantoms, tmp_path / "run", [tiny, "augmented_copies.yaml"])
    slices = len(made.parser.get_parsed_content("train#dataset"))
    dataset = made.parser.get_parsed_content("train#dataloader").dataset
    assert len(dataset) == 5 * slices
    positive = next(i for i in range(slices) if (dataset[i]["label"] == 1).sum() > 50)
    copies = [dataset[positive + k * slices] for k in range(5) for _ in range(4)]
    assert len({copy["image"].sum().item() for copy in copies}) > 1
    for copy in copies:
        seed = copy["weak_label"] == 1
        assert set(copy["weak_label"].unique().tolist()) <= {1, 255}
        assert (copy["label"][seed] == 1).all()


def test_slices_are_found_along_any_axis(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    permuted = Path(shutil.copytree(phantoms, tmp_path / "data" / "permuted"))
    for file in permuted.glob("*.nii.gz"):
        volume = nib.load(file)
        data, affine = np.moveaxis(np.asarray(volume.dataobj), 2, 0), volume.affine[:, [2, 0, 1, 3]]
        nib.save(nib.Nifti1Image(data, affine), file)
    plain, moved = (
        workflow(folder, tmp_path / folder.name, [tiny]).parser.get_parsed_content("train#dataset")
        for folder in (phantoms, permuted)
    )
    assert len(plain) == len(moved)
    for a, b in zip(plain.data, moved.data, strict=True):
        torch.testing.assert_close(torch.as_tensor(a["image"]), torch.as_tensor(b["image"]))
        assert torch.equal(torch.as_tensor(a["weak_label"]), torch.as_tensor(b["weak_label"]))


def test_remarks_on_some_cases_do_not_reach_the_batch(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    remarked = Path(shutil.copytree(phantoms, tmp_path / "remarked"))
    datalist = json.loads((remarked / "datalist.json").read_text())
    datalist["training"][0]["note"] = "seen twice"
    (remarked / "datalist.json").write_text(json.dumps(datalist))
    assert "note" not in first_batch(workflow(remarked, tmp_path / "run", [tiny], batch_size=16))


def test_scribbles_take_the_place_of_made_weak_labels(tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_cine_phantoms(folder, num_patients=2, splits=(0.5, 0.5, 0.0), with_scribbles=True)
    made = workflow(folder, tmp_path / "run", [tiny, "scribbles.yaml"], unannotated=255, batch_size=64)
    batch = first_batch(made)
    scribble = batch["weak_label"]
    assert set(scribble.unique().tolist()) == {0, 1, 255}
    # resampling takes single pixels from elsewhere: scribbles agree with the annotation nearly everywhere
    agree = (scribble == batch["label"])[scribble != 255].float().mean()
    assert agree > 0.95
    total, terms = loss_of(made, batch)
    assert set(terms) == {"partial_ce", "size"}
    assert torch.isfinite(total)


def scalars_of(run: Path) -> dict[str, dict[int, float]]:
    """By tag, the values of a run's epochs."""
    scalars: dict[str, dict[int, float]] = {}
    for file in (run / "tensorboard").iterdir():
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            scalars.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return scalars


def test_full_masks_do_not_choose_the_epoch(tiny: str, tmp_path: Path) -> None:
    """Masks of the validation cases that say the opposite change the true Dice, and nothing else."""
    folder = tmp_path / "data"
    write_cine_phantoms(folder, num_patients=2, splits=(0.5, 0.5, 0.0), with_scribbles=True)
    chosen, scalars = {}, {}
    for name in ("right", "wrong"):
        if name == "wrong":
            for item in json.loads((folder / "datalist.json").read_text())["validation"]:
                mask = nib.load(folder / item["label"])
                opposite = np.where(np.asarray(mask.dataobj) == 3, 0, 3).astype(np.uint8)
                nib.save(nib.Nifti1Image(opposite, mask.affine), folder / item["label"])
        overlays = [tiny, "scribbles.yaml", "select_without_masks.yaml"]
        made = workflow(folder, tmp_path / name, overlays, unannotated=255, batch_size=16, epochs=3)
        made.run()
        scalars[name] = scalars_of(tmp_path / name)
        chosen[name] = torch.load(tmp_path / name / "checkpoints" / "model.pt", weights_only=True)
        evaluator = made.parser.get_parsed_content("validate#evaluator")
        scores = scalars[name]["val_weak_score"]
        assert evaluator.state.best_metric_epoch == max(scores, key=lambda epoch: scores[epoch])
        handlers = made.parser.get_parsed_content("train#handlers")
        (schedule,) = [handler for handler in handlers if isinstance(handler, KeyMetricLrHandler)]
        assert schedule.step_transform(None) == pytest.approx(scores[3])
    weak = ("val_weak_score", "val_annotated_dice", "val_crf_energy", "loss")
    assert {tag: scalars["right"][tag] for tag in weak} == {tag: scalars["wrong"][tag] for tag in weak}
    assert scalars["right"]["val_mean_dice"] != scalars["wrong"]["val_mean_dice"]
    assert "val_size_violation" not in scalars["right"], "the list has no bounds"
    for key, tensor in chosen["right"].items():
        assert torch.equal(tensor, chosen["wrong"][key])


def test_an_epoch_is_chosen_where_nobody_has_masks(tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    file = write_cine_phantoms(folder, num_patients=2, splits=(0.5, 0.5, 0.0), with_scribbles=True)
    datalist = json.loads(file.read_text())
    for item in datalist["training"] + datalist["validation"]:
        (folder / item.pop("label")).unlink()
    bounds = {"1": [20, 300], "2": [20, 300], "3": [10, 200]}
    datalist["size_bounds"] = {"per": "volume", "unit": "mL", "source": "made up", "bounds": bounds}
    file.write_text(json.dumps(datalist))
    made = make_workflow(
        "cardiac_scribble_segmentation",
        ["train.yaml", tiny, "configs/protocols/select_without_masks.yaml"],
        folder,
        tmp_path / "run",
        unannotated=255,
        terms=["partial_ce"],
        epochs=2,
    )
    made.initialize()
    made.run()
    scalars = scalars_of(tmp_path / "run")
    dice, violation, energy = (scalars[f"val_{name}"] for name in ("annotated_dice", "size_violation", "crf_energy"))
    expected = {epoch: dice[epoch] - violation[epoch] - 0.25 * energy[epoch] for epoch in (1, 2)}
    assert scalars["val_weak_score"] == pytest.approx(expected, abs=1e-5)
    assert "val_mean_dice" not in scalars
    evaluator = made.parser.get_parsed_content("validate#evaluator")
    (item,) = evaluator.state.batch
    of_volume = torch.as_tensor(item["size_bounds"]).sum(dim=-1)  # of its slices' shares
    torch.testing.assert_close(of_volume[3], torch.tensor([10.0, 200.0]))
    sizes = torch.as_tensor(evaluator.state.output[0]["pred"]).flatten(1).sum(dim=1) * item["voxel_size"]
    torch.testing.assert_close(
        evaluator.state.metric_details["val_weak_score"][-1, 1],
        size_violation(sizes, of_volume)[1:].mean(),
    )
    assert (tmp_path / "run" / "checkpoints" / "model.pt").is_file()
