"""What a folder holds: its images, their annotations, and the files that cannot be used, with the reason.

This module alone decides what a file's name says. It compares names in Unicode's composed form (NFC), since some
systems store ``é`` as one character and others as two; paths keep the form that the disk has.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from monai.config import PathLike

from sizeloss_monai.errors import counted, listed

__all__ = [
    "IMAGE_SUFFIXES",
    "LEFT_OUT",
    "TEST_CASE",
    "WEAK_LABEL_LEFT_OUT",
    "Entry",
    "Role",
    "Unused",
    "existing_path",
    "expanded",
    "image_stem",
    "is_path",
    "label_rank",
    "log_unused",
    "no_file_reason",
    "read_folder",
    "unused_entries",
    "unused_lines",
]

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mhd", ".mha", ".nrrd", ".nhdr")

Kind = Literal["image", "label", "weak_label", "folder", "unusable"]
_LABELS = ("label", "weak_label")
Role = Literal["any", "image", "label", "weak_label"]
"""What a folder is for: ``"any"`` holds scans and annotations side by side."""

# Words that name an annotation. If a case has several labels, the one whose word comes first is taken.
_SEPARATOR = r"[_\-. ]"
_WEAK_WORDS = (rf"weak{_SEPARATOR}*labels?", r"scribbles?", r"strokes?")
_LABEL_WORDS = (
    r"labels?",
    r"gts?",
    rf"ground{_SEPARATOR}*truths?",
    r"segmentations?",
    r"segs?",
    r"masks?",
    r"annotations?",
    rf"label{_SEPARATOR}*maps?",
    r"contours?",
    r"rois?",
)
_ENDING = re.compile(
    rf"(?:^|{_SEPARATOR}+)(?:(?P<weak>{'|'.join(_WEAK_WORDS)})|{'|'.join(_LABEL_WORDS)})$", re.IGNORECASE
)
_BEGINNING = re.compile(
    rf"(?:{'|'.join((*_WEAK_WORDS, *_LABEL_WORDS))})(?:{_SEPARATOR}+|(?=\d))(?P<rest>.+)", re.IGNORECASE
)
_PART = re.compile(rf"{_SEPARATOR}|(?<=[^\W\d_])(?=\d)")
"""Where the last part of a name may begin: ``0`` in ``volume-0``, ``0001`` in ``img0001``."""
_WORD = re.compile(
    rf"(?:^|{_SEPARATOR})(?:{'|'.join((*_WEAK_WORDS, *_LABEL_WORDS))})\d*(?:$|{_SEPARATOR})", re.IGNORECASE
)

_DANGLING = "a link that points to nothing"
_FORBIDDEN = "a file that may not be read"
_FOLDER = "a folder"
_HIDDEN = "hidden"
_NO_IMAGE = "not an image"
LEFT_OUT = "left out by the pattern"
WEAK_LABEL_LEFT_OUT = "weak labels, which were not asked for"
TEST_CASE = "test cases of the Decathlon, without labels"
_MINOR = frozenset({_HIDDEN, _NO_IMAGE, LEFT_OUT, WEAK_LABEL_LEFT_OUT, TEST_CASE})
"""The reasons of files that no user means to use, and of files that the settings leave out."""
_TEXT_SUFFIXES = (
    *(".json", ".txt", ".md", ".rst", ".csv", ".tsv", ".log", ".xml", ".yaml", ".yml", ".cfg", ".ini", ".html", ".pdf"),
    *(".doc", ".docx", ".xls", ".xlsx", ".bval", ".bvec", ".py", ".sh", ".md5", ".sha256"),
)
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz")
_MOST_COUNTED = 1000
"""How many files of a sub-folder are counted: it may be the root of a whole disk."""


@dataclass(frozen=True)
class Entry:
    """What one entry of a folder is.

    Args:
        path: where it is.
        kind: ``"unusable"`` for files that are neither an image nor an annotation.
        stem: its name without the suffix of an image, in NFC.
        case: the stem of an image, or of an annotation the stem without its ending: ``a`` for ``a_mask.nii.gz``.
        reason: why it cannot be used. Empty for images and annotations.
    """

    path: Path
    kind: Kind
    stem: str = ""
    case: str = ""
    reason: str = ""


class Unused(NamedTuple):
    """A file that was found and is not used.

    Args:
        name: its path, relative to the folder that was searched.
        reason: why it is not used, in the same words for all files of the kind.
        note: more on this file, such as the name of the file taken in its place.
        minor: whether no user would miss it: hidden files, texts, and files that the settings leave out.
    """

    name: str
    reason: str
    note: str = ""
    minor: bool = False


def image_stem(name: str) -> str:
    """A file's name without the suffix of an image; empty if it has none."""
    return next((name[: -len(suffix)] for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), "")


def is_path(value: Any) -> bool:
    """Whether a value of JSON is a path or a list of paths, one a channel."""
    paths = value if isinstance(value, list) else [value]
    return bool(paths) and all(isinstance(path, str) and path for path in paths)


def expanded(path: PathLike) -> Path:
    """A path whose ``~`` is the home folder. The ``~`` of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))


def existing_path(path: PathLike) -> Path:
    """The existing file that a path means, with ``~`` expanded, in the Unicode form that the disk has.

    Without such a file it is `path` itself.
    """
    path = expanded(path)
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        child = found / part
        if not os.path.lexists(child) and os.path.isdir(found):
            name = _composed(part)
            child = next((other for other in sorted(found.iterdir()) if _composed(other.name) == name), child)
        found = child
    return found if os.path.lexists(found) else path


def no_file_reason(path: Path) -> str:
    """Why a path cannot be read as a file; empty if it can."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        return _FORBIDDEN
    except (OSError, ValueError):  # names that are too long or hold a zero byte are nowhere
        return _DANGLING if os.path.islink(path) else "nothing"
    if stat.S_ISDIR(mode):
        return _FOLDER
    if not stat.S_ISREG(mode):
        return "neither a file nor a folder"
    return "" if os.access(path, os.R_OK) else _FORBIDDEN


def label_rank(entry: Entry) -> tuple[bool, int, str]:
    """A key to sort the annotations of a case by; the first is taken.

    First comes a file with the scan's own name, then the word at the end decides (label, gt, ground truth,
    segmentation, seg, mask, ...), then the name.
    """
    words = enumerate((*_WEAK_WORDS, *_LABEL_WORDS))
    rank = next((i for i, word in words if re.search(rf"{_SEPARATOR}(?:{word})$", entry.stem, re.IGNORECASE)), -1)
    return entry.stem != entry.case, rank, entry.path.name


def read_folder(folder: Path, role: Role = "any", cases: Collection[str] = ()) -> list[Entry]:
    """Say of every entry of a folder what it is.

    Images have a suffix of :py:data:`IMAGE_SUFFIXES`, in any case of letters. An annotation has a word such as `label`,
    `gt`, `seg`, `segmentation`, `mask`, `roi`, `scribble` or `weak_label` at the end of its stem, after ``_``, ``-``,
    ``.`` or a space, in any case of letters, singular or plural.

    Args:
        folder: the folder. Its sub-folders are not searched.
        role: what the folder is for. In a folder of images, a file is an annotation only beside its scan; in a folder
            of labels every image file is one.
        cases: names of cases, which labels of a folder of labels may have without an ending.

    Returns:
        The entries, sorted by name.
    """
    entries = [_entry(path) for path in sorted(folder.iterdir(), key=lambda path: path.name)]
    if role in ("label", "weak_label"):
        return [_as_label(entry, role, cases) for entry in entries]
    scans: set[str] = set()
    for entry in sorted(entries, key=lambda entry: len(entry.stem)):  # a scan before its annotations
        named_otherwise = role == "image" and entry.kind in _LABELS and _annotation(entry.stem, scans)[0] not in scans
        if entry.kind == "image" or named_otherwise:
            scans.add(entry.stem)
    # segmentation-0 beside volume-0
    last_parts = {stem[part.end() :] for stem in scans if not _BEGINNING.match(stem) for part in _PART.finditer(stem)}
    return [_beside_scans(entry, scans, last_parts) for entry in entries]


def unused_entries(
    root: Path,
    folders: Mapping[Path, Role],
    used: Iterable[Path],
    why: Callable[[Entry], tuple[str, str]],
    cases: Collection[str] = (),
) -> list[Unused]:
    """All that some folders hold, less what is used, in the order of the folders and by name.

    Args:
        root: the folder that names are relative to.
        folders: the folders that were searched, and what each is for.
        used: the files that are used. The voxel files that their headers name are used, too.
        why: the reason and a note for an image or an annotation that is not used.
        cases: names of the cases, see :py:func:`read_folder`.
    """
    headers = list(used)
    voxels = [file for header in headers for file in _voxel_files(header)]
    taken = {os.path.abspath(path) for path in (*headers, *voxels)}
    searched = {os.path.abspath(folder) for folder in folders}
    unused = []
    for folder, role in folders.items():
        for entry in read_folder(folder, role, cases):
            place = os.path.abspath(entry.path)
            if place in taken or place in searched:
                continue
            reason, note = (entry.reason, "") if entry.reason else why(entry)
            name = entry.path.relative_to(root).as_posix()
            if entry.kind == "folder":
                name, note = f"{name}/", _number_of_files(entry.path)
            unused.append(Unused(name, reason, note, reason in _MINOR))
    return unused


def unused_lines(unused: Iterable[Unused], limit: int = 10) -> list[str]:
    """Files that are not used, one line a reason with up to `limit` names.

    For instance ``["hidden (2): ._a.nii.gz, .DS_Store", "a link that points to nothing (1): b.nii.gz"]``.
    """
    names: dict[str, list[str]] = {}
    for file in unused:
        names.setdefault(file.reason, []).append(_printable(file.name) + (f" ({file.note})" if file.note else ""))
    return [f"{reason} ({len(of_reason)}): {listed(of_reason, limit)}" for reason, of_reason in names.items()]


def log_unused(logger: logging.Logger, unused: Collection[Unused], folder: Path) -> None:
    """Log the files of a folder that are not used, by reason: minor ones as information, others as warnings."""
    for minor, level in ((False, logging.WARNING), (True, logging.INFO)):
        for line in unused_lines(file for file in unused if file.minor is minor):
            logger.log(level, "not used in '%s': %s", _printable(folder.name), line)


def _composed(name: str) -> str:
    """A name in Unicode's composed form."""
    return unicodedata.normalize("NFC", name)


def _printable(name: str) -> str:
    """A name for a message, with escapes for line ends and bytes that are not text."""
    return name if name.isprintable() else ascii(name)


def _entry(path: Path) -> Entry:
    """What an entry is by itself, whatever lies beside it."""
    name = _composed(path.name)
    if name.startswith("."):
        return Entry(path, "unusable", reason=_HIDDEN)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return Entry(path, "unusable", reason="a name with control characters, or not in UTF-8: rename it")
    stem, reason = image_stem(name), no_file_reason(path)
    if reason == _FOLDER:
        reason = "a folder named like an image" if stem else "a sub-folder that is not searched"
        return Entry(path, "folder", stem, reason=reason)
    reason = reason or ("" if stem else _no_image_reason(path))
    if reason:
        return Entry(path, "unusable", stem, _annotation(stem)[0], reason)
    case, kind = _annotation(stem)
    return Entry(path, kind, stem, case)


def _annotation(stem: str, cases: Collection[str] = ()) -> tuple[str, Kind]:
    """The case that a stem names, and what its endings say: there may be several, as in ``a_gt.seg.nrrd``.

    If several of the known `cases` fit, the one with the longest name is meant.
    """
    case = stem
    kind: Kind = "image"
    while match := _ENDING.search(case):
        kind = "weak_label" if match["weak"] or kind == "weak_label" else "label"
        case = case[: match.start()]
        if case in cases:
            break
    return case, kind


def _no_image_reason(path: Path) -> str:
    """Why a file without the suffix of an image cannot be used."""
    name = path.name.lower()
    if name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz")):
        return "half of an .hdr/.img pair, convert it to .nii"
    if name.endswith((".dcm", ".dicom", ".ima")) or name == "dicomdir" or _is_dicom(path):
        return "DICOM, use sizeloss-monai dicom or convert it to .nii"
    if name.endswith(_PACKED_SUFFIXES):
        return "a packed file other than .nii.gz, unpack it"
    if name.endswith(_TEXT_SUFFIXES):
        return _NO_IMAGE
    return f"an unknown kind of file, expected {', '.join(IMAGE_SUFFIXES)}"


def _is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _as_label(entry: Entry, role: Kind, cases: Collection[str]) -> Entry:
    """An entry of a folder of labels. A label is weak if its folder or its name says so."""
    if entry.kind not in ("image", *_LABELS):
        return entry
    case = entry.stem if entry.stem in cases else _annotation(entry.stem, cases)[0]
    return replace(entry, kind="weak_label" if "weak_label" in (role, entry.kind) else "label", case=case)


def _beside_scans(entry: Entry, scans: Collection[str], last_parts: Collection[str]) -> Entry:
    """An entry of a folder of scans, seen beside the stems of the `scans` and the last parts of these stems."""
    if entry.kind not in ("image", *_LABELS):
        return entry
    if entry.kind in _LABELS and entry.stem not in scans:
        case, kind = _annotation(entry.stem, scans)
        if case in scans:
            return replace(entry, kind=kind, case=case)
    beginning = _BEGINNING.match(entry.stem)
    like = beginning is not None and beginning["rest"] in last_parts
    for separator in re.finditer(_SEPARATOR, entry.stem):
        head, tail = entry.stem[: separator.start()], entry.stem[separator.end() :]
        like |= (head in scans and bool(_WORD.search(tail))) or (tail in scans and bool(_WORD.search(head)))
    if like:
        return replace(entry, kind="unusable", reason="named like an annotation of a scan, but not X_label")
    return replace(entry, kind="image", case=entry.stem) if entry.stem in scans else entry


def _voxel_files(header: Path) -> list[Path]:
    """The files of voxels that a detached header (``.mhd``, ``.nhdr``) names."""
    if not header.name.lower().endswith((".mhd", ".nhdr")) or no_file_reason(header):
        return []
    with header.open("rb") as file:
        lines = file.read(1 << 20).decode("utf-8", "surrogateescape").splitlines()
    # "ElementDataFile = a.raw", "data file: a.raw", or after "LIST" one name a line
    names = {re.split(r"[=:]", line, maxsplit=1)[-1].strip() for line in lines}
    found = [header.parent / name for name in names if name and "\0" not in name]
    for pattern in (name.split()[0] for name in names if "%" in name):  # slice%03d.raw 1 9 1
        regex = re.compile(re.sub(r"%0?\d*d", r"\\d+", re.escape(pattern)))
        found += [file for file in header.parent.iterdir() if regex.fullmatch(file.name)]
    return found


def _number_of_files(folder: Path) -> str:
    """The number of files in a folder and all below it, in words."""
    number = 0
    for _, _, files in os.walk(folder):
        number += len(files)
        if number > _MOST_COUNTED:
            return f"more than {_MOST_COUNTED} files"
    return counted(number, "file")
