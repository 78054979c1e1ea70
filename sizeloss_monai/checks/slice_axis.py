"""Where the slices of a data set lie: as a user says, as strokes were painted, or by the spacing of the voxels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sizeloss_monai.checks.cases import for_every_case
from sizeloss_monai.data.grid import Grid, read_grid
from sizeloss_monai.data.label_ids import whole_ids
from sizeloss_monai.data.slice_axis import (
    SliceAxis,
    is_clearly_widest,
    painted_axis,
    parse_slice_axis,
    plane_of,
    slice_axis_of,
)
from sizeloss_monai.data.volumes import read_volume
from sizeloss_monai.errors import DataError, Finding, Place, counted, listed

__all__ = ["SliceAxisChoice", "choose_slice_axis", "decide_slice_axis"]

logger = logging.getLogger(__name__)

_LIST = Place(None, "slice_axis")
_CANDIDATES: tuple[SliceAxis, ...] = ("widest", "axial", "coronal", "sagittal", 2, 1, 0)
"""What strokes may show; the first of those that equally many cases show is taken."""

_HOW = "say it with slice_axis: axial, coronal, sagittal, or a voxel axis (0, 1, 2)"


@dataclass(frozen=True)
class SliceAxisChoice:
    """Where the slices of a data set lie, and why.

    Args:
        taken: never ``"auto"``.
        reason: where slices lie in how many cases, and why.
        doubts: warnings that it is a guess.
    """

    taken: SliceAxis
    reason: str
    doubts: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Look:
    """What a case shows of its slices: its grid, and the voxel axis of the slices that its strokes were painted on."""

    case: str
    grid: Grid
    painted: int | None

    def axis(self, slice_axis: SliceAxis) -> int:
        """The voxel axis of its slices."""
        return slice_axis_of(self.grid.spacing, self.grid.affine, slice_axis)

    def shows(self, slice_axis: SliceAxis) -> bool:
        """Whether its strokes were painted on these slices; ``"widest"`` counts if one axis is clearly wider."""
        clear = slice_axis != "widest" or is_clearly_widest(self.grid.spacing)
        return clear and self.axis(slice_axis) == self.painted

    def plane(self, axis: int) -> str:
        """The plane of slices that are stacked along a voxel axis."""
        return plane_of(self.grid.affine, axis)


def decide_slice_axis(
    items: Sequence[Mapping[str, Any]] | None = None,
    slice_axis: Any = "auto",
    datalist: Mapping[str, Any] | None = None,
    unannotated: int | None = None,
) -> SliceAxis:
    """:py:func:`choose_slice_axis` for a bundle's config: log the reason, warn of a guess, and return what is taken.

    Without `items`, the training cases of the data list count.
    """
    if items is None:
        items = (datalist or {}).get("training", [])
    choice = choose_slice_axis(items, slice_axis, datalist, unannotated)
    logger.info("slices: %s", choice.reason)
    for doubt in choice.doubts:
        logger.warning(doubt)
    return choice.taken


def choose_slice_axis(
    items: Sequence[Mapping[str, Any]],
    slice_axis: Any = "auto",
    datalist: Mapping[str, Any] | None = None,
    unannotated: int | None = None,
    num_workers: int = 0,
) -> SliceAxisChoice:
    """Where the slices of a data set lie, one answer for all its cases.

    What the user says counts, else what the data list says under ``slice_axis``. If both are ``"auto"``, the strokes
    of cases count, see :py:func:`~sizeloss_monai.data.slice_axis.painted_axis`: the widest spacing, one of three planes
    or one of three voxel axes is taken, whichever agrees with the strokes of most cases; in doubt, and without strokes,
    the widest spacing. Voxel axes come last, since files may store them in different orders.

    Args:
        items: the cases, with absolute paths. A case whose image cannot be read does not count.
        slice_axis: what the user says.
        datalist: the data list, if there is one.
        unannotated: the id of voxels that were not painted; None to ignore ``weak_label``.
        num_workers: number of threads that read; 0 reads in the calling one.

    Returns:
        What is taken, why, and warnings: no axis is wider than the others by more than 10 %, strokes of several
        cases disagree, or strokes contradict the spacing.

    Raises:
        DataError: when `slice_axis`, or that of the data list, is unknown.
    """
    given, source = _parsed(slice_axis, ""), "as slice_axis says"
    if given == "auto" and datalist is not None:
        given, source = (
            _parsed(datalist.get("slice_axis", "auto"), "data list, key 'slice_axis': "),
            "as the data list says",
        )
    look = partial(_look, unannotated=unannotated if given == "auto" else None)
    looks = [found for found in for_every_case(look, items, num_workers, progress=False) if found is not None]
    painted = [one for one in looks if one.painted is not None]
    taken = given
    if given == "auto":
        taken = max(_CANDIDATES, key=lambda name: sum(one.shows(name) for one in painted))
        agree = sum(one.shows(taken) for one in painted)
        source = f"as {counted(agree, 'case')} with strokes show" if agree else ""
    why = [_described(looks, taken), "the axis of the widest voxels" if taken == "widest" else "", source]
    return SliceAxisChoice(taken, ", ".join(filter(None, why)), tuple(_doubts(looks, taken)))


def _parsed(value: Any, where: str) -> SliceAxis:
    """The option, or an error that says where it is wrong."""
    try:
        return parse_slice_axis(value)
    except ValueError as err:
        raise DataError(f"{where}{err}") from None


def _look(item: Mapping[str, Any], unannotated: int | None) -> _Look | None:
    """What a case shows; None where its image cannot be read."""
    try:
        grid = read_grid(item["image"])
    except DataError:
        return None
    case = str(item.get("case", item["image"]))
    painted = None
    if unannotated is not None and item.get("weak_label") and item.get("supervision", "weak") == "weak":
        volume = read_volume(item["weak_label"], Place(case, "weak_label"))
        if not isinstance(volume, Finding) and tuple(volume.shape) == (1, *grid.shape):
            painted = painted_axis(whole_ids(volume[0].numpy())[0] != unannotated)
    return _Look(case, grid, painted)


def _described(looks: Sequence[_Look], taken: SliceAxis) -> str:
    """The planes and voxel axes of the slices, for instance ``"axial along voxel axis 2 (12 cases)"``."""
    counts = Counter((one.plane(one.axis(taken)), one.axis(taken)) for one in looks)
    shown = [f"{plane} along voxel axis {axis} ({counted(n, 'case')})" for (plane, axis), n in counts.most_common()]
    return ", ".join(shown) or f"{taken}"


def _doubts(looks: Sequence[_Look], taken: SliceAxis) -> list[Finding]:
    """Why `taken` may be wrong."""
    doubts = []
    against = [one for one in looks if one.painted is not None and one.painted != one.axis(taken)]
    if against:
        found = f"strokes on {_planes(against)} slices in {_cases(against)}, where slices are taken as "
        found += _planes(against, taken)
        doubts.append(_LIST.warning("slice-axis", found, f"strokes of all cases on the same slices; if not so, {_HOW}"))
    unlike = [one for one in looks if one.painted == one.axis(taken) != one.axis("widest")]
    if unlike:
        found = (
            f"strokes on {_planes(unlike)} slices in {_cases(unlike)}, which are taken although the voxels are wider "
        )
        found += f"across {_planes(unlike, 'widest')} ones ({_spacing(unlike[0])})"
        doubts.append(_LIST.warning("slice-axis", found, f"the widest voxels across slices; if that is wrong, {_HOW}"))
    guessed = [one for one in looks if one.painted is None and not is_clearly_widest(one.grid.spacing)]
    if taken == "widest" and guessed:
        found = (
            f"no axis clearly wider than the others in {_cases(guessed)} ({_spacing(guessed[0])}), slices are taken as "
        )
        found += _planes(guessed, taken)
        doubts.append(_LIST.warning("slice-axis", found, f"one wider by more than 10 %; if that is wrong, {_HOW}"))
    return doubts


def _planes(looks: Sequence[_Look], taken: SliceAxis | None = None) -> str:
    """The planes of the slices, or of those that strokes were painted on."""
    planes = {one.plane(one.painted if taken is None else one.axis(taken)) for one in looks}  # type: ignore[arg-type]
    return " or ".join(sorted(planes))


def _cases(looks: Sequence[_Look]) -> str:
    return f"case {listed([one.case for one in looks], 5)}"


def _spacing(one: _Look) -> str:
    return " x ".join(f"{size:.4g}" for size in one.grid.spacing) + " mm"
