from __future__ import annotations

import math
from typing import Any

import pytest

from sizeloss_monai.datalist import Annotation, ClassMap, annotated_items
from sizeloss_monai.errors import DataError

FREE = (0.0, math.inf)
LIST = {"size_bounds": {"per": "volume", "unit": "mL", "bounds": {"1": [40, 250], "3": [30, None]}}}


def items_of(*items: dict[str, Any], datalist: Any = LIST, target_ids: Any = (0, 1, 2, 3), **options: Any) -> list[Any]:
    named = [{"case": f"c{i}", "patient": f"p{i}", "image": f"{i}.nii", **item} for i, item in enumerate(items)]
    return annotated_items(datalist, named, ClassMap([0, 1, 2, 3], target_ids), **options)


def test_marks_by_what_there_is() -> None:
    found = items_of({"label": "m", "weak_label": "w"}, {"label": "m"}, {"weak_label": "w"}, {}, {"tags": {"1": True}})
    assert [item["supervision"] for item in found] == ["weak", "full", "weak", "bounds", "bounds"]
    assert [item.get("weak_label") for item in found] == ["w", "m", "w", None, None]
    assert [item["annotation"].complete for item in found] == [False, True, False, False, False]
    assert all("label" not in item for item in found)
    found = items_of({}, {"tags": {"1": True}}, {"weak_label": "w"}, datalist={})
    assert [item["supervision"] for item in found] == ["none", "tags", "weak"]


def test_masks_instead_of_scribbles() -> None:
    found = items_of({"label": "m", "weak_label": "w"}, {"weak_label": "w"}, use_masks=True)
    assert [(item["supervision"], item["weak_label"]) for item in found] == [("full", "m"), ("weak", "w")]


def test_masks_to_compare_with() -> None:
    found = items_of({"label": "m", "weak_label": "w"}, {"weak_label": "w"}, keep_masks=True)
    assert [item.get("label") for item in found] == ["m", None]
    assert found[0]["weak_label"] == "w"


def test_a_mark_takes_away_what_it_does_not_name() -> None:
    every = {"label": "m", "weak_label": "w", "tags": {"1": False}, "size_bounds": {"3": [50, 60]}}
    found = items_of(*({**every, "supervision": mark} for mark in ("full", "weak", "tags", "bounds", "none")))
    bounded, free = (FREE, (40, 250), FREE, (50, 60)), (FREE,) * 4
    assert [item["annotation"].bounds for item in found] == [free, bounded, free, bounded, free]
    assert [item["annotation"].tags for item in found] == [{}, {1: False}, {1: False}, {1: False}, {}]
    assert ["weak_label" in item for item in found] == [True, True, False, False, False]


def test_several_ids_of_one_class_add_up() -> None:
    (found,) = items_of({"size_bounds": {"2": [5, 7]}}, target_ids=[0, 1, 1, 0])
    assert found["annotation"].bounds == (FREE, (45, 257))
    (found,) = items_of({}, target_ids=[0, 1, 1, 0])  # nothing is known of id 2
    assert found["annotation"].bounds == (FREE, (40, math.inf))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"1": True}, {1: True}),
        ({"1": False}, {}),
        ({"1": False, "2": False}, {1: False}),
        ({"1": [1, 2], "2": False}, {1: (1, 2)}),
        ({"1": [1, 2], "2": [2, 4]}, {1: (1, 2, 4)}),
        ({"1": [1]}, {1: True}),
        ({"1": [], "2": False}, {1: False}),
    ],
)
def test_tags_of_several_ids(tags: Any, expected: Any) -> None:
    (found,) = items_of({"tags": tags}, target_ids=[0, 1, 1, 0])
    assert found["annotation"].tags == expected


def test_an_absent_id_adds_nothing_to_the_bounds_of_its_class() -> None:
    (found,) = items_of({"size_bounds": {"2": [5, 7]}, "tags": {"1": False}}, target_ids=[0, 1, 1, 0])
    assert found["annotation"].bounds == (FREE, (5, 7))


def test_a_slice_with_one_of_several_ids_need_not_have_the_others() -> None:
    datalist = {"size_bounds": {"per": "slice", "unit": "mm2", "bounds": {"1": [10, 50], "2": [20, 60]}}}
    (found,) = items_of({"weak_label": "w"}, datalist=datalist, target_ids=[0, 1, 1, 0], per="slice")
    assert found["annotation"].bounds == (FREE, (10, 110))


def test_bounds_per_slice() -> None:
    datalist = {"size_bounds": {"per": "slice", "unit": "mm2", "bounds": {"1": [60, 2000]}}}
    (found,) = items_of({"weak_label": "w"}, datalist=datalist, target_ids=[0, 1, 0, 0], per="slice")
    assert found["annotation"] == Annotation("slice", "mm2", (FREE, (60, 2000)), {})


@pytest.mark.parametrize(
    ("item", "options", "message"),
    [
        ({"supervision": "Full"}, {}, "key 'supervision': found 'Full', expected full, weak"),
        ({"supervision": "full"}, {}, "key 'label': found none, expected some, as it is 'full'"),
        ({"supervision": "weak", "label": "m"}, {}, "key 'weak_label': found none, expected some"),
        ({"supervision": "tags", "label": "m"}, {}, "key 'tags': found none, expected some"),
        ({"supervision": "bounds", "label": "m"}, {"datalist": {}}, "key 'size_bounds': found none, expected some"),
        ({"tags": {"7": True}}, {}, r"key 'tags': found ids \[7\], expected \[0, 1, 2, 3\]"),
        ({"size_bounds": {"9": [1, 2]}}, {}, r"key 'size_bounds': found ids \[9\]"),
        ({}, {"per": "slice"}, "found bounds per volume, expected per slice"),
    ],
)
def test_bad_lists(item: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"case 'c0', {message}" if "key" in message else message):
        items_of(item, **options)
