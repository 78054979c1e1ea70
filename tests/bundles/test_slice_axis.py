"""Slices closer to each other than their pixels: cut as they were painted, in training, evaluation and inference."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sizeloss_monai.bundle import ConfigError
from sizeloss_monai.errors import DataError
from sizeloss_monai.report.run_files import read_evaluation
from tests.support.bundle_runs import CINE, SCRIBBLES, make_workflow, root_of

SPACING = (1.95, 1.95, 1.0)
SHAPE = (48, 40, 14)
ORDER = (2, 0, 1)
"""Of the axes of a scan that is stored in another order."""


def save(array: np.ndarray, file: Path, order: tuple[int, ...] = (0, 1, 2)) -> None:
    affine = np.diag([*SPACING, 1.0])[:, [*order, 3]]
    nib.save(nib.Nifti1Image(array.transpose(order), affine), file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans of a bright tube, with scribbles on three of 14 axial slices, and one without."""
    folder = tmp_path_factory.mktemp("flat")
    tube = np.zeros(SHAPE, bool)
    tube[16:32, 12:28] = True
    items = []
    for case in "abcd":
        image = (tube * 50 + np.random.default_rng(ord(case)).normal(size=SHAPE)).astype(np.float32)
        weak = np.full(SHAPE, 255, np.uint8)
        for index in (3, 7, 10):
            weak[range(18, 30), np.arange(18, 30) - index % 3 - 3, index] = 1
            weak[5, 4:30, index] = weak[5:20, 33, index] = 0
        order = ORDER if case == "d" else (0, 1, 2)
        save(image, folder / f"{case}.nii.gz", order)
        save(weak, folder / f"{case}_scribble.nii.gz", order)
        save(tube.astype(np.uint8), folder / f"{case}_gt.nii.gz", order)
        items.append({"case": case, "image": f"{case}.nii.gz", "weak_label": f"{case}_scribble.nii.gz"})
    items[2]["label"] = "c_gt.nii.gz"
    bounds = {"per": "volume", "unit": "mL", "bounds": {"1": [5, 30]}}
    labels = {"0": "background", "1": "tube"}
    datalist = {"labels": labels, "size_bounds": bounds, "training": items[:2], "validation": items[2:3]}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("flat_run") / "run"
    workflow = make_workflow(SCRIBBLES, ["train.yaml", tiny], folder, output, epochs=1)
    workflow.initialize()
    workflow.run()
    return output


def inference(run: Path, scans: Path, output: Path, tiny: str, **options: Any) -> Any:
    options = {"num_classes": 2, "checkpoint": str(run / "checkpoints" / "model.pt"), **options}
    workflow = make_workflow(SCRIBBLES, ["inference.yaml", tiny], scans, output, "infer", **options)
    workflow.initialize()
    return workflow


def test_training_notes_the_painted_slices(run: Path) -> None:
    (start,) = json.loads((run / "run.json").read_text())
    assert start["grid"]["slice_axis"] == "axial"


def test_training_cuts_every_case_along_the_painted_slices(folder: Path, tiny: str, tmp_path: Path) -> None:
    workflow = make_workflow(SCRIBBLES, ["train.yaml", tiny], folder, tmp_path / "run")
    workflow.initialize()
    assert [len(item) for item in workflow.parser.get_parsed_content("train#dataset").data] == [14, 14]


def test_inference_takes_the_slices_of_the_training(
    run: Path, folder: Path, tiny: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, voxel_axis in (("a", 2), ("d", 0)):  # d stores its axes in another order
        with caplog.at_level(logging.INFO):
            workflow = inference(run, folder / f"{name}.nii.gz", tmp_path / name, tiny)
        assert f"axial along voxel axis {voxel_axis} (1 case)" in caplog.text
        (item,) = workflow.parser.get_parsed_content("dataset")
        assert item["image"].shape[-1] == 14
        workflow.run()
        scan, mask = nib.load(folder / f"{name}.nii.gz"), nib.load(tmp_path / name / f"{name}_seg.nii.gz")
        assert mask.shape == scan.shape
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-5)


def test_other_slices_than_the_training_are_one_error(run: Path, folder: Path, tiny: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="slice_axis") as caught:
        inference(run, folder / "a.nii.gz", tmp_path / "masks", tiny, slice_axis="sagittal")
    error = root_of(caught.value)
    assert isinstance(error, ConfigError)
    assert "case 'a' would be cut into sagittal slices, not axial ones. Leave --slice_axis out." in str(error)
    assert not (tmp_path / "masks").exists()
    inference(run, folder / "a.nii.gz", tmp_path / "masks", tiny, slice_axis=2)  # the same slices, by another name


def test_evaluation_and_report_take_them_too(run: Path, folder: Path, tiny: str) -> None:
    workflow = make_workflow(SCRIBBLES, ["train.yaml", tiny, "evaluate.yaml"], folder, run)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("train#slice_axis") == "axial"
    workflow.run()
    assert read_evaluation(run / "evaluation" / "validation").slice_axis == "axial"


@pytest.mark.parametrize(("slice_axis", "number"), [("sagittal", 48), (1, 40), ("1", 40)])
def test_what_the_user_says_counts(folder: Path, tiny: str, tmp_path: Path, slice_axis: Any, number: int) -> None:
    workflow = make_workflow(SCRIBBLES, ["train.yaml", tiny], folder, tmp_path / "run", slice_axis=slice_axis)
    workflow.initialize()
    assert {len(item) for item in workflow.parser.get_parsed_content("train#dataset").data} == {number}


def test_an_unknown_value_is_one_error(folder: Path, phantoms: Path, tiny: str, tmp_path: Path) -> None:
    for bundle, data in ((SCRIBBLES, folder), (CINE, phantoms)):
        workflow = make_workflow(bundle, ["train.yaml", tiny], data, tmp_path / "run", slice_axis="axail")
        with pytest.raises(Exception, match="decide_slice_axis") as caught:
            workflow.initialize()
        assert isinstance(root_of(caught.value), DataError)
        assert "slice_axis must be one of auto, widest, axial" in str(root_of(caught.value))
        assert not (tmp_path / "run").exists()
    workflow = make_workflow(CINE, ["inference.yaml"], folder / "a.nii.gz", tmp_path / "run", "infer", slice_axis=7)
    with pytest.raises(Exception, match="trained_slice_axis") as caught:
        workflow.initialize()
    assert isinstance(root_of(caught.value), ConfigError)
