"""The state of a training from epoch to epoch: checkpoints, written whole, and the learning rate."""

from __future__ import annotations

import inspect
import io
import os
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.handlers import CheckpointLoader, LrScheduleHandler, MetricsSaver
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sizeloss_monai.data.whole_files import UNFINISHED, write_whole
from sizeloss_monai.errors import DataError

__all__ = ["CheckpointHandler", "KeyMetricLrHandler", "ResumeHandler", "WholeFileSaver", "WholeMetricsSaver"]


class WholeFileSaver(DiskSaver):
    """Ignite's ``DiskSaver`` that writes under another name and then renames the file.

    MONAI's ``CheckpointSaver`` writes in place: an interruption leaves part of a file under the name of a whole one.
    Ignite's own atomic files have, after an interruption, a name that any program may have given.
    """

    def __init__(self, dirname: str, filename: str | None = None) -> None:
        """
        Args:
            dirname: folder of the files.
            filename: one name for all files, each replacing the one before; None: the caller names them.
        """
        super().__init__(dirname, require_empty=False)
        self.filename = filename

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        """Save, as Ignite's ``DiskSaver``; raises OSError where it cannot write, and the earlier file stays."""
        super().__call__(checkpoint, self.filename or filename, metadata)

    def _save_func(self, checkpoint: Mapping, path: Path, func: Callable) -> None:
        content = io.BytesIO()  # on a full disk torch.save raises a RuntimeError that does not say so
        func(checkpoint, content, **self.kwargs)
        write_whole(path, content.getvalue())

    def remove(self, filename: str) -> None:
        """Remove a file, unless the next one replaces it."""
        if self.filename is None:
            super().remove(filename)


class WholeMetricsSaver(MetricsSaver):
    """MONAI's ``MetricsSaver``, whose files appear once all are written."""

    def __call__(self, engine: Engine) -> None:
        """Write the files; raises OSError where one cannot be written, and earlier files stay."""
        folder = self.save_dir
        os.makedirs(folder, exist_ok=True)
        with TemporaryDirectory(prefix=UNFINISHED, dir=folder) as unfinished:
            self.save_dir = unfinished
            try:
                super().__call__(engine)
            finally:
                self.save_dir = folder
            for file in sorted(Path(unfinished).iterdir()):
                write_whole(Path(folder) / file.name, file.read_bytes())


class CheckpointHandler:
    """Keeps the state of the last epoch and the weights of the best one, and resumes a training from the former.

    ``checkpoint_epoch=N.pt`` is saved after each epoch; then those of other epochs are removed. ``model.pt`` is saved
    whenever the key metric of the evaluator is better than before. Both are written whole: an interruption leaves the
    earlier file. (MONAI's ``CheckpointSaver`` removes the old file first, and writes the new one bit by bit.)

    Example, in a bundle's config::

        - _target_: sizeloss_monai.handlers.CheckpointHandler
          save_dir: "@train#ckpt_dir"
          save_dict: {model: "@network", optimizer: "@optimizer", lr_scheduler: "@lr_scheduler"}
          evaluator: "@validate#evaluator"
    """

    def __init__(
        self,
        save_dir: str,
        save_dict: Mapping[str, Any],
        evaluator: Engine | None = None,
        load_path: str | None = None,
        map_location: Any = None,
    ) -> None:
        """
        Args:
            save_dir: folder of one run; ``checkpoint_epoch=*.pt`` and ``model.pt`` in it are this handler's.
            save_dict: what to save after each epoch, by name: objects with ``state_dict`` and ``load_state_dict``. The
                trainer is saved besides.
            evaluator: whose key metric chooses the best ``model``; None: there is no ``model.pt``.
            load_path: the checkpoint that the training goes on from; None: it starts anew.
            map_location: where to load it, see ``torch.load``.
        """
        self.save_dir = Path(save_dir)
        self.evaluator = evaluator
        self.load_path = load_path
        self.map_location = map_location
        self.items = dict(save_dict)
        if evaluator is not None:
            self.items["best"] = Checkpoint(  # its score, so that a resumed run knows what to beat
                {"model": save_dict["model"]},
                WholeFileSaver(save_dir, "model.pt"),
                score_function=_key_metric,
                score_name="key_metric",
            )

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        self.items["trainer"] = engine
        self.last = Checkpoint(
            self.items, WholeFileSaver(str(self.save_dir)), score_function=_epoch, score_name="epoch", n_saved=None
        )
        if self.load_path is not None:
            ResumeHandler(self.load_path, self.items, map_location=self.map_location).attach(engine)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self.items["best"])
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save, then remove the checkpoints of other epochs.

        Args:
            engine: the trainer, after an epoch.

        Raises:
            OSError: when the file cannot be written; the earlier one stays.
        """
        self.last(engine)
        if idist.get_rank() == 0:
            for file in self.save_dir.glob("checkpoint_epoch=*.pt"):
                if file.name != Path(str(self.last.last_checkpoint)).name:
                    file.unlink()


def _epoch(engine: Engine) -> int:
    return engine.state.epoch


def _key_metric(engine: Engine) -> float:
    state: Any = engine.state  # MONAI's evaluators add the key metric's name
    return float(state.metrics[state.key_metric_name])


class ResumeHandler(CheckpointLoader):
    """Restores what :py:class:`CheckpointHandler` has saved, and lets the config say how the step size goes on.

    The state of PyTorch's schedules holds their length, which MONAI's ``CheckpointLoader`` restores: a schedule for 2
    epochs then goes on at rate 0 in a run of 4 more. This handler steps the config's schedule to the epoch of the
    checkpoint instead: the rate equals that of a run with this schedule from the start. ``ReduceLROnPlateau`` depends
    on the metrics seen: it goes on from its state, with the config's ``patience``, ``factor`` and the like.

    Args: see MONAI's ``CheckpointLoader``; ``load_dict`` may have an ``optimizer`` and an ``lr_scheduler``.
    """

    def __call__(self, engine: Engine) -> None:
        """Restore the state of the training.

        Raises:
            DataError: when the file does not fit the training, holds more epochs than the trainer is to run, or the
                schedule ends before its epoch.
        """
        optimizer, scheduler = self.load_dict.get("optimizer"), self.load_dict.get("lr_scheduler")
        fresh_state = deepcopy(scheduler.state_dict()) if scheduler is not None else {}
        fresh_groups = [_options(group) for group in optimizer.param_groups] if optimizer is not None else []
        epochs = engine.state.max_epochs
        try:
            super().__call__(engine)
        except Exception as err:  # PyTorch, Ignite and MONAI each raise their own
            if epochs is not None and engine.state.epoch > epochs:
                raise DataError(
                    f"epochs must be at least {engine.state.epoch}, as in {self.load_path!r}, got {epochs}."
                ) from err
            reason = str(err).strip().partition("\n")[0]
            raise DataError(
                f"{self.load_path!r} cannot be resumed from, expected a checkpoint of this training: {reason}"
            ) from err
        if optimizer is None or scheduler is None:
            return
        if isinstance(scheduler, ReduceLROnPlateau):
            options = {*inspect.signature(ReduceLROnPlateau).parameters, "min_lrs", "default_min_lr", "mode_worse"}
            scheduler.load_state_dict({key: fresh_state[key] for key in options & fresh_state.keys()})
            return
        before = [group["lr"] for group in optimizer.param_groups]
        steps = scheduler.last_epoch
        scheduler.load_state_dict(fresh_state)
        for group, options_of_group in zip(optimizer.param_groups, fresh_groups, strict=True):
            group.update(options_of_group)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
            try:
                for _ in range(steps):
                    scheduler.step()
            except ValueError as err:
                raise DataError(
                    f"lr_scheduler must be made for more than the {steps} steps of {self.load_path!r}: {err}"
                ) from err
        after = [group["lr"] for group in optimizer.param_groups]
        if before != after:
            self.logger.warning(
                f"resume: the learning rate goes on at {after[0]:.6g}, not at {before[0]:.6g}: the config has another "
                "schedule than before."
            )


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """The options of a group of parameters."""
    return {key: deepcopy(value) for key, value in group.items() if key != "params"}


class KeyMetricLrHandler(LrScheduleHandler):
    """MONAI's ``LrScheduleHandler`` that gives the evaluator's key metric to a schedule that depends on it.

    ``ReduceLROnPlateau`` gets the metric; other schedules count epochs. So an overlay changes the schedule alone.
    """

    def __init__(self, lr_scheduler: Any, evaluator: Engine) -> None:
        """
        Args:
            lr_scheduler: of PyTorch or MONAI, stepped after each epoch of the trainer.
            evaluator: a MONAI evaluator with a key metric; -inf counts until there is one.
        """
        self.evaluator = evaluator
        step_transform = self._metric if isinstance(lr_scheduler, ReduceLROnPlateau) else _no_arguments
        super().__init__(lr_scheduler, print_lr=False, step_transform=step_transform)

    def _metric(self, engine: Engine) -> float:
        state: Any = self.evaluator.state
        return state.metrics.get(state.key_metric_name, float("-inf"))


def _no_arguments(engine: Engine) -> tuple[()]:
    return ()
