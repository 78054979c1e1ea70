from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sizeloss_monai.checks import check_used_data
from sizeloss_monai.datalist import ClassMap
from sizeloss_monai.errors import DataError

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])  # 18 mm3 a voxel, 2.16 mL in all, 67.5 mm2 a slice


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our own messages: MONAI's readers have others."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("sizeloss_monai")]


def make_list(tmp_path: Path, own: Any = None, supervision: str = "bounds", **common: Any) -> dict[str, Any]:
    nib.save(nib.Nifti1Image(np.arange(math.prod(SHAPE), dtype=np.uint8).reshape(SHAPE), AFFINE), tmp_path / "a.nii.gz")
    item = {
        "case": "a",
        "patient": "a",
        "supervision": supervision,
        "image": str(tmp_path / "a.nii.gz"),
        **({} if own is None else {"size_bounds": own}),
    }
    labels = {"0": "background", "1": "organ"}
    return {
        "labels": labels,
        "training": [item],
        "validation": [],
        "test": [],
        **({"size_bounds": common} if common else {}),
    }


def check_bounds_of(datalist: dict[str, Any], target_ids: Sequence[int] = (0, 1)) -> None:
    check_used_data(datalist, ClassMap([0, 1], target_ids), sections=["training"], by_mark=True)


@pytest.mark.parametrize(
    ("per", "unit", "whole"),
    [("volume", "mL", 2.16), ("volume", "voxels", 120), ("slice", "mm2", 67.5), ("slice", "voxels", 30)],
)
def test_lower_bounds_above_the_image(tmp_path: Path, per: str, unit: str, whole: float) -> None:
    fits = make_list(tmp_path, {"1": [whole, None]}, per=per, unit=unit)
    check_bounds_of(fits)
    too_large = make_list(tmp_path, {"1": [1.01 * whole, None]}, per=per, unit=unit)
    with pytest.raises(DataError, match=r"case 'a', key 'size_bounds': found .* above the whole"):
        check_bounds_of(too_large)


def test_warnings_are_no_errors_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_bounds_of(make_list(tmp_path, supervision="none"))
    assert not logged(caplog)
    check_bounds_of(make_list(tmp_path, per="volume", unit="mL", bounds={"1": [0, None]}))
    (message,) = logged(caplog)
    assert "found [0, null] mL for class 1 (organ), which the whole image of every case cannot exceed" in message


@pytest.mark.parametrize(
    ("class_id", "target_ids", "found"),
    [
        ("0", [0, 1], "bounds for class 0 (background)"),
        ("1", [0, 0], "bounds for class 1 (organ), which target_ids make background"),
        ("1", [0, 1], None),
        ("0", [1, 0], None),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_bounds_of_what_training_makes_background(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, class_id: str, target_ids: list[int], found: str | None, own: bool
) -> None:
    bounds = {class_id: [1, 2]}
    datalist = make_list(tmp_path, bounds if own else None, per="volume", unit="mL", bounds={} if own else bounds)
    check_bounds_of(datalist, target_ids)
    place = "case 'a'" if own else "data list"
    expected = f"{place}, key 'size_bounds': found {found}, expected bounds of targets only: these are not used"
    assert logged(caplog) == ([expected] if found else [])


def test_all_problems_at_once(tmp_path: Path) -> None:
    own, bounds = {"1": [3, 2], "x": [0, 1]}, {"1": [3, 4], "7": [0, 1]}
    datalist = make_list(tmp_path, own, per="volume", unit="mL", bounds=bounds)
    datalist["training"].append({"case": "b", "patient": "b", "image": str(tmp_path / "b.nii.gz")})
    with pytest.raises(DataError) as error:
        check_bounds_of(datalist)
    first, *lines = str(error.value).splitlines()
    assert first == "5 problems with the data:"
    # the list's first, then case by case, as the command check tells them
    expected = ["found class 7", "of case a", "[3, 2]", "the class 'x'", "key 'image'"]
    assert all(words in line for line, words in zip(lines, expected, strict=True))
    assert str(tmp_path) not in str(error.value)


def test_a_list_without_a_unit(tmp_path: Path) -> None:
    datalist = make_list(tmp_path, [[0, 9], [1, 2]], per="volume", unit="mm2")
    with pytest.raises(DataError, match="slice and mm2, volume and mL") as error:
        check_bounds_of(datalist)
    assert "expected an object such as {'1': [60, 2000]}" in str(error.value)
