"""The DICOM instances of a folder, without their pixels."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import DataElement, Dataset, FileDataset, FileMetaDataset, dcmread
from pydicom.charset import convert_encodings, python_encoding
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VM, keyword_for_tag
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from sizeloss_monai.errors import DataError, listed

__all__ = [
    "FolderContents",
    "Instance",
    "Unused",
    "data_error",
    "decode_elements",
    "find_instances",
    "is_scan",
    "missing_uids",
    "read_instances",
]

logger = logging.getLogger(__name__)

_DERIVED = ("SEG", "SR", "PR", "KO", "RTSTRUCT", "DOC", "REG", "FID", "RWV")  # modalities without a scan
_SCANNERS = (MRImageStorage, CTImageStorage, PositronEmissionTomographyImageStorage)
_IDENTITY = {
    "SOPClassUID": "SOP Class UID",
    "SOPInstanceUID": "SOP Instance UID",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
}
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_HEAD = 1024  # first bytes, which show the type of a file
_MAX_SLICE_BYTES = 1 << 30  # a larger slice is damaged and must not be allocated
_DICOM_SUFFIXES = {".dcm", ".dicom", ".dic", ".dc3", ".ima", ".mr", ".ct", ".acr"}
_NEVER_SLICES = {"dicomdir", "thumbs.db", "desktop.ini", "lockfile", "version"}
_ALIASES = {"UTF8": "ISO_IR 192", "ISO88591": "ISO_IR 100", "LATIN1": "ISO_IR 100"}
_EXTENSIONS = {f"ISO 2022 IR {number}" for number in (58, 87, 149, 159)}  # never the first term: that is ASCII
_SIGNATURES = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a file packed by gzip",
    b"\0\5\26\7": "macOS's notes on another file",
    b"MZ": "a program",
    b"\x7fELF": "a program",
}


@dataclass(frozen=True)
class Instance:
    """One DICOM file.

    Args:
        path: of the file.
        header: its data set without pixel data, every text decoded.
        problem: what is wrong with its pixel data or with their rescale values; None if they can be used.
    """

    path: Path
    header: Dataset
    problem: str | None = None


class Unused(NamedTuple):
    """A file that was found but not used.

    Args:
        path: of the file, or of a folder that was read under another name.
        reason: why it was not used.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class FolderContents:
    """The contents of a folder.

    Args:
        instances: sorted by their SOP Instance UID.
        unused: all other files, in the order of their names.
    """

    instances: list[Instance]
    unused: list[Unused]


class _UnreadableError(Exception):
    """A file is not a DICOM file, or is damaged.

    Args:
        reason: what was found.
        dicom: whether its first bytes are those of a DICOM file; None where they do not show it.
    """

    def __init__(self, reason: str, *, dicom: bool | None = None) -> None:
        super().__init__(reason)
        self.dicom = dicom


def data_error(message: str) -> DataError:
    """An error in one line, whatever characters its file names and values hold."""
    return DataError("".join(character if character.isprintable() else "?" for character in message))


def read_instances(path: str | Path | Iterable[str | Path]) -> list[Instance]:
    """Read the headers of the DICOM files of a folder, and log the files that are not used.

    Args:
        path: see :py:func:`find_instances`.

    Returns:
        The instances, sorted by their SOP Instance UID.

    Raises:
        DataError: see :py:func:`find_instances`.
    """
    contents = find_instances(path)
    if contents.unused:
        names = [f"{file.path.name} ({file.reason})" for file in contents.unused]
        logger.warning("did not use %d files: %s", len(names), listed(names, 5))
    return contents.instances


def find_instances(path: str | Path | Iterable[str | Path]) -> FolderContents:
    """Read the headers of the DICOM files of a folder and its sub-folders, linked ones too.

    Of a file's pixels only the length is checked. An image without preamble and file meta information is read too. A
    file that cannot be read but could be a slice, by its name and its first bytes, is an error: without it the series
    would be incomplete.

    Args:
        path: a folder, or the files themselves. Names and their order do not matter.

    Returns:
        The instances, and the files that are not used. Two equal files of one instance count once.

    Raises:
        DataError: when DICOM files are missing, two files of one instance differ, a file that could be a slice cannot
            be read, or an image lacks one of its UIDs.
    """
    unused: list[Unused] = []
    if isinstance(path, (str, Path)):
        root = Path(path)
        if not root.is_dir():
            raise data_error(f"key 'image': found no folder at {str(path)!r}, expected one with a DICOM series.")
        files = sorted(_walk(root, unused))
    else:
        files = [Path(file) for file in path]
    found: dict[str, Instance] = {}
    unreadable: list[Unused] = []
    for file in files:
        try:
            instance = _read(file)
        except _UnreadableError as err:
            (unreadable if _could_be_slice(file.name, err.dicom) else unused).append(Unused(file, str(err)))
            continue
        missing = missing_uids(instance.header)
        if missing and (is_scan(instance.header) or not UID(str(instance.header.get("SOPClassUID") or "")).keyword):
            raise data_error(f"key 'image', file '{file.name}': found no {' and no '.join(missing)}, expected one.")
        if missing:
            unused.append(Unused(file, f"a DICOM object without {' and '.join(missing)}"))
            continue
        first = found.setdefault(str(instance.header.SOPInstanceUID), instance)
        if first is instance:
            continue
        if first.path.read_bytes() != file.read_bytes():
            raise data_error(
                f"key 'image': found two different files of one instance, '{first.path.name}' and '{file.name}', "
                "expected each SOP Instance UID once."
            )
        unused.append(Unused(file, f"the same instance as '{first.path.name}'"))
    if unreadable:
        first_name, reason = unreadable[0].path.name, unreadable[0].reason
        others = [f"'{file.path.name}' ({file.reason})" for file in unreadable[1:]]
        also = f". The same holds for {listed(others, 5)}" if others else ""
        raise data_error(
            f"key 'image', file '{first_name}': found {reason}, expected a whole DICOM file: "
            f"the series may be incomplete{also}."
        )
    if not found:
        where = f"'{path}'" if isinstance(path, (str, Path)) else "the given files"
        names = [f"{file.path.name} ({file.reason})" for file in unused]
        beside = f", only {listed(names, 5)}" if names else ""
        raise data_error(f"key 'image': found no DICOM file in {where}{beside}, expected a series.")
    return FolderContents([found[uid] for uid in sorted(found)], sorted(unused))


def is_scan(header: Dataset) -> bool:
    """Whether a DICOM object is an image of a scan, not a segmentation, a report or the like."""
    sop_class = UID(str(header.get("SOPClassUID") or ""))
    if sop_class in _SCANNERS:  # even where the modality is wrong: no slice must be lost
        return True
    if sop_class.keyword:
        image = sop_class.keyword.endswith("ImageStorage")
    else:  # a private or damaged class: an element that describes pixels makes it an image
        image = not sop_class.is_valid or len(header.group_dataset(0x0028)) > 0
    return image and header.get("Modality") not in _DERIVED


def missing_uids(header: Dataset) -> list[str]:
    """Names of the UIDs that an instance must have but lacks."""
    return [name for keyword, name in _IDENTITY.items() if not str(header.get(keyword) or "").strip()]


def decode_elements(dataset: Dataset, inherited: Sequence[str] = ()) -> list[str]:
    """Decode every element of a data set in place, at any depth; its character set becomes UTF-8.

    An element whose value contradicts its type, such as a weight of "80 kg", is removed; where it is needed, a later
    check finds that it is missing. Where the standard allows one value and the file has several, the first stays;
    several UIDs are removed. A misspelt or unknown character set does not stop the decoding.

    Args:
        dataset: as it was read.
        inherited: the character set of the data set around it.

    Returns:
        Keywords of the removed elements, without those inside sequences.
    """
    terms = _character_set(dataset, inherited)
    dataset.pop("SpecificCharacterSet", None)
    implicit, little = dataset.original_encoding
    dataset.set_original_encoding(implicit, little, convert_encodings(terms))
    removed = []
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                for item in element.value:
                    decode_elements(item, terms)
                    del item.SpecificCharacterSet  # it inherits that of the outer data set
            elif element.VM > 1 and not tag.is_private and dictionary_VM(tag) == "1":
                element.value = _single(element)
            if element.VR in ("DS", "IS"):
                for value in element.value if element.VM > 1 else [element.value]:
                    float(value or 0)
        except Exception:  # pydicom raises whatever a malformed value leads to
            del dataset[tag]
            removed.append(keyword_for_tag(tag))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return removed


def _single(element: DataElement) -> Any:
    """The first of several values."""
    if element.VR == "UI":
        raise ValueError("several UIDs")  # which one is right is unknown
    return element.value[0]


def _walk(folder: Path, unused: list[Unused]) -> Iterator[Path]:
    """The files of a folder and its sub-folders; links are followed, and each folder is read once."""

    def refuse(err: OSError) -> None:
        raise data_error(f"key 'image': found a folder '{err.filename}' that cannot be read ({err.strerror}).") from err

    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            unused.append(Unused(Path(parent), "a link to a folder that is read already"))
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(parent, name) for name in names)


def _read(file: Path) -> Instance:
    """The instance in a file."""
    if not file.exists():
        raise _UnreadableError(f"a link to nothing, '{os.readlink(file)}'" if file.is_symlink() else "no such file")
    if not file.is_file():
        raise _UnreadableError("something that is not a regular file")
    if file.name.upper() == "DICOMDIR":
        raise _UnreadableError("the directory of a DICOM medium", dicom=False)
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError as err:
        raise _UnreadableError(f"a file that cannot be opened ({err.strerror})") from err
    if not head:
        raise _UnreadableError("an empty file")
    # later checks name what matters; no value may show in a log or a warning
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(file)
        except InvalidDicomError:
            dataset = _read_without_preamble(file, head)
        except Exception as err:  # pydicom raises whatever a damaged byte leads to
            raise _UnreadableError(f"a DICOM file that cannot be read ({type(err).__name__})", dicom=True) from err
        if "DirectoryRecordSequence" in dataset:
            raise _UnreadableError("the directory of a DICOM medium", dicom=False)
        if not dataset:
            raise _UnreadableError("a DICOM file without any element", dicom=True)
        removed = decode_elements(dataset)
        problem = _pixel_problem(dataset)
        for keyword in {"RescaleSlope", "RescaleIntercept"} & set(removed):  # GDCM would use another number
            problem = problem or f"a {keyword} that is not a number"
        for keyword in _PIXEL_KEYWORDS:
            if keyword in dataset:
                delattr(dataset, keyword)
    return Instance(file, dataset, problem)


def _read_without_preamble(file: Path, head: bytes) -> FileDataset:
    """The data set of a file that begins with its first element, which shows byte order and encoding."""
    beginning = re.match(rb"(?:\x08\0|\x02\0|\0\x08|\0\x02)", head)  # group 8 or 2, little or big endian
    try:
        if beginning is None:
            raise InvalidDicomError
        dataset = dcmread(file, force=True)
        if not (dataset.get("SOPClassUID") and any(keyword in dataset for keyword in _PIXEL_KEYWORDS)):
            raise InvalidDicomError
    except Exception as err:  # see `_read`
        raise _no_dicom(head) from err
    implicit, little = dataset.original_encoding
    if "TransferSyntaxUID" not in dataset.file_meta and not dataset["PixelData"].is_undefined_length:
        dataset.file_meta = FileMetaDataset()
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return dataset


def _no_dicom(head: bytes) -> _UnreadableError:
    """The error for a file that is not a DICOM file, by its first bytes."""
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return _UnreadableError(kind, dicom=False)
    text = head.decode("utf-8", errors="replace")
    text = text[:-1] if len(head) == _HEAD else text  # the last character may be cut
    if "\N{REPLACEMENT CHARACTER}" not in text and re.sub(r"[\r\n\t]", "", text).isprintable():
        return _UnreadableError("a text", dicom=False)
    return _UnreadableError("a file that is not a DICOM file, or has lost its beginning")


def _could_be_slice(name: str, dicom: bool | None) -> bool:
    """Whether an unreadable file may be a slice: by its first bytes, or by a suffix of DICOM or none."""
    name = name.lower()
    if name.startswith("._") or name in _NEVER_SLICES:
        return False
    if dicom or _DICOM_SUFFIXES & set(Path(name).suffixes):
        return True
    return dicom is None and not name.startswith(".") and re.search(r"\.[a-z][a-z0-9]*$", name) is None


def _pixel_problem(dataset: FileDataset) -> str | None:
    """What is wrong with the length of the pixel data. Compressed pixels are checked when they are decoded."""
    if "PixelData" not in dataset:
        return "no pixel data"
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    if not syntax.is_transfer_syntax:
        return "no transfer syntax"
    try:
        found, expected = len(dataset.PixelData), get_expected_length(dataset)
    except Exception:  # see `_read`
        return "no usable number of rows, columns or bits"
    if expected > _MAX_SLICE_BYTES:
        return f"a header that claims {expected} bytes for one slice"
    if syntax.is_compressed and not syntax.is_deflated:
        return None
    return None if found >= expected else f"{found} bytes of pixel data where the header says {expected}"


def _character_set(dataset: Dataset, inherited: Sequence[str]) -> list[str]:
    """The known terms of a character set (PS3.3 C.12.1.1.2), with their spelling corrected."""
    if "SpecificCharacterSet" not in dataset:
        return list(inherited)
    try:
        value = dataset.SpecificCharacterSet
    except Exception:  # see `_read`
        return []
    terms = []
    for index, entry in enumerate([value] if isinstance(value, str) else list(value or ())):
        term = str(entry or "").strip().upper()
        if match := re.fullmatch(r"ISO[ _-]?(2022[ _-]?)?IR[ _-]?(\d+)", term):
            term = f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"
        term = _ALIASES.get(re.sub("[ _-]", "", term), term)
        if term in python_encoding and (term or index == 0):
            terms.append(term)
    return ["", *terms] if terms and terms[0] in _EXTENSIONS else terms
