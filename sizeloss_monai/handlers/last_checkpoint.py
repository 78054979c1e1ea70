"""The state of the last epoch, to resume from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine
from monai.handlers import CheckpointSaver

from sizeloss_monai.handlers.whole_files import WholeFileSaver

__all__ = ["LastCheckpointSaver"]


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
