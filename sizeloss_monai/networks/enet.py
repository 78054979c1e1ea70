"""ENet, the light two-dimensional encoder-decoder of Paszke et al. 2016."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Pool

__all__ = ["ENet"]

# The paper's widths: both branches of the initial block, the first stage, and the second and third stages.
_INITIAL, _SHALLOW, _DEEP = 16, 64, 128
_INITIAL_FILTERS = 13
_PROJECTION_RATIO = 4


def _act(prelu: bool, channels: int) -> tuple[str, dict]:
    """PReLU with one slope per channel, or ReLU, as MONAI's factories take it."""
    return ("prelu", {"num_parameters": channels}) if prelu else ("relu", {})


def _unit(
    in_channels: int, out_channels: int, kernel_size: Sequence[int] | int, norm: tuple | str, **options: Any
) -> nn.Module:
    """A bias-free 2D convolution with its norm, then whole-channel dropout and activation where ``options`` ask."""
    options = {"act": None, "dropout_dim": 2, "bias": False, **options}
    return Convolution(2, in_channels, out_channels, kernel_size=kernel_size, norm=norm, **options)


class _Initial(nn.Module):
    """Halves the image: concatenates a strided 3x3 convolution with a max-pooling of the image."""

    def __init__(self, in_channels: int, out_channels: int, norm: tuple | str) -> None:
        super().__init__()
        self.conv = Convolution(2, in_channels, out_channels - in_channels, strides=2, bias=False, conv_only=True)
        self.pool = Pool["MAX", 2](kernel_size=2)
        self.adn = ADN(in_channels=out_channels, act=_act(True, out_channels), norm=norm, norm_dim=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.adn(torch.cat([self.conv(x), self.pool(x)], dim=1))


class _Bottleneck(nn.Module):
    """Adds a branch of the same size: 1x1 projection, a 3x3 (dilated) or two asymmetric convolutions, 1x1 expansion."""

    def __init__(
        self,
        channels: int,
        norm: tuple | str,
        dropout: float,
        prelu: bool = True,
        dilation: int = 1,
        asymmetric: int | None = None,
    ) -> None:
        super().__init__()
        inner = channels // _PROJECTION_RATIO
        act = _act(prelu, inner)
        kernels: list = [3] if asymmetric is None else [(asymmetric, 1), (1, asymmetric)]
        self.branch = nn.Sequential(
            _unit(channels, inner, 1, norm, act=act),
            *(_unit(inner, inner, kernel, norm, act=act, dilation=dilation) for kernel in kernels),
            _unit(inner, channels, 1, norm, dropout=dropout),
        )
        self.act = ADN("A", act=_act(prelu, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.branch(x))


class _Down(nn.Module):
    """Halves the map: max-pooling padded with empty channels, plus a branch with a strided projection."""

    def __init__(self, in_channels: int, out_channels: int, norm: tuple | str, dropout: float) -> None:
        super().__init__()
        inner = out_channels // _PROJECTION_RATIO
        act = _act(True, inner)
        # negative, so a crop, where an image of more than 51 channels widens the initial block
        self.extra_channels = out_channels - in_channels
        self.pool = Pool["MAX", 2](kernel_size=2, return_indices=True)
        self.branch = nn.Sequential(
            _unit(in_channels, inner, 2, norm, act=act, strides=2, padding=0),
            _unit(inner, inner, 3, norm, act=act),
            _unit(inner, out_channels, 1, norm, dropout=dropout),
        )
        self.act = ADN("A", act=_act(True, out_channels))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled, indices = self.pool(x)
        pooled = F.pad(pooled, [0, 0, 0, 0, 0, self.extra_channels])
        return self.act(pooled + self.branch(x)), indices


def _unpool(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Put each value of ``x`` back where its 2x2 maximum was, and zeros elsewhere.

    Equal to ``torch.nn.functional.max_unpool2d``, which refuses to run under ``use_deterministic_algorithms``.
    """
    batch, channels, height, width = x.shape
    full = torch.zeros([batch, channels, 4 * height * width], dtype=x.dtype, device=x.device)
    full = full.scatter(2, indices.flatten(2), x.flatten(2))
    return full.view(batch, channels, 2 * height, 2 * width)


class _Up(nn.Module):
    """Doubles the map: 1x1 convolution and max-unpooling, plus a branch around a transposed 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int, norm: tuple | str, dropout: float) -> None:
        super().__init__()
        inner = out_channels // _PROJECTION_RATIO
        act = _act(False, inner)
        self.main = _unit(in_channels, out_channels, 1, norm)
        self.branch = nn.Sequential(
            _unit(in_channels, inner, 1, norm, act=act),
            _unit(inner, inner, 3, norm, act=act, strides=2, is_transposed=True),
            _unit(inner, out_channels, 1, norm, dropout=dropout),
        )
        self.act = ADN("A", act=_act(False, out_channels))

    def forward(self, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return self.act(_unpool(self.main(x), indices) + self.branch(x))


def _context_stage(norm: tuple | str, dropout: float) -> nn.Sequential:
    """Bottlenecks 2.1 to 2.8 of the paper's Table I; 3.1 to 3.8 repeat them."""
    variants: list[dict] = [{}, {"dilation": 2}, {"asymmetric": 5}, {"dilation": 4}]
    variants += [{}, {"dilation": 8}, {"asymmetric": 5}, {"dilation": 16}]
    return nn.Sequential(*(_Bottleneck(_DEEP, norm, dropout, **variant) for variant in variants))


class ENet(nn.Module):
    """`ENet <https://arxiv.org/abs/1606.02147>`_ (Paszke et al., 2016, Table I), about 0.36 million parameters.

    ENet does most of its work at 1/8 of the resolution. It has no skip connections; the decoder's unpooling takes only
    the positions of the maxima from the encoder. The paper's initial block concatenates 13 filters with the pooled
    three-channel image. Here the block has at least 13 filters and at least 16 maps: one channel gets 15 filters, and
    more than three channels widen the block and the decoder's last stage.

    Args:
        spatial_dims: must be 2; the argument lets ENet replace MONAI's networks in a config.
        in_channels: number of channels of the image.
        out_channels: number of classes.
        dropout: probabilities of dropping whole channels of a bottleneck's branch, in the first stage and from
            bottleneck 2.0 on; the defaults are the paper's.
        norm: normalisation type and arguments, see :py:mod:`monai.networks.layers`. The paper's ``"batch"`` needs a
            batch above 1 or an image above 8x8 in training.

    Raises:
        ValueError: when ``spatial_dims`` is not 2, a number of channels is below 1, or ``dropout`` is not two
            probabilities in [0, 1).

    Example:
        >>> ENet(spatial_dims=2, in_channels=1, out_channels=2)(torch.rand(4, 1, 64, 64)).shape
        torch.Size([4, 2, 64, 64])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        dropout: Sequence[float] = (0.01, 0.1),
        norm: tuple | str = "batch",
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"spatial_dims must be 2 for ENet, got {spatial_dims}.")
        if in_channels < 1 or out_channels < 1:
            raise ValueError(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}.")
        if len(dropout) != 2 or not all(0 <= p < 1 for p in dropout):
            raise ValueError(f"dropout must be two probabilities in [0, 1), got {dropout}.")
        first, later = (float(p) for p in dropout)
        self.divisor = 8  # three poolings; TorchScript sees attributes, but no constants of modules
        initial = max(_INITIAL, _INITIAL_FILTERS + in_channels)

        self.initial = _Initial(in_channels, initial, norm)
        self.down1 = _Down(initial, _SHALLOW, norm, first)
        self.stage1 = nn.Sequential(*(_Bottleneck(_SHALLOW, norm, first) for _ in range(4)))
        self.down2 = _Down(_SHALLOW, _DEEP, norm, later)
        self.stage2 = _context_stage(norm, later)
        self.stage3 = _context_stage(norm, later)
        self.up4 = _Up(_DEEP, _SHALLOW, norm, later)
        self.stage4 = nn.Sequential(*(_Bottleneck(_SHALLOW, norm, later, prelu=False) for _ in range(2)))
        self.up5 = _Up(_SHALLOW, initial, norm, later)
        self.stage5 = _Bottleneck(initial, norm, later, prelu=False)
        self.fullconv = Convolution(2, initial, out_channels, strides=2, bias=False, conv_only=True, is_transposed=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image, shape ``[B, in_channels, H, W]``, ``H`` and ``W`` divisible by 8.

        Returns:
            Logits, shape ``[B, out_channels, H, W]``.

        Raises:
            ValueError: when ``x`` has another number of dimensions, or ``H`` or ``W`` is not divisible by 8.
        """
        if x.dim() != 4:
            raise ValueError(f"input must have shape [B, C, H, W], got {x.dim()} dimensions.")
        if x.shape[2] % self.divisor != 0 or x.shape[3] % self.divisor != 0:
            raise ValueError(f"height and width must be divisible by {self.divisor}, got {x.shape[2]}x{x.shape[3]}.")
        x = self.initial(x)
        x, indices1 = self.down1(x)
        x = self.stage1(x)
        x, indices2 = self.down2(x)
        x = self.stage3(self.stage2(x))
        x = self.stage4(self.up4(x, indices2))
        x = self.stage5(self.up5(x, indices1))
        return self.fullconv(x)
