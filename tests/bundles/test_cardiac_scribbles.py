"""The bundle that needs no masks: cases annotated in every way, in one data list."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizeloss_monai.sizes import published_range
from tests.support.bundle_runs import CINE, SCRIBBLES, Run, make_workflow

CONFIGS = f"bundles/{SCRIBBLES}/configs"
ROLES = ("full", "weak", "tags", "bounds", "bounds", "none")


@pytest.fixture(scope="module")
def folder(data: dict[str, Path]) -> Path:
    return data[SCRIBBLES]


@pytest.fixture(scope="module")
def trained(
    folder: Path, tiny: str, run_bundle: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A run on a copy of the data set without the mask of the validation case, and the scalars it logged."""
    root = tmp_path_factory.mktemp("scribbles")
    shutil.copytree(folder, root / "data")
    datalist = json.loads((root / "data" / "datalist.json").read_text())
    (root / "data" / datalist["validation"][0].pop("label")).unlink()
    (root / "data" / "datalist.json").write_text(json.dumps(datalist))
    result = run_bundle(f"{CONFIGS}/train.yaml", tiny, dataset_dir=root / "data", output_dir=root / "run", epochs=2)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    events = EventAccumulator(str(root / "run" / "tensorboard")).Reload()
    return root / "run", {name: [e.value for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def parsed(tiny: str, folder: Path, output: Path, **options: Any) -> Any:
    workflow = make_workflow(SCRIBBLES, ["train.yaml", tiny], folder, output, **options)
    workflow.initialize()
    return workflow.parser.get_parsed_content


def test_an_epoch_is_chosen_without_masks(trained: tuple[Path, dict[str, Any]]) -> None:
    run, scalars = trained
    parts = {"val_annotated_dice", "val_size_violation", "val_crf_energy"}
    assert parts | {"val_weak_score"} <= set(scalars)
    assert "val_mean_dice" not in scalars
    assert len(scalars["val_weak_score"]) == 2
    assert {"partial_ce", "partial_dice", "size", "absent", "crf"} <= set(scalars)
    assert all(math.isfinite(value) for values in scalars.values() for value in values)
    assert (run / "checkpoints" / "model.pt").is_file()
    (start,) = json.loads((run / "run.json").read_text())
    assert start["key_metric"] == "val_weak_score"
    assert start["size_bounds"].keys() >= {"per", "unit", "bounds"}


def test_evaluation_of_cases_with_and_without_masks(
    trained: tuple[Path, dict[str, Any]], folder: Path, tiny: str, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    evaluation = make_workflow(SCRIBBLES, ["train.yaml", tiny, "evaluate.yaml"], folder, run)
    evaluation.initialize()
    evaluation.run()
    with (run / "evaluation" / "validation" / "val_mean_dice_raw.csv").open() as file:
        rows = list(csv.DictReader(file))
    masked, other = json.loads((folder / "datalist.json").read_text())["validation"]
    assert [row["filename"] for row in rows] == [masked["case"]]
    with (run / "evaluation" / "validation" / "sizes.csv").open() as file:
        sizes = list(csv.DictReader(file))
    assert [(row["case"], bool(row["true_ml"])) for row in sizes] == [(masked["case"], True)] * 3 + [
        (other["case"], False)
    ] * 3
    for item in (masked, other):
        mask = nib.load(run / "evaluation" / "validation" / "masks" / f"{item['case']}.nii.gz")
        scan = nib.load(folder / item["image"])
        assert mask.shape == scan.shape
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)


def test_each_case_gives_what_it_is_annotated_with(folder: Path, tiny: str, tmp_path: Path) -> None:
    parse = parsed(tiny, folder, tmp_path / "run")
    items = parse("train#dataset#data")
    assert tuple(item["supervision"] for item in items) == ROLES
    assert all("label" not in item for item in items)
    full, weak, tags, some_tags, bounds, nothing = map(parse("train#preprocessing"), items)
    annotated = [(item["weak_label"] != 255).float().mean().item() for item in (full, weak)]
    assert annotated[0] > 0.8  # all but what is padded
    assert 0 < annotated[1] < 0.1
    assert all((item["weak_label"] == 255).all() for item in (tags, some_tags, bounds, nothing))
    # of each volume, shares of the slices added up: right ventricle, myocardium, cavity
    free = torch.tensor([[0.0, math.inf]] * 3)
    assert torch.equal(full["size_bounds"].sum(-1)[1:], free)
    assert torch.equal(nothing["size_bounds"].sum(-1)[1:], free)
    torch.testing.assert_close(weak["size_bounds"].sum(-1)[3], torch.tensor([15.0, 200.0]))
    torch.testing.assert_close(bounds["size_bounds"].sum(-1)[2], torch.tensor([20.0, 250.0]))
    assert torch.equal(some_tags["size_bounds"][1], torch.zeros_like(some_tags["size_bounds"][1]))
    assert (tags["size_bounds"][3, 1] > 0).nonzero().flatten().tolist() == [1, 2]


def test_the_ids_of_the_list_are_those_of_training(folder: Path, tiny: str, tmp_path: Path) -> None:
    # an annotation program's ids: 0 is what nobody painted, the background is another one
    shutil.copytree(folder, tmp_path / "data")
    datalist = json.loads((folder / "datalist.json").read_text())
    items = datalist["training"] + datalist["validation"]
    for path in [tmp_path / "data" / item["weak_label"] for item in items if "weak_label" in item]:
        scribble = nib.load(path)
        painted = np.asarray(scribble.dataobj)
        painted = np.select([painted == 0, painted == 255], [np.uint8(7), np.uint8(0)], painted)
        nib.save(nib.Nifti1Image(painted, scribble.affine), path)
    names = {number: name for number, name in datalist["labels"].items() if number != "0"}
    changed = {**datalist, "labels": {"7": "background", **names}, "unannotated": 0}
    (tmp_path / "data" / "datalist.json").write_text(json.dumps(changed))

    before, after = (parsed(tiny, root, tmp_path / f"run_{root.name}") for root in (folder, tmp_path / "data"))
    for parse, ids in ((before, [0, 1, 2, 3]), (after, [7, 1, 2, 3])):
        assert (parse("label_ids"), parse("target_ids"), parse("num_classes")) == (ids, [0, 1, 2, 3], 4)
    prepared = [map(parse("train#preprocessing"), parse("train#dataset#data")) for parse in (before, after)]
    for old, new in zip(*prepared, strict=True):
        assert torch.equal(old["weak_label"], new["weak_label"])
        torch.testing.assert_close(old["size_bounds"], new["size_bounds"])


def test_ids_that_are_given_win(folder: Path, tiny: str, tmp_path: Path) -> None:
    parse = parsed(tiny, folder, tmp_path / "one", target_ids=[0, 0, 1, 1])
    assert (parse("label_ids"), parse("num_classes")) == ([0, 1, 2, 3], 2)
    assert parse("network")(torch.zeros(1, 1, 32, 32)).shape[1] == 2
    parse = parsed(tiny, folder, tmp_path / "two", label_ids=[0, 3, 2, 1], num_classes=4)
    assert (parse("label_ids"), parse("target_ids"), parse("num_classes")) == ([0, 3, 2, 1], [0, 1, 2, 3], 4)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        parsed(tiny, folder, tmp_path / "three", target_ids=[0, 1])
    assert "target_ids must name a class for each of label_ids" in str(root_cause(caught.value))


@pytest.mark.parametrize("bundle", [SCRIBBLES, CINE])
def test_slices_that_are_not_square(data: dict[str, Path], tiny: str, tmp_path: Path, bundle: str) -> None:
    """No augmentation turns them by 90 degrees: all of a batch have one shape."""
    workflow = make_workflow(bundle, ["train.yaml", tiny], data[bundle], tmp_path / "run", slice_size=[64, 48])
    loader = workflow.parser.get_parsed_content("train#dataloader")
    assert {tuple(batch["image"].shape[2:]) for batch in loader} == {(64, 48)}


@pytest.mark.parametrize("terms", [["partial_ce"], ["partial_ce", "size", "entropy"]])
def test_terms_are_chosen_by_name(folder: Path, tiny: str, tmp_path: Path, terms: list[str]) -> None:
    parse = parsed(tiny, folder, tmp_path / "run", terms=terms, batch_size=2)
    batch = next(iter(parse("train#dataloader")))
    assert len(batch["volume"].unique()) == 2
    image, targets = parse("train#trainer").prepare_batch(batch)
    loss = parse("loss")
    total = loss(parse("network")(image), targets)
    assert list(loss.values) == terms
    assert total.item() == pytest.approx(sum(value.item() for value in loss.values.values()), rel=1e-5)


def test_masks_instead_of_scribbles(folder: Path, tiny: str, tmp_path: Path) -> None:
    datalist = json.loads((folder / "datalist.json").read_text())
    for item in datalist["training"]:
        if item.pop("supervision", None) == "tags":
            del item["tags"]  # they contradict its scribbles, which are used without the mark
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    parse = parsed(
        tiny, folder, tmp_path / "run", datalist_file=str(tmp_path / "list.json"), **{"train#use_masks": True}
    )
    marks = [item["supervision"] for item in parse("train#dataset#data")]
    assert marks == ["full", "weak", "weak", "bounds", "bounds", "weak"]


def test_bounds_on_slices(folder: Path, tiny: str, tmp_path: Path) -> None:
    datalist = json.loads((folder / "datalist.json").read_text())
    datalist["size_bounds"] = {"per": "slice", "unit": "mm2", "bounds": {"3": [60, 2000]}}
    for item in datalist["training"]:
        item.pop("size_bounds", None)
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    workflow = make_workflow(
        SCRIBBLES,
        ["train.yaml", tiny, "configs/supervision/slice_bounds.yaml"],
        folder,
        tmp_path / "run",
        datalist_file=str(tmp_path / "list.json"),
        epochs=1,
    )
    workflow.initialize()
    parse = workflow.parser.get_parsed_content
    weak = parse("train#preprocessing")(parse("train#dataset#data")[1])
    scribble = nib.load(parse("train#dataset#data")[1]["weak_label"])  # slices are its last axis
    shown = torch.from_numpy((np.asarray(scribble.dataobj) == 3).any(axis=(0, 1)))
    assert torch.equal(weak["size_bounds"][3, 0], torch.where(shown, 60.0, 0.0))
    assert torch.equal(weak["size_bounds"][3, 1], torch.where(shown, 2000.0, 0.0)), "scribbles are complete"
    batch = next(iter(parse("train#dataloader")))
    assert batch["image"].shape[0] == 8
    # in plane 3 mm, zoomed by 10 % at most
    assert ((batch["voxel_size"] > 0.8 * 9) & (batch["voxel_size"] < 1.3 * 9)).all()
    workflow.run()
    metrics = parse("validate#evaluator").state.metrics
    assert {"val_weak_score", "val_size_violation"} <= set(metrics)


def test_published_bounds_of_acdc(folder: Path, tiny: str, tmp_path: Path) -> None:
    datalist = json.loads((folder / "datalist.json").read_text())
    del datalist["size_bounds"]
    for item in datalist["training"]:
        item.pop("size_bounds", None)
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    files = ["train.yaml", tiny, "configs/protocols/acdc_scribbles.yaml"]
    workflow = make_workflow(SCRIBBLES, files, folder, tmp_path / "run", datalist_file=str(tmp_path / "list.json"))
    workflow.initialize()
    parse = workflow.parser.get_parsed_content
    bounds = parse("train#dataset#data")[1]["annotation"].bounds
    names = ("rv_cavity", "lv_myocardium", "lv_cavity")
    for found, name in zip(bounds[1:], names, strict=True):
        lower, upper = published_range(name).bounds
        assert found == pytest.approx((lower / 1.5, upper * 1.5), rel=2e-3)
    assert "label" in parse("validate#items")[0]  # the true Dice is logged


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"per": "slice", "unit": "mm2"}, {}, "found bounds per slice, expected per volume"),
        ({"bounds": {"1": [30, 20]}}, {}, "found \\[30, 20\\] for class 1, expected 0 <= lower <= upper"),
        ({"bounds": {"7": [3, 20]}}, {}, "key 'size_bounds': found class 7, expected one of 0"),
        ({"bounds": {"1": [90000, 99999]}}, {}, "whose lower bound is above the whole image"),
        ({}, {"slice_size": [16, 16]}, "a crop cuts the target"),
        (
            {},
            {"train#augmentation": [{"_target_": "RandSpatialCropd", "keys": "image", "roi_size": [8, 8]}]},
            "RandSpatialCropd, which may cut the target",
        ),
    ],
)
def test_what_bounds_in_ml_do_not_go_with(
    folder: Path, tiny: str, tmp_path: Path, changes: Any, options: Any, message: str
) -> None:
    datalist = json.loads((folder / "datalist.json").read_text())
    datalist["size_bounds"] |= changes
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    with pytest.raises(Exception) as caught:  # noqa: PT011, PT012
        parse = parsed(tiny, folder, tmp_path / "run", datalist_file=str(tmp_path / "list.json"), **options)
        parse("train#dataset")
    error = root_cause(caught.value)
    assert isinstance(error, ValueError)
    assert re.search(message, str(error)), str(error)


def test_a_crop_may_cut_what_has_no_size_to_keep(folder: Path, tiny: str, tmp_path: Path) -> None:
    parse = parsed(tiny, folder, tmp_path / "run", slice_size=[16, 16], terms=["partial_ce"])
    assert "annotated_corners" not in parse("train#dataset")[0]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda mask: mask[:-1], "found shape .*, expected that of 'image'"),
        (lambda mask: mask + 5, "found ids 5, 6, 7, 8, expected 0, 1, 2, 3"),
        (None, "found a file that cannot be read"),
    ],
)
def test_masks_to_watch_are_checked(
    folder: Path, tiny: str, tmp_path: Path, edit: Callable[[np.ndarray], np.ndarray] | None, message: str
) -> None:
    shutil.copytree(folder, tmp_path / "data")
    item = json.loads((folder / "datalist.json").read_text())["validation"][0]
    mask = nib.load(folder / item["label"])
    path = tmp_path / "data" / item["label"]
    if edit is None:
        path.write_bytes(path.read_bytes()[:-100])
    else:
        nib.save(nib.Nifti1Image(edit(np.asarray(mask.dataobj)), mask.affine), path)
    parsed(tiny, tmp_path / "data", tmp_path / "not_watched")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        parsed(tiny, tmp_path / "data", tmp_path / "run", **{"validate#watch_masks": True})
    assert re.search(f"case '{item['case']}', key 'label': {message}", str(root_cause(caught.value)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("terms", [["partial_ce", "crff"], "partial_ce", []])
def test_terms_are_losses(folder: Path, tiny: str, tmp_path: Path, terms: Any) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        parsed(tiny, folder, tmp_path / "run", terms=terms)
    error = root_cause(caught.value)
    assert (
        f"terms must be a list of some of partial_ce, partial_dice, size, absent, entropy, crf, found {terms!r}"
        in str(error)
    )
    assert not (tmp_path / "run").exists()


def test_small_bright_structures_keep_their_contrast(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(60, 5, (64, 64, 6)).astype(np.float32)
    volume[20:30, 20:30, 3], volume[30:34, 20:30, 3] = 120, 200  # 0.4 and 0.2 % of the voxels
    nib.save(nib.Nifti1Image(volume, np.diag([1.75, 1.75, 8, 1])), tmp_path / "a.nii.gz")
    workflow = make_workflow(SCRIBBLES, ["inference.yaml"], tmp_path / "a.nii.gz", tmp_path / "masks", "infer")
    image = workflow.parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "a.nii.gz")})["image"][0]
    kidney, cyst = image[25, 25, 3], image[32, 25, 3]
    assert cyst - image.median() == pytest.approx(140 / 60 * float(kidney - image.median()), rel=0.1)
