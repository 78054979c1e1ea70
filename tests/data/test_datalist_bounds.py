from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sizeloss_monai.data import DataError, check_datalist_bounds

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])  # 18 mm3 a voxel, 2.16 mL in all, 67.5 mm2 a slice


def make_list(tmp_path: Path, own: Any = None, **common: Any) -> dict[str, Any]:
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), tmp_path / "a.nii.gz")
    item = {"case": "a", "image": str(tmp_path / "a.nii.gz"), **({} if own is None else {"size_bounds": own})}
    labels = {"0": "background", "1": "organ"}
    return {"labels": labels, "training": [item], **({"size_bounds": common} if common else {})}


@pytest.mark.parametrize(
    ("per", "unit", "whole"),
    [("volume", "mL", 2.16), ("volume", "voxels", 120), ("slice", "mm2", 67.5), ("slice", "voxels", 30)],
)
def test_lower_bounds_above_the_image(tmp_path: Path, per: str, unit: str, whole: float) -> None:
    fits = make_list(tmp_path, {"1": [whole, None]}, per=per, unit=unit)
    check_datalist_bounds(fits, fits["training"])
    too_large = make_list(tmp_path, {"1": [1.01 * whole, None]}, per=per, unit=unit)
    with pytest.raises(DataError, match=r"case 'a', key 'size_bounds': found .* above the whole"):
        check_datalist_bounds(too_large, too_large["training"])


def test_warnings_are_no_errors(tmp_path: Path) -> None:
    datalist = make_list(tmp_path, per="volume", unit="mL", bounds={"1": [0, None]})
    check_datalist_bounds(datalist, datalist["training"])
    without = make_list(tmp_path)
    check_datalist_bounds(without, without["training"])


def test_all_problems_at_once(tmp_path: Path) -> None:
    own, bounds = {"1": [3, 2], "x": [0, 1]}, {"1": [3, 4], "7": [0, 1]}
    datalist = make_list(tmp_path, own, per="volume", unit="mL", bounds=bounds)
    datalist["training"].append({"case": "b", "image": str(tmp_path / "b.nii.gz")})
    with pytest.raises(DataError) as error:
        check_datalist_bounds(datalist, datalist["training"])
    first, *lines = str(error.value).splitlines()
    assert first == "5 problems with size bounds:"
    expected = ["key 'image'", "found class 7", "[3, 2]", "the class 'x'", "of case a"]
    assert all(words in line for line, words in zip(lines, expected, strict=True))
    assert str(tmp_path) not in str(error.value)


def test_a_list_without_a_unit(tmp_path: Path) -> None:
    datalist = make_list(tmp_path, [[0, 9], [1, 2]], per="volume", unit="mm2")
    with pytest.raises(DataError, match="slice and mm2, volume and mL") as error:
        check_datalist_bounds(datalist, datalist["training"])
    assert "expected an object such as {'1': [60, 2000]}" in str(error.value)
