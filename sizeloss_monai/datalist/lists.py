"""Data lists in the Decathlon's style: build, split by patient, save, load and open them."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args
from unicodedata import normalize

from monai.config import PathLike
from monai.utils import ensure_tuple

from sizeloss_monai.data.names import existing_path, expanded, image_stem, is_path, no_file_reason
from sizeloss_monai.data.whole_files import write_whole
from sizeloss_monai.datalist.entries import random_key
from sizeloss_monai.datalist.layouts import LAYOUTS, SECTIONS, Item, detect_layout, find_items, layout_info
from sizeloss_monai.errors import DataError, Finding, Place, counted, listed
from sizeloss_monai.options import UNIT_OF, LayoutName, Per

__all__ = [
    "cases_by_section",
    "load_datalist",
    "make_datalist",
    "new_spellings",
    "open_datalist",
    "parse_datalist",
    "save_datalist",
    "section_findings",
    "split_patients",
]

logger = logging.getLogger(__name__)

_PATH_KEYS = ("image", "label", "weak_label")


def split_patients(
    groups: Mapping[str, str | None], num_validation: int | float = 0.2, num_test: int | float = 0, seed: int = 0
) -> dict[str, list[str]]:
    """Split patients into training, validation and test, in proportion within each group.

    A patient's place depends on the seed and on the names alone, not on their order. The test patients are drawn first,
    the validation patients from the others. In each draw the number of patients of a group differs by less than 1
    from its exact share.

    Args:
        groups: group of every patient; None where it is unknown (those are a group of their own).
        num_validation: validation patients: a count if it is an integer, otherwise a fraction of all patients in
            ``[0, 1)``. A fraction above 0 gives at least one patient.
        num_test: test patients, likewise.
        seed: of the draw.

    Returns:
        The patients of every section, sorted.

    Raises:
        DataError: when a number makes no sense or leaves no patient to train on.
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
    layout: LayoutName = "auto",
    seed: int = 0,
    num_validation: int | float = 0.2,
    num_test: int | float = 0,
    weak_labels: bool = False,
    patient_pattern: str | None = None,
) -> dict[str, Any]:
    """Build a data list from a folder.

    Files that are not used are logged with the reason: hidden files, texts and what is not asked for as information,
    the others as warnings. :py:func:`sizeloss_monai.datalist.unused_files` lists them.

    Patients without any annotation are for training, where their tags and bounds can be of use, and do not count in the
    fractions. If no patient has one, all are drawn from.

    Args:
        dataset_dir: the folder.
        layout: how its files lie.
        seed, num_validation, num_test: see :py:func:`split_patients`.
        weak_labels: whether to list weak labels.
        patient_pattern: finds the patient in a case's name, see
            :py:func:`sizeloss_monai.datalist.layouts.set_patients`.

    Returns:
        ``{"name", "description", "labels", "modality", "layout", "seed", "training", "validation", "test"}``, with weak
        labels also ``"unannotated"`` where the layout's id of unannotated voxels is not 255. The sections are lists of
        items ``{"case", "patient", "image", "label", "weak_label", "group"}`` sorted by case, with paths relative to
        `dataset_dir`.

    Raises:
        DataError: when the folder does not exist, is empty or has no known layout; a case is listed twice or a file
            is missing; no case has a weak label though they are asked for; or the split is impossible.
    """
    dataset_dir = existing_path(dataset_dir)
    if layout == "auto":
        layout = detect_layout(dataset_dir)
    if layout not in LAYOUTS:
        raise DataError(f"layout must be one of auto, {', '.join(LAYOUTS)}, got '{layout}'.")
    items = find_items(dataset_dir, layout, weak_labels, patient_pattern)
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
    """Write a data list as JSON. The folder of the file is created.

    Raises:
        FileExistsError: when the file exists with other content and `overwrite` is false.
    """
    path = expanded(path)
    text = json.dumps(datalist, indent=2, ensure_ascii=False) + "\n"
    if path.exists() and not overwrite:
        if path.read_text(encoding="utf-8") == text:
            return
        raise FileExistsError(f"'{path}' exists with other content, expected none or overwrite.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def load_datalist(path: PathLike, base_dir: PathLike | None = None) -> dict[str, Any]:
    """Read a data list in the Decathlon's style and make its paths absolute.

    Items without `case` get the name of their image, those without `patient` that of their case. Old spellings are
    read with a warning, see :py:func:`new_spellings`.

    Args:
        path: the JSON file.
        base_dir: the folder that the paths are relative to; the folder of the file by default.

    Returns:
        The data list, with all sections, absent ones empty.

    Raises:
        DataError: when the file does not exist or is not a data list; it names all entries that cannot be used.
    """
    datalist, findings = parse_datalist(path, base_dir)
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise DataError("\n".join([f"{counted(len(errors), 'problem')} in the data list '{path}':", *errors]))
    for finding in findings:
        logger.warning(finding)
    return datalist


def parse_datalist(path: PathLike, base_dir: PathLike | None = None) -> tuple[dict[str, Any], list[Finding]]:
    """Read a data list as far as it can be used, and say what is wrong with the rest.

    Args:
        path, base_dir: see :py:func:`load_datalist`.

    Returns:
        The data list of :py:func:`load_datalist` without the entries that cannot be used; and a finding for each of
        those, with its place, such as ``training[0]``, as the name of the case.

    Raises:
        DataError: when the file does not exist or is not a data list.
    """
    path = existing_path(path)
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise DataError(f"cannot read the data list '{path}': {err.strerror}.") from err
    except ValueError as err:
        raise DataError(f"the data list '{path}' is not valid JSON: {err}.") from err
    if not isinstance(datalist, dict) or not set(SECTIONS) & datalist.keys():
        raise DataError(f"'{path}' is not a data list: expected an object with the lists {', '.join(SECTIONS)}.")
    datalist, findings = new_spellings(datalist)
    for section in SECTIONS:
        entries = datalist.get(section, [])
        if not isinstance(entries, list):
            findings.append(Place(None, section).error("list-form", _shown(entries), "a list of cases"))
            entries = []
        wrong = [_entry_findings(entry, f"{section}[{i}]") for i, entry in enumerate(entries)]
        findings += [finding for of_entry in wrong for finding in of_entry]
        datalist[section] = [_normalised(entry) for entry, bad in zip(entries, wrong, strict=True) if not bad]
    return _absolute(datalist, path.parent if base_dir is None else base_dir), findings


_OLD_SCOPES: dict[str, dict[Any, Per]] = {
    "slice_wise": {True: "slice", False: "volume"},
    "by_volume": {True: "volume", False: "slice"},
    "bounds_per": {"slice": "slice", "volume": "volume"},
}
"""Old keys of a data list's ``size_bounds``, and the value of ``per`` by theirs."""


def new_spellings(datalist: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """Replace the old spellings in the `size_bounds` of a data list; a warning names the new one of each."""
    bounds = datalist.get("size_bounds")
    if not isinstance(bounds, Mapping):
        return dict(datalist), []
    where, findings, new = Place(None, "size_bounds"), [], dict(bounds)
    for key, values in _OLD_SCOPES.items():
        if "per" not in new and isinstance(new.get(key), (bool, str)) and new[key] in values:
            per = new["per"] = values[new.pop(key)]
            findings.append(where.warning("old-spelling", f"the old key '{key}'", f"'per': '{per}', which is taken"))
    if new.get("unit") == "mm" and new.get("per") in get_args(Per):
        new["unit"] = UNIT_OF[new["per"]]
        findings.append(where.warning("old-spelling", "the old unit 'mm'", f"'{new['unit']}', which is taken"))
    return {**datalist, "size_bounds": new}, findings


def open_datalist(
    dataset_dir: PathLike,
    datalist_file: PathLike | None = None,
    layout: LayoutName = "auto",
    seed: int = 0,
    num_validation: int | float = 0.2,
    num_test: int | float = 0,
    weak_labels: bool = False,
    sections: Sequence[str] | str = ("training", "validation"),
    patient_pattern: str | None = None,
    size_bounds: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Get the data list of a folder, ready for a MONAI dataset: the entry point of the bundles' configs.

    It is read from `datalist_file`, or without one from ``datalist.json`` in the folder. If neither is there, it is
    built from the folder's layout.

    Example, in a bundle's config::

        datalist: "$sizeloss_monai.datalist.open_datalist(@dataset_dir, @datalist_file)"
        train_data: "$@datalist['training']"

    Args:
        dataset_dir: the folder that the paths are relative to.
        datalist_file: a JSON file, or ``None`` or ``""``.
        layout, seed, num_validation, num_test, weak_labels, patient_pattern: for a list that is built, see
            :py:func:`make_datalist`.
        sections: the sections that must not be empty, and whose files must exist.
        size_bounds: the list's `size_bounds` if it has none of its own.

    Returns:
        The data list of :py:func:`make_datalist`, with absolute paths.

    Raises:
        DataError: when the folder does not exist or is empty; there is no list and no known layout; a section asked for
            is empty; a patient is in two sections or a case is listed twice; or files are missing (it names up to 20).
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
        datalist, findings = new_spellings({**datalist, "size_bounds": dict(size_bounds)})
        for finding in findings:
            logger.warning(finding)
    _check(datalist, root, ensure_tuple(sections))
    return datalist


def section_findings(datalist: Mapping[str, Any], needed: Sequence[str]) -> list[Finding]:
    """What is wrong with the sections of a data list, whatever its files hold.

    Args:
        datalist: of :py:func:`parse_datalist`.
        needed: the sections that must have cases.

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
    """An entry of a data list as an item with `case` and `patient`, without the files that are ``null``."""
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
