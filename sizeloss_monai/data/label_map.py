"""Which ids of the label files make up each class of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ids_by_class", "network_class_names"]


def ids_by_class(label_ids: Sequence[int], target_ids: Sequence[int]) -> dict[int, list[int]]:
    """The ids that each class of a network stands for.

    Args:
        label_ids: ids of the label files.
        target_ids: the class of the network that each of them is.

    Returns:
        By class, in order, its ids in the order given; classes without any are not in it.

    Raises:
        ValueError: when one list is longer than the other.
    """
    ids: dict[int, list[int]] = {class_id: [] for class_id in sorted(set(target_ids))}
    for label_id, class_id in zip(label_ids, target_ids, strict=True):
        ids[class_id].append(label_id)
    return ids


def network_class_names(
    datalist: Mapping[str, Any], label_ids: Sequence[int], target_ids: Sequence[int]
) -> dict[int, str]:
    """What the classes of a network are called.

    Args:
        datalist: its ``labels`` name the ids of the label files; may have none.
        label_ids: ids of the label files.
        target_ids: the class of the network that each of them is.

    Returns:
        By class but the background, the names of its ids, or ``"class 1"`` where a name is missing.
    """
    labels = datalist.get("labels") or {}
    names = {}
    for class_id, ids in ids_by_class(label_ids, target_ids).items():
        if class_id:
            known = [labels.get(str(label_id)) for label_id in ids]
            names[class_id] = " + ".join(map(str, known)) if all(known) else f"class {class_id}"
    return names
