"""Whether a mask can be believed, by the bounds that trained its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sizeloss_monai.data.components import component_sizes
from sizeloss_monai.dicom.description import SegmentDescription

__all__ = ["Quality", "SegmentQuality", "Verdict", "assess_quality"]

Verdict = Literal["pass", "review", "reject"]
_ORDER: tuple[Verdict, ...] = ("pass", "review", "reject")


@dataclass(frozen=True)
class SegmentQuality:
    """One class.

    Args:
        label: its name.
        volume_ml: of the mask, in mL.
        bounds_ml: the plausible volumes; None where nothing is known.
        components: connected pieces of what the network found, before any were removed.
        largest_share: of the voxels found, those in the largest piece; 1 where nothing was found.
        touches_border: whether the mask reaches the edge of the slices.
        verdict: on this class.
        reasons: for it, none for ``"pass"``.
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
    """All classes.

    Args:
        verdict: the worst of them.
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

    ``reject``: a class that must be there is not, or its volume is outside its range by more than `reject_factor`.
    ``review``: its volume is outside the range, it was found in several pieces of which the largest has less than
    95 %, it touches the edge of the slices, or nothing is known of a volume that is 0. Otherwise ``pass``.

    Args:
        mask: ``[x, y, z]`` integer class ids, what goes out.
        found: ``[x, y, z]`` integer class ids, what the network found before pieces were removed.
        voxel_ml: volume of a voxel in mL.
        segments: what is known of each class.
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
    components = len(sizes)
    share = float(sizes.max() / sizes.sum()) if components else 1.0
    border = bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
    reasons: list[tuple[Verdict, str]] = []
    if segment.volume is None:
        if volume == 0:
            reasons.append(("review", "empty"))
    else:
        lower, upper = segment.volume
        beyond = volume < lower / reject_factor or volume > upper * reject_factor
        if volume == 0 and lower > 0:
            reasons.append(("reject", "empty"))
        elif not lower <= volume <= upper:
            reasons.append(("reject" if beyond else "review", f"{volume:.1f} mL outside {lower:g} to {upper:g} mL"))
    if share < 0.95:
        reasons.append(("review", f"{components} pieces, the largest {share:.0%}"))
    if border:
        reasons.append(("review", "touches the edge of the slices"))
    verdict: Verdict = max((severity for severity, _ in reasons), key=_ORDER.index, default="pass")
    return SegmentQuality(
        segment.label,
        volume,
        segment.volume,
        components,
        share,
        border,
        verdict,
        tuple(reason for _, reason in reasons),
    )
