"""What a run tells while it trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.handlers import StatsHandler, TensorBoardHandler
from tqdm import tqdm

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
    """One line about a run: epoch, values of a step, validation score, time left.

    On a terminal the line is ``tqdm``'s and changes in place, with the last validation score. Elsewhere each epoch
    writes a line of its own: the means of the loss terms that :py:class:`LossTermsHandler` publishes, or the metrics of
    an evaluator, and the score in epochs with a validation.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Mapping[str, float]] | None = None,
        every: int = 1,
        validator: Engine | None = None,
        file: TextIO | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            output_transform: from the engine's output to the values of a step; None: none are shown.
            every: number of iterations between two updates of a terminal's line.
            validator: the evaluator whose key metric is shown; None: no score is shown.
            file: to write to; default: the standard output.
            kwargs: for ``tqdm``.
        """
        self.output_transform = output_transform
        self.every = every
        self.validator = validator
        self.file = file
        self.kwargs = kwargs
        self.bar: tqdm | None = None
        self.first = 0
        self.started: float | None = None

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: any Ignite engine. Attach handlers that make metrics before this one.
        """
        engine.add_event_handler(Events.STARTED, self._close)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)  # a resumed run knows its epoch by then
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._close)

    def _start(self, engine: Engine) -> None:
        if self.started is not None:
            return
        stream = self.file or sys.stdout
        self.first, self.started = engine.state.iteration, time.monotonic()
        if stream.isatty():
            self.bar = tqdm(total=self._total(engine), initial=self.first, file=stream, **self.kwargs)

    def _update(self, engine: Engine) -> None:
        if self.bar is None:
            return
        values = self.output_transform(engine.state.output) if self.output_transform else {}
        self._show(self.bar, engine, {**values, **self._score()})

    def _finish_epoch(self, engine: Engine) -> None:
        metrics = {name.removeprefix("train_"): value for name, value in engine.state.metrics.items()}
        values = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
        if self.bar is not None or (self.validator and self.validator.state.epoch == engine.state.epoch):
            values |= self._score()  # MONAI's evaluators count the trainer's epochs
        if self.bar is not None:
            self._show(self.bar, engine, values)
            return
        assert self.started is not None
        gone, done, total = time.monotonic() - self.started, engine.state.iteration - self.first, self._total(engine)
        epochs = engine.state.max_epochs or 1
        times = f"{tqdm.format_interval(gone)} gone"
        if total is not None and epochs > 1:
            times += f", {tqdm.format_interval(gone * (total - engine.state.iteration) / max(done, 1))} left"
        where = f"epoch {engine.state.epoch}/{epochs}" if epochs > 1 else f"{engine.state.iteration}/{total}"
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"{where}: {shown}{'; ' if shown else ''}{times}", file=self.file or sys.stdout, flush=True)

    def _show(self, bar: tqdm, engine: Engine, values: Mapping[str, float]) -> None:
        if engine.state.max_epochs and engine.state.max_epochs > 1 and "desc" not in self.kwargs:
            bar.set_description_str(f"epoch {engine.state.epoch}/{engine.state.max_epochs}", refresh=False)
        bar.set_postfix(values, refresh=False)
        bar.n = engine.state.iteration
        bar.refresh()

    def _score(self) -> dict[str, float]:
        """The last key metric of the validator; empty before the first validation."""
        state = getattr(self.validator, "state", None)
        name = getattr(state, "key_metric_name", None)
        return {name: state.metrics[name]} if state is not None and name is not None and name in state.metrics else {}

    def _total(self, engine: Engine) -> int | None:
        """The number of iterations of the run; None where Ignite does not know it."""
        length = engine.state.epoch_length
        return None if length is None else length * (engine.state.max_epochs or 1)

    def _close(self, engine: Engine) -> None:
        self.started = None
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class LossTermsHandler:
    """Publishes the terms of a :class:`~sizeloss_monai.losses.WeakSupervisionLoss` where MONAI's handlers log them.

    After every iteration ``engine.state.output["loss_terms"]`` holds the terms of that batch, for the
    ``output_transform`` of ``StatsHandler`` and ``TensorBoardStatsHandler``. After an epoch
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
        # sums stay on the device: to read them here would make every step wait for it
        for name, value in self.loss.values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1
        engine.state.output["loss_terms"] = self.loss.values  # type: ignore[index]

    def _publish(self, engine: Engine) -> None:
        for name, value in self.sums.items():
            engine.state.metrics[f"train_{name}"] = value.item() / self.count
