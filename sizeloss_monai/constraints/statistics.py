"""What a constraint measures of a soft segmentation, and for which classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

__all__ = ["check_classes", "class_probabilities", "measure_sizes", "soft_size"]


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Widen all but float32 and float64: a sum of 65,536 ones overflows float16 and stalls at 256 in bfloat16."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def class_probabilities(logits: torch.Tensor, sharpness: float = 1.0) -> torch.Tensor:
    """Softmax over the channels.

    Args:
        logits: shape ``[B, C, *spatial]``, ``C >= 2``, any floating dtype.
        sharpness: factor of the logits; a larger one brings the result closer to one-hot.

    Returns:
        Probabilities ``S``, shaped as ``logits``; float64 for float64 logits, otherwise float32.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return torch.softmax(sharpness * at_least_float32(logits), dim=1)


def soft_size(probabilities: torch.Tensor) -> torch.Tensor:
    r"""Soft size :math:`V_S = \sum_{p \in \Omega} S_p` of every class (Kervadec et al. 2019, section 3).

    Args:
        probabilities: shape ``[B, C, *spatial]``.

    Returns:
        Sizes in voxels, shape ``[B, C]``; float64 for float64 probabilities, otherwise float32.
    """
    with torch.autocast(probabilities.device.type, enabled=False):
        return at_least_float32(probabilities).flatten(2).sum(dim=2)


def measure_sizes(
    logits: torch.Tensor, voxel_size: torch.Tensor | None, sharpness: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft size of every class, and size of the whole item.

    Args:
        logits: shape ``[B, C, *spatial]``.
        voxel_size: size of one voxel of each item, shape ``[B]``; None counts voxels.
        sharpness: see :func:`class_probabilities`.

    Returns:
        Sizes ``[B, C]`` and extents ``[B, 1]``, both in the unit of ``voxel_size``.

    Raises:
        ValueError: when ``voxel_size`` has another shape.
    """
    size = soft_size(class_probabilities(logits, sharpness))
    extent = torch.full((len(logits), 1), math.prod(logits.shape[2:]), device=size.device)
    if voxel_size is None:
        return size, extent
    if voxel_size.shape != logits.shape[:1]:
        raise ValueError(f"voxel_size must have shape {[len(logits)]}, got {list(voxel_size.shape)}.")
    unit = voxel_size.to(size)[:, None]
    return size * unit, extent * unit


def check_classes(classes: Sequence[int], num_classes: int | None = None) -> list[int]:
    """Check the ids of classes to constrain, and return them as a list.

    Args:
        classes: the ids.
        num_classes: number of the network's classes, background included; None where it is not known yet.

    Raises:
        ValueError: when there are no ids, or one is repeated, negative, or not below ``num_classes``.
    """
    given = list(classes)
    end = math.inf if num_classes is None else num_classes
    if not given or len(set(given)) != len(given) or not all(0 <= class_id < end for class_id in given):
        allowed = ">= 0" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ValueError(f"classes must be at least one distinct class id {allowed}, got {given}.")
    return given
