from __future__ import annotations

import pytest
import torch

from sizeloss_monai.data import AnnotatedSliceSampler, SliceDataset


def slices(annotated: set[int], depth: int = 20, per: str = "slice") -> SliceDataset:
    weak_label = torch.full((1, 4, 4, depth), 255)
    for index in annotated:
        weak_label[0, 1, 1, index] = 0
    volume = {"weak_label": weak_label, "case": "a"}
    return SliceDataset([volume], lambda item: item, progress=False, per=per)


def test_share_of_annotated_slices() -> None:
    torch.manual_seed(0)
    sampler = AnnotatedSliceSampler(slices({3, 7}), share=0.6)
    drawn = [index for _ in range(200) for index in sampler]
    assert len(drawn) == 200 * 20
    assert sum(index in (3, 7) for index in drawn) / len(drawn) == pytest.approx(0.6, abs=0.03)
    assert set(drawn) == set(range(20))


@pytest.mark.parametrize("annotated", [set(), set(range(20))])
def test_all_alike(annotated: set[int]) -> None:
    weights = AnnotatedSliceSampler(slices(annotated)).weights
    assert (weights == weights[0]).all()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        AnnotatedSliceSampler(slices({1}), share=1.0)
    with pytest.raises(ValueError, match="whole volumes"):
        AnnotatedSliceSampler(slices({1}, per="volume"))
