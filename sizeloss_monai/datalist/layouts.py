"""The folder layouts of known data sets: how to recognise them and how to list their cases.

A builder scans a folder and returns items ``{"image", "label", "weak_label", "case", "patient", "group"}``, sorted by
case. Paths are relative to the folder, with forward slashes; `label`, `weak_label` and `group` are absent where there
is none. :py:data:`LAYOUTS` holds what is known of each layout, names of the labels included. Files that are found and
not used are logged with the reason; :py:func:`unused_files` lists them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from monai.config import PathLike
from monai.utils import ensure_tuple

from sizeloss_monai.data.names import (
    TEST_CASE,
    WEAK_LABEL_LEFT_OUT,
    Entry,
    Role,
    Unused,
    existing_path,
    expanded,
    image_stem,
    is_path,
    label_rank,
    log_unused,
    read_folder,
    unused_entries,
    unused_lines,
)
from sizeloss_monai.errors import DataError, listed
from sizeloss_monai.options import LayoutName

__all__ = [
    "SECTIONS",
    "Item",
    "LAYOUTS",
    "Layout",
    "acdc_items",
    "decathlon_items",
    "detect_layout",
    "folder_items",
    "layout_info",
    "promise12_items",
    "set_patients",
    "unused_files",
    "vertebral_items",
]

logger = logging.getLogger(__name__)

SECTIONS = ("training", "validation", "test")
"""The sections of a data list."""

Item = dict[str, Any]

_ACDC_PATIENT = re.compile(r"patient(\d{3})")
_ACDC_GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")  # of patients 001-020, 021-040, ..., 081-100
_PROMISE12_CASE = re.compile(r"Case\d{2}")
_VERTEBRAL_CASE = re.compile(r"Img_\d{2}")
_VERTEBRAL_LABEL = re.compile(r"Img_\d{2}_Labels")
_LABELS = frozenset({"label", "weak_label"})


@dataclass(frozen=True)
class Layout:
    """What is known of a layout.

    Args:
        name: name of the data set.
        description: one sentence on it.
        modality: the modality, in the words of the Decathlon's ``dataset.json``.
        labels: name of every class, by its id as a string. Empty where the layout does not tell.
        items: the builder, called with the folder and ``weak_labels=``.
        matches: whether a folder has this layout.
        folders: the folders that are searched, and what each is for.
        expected: what a folder of this layout holds, for messages.
        unannotated: the id of voxels in weak labels that nobody annotated, where it is not the usual 255.
    """

    name: str
    description: str
    modality: str
    labels: Mapping[str, str]
    items: Callable[..., list[Item]]
    matches: Callable[[Path], bool]
    folders: Callable[[Path], dict[Path, Role]]
    expected: str
    unannotated: int | None = None


def acdc_items(dataset_dir: PathLike, weak_labels: bool = False) -> list[Item]:
    """List the cases of ACDC: ``patientNNN/patientNNN_frameFF.nii.gz`` with ``_gt`` and ``_scribble`` beside it.

    The group (pathology) is that of the patient's ``Info.cfg``, otherwise that of the number: 001-020 DCM,
    021-040 HCM, 041-060 MINF, 061-080 NOR, 081-100 RV; none beyond.

    Args:
        dataset_dir: the folder of the patients, or the folder that holds it as ``training``.
        weak_labels: whether to list the scribbles as `weak_label`. Their id 4 means "not annotated".

    Returns:
        The items, sorted by case.

    Raises:
        DataError: if the folder does not exist or holds no such case.
    """
    root = _folder(dataset_dir)
    items = []
    for folder in _acdc_patients(root):
        frames = _items(root, {folder: "any"}, weak_labels, re.compile(rf"{folder.name}_frame\d+"))
        group = _acdc_group(folder)
        items += [{**item, "patient": folder.name, **({"group": group} if group else {})} for item in frames]
    return _found(items, root, "acdc")


def promise12_items(dataset_dir: PathLike, weak_labels: bool = False) -> list[Item]:
    """List the cases of PROMISE12: ``CaseNN.mhd`` with ``CaseNN_segmentation.mhd`` beside it.

    Args:
        dataset_dir: the folder of the files.
        weak_labels: whether to list ``CaseNN_weak_label`` or ``CaseNN_scribble`` as `weak_label`.

    Returns:
        The items, sorted by case.

    Raises:
        DataError: if the folder does not exist or holds no such case.
    """
    root = _folder(dataset_dir)
    return _found(_items(root, {root: "any"}, weak_labels, _PROMISE12_CASE), root, "promise12")


def vertebral_items(dataset_dir: PathLike, weak_labels: bool = False) -> list[Item]:
    """List the cases of the vertebral bodies of Chu et al. 2015 (Zenodo record 22304).

    23 sagittal T2-weighted turbo spin echo volumes of the lower spine, 39x305x305 voxels. The layout assumed is that
    of the archive unpacked into one folder, ``Img_NN.nii`` with ``Img_NN_Labels.nii`` beside it; the same names in
    sub-folders ``images`` and ``labels`` or ``masks`` (in any case of letters), and ``.nii.gz``, are accepted too.

    Args:
        dataset_dir: the folder of the files.
        weak_labels: whether to list ``Img_NN_weak_label`` or ``Img_NN_scribble`` as `weak_label`.

    Returns:
        The items, sorted by case. Every volume is a patient of its own.

    Raises:
        DataError: if the folder does not exist, holds no such case, or one twice.
    """
    root = _folder(dataset_dir)
    return _found(_items(root, _vertebral_folders(root), weak_labels, _VERTEBRAL_CASE), root, "vertebral")


def decathlon_items(dataset_dir: PathLike, weak_labels: bool = False, patient_pattern: str | None = None) -> list[Item]:
    """List the training cases of a Medical Segmentation Decathlon task: ``dataset.json``, ``imagesTr``, ``labelsTr``.

    The task's own test cases have no labels and are left out. Files named ``._*`` are ignored. Other keys of an
    entry, such as `size_bounds`, are kept.

    Args:
        dataset_dir: the folder of ``dataset.json``.
        weak_labels: whether to keep `weak_label` where an entry has one.
        patient_pattern: see :py:func:`set_patients`. Without it every case is a patient of its own: for
            Task04_Hippocampus, whose cases are the left and right crops of fewer subjects under unrelated numbers,
            nothing better can be known.

    Returns:
        The items, sorted by case.

    Raises:
        DataError: if the folder or its ``dataset.json`` does not exist or cannot be used.
    """
    root = _folder(dataset_dir)
    task = _decathlon_task(root)
    if task is None:
        raise DataError(f"no Decathlon task in '{root}': expected a dataset.json with a list 'training'.")
    entries = [entry for entry in task["training"] if not Path(ensure_tuple(entry["image"])[0]).name.startswith("._")]
    if task.get("numTraining", len(entries)) != len(entries):
        warnings.warn(
            f"'{root / 'dataset.json'}' says numTraining={task['numTraining']} but lists {len(entries)} cases.",
            stacklevel=2,
        )
    items = []
    for entry in entries:
        item = {key: value for key, value in entry.items() if key != "weak_label" or weak_labels}
        for key in {"image", "label", "weak_label"} & item.keys():
            paths = [_on_disk(root, path) for path in ensure_tuple(item[key])]
            item[key] = paths if isinstance(item[key], list) else paths[0]
        name = normalize("NFC", Path(ensure_tuple(item["image"])[0]).name)
        item.setdefault("case", image_stem(name) or name)
        item.setdefault("patient", item["case"])
        items.append(item)
    return set_patients(_found(items, root, "decathlon"), patient_pattern)


def folder_items(dataset_dir: PathLike, weak_labels: bool = False, patient_pattern: str | None = None) -> list[Item]:
    """List the cases of any folder whose files are matched by name.

    Either sub-folders ``images``, ``labels`` and ``weak_labels``, where a label has the name of its image, with or
    without one of the endings below; or one folder, where ``X.nii.gz`` is an image, ``X_label``, ``X_gt``, ``X_seg``,
    ``X_mask``, ``X-label``, ``X.seg`` and the like its label (:py:func:`sizeloss_monai.data.names.read_folder` has them
    all), and ``X_weak_label`` or ``X_scribble`` its weak label. Where a case has several labels, one is taken and a
    warning names the others. Formats are NIfTI, MetaImage and NRRD, and may differ between an image and its label.

    Args:
        dataset_dir: the folder.
        weak_labels: whether to list weak labels.
        patient_pattern: see :py:func:`set_patients`. Without it every case is a patient of its own.

    Returns:
        The items, sorted by case.

    Raises:
        DataError: if the folder does not exist, holds no image, a case twice, or a label without an image.
    """
    root = _folder(dataset_dir)
    items = _items(root, _case_folders(root), weak_labels)
    return set_patients(_found(items, root, "folder"), patient_pattern)


def set_patients(items: Sequence[Item], pattern: str | None) -> list[Item]:
    r"""Take the patient of every item from the name of its case.

    Args:
        items: the items.
        pattern: a regular expression searched in the case's name. The patient is its first group, or all that it
            matches: ``r"^(SCD\d+)_"`` gives ``SCD0000101`` for ``SCD0000101_ED``. ``None`` leaves the items as they
            are.

    Returns:
        New items.

    Raises:
        DataError: if the pattern is no regular expression or does not match a case.
    """
    if pattern is None:
        return list(items)
    try:
        regex = re.compile(pattern)
    except re.error as err:
        raise DataError(f"patient_pattern '{pattern}' is no regular expression: {err}.") from err
    matches = [regex.search(item["case"]) for item in items]
    unmatched = [item["case"] for item, match in zip(items, matches, strict=True) if match is None]
    if unmatched:
        raise DataError(f"patient_pattern '{pattern}' does not match {listed(unmatched)}.")
    return [
        {**item, "patient": match.group(min(1, regex.groups))}
        for item, match in zip(items, matches, strict=True)
        if match is not None
    ]


LAYOUTS: dict[LayoutName, Layout] = {
    "decathlon": Layout(
        "Decathlon",
        "A task in the layout of the Medical Segmentation Decathlon",
        "unknown",
        {},
        decathlon_items,
        lambda root: _decathlon_task(root) is not None,
        lambda root: _decathlon_folders(root),
        "a dataset.json with training cases",
    ),
    "acdc": Layout(
        "ACDC",
        "Automated Cardiac Diagnosis Challenge, end-diastolic and end-systolic frames (Bernard et al., TMI 2018)",
        "MRI",
        {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"},
        acdc_items,
        lambda root: bool(_acdc_patients(root)),
        lambda root: dict.fromkeys(_acdc_patients(root), "any"),
        "patientNNN/patientNNN_frameFF.nii.gz",
        unannotated=4,
    ),
    "promise12": Layout(
        "PROMISE12",
        "Prostate MR Image Segmentation 2012, T2-weighted (Litjens et al., MedIA 2014)",
        "MRI",
        {"0": "background", "1": "prostate"},
        promise12_items,
        lambda root: any(_PROMISE12_CASE.fullmatch(stem) for stem in _stems(root)),
        lambda root: {root: "any"},
        "CaseNN.mhd",
    ),
    "vertebral": Layout(
        "Vertebral bodies",
        "Vertebral bodies of the lower spine, T2-weighted (Chu et al., PLoS ONE 2015, Zenodo record 22304)",
        "MRI",
        {"0": "background", "1": "vertebral body"},
        vertebral_items,
        lambda root: any(
            _VERTEBRAL_LABEL.fullmatch(stem) for folder in _vertebral_folders(root) for stem in _stems(folder)
        ),
        lambda root: _vertebral_folders(root),
        "Img_NN.nii",
    ),
    "folder": Layout(
        "Folder",
        "Cases of a folder, matched by name",
        "unknown",
        {},
        folder_items,
        lambda root: bool(_stems(_sub_folders(root).get("images", root))),
        lambda root: _case_folders(root),
        "images in NIfTI, MetaImage or NRRD (of sub-folders only images, labels and weak_labels are searched)",
    ),
}
"""The known layouts, in the order in which they are tried."""


def detect_layout(dataset_dir: PathLike) -> LayoutName:
    """Recognise the layout of a folder.

    Args:
        dataset_dir: the folder.

    Returns:
        A key of :py:data:`LAYOUTS`.

    Raises:
        DataError: if the folder does not exist, is empty, or has none of the layouts.
    """
    root = _folder(dataset_dir)
    for key, layout in LAYOUTS.items():
        if layout.matches(root):
            return key
    raise DataError(
        f"'{root}' has no known layout ({', '.join(LAYOUTS)}): expected a dataset.json, patientNNN/, CaseNN.mhd, "
        "Img_NN.nii with Img_NN_Labels.nii, images/, or image files in NIfTI, MetaImage or NRRD"
        f"{_found_instead(root, 'folder')}."
    )


def unused_files(dataset_dir: PathLike, items: Sequence[Item], layout: LayoutName) -> list[Unused]:
    """Name all that a folder holds and its items do not use, with the reason.

    Args:
        dataset_dir: the folder.
        items: what the layout's builder made of it, with paths relative to the folder.
        layout: a key of :py:data:`LAYOUTS`.

    Returns:
        The files; of a sub-folder that is not searched, its name and the number of its files.

    Raises:
        DataError: if the folder does not exist or is empty.
    """
    root = _folder(dataset_dir)
    known = LAYOUTS[layout]
    searched = known.folders(root)
    used = [root / path for item in items for key in ("image", *_LABELS) for path in ensure_tuple(item.get(key, ()))]
    lists = (root / "dataset.json", root / "datalist.json", *(folder / "Info.cfg" for folder in searched))
    used += [file for file in lists if file.is_file()]
    above = {folder for file in used for folder in file.parents if folder.is_relative_to(root)}
    folders: dict[Path, Role] = {root: "any", **dict.fromkeys(sorted(above), "any"), **searched}
    by_case = {item["case"]: item for item in items}
    no_case = "outside of images, labels and weak_labels" if layout == "folder" else f"not named {known.expected}"

    def why(entry: Entry) -> tuple[str, str]:
        if layout == "decathlon":
            tests = entry.path.parent.name.lower() == "imagests"
            return TEST_CASE if tests else "not listed in dataset.json", ""
        if entry.kind == "image" or entry.path.parent not in searched:
            return no_case, ""
        if entry.case not in by_case:
            return "a label without an image", ""
        if entry.kind in by_case[entry.case]:
            return "another label of a case", f"{by_case[entry.case][entry.kind]} is taken"
        return WEAK_LABEL_LEFT_OUT, ""

    return unused_entries(root, folders, used, why, by_case)


def layout_info(dataset_dir: PathLike, layout: LayoutName) -> dict[str, Any]:
    """The metadata of a data set: that of its ``dataset.json`` if it is a Decathlon task, otherwise the layout's.

    Args:
        dataset_dir: the folder.
        layout: a key of :py:data:`LAYOUTS`.

    Returns:
        `name`, `description`, `labels` (name by class id) and `modality` (name by channel), in the Decathlon's form.
    """
    known = LAYOUTS[layout]
    info = {
        "name": known.name,
        "description": known.description,
        "labels": dict(known.labels),
        "modality": {"0": known.modality},
    }
    task = _decathlon_task(_folder(dataset_dir)) if layout == "decathlon" else None
    return {key: (task or {}).get(key, value) for key, value in info.items()}


def _folder(dataset_dir: PathLike) -> Path:
    """The folder as a path, if it exists and holds anything."""
    root = existing_path(dataset_dir)
    if not os.path.isdir(root):
        raise DataError(f"dataset_dir '{root}' is not a folder.")
    if not any(root.iterdir()):
        raise DataError(f"dataset_dir '{root}' is empty.")
    return root


def _found(items: list[Item], root: Path, layout: LayoutName) -> list[Item]:
    """The items sorted by case, if there are any. What is not used is logged."""
    if not items:
        raise DataError(f"no cases in '{root}': expected {LAYOUTS[layout].expected}{_found_instead(root, layout)}.")
    log_unused(logger, unused_files(root, items, layout), root)
    return sorted(items, key=lambda item: item["case"])


def _found_instead(root: Path, layout: LayoutName) -> str:
    """What a folder without cases holds, for an error."""
    lines = unused_lines(unused_files(root, [], layout))
    return f"; found {'; '.join(lines)}" if lines else ""


def _stems(folder: Path) -> set[str]:
    """The stems of the image files of a folder, annotations included."""
    return {entry.stem for entry in read_folder(folder) if entry.kind in {"image", *_LABELS}}


def _sub_folders(root: Path) -> dict[str, Path]:
    """The sub-folders by their names in lower case."""
    return {folder.name.lower(): folder for folder in sorted(root.iterdir()) if folder.is_dir()}


def _items(root: Path, folders: Mapping[Path, Role], weak_labels: bool, name: re.Pattern | None = None) -> list[Item]:
    """The items of some folders, each case a patient of its own.

    Args:
        root: the folder that paths are relative to.
        folders: the folders, and what each is for.
        weak_labels: whether to list weak labels.
        name: of the images that are cases; None for all of them.

    Raises:
        DataError: if a case is there twice, or, where `name` is None, a label has no image.
    """
    of_labels = {folder: role for folder, role in folders.items() if role in _LABELS}
    entries = _entries({folder: role for folder, role in folders.items() if folder not in of_labels})
    images: dict[str, Entry] = {}
    for entry in entries:
        if entry.kind != "image" or (name is not None and not name.fullmatch(entry.case)):
            continue
        if entry.case in images:
            first, second = sorted((images[entry.case].path, entry.path))
            raise DataError(f"case '{entry.case}' is there twice, as '{first.name}' and '{second.name}'.")
        images[entry.case] = entry
    items = {case: {"case": case, "patient": case, "image": _relative(root, images[case])} for case in images}
    entries += _entries(of_labels, images)
    if name is None:
        _check_orphans(entries, images)
    for entry in sorted(entries, key=label_rank):
        if entry.kind == "label" or (entry.kind == "weak_label" and weak_labels):
            # of several the first; `unused_files` names the others
            items.get(entry.case, {}).setdefault(entry.kind, _relative(root, entry))
    return list(items.values())


def _entries(folders: Mapping[Path, Role], cases: Iterable[str] = ()) -> list[Entry]:
    """All that some folders hold; `cases` are the known ones."""
    cases = set(cases)
    return [entry for folder, role in folders.items() for entry in read_folder(folder, role, cases)]


def _relative(root: Path, entry: Entry) -> str:
    """The path of an entry as items have it."""
    return entry.path.relative_to(root).as_posix()


def _check_orphans(entries: Sequence[Entry], images: Mapping[str, Entry]) -> None:
    """Raise an error for labels without an image, unless an image of their case is there that cannot be used."""
    known = images.keys() | {entry.stem for entry in entries if entry.kind == "unusable" and entry.stem}
    orphans = [entry for entry in entries if entry.kind in _LABELS and entry.case not in known]
    if orphans:
        weak = all(entry.kind == "weak_label" for entry in orphans)
        expected = "_weak_label or _scribble" if weak else "_label, _gt, _seg or _segmentation"
        raise DataError(
            f"labels without an image: {listed([entry.path.name for entry in orphans])}; expected the name of a scan, "
            f"such as X.nii.gz, or that with {expected} at its end."
        )


def _case_folders(root: Path) -> dict[Path, Role]:
    """The folders of a plain folder of cases."""
    folders = _sub_folders(root)
    if "images" not in folders:
        return {root: "any"}
    roles: dict[str, Role] = {"images": "image", "labels": "label", "weak_labels": "weak_label"}
    return {folders[name]: role for name, role in roles.items() if name in folders}


def _acdc_patients(root: Path) -> list[Path]:
    """The patients' folders, in `root` or in its sub-folder ``training``."""
    for parent in (root, root / "training"):
        if parent.is_dir():
            found = [path for path in parent.iterdir() if _ACDC_PATIENT.fullmatch(path.name) and path.is_dir()]
            if found:
                return sorted(found)
    return []


def _acdc_group(folder: Path) -> str | None:
    """The pathology of a patient, from ``Info.cfg`` or from the number."""
    info = folder / "Info.cfg"
    if info.is_file():
        match = re.search(r"^\s*Group:\s*(\S+)", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if match:
            return match.group(1)
    index = (int(folder.name.removeprefix("patient")) - 1) // 20
    return _ACDC_GROUPS[index] if 0 <= index < len(_ACDC_GROUPS) else None


def _vertebral_folders(root: Path) -> dict[Path, Role]:
    """The folders that may hold the files of the vertebral bodies."""
    roles: dict[str, Role] = {"images": "image", "labels": "label", "masks": "label"}
    folders = {folder: roles[name] for name, folder in _sub_folders(root).items() if name in roles}
    return {root: "any", **folders}


def _decathlon_folders(root: Path) -> dict[Path, Role]:
    """The folders of a Decathlon task."""
    return {
        folder: "any" for name, folder in _sub_folders(root).items() if name in ("imagestr", "labelstr", "imagests")
    }


def _on_disk(root: Path, path: str) -> str:
    """A path of a list, relative to `root`, in the form that the disk has."""
    found = existing_path(root / expanded(path))
    return (found.relative_to(root) if found.is_relative_to(root) else found).as_posix()


def _decathlon_task(root: Path) -> dict[str, Any] | None:
    """The content of ``dataset.json``, if there is one with a list of training cases."""
    file = root / "dataset.json"
    if not file.is_file():
        return None
    try:
        task = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as err:
        raise DataError(f"'{file}' is not valid JSON: {err}.") from err
    entries = task.get("training") if isinstance(task, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "image" in entry for entry in entries):
        return None
    for i, entry in enumerate(entries):
        for key in ("image", "label", "weak_label"):
            if key in entry and not is_path(entry[key]):
                raise DataError(f"'{file}', training[{i}], key '{key}': found {entry[key]!r}, expected a file.")
    return task
