"""A run's output folder: never overwritten silently, resumed on request."""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path

import torch
from torch import nn

__all__ = ["OutputDirError", "check_checkpoint", "last_epoch", "latest_checkpoint", "prepare_output_dir"]

logger = logging.getLogger(__name__)


class OutputDirError(OSError):
    """A folder that lacks what a run needs, or whose results it would overwrite."""


def _checkpoints(checkpoint_dir: str | Path) -> dict[int, str]:
    """Paths of Ignite's ``checkpoint_epoch=N.pt`` files by epoch."""
    found = {}
    for path in Path(checkpoint_dir).glob("*epoch=*.pt"):
        match = re.search(r"epoch=(\d+)\.pt$", path.name)
        if match:
            found[int(match[1])] = str(path)
    return found


def last_epoch(checkpoint_dir: str | Path) -> int:
    """The last finished epoch of which there is a checkpoint.

    Args:
        checkpoint_dir: folder of ``checkpoint_epoch=N.pt`` files; may be absent.

    Returns:
        The epoch, 0 where there is none.
    """
    return max(_checkpoints(checkpoint_dir), default=0)


def latest_checkpoint(checkpoint_dir: str | Path, resume: bool = True, required: bool = False) -> str | None:
    """The checkpoint of the last finished epoch, as Ignite names them.

    A file that cannot be read is passed over, with a warning, for that of the epoch before. Another warning says that
    there is nothing to resume from.

    Args:
        checkpoint_dir: folder of ``checkpoint_epoch=N.pt`` files; may be absent.
        resume: whether there is any interest; for configs.
        required: whether there must be one.

    Returns:
        Its path, or None where there is none or ``resume`` is false.

    Raises:
        OutputDirError: when there is none although it is required, or none of them can be read.
    """
    if not resume:
        return None
    found = _checkpoints(checkpoint_dir)
    if not found:
        if required:
            raise OutputDirError(
                f"found no checkpoint in {str(checkpoint_dir)!r}, expected checkpoint_epoch=N.pt files."
            )
        logger.warning(f"resume: found no checkpoint in {str(checkpoint_dir)!r}: starting from epoch 1.")
        return None
    newest, *older = (found[epoch] for epoch in sorted(found, reverse=True))
    if _is_whole(newest):
        return newest
    for path in older:
        if _is_whole(path):
            logger.warning(f"{newest!r} cannot be read, it was interrupted perhaps: {path!r} is used instead.")
            return path
    raise OutputDirError(f"found {newest!r}, which cannot be read, expected a whole checkpoint; there is no other.")


def _is_whole(path: str) -> bool:
    """Whether a checkpoint holds what its own table of contents and check sums say."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, EOFError, zipfile.BadZipFile):
        return False


def check_checkpoint(path: str | Path, network: nn.Module | None = None, num_classes: int | None = None) -> None:
    """Raise where a model's weights are not, or do not fit the network. For a config's ``initialize``.

    Args:
        path: of the checkpoint: a network's ``state_dict``, alone or as ``model``.
        network: whose weights they should be; None is not compared.
        num_classes: of the network, to say so where it is all that differs.

    Raises:
        OutputDirError: when there is no such file, or its weights have other shapes than the network's.
    """
    if not Path(path).is_file():
        raise OutputDirError(
            f"checkpoint: found no file {str(path)!r}, expected a model's weights. Give --checkpoint, "
            "or --bundle_root for the released ones."
        )
    if network is None:
        return
    content = torch.load(path, map_location="cpu", weights_only=True)
    found, expected = content.get("model", content), network.state_dict()
    differ = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    if not differ:
        return
    pairs = [(tuple(found[name].shape), tuple(expected[name].shape)) for name in differ]
    # a size in a shape of another rank tells nothing
    sizes = {pair for old, new in pairs if len(old) == len(new) for pair in zip(old, new, strict=True)}
    sizes = {(old, new) for old, new in sizes if old != new}
    if len(sizes) == 1 and next(iter(sizes))[1] == num_classes:
        classes = next(iter(sizes))[0]
        raise OutputDirError(
            f"checkpoint: found {classes} classes in {str(path)!r}, expected {num_classes}: "
            f"give --num_classes {classes}."
        )
    name = differ[0]
    raise OutputDirError(
        f"checkpoint: found weights of another network in {str(path)!r} ({name!r} is {list(found[name].shape)}), "
        f"expected {list(expected[name].shape)}."
    )


def prepare_output_dir(output_dir: str | Path, resume: bool = False) -> None:
    """Make the folder of a run, refusing one that already holds something unless the run is resumed.

    Args:
        output_dir: may be absent.
        resume: whether the run goes on from what is there.

    Raises:
        OutputDirError: when the folder is not empty and ``resume`` is false.
    """
    folder = Path(output_dir)
    if not resume and folder.is_dir() and any(path.name != "run.json" for path in folder.iterdir()):
        raise OutputDirError(
            f"output_dir {str(folder)!r} is not empty: its results would be overwritten. Give another --output_dir, "
            "or --resume true to use it again: training then goes on from its last checkpoint."
        )
    folder.mkdir(parents=True, exist_ok=True)
