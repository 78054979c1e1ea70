"""Image and targets of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.utils import CommonKeys

__all__ = ["PrepareBatchTargets"]


class PrepareBatchTargets(PrepareBatch):
    """Hand the image to the network and a dictionary of targets to the loss, as ``WeakSupervisionLoss`` takes it.

    Args:
        target_keys: keys for the loss beside the image; keys that a batch lacks are left out.
        image_key: key of the network's input.
    """

    def __init__(
        self,
        target_keys: Sequence[str] = ("label", "weak_label", "size_bounds", "volume", "voxel_size", "spacing"),
        image_key: str = CommonKeys.IMAGE,
    ) -> None:
        self.target_keys = tuple(target_keys)
        self.image_key = image_key

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Args:
            batchdata: a collated batch.
            device, non_blocking, kwargs: of ``torch.Tensor.to``.

        Returns:
            Image, ``[B, C, *spatial]``, and targets by key.
        """
        kwargs = {"device": device, "non_blocking": non_blocking, **kwargs}
        image = batchdata[self.image_key].to(**kwargs)
        targets = {key: batchdata[key].to(**kwargs) for key in self.target_keys if key in batchdata}
        return image, {**targets, self.image_key: image}
