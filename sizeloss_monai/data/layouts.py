"""The folder layouts of known data sets: how to recognise them and how to list their cases.

A builder scans a folder and returns items ``{"image", "label", "weak_label", "case", "patient", "group"}``, sorted by
case. Paths are relative to the folder, with forward slashes; `label`, `weak_label` and `group` are absent where there
is none. :py:data:`LAYOUTS` holds what is known of each layout, names of the labels included.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.config import PathLike

from sizeloss_monai.data.findings import DataError, listed
from sizeloss_monai.data.names import LABEL_SUFFIX, WEAK_LABEL_SUFFIX, image_stem

__all__ = [
    "LAYOUTS",
    "Item",
    "Layout",
    "acdc_items",
    "decathlon_items",
    "detect_layout",
    "folder_items",
    "layout_info",
    "promise12_items",
    "set_patients",
    "vertebral_items",
]

Item = dict[str, Any]

_ACDC_PATIENT = re.compile(r"patient(\d{3})")
_ACDC_GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")  # of patients 001-020, 021-040, ..., 081-100
_PROMISE12_CASE = re.compile(r"Case\d{2}")
_VERTEBRAL_CASE = re.compile(r"Img_\d{2}")
_VERTEBRAL_LABEL = re.compile(r"Img_\d{2}_Labels")


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
        unannotated: the id of voxels in weak labels that nobody annotated, where it is not the usual 255.
    """

    name: str
    description: str
    modality: str
    labels: Mapping[str, str]
    items: Callable[..., list[Item]]
    matches: Callable[[Path], bool]
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
        files = _images(folder)
        for stem in files:
            if re.fullmatch(rf"{folder.name}_frame\d+", stem):
                weak = files.get(f"{stem}_scribble") if weak_labels else None
                group = _acdc_group(folder)
                items.append(_item(root, stem, folder.name, files[stem], files.get(f"{stem}_gt"), weak, group))
    return _found(items, root, "patientNNN/patientNNN_frameFF.nii.gz")


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
    return _found(_pairs(root, _images(root), _PROMISE12_CASE, "_segmentation", weak_labels), root, "CaseNN.mhd")


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
    return _found(
        _pairs(root, _images(*_vertebral_folders(root)), _VERTEBRAL_CASE, "_Labels", weak_labels), root, "Img_NN.nii"
    )


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
    entries = [entry for entry in task["training"] if not Path(str(entry["image"])).name.startswith("._")]
    if task.get("numTraining", len(entries)) != len(entries):
        warnings.warn(
            f"'{root / 'dataset.json'}' says numTraining={task['numTraining']} but lists {len(entries)} cases.",
            stacklevel=2,
        )
    items = []
    for entry in entries:
        item = {key: value for key, value in entry.items() if key != "weak_label" or weak_labels}
        for key in {"image", "label", "weak_label"} & item.keys():
            if isinstance(item[key], str):
                item[key] = Path(item[key]).as_posix()
        first = item["image"] if isinstance(item["image"], str) else item["image"][0]
        item.setdefault("case", image_stem(Path(first).name))
        item.setdefault("patient", item["case"])
        items.append(item)
    return set_patients(_found(items, root, "a dataset.json with training cases"), patient_pattern)


def folder_items(dataset_dir: PathLike, weak_labels: bool = False, patient_pattern: str | None = None) -> list[Item]:
    """List the cases of any folder whose files are matched by name.

    Either sub-folders ``images``, ``labels`` and ``weak_labels``, where a label has the name of its image, with or
    without one of the suffixes below; or one folder, where ``X.nii.gz`` is an image, ``X_label``, ``X_gt``, ``X_seg``
    or ``X_segmentation`` its label, and ``X_weak_label`` or ``X_scribble`` its weak label. Formats are NIfTI,
    MetaImage and NRRD, and may differ between an image and its label. Hidden files are ignored.

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
    folders = _sub_folders(root)
    if "images" in folders:
        images = _images(folders["images"])
        labels = _images(folders["labels"]) if "labels" in folders else {}
        weak = _images(folders["weak_labels"]) if "weak_labels" in folders else {}
    else:
        files = _images(root)
        weak = {stem: file for stem, file in files.items() if WEAK_LABEL_SUFFIX.search(stem)}
        labels = {stem: file for stem, file in files.items() if stem not in weak and LABEL_SUFFIX.search(stem)}
        images = {stem: file for stem, file in files.items() if stem not in weak and stem not in labels}
    labels = _by_case(labels, images, LABEL_SUFFIX)
    weak = _by_case(weak, images, WEAK_LABEL_SUFFIX)
    items = [
        _item(root, case, case, image, labels.get(case), weak.get(case) if weak_labels else None)
        for case, image in images.items()
    ]
    expected = "images in NIfTI, MetaImage or NRRD (of sub-folders only images, labels and weak_labels are searched)"
    return set_patients(_found(items, root, expected), patient_pattern)


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


LAYOUTS: dict[str, Layout] = {
    "decathlon": Layout(
        "Decathlon",
        "A task in the layout of the Medical Segmentation Decathlon",
        "unknown",
        {},
        decathlon_items,
        lambda root: _decathlon_task(root) is not None,
    ),
    "acdc": Layout(
        "ACDC",
        "Automated Cardiac Diagnosis Challenge, end-diastolic and end-systolic frames (Bernard et al., TMI 2018)",
        "MRI",
        {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"},
        acdc_items,
        lambda root: bool(_acdc_patients(root)),
        unannotated=4,
    ),
    "promise12": Layout(
        "PROMISE12",
        "Prostate MR Image Segmentation 2012, T2-weighted (Litjens et al., MedIA 2014)",
        "MRI",
        {"0": "background", "1": "prostate"},
        promise12_items,
        lambda root: any(_PROMISE12_CASE.fullmatch(stem) for stem in _stems(root)),
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
    ),
    "folder": Layout(
        "Folder",
        "Cases of a folder, matched by name",
        "unknown",
        {},
        folder_items,
        lambda root: bool(_stems(_sub_folders(root).get("images", root))),
    ),
}
"""The known layouts, in the order in which they are tried."""


def detect_layout(dataset_dir: PathLike) -> str:
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
        "Img_NN.nii with Img_NN_Labels.nii, images/, or image files in NIfTI, MetaImage or NRRD."
    )


def layout_info(dataset_dir: PathLike, layout: str) -> dict[str, Any]:
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
    task = _decathlon_task(Path(dataset_dir)) if layout == "decathlon" else None
    return {key: (task or {}).get(key, value) for key, value in info.items()}


def _folder(dataset_dir: PathLike) -> Path:
    """The folder as a path, if it exists and holds anything."""
    root = Path(dataset_dir).expanduser()
    if not root.is_dir():
        raise DataError(f"dataset_dir '{root}' is not a folder.")
    if not any(root.iterdir()):
        raise DataError(f"dataset_dir '{root}' is empty.")
    return root


def _found(items: list[Item], root: Path, expected: str) -> list[Item]:
    """The items sorted by case, if there are any."""
    if not items:
        raise DataError(f"no cases in '{root}': expected {expected}.")
    return sorted(items, key=lambda item: item["case"])


def _stems(folder: Path) -> set[str]:
    """The stems of the visible image files of a folder."""
    stems = {image_stem(file.name) for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()}
    return stems - {""}


def _images(*folders: Path) -> dict[str, Path]:
    """The visible image files of some folders by their stems, sorted."""
    files: dict[str, Path] = {}
    for file in sorted(file for folder in folders for file in folder.iterdir()):
        stem = image_stem(file.name)
        if not stem or file.name.startswith(".") or not file.is_file():
            continue
        if stem in files:
            raise DataError(f"case '{stem}' is there twice, as '{files[stem].name}' and '{file.name}'.")
        files[stem] = file
    return files


def _sub_folders(root: Path) -> dict[str, Path]:
    """The sub-folders by their names in lower case."""
    return {folder.name.lower(): folder for folder in sorted(root.iterdir()) if folder.is_dir()}


def _item(
    root: Path,
    case: str,
    patient: str,
    image: Path,
    label: Path | None = None,
    weak_label: Path | None = None,
    group: str | None = None,
) -> Item:
    """An item with paths relative to `root`, without the keys that are ``None``."""
    item: Item = {"case": case, "patient": patient}
    for key, path in (("image", image), ("label", label), ("weak_label", weak_label)):
        if path is not None:
            item[key] = path.relative_to(root).as_posix()
    return item if group is None else {**item, "group": group}


def _pairs(root: Path, files: Mapping[str, Path], case: re.Pattern, suffix: str, weak_labels: bool) -> list[Item]:
    """The items of files whose stems match `case`, their labels having the same stem and a suffix."""
    weak = {WEAK_LABEL_SUFFIX.sub("", stem): file for stem, file in files.items() if WEAK_LABEL_SUFFIX.search(stem)}
    return [
        _item(root, stem, stem, file, files.get(stem + suffix), weak.get(stem) if weak_labels else None)
        for stem, file in files.items()
        if case.fullmatch(stem)
    ]


def _by_case(files: Mapping[str, Path], images: Mapping[str, Path], suffix: re.Pattern) -> dict[str, Path]:
    """Label files by the case they belong to."""
    cases: dict[str, Path] = {}
    for stem, file in files.items():
        case = stem if stem in images else suffix.sub("", stem)
        if case in cases:
            raise DataError(f"case '{case}' has two labels, '{cases[case].name}' and '{file.name}'.")
        cases[case] = file
    orphans = sorted(cases[case].name for case in cases.keys() - images.keys())
    if orphans:
        expected = "_weak_label or _scribble" if suffix is WEAK_LABEL_SUFFIX else "_label, _gt, _seg or _segmentation"
        raise DataError(
            f"labels without an image: {listed(orphans)}; expected the name of a scan, such as X.nii.gz, or that with "
            f"{expected} at its end."
        )
    return cases


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


def _vertebral_folders(root: Path) -> list[Path]:
    """The folders that may hold the files of the vertebral bodies."""
    return [root, *(folder for name, folder in _sub_folders(root).items() if name in ("images", "labels", "masks"))]


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
    return task
