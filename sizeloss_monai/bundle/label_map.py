"""The map from the ids in label files to the classes of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizeloss_monai.bundle.config_check import ConfigError
from sizeloss_monai.data.checks.classes import read_classes
from sizeloss_monai.data.findings import listed

__all__ = ["check_label_map"]


def check_label_map(
    label_ids: Sequence[int],
    target_ids: Sequence[int],
    num_classes: int,
    datalist: Mapping[str, Any] | None = None,
    unannotated: int | None = None,
) -> None:
    """Raise where a label file's id would become no class of the network, or the wrong one. For ``initialize``.

    Args:
        label_ids: ids that occur in label files.
        target_ids: the class of each.
        num_classes: of the network, including the background.
        datalist: whose ``labels`` may say which id is the background.
        unannotated: the id of voxels that nobody annotated, which is no class; None where there is none.

    Raises:
        ConfigError: when the lists differ in length, a class lies outside ``0..num_classes - 1`` or has no id, the
            background of the data list is not class 0, or ``unannotated`` is among the ids.
    """
    if len(label_ids) != len(target_ids):
        raise ConfigError(f"target_ids must name a class for each of label_ids {label_ids}, found {target_ids}.")
    outside = [target for target in target_ids if not 0 <= target < num_classes]
    if outside:
        raise ConfigError(f"target_ids must lie in 0..{num_classes - 1} (num_classes {num_classes}), found {outside}.")
    without = sorted(set(range(num_classes)) - set(target_ids))
    if without:
        used, ids = f"{min(target_ids)}..{max(target_ids)}", listed([str(class_id) for class_id in without])
        raise ConfigError(f"num_classes: found {num_classes}, but target_ids use {used}: class {ids} has no id.")
    if unannotated in label_ids:
        raise ConfigError(
            f"label_ids: found {unannotated}, the id of voxels that nobody annotated, expected ids of classes only."
        )
    if datalist is None:
        return
    classes, _ = read_classes(datalist)
    class_of = dict(zip(label_ids, target_ids, strict=True))
    if classes.background is not None and class_of.get(classes.background, 0) != 0:
        found = listed([_named(label_id, classes.names) for label_id, target in class_of.items() if target == 0])
        raise ConfigError(
            f"label_ids: found {found} for class 0, expected {classes.background}, "
            "which the data list calls background."
        )


def _named(label_id: int, names: Mapping[int, str]) -> str:
    """An id for a message, with its name if it has one."""
    return f"{label_id} ({names[label_id]})" if label_id in names else str(label_id)
