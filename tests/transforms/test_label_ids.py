"""Ids of label files become classes, whatever type and size they have, and no other value does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from sizeloss_monai.data.label_ids import LARGEST_ID, ROUNDING, whole_ids
from sizeloss_monai.data.volumes import label_findings
from sizeloss_monai.datalist import ClassMap
from sizeloss_monai.errors import Place
from sizeloss_monai.transforms import LabelIdsToClasses, LabelIdsToClassesd


@settings(deadline=None, max_examples=80)
@given(
    label_ids=st.lists(st.integers(-1, LARGEST_ID), min_size=1, max_size=6, unique=True),
    data=st.data(),
    noise=st.floats(-0.9 * ROUNDING, 0.9 * ROUNDING),
)
def test_every_id_becomes_its_class(label_ids: list[int], data: Any, noise: float) -> None:
    target_ids = data.draw(st.lists(st.integers(0, 255), min_size=len(label_ids), max_size=len(label_ids)))
    places = np.array(data.draw(st.lists(st.integers(0, len(label_ids) - 1), min_size=8, max_size=8))).reshape(1, 2, 4)
    ids, expected = np.array(label_ids)[places], np.array(target_ids)[places]
    to_classes = LabelIdsToClasses(ClassMap(label_ids, target_ids))
    for values in (ids, ids.astype(np.int32), ids.astype(np.float32), ids + noise):
        for container in (
            values,
            torch.from_numpy(values),
            MetaTensor(torch.from_numpy(values), affine=2 * torch.eye(4)),
        ):
            found = to_classes(container)
            assert type(found) is type(container)
            assert str(found.dtype).endswith("uint8")
            assert np.asarray(found).tolist() == expected.tolist()
    assert torch.equal(found.affine, 2 * torch.eye(4, dtype=found.affine.dtype))


@settings(deadline=None, max_examples=100)
@given(
    st.one_of(
        st.floats(width=32),
        st.integers(-300, 5000),
        st.builds(lambda whole, noise: whole + noise, st.integers(-2, 300), st.floats(-0.01, 0.01)),
    )
)
def test_the_check_accepts_what_training_maps_and_nothing_else(value: float) -> None:
    label_ids = [0, 1, 2, 255, 256, 300]
    label = MetaTensor(torch.tensor([0.0, value], dtype=torch.float32).reshape(1, 1, 1, 2))
    findings = label_findings(label, Place("a", "label"), label_ids, None)
    try:
        classes = LabelIdsToClasses(ClassMap(label_ids, range(6)))(label)
    except ValueError:
        assert findings
    else:
        assert not findings
        assert label_ids[int(classes[..., 1])] == round(value)
    ids, whole = whole_ids(label.numpy())
    assert whole.all() == (not any(finding.code == "not-integer" for finding in findings))
    assert not whole.all() or ids[..., 1] == round(float(label[..., 1]))


@pytest.mark.parametrize("value", [7, 259, -1, 1.4, 1 + 2 * ROUNDING, math.nan, math.inf, -math.inf])
def test_another_value_is_refused(value: float) -> None:
    item = {"case": "a", "label": torch.tensor([[0.0, value]]), "image": torch.zeros(1, 2)}
    with pytest.raises(ValueError, match=r"case 'a', key 'label': ids must be among \[0, 3\], got \["):
        LabelIdsToClassesd("label", ClassMap([0, 3], [0, 1]))(item)


def test_booleans_and_large_unsigned_ids() -> None:
    assert LabelIdsToClasses(ClassMap([0, 1], [0, 2]))(np.array([[True, False]])).tolist() == [[2, 0]]
    assert LabelIdsToClasses(ClassMap([0, 65535], [0, 1]))(np.array([[65535, 0]], np.uint16)).tolist() == [[1, 0]]


def test_zero_is_background_in_a_mask_unless_it_is_a_class_and_keys_may_be_missing() -> None:
    transform = LabelIdsToClassesd(["label", "weak_label"], ClassMap([1, 0], [0, 1]), allow_missing_keys=True)
    assert transform({"label": torch.tensor([[0, 1]])})["label"].tolist() == [[1, 0]]
    assert LabelIdsToClasses(ClassMap([1, 2], [0, 1]))(torch.tensor([[0, 1, 2]])).tolist() == [[0, 0, 1]]
    with pytest.raises(KeyError):
        LabelIdsToClassesd("label", ClassMap([0], [0]))({})


def test_unannotated_voxels_of_a_weak_label() -> None:
    to_classes = LabelIdsToClasses(ClassMap([3, 1, 2], [0, 1, 2]), unannotated=0, ignore_index=250)
    assert to_classes(torch.tensor([[0, 1, 2, 3]])).tolist() == [[250, 1, 2, 0]]
    with pytest.raises(ValueError, match=r"ids must be among \[1, 3, 4\], got \[0\]"):
        LabelIdsToClasses(ClassMap([3, 1], [0, 1]), unannotated=4)(torch.tensor([[0, 1]]))


@pytest.mark.parametrize(("label_ids", "target_ids"), [([0, 1], [0]), ([0, 1], [0, 256]), ([0, 1], [0, -1])])
def test_wrong_options(label_ids: list[int], target_ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"target_ids must (lie in 0\.\.255|name a class for each)"):
        ClassMap(label_ids, target_ids)
