"""The state of the last epoch, to resume from."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine
from monai.handlers import CheckpointLoader, CheckpointSaver
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sizeloss_monai.data.findings import DataError
from sizeloss_monai.handlers.whole_files import WholeFileSaver

__all__ = ["LastCheckpointLoader", "LastCheckpointSaver"]


class LastCheckpointSaver(CheckpointSaver):
    """Saves ``checkpoint_epoch=N.pt`` after each epoch and then removes those of other epochs.

    MONAI's ``CheckpointSaver`` with ``n_saved=1`` removes the old file before it writes the new one, so that an
    interruption between the two leaves none, and after a resumption it leaves the file that was resumed from for good.
    It also writes in place, so that an interruption meanwhile leaves part of a file.

    Example, in a bundle's config::

        - {_target_: sizeloss_monai.handlers.LastCheckpointSaver, save_dir: "@ckpt_dir", save_dict: "@checkpoint_items"}
    """

    def __init__(self, save_dir: str, save_dict: Mapping[str, Any]) -> None:
        """
        Args:
            save_dir: folder of one run; ``checkpoint_epoch=*.pt`` in it are this handler's.
            save_dict: what to save, by name: objects with ``state_dict`` and ``load_state_dict``.
        """
        super().__init__(save_dir, dict(save_dict), save_interval=1, n_saved=None)
        assert self._interval_checkpoint is not None
        self._interval_checkpoint.save_handler = WholeFileSaver(save_dir)

    def interval_completed(self, engine: Engine) -> None:
        """Save, then remove the checkpoints of other epochs.

        Args:
            engine: the trainer.
        """
        super().interval_completed(engine)
        if idist.get_rank() > 0:
            return
        assert self._interval_checkpoint is not None
        saved = Path(str(self._interval_checkpoint.last_checkpoint))
        for file in saved.parent.glob("checkpoint_epoch=*.pt"):
            if file != saved:
                file.unlink()


class LastCheckpointLoader(CheckpointLoader):
    """Restores what :py:class:`LastCheckpointSaver` has saved, and lets the config say how the step size goes on.

    The state of PyTorch's schedules holds their length. MONAI's ``CheckpointLoader`` restores it: a schedule made for 2
    epochs then goes on at rate 0 in a run that was given 4 more. Here the config's schedule is stepped to the epoch of
    the checkpoint: the rate is that of a run that had this schedule from the start. ``ReduceLROnPlateau``, whose rate
    depends on the metrics seen, goes on from its state, with the config's ``patience``, ``factor`` and the like.

    Args: see MONAI's ``CheckpointLoader``; ``load_dict`` may have an ``optimizer`` and an ``lr_scheduler``.
    """

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.

        Raises:
            DataError: when the file is not one of this training's, holds later epochs than the trainer is to run, or
                the schedule ends before its epoch.
        """
        optimizer, scheduler = self.load_dict.get("optimizer"), self.load_dict.get("lr_scheduler")
        fresh_state = deepcopy(scheduler.state_dict()) if scheduler is not None else {}
        fresh_groups = [_options(group) for group in optimizer.param_groups] if optimizer is not None else []
        epochs = engine.state.max_epochs
        try:
            super().__call__(engine)
        except Exception as err:  # what PyTorch, Ignite and MONAI raise about a file that does not fit is of any kind
            if epochs is not None and engine.state.epoch > epochs:
                raise DataError(
                    f"epochs must be at least {engine.state.epoch}, those {self.load_path!r} has seen, got {epochs}."
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
                    f"lr_scheduler must be made for more than the {steps} steps that {self.load_path!r} has seen: {err}"
                ) from err
        after = [group["lr"] for group in optimizer.param_groups]
        if before != after:
            self.logger.warning(
                f"resume: the learning rate goes on at {after[0]:.6g}, not at {before[0]:.6g}: the config has another "
                "schedule than before, which is followed from here."
            )


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer is told of a group of parameters."""
    return {key: deepcopy(value) for key, value in group.items() if key != "params"}
