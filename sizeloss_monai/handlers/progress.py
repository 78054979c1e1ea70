"""What a run tells while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers.tqdm_logger import ProgressBar
from monai.handlers import StatsHandler, TensorBoardHandler

from sizeloss_monai.handlers.images import OverlayImagesHandler, ProposalImagesHandler
from sizeloss_monai.losses import WeakSupervisionLoss

__all__ = ["LossTermsHandler", "ProgressBarHandler", "step_numbers", "without_loggers"]


def step_numbers(output: Mapping[str, Any]) -> dict[str, float]:
    """What to show and log of a training step.

    Args:
        output: of a trainer with :class:`LossTermsHandler`.

    Returns:
        The loss, its terms, and the numbers of Lagrangian proposals, ``proposal_…``, where there are any.
    """
    proposals = {name: float(value) for name, value in output.items() if name.startswith("proposal_")}
    return {"loss": output["loss"].item(), **{k: v.item() for k, v in output["loss_terms"].items()}, **proposals}


def without_loggers(handlers: Sequence[Any]) -> list[Any]:
    """The handlers that every process of a training needs: the first process alone shows and logs.

    Args:
        handlers: of a trainer or an evaluator.

    Returns:
        All of them in the first process. In the others, those that neither print nor write for TensorBoard.
    """
    loggers = (StatsHandler, TensorBoardHandler, ProgressBarHandler, OverlayImagesHandler, ProposalImagesHandler)
    return [handler for handler in handlers if idist.get_rank() == 0 or not isinstance(handler, loggers)]


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


class LossTermsHandler:
    """Publishes the terms of a :class:`~sizeloss_monai.losses.WeakSupervisionLoss` where MONAI's handlers log them.

    After every iteration ``engine.state.output["loss_terms"]`` holds the terms of that batch, to be named in the
    ``output_transform`` of ``StatsHandler`` and ``TensorBoardStatsHandler``; at the end of an epoch
    ``engine.state.metrics["train_<term>"]`` holds their means. Attach it before those handlers.
    """

    def __init__(self, loss: WeakSupervisionLoss) -> None:
        """
        Args:
            loss: the trainer's loss.
        """
        self.loss = loss
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: an Ignite trainer whose output is a dictionary, as MONAI's.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._publish)

    def _reset(self, engine: Engine) -> None:
        self.sums, self.count = {}, 0

    def _add(self, engine: Engine) -> None:
        # sums stay on the device: reading them here would make every step wait for it
        for name, value in self.loss.values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1
        engine.state.output["loss_terms"] = self.loss.values  # type: ignore[index]

    def _publish(self, engine: Engine) -> None:
        for name, value in self.sums.items():
            engine.state.metrics[f"train_{name}"] = value.item() / self.count
