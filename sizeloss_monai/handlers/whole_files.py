"""Writes checkpoints and tables of metrics atomically."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ignite.engine import Engine
from ignite.handlers import DiskSaver
from monai.handlers import MetricsSaver

from sizeloss_monai.data.whole_files import UNFINISHED, write_whole

__all__ = ["WholeFileSaver", "WholeMetricsSaver"]


class WholeFileSaver(DiskSaver):
    """Ignite's ``DiskSaver`` that writes under another name and then renames.

    MONAI's ``CheckpointSaver`` writes in place (Ignite's renamed files once were not readable for others), so that an
    interruption leaves part of a file under the name of a whole one. What Ignite itself writes atomically has a name
    after an interruption that any program may have given.
    """

    def __init__(self, dirname: str, filename: str | None = None) -> None:
        """
        Args:
            dirname: folder of the files.
            filename: the one name of them all, each replacing the one before; None: what the caller names them.
        """
        super().__init__(dirname, require_empty=False)
        self.filename = filename

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        """Save; see Ignite's ``DiskSaver``.

        Args:
            checkpoint: what to save.
            filename: its name, where there is no other.
            metadata: not used.

        Raises:
            OSError: when the file cannot be written; the earlier one stays.
        """
        super().__call__(checkpoint, self.filename or filename, metadata)

    def _save_func(self, checkpoint: Mapping, path: Path, func: Callable) -> None:
        content = io.BytesIO()  # torch.save tells of a full disk by a RuntimeError that does not name it
        func(checkpoint, content, **self.kwargs)
        write_whole(path, content.getvalue())

    def remove(self, filename: str) -> None:
        """Remove a file, unless the next one replaces it.

        Args:
            filename: its name.
        """
        if self.filename is None:
            super().remove(filename)


class WholeMetricsSaver(MetricsSaver):
    """MONAI's ``MetricsSaver`` whose files appear once all of them are written."""

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: the evaluator, after an epoch.

        Raises:
            OSError: when a file cannot be written; earlier files stay.
        """
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
