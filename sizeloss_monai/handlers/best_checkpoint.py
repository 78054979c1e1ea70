"""The weights of the best epoch so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.handlers import CheckpointSaver

from sizeloss_monai.handlers.whole_files import WholeFileSaver

__all__ = ["BestCheckpointSaver"]


class BestCheckpointSaver(CheckpointSaver):
    """Saves one file, ``model.pt``, whenever the key metric is better than before.

    MONAI's ``CheckpointSaver`` with ``key_metric_filename`` removes the old file before it writes the new one, bit by
    bit: an interruption then leaves none, or part of one.

    Example, in a bundle's config::

        - {_target_: sizeloss_monai.handlers.BestCheckpointSaver, save_dir: "@ckpt_dir", save_dict: {model: "@network"}}
    """

    def __init__(self, save_dir: str, save_dict: Mapping[str, Any], filename: str = "model.pt") -> None:
        """
        Args:
            save_dir: folder of one run.
            save_dict: what to save, by name: objects with ``state_dict``.
            filename: of the file in ``save_dir``.
        """
        super().__init__(save_dir, dict(save_dict), save_key_metric=True, key_metric_filename=filename)
        assert self._key_metric_checkpoint is not None
        self._key_metric_checkpoint.save_handler = WholeFileSaver(save_dir, filename)
