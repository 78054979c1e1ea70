"""The command ``list``, and where bundles and their overlays lie."""

from __future__ import annotations

import argparse
import difflib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from sizeloss_monai.errors import DataError

__all__ = ["add", "bundles", "find_bundle", "find_overlay", "has_weights", "overlays", "shown"]

_FOLDERS = {"supervision": "supervisions (--supervision)", "protocols": "protocols (--protocol)"}
"""The folders of overlays in ``configs``, with their titles."""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command ``list``."""
    parser = commands.add_parser(
        "list",
        help="list bundles, supervisions and protocols",
        description="List the bundles, supervisions and protocols that the command train takes.",
    )
    parser.set_defaults(run=_run)


def bundles() -> dict[str, Path]:
    """The folders of the bundles by name."""
    folders = [folder for root in reversed(_roots()) for folder in sorted((root / "bundles").glob("*"))]
    return {folder.name: folder for folder in folders if (folder / "configs").is_dir()}


def overlays(folder: str) -> dict[str, Path]:
    """The config files in a folder of ``configs`` by name.

    Args:
        folder: ``"supervision"`` or ``"protocols"``.
    """
    files = [file for root in reversed(_roots()) for file in sorted((root / "configs" / folder).glob("*.yaml"))]
    return {file.stem: file for file in files}


def find_bundle(name: str) -> Path:
    """The folder of a bundle.

    Args:
        name: its name, or the path of its folder.

    Raises:
        DataError: when there is no such bundle; the message has the names most like it.
    """
    if (Path(name) / "configs").is_dir():
        return Path(name)
    return _find(name, "bundle", bundles())


def find_overlay(name: str, kind: str) -> Path:
    """The config file of a supervision or a protocol.

    Args:
        name: its name, or the path of a file.
        kind: ``"supervision"`` or ``"protocol"``, for the message.

    Raises:
        DataError: when there is no such file; the message has the names most like it.
    """
    known = {name: file for folder in _FOLDERS for name, file in overlays(folder).items()}
    return Path(name) if Path(name).is_file() else _find(name, kind, known)


def has_weights(bundle: Path) -> bool:
    """Whether the folder of a bundle holds released weights."""
    return (bundle / "models" / "model.pt").is_file()


def shown(path: Path | str) -> str:
    """A path relative to the working folder where it lies in it, and as it is elsewhere."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def _roots() -> list[Path]:
    """The folders that may hold ``bundles`` and ``configs``: the checkout of the package, then the working folder."""
    return list(dict.fromkeys([Path(__file__).resolve().parents[2], Path.cwd()]))


def _find(name: str, kind: str, known: dict[str, Path]) -> Path:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(sorted(known))}."
    if not known:
        hint = f"expected a path: there is no folder of {kind}s here or beside the package."
    raise DataError(f"{kind}: found '{name}', {hint}")


def _run(args: argparse.Namespace) -> None:
    """Print a line for each bundle and each overlay."""
    rows = []
    for name, path in bundles().items():
        description = json.loads((path / "configs" / "metadata.json").read_text(encoding="utf-8")).get(
            "description", ""
        )
        weights = "with released weights" if has_weights(path) else "without weights"
        rows.append((name, f"{description.split('. ')[0].rstrip('.')} ({weights})."))
    _print("bundles", rows)
    for folder, title in _FOLDERS.items():
        _print(title, [(name, _first_comment(file)) for name, file in overlays(folder).items()])


def _print(title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        print(title, *(f"  {name:<32}{sentence}" for name, sentence in rows), "", sep="\n")


def _first_comment(file: Path) -> str:
    line = next((line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")), "")
    return line.removeprefix("#").strip()
