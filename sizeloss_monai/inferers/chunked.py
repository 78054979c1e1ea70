"""Training on batches that are too large for one pass through the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

__all__ = ["ChunkedInferer"]


class ChunkedInferer(Inferer):
    """Runs a network on a few items of a batch at a time, in bounded memory, with the gradient of the whole batch.

    Losses such as :class:`~sizeloss_monai.constraints.VolumeSizeConstraintLoss` need all slices of a volume at once,
    whose activations may not fit. The first pass keeps only each chunk's output, and the loss sees all outputs. The
    backward pass runs each chunk again, with the gradient of the loss fixed (``torch.utils.checkpoint``), at the cost
    of one more forward pass.

    The gradient equals that of one pass, for any loss, where the network treats each item alone. Dropout draws the same
    mask in both passes, but not the mask of a single large pass. Batch normalisation in training mode uses the
    statistics of a chunk: prefer instance or group normalisation, or chunks as large as fit. Each chunk updates its
    running statistics once.

    A ``DistributedDataParallel`` network needs ``broadcast_buffers=False``: processes with different numbers of chunks
    would wait for one another's broadcasts for ever. ``SyncBatchNorm`` cannot be chunked.

    Args:
        chunk_size: items (slices) per pass, >= 1; otherwise ValueError is raised.

    Example:
        >>> network = torch.nn.Conv2d(1, 2, 3)
        >>> ChunkedInferer(chunk_size=4)(torch.rand(10, 1, 8, 8), network).shape
        torch.Size([10, 2, 6, 6])
    """

    def __init__(self, chunk_size: int) -> None:
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be >= 1, got {chunk_size}.")
        self.chunk_size = chunk_size

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            inputs: shape ``[B, ...]``.
            network: called on ``[chunk_size or less, ...]``.
            args, kwargs: further arguments of the network.

        Returns:
            The outputs of all items, ``[B, ...]``.
        """
        if len(inputs) <= self.chunk_size or not torch.is_grad_enabled():
            return torch.cat([network(chunk, *args, **kwargs) for chunk in inputs.split(self.chunk_size)])

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _running_statistics_kept(network)

        outputs = [
            checkpoint(network, chunk, *args, use_reentrant=False, context_fn=contexts, **kwargs)
            for chunk in inputs.split(self.chunk_size)
        ]
        return torch.cat(outputs)


@contextmanager
def _running_statistics_kept(network: Any) -> Iterator[None]:
    """Undo the changes of a repeated forward pass to running statistics."""
    modules = network.modules() if isinstance(network, torch.nn.Module) else []
    buffers = [buffer for module in modules if isinstance(module, _NormBase) for buffer in module.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
