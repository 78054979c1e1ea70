"""Checkpoints of which there is never a part."""

from __future__ import annotations

from collections.abc import Mapping

from ignite.handlers import DiskSaver

__all__ = ["WholeFileSaver"]


class WholeFileSaver(DiskSaver):
    """Ignite's ``DiskSaver`` that writes under another name and then renames.

    MONAI's ``CheckpointSaver`` writes in place (Ignite's renamed files once were not readable for others), so that an
    interruption leaves part of a file under the name of a whole one.
    """

    def __init__(self, dirname: str, filename: str | None = None) -> None:
        """
        Args:
            dirname: folder of the files.
            filename: the one name of them all, each replacing the one before; None: what the caller names them.
        """
        super().__init__(dirname, atomic=True, require_empty=False)
        self.filename = filename

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        """Save; see Ignite's ``DiskSaver``.

        Args:
            checkpoint: what to save.
            filename: its name, where there is no other.
            metadata: not used.
        """
        super().__call__(checkpoint, self.filename or filename, metadata)

    def remove(self, filename: str) -> None:
        """Remove a file, unless the next one replaces it.

        Args:
            filename: its name.
        """
        if self.filename is None:
            super().remove(filename)
