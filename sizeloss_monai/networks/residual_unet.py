"""FusionNet, the fully residual U-Net of Quan, Hildebrand and Jeong 2016."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution, ResidualUnit
from monai.networks.layers.factories import Pool
from monai.utils import look_up_option

__all__ = ["FusionNet"]


class FusionNet(nn.Module):
    """The fully residual U-Net of `FusionNet <https://arxiv.org/abs/1612.05360>`_ (Quan, Hildebrand and Jeong, 2016).

    Each level is a convolution, a residual layer of three convolutions, and a convolution. Max-pooling leads down, a
    transposed convolution leads up. The decoder adds the encoder's map instead of concatenating it, so the network is
    residual over short and over long distances. The published widths give 78.5 million parameters, widths of half
    give 19.6 million.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes.
        channels: width of every level, from full resolution down to the bridge; each level after the first halves the
            resolution. The defaults are the paper's.
        skip: how the decoder merges the encoder's map: ``"sum"`` as published, or ``"mean"``, half of the sum, which
            keeps the scale of the activations.
        act: activation type and arguments.
        norm: normalisation type and arguments, None for none.
        dropout: dropout ratio after every normalisation, None for none.

    Raises:
        ValueError: when ``spatial_dims`` is neither 2 nor 3, a number of channels is below 1, ``channels`` has fewer
            than two levels, or ``skip`` is unknown.

    Example:
        >>> net = FusionNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(8, 16, 32))
        >>> net(torch.rand(4, 1, 64, 64)).shape
        torch.Size([4, 2, 64, 64])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        skip: Literal["sum", "mean"] = "sum",
        act: tuple | str = "relu",
        norm: tuple | str | None = "batch",
        dropout: float | None = None,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if len(channels) < 2:
            raise ValueError(f"channels must have at least two levels, got {channels}.")
        if min(in_channels, out_channels, *channels) < 1:
            raise ValueError(
                "in_channels, out_channels and channels must be at least 1, "
                f"got {in_channels}, {out_channels} and {channels}."
            )
        self.mean_skip = look_up_option(skip, ("sum", "mean")) == "mean"
        self.spatial_dims = spatial_dims
        self.divisor = 2 ** (len(channels) - 1)

        # a norm would cancel the bias before it
        adn: dict[str, Any] = {"act": act, "norm": norm, "dropout": dropout, "bias": norm is None}

        def level(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                Convolution(spatial_dims, inputs, outputs, **adn),
                ResidualUnit(spatial_dims, outputs, outputs, subunits=3, **adn),
                Convolution(spatial_dims, outputs, outputs, **adn),
            )

        *encoder, self.bridge = (level(i, o) for i, o in pairwise([in_channels, *channels]))
        self.encoder = nn.ModuleList(encoder)
        self.pool = Pool["MAX", spatial_dims](kernel_size=2)
        upward = list(reversed(channels))
        self.ups = nn.ModuleList(
            Convolution(spatial_dims, i, o, strides=2, is_transposed=True, **adn) for i, o in pairwise(upward)
        )
        self.decoder = nn.ModuleList(level(width, width) for width in upward[1:])
        self.head = Convolution(spatial_dims, channels[0], out_channels, conv_only=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image, shape ``[B, in_channels, *spatial]``, sizes divisible by ``2 ** (len(channels) - 1)``.

        Returns:
            Logits, shape ``[B, out_channels, *spatial]``.

        Raises:
            ValueError: when ``x`` has another number of dimensions, or a size is not divisible.
        """
        if x.dim() != self.spatial_dims + 2:
            raise ValueError(f"input must have {self.spatial_dims + 2} dimensions [B, C, *spatial], got {x.dim()}.")
        for size in x.shape[2:]:
            if size % self.divisor != 0:
                raise ValueError(f"spatial sizes must be divisible by {self.divisor}, got {list(x.shape[2:])}.")
        skips: list[torch.Tensor] = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bridge(x)
        for up, level in zip(self.ups, self.decoder):  # noqa: B905 - TorchScript's zip takes no strict
            x = up(x) + skips.pop()
            if self.mean_skip:
                x = x / 2
            x = level(x)
        return self.head(x)
