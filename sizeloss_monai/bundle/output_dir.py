"""A run's output folder: never overwritten silently, resumed on request."""

from __future__ import annotations

import logging
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from sizeloss_monai.data.whole_files import UNFINISHED

__all__ = [
    "OutputDirError",
    "check_checkpoint",
    "last_epoch",
    "latest_checkpoint",
    "prepare_output_dir",
    "release_output_dir",
]

LOCK = ".lock"  # a run holds it while it writes into its folder; the system releases it when the process ends
_held: dict[str, FileLock] = {}  # the locks of this process, by folder

logger = logging.getLogger(__name__)


class OutputDirError(OSError):
    """A folder that lacks what a run needs, or whose results it would overwrite."""


def _checkpoints(checkpoint_dir: str | Path) -> dict[int, str]:
    """Paths of Ignite's ``checkpoint_epoch=N.pt`` files by epoch."""
    matches = ((re.search(r"epoch=(\d+)\.pt$", path.name), path) for path in Path(checkpoint_dir).glob("*epoch=*.pt"))
    return {int(match[1]): str(path) for match, path in matches if match}


def last_epoch(checkpoint_dir: str | Path) -> int:
    """The last epoch with a ``checkpoint_epoch=N.pt`` in a folder, which may be absent; 0 without one."""
    return max(_checkpoints(checkpoint_dir), default=0)


def latest_checkpoint(checkpoint_dir: str | Path, resume: bool = True, required: bool = False) -> str | None:
    """The path of the last epoch's checkpoint.

    Where it cannot be read a warning says so, and the epoch before is taken. Another warning says that a run has no
    checkpoint to resume from.

    Args:
        checkpoint_dir: folder of ``checkpoint_epoch=N.pt`` files; may be absent.
        resume: false returns None, for configs.
        required: whether a missing checkpoint is an error instead of None.

    Raises:
        OutputDirError: when a required checkpoint is missing, or no checkpoint can be read.
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
    raise OutputDirError(f"found {newest!r}, which cannot be read, expected a whole checkpoint.")


def _is_whole(path: str) -> bool:
    """Whether a checkpoint agrees with its table of contents and check sums."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, EOFError, zipfile.BadZipFile):
        return False


def _read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """A network's weights by name; raises OutputDirError where a file does not hold finite ones."""
    if not Path(path).is_file():
        raise OutputDirError(
            f"checkpoint: found no file {str(path)!r}, expected a model's weights. Give --checkpoint, "
            "or --bundle_root for released weights."
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # the readers of zip archives, pickles and tensors each raise their own
        raise OutputDirError(
            f"checkpoint: {str(path)!r} cannot be read, expected a model's weights, as torch.save writes them. "
            "Was it cut off, or is it another kind of file?"
        ) from err
    weights = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(weights, Mapping) or not all(_is_weight(name, value) for name, value in weights.items()):
        raise OutputDirError(
            f"checkpoint: found {_described(weights)} in {str(path)!r}, expected a model's weights: tensors by name."
        )
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise OutputDirError(
                f"checkpoint: found NaN or infinite weights in {str(path)!r} ({name!r}), expected finite ones: "
                "its training diverged. Train again at a smaller --learning_rate."
            )
    return dict(weights)


def _described(content: Any) -> str:
    """What a file holds instead of weights."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    name, value = next((name, value) for name, value in content.items() if not _is_weight(name, value))
    return f"a {type(value).__name__} {name!r}"


def _is_weight(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, torch.Tensor) and not value.is_meta  # which has no numbers


def check_checkpoint(path: str | Path, network: nn.Module | None = None, num_classes: int | None = None) -> None:
    """Raise where a file does not hold weights that fit a network. For a config's ``initialize``.

    Args:
        path: the file: a ``state_dict``, alone or under ``"model"``.
        network: its names and shapes are compared; None: none are.
        num_classes: classes of the network, for the message where nothing else differs.

    Raises:
        OutputDirError: when the file is missing, does not hold finite weights, or does not fit.
    """
    found = _read_weights(path)
    if network is None:
        return
    expected = network.state_dict()
    differ = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    pairs = [(tuple(found[name].shape), tuple(expected[name].shape)) for name in differ]
    # shapes of different rank cannot be compared size by size
    sizes = {pair for old, new in pairs if len(old) == len(new) for pair in zip(old, new, strict=True)}
    sizes = {(old, new) for old, new in sizes if old != new}
    strange = sorted(expected.keys() ^ found.keys())
    for name in expected.keys() & found.keys():
        if found[name].is_floating_point() != expected[name].is_floating_point() or found[name].is_complex():
            raise OutputDirError(
                f"checkpoint: found {name!r} of type {found[name].dtype} in {str(path)!r}, expected "
                f"{expected[name].dtype}: PyTorch would round it."
            )
    if not strange and len(sizes) == 1 and next(iter(sizes))[1] == num_classes:
        classes = next(iter(sizes))[0]
        raise OutputDirError(
            f"checkpoint: found {classes} classes in {str(path)!r}, expected {num_classes}: "
            f"give --num_classes {classes}."
        )
    if differ:
        name = differ[0]
        raise OutputDirError(
            f"checkpoint: found weights of another network in {str(path)!r} ({name!r} is {list(found[name].shape)}), "
            f"expected {list(expected[name].shape)}."
        )
    if strange:
        found_it = "is" if strange[0] in found else "is not"
        raise OutputDirError(
            f"checkpoint: found weights of another network in {str(path)!r}: {strange[0]!r} {found_it} among them, "
            f"{len(found)} in all, expected {len(expected)}."
        )


def prepare_output_dir(output_dir: str | Path, resume: bool = False) -> None:
    """Make the folder of a run, and keep other processes from writing into it until this one ends.

    Files that a killed run left unfinished are removed.

    Args:
        output_dir: may be absent.
        resume: whether the run goes on from the files in it.

    Raises:
        OutputDirError: when the folder is not empty and ``resume`` is false, when the process cannot write into it, or
            another one does.
    """
    folder = Path(output_dir)
    try:
        refused = not resume and folder.is_dir() and any(f.name not in ("run.json", LOCK) for f in folder.iterdir())
        if not refused or (folder / LOCK).exists():
            folder.mkdir(parents=True, exist_ok=True)
            _lock(folder)
        if not refused:
            _remove_unfinished(folder)
    except Timeout as err:
        raise OutputDirError(
            f"output_dir {str(folder)!r}: another run writes into it. Wait for its end, or give another --output_dir."
        ) from err
    except OSError as err:
        where = f" ({err.filename!r})" if err.filename and Path(err.filename) != folder else ""
        raise OutputDirError(
            f"output_dir {str(folder)!r} cannot be written to: {err.strerror or err}{where}. Give another --output_dir."
        ) from err
    if refused:
        release_output_dir(folder)
        raise OutputDirError(
            f"output_dir {str(folder)!r} is not empty: its results would be overwritten. Give another --output_dir, "
            "or --resume true: training then goes on from its last checkpoint, other results are replaced."
        )


def _lock(folder: Path) -> None:
    """Take the folder's lock, unless this process has it; raises Timeout where another process has it."""
    key = os.path.realpath(folder)
    if key not in _held:
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
        _held[key] = lock


def release_output_dir(output_dir: str | Path) -> None:
    """Undo the lock of :py:func:`prepare_output_dir`, if this process holds it. For a config's ``finalize``."""
    lock = _held.pop(os.path.realpath(output_dir), None)
    if lock is not None:
        Path(lock.lock_file).unlink(missing_ok=True)  # before the release, or the next run would lose its own
        lock.release()


def _remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files of a killed run, except in folders that another run holds."""
    for root, folders, files in os.walk(folder, topdown=True):
        for name in [name for name in folders if name.startswith(UNFINISHED)]:
            shutil.rmtree(Path(root, name))
        folders[:] = [n for n in folders if not n.startswith(UNFINISHED) and not Path(root, n, LOCK).exists()]
        for name in files:
            if name.startswith(UNFINISHED):
                Path(root, name).unlink()
