"""Data lists in the Decathlon's style: build, split by patient, save, load and open them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

from monai.config import PathLike
from monai.utils import ensure_tuple

from sizeloss_monai.data.names import existing_path, expanded, image_stem, is_path, no_file_reason
from sizeloss_monai.data.whole_files import write_whole
from sizeloss_monai.datalist.entries import random_key
from sizeloss_monai.datalist.layouts import LAYOUTS, SECTIONS, Item, detect_layout, layout_info, set_patients
from sizeloss_monai.errors import DataError, Finding, Place, counted, listed

__all__ = [
    "cases_by_section",
    "load_datalist",
    "make_datalist",
    "open_datalist",
    "parse_datalist",
    "save_datalist",
    "section_findings",
    "split_patients",
]


_PATH_KEYS = ("image", "label", "weak_label")


def split_patients(
    groups: Mapping[str, str | None], num_validation: int | float = 0.2, num_test: int | float = 0, seed: int = 0
) -> dict[str, list[str]]:
    """Split patients into training, validation and test, in proportion within each group.

    A patient's place depends on the seed and on the names only, never on an order. The test patients are drawn first,
    the validation patients from what is left; in each draw the number of patients of a group differs by less than 1
    from its exact share.

    Args:
        groups: group of every patient, or ``None`` where it is unknown (those are a group of their own).
        num_validation: validation patients: a count if it is an integer, a fraction of all patients in ``[0, 1)``
            otherwise. A fraction above 0 gives at least one patient.
        num_test: test patients, likewise.
        seed: of the draw.

    Returns:
        The patients of every section, sorted.

    Raises:
        DataError: if a number makes no sense or leaves no patient to train on.
    """
    sizes = {
        "test": _num_patients("num_test", num_test, len(groups)),
        "validation": _num_patients("num_validation", num_validation, len(groups)),
    }
    if sum(sizes.values()) >= len(groups):
        raise DataError(
            f"{len(groups)} patients cannot give {sizes['validation']} for validation and {sizes['test']} for test "
            "and leave any to train on."
        )
    left = dict(groups)
    split: dict[str, list[str]] = {}
    for section, size in sizes.items():
        split[section] = sorted(_draw(left, size, seed))
        left = {patient: group for patient, group in left.items() if patient not in split[section]}
    return {"training": sorted(left), "validation": split["validation"], "test": split["test"]}


def make_datalist(
    dataset_dir: PathLike,
    layout: str = "auto",
    seed: int = 0,
    num_validation: int | float = 0.2,
    num_test: int | float = 0,
    weak_labels: bool = False,
    patient_pattern: str | None = None,
) -> dict[str, Any]:
    """Build a data list from a folder.

    Files that are not used are logged with the reason: as warnings, hidden files, texts and what is not asked for as
    information. See :py:func:`sizeloss_monai.datalist.layouts.unused_files` for them as a list.

    Patients without any annotation are for training, where their tags and bounds can be of use, and do not count in the
    fractions; where no patient has any, all are drawn from.

    Args:
        dataset_dir: the folder.
        layout: ``"auto"`` or a key of :py:data:`sizeloss_monai.datalist.layouts.LAYOUTS`.
        seed: of the split.
        num_validation: patients for validation, see :py:func:`split_patients`.
        num_test: patients for test, likewise.
        weak_labels: whether to list weak labels where there are any.
        patient_pattern: how to read the patient from the case's name, see
            :py:func:`sizeloss_monai.datalist.layouts.set_patients`.

    Returns:
        ``{"name", "description", "labels", "modality", "layout", "seed", "training", "validation", "test"}``, with weak
        labels also ``"unannotated"`` where the layout's id of voxels that nobody annotated is not 255. The
        sections are lists of items ``{"case", "patient", "image", "label", "weak_label", "group"}`` sorted by case,
        with paths relative to `dataset_dir`.

    Raises:
        DataError: if the folder does not exist, is empty or has no known layout; if a case is listed twice or a file
            is missing; if no case has a weak label though they are asked for; or if the split is impossible.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(f"layout must be one of auto, {', '.join(LAYOUTS)}, got '{layout}'.")
    dataset_dir = existing_path(dataset_dir)
    if layout == "auto":
        layout = detect_layout(dataset_dir)
    items = set_patients(LAYOUTS[layout].items(dataset_dir, weak_labels=weak_labels), patient_pattern)
    groups = {item["patient"]: item.get("group") for item in items}
    annotated = {item["patient"] for item in items if "label" in item or "weak_label" in item} or groups.keys()
    of_annotated = {patient: group for patient, group in groups.items() if patient in annotated}
    split = split_patients(of_annotated, num_validation, num_test, seed)
    split["training"] = sorted(groups.keys() - {*split["validation"], *split["test"]})
    datalist = {**layout_info(dataset_dir, layout), "layout": layout, "seed": seed}
    if weak_labels and LAYOUTS[layout].unannotated is not None:
        datalist["unannotated"] = LAYOUTS[layout].unannotated
    for section in SECTIONS:
        datalist[section] = [item for item in items if item["patient"] in split[section]]
    _check(datalist, dataset_dir, sections=[section for section in SECTIONS if datalist[section]])
    _check_weak_labels(datalist, weak_labels)
    return datalist


def save_datalist(datalist: Mapping[str, Any], path: PathLike, overwrite: bool = False) -> None:
    """Write a data list as JSON.

    Args:
        datalist: the data list.
        path: the file. Its folder is created.
        overwrite: whether to replace a file of other content. A file of the same content is left as it is.

    Raises:
        FileExistsError: if the file exists with other content and `overwrite` is false.
    """
    path = expanded(path)
    text = json.dumps(datalist, indent=2, ensure_ascii=False) + "\n"
    if path.exists() and not overwrite:
        if path.read_text(encoding="utf-8") == text:
            return
        raise FileExistsError(f"'{path}' exists with other content; ask for overwriting to replace it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def load_datalist(path: PathLike, base_dir: PathLike | None = None) -> dict[str, Any]:
    """Read a data list and make its paths absolute.

    Beside the files of :py:func:`save_datalist` it reads any list in the Decathlon's style. Items without `case` get
    the name of their image, those without `patient` that of their case.

    Args:
        path: the JSON file.
        base_dir: the folder that the paths are relative to. Defaults to the folder of the file.

    Returns:
        The data list, with all sections, absent ones empty.

    Raises:
        DataError: if the file does not exist or is no data list; all entries that cannot be used are named.
    """
    datalist, findings = parse_datalist(path, base_dir)
    if findings:
        lines = [f"{counted(len(findings), 'problem')} in the data list '{path}':", *map(str, findings)]
        raise DataError("\n".join(lines))
    return datalist


def parse_datalist(path: PathLike, base_dir: PathLike | None = None) -> tuple[dict[str, Any], list[Finding]]:
    """Read a data list as far as it can be used, and say what is wrong with the rest.

    Args:
        path: the JSON file.
        base_dir: the folder that the paths are relative to. Defaults to the folder of the file.

    Returns:
        The data list of :py:func:`load_datalist` without the entries that cannot be used; and a finding for each of
        those, whose case is named by its place, such as ``training[0]``.

    Raises:
        DataError: if the file does not exist or is no data list.
    """
    path = existing_path(path)
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise DataError(f"cannot read the data list '{path}': {err.strerror}.") from err
    except ValueError as err:
        raise DataError(f"the data list '{path}' is not valid JSON: {err}.") from err
    if not isinstance(datalist, dict) or not set(SECTIONS) & datalist.keys():
        raise DataError(f"'{path}' is no data list: expected an object with the lists {', '.join(SECTIONS)}.")
    findings: list[Finding] = []
    for section in SECTIONS:
        entries = datalist.get(section, [])
        if not isinstance(entries, list):
            findings.append(Place(None, section).error("list-form", _shown(entries), "a list of cases"))
            entries = []
        wrong = [_entry_findings(entry, f"{section}[{i}]") for i, entry in enumerate(entries)]
        findings += [finding for of_entry in wrong for finding in of_entry]
        datalist[section] = [_normalised(entry) for entry, bad in zip(entries, wrong, strict=True) if not bad]
    return _absolute(datalist, path.parent if base_dir is None else base_dir), findings


def open_datalist(
    dataset_dir: PathLike,
    datalist_file: PathLike | None = None,
    layout: str = "auto",
    seed: int = 0,
    num_validation: int | float = 0.2,
    num_test: int | float = 0,
    weak_labels: bool = False,
    sections: Sequence[str] | str = ("training", "validation"),
    patient_pattern: str | None = None,
    size_bounds: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Get the data list of a folder, ready for a MONAI dataset: the entry point of the bundles' configs.

    It is read from `datalist_file` if that is given, otherwise from ``datalist.json`` in the folder if that exists,
    otherwise built from the folder's layout.

    Example, in a bundle's config::

        datalist: "$sizeloss_monai.datalist.open_datalist(@dataset_dir, @datalist_file)"
        train_data: "$@datalist['training']"

    Args:
        dataset_dir: the folder that the paths are relative to.
        datalist_file: a JSON file, or ``None`` or ``""``.
        layout: for a list that is built, see :py:func:`make_datalist`.
        seed: likewise.
        num_validation: likewise.
        num_test: likewise.
        weak_labels: likewise. A list that is read says itself what is annotated.
        sections: the sections that must not be empty, and whose files must exist.
        patient_pattern: for a list that is built, see :py:func:`make_datalist`.
        size_bounds: what stands for the list's own `size_bounds` where it has none.

    Returns:
        The data list of :py:func:`make_datalist`, with absolute paths.

    Raises:
        DataError: if the folder does not exist or is empty; if there is no list and no known layout; if a section
            asked for is empty; if a patient is in two sections or a case is listed twice; if files are missing
            (all of them are named, up to 20).
    """
    root = existing_path(dataset_dir)
    if not os.path.isdir(root):
        raise DataError(f"dataset_dir '{root}' is not a folder.")
    if not datalist_file and (root / "datalist.json").is_file():
        datalist_file = root / "datalist.json"
    if datalist_file:
        datalist = load_datalist(datalist_file, base_dir=root)
    else:
        built = make_datalist(root, layout, seed, num_validation, num_test, weak_labels, patient_pattern)
        datalist = _absolute(built, root)
    if size_bounds is not None and datalist.get("size_bounds") is None:
        datalist = {**datalist, "size_bounds": dict(size_bounds)}
    _check(datalist, root, ensure_tuple(sections))
    return datalist


def section_findings(datalist: Mapping[str, Any], needed: Sequence[str]) -> list[Finding]:
    """What is wrong with the sections of a data list, whatever its files hold.

    Args:
        datalist: of :py:func:`parse_datalist`.
        needed: the sections that must have cases. A training needs some to train on, and some to choose its best epoch
            by.

    Returns:
        Errors: sections without cases, names that two cases have, and patients in two sections.
    """
    use = {"training": "some to train on", "validation": "some to choose the best epoch by", "test": "some to test on"}
    findings = [
        Place(None, section).error("no-cases", "no cases", use[section]) for section in needed if not datalist[section]
    ]
    counts = Counter(item["case"] for section in SECTIONS for item in datalist[section])
    for case, count in counts.items():
        if count > 1:
            findings.append(Place(None, "case").error("case-twice", f"case '{case}' {count} times", "each name once"))
    places: dict[str, dict[str, list[str]]] = {}
    for section in SECTIONS:
        for item in datalist[section]:
            places.setdefault(item["patient"], {}).setdefault(section, []).append(item["case"])
    for patient, where in places.items():
        if len(where) > 1:
            found = f"patient '{patient}' in {cases_by_section(where)}"
            findings.append(Place(None, "patient").error("patient-in-two-splits", found, "each patient in one split"))
    return findings


def cases_by_section(cases: Mapping[str, Sequence[str]]) -> str:
    """Names of cases by section for a message: ``training (a, b) and validation (c)``."""
    return " and ".join(f"{section} ({listed(names, 5)})" for section, names in cases.items() if names)


def _num_patients(name: str, value: int | float, total: int) -> int:
    """The number of patients that a count or a fraction stands for."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{name} must be a count or a fraction of the patients, got {value!r}.")
    if isinstance(value, int):
        if value < 0:
            raise DataError(f"{name} must not be negative, got {value}.")
        return value
    if not 0 <= value < 1:
        raise DataError(f"{name} must be an integer (a count) or in [0, 1) (a fraction), got {value!r}.")
    return max(1, int(value * total + 0.5)) if value > 0 else 0


def _draw(groups: Mapping[str, str | None], size: int, seed: int) -> list[str]:
    """Draw patients, from each group its share rounded up or down (largest remainders first)."""
    members: dict[str, list[str]] = {}
    for patient in sorted(groups, key=lambda name: random_key(seed, name)):
        members.setdefault(groups[patient] or "", []).append(patient)
    shares = {group: divmod(size * len(names), len(groups)) for group, names in members.items()}
    counts = {group: whole for group, (whole, _) in shares.items()}
    by_remainder = sorted(shares, key=lambda group: (-shares[group][1], random_key(seed, group)))
    for group in by_remainder[: size - sum(counts.values())]:
        counts[group] += 1
    return [patient for group, names in members.items() for patient in names[: counts[group]]]


def _entry_findings(entry: Any, name: str) -> list[Finding]:
    """Why an entry of a data list cannot be used."""
    item = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(item, dict) or not item.get("image"):
        found = f"no 'image' in {_shown(entry)}"
        return [Place(name, "image").error("missing-key", found, "a file")]
    return [
        Place(name, key).error("list-form", _shown(item[key]), "a file, or a list of files")
        for key in _PATH_KEYS
        if item.get(key) is not None and not is_path(item[key])
    ]


def _shown(value: Any) -> str:
    """A value of JSON for a message, cut short if it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _normalised(entry: Any) -> Item:
    """An entry of a data list as an item with `case` and `patient`; a file that is ``null`` is none."""
    item = {"image": entry} if isinstance(entry, str) else entry
    item = {key: value for key, value in item.items() if value is not None or key not in _PATH_KEYS}
    name = Path(ensure_tuple(item["image"])[0]).name
    case = normalize("NFC", str(item.get("case", image_stem(name) or Path(name).stem)))
    return {**item, "case": case, "patient": normalize("NFC", str(item.get("patient", case)))}


def _absolute(datalist: Mapping[str, Any], base_dir: PathLike) -> dict[str, Any]:
    """The data list with absolute paths, in the form that the disk has."""
    base = os.path.abspath(existing_path(base_dir))

    def absolute(path: Any) -> Any:
        if not isinstance(path, str):
            return [absolute(p) for p in path]
        return str(existing_path(os.path.normpath(os.path.join(base, expanded(path)))))

    result = dict(datalist)
    for section in SECTIONS:
        result[section] = [
            {key: absolute(value) if key in _PATH_KEYS else value for key, value in item.items()}
            for item in datalist[section]
        ]
    return result


def _check(datalist: Mapping[str, Any], base_dir: PathLike, sections: Sequence[str]) -> None:
    """Raise an error unless the list can be used: see the errors of :py:func:`open_datalist`."""
    for section in sections:
        if section not in SECTIONS:
            raise DataError(f"sections must be among {', '.join(SECTIONS)}, got '{section}'.")
    findings = section_findings(datalist, sections)
    if findings:
        raise DataError("\n".join(map(str, findings)))
    missing = [
        f"'{path}' ({key} of case '{item['case']}'{'' if reason == 'nothing' else f': {reason}'})"
        for section in sections
        for item in datalist[section]
        for key in _PATH_KEYS
        for path in ensure_tuple(item.get(key, ()))
        if (reason := no_file_reason(expanded(base_dir) / path))
    ]
    if missing:
        raise DataError(f"{counted(len(missing), 'missing file')}: {listed(missing)}.")


def _check_weak_labels(datalist: Mapping[str, Any], weak_labels: bool) -> None:
    """Raise an error if weak labels are asked for and there are none."""
    if weak_labels and not any("weak_label" in item for section in SECTIONS for item in datalist[section]):
        raise DataError(
            "weak labels are asked for, but no case has one; expected weak_labels/X.nii.gz for a scan images/X.nii.gz, "
            "or X_weak_label.nii.gz or X_scribble.nii.gz beside X.nii.gz."
        )
