"""What a constraint measures of a soft segmentation, and of which classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

__all__ = ["check_classes", "class_probabilities", "soft_size"]


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


def check_classes(classes: Sequence[int], num_classes: int | None = None) -> list[int]:
    """Check the classes that somebody wants to constrain.

    Args:
        classes: their ids.
        num_classes: of the network, including the background; None where it is not known yet.

    Returns:
        The ids, in the order given.

    Raises:
        ValueError: when there is none, one is repeated, negative, or not below ``num_classes``.
    """
    found = list(classes)
    end = math.inf if num_classes is None else num_classes
    if not found or len(set(found)) != len(found) or not all(0 <= class_id < end for class_id in found):
        allowed = ">= 0" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ValueError(f"classes must be distinct class ids {allowed}, at least one, found {found}.")
    return found
