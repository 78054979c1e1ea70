"""The map from the ids in label files to the classes of a network."""

from __future__ import annotations

from collections.abc import Sequence

from sizeloss_monai.bundle.config_check import ConfigError

__all__ = ["check_label_map"]


def check_label_map(label_ids: Sequence[int], target_ids: Sequence[int], num_classes: int) -> None:
    """Raise where a label file's id would become no class of the network. For a config's ``initialize``.

    Args:
        label_ids: ids that occur in label files.
        target_ids: the class of each.
        num_classes: of the network, including the background.

    Raises:
        ConfigError: when the lists differ in length or a class lies outside ``0..num_classes - 1``.
    """
    if len(label_ids) != len(target_ids):
        raise ConfigError(f"target_ids must name a class for each of label_ids {label_ids}, found {target_ids}.")
    outside = [target for target in target_ids if not 0 <= target < num_classes]
    if outside:
        raise ConfigError(f"target_ids must lie in 0..{num_classes - 1} (num_classes {num_classes}), found {outside}.")
