"""Checkpoints, written atomically."""

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
from ignite.engine import Engine
from ignite.handlers import DiskSaver
from monai.handlers import CheckpointLoader, CheckpointSaver, MetricsSaver
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sizeloss_monai.data.whole_files import UNFINISHED, write_whole
from sizeloss_monai.errors import DataError

__all__ = ["BestCheckpointSaver", "LastCheckpointLoader", "LastCheckpointSaver", "WholeFileSaver", "WholeMetricsSaver"]


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


class LastCheckpointSaver(CheckpointSaver):
    """Saves ``checkpoint_epoch=N.pt`` after each epoch and then removes those of other epochs.

    MONAI's ``CheckpointSaver`` with ``n_saved=1`` removes the old file before it writes the new one, in place: an
    interruption leaves no file, or part of one. A resumed run never removes the file that it resumed from.

    Example, in a bundle's config::

        - {_target_: sizeloss_monai.handlers.LastCheckpointSaver, save_dir: "@ckpt_dir", save_dict: "@checkpoint_items"}
    """

    def __init__(self, save_dir: str, save_dict: Mapping[str, Any]) -> None:
        """
        Args:
            save_dir: folder of one run; this handler owns ``checkpoint_epoch=*.pt`` in it.
            save_dict: objects with ``state_dict`` and ``load_state_dict``, by name.
        """
        super().__init__(save_dir, dict(save_dict), save_interval=1, n_saved=None)
        assert self._interval_checkpoint is not None
        self._interval_checkpoint.save_handler = WholeFileSaver(save_dir)

    def interval_completed(self, engine: Engine) -> None:
        """Save, then remove the checkpoints of other epochs."""
        super().interval_completed(engine)
        if idist.get_rank() > 0:
            return
        assert self._interval_checkpoint is not None
        saved = Path(str(self._interval_checkpoint.last_checkpoint))
        for file in saved.parent.glob("checkpoint_epoch=*.pt"):
            if file != saved:
                file.unlink()


class LastCheckpointLoader(CheckpointLoader):
    """Restores a checkpoint of :py:class:`LastCheckpointSaver`; the config decides how the learning rate goes on.

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


class BestCheckpointSaver(CheckpointSaver):
    """Saves one file, ``model.pt``, whenever the key metric is better than before.

    MONAI's ``CheckpointSaver`` with ``key_metric_filename`` removes the old file before it writes the new one in place.

    Example, in a bundle's config::

        - {_target_: sizeloss_monai.handlers.BestCheckpointSaver, save_dir: "@ckpt_dir", save_dict: {model: "@network"}}
    """

    def __init__(self, save_dir: str, save_dict: Mapping[str, Any], filename: str = "model.pt") -> None:
        """
        Args:
            save_dir: folder of one run.
            save_dict: objects with ``state_dict``, by name.
            filename: name of the file.
        """
        super().__init__(save_dir, dict(save_dict), save_key_metric=True, key_metric_filename=filename)
        assert self._key_metric_checkpoint is not None
        self._key_metric_checkpoint.save_handler = WholeFileSaver(save_dir, filename)
