"""What a bundle has to say for its masks to become DICOM segmentations: its ``configs/dicom.yaml``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sizeloss_monai.bundle.config_check import ConfigError

__all__ = ["BundleDescription", "SegmentDescription"]


@dataclass(frozen=True)
class SegmentDescription:
    """One class.

    Args:
        label: its name, at most 64 characters.
        category: code value, coding scheme and meaning of its category, DICOM CID 7150.
        type: code value, coding scheme and meaning of what it is, such as ``("87878005", "SCT", "Left ventricle")``.
        volume: the smallest and the largest plausible volume in mL; None where nothing is known. A smallest volume of
            0 says that the class may be absent.
        volume_source: where the range comes from.
    """

    label: str
    category: tuple[str, str, str]
    type: tuple[str, str, str]
    volume: tuple[float, float] | None = None
    volume_source: str = ""


@dataclass(frozen=True)
class BundleDescription:
    """All classes of a bundle.

    Args:
        modality: of the series, such as ``"MR"``.
        segments: by class, ``1`` to the number of classes without the background.
        reject_factor: a volume below the smallest divided by it, or above the largest times it, is rejected.
    """

    modality: str
    segments: dict[int, SegmentDescription]
    reject_factor: float = 2.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BundleDescription:
        """Read the description from a config.

        Args:
            config: with ``modality``, ``segments`` and, optionally, ``reject_factor``.

        Returns:
            The description.

        Raises:
            ConfigError: when something is missing, unknown or no such thing as it should be.
        """
        unknown = set(config) - {"modality", "segments", "reject_factor"}
        if unknown or not {"modality", "segments"} <= set(config):
            raise ConfigError(
                f"dicom.yaml: found the keys {sorted(config)}, expected modality, segments, reject_factor."
            )
        segments = {int(class_id): _segment(class_id, entry) for class_id, entry in config["segments"].items()}
        if sorted(segments) != list(range(1, len(segments) + 1)) or not segments:
            raise ConfigError(f"dicom.yaml: found segments {sorted(segments)}, expected 1 to the number of classes.")
        factor = float(config.get("reject_factor", cls.reject_factor))
        if not (math.isfinite(factor) and factor >= 1):
            raise ConfigError(f"dicom.yaml: found reject_factor {factor}, expected at least 1.")
        return cls(str(config["modality"]), dict(sorted(segments.items())), factor)


def _segment(class_id: Any, entry: Mapping[str, Any]) -> SegmentDescription:
    """One class of the config."""
    where = f"dicom.yaml, segment {class_id}"
    unknown = set(entry) - {"label", "category", "type", "volume", "volume_source"}
    if unknown or not {"label", "category", "type"} <= set(entry):
        raise ConfigError(f"{where}: found the keys {sorted(entry)}, expected label, category, type, volume.")
    label = str(entry["label"])
    if not 0 < len(label) <= 64:
        raise ConfigError(f"{where}: found a label of {len(label)} characters, expected 1 to 64.")
    volume = entry.get("volume")
    if volume is not None:
        lower, upper = (float(bound) for bound in volume)
        if not 0 <= lower <= upper < math.inf:
            raise ConfigError(f"{where}: found the volume {list(volume)}, expected [smallest, largest] in mL.")
        volume = (lower, upper)
    return SegmentDescription(
        label, _code(where, entry["category"]), _code(where, entry["type"]), volume, str(entry.get("volume_source", ""))
    )


def _code(where: str, code: Any) -> tuple[str, str, str]:
    """A coded concept."""
    if not isinstance(code, (list, tuple)) or len(code) != 3:
        raise ConfigError(f"{where}: found the code {code}, expected [value, scheme, meaning].")
    value, scheme, meaning = map(str, code)
    return value, scheme, meaning
