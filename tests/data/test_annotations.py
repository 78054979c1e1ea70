from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sizeloss_monai.datalist import load_datalist
from sizeloss_monai.errors import DataError
from sizeloss_monai.sizes import SizeBounds, case_bounds, case_tags

LIST = {"size_bounds": {"per": "volume", "unit": "mL", "source": "a book", "bounds": {"1": [40, 250], "3": [30, None]}}}


def test_bounds_of_the_list_hold_for_a_case_without_its_own() -> None:
    assert case_bounds(LIST, {"case": "a"}) == SizeBounds("volume", "mL", {1: (40, 250), 3: (30, math.inf)}, "a book")


def test_a_case_replaces_bounds_class_by_class() -> None:
    found = case_bounds(LIST, {"case": "a", "size_bounds": {"3": [90, 130], "2": [0, 0]}})
    assert found is not None
    assert found.bounds == {1: (40, 250), 2: (0, 0), 3: (90, 130)}


def test_no_bounds() -> None:
    assert case_bounds({}, {"case": "a"}) is None


@pytest.mark.parametrize(
    ("common", "own", "message"),
    [
        (None, {"1": [1, 2]}, "expected an object whose 'per' and 'unit'"),
        ({"per": "slice", "unit": "mL"}, None, "slice and mm2"),
        ({"per": "volume", "unit": "mL"}, {"1": [3, 2]}, r"found \[3, 2\] for class 1, expected 0 <= lower <= upper"),
        ({"per": "volume", "unit": "mL"}, {"1": [math.nan, 2]}, "expected 0 <= lower"),
        ({"per": "volume", "unit": "mL"}, {"1": [None, None]}, "expected 0 <= lower < inf"),
        ({"per": "volume", "unit": "mL"}, {"1": 5}, r"expected \[lower, upper\]"),
        ({"per": "volume", "unit": "mL"}, {"1": "12"}, r"found '12' for class 1, expected \[lower, upper\]"),
        ({"per": "volume", "unit": "mL"}, {"LV": [1, 2]}, "found the class 'LV'"),
        ({"per": "volume", "unit": "mL"}, [[0, 1], [1, 2]], "expected an object such as"),
    ],
)
def test_wrong_bounds(common: Any, own: Any, message: str) -> None:
    with pytest.raises(DataError, match="case 'a', key 'size_bounds'") as error:
        case_bounds({"size_bounds": common}, {"case": "a", "size_bounds": own})
    assert error.match(message)


def test_tags() -> None:
    assert case_tags({"case": "a", "tags": {"1": True, "2": [3, 4], "3": False}}) == {1: True, 2: (3, 4), 3: False}
    assert case_tags({"case": "a"}) == {}


@pytest.mark.parametrize("tags", [[1], {"1": 1}, {"1": [-1]}, {"1": [True]}, {"x": True}])
def test_wrong_tags(tags: Any) -> None:
    with pytest.raises(DataError, match="case 'a', key 'tags'"):
        case_tags({"case": "a", "tags": tags})


@pytest.mark.parametrize(
    ("old", "per", "unit"),
    [
        ({"per": "slice", "unit": "mm"}, "slice", "mm2"),
        ({"per": "volume", "unit": "mm"}, "volume", "mL"),
        ({"slice_wise": False, "unit": "mm"}, "volume", "mL"),
        ({"by_volume": False, "unit": "voxels"}, "slice", "voxels"),
        ({"bounds_per": "volume", "unit": "mL"}, "volume", "mL"),
    ],
)
def test_old_spellings_are_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: dict[str, Any], per: str, unit: str
) -> None:
    datalist = {"size_bounds": {**old, "bounds": {"1": [3, 5]}}, "training": [{"image": "a.nii.gz"}]}
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    read = load_datalist(tmp_path / "list.json")
    bounds = case_bounds(read, read["training"][0])
    assert bounds is not None
    assert (bounds.per, bounds.unit, bounds.bounds) == (per, unit, {1: (3, 5)})
    assert "data list, key 'size_bounds': found the old" in caplog.text
    caplog.clear()
    (tmp_path / "list.json").write_text(json.dumps(read))
    load_datalist(tmp_path / "list.json")
    assert not caplog.records
