from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sizeloss_monai.bundle import ConfigError, check_trained_grid, trained_slice_axis


def weights_of(folder: Path, *starts: dict[str, Any]) -> Path:
    (folder / "run.json").write_text(json.dumps(starts))
    return folder / "checkpoints" / "model.pt"


@pytest.mark.parametrize("pixdim", [[1.5, 1.5, -1.0], None])
def test_the_same(tmp_path: Path, pixdim: list[float] | None) -> None:
    check_trained_grid(weights_of(tmp_path, {"grid": {"pixdim": [9, 9, 9]}}, {"grid": {"pixdim": pixdim}}), pixdim)


@pytest.mark.parametrize(
    ("trained", "given", "message"),
    [
        (
            [2.0, 2.0, -1.0],
            [1.75, 1.75, -1.0],
            "found [1.75, 1.75, -1.0] mm, expected [2.0, 2.0, -1.0] mm, with which {} was trained: "
            'give --pixdim "[2.0,2.0,-1.0]".',
        ),
        (
            None,
            (2, 2, -1),
            "found [2, 2, -1] mm, expected each scan's own, with which {} was trained: give --resample False.",
        ),
        (
            [1, 1, 1],
            None,
            'found each scan\'s own, expected [1, 1, 1] mm, with which {} was trained: give --pixdim "[1,1,1]".',
        ),
    ],
)
def test_another(tmp_path: Path, trained: Any, given: Any, message: str) -> None:
    weights = weights_of(tmp_path, {"grid": {"pixdim": trained}})
    with pytest.raises(ConfigError, match=f"^{re.escape('pixdim: ' + message.format(repr(str(weights))))}$"):
        check_trained_grid(weights, given)


def test_weights_of_no_run_or_an_older_one_are_not_compared(tmp_path: Path) -> None:
    check_trained_grid(tmp_path / "models" / "model.pt", [1.0, 1.0, 1.0])
    check_trained_grid(weights_of(tmp_path, {"seed": 0}), [1.0, 1.0, 1.0])


@pytest.mark.parametrize("text", ["[{", "[]", "{}", "[1]", '[{"grid": 1}]'])
def test_a_damaged_record(tmp_path: Path, text: str) -> None:
    weights = weights_of(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"found a damaged '.*run\.json', expected what training wrote"):
        check_trained_grid(weights, None)


def scan(folder: Path, spacing: tuple[float, float, float]) -> dict[str, str]:
    file = folder / f"{'_'.join(map(str, spacing))}.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.diag([*spacing, 1.0])), file)
    return {"case": file.name.split(".nii")[0], "image": str(file)}


@pytest.mark.parametrize("recorded", ["widest", "axial", 1])
def test_the_slices_of_the_training_are_taken(tmp_path: Path, recorded: Any) -> None:
    weights = weights_of(tmp_path, {"grid": {"pixdim": None, "slice_axis": recorded}})
    assert trained_slice_axis(weights) == recorded
    assert trained_slice_axis(weights, "coronal") == "coronal"
    assert trained_slice_axis(weights_of(tmp_path, {"grid": {"pixdim": None}})) == "widest", "an older run"
    assert trained_slice_axis(tmp_path / "elsewhere" / "models" / "model.pt") == "widest"


def test_an_unknown_slice_axis(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^slice_axis must be one of .*, got 'axail'\.$"):
        trained_slice_axis(tmp_path / "models" / "model.pt", "axail")
    weights = weights_of(tmp_path, {"grid": {"pixdim": None, "slice_axis": "z"}})
    with pytest.raises(ConfigError, match=r"^checkpoint: found a damaged '.*run\.json'"):
        trained_slice_axis(weights)


@pytest.mark.parametrize(
    ("recorded", "given", "spacing", "differ"),
    [
        ("widest", "axial", (1.0, 1.0, 3.0), None),  # the same slices
        ("widest", "axial", (3.0, 1.0, 1.0), "axial slices, not sagittal ones"),
        ("widest", "coronal", (1.0, 1.0, 1.0), None),  # nothing but the user can say it
        ("axial", 2, (3.0, 1.0, 1.0), None),
        ("axial", 0, (3.0, 1.0, 1.0), "sagittal slices, not axial ones"),
        ("axial", "widest", (1.95, 1.95, 1.0), "sagittal slices, not axial ones"),
    ],
)
def test_other_slices(
    tmp_path: Path, recorded: Any, given: Any, spacing: tuple[float, float, float], differ: str | None
) -> None:
    weights = weights_of(tmp_path, {"grid": {"pixdim": None, "slice_axis": recorded}})
    items = [scan(tmp_path, spacing)]
    check_trained_grid(weights, None, recorded, items)
    if differ is None:
        check_trained_grid(weights, None, given, items)
        return
    message = (
        f"slice_axis: found {given!r}, expected {recorded!r}, with which {str(weights)!r} was trained: "
        f"case '{items[0]['case']}' would be cut into {differ}. Leave --slice_axis out."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_trained_grid(weights, None, given, items)
