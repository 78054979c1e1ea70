"""What made a run, beside its results: a number can be traced, and a run evaluated without its settings."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sizeloss_monai.data.whole_files import write_whole
from sizeloss_monai.errors import DataError

__all__ = ["describe_run", "read_json", "read_starts", "record_run", "shell_line", "source_commit"]

PACKAGES = ("sizeloss-monai", "monai", "torch", "pytorch-ignite", "numpy")


def source_commit() -> str | None:
    """The commit of the source, with ``-dirty`` where it was changed; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    # an environment may lie in another project's checkout, which does not track this file
    tracked = [*git, "ls-files", "--error-unmatch", Path(__file__).name]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        subprocess.run(tracked, capture_output=True, check=True, timeout=10)
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def describe_run(**settings: Any) -> dict[str, Any]:
    """Command, time, commit, versions, kind of machine, and `settings`: whatever else to note that JSON can hold."""
    return {
        "command": sys.argv,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": source_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": _machine(),
        **settings,
    }


def record_run(output_dir: str | Path, **settings: Any) -> None:
    """Add an entry to ``<output_dir>/run.json``; a resumed run has one for each start.

    Args:
        output_dir: the folder of the run, which must exist.
        settings: see :py:func:`describe_run`.

    Raises:
        DataError: when the file of earlier starts is damaged.
        OSError: when the file cannot be written.
    """
    file = Path(output_dir) / "run.json"
    try:
        entries = read_starts(Path(output_dir)) if file.is_file() else []
    except DataError as err:
        raise DataError(f"{err} Move the file away to go on: a new one is written.") from err
    entries.append(describe_run(working_folder=os.getcwd(), **settings))
    write_whole(file, json.dumps(entries, indent=2) + "\n")


def read_starts(run_dir: Path) -> list[dict[str, Any]]:
    """The entries of ``run.json``, one for each start of a run, oldest first.

    Raises:
        DataError: when the folder holds no run, or the file is damaged.
    """
    if not run_dir.is_dir():
        raise DataError(f"'{run_dir}' is not a folder, expected the folder of a run (its output_dir).")
    file = run_dir / "run.json"
    if not file.is_file():
        raise DataError(
            f"'{run_dir}': found no run.json in it, expected the folder of a run, where training writes one."
        )
    starts = read_json(file)
    if not isinstance(starts, list) or not starts or not all(isinstance(start, dict) for start in starts):
        raise DataError(f"'{file}' must hold a list of objects, one for each start of the training.")
    return starts


def read_json(file: Path) -> Any:
    """The content of a JSON file of a run; raises DataError where it is not valid JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as err:
        raise DataError(f"'{file}' is not valid JSON, was it cut off? {err}.") from err


def shell_line(words: Sequence[str]) -> str:
    """A command line to copy into a shell.

    Words with single quotes get double quotes, which are easier to read than what ``shlex.quote`` makes of them.
    """
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    )
