"""Ignite's progress bar with the values of the current step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers.tqdm_logger import ProgressBar

__all__ = ["ProgressBarHandler"]


class ProgressBarHandler:
    """Attaches Ignite's ``ProgressBar`` from a config, showing what ``output_transform`` makes of each step."""

    def __init__(self, output_transform: Callable[[Any], Any] | None = None, every: int = 1, **kwargs: Any) -> None:
        """
        Args:
            output_transform: from the engine's output to a dictionary of numbers.
            every: number of iterations between two updates.
            kwargs: for ``ignite.handlers.tqdm_logger.ProgressBar`` and so for ``tqdm``.
        """
        self.output_transform = output_transform
        self.every = every
        self.progress_bar = ProgressBar(**kwargs)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: any Ignite engine.
        """
        self.progress_bar.attach(
            engine,
            output_transform=self.output_transform,
            event_name=Events.ITERATION_COMPLETED(every=self.every),
            closing_event_name=Events.EPOCH_COMPLETED,
        )
