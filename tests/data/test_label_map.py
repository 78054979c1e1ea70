from __future__ import annotations

import pytest

from sizeloss_monai.datalist.classes import ids_by_class, network_class_names


def test_ids_by_class() -> None:
    assert list(ids_by_class([4, 1, 2, 3], [0, 2, 1, 2]).items()) == [(0, [4]), (1, [2]), (2, [1, 3])]
    with pytest.raises(ValueError, match="shorter"):
        ids_by_class([0, 1], [0])


def test_names_of_classes() -> None:
    datalist = {"labels": {"0": "background", "1": "cavity", "2": "wall", "3": "cyst"}}
    assert network_class_names(datalist, [0, 1, 2, 3], [0, 1, 1, 2]) == {1: "cavity + wall", 2: "cyst"}
    assert network_class_names({"labels": {"1": "cavity"}}, [0, 1, 2, 7], [0, 1, 1, 2]) == {1: "class 1", 2: "class 2"}
    assert network_class_names({}, [0, 1], [0, 1]) == {1: "class 1"}
