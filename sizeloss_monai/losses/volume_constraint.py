"""The size constraint on whole volumes of which a batch holds the slices."""

from __future__ import annotations

import torch
from monai.utils import LossReduction

from sizeloss_monai.losses.constraint import _SizeConstraint, size_penalty, sizes_and_extent

__all__ = ["VolumeSizeConstraintLoss"]


class VolumeSizeConstraintLoss(_SizeConstraint):
    r"""Penalty on the soft size of a volume, summed over its slices (Kervadec et al. 2019, section 4, "3D").

    A batch holds all slices of one volume, or of several: :math:`V_B = \sum_S V_S`, and its bounds are the sums of the
    slices' bounds. Slices with individual bounds ``(0.9 tau_S, 1.1 tau_S)`` so give
    :math:`(0.9\, \tau_B, 1.1\, \tau_B)`; that a slice's target is absent is not used. The scale ``"image"`` divides by
    the voxels of the volume, so that a volume of n slices weighs as much as n slices with the same relative error; the
    authors' published code divides by the pixels of one slice, which weighs n times as much.

    Example:
        >>> loss = VolumeSizeConstraintLoss()
        >>> logits = torch.zeros(2, 2, 4, 4)  # two slices, a soft size of 8 each
        >>> bounds = torch.tensor([[[0.0, float("inf")], [4.0, 8.0]], [[0.0, float("inf")], [2.0, 6.0]]])
        >>> loss(logits, bounds).item()  # (16 - 14)^2
        4.0
    """

    def forward(
        self,
        input: torch.Tensor,
        bounds: torch.Tensor,
        volume: torch.Tensor | None = None,
        voxel_size: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            input: logits of slices, shape ``[B, C, *spatial]``.
            bounds: lower and upper bound per slice and class, shape ``[B, C, 2]``, in voxels, or the unit of
                ``voxel_size``.
            volume: which volume each slice belongs to, any integers, shape ``[B]``; slices of one volume need not be
                neighbours. None where all are of one.
            voxel_size: size of a voxel of each slice in the unit of ``bounds`` (mL), shape ``[B]``, > 0. None: that
                unit is voxels.

        Returns:
            Mean or sum over volumes and classes; with ``"none"`` each slice's volume's penalties, ``[B, classes]``.

        Raises:
            ValueError: when ``bounds``, ``volume`` or ``voxel_size`` is not of that shape, a bound is NaN, a
                constrained class is not below ``C``, or there is none.
        """
        classes = self._constrained_classes(input, bounds)
        if volume is None:
            volume = torch.zeros(len(input), dtype=torch.long, device=input.device)
        if volume.shape != input.shape[:1]:
            raise ValueError(f"volume must have shape {[len(input)]}, found {list(volume.shape)}.")
        with torch.autocast(input.device.type, enabled=False):
            size, extent = sizes_and_extent(input, voxel_size, self.sharpness)
            together = volume[:, None] == volume[None, :]
            # each slice gets its volume's sums: no grouping whose number of groups the host would have to know
            size, both, extent = (_sums(together, values) for values in (size, bounds.to(size), extent))
            penalty = size_penalty(size, both, extent, self.scale, self.sides)[:, classes]
        share = 1 / together.sum(dim=1, keepdim=True).to(penalty)  # every slice repeats its volume's penalty
        if self.reduction == LossReduction.NONE.value:
            return penalty
        total = (penalty * share).sum()
        return total if self.reduction == LossReduction.SUM.value else total / (share.sum() * len(classes))


def _sums(together: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """For each item the sum over the items it belongs together with; ``[B, B]`` and ``[B, ...]`` give ``[B, ...]``."""
    mask = together.reshape(*together.shape, *[1] * (values.ndim - 1))
    return torch.where(mask, values[None], 0).sum(dim=1)  # a product would make 0 * inf of absent bounds
