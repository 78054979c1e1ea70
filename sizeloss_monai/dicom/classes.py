"""The classes of a bundle: what its ``configs/dicom.yaml`` says about them, and whether a mask of them is plausible."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sizeloss_monai.data.components import component_sizes
from sizeloss_monai.errors import ConfigError

__all__ = ["BundleDescription", "Quality", "SegmentDescription", "SegmentQuality", "Verdict", "assess_quality"]

Verdict = Literal["pass", "review", "reject"]
_ORDER: tuple[Verdict, ...] = ("pass", "review", "reject")


@dataclass(frozen=True)
class SegmentDescription:
    """One class.

    Args:
        label: its name, at most 64 characters.
        category: code value, coding scheme and meaning of its category, DICOM CID 7150.
        type: code value, coding scheme and meaning of its type, such as ``("87878005", "SCT", "Left ventricle")``.
        volume: the smallest and the largest plausible volume in mL; None where they are unknown. A smallest volume of
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
        reject_factor: a mask is rejected where its volume is below the smallest divided by this factor, or above the
            largest times this factor.
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
            ConfigError: when a key is missing or unknown, or a value cannot be used.
        """
        _check_keys("dicom.yaml", config, ("modality", "segments"), ("reject_factor",))
        entries = config["segments"] if isinstance(config["segments"], Mapping) else {}
        segments = {int(number): _segment(number, entry) for number, entry in entries.items() if str(number).isdigit()}
        if sorted(segments) != list(range(1, len(entries) + 1)) or not segments:
            raise ConfigError(f"dicom.yaml: found segments {list(entries)}, expected 1 to the number of classes.")
        factor = _number(config.get("reject_factor", cls.reject_factor))
        if not 1 <= factor < math.inf:
            raise ConfigError(f"dicom.yaml: found reject_factor {config['reject_factor']}, expected at least 1.")
        return cls(str(config["modality"]), dict(sorted(segments.items())), factor)


def _segment(number: Any, entry: Any) -> SegmentDescription:
    """One class of the config."""
    where = f"dicom.yaml, segment {number}"
    _check_keys(where, entry, ("label", "category", "type"), ("volume", "volume_source"))
    label, volume = str(entry["label"]), entry.get("volume")
    if not 0 < len(label) <= 64:
        raise ConfigError(f"{where}: found a label of {len(label)} characters, expected 1 to 64.")
    if volume is not None:
        bounds = tuple(map(_number, volume)) if isinstance(volume, (list, tuple)) else ()
        if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] < math.inf:
            raise ConfigError(f"{where}: found the volume {volume}, expected [smallest, largest] in mL.")
        volume = bounds
    category, kind = _code(where, entry["category"]), _code(where, entry["type"])
    return SegmentDescription(label, category, kind, volume, str(entry.get("volume_source", "")))


def _check_keys(where: str, entry: Any, needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Raise an error unless an entry is a mapping with these keys."""
    found = set(entry) if isinstance(entry, Mapping) else set()
    if not set(needed) <= found <= {*needed, *optional}:
        said = f"the keys {sorted(map(str, found))}" if isinstance(entry, Mapping) else repr(entry)
        raise ConfigError(f"{where}: found {said}, expected {', '.join(needed)}; optional are {', '.join(optional)}.")


def _number(value: Any) -> float:
    """The value as a number; not a number (NaN) where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _code(where: str, code: Any) -> tuple[str, str, str]:
    """A coded concept."""
    if not isinstance(code, (list, tuple)) or len(code) != 3:
        raise ConfigError(f"{where}: found the code {code}, expected [value, scheme, meaning].")
    value, scheme, meaning = map(str, code)
    return value, scheme, meaning


@dataclass(frozen=True)
class SegmentQuality:
    """The quality of one class.

    Args:
        label: its name.
        volume_ml: of the mask, in mL.
        bounds_ml: the plausible volumes; None where they are unknown.
        components: number of connected pieces that the network found, before smaller ones were removed.
        largest_share: share of the largest piece in the voxels that the network found; 1 where it found none.
        touches_border: whether the mask reaches the edge of the slices.
        verdict: on this class.
        reasons: for the verdict, none for ``"pass"``.
    """

    label: str
    volume_ml: float
    bounds_ml: tuple[float, float] | None
    components: int
    largest_share: float
    touches_border: bool
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Quality:
    """The quality of all classes.

    Args:
        verdict: the worst verdict on a class.
        segments: by class.
    """

    verdict: Verdict
    segments: dict[int, SegmentQuality]

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons, with the class."""
        return tuple(f"{s.label}: {reason}" for s in self.segments.values() for reason in s.reasons)


def assess_quality(
    mask: np.ndarray,
    found: np.ndarray,
    voxel_ml: float,
    segments: Mapping[int, SegmentDescription],
    reject_factor: float = 2.0,
) -> Quality:
    """Judge a mask.

    ``reject``: a necessary class is empty, or its volume is outside its range by more than `reject_factor`.
    ``review``: the volume is outside the range; or the largest of several pieces has less than 95 % of the voxels; or
    the mask touches the edge of the slices; or the class is empty and its range is unknown. Otherwise ``pass``.

    Args:
        mask: ``[x, y, z]`` integer class ids, as they are written.
        found: ``[x, y, z]`` integer class ids that the network found, before pieces were removed.
        voxel_ml: volume of a voxel in mL.
        segments: the classes.
        reject_factor: see above, at least 1.

    Returns:
        The verdict and its reasons.
    """
    judged = {
        class_id: _assess(mask == class_id, found == class_id, voxel_ml, segment, reject_factor)
        for class_id, segment in segments.items()
    }
    worst = max((segment.verdict for segment in judged.values()), key=_ORDER.index)
    return Quality(worst, judged)


def _assess(
    mask: np.ndarray, found: np.ndarray, voxel_ml: float, segment: SegmentDescription, reject_factor: float
) -> SegmentQuality:
    """Judge one class."""
    volume = float(np.count_nonzero(mask)) * voxel_ml
    sizes = component_sizes(found)
    share = float(sizes.max() / sizes.sum()) if len(sizes) else 1.0
    border = bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
    reasons: list[tuple[Verdict, str]] = []
    lower, upper = segment.volume or (0.0, math.inf)
    if volume == 0 and (lower > 0 or segment.volume is None):
        reasons.append(("reject" if lower > 0 else "review", "empty"))
    elif not lower <= volume <= upper:
        beyond = volume < lower / reject_factor or volume > upper * reject_factor
        reasons.append(("reject" if beyond else "review", f"{volume:.1f} mL outside {lower:g} to {upper:g} mL"))
    if share < 0.95:
        reasons.append(("review", f"{len(sizes)} pieces, the largest {share:.0%}"))
    if border:
        reasons.append(("review", "touches the edge of the slices"))
    verdict: Verdict = max((severity for severity, _ in reasons), key=_ORDER.index, default="pass")
    texts = tuple(reason for _, reason in reasons)
    return SegmentQuality(segment.label, volume, segment.volume, len(sizes), share, border, verdict, texts)
