"""A zip of a folder that is the same, byte for byte, whenever and wherever the folder's files are."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

__all__ = ["CHECKSUMS", "rewrite_zip", "sha256", "write_checksums", "write_zip"]

CHECKSUMS = "SHA256SUMS"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` of all files of a folder into it, for ``sha256sum -c SHA256SUMS``.

    Args:
        folder: must have no such file yet.
    """
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _entry(name: str) -> zipfile.ZipInfo:
    """The header of a member: no time, no owner, and not compressed, as compressors differ from version to version."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, whatever the system: it is what gives the permissions their meaning
    entry.external_attr = 0o100644 << 16
    return entry


def write_zip(folder: Path, target: Path) -> None:
    """Zip a folder under its own name, sorted by path.

    Args:
        folder: what to zip.
        target: the zip; must not exist.
    """
    with zipfile.ZipFile(target, "x") as archive:
        for path in _files(folder):
            archive.writestr(_entry(path.relative_to(folder.parent).as_posix()), path.read_bytes())


def rewrite_zip(path: Path, without: tuple[str, ...]) -> None:
    """Write a zip again without some members and without times.

    Args:
        path: the zip.
        without: suffixes of the names to leave out.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith(without)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(_entry(name), content)
