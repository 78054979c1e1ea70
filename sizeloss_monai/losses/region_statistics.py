"""Statistics of a soft segmentation that a constraint can bound."""

from __future__ import annotations

import torch

__all__ = ["class_probabilities", "soft_size"]


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Widen fp16 and bf16: a sum of 65,536 ones overflows the first and stalls at 256 in the second; and integers."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def class_probabilities(logits: torch.Tensor, sharpness: float = 1.0) -> torch.Tensor:
    """Softmax over the channel dimension, computed in at least float32.

    Args:
        logits: raw network output, shape ``[B, C, *spatial]``, ``C >= 2``, any floating dtype.
        sharpness: factor of the logits; the larger, the closer to one-hot.

    Returns:
        Probabilities ``S`` of the same shape; float32, or float64 where the input is.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return torch.softmax(sharpness * at_least_float32(logits), dim=1)


def soft_size(probabilities: torch.Tensor) -> torch.Tensor:
    r"""Soft size :math:`V_S = \sum_{p \in \Omega} S_p` of every class (Kervadec et al. 2019, section 3).

    Args:
        probabilities: shape ``[B, C, *spatial]``.

    Returns:
        Sizes in voxels, shape ``[B, C]``; float32, or float64 where the input is.
    """
    with torch.autocast(probabilities.device.type, enabled=False):
        return at_least_float32(probabilities).flatten(2).sum(dim=2)
