"""Slices of cached volumes, and a sampler of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import CacheDataset, Dataset, MetaTensor
from torch.utils.data import WeightedRandomSampler

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.errors import check_option
from sizeloss_monai.options import Per

__all__ = ["AnnotatedSliceSampler", "SliceDataset", "split_slices"]


def split_slices(
    volume: dict[str, Any], slice_keys: Sequence[str], value_keys: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The slices of one volume along its last axis.

    Args:
        volume: an item whose ``slice_keys`` hold ``[1, H, W, D]`` arrays; it may lack some of them.
        slice_keys: what to split. Each slice gets every other key as it is.
        value_keys: of arrays ``[..., D]`` with a value for each slice, such as its bounds, to split, too.

    Returns:
        ``D`` items with ``[1, H, W]`` in place of each volume, and ``slice``, the index.

    Raises:
        ValueError: when there is nothing to split, or volumes and values differ in their number of slices.
    """
    keys = [key for key in slice_keys if key in volume]
    shapes = {key: list(volume[key].shape) for key in keys}
    if not keys or any(len(shape) != 4 for shape in shapes.values()) or len({s[-1] for s in shapes.values()}) != 1:
        raise ValueError(
            f"case {volume.get('case')!r}: expected volumes [1, H, W, D] with the same number of slices under "
            f"{list(slice_keys)}, found {shapes}."
        )
    num_slices = shapes[keys[0]][-1]
    values = [key for key in value_keys if key in volume]
    for key in values:
        if volume[key].shape[-1] != num_slices:
            raise ValueError(
                f"case {volume.get('case')!r}, key {key!r}: expected values of {num_slices} slices along the last "
                f"axis, found shape {list(volume[key].shape)}."
            )
    return [
        {**volume, **{key: _take_slice(volume[key], index) for key in [*keys, *values]}, "slice": index}
        for index in range(num_slices)
    ]


def _take_slice(volume: torch.Tensor, index: int) -> torch.Tensor:
    """One slice with the volume's affine, without the record of operations, which hold for the volume only."""
    data = torch.as_tensor(volume)[..., index].contiguous()
    if not isinstance(volume, MetaTensor):
        return data
    return MetaTensor(data.as_subclass(torch.Tensor), affine=volume.affine)


class SliceDataset(Dataset):
    """Slices of volumes that are read and prepared once and kept in memory.

    Example:
        >>> volumes = [{"image": torch.rand(1, 8, 8, 3), "case": "a"}, {"image": torch.rand(1, 8, 8, 2), "case": "b"}]
        >>> dataset = SliceDataset(volumes, transform=lambda item: item)
        >>> len(dataset), dataset[4]["case"], dataset[4]["slice"], tuple(dataset[4]["image"].shape)
        (5, 'b', 1, (1, 8, 8))
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable[[Any], Any],
        slice_transform: Callable[[Any], Any] | None = None,
        slice_keys: Sequence[str] = ("image", "label", "weak_label"),
        num_workers: int = 1,
        progress: bool = True,
        per: Per = "slice",
        value_keys: Sequence[str] = (),
    ) -> None:
        """
        Args:
            data: one dictionary a case.
            transform: applied once to every case; gives volumes ``[1, H, W, D]``, slices along the last axis.
            slice_transform: applied to a slice each time it is drawn; random augmentation belongs here.
            slice_keys: what is split, see :func:`split_slices`.
            num_workers: threads that prepare the volumes.
            progress: whether to show a progress bar meanwhile.
            per: what an item holds: a ``"slice"``, or the list of all slices of a ``"volume"``, for constraints on
                volumes. MONAI's ``DataLoader`` makes one batch of such lists: ``batch_size`` counts volumes, which may
                differ in their number of slices. ``volume`` tells which slices belong together, by a number drawn
                each time, so that two copies of a volume in a batch are two volumes.
            value_keys: what else is split, see :func:`split_slices`.

        Raises:
            ValueError: when ``per`` is neither.
        """
        check_option("per", per, Per)
        volumes = CacheDataset(data, transform, num_workers=num_workers, progress=progress)
        slices = [split_slices({**volumes[i], "volume": i}, slice_keys, value_keys) for i in range(len(volumes))]
        super().__init__(slices if per == "volume" else [item for part in slices for item in part], slice_transform)

    def _transform(self, index: int) -> Any:
        item = self.data[index]
        if isinstance(item, list):
            draw = uuid.uuid4().int >> 65  # a random number of torch would change other draws
            return [self._transformed({**part, "volume": draw}) for part in item]
        return self._transformed(item)

    def _transformed(self, item: dict[str, Any]) -> Any:
        if self.transform is None:
            return item
        return self.transform(item)


class AnnotatedSliceSampler(WeightedRandomSampler):
    """Draws slices at random, with replacement, a given share of them annotated.

    If an annotator marked few slices of each volume, most batches would otherwise have nothing for a partial
    cross-entropy. An epoch draws as many slices as there are.

    Example:
        >>> volume = {"weak_label": torch.full((1, 4, 4, 10), 255), "case": "a"}
        >>> volume["weak_label"][0, 2, 2, 7] = 1
        >>> dataset = SliceDataset([volume], lambda item: item, slice_keys=["weak_label"], progress=False)
        >>> sampler = AnnotatedSliceSampler(dataset, share=0.5)
        >>> sampler.weights[7].item(), len(sampler)
        (0.5, 10)
    """

    def __init__(
        self,
        dataset: SliceDataset,
        share: float = 0.75,
        weak_label_key: str = "weak_label",
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        """
        Args:
            dataset: slices, not whole volumes.
            share: the expected share of annotated slices, between 0 and 1. If all slices are annotated, or none is,
                each has the same probability.
            weak_label_key: of the weak label, ``[1, H, W]``.
            ignore_index: value of unannotated pixels.

        Raises:
            ValueError: when the share is not between 0 and 1, or the items of the data set are whole volumes.
        """
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}.")
        items = list(dataset.data)
        if any(isinstance(item, list) for item in items):
            raise ValueError("dataset must hold slices, got whole volumes (per='volume').")
        annotated = torch.tensor([bool((item[weak_label_key] != ignore_index).any()) for item in items])
        count = int(annotated.sum())
        if count in (0, len(items)):
            weights = torch.ones(len(items))
        else:
            weights = torch.where(annotated, share / count, (1 - share) / (len(items) - count))
        super().__init__(weights.double().tolist(), num_samples=len(items))
