"""The classes of label files and of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sizeloss_monai.data.label_ids import LARGEST_ID
from sizeloss_monai.datalist.layouts import SECTIONS
from sizeloss_monai.errors import ConfigError, DataError, Finding, Place, listed

__all__ = ["ClassMap", "Classes", "label_ids_of", "read_classes", "unannotated_id_of"]


@dataclass(frozen=True)
class ClassMap:
    """The ids of label files, and the class of a network that each of them becomes.

    Several ids may become one class. Example, in a bundle's config::

        classes: {_target_: sizeloss_monai.datalist.ClassMap, label_ids: "@label_ids", target_ids: "@target_ids"}

    Args:
        label_ids: the ids of the label files, each of them once.
        target_ids: the class of each id, 0 to 255; class 0 is the background.
        num_classes: the number of classes, with the background. The default is the largest class + 1.

    Raises:
        ConfigError: when the lists differ in length, an id is there twice, or a class lies outside the allowed range.
    """

    label_ids: Sequence[int]
    target_ids: Sequence[int]
    num_classes: int = None  # type: ignore[assignment]  # an int after __post_init__

    def __post_init__(self) -> None:
        for name in ("label_ids", "target_ids"):
            given = getattr(self, name)
            if not isinstance(given, (Sequence, range)) or not all(type(number) is int for number in given):
                raise ConfigError(f"{name} must be a list of integers, got {given!r}.")
            object.__setattr__(self, name, tuple(given))
        given, made = list(self.label_ids), list(self.target_ids)
        if len(given) != len(made) or not given:
            raise ConfigError(f"target_ids must name a class for each of label_ids {given}, got {made}.")
        if len(set(given)) < len(given):
            raise ConfigError(f"label_ids must name each id once, got {given}.")
        stated = "" if self.num_classes is None else f" (num_classes {self.num_classes})"
        largest = min(self.num_classes - 1, _LARGEST_CLASS) if stated else _LARGEST_CLASS
        outside = [target for target in made if not 0 <= target <= largest]
        if outside:
            raise ConfigError(f"target_ids must lie in 0..{largest}{stated}, got {outside}.")
        if not stated:
            object.__setattr__(self, "num_classes", max(made) + 1)

    @property
    def class_of(self) -> dict[int, int]:
        """The class of each id."""
        return dict(zip(self.label_ids, self.target_ids, strict=True))

    @property
    def ids_of(self) -> dict[int, list[int]]:
        """The ids of each class, by class in ascending order. A class without ids has no entry."""
        ids: dict[int, list[int]] = {class_id: [] for class_id in sorted(set(self.target_ids))}
        for label_id, class_id in self.class_of.items():
            ids[class_id].append(label_id)
        return ids

    def names(self, datalist: Mapping[str, Any]) -> dict[int, str]:
        """The names of all classes but the background.

        Args:
            datalist: its ``labels`` name the ids of the label files. It may have none.

        Returns:
            By class, the names of its ids joined by ``" + "``; ``"class 1"`` where a name is missing.
        """
        labels = datalist.get("labels") or {}
        names = {}
        for class_id, ids in self.ids_of.items():
            if class_id:
                known = [labels.get(str(label_id)) for label_id in ids]
                names[class_id] = " + ".join(map(str, known)) if all(known) else f"class {class_id}"
        return names


_LARGEST_CLASS = 255  # label maps are uint8
_DEFAULT_UNANNOTATED = 255
_NO_FILE_HAS = -1
"""The id of unannotated voxels where every voxel is annotated, and 255 is a class."""


@dataclass(frozen=True)
class Classes:
    """The ids of a data list.

    Args:
        names: by id of the label files, without ``unannotated``; empty where the list names none.
        unannotated: the id of unannotated voxels in ``weak_label`` files.
        background: the id of the background; None where no class has that name.
    """

    names: Mapping[int, str]
    unannotated: int = _DEFAULT_UNANNOTATED
    background: int | None = 0

    def allowed_ids(self, key: str) -> list[int] | None:
        """The ids that the files under a key may have, sorted; None for any from 0.

        If 0 is the id of unannotated voxels, a full mask may have it, too: it is background there.
        """
        if not self.names:
            return None
        extra = [self.unannotated] if key == "weak_label" or self.unannotated == 0 else []
        return sorted({*self.names, *extra})

    def shown(self, class_id: int) -> str:
        """A class as messages call it: ``class 3 (left ventricle)``."""
        name = self.names.get(class_id)
        return f"class {class_id}" + (f" ({name})" if name else "")

    def unknown(self, class_id: int, where: Place) -> list[Finding]:
        """The finding that the list does not have a class, or none."""
        if not self.names or class_id in self.names:
            return []
        return [where.error("class-id", f"class {class_id}", f"one of {_ids(self.names)}")]


def read_classes(
    datalist: Mapping[str, Any], label_ids: Sequence[int] | None = None, unannotated: int | None = None
) -> tuple[Classes, list[Finding]]:
    """The classes of a data list, and what is wrong with them.

    Without ``unannotated`` in the list it is 255. A list without any ``weak_label`` may have 255 as a class, as masks
    of 0 and 255 do.

    Args:
        datalist: the data list.
        label_ids: the ids that a training expects of label files, in place of those that the list names.
        unannotated: the id that a training takes for unannotated voxels, in place of the list's.

    Returns:
        The classes, as far as they can be used; and findings on ``labels`` and ``unannotated``.
    """
    where = Place(None, "labels")
    expected = "an object such as {'0': 'background', '1': 'left ventricle'}"
    given = datalist.get("labels")
    findings = []
    names: dict[int, str] = {}
    if not given and label_ids is None:
        findings.append(where.warning("no-labels", "no classes, so that ids are not checked", expected))
    elif given and (not isinstance(given, Mapping) or not all(str(name).isdecimal() for name in given)):
        findings.append(where.error("labels-form", f"{given!r}", expected))
    elif given:
        names = {int(name): str(text) for name, text in given.items()}
    if label_ids is not None:
        names = {label_id: names.get(label_id, "") for label_id in label_ids}

    where = Place(None, "unannotated")
    stated = unannotated is not None or "unannotated" in datalist
    if unannotated is None:
        unannotated = datalist.get("unannotated", _DEFAULT_UNANNOTATED)
    if type(unannotated) is not int or not -1 <= unannotated <= LARGEST_ID:
        expected = f"an integer from -1 to {LARGEST_ID}, or none for {_DEFAULT_UNANNOTATED}"
        findings.append(where.error("unannotated-form", f"{unannotated!r}", expected))
        unannotated = _DEFAULT_UNANNOTATED
    elif not stated and unannotated in names and not _has_weak_labels(datalist):
        unannotated = _NO_FILE_HAS
    background = next((id_ for id_, name in names.items() if name.casefold() == "background"), None)
    if background is None and unannotated != 0:
        background = 0
    is_class = unannotated in names
    if is_class:
        found = f"{unannotated}, which 'labels' say is {names[unannotated]!r}"
        if stated and background not in (None, unannotated):
            expected = "an id other than those of classes: training learns nothing of this one"
            findings.append(where.warning("unannotated-is-class", found, expected))
        else:
            findings.append(where.error("unannotated-is-class", found, "an id other than those of classes"))
    if names and (background is None or background not in names):
        found = f"no class named background among {_ids(names)}"
        findings.append(Place(None, "labels").warning("no-background-class", found, "one, with the id that files have"))
        names |= {} if background is None else {background: "background"}
    if is_class:
        del names[unannotated]
    return Classes(names, unannotated, background), findings


def label_ids_of(datalist: Mapping[str, Any], default: Sequence[int]) -> list[int]:
    """The ids of a data list's classes: the background first, then the others from the smallest.

    Example, in a bundle's config::

        label_ids: {_target_: sizeloss_monai.datalist.label_ids_of, datalist: "@datalist", default: [0, 1]}

    Args:
        datalist: the data list. The id ``unannotated`` is not one of its classes.
        default: the ids where the list has no ``labels``.

    Raises:
        DataError: when ``labels`` or ``unannotated`` have another form, or do not tell the id of the background.
    """
    if not datalist.get("labels"):
        return list(default)
    classes, findings = read_classes(datalist)
    has_background = classes.background not in (None, classes.unannotated)
    wrong = [finding for finding in findings if not has_background or finding.severity == "error"]
    if classes.background is None or wrong:
        raise DataError("\n".join(map(str, wrong)))
    return [classes.background, *sorted(classes.names.keys() - {classes.background})]


def unannotated_id_of(datalist: Mapping[str, Any]) -> int:
    """The id of unannotated voxels in the files of weak labels.

    Example, in a bundle's config::

        unannotated: {_target_: sizeloss_monai.datalist.unannotated_id_of, datalist: "@datalist"}

    Args:
        datalist: the data list.

    Returns:
        The id, 255 where the list does not say; -1, which no file has, where 255 is a class and no case has a weak
        label.

    Raises:
        DataError: when ``unannotated`` is not an id, or is that of a class.
    """
    classes, findings = read_classes(datalist)
    wrong = [str(finding) for finding in findings if finding.severity == "error" and finding.key == "unannotated"]
    if wrong:
        raise DataError("\n".join(wrong))
    return classes.unannotated


def _has_weak_labels(datalist: Mapping[str, Any]) -> bool:
    """Whether a case of the list has a file of weak labels."""
    return any("weak_label" in item for section in SECTIONS for item in datalist.get(section) or ())


def _ids(names: Mapping[int, str]) -> str:
    """The ids and names for a message."""
    return listed([f"{id_} ({name})" for id_, name in sorted(names.items())])
