"""What a training step hands to the network and to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.utils import CommonKeys

__all__ = ["PrepareBatchTargets"]


class PrepareBatchTargets(PrepareBatch):
    """Gives the network its image and the loss a dictionary of targets, as ``WeakSupervisionLoss`` takes it."""

    def __init__(
        self,
        target_keys: Sequence[str] = ("label", "weak_label", "size_bounds", "volume", "voxel_size", "spacing"),
        image_key: str = CommonKeys.IMAGE,
    ) -> None:
        """
        Args:
            target_keys: keys handed to the loss, beside the image; those a batch does not have are left out.
            image_key: key of the network's input.
        """
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
            device: where the tensors go.
            non_blocking: whether the copies may be asynchronous.
            kwargs: further arguments of ``torch.Tensor.to``.

        Returns:
            The image, ``[B, C, *spatial]``, and the targets by key.
        """
        kwargs = {"device": device, "non_blocking": non_blocking, **kwargs}
        image = batchdata[self.image_key].to(**kwargs)
        targets = {key: batchdata[key].to(**kwargs) for key in self.target_keys if key in batchdata}
        return image, {**targets, self.image_key: image}
