"""The folder layouts of known data sets: how to recognise them and how to list their cases.

An item is ``{"image", "label", "weak_label", "case", "patient", "group"}``. Its paths are relative to the folder, with
forward slashes; it has no `label`, `weak_label` or `group` where there is none. Files that are found and not used are
logged with the reason; :py:func:`unused_files` lists them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    "LAYOUTS",
    "SECTIONS",
    "Item",
    "Layout",
    "detect_layout",
    "find_items",
    "layout_info",
    "set_patients",
    "unused_files",
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
        matches: whether a folder has this layout.
        folders: the folders to search, and what each is for.
        expected: what a folder of this layout holds, for messages.
        case: the form of an image's name without suffix; None for any name.
        modality: in the words of the Decathlon's ``dataset.json``.
        labels: name of every class, by its id as a string. Empty where the layout does not tell.
        unannotated: the id of unannotated voxels in weak labels; None for 255.
        build: lists the cases of a folder, with weak labels or without, where names alone do not tell them.
    """

    name: str
    description: str
    matches: Callable[[Path], bool]
    folders: Callable[[Path], dict[Path, Role]]
    expected: str
    case: re.Pattern[str] | None = None
    modality: str = "unknown"
    labels: Mapping[str, str] = field(default_factory=dict)
    unannotated: int | None = None
    build: Callable[[Path, bool], list[Item]] | None = None


def find_items(
    dataset_dir: PathLike, layout: LayoutName, weak_labels: bool = False, patient_pattern: str | None = None
) -> list[Item]:
    """List the cases of a folder.

    - ``"acdc"``: ``patientNNN/patientNNN_frameFF.nii.gz`` with ``_gt`` and ``_scribble`` beside it, in the folder or in
      its sub-folder ``training``. The group (pathology) is that of the patient's ``Info.cfg``, otherwise that of the
      number: 001-020 DCM, 021-040 HCM, 041-060 MINF, 061-080 NOR, 081-100 RV. Scribbles have 4 where voxels are not
      annotated.
    - ``"promise12"``: ``CaseNN.mhd`` with ``CaseNN_segmentation.mhd`` beside it.
    - ``"vertebral"``: the archive of Chu et al. 2015 (Zenodo record 22304) in one folder, ``Img_NN.nii`` with
      ``Img_NN_Labels.nii`` beside it, or the same names in sub-folders ``images`` and ``labels`` or ``masks``.
    - ``"decathlon"``: the cases that ``dataset.json`` lists under ``training``, with all keys of their entries. Test
      cases have no labels and are left out, as are files named ``._*``. Task04_Hippocampus has left and right crops of
      fewer subjects under unrelated numbers: each counts as a patient.
    - ``"folder"``: sub-folders ``images``, ``labels`` and ``weak_labels``, where a label has the name of its image,
      with or without an ending; or one folder, where ``X.nii.gz`` is an image, ``X_label``, ``X_gt``, ``X_seg`` and
      the like its label, and ``X_weak_label`` or ``X_scribble`` its weak label, see
      :py:func:`sizeloss_monai.data.names.read_folder`. Formats are NIfTI, MetaImage and NRRD.

    If a case has several labels, one is taken and a warning names the others.

    Args:
        dataset_dir: the folder.
        layout: how its files lie.
        weak_labels: whether to list weak labels.
        patient_pattern: see :py:func:`set_patients`. Without it a case is a patient of its own, but in ACDC.

    Returns:
        The items, sorted by case.

    Raises:
        DataError: when the folder does not exist, holds no case or one twice, a label has no image, or ``dataset.json``
            cannot be used.
    """
    root, known = _folder(dataset_dir), LAYOUTS[layout]
    if known.build is not None:
        items = known.build(root, weak_labels)
    else:
        items = _items(root, known.folders(root), weak_labels, known.case)
    if not items:
        raise DataError(f"no cases in '{root}': expected {known.expected}{_found_instead(root, layout)}.")
    log_unused(logger, unused_files(root, items, layout), root)
    return set_patients(sorted(items, key=lambda item: item["case"]), patient_pattern)


def _acdc_items(root: Path, weak_labels: bool) -> list[Item]:
    """The cases of ACDC, by the folders of patients."""
    items = []
    for folder in _acdc_patients(root):
        frames = _items(root, {folder: "any"}, weak_labels, re.compile(rf"{folder.name}_frame\d+"))
        group = _acdc_group(folder)
        items += [{**item, "patient": folder.name, **({"group": group} if group else {})} for item in frames]
    return items


def _decathlon_items(root: Path, weak_labels: bool) -> list[Item]:
    """The training cases that a ``dataset.json`` lists."""
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
    return items


def set_patients(items: Sequence[Item], pattern: str | None) -> list[Item]:
    r"""Take the patient of every item from the name of its case.

    Args:
        items: the items.
        pattern: a regular expression to search in the case's name. The patient is its first group, or all that it
            matches: ``r"^(SCD\d+)_"`` gives ``SCD0000101`` for ``SCD0000101_ED``. None keeps the items as they are.

    Returns:
        New items.

    Raises:
        DataError: when the pattern is not a regular expression or does not match a case.
    """
    if pattern is None:
        return list(items)
    try:
        regex = re.compile(pattern)
    except re.error as err:
        raise DataError(f"patient_pattern '{pattern}' is not a regular expression: {err}.") from err
    matches = [(item, regex.search(item["case"])) for item in items]
    unmatched = [item["case"] for item, match in matches if match is None]
    if unmatched:
        raise DataError(f"patient_pattern '{pattern}' does not match {listed(unmatched)}.")
    return [{**item, "patient": match.group(min(1, regex.groups))} for item, match in matches if match is not None]


LAYOUTS: dict[LayoutName, Layout] = {
    "decathlon": Layout(
        "Decathlon",
        "A task in the layout of the Medical Segmentation Decathlon",
        matches=lambda root: _decathlon_task(root) is not None,
        folders=lambda root: {
            folder: "any" for name, folder in _sub_folders(root).items() if name in ("imagestr", "labelstr", "imagests")
        },
        expected="a dataset.json with training cases",
        build=_decathlon_items,
    ),
    "acdc": Layout(
        "ACDC",
        "Automated Cardiac Diagnosis Challenge, end-diastolic and end-systolic frames (Bernard et al., TMI 2018)",
        matches=lambda root: bool(_acdc_patients(root)),
        folders=lambda root: dict.fromkeys(_acdc_patients(root), "any"),
        expected="patientNNN/patientNNN_frameFF.nii.gz",
        modality="MRI",
        labels={"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"},
        unannotated=4,
        build=_acdc_items,
    ),
    "promise12": Layout(
        "PROMISE12",
        "Prostate MR Image Segmentation 2012, T2-weighted (Litjens et al., MedIA 2014)",
        matches=lambda root: any(_PROMISE12_CASE.fullmatch(stem) for stem in _stems(root)),
        folders=lambda root: {root: "any"},
        expected="CaseNN.mhd",
        case=_PROMISE12_CASE,
        modality="MRI",
        labels={"0": "background", "1": "prostate"},
    ),
    "vertebral": Layout(
        "Vertebral bodies",
        "Vertebral bodies of the lower spine, T2-weighted (Chu et al., PLoS ONE 2015, Zenodo record 22304)",
        matches=lambda root: any(
            _VERTEBRAL_LABEL.fullmatch(stem) for folder in _vertebral_folders(root) for stem in _stems(folder)
        ),
        folders=lambda root: _vertebral_folders(root),
        expected="Img_NN.nii",
        case=_VERTEBRAL_CASE,
        modality="MRI",
        labels={"0": "background", "1": "vertebral body"},
    ),
    "folder": Layout(
        "Folder",
        "Cases of a folder, matched by name",
        matches=lambda root: bool(_stems(_sub_folders(root).get("images", root))),
        folders=lambda root: _case_folders(root),
        expected="images in NIfTI, MetaImage or NRRD (of sub-folders only images, labels and weak_labels are searched)",
    ),
}
"""The known layouts, in the order in which they are tried. A new one needs an entry here and a `LayoutName`."""


def detect_layout(dataset_dir: PathLike) -> LayoutName:
    """Recognise the layout of a folder.

    Raises:
        DataError: when the folder does not exist, is empty, or has none of the layouts.
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
        items: of :py:func:`find_items`.
        layout: how its files lie.

    Returns:
        The files. A sub-folder that is not searched is one entry, with the number of its files.

    Raises:
        DataError: when the folder does not exist or is empty.
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
    """The metadata of a data set, from its ``dataset.json`` if it is a Decathlon task, otherwise from the layout.

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
    """The items of some folders, each case a patient of its own; `name` is the form of the cases' names, None for any.

    Raises:
        DataError: when a case is there twice, or, without a `name`, a label has no image.
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
