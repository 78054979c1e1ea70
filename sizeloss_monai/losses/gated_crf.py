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
"""By the number of spatial axes; 121 voxels in 2D, 125 in 3D."""

_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class _Gaussian(NamedTuple):
    """One kernel; see :class:`GatedCRFLoss`."""

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
    """The energy of every item; the functional core of :class:`GatedCRFLoss`, see there for the arguments.

    Differentiable with respect to ``probabilities``, once; where they need no gradient nothing is kept for one.

    Args:
        probabilities: shape ``[B, C, *spatial]``, one to three spatial axes; soft, or one-hot for a hard segmentation.
        image: shape ``[B, K, *spatial]``.
        radius: of the window of neighbours.
        spacing: shape ``[B, number of spatial axes]``.
        kernels: the Gaussians.
        downsample: by which factor both are averaged first.

    Returns:
        Energies, shape ``[B]``; float32, or float64 where ``probabilities`` are.

    Raises:
        ValueError: when a shape or an option is none of these.
    """
    axes = probabilities.ndim - 2
    if axes not in _POOLS:
        raise ValueError(f"expected one to three spatial axes, found shape {list(probabilities.shape)}.")
    if image.ndim != axes + 2 or len(image) != len(probabilities) or image.shape[2:] != probabilities.shape[2:]:
        raise ValueError(
            f"image must have shape [{len(probabilities)}, K, {', '.join(map(str, probabilities.shape[2:]))}], "
            f"found {list(image.shape)}."
        )
    if spacing is not None and spacing.shape != (len(probabilities), axes):
        raise ValueError(f"spacing must have shape {[len(probabilities), axes]}, found {list(spacing.shape)}.")
    gaussians = _read_kernels(kernels)
    reach = _per_axis("radius", DEFAULT_RADIUS[axes] if radius is None else radius, axes, minimum=0)
    factors = _per_axis("downsample", downsample, axes, minimum=1)
    with torch.autocast(probabilities.device.type, enabled=False):
        # a MetaTensor's bookkeeping would cost more than each of the many small operations
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

    Autograd would keep several tensors a shift; the gradient of a quadratic form needs none of them but ``K S``,
    which the value needs anyway.
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
        # the difference is taken voxel by voxel: that of the two sums would be lost in their rounding
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
    """Every unordered pair of voxels within the window once, shift by shift: where its two ends lie, and the kernel."""
    shape = image.shape[2:]
    # the opposite of a shift has the same pairs; and no pair is further apart than the image is wide
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
    """Kernels as a config gives them; raises as :class:`GatedCRFLoss` says."""
    if kernels is not None and not kernels:
        raise ValueError("kernels must hold at least one.")
    gaussians = []
    for kernel in DEFAULT_KERNELS if kernels is None else kernels:
        if not {"weight", "sigma_xy"} <= set(kernel) <= set(_Gaussian._fields):
            raise ValueError(
                f"a kernel must have weight and sigma_xy, and may have sigma_intensity, found {sorted(kernel)}."
            )
        gaussian = _Gaussian(**kernel)
        if not all(math.isfinite(value) and value > 0 for value in gaussian if value is not None):
            raise ValueError(f"weight and sigmas of a kernel must be finite and > 0, found {dict(kernel)}.")
        gaussians.append(gaussian)
    return tuple(gaussians)


def _per_axis(name: str, value: int | Sequence[int], axes: int, minimum: int) -> tuple[int, ...]:
    """An option that is one integer, or one for each axis."""
    values = ensure_tuple_rep(value, axes)
    if not all(type(item) is int and item >= minimum for item in values) or max(values) == 0:
        raise ValueError(f"{name} must be integers >= {minimum}, not all 0, found {value!r}.")
    return values


class GatedCRFLoss(_Loss):
    r"""Potts energy of a dense CRF within a window (Obukhov et al. 2019, arXiv:1906.04651), in 2D and 3D.

    .. math::
        E(S) = \frac{1}{|\Omega|} \sum_{i \in \Omega} \sum_{j \in W(i),\, j \ne i} k_{ij} (1 - S_i \cdot S_j), \quad
        k_{ij} = \sum_m w_m \exp\left(-\frac{|x_i - x_j|^2}{2 \sigma_{xy, m}^2}
        - \frac{|I_i - I_j|^2}{2 \sigma_{I, m}^2}\right)

    with probabilities :math:`S`, positions :math:`x`, intensities :math:`I` and the window :math:`W(i)`, a box about
    voxel :math:`i`. Each pair counts twice, as :math:`ij` and :math:`ji`, and not at all where one end lies outside the
    image. It needs no annotation: it pulls a boundary of the segmentation to an edge of the image. One label everywhere
    has energy 0, so it is of use only beside a term that knows better.

    The published training's value is the same, a sum over ordered pairs of valid pixels divided by the number of
    pixels of the batch, but on a grid coarser than the image (``downsample``), with 0.1 as the weight
    of the term. The gates that give the loss its name, masks of voxels that take no part, are left out.

    Pairs are visited shift by shift, each pair once, so memory grows with ``B * C * |Omega|`` and not with the window;
    time grows with the number of voxels in the window. The gradient goes to the probabilities, not to the image.

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
        """
        Args:
            radius: of the window in voxels, one number or one for each axis (0: no pairs along it); defaults to 5 in
                2D, as published, and to 2 in 3D, which is as many neighbours.
            kernels: mappings with ``weight``, ``sigma_xy`` (over all spatial axes: in mm where ``spacing`` is given,
                else in voxels) and optionally ``sigma_intensity`` (in the image's unit, over all of its channels;
                without it the kernel is of positions alone, and smooths). Defaults to the published training's: one of
                weight 1, ``sigma_xy`` 6 and ``sigma_intensity`` 0.1, which suits images scaled to 0..1.
            downsample: factor, one or one for each axis, by which probabilities and image are averaged first. The loss
                is then that of the coarse grid: cheaper by the factor's power and normalised by its voxels, with a
                ``radius`` that reaches as many times further, blind to detail below the factor, and above 0 where a
                coarse voxel holds two labels. ``sigma_xy`` keeps its unit (mm or voxels of the input).
            reduction: {``"none"``, ``"mean"``, ``"sum"``} over items; ``"none"`` gives shape ``[B]``.

        Raises:
            ValueError: when ``kernels`` is empty, a kernel has other keys, or weights or sigmas that are not finite
                and positive, or ``reduction`` is none of these.
        """
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
            ValueError: when a shape is none of these, or ``radius`` or ``downsample`` is negative, all 0 or not of one
                number for each axis.
        """
        energy = gated_crf_energy(
            class_probabilities(input), image, self.radius, spacing, self.kernels, self.downsample
        )
        if self.reduction == LossReduction.NONE.value:
            return energy
        return energy.sum() if self.reduction == LossReduction.SUM.value else energy.mean()
