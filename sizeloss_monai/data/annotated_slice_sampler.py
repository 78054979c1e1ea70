"""Draw annotated slices more often than others."""

from __future__ import annotations

import torch
from torch.utils.data import WeightedRandomSampler

from sizeloss_monai.data.slices import SliceDataset

__all__ = ["AnnotatedSliceSampler"]


class AnnotatedSliceSampler(WeightedRandomSampler):
    """Draws slices at random, with replacement, a given share of them annotated.

    Where an annotator marked a few slices of each volume, most batches of slices drawn alike have nothing for a
    partial cross-entropy. An epoch draws as many slices as there are.

    Example:
        >>> volume = {"weak_label": torch.full((1, 4, 4, 10), 255), "case": "a"}
        >>> volume["weak_label"][0, 2, 2, 7] = 1
        >>> dataset = SliceDataset([volume], lambda item: item, slice_keys=["weak_label"], progress=False)
        >>> sampler = AnnotatedSliceSampler(dataset, share=0.5)
        >>> sampler.weights[7].item(), len(sampler)
        (0.5, 10)
    """

    def __init__(
        self, dataset: SliceDataset, share: float = 0.75, weak_label_key: str = "weak_label", ignore_index: int = 255
    ) -> None:
        """
        Args:
            dataset: slices, not whole volumes.
            share: the expected share of annotated slices, between 0 and 1. Where all slices are annotated, or none is,
                all are drawn alike.
            weak_label_key: of the weak label, ``[1, H, W]``.
            ignore_index: value of unannotated pixels.

        Raises:
            ValueError: when the share is not between 0 and 1, or the items of the data set are whole volumes.
        """
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, found {share}.")
        items = list(dataset.data)
        if any(isinstance(item, list) for item in items):
            raise ValueError("expected a data set of slices, found one of whole volumes (by_volume).")
        annotated = torch.tensor([bool((item[weak_label_key] != ignore_index).any()) for item in items])
        count = int(annotated.sum())
        if count in (0, len(items)):
            weights = torch.ones(len(items))
        else:
            weights = torch.where(annotated, share / count, (1 - share) / (len(items) - count))
        super().__init__(weights.double().tolist(), num_samples=len(items))
