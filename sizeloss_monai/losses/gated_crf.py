"""The gated CRF loss: neighbours that look alike should have the same label."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from monai.utils import LossReduction, ensure_tuple_rep
from torch.autograd.function import once_differentiable
from torch.nn.modules.loss import _Loss

from sizeloss_monai.constraints.statistics import at_least_float32, class_probabilities

__all__ = ["GatedCRFLoss", "gated_crf_energy"]

DEFAULT_KERNELS = ({"weight": 1.0, "sigma_xy": 6.0, "sigma_intensity": 0.1},)
DEFAULT_RADIUS = {1: 5, 2: 5, 3: 2}
"""By number of spatial axes; the window holds 121 voxels in 2D, 125 in 3D."""

_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class _Gaussian(NamedTuple):
    """One kernel of :class:`GatedCRFLoss`."""

    weight: float
    sigma_xy: float
    sigma_intensity: float | None = None


def gated_crf_energy(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    radius: int | Sequence[int] | None = None,
    spacing: torch.Tensor | None = None,
    kernels: Sequence[Mapping[str, float]] | None = None,
    downsample: int | Sequence[int] = 1,
) -> torch.Tensor:
    """Energy of every item, shape ``[B]``; the pure function of :class:`GatedCRFLoss`, which explains the options.

    Differentiable once with respect to ``probabilities``. It keeps no tensors where they need no gradient.

    Args:
        probabilities: shape ``[B, C, *spatial]``, one to three spatial axes; soft, or one-hot for a hard segmentation.
            Energies are float64 for float64 probabilities, otherwise float32.
        image: shape ``[B, K, *spatial]``.
        spacing: shape ``[B, number of spatial axes]``; None means 1 along each axis.

    Raises:
        ValueError: when a shape or an option is invalid.
    """
    axes = probabilities.ndim - 2
    if axes not in _POOLS:
        raise ValueError(f"probabilities must have one to three spatial axes, got shape {list(probabilities.shape)}.")
    if image.ndim != axes + 2 or len(image) != len(probabilities) or image.shape[2:] != probabilities.shape[2:]:
        raise ValueError(
            f"image must have shape [{len(probabilities)}, K, {', '.join(map(str, probabilities.shape[2:]))}], "
            f"got {list(image.shape)}."
        )
    if spacing is not None and spacing.shape != (len(probabilities), axes):
        raise ValueError(f"spacing must have shape {[len(probabilities), axes]}, got {list(spacing.shape)}.")
    gaussians = _read_kernels(kernels)
    reach = _per_axis("radius", DEFAULT_RADIUS[axes] if radius is None else radius, axes, minimum=0)
    factors = _per_axis("downsample", downsample, axes, minimum=1)
    with torch.autocast(probabilities.device.type, enabled=False):
        # a MetaTensor's bookkeeping costs more than each of the many small operations
        soft = at_least_float32(probabilities.as_subclass(torch.Tensor))
        guide = image.detach().as_subclass(torch.Tensor).to(soft)
        steps = soft.new_ones(len(soft), axes) if spacing is None else spacing.as_subclass(torch.Tensor).to(soft)
        if max(factors) > 1:
            soft, guide = (_POOLS[axes](tensor, factors, ceil_mode=True) for tensor in (soft, guide))
            steps = steps * steps.new_tensor(factors)
        energy: torch.Tensor = _PottsEnergy.apply(soft, guide, steps, reach, gaussians)
        return energy


class _PottsEnergy(torch.autograd.Function):
    r""":math:`\sum_{ij} k_{ij} (1 - S_i \cdot S_j) / |\Omega|`, whose gradient is :math:`-2 K S / |\Omega|`.

    Autograd would keep several tensors per shift. The gradient of a quadratic form needs only ``K S``, which the value
    needs anyway.
    """

    @staticmethod
    def forward(
        ctx: Any,
        soft: torch.Tensor,
        image: torch.Tensor,
        steps: torch.Tensor,
        reach: tuple[int, ...],
        gaussians: tuple[_Gaussian, ...],
    ) -> torch.Tensor:
        smoothed = torch.zeros_like(soft)  # K S
        degree = torch.zeros_like(soft[:, :1])  # K 1
        for here, there, kernel in _pairs(image, steps, reach, gaussians):
            smoothed[here].addcmul_(kernel, soft[there])
            smoothed[there].addcmul_(kernel, soft[here])
            degree[here].add_(kernel)
            degree[there].add_(kernel)
        ctx.save_for_backward(smoothed)
        # taken voxel by voxel: the rounding of two large sums would hide their difference
        energy = degree - (soft * smoothed).sum(dim=1, keepdim=True)
        return energy.flatten(1).mean(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (smoothed,) = ctx.saved_tensors
        share = grad_outputs[0] * (-2 / math.prod(smoothed.shape[2:]))
        return smoothed * share.reshape(-1, *[1] * (smoothed.ndim - 1)), None, None, None, None


def _pairs(
    image: torch.Tensor, steps: torch.Tensor, reach: tuple[int, ...], gaussians: tuple[_Gaussian, ...]
) -> Iterator[tuple[Any, Any, torch.Tensor]]:
    """Each unordered pair of voxels within the window once, shift by shift: slices of its two ends, and the kernel."""
    shape = image.shape[2:]
    # a shift and its opposite have the same pairs; pairs lie no further apart than the image is wide
    window = itertools.product(*(range(-min(r, n - 1), min(r, n - 1) + 1) for r, n in zip(reach, shape, strict=True)))
    shifts = [shift for shift in window if shift > (0,) * len(shape)]
    lengths = (steps[:, None] * steps.new_tensor(shifts).reshape(-1, len(shape))).square().sum(dim=2)
    for shift, distance in zip(shifts, lengths.reshape(*lengths.shape, *[1] * (image.ndim - 1)).unbind(1), strict=True):
        here: Any = (..., *(slice(max(-d, 0), n - max(d, 0)) for d, n in zip(shift, shape, strict=True)))
        there: Any = (..., *(slice(max(d, 0), n + min(d, 0)) for d, n in zip(shift, shape, strict=True)))
        contrast = (image[here] - image[there]).square().sum(dim=1, keepdim=True)
        kernel = torch.zeros_like(contrast)
        for weight, sigma_xy, sigma_intensity in gaussians:
            exponent = distance * (-0.5 / sigma_xy**2)
            if sigma_intensity is not None:
                exponent = torch.add(exponent, contrast, alpha=-0.5 / sigma_intensity**2)
            kernel.add_(exponent.exp_(), alpha=weight)
        yield here, there, kernel


def _read_kernels(kernels: Sequence[Mapping[str, float]] | None) -> tuple[_Gaussian, ...]:
    """Parse the kernels of a config; raises as :class:`GatedCRFLoss` says."""
    if kernels is not None and not kernels:
        raise ValueError("kernels must hold at least one kernel, got none.")
    gaussians = []
    for kernel in DEFAULT_KERNELS if kernels is None else kernels:
        if not {"weight", "sigma_xy"} <= set(kernel) <= set(_Gaussian._fields):
            raise ValueError(
                f"a kernel must have weight and sigma_xy, and may have sigma_intensity, got {sorted(kernel)}."
            )
        gaussian = _Gaussian(**kernel)
        if not all(math.isfinite(value) and value > 0 for value in gaussian if value is not None):
            raise ValueError(f"weight and sigmas of a kernel must be finite and > 0, got {dict(kernel)}.")
        gaussians.append(gaussian)
    return tuple(gaussians)


def _per_axis(name: str, value: int | Sequence[int], axes: int, minimum: int) -> tuple[int, ...]:
    """Expand an option, one integer or one per axis."""
    values = ensure_tuple_rep(value, axes)
    if not all(type(item) is int and item >= minimum for item in values) or max(values) == 0:
        raise ValueError(f"{name} must be integers >= {minimum}, not all 0, got {value!r}.")
    return values


class GatedCRFLoss(_Loss):
    r"""Potts energy of a dense CRF within a window (Obukhov et al. 2019, arXiv:1906.04651), in 2D and 3D.

    .. math::
        E(S) = \frac{1}{|\Omega|} \sum_{i \in \Omega} \sum_{j \in W(i),\, j \ne i} k_{ij} (1 - S_i \cdot S_j), \quad
        k_{ij} = \sum_m w_m \exp\left(-\frac{|x_i - x_j|^2}{2 \sigma_{xy, m}^2}
        - \frac{|I_i - I_j|^2}{2 \sigma_{I, m}^2}\right)

    with probabilities :math:`S`, positions :math:`x`, intensities :math:`I` and the window :math:`W(i)`, a box around
    voxel :math:`i`. Each pair inside the image counts twice, as :math:`ij` and :math:`ji`. The loss needs no
    annotation: it pulls the boundary of a segmentation to an edge of the image. A single label everywhere has energy 0,
    so combine it with a term that knows the target.

    The published training divides the same sum by the number of pixels of the batch, on a grid coarser than the image
    (``downsample``), with the weight 0.1. This loss leaves out the gates that give it its name, masks of voxels that
    take no part.

    Memory grows with ``B * C * |Omega|``, not with the window; time grows with the voxels of the window. The gradient
    goes to the probabilities, not to the image.

    Args:
        radius: of the window in voxels, one number or one per axis (0: no pairs along it); defaults to 5 in 2D, as
            published, and to 2 in 3D, which gives as many neighbours.
        kernels: mappings with ``weight``, ``sigma_xy`` (for all spatial axes: mm with ``spacing``, else voxels) and
            optionally ``sigma_intensity`` (in the image's unit, for all its channels; a kernel without it only
            smooths). Defaults to the published kernel: weight 1, ``sigma_xy`` 6, ``sigma_intensity`` 0.1, for images
            scaled to 0..1.
        downsample: factor, one or one per axis, by which probabilities and image are averaged first. The loss is then
            that of the coarse grid: cheaper, normalised by its voxels, with a wider reach, blind to detail below the
            factor, and above 0 where a coarse voxel holds two labels. ``sigma_xy`` keeps its unit.
        reduction: {``"none"``, ``"mean"``, ``"sum"``} over items; ``"none"`` gives shape ``[B]``.

    Raises:
        ValueError: when ``kernels`` is empty, a kernel has other keys, a weight or sigma is not finite and positive, or
            ``reduction`` is unknown.

    Example:
        >>> loss = GatedCRFLoss(radius=1, kernels=[{"weight": 1.0, "sigma_xy": 1e6, "sigma_intensity": 0.1}])
        >>> image = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])  # one spatial axis; an edge in the middle
        >>> logits = torch.tensor([[[9.0, 9.0, -9.0, -9.0], [-9.0, -9.0, 9.0, 9.0]]])
        >>> round(loss(logits, image).item(), 4), round(loss(logits, image.roll(1)).item(), 4)
        (0.0, 0.5)
    """

    def __init__(
        self,
        radius: int | Sequence[int] | None = None,
        kernels: Sequence[Mapping[str, float]] | None = None,
        downsample: int | Sequence[int] = 1,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        _read_kernels(kernels)
        self.radius = radius
        self.kernels = kernels
        self.downsample = downsample

    def forward(self, input: torch.Tensor, image: torch.Tensor, spacing: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            input: logits, shape ``[B, C, *spatial]``, one to three spatial axes.
            image: shape ``[B, K, *spatial]``.
            spacing: distance of voxels along each spatial axis in mm, shape ``[B, number of spatial axes]``.

        Raises:
            ValueError: when a shape is invalid, or ``radius`` or ``downsample`` is negative, all 0, or does not have
                one number per axis.
        """
        energy = gated_crf_energy(
            class_probabilities(input), image, self.radius, spacing, self.kernels, self.downsample
        )
        if self.reduction == LossReduction.NONE.value:
            return energy
        return energy.sum() if self.reduction == LossReduction.SUM.value else energy.mean()
