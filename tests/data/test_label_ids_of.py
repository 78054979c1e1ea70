from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeloss_monai.datalist import label_ids_of
from sizeloss_monai.errors import DataError


@pytest.mark.parametrize(
    ("datalist", "expected"),
    [
        ({"labels": {"0": "background", "2": "cavity", "1": "wall"}}, [0, 1, 2]),
        ({"labels": {"1": "wall", "10": "cavity", "4": "Background"}, "unannotated": 0}, [4, 1, 10]),
        ({"labels": {"0": "clear label", "1": "wall", "2": "background"}, "unannotated": 0}, [2, 1]),
        ({"labels": {"0": "background", "1": "wall", "4": "unknown"}, "unannotated": 4}, [0, 1]),
        ({"labels": {"1": "wall"}}, [0, 1]),
        ({"labels": {}}, [0, 7]),
        ({}, [0, 7]),
    ],
)
def test_the_background_comes_first(datalist: dict[str, Any], expected: list[int]) -> None:
    assert label_ids_of(datalist, default=[0, 7]) == expected


@given(st.permutations(range(6)), st.integers(0, 5))
def test_the_order_of_a_file_does_not_matter(order: list[int], background: int) -> None:
    labels = {str(i): "background" if i == background else f"class {i}" for i in order}
    found = label_ids_of({"labels": labels}, default=[])
    assert found == [background, *(i for i in range(6) if i != background)]


@pytest.mark.parametrize(
    ("datalist", "message"),
    [
        ({"labels": {"1": "wall"}, "unannotated": 0}, "no class named background among 1 \\(wall\\)"),
        ({"labels": {"0": "background", "1": "wall"}, "unannotated": 0}, "found 0, which 'labels' say is 'background'"),
        ({"labels": ["background", "wall"]}, "key 'labels': found .*, expected an object"),
        ({"labels": {"0": "background"}, "unannotated": "4"}, "key 'unannotated': found '4'"),
    ],
)
def test_lists_that_do_not_tell(datalist: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_ids_of(datalist, default=[0, 1])
