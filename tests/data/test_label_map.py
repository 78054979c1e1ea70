from __future__ import annotations

import pickle

import pytest

from sizeloss_monai.datalist import ClassMap
from sizeloss_monai.errors import ConfigError


def test_ids_by_class() -> None:
    classes = ClassMap([4, 1, 2, 3], [0, 2, 1, 2])
    assert list(classes.ids_of.items()) == [(0, [4]), (1, [2]), (2, [1, 3])]
    assert classes.class_of == {4: 0, 1: 2, 2: 1, 3: 2}
    assert classes.num_classes == 3
    assert pickle.loads(pickle.dumps(classes)) == classes
    with pytest.raises(ConfigError, match="target_ids must name a class for each of label_ids"):
        ClassMap([0, 1], [0])


def test_names_of_classes() -> None:
    datalist = {"labels": {"0": "background", "1": "cavity", "2": "wall", "3": "cyst"}}
    classes = ClassMap([0, 1, 2, 3], [0, 1, 1, 2])
    assert classes.names(datalist) == {1: "cavity + wall", 2: "cyst"}
    assert ClassMap([0, 1, 2, 7], [0, 1, 1, 2]).names({"labels": {"1": "cavity"}}) == {1: "class 1", 2: "class 2"}
    assert ClassMap([0, 1], [0, 1]).names({}) == {1: "class 1"}
