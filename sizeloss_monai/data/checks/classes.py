"""The classes of a data list, and the id that stands for "not annotated"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sizeloss_monai.data.findings import DataError, Finding, Place, listed

__all__ = ["Classes", "label_ids_of", "read_classes"]

_DEFAULT_UNANNOTATED = 255


@dataclass(frozen=True)
class Classes:
    """The ids of a data list.

    Args:
        names: by id of the label files; empty where the list has none.
        unannotated: the id of voxels in ``weak_label`` files that nobody annotated.
        background: the id of the background, None where no class is named so.
    """

    names: Mapping[int, str]
    unannotated: int = _DEFAULT_UNANNOTATED
    background: int | None = 0

    def allowed_ids(self, key: str) -> list[int] | None:
        """The ids that the files under a key may have, sorted; None for any from 0.

        Where 0 is what nobody painted, it is the background of a full mask, in which nothing is left to annotate.
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
        """The finding that something is said of a class that the list does not have, or none."""
        if not self.names or class_id in self.names:
            return []
        return [where.error("class-id", f"class {class_id}", f"one of {_ids(self.names)}")]


def read_classes(datalist: Mapping[str, Any]) -> tuple[Classes, list[Finding]]:
    """The classes of a data list, and what is wrong with them.

    Args:
        datalist: the data list.

    Returns:
        The classes, as far as they can be used; and findings on ``labels`` and ``unannotated``.
    """
    where = Place(None, "labels")
    expected = "an object such as {'0': 'background', '1': 'left ventricle'}"
    given = datalist.get("labels")
    findings = []
    names: dict[int, str] = {}
    if not given:
        findings.append(where.warning("no-labels", "no classes, so that ids are not checked", expected))
    elif not isinstance(given, Mapping) or not all(str(name).isdecimal() for name in given):
        findings.append(where.error("labels-form", f"{given!r}", expected))
    else:
        names = {int(name): str(text) for name, text in given.items()}

    unannotated = datalist.get("unannotated", _DEFAULT_UNANNOTATED)
    if type(unannotated) is not int or not -1 <= unannotated <= 255:
        expected = f"an integer from -1 to 255, or none for {_DEFAULT_UNANNOTATED}"
        findings.append(Place(None, "unannotated").error("unannotated-form", f"{unannotated!r}", expected))
        unannotated = _DEFAULT_UNANNOTATED
    if unannotated in names:
        found = f"{unannotated}, which 'labels' say is {names[unannotated]!r}"
        findings.append(Place(None, "unannotated").error("unannotated-is-class", found, "an id that is no class"))

    background = next((id_ for id_, name in names.items() if name.casefold() == "background"), None)
    if background is None and unannotated != 0:
        background = 0
    if names and (background is None or background not in names):
        found = f"no class named background among {_ids(names)}"
        findings.append(where.warning("no-background-class", found, "one, with the id that files have for it"))
        names |= {} if background is None else {background: "background"}
    return Classes(names, unannotated, background), findings


def label_ids_of(datalist: Mapping[str, Any], default: Sequence[int]) -> list[int]:
    """The ids of a data list's classes, in the order of a network's classes: the background first.

    Example, in a bundle's config::

        label_ids: {_target_: sizeloss_monai.data.label_ids_of, datalist: "@datalist", default: [0, 1]}

    Args:
        datalist: the data list. Of the ids that its ``labels`` name, ``unannotated`` is no class.
        default: the ids where the list has no ``labels``.

    Returns:
        The id of the background, then the others from the smallest.

    Raises:
        DataError: when ``labels`` or ``unannotated`` are of another form, or do not tell which id is the background.
    """
    if not datalist.get("labels"):
        return list(default)
    classes, findings = read_classes(datalist)
    has_background = classes.background not in (None, classes.unannotated)
    wrong = [finding for finding in findings if not has_background or finding.code.endswith("-form")]
    if classes.background is None or wrong:
        raise DataError("\n".join(map(str, wrong)))
    return [classes.background, *sorted(classes.names.keys() - {classes.background, classes.unannotated})]


def _ids(names: Mapping[int, str]) -> str:
    """The ids and names for a message."""
    return listed([f"{id_} ({name})" for id_, name in sorted(names.items())])
