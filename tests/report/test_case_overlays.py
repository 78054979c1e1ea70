from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from monai.data import MetaTensor

from sizeloss_monai.report.case_overlays import case_figure, legend_keys, upright
from sizeloss_monai.report.run_files import read_evaluation
from tests.support.evaluated_runs import annotation, write_evaluation


@pytest.mark.parametrize(
    ("through_plane", "left", "top"),
    [("S", "R", "A"), ("A", "R", "S"), ("R", "A", "S")],  # axial, coronal, sagittal
)
@pytest.mark.parametrize("stored", ["RAS", "LPS", "SAR", "PIL"])
def test_slices_are_drawn_as_radiologists_look_at_them(stored: str, through_plane: str, left: str, top: str) -> None:
    # a landmark on each side of the patient, each with a value of its own
    marks = {"R": (8, 4, 4), "L": (0, 4, 4), "A": (4, 8, 4), "P": (4, 0, 4), "S": (4, 4, 8), "I": (4, 4, 0)}
    data = np.zeros((9, 9, 9), dtype=np.float32)
    for value, place in enumerate(marks.values(), start=1):
        data[place] = value
    values = dict(zip(marks, range(1, 7), strict=True))
    spacing = [1.0, 1.0, 1.0]
    spacing["RAS".index(through_plane)] = 4.0
    # the first axis of the array runs to the patient's right
    image = nib.Nifti1Image(data, np.diag([*spacing, 1.0]))
    ornt = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(stored))
    )
    turned = image.as_reoriented(ornt)
    volume = MetaTensor(torch.as_tensor(turned.get_fdata())[None], affine=torch.as_tensor(turned.affine))
    view = upright(volume)
    drawn = view[0].numpy()
    assert np.argwhere(drawn == values[left])[0].tolist() == [0, 4, 4]
    assert np.argwhere(drawn == values[top])[0].tolist() == [4, 0, 4]
    assert torch.as_tensor(view.pixdim).tolist() == [1, 1, 4]
    # the slices keep the order of the file
    axis = list(turned.header.get_zooms()).index(4.0)
    along = np.moveaxis(turned.get_fdata(), axis, -1)
    assert [set(np.unique(drawn[..., k])) for k in range(9)] == [set(np.unique(along[..., k])) for k in range(9)]


def test_panels_of_a_case(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", tmp_path / "data")
    evaluation = read_evaluation(folder)
    results = {result.case: result for result in evaluation.cases}
    figure = case_figure(results["good"], evaluation.classes)
    panels = [axes for axes in figure.axes if axes.images]
    notes = [axes.texts[0].get_text() for axes in panels]
    assert notes == ["slice 1", "slice 1", "slice 3", "slice 4"]
    whole, close = (axes.images[0].get_array().shape for axes in panels[:2])
    assert whole == annotation().shape[1::-1]  # drawn transposed
    assert close[0] * close[1] <= whole[0] * whole[1]
    assert figure.legends == []  # the page has one for all pictures
    legend = [name for name, _ in legend_keys([results["blind"], results["good"]])]
    assert legend == ["left <ventricle>", "wall & rim", "truth"]
    # without a truth there is none in the legend
    assert "truth" not in dict(legend_keys([results["blind"]]))


def test_an_empty_mask_shows_the_scan(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", tmp_path / "data")
    evaluation = read_evaluation(folder)
    (blind,) = [result for result in evaluation.cases if result.case == "blind"]
    mask = nib.load(blind.mask)
    nib.save(nib.Nifti1Image(np.zeros(mask.shape, dtype=np.uint8), mask.affine), blind.mask)
    figure = case_figure(blind, evaluation.classes)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["slice 3"]
