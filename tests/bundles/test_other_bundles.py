"""The bundles beside the cine one: from a data set in its own layout to a mask on a scan's own grid."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from sizeloss_monai.datalist import make_datalist
from sizeloss_monai.sizes.table import read_sizes
from tests.support.bundle_runs import BUNDLES, CINE, SCRIBBLES, VOLUMES, Run, make_workflow, root_of
from tests.support.layouts import SCANS, WRITERS

PROSTATE = "prostate_t2_segmentation"
VERTEBRAL = "vertebral_body_t2_segmentation"
SUPERVISION = ("partial_ce", "tags", "common_bounds", "individual_bounds", "full")


@pytest.fixture(scope="module", params=WRITERS)
def trained(
    request: pytest.FixtureRequest,
    data: dict[str, Path],
    tiny_of: dict[str, str],
    run_bundle: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    bundle: str = request.param
    output = tmp_path_factory.mktemp("runs") / bundle
    files = (f"bundles/{bundle}/configs/train.yaml", tiny_of[bundle], "configs/supervision/individual_bounds.yaml")
    result = run_bundle(*files, dataset_dir=data[bundle], output_dir=output, epochs=1)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return bundle, output


def test_evaluate_and_segment_a_scan(
    trained: tuple[str, Path], data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path
) -> None:
    bundle, run = trained
    evaluation = make_workflow(bundle, ["train.yaml", tiny_of[bundle], "evaluate.yaml"], data[bundle], run)
    evaluation.initialize()
    evaluation.run()
    metrics = ["val_mean_dice", "val_hd95_mm"] + ["val_slice_dice"] * (bundle != VOLUMES)
    folder = run / "evaluation" / "validation"
    assert {path.name for path in folder.glob("*_raw.csv")} == {f"{name}_raw.csv" for name in metrics}
    with (folder / "val_mean_dice_raw.csv").open() as file:
        heading, *rows = csv.reader(file)
    assert heading == ["filename", *(f"class{i}" for i in range(2 if bundle == VOLUMES else 1)), "mean"]
    assert len(rows) == 1
    (measured, *others) = read_sizes(folder / "sizes.csv")
    assert [row.class_id for row in (measured, *others)] == ([1, 2] if bundle == VOLUMES else [1])
    (start,) = json.loads((run / "run.json").read_text())
    assert start["key_metric"] == "val_mean_dice"
    of_slices = {"slice_size", "slice_axis"}  # whole volumes have none
    assert start["grid"].keys() == {"pixdim", *({"volume_size"} if bundle == VOLUMES else of_slices)}
    (record,) = json.loads((folder / "run.json").read_text())
    assert record["checkpoint"] == "checkpoint_epoch=1.pt"
    (case,) = json.loads((folder / "cases.json").read_text())["cases"]
    image, truth, mask = (sitk.ReadImage(str(path)) for path in (case["image"], case["label"], folder / case["mask"]))
    np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-4)
    found, wanted = (sitk.GetArrayFromImage(volume) for volume in (mask, truth))
    assert found.shape == wanted.shape
    assert measured.hard_ml == pytest.approx((found == 1).sum() * np.prod(image.GetSpacing()) / 1000, rel=1e-5)
    assert measured.true_ml == pytest.approx((wanted == 1).sum() * np.prod(image.GetSpacing()) / 1000, rel=1e-5)

    scan, weights = data[bundle] / SCANS[bundle], run / "checkpoints" / "model.pt"
    inference = make_workflow(
        bundle, ["inference.yaml", tiny_of[bundle]], scan, tmp_path / "masks", "infer", checkpoint=str(weights)
    )
    inference.initialize()
    inference.run()
    inference.finalize()  # lets go of the folder
    other = make_workflow(
        bundle, ["inference.yaml", tiny_of[bundle]], scan, tmp_path / "no", "infer",
        checkpoint=str(weights), pixdim=[7.0, 7.0, -1.0], resample=True,
    )  # fmt: skip
    with pytest.raises(RuntimeError) as caught:
        other.initialize()
    assert str(root_of(caught.value)).startswith("pixdim: found [7.0, 7.0, -1.0] mm, expected")
    assert not (tmp_path / "no").exists()
    (file,) = (tmp_path / "masks").iterdir()
    mask, image = sitk.ReadImage(str(file)), sitk.ReadImage(str(scan))
    assert file.name.endswith("_seg.nii.gz")
    assert mask.GetSize() == image.GetSize()
    np.testing.assert_allclose(mask.GetSpacing(), image.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-4)


def test_no_released_weights_is_one_clear_error(data: dict[str, Path], tmp_path: Path) -> None:
    inference = make_workflow(PROSTATE, ["inference.yaml"], data[PROSTATE], tmp_path / "masks", "infer")
    with pytest.raises(RuntimeError) as caught:
        inference.initialize()
    error: BaseException = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert "models/model.pt" in str(error)
    assert "Give --checkpoint" in str(error)


def parsed(bundle: str, overlays: list[str], folder: Path, output: Path, **overrides: Any) -> Any:
    """The values of a workflow, as a function of their ids."""
    made = make_workflow(bundle, ["train.yaml", *overlays], folder, output, **overrides)
    made.initialize()
    return made.parser.get_parsed_content


@pytest.mark.parametrize("overlay", SUPERVISION)
@pytest.mark.parametrize("bundle", [PROSTATE, VOLUMES])
def test_supervision(data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path, bundle: str, overlay: str) -> None:
    parse = parsed(
        bundle, [tiny_of[bundle], f"configs/supervision/{overlay}.yaml"], data[bundle], tmp_path / "run", batch_size=64
    )
    batch = next(iter(parse("train#dataloader")))
    image, targets = parse("train#trainer").prepare_batch(batch)
    loss = parse("loss")
    total = loss(parse("network")(image), targets)
    total.backward()
    assert torch.isfinite(total)
    expected = {"partial_ce": {"partial_ce"}, "full": {"ce"}}.get(overlay, {"partial_ce", "size"})
    assert set(loss.values) == expected
    if "size" in expected:
        assert loss.weights["size"] == parse("size_weight")
    annotated = batch["weak_label"] != 255
    # augmentation turns both alike, but for the rounding of single pixels
    assert (batch["weak_label"] == batch["label"])[annotated].float().mean() > 0.95
    for class_id in range(1, parse("num_classes")):
        size = (batch["label"] == class_id).flatten(1).sum(dim=1)
        lower, upper = batch["size_bounds"][:, class_id].unbind(-1)
        present = size > 0
        assert present.any()
        assert (upper[~present] == 0).all()
        if overlay == "tags":
            assert (upper[present] == image[0].numel()).all()
        elif overlay == "common_bounds":
            assert len(upper[present].unique()) == 1
        else:
            torch.testing.assert_close(torch.stack([lower, upper]), torch.stack([0.9 * size, 1.1 * size]))


@pytest.mark.parametrize("bundle", WRITERS)
def test_bounds_in_mm(data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path, bundle: str) -> None:
    """In mm² of slices, in mL of volumes; the penalty relative to the bound does not depend on it."""
    batches, penalties = [], []
    for unit in ("voxels", "mL" if bundle == VOLUMES else "mm2"):
        options = {"unit": unit, "batch_size": 64, "loss#terms#size#loss#scale": "relative"}
        parse = parsed(bundle, [tiny_of[bundle]], data[bundle], tmp_path / unit, **options)
        torch.manual_seed(0)
        batches.append(next(iter(parse("train#dataloader"))))
        image, targets = parse("train#trainer").prepare_batch(batches[-1])
        shape = (len(image), parse("num_classes"), *image.shape[2:])
        loss = parse("loss")
        loss(torch.randn(shape, generator=torch.Generator().manual_seed(0)), targets)
        penalties.append(loss.values["size"].item())
    # the prostate's slices keep their own pixels
    voxel = {PROSTATE: 2.7**2, VERTEBRAL: 3.0**2, VOLUMES: 1.0**3 / 1000}[bundle]
    voxels, mm = batches
    torch.testing.assert_close(mm["voxel_size"], torch.full_like(mm["voxel_size"], voxel))
    torch.testing.assert_close(mm["size_bounds"], voxel * voxels["size_bounds"])
    assert penalties[1] == pytest.approx(penalties[0], rel=1e-5)


@pytest.mark.parametrize("bundle", [bundle for bundle in BUNDLES if bundle != SCRIBBLES])
def test_individual_weight_is_the_authors(data: dict[str, Path], tmp_path: Path, bundle: str) -> None:
    """That of slices: the other statistics and bounds per volume keep 0.01."""
    for overlay in ("individual_bounds", "common_bounds", "tags", *["volume_bounds"] * (bundle != VOLUMES)):
        files = ["train.yaml", f"configs/supervision/{overlay}.yaml"]
        workflow = make_workflow(bundle, files, data[bundle], tmp_path / "run")
        weight = workflow.parser.get_parsed_content("size_weight")
        assert weight == (0.05 if (bundle, overlay) == (CINE, "individual_bounds") else 0.01)


@pytest.mark.parametrize("bundle", [PROSTATE, VOLUMES])
def test_validation_of_a_case_with_bounds_and_tags_of_its_own(
    data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path, bundle: str
) -> None:
    datalist = make_datalist(data[bundle], num_validation=2)
    datalist["size_bounds"] = {"per": "volume", "unit": "mL", "bounds": {}}
    datalist["validation"][1] |= {"size_bounds": {"1": [0, None]}, "tags": {"1": True}}
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    overlays = [tiny_of[bundle]] + ["configs/protocols/select_without_masks.yaml"] * (bundle != VOLUMES)
    parse = parsed(bundle, overlays, data[bundle], tmp_path / "run", datalist_file=str(tmp_path / "list.json"))
    evaluator = parse("validate#evaluator")
    evaluator.run()
    assert np.isfinite(evaluator.state.metrics["val_mean_dice"])


def test_a_volume_has_one_ball_a_class(data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path) -> None:
    parse = parsed(VOLUMES, [tiny_of[VOLUMES]], data[VOLUMES], tmp_path / "run")
    for item in map(parse("validate#preprocessing"), parse("datalist")["training"][:2]):
        assert item["image"].shape == (1, 32, 40, 24)
        assert 0 <= item["image"].min() < item["image"].max() <= 1
        for class_id in (1, 2):
            ball = np.argwhere((item["weak_label"] == class_id).numpy())[:, 1:]
            assert 1 <= len(ball) <= 123  # voxels within a radius of 3
            assert (ball.max(0) - ball.min(0)).max() <= 6


def test_common_bounds_of_volumes_come_from_the_first_few(
    data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path
) -> None:
    overlays = [tiny_of[VOLUMES], "configs/supervision/common_bounds.yaml"]
    parse = parsed(VOLUMES, overlays, data[VOLUMES], tmp_path / "run", **{"supervision#common_bounds#num_cases": 3})
    items = list(map(parse("validate#preprocessing"), parse("datalist")["training"][:3]))
    for class_id in (1, 2):
        sizes = [int((item["label"] == class_id).sum()) for item in items]
        assert parse("supervision#common_bounds")[class_id] == pytest.approx([0.9 * min(sizes), 1.1 * max(sizes)])


def test_protocol_for_volumes(data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path) -> None:
    parse = parsed(VOLUMES, [tiny_of[VOLUMES], "configs/protocols/small_3d.yaml"], data[VOLUMES], tmp_path / "run")
    assert parse("train#trainer").state.max_epochs == parse("epochs") == parse("lr_scheduler").T_max == 40


@pytest.mark.parametrize(("overlays", "copies", "edge"), [([], 4, 256), (["configs/protocols/small.yaml"], 0, 128)])
def test_prostate_slices_and_copies(
    data: dict[str, Path], tmp_path: Path, overlays: list[str], copies: int, edge: int
) -> None:
    parse = parsed(PROSTATE, overlays, data[PROSTATE], tmp_path / "run", batch_size=1)
    slices, drawn = len(parse("train#dataset")), parse("train#dataloader").dataset
    assert len(drawn) == (1 + copies) * slices
    assert drawn[0]["image"].shape == (1, edge, edge)
    positive = next(i for i in range(slices) if (drawn[i]["label"] == 1).sum() > 50)
    assert len({drawn[positive]["image"].sum().item() for _ in range(8)}) > 1, "no augmentation"


def test_spine_slices_are_sagittal(data: dict[str, Path], tmp_path: Path) -> None:
    parse = parsed(VERTEBRAL, [], data[VERTEBRAL], tmp_path / "run")
    assert len(parse("train#dataset")) == 3 * 5
    assert parse("train#dataset")[0]["image"].shape == (1, 256, 256)
    assert parse("train#dataloader").batch_size == 20
