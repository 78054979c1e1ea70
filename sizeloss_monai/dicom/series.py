"""From the instances of a folder to one series, and from a series to its phases."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sizeloss_monai.data.findings import DataError, listed
from sizeloss_monai.dicom.instances import Instance

__all__ = ["SAME_POSITION", "digest", "normal_of", "pick_series", "position_of", "series_token", "split_phases"]

SAME_POSITION = 0.05  # mm: slices closer than this are at one position, of which a cine series has one image a phase
_DERIVED = ("SEG", "SR", "PR", "KO", "RTSTRUCT", "DOC", "REG", "FID", "RWV")  # modalities that hold no scan


def series_token(uid: str) -> str:
    """A short name for a series that tells nothing of the patient: 12 hexadecimal digits of SHA-256 of its UID.

    Args:
        uid: the Series Instance UID.

    Returns:
        The same for the same UID.
    """
    return digest(uid)[:12]


def digest(uid: str) -> str:
    """128 bits of the SHA-256 of a UID, in hexadecimal."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def pick_series(instances: Sequence[Instance], series_uid: str | None = None) -> list[Instance]:
    """The instances of one series of images.

    Args:
        instances: of any number of series. Segmentations, reports and the like are passed over.
        series_uid: the Series Instance UID, needed only when there are several series of images.

    Returns:
        Its instances.

    Raises:
        DataError: when there is no such series, or several and no UID that chooses.
    """
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        if instance.header.get("Modality") not in _DERIVED:
            series[str(instance.header.get("SeriesInstanceUID", ""))].append(instance)
    choice = ", ".join(
        f"{uid} ({len(items)} instances, {items[0].header.get('Modality', 'no modality')})"
        for uid, items in series.items()
    )
    if series_uid is not None:
        if series_uid not in series:
            raise DataError(f"key 'image': found no series {series_uid}, expected one of: {choice or 'none'}.")
        return series[series_uid]
    if not series:
        raise DataError("key 'image': found no image among the DICOM files, expected a series.")
    if len(series) > 1:
        raise DataError(
            f"key 'image': found {len(series)} series, expected one, or the Series Instance UID that chooses: {choice}."
        )
    return next(iter(series.values()))


def split_phases(instances: Sequence[Instance], modality: str | None = None) -> list[list[Instance]]:
    """Sort the instances of one series into volumes, by position and time, never by file name or instance number.

    Slices are ordered along their normal, the cross product of the row's and the column's direction (DICOM PS3.3
    C.7.6.2.1.1). Several images at every position are phases, of a heart beat say: each position's images are ordered
    by Temporal Position Identifier, or else by Trigger Time, and the k-th of every position make phase k. Trigger
    times of one phase differ from slice to slice, because each slice is taken in heart beats of its own.

    Args:
        instances: of one series.
        modality: what the series has to be, such as ``"MR"``.

    Returns:
        For each phase its slices in order.

    Raises:
        DataError: when the instances are no regular stack of parallel slices (a slice is missing, or there twice,
            gantry tilt), are no single-channel images, are damaged, or are of another modality.
    """
    _check_instances(instances, modality)
    normal = normal_of(instances[0])
    instances = sorted(instances, key=lambda instance: position_of(instance, normal))
    places: list[list[Instance]] = []
    for instance in instances:
        here = position_of(instance, normal)
        if places and here - position_of(places[-1][0], normal) < SAME_POSITION:
            places[-1].append(instance)
        else:
            places.append([instance])
    _check_spacing([position_of(place[0], normal) for place in places])
    counts = Counter(len(place) for place in places)
    usual = counts.most_common(1)[0][0]
    if len(counts) > 1:
        odd = [f"{len(place)} at {position_of(place[0], normal):.2f} mm" for place in places if len(place) != usual]
        raise _error(
            f"{usual} images at most positions but {listed(odd, 5)}",
            "as many at every position: a slice is missing, or there twice",
        )
    phases = [list(phase) for phase in zip(*(_in_time(place, normal) for place in places), strict=True)]
    for phase in phases:
        _check_upright(phase, normal)
    return phases


def normal_of(instance: Instance) -> np.ndarray:
    """The unit vector ``[3]`` along which the slices are stacked, in the patient's coordinates (LPS)."""
    row, column = _orientation(instance)
    normal = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def position_of(instance: Instance, normal: np.ndarray) -> float:
    """Where a slice lies along the normal, in mm."""
    return float(_numbers(instance, "ImagePositionPatient", 3) @ normal)


def _orientation(instance: Instance) -> tuple[np.ndarray, np.ndarray]:
    """The directions of a row and of a column."""
    cosines = _numbers(instance, "ImageOrientationPatient", 6)
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not (np.allclose(lengths, 1, atol=1e-3) and abs(row @ column) < 1e-3):
        raise _error(
            f"Image Orientation {cosines.tolist()} in '{instance.path.name}'", "two perpendicular unit vectors"
        )
    return row, column


def _numbers(instance: Instance, keyword: str, count: int) -> np.ndarray:
    """An attribute's finite numbers."""
    try:
        values = np.asarray([float(value) for value in instance.header.get(keyword) or ()])
    except (TypeError, ValueError):
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise _error(f"{keyword} {instance.header.get(keyword)} in '{instance.path.name}'", f"{count} numbers")
    return values


def _check_instances(instances: Sequence[Instance], modality: str | None) -> None:
    """What has to hold for each instance, and to be the same in all."""
    for instance in instances:
        header, name = instance.header, instance.path.name
        if modality is not None and header.get("Modality") != modality:
            raise _error(f"modality {header.get('Modality')}", f"modality {modality}")
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise _error(f"a multi-frame image, '{name}'", "one slice an instance: convert it to single frames first")
        if instance.problem:
            raise _error(f"{instance.problem} in '{name}'", "a whole file")
        if header.get("SamplesPerPixel") != 1 or header.get("PhotometricInterpretation") != "MONOCHROME2":
            kind = f"{header.get('PhotometricInterpretation')}, {header.get('SamplesPerPixel')} samples a pixel"
            raise _error(f"{kind} in '{name}'", "MONOCHROME2 with one sample a pixel")
    first = instances[0]
    for keyword in ("StudyInstanceUID", "PatientID", "Rows", "Columns", "PixelSpacing"):
        values = _distinct(instance.header.get(keyword) for instance in instances)
        if len(values) > 1:
            shown = f"{len(values)} different values" if keyword == "PatientID" else " and ".join(map(str, values[:3]))
            raise _error(f"{keyword} {shown}", "one in the whole series")
    if (_numbers(first, "PixelSpacing", 2) <= 0).any():
        raise _error(f"PixelSpacing {first.header.PixelSpacing}", "two positive numbers")
    axes = np.concatenate(_orientation(first))
    for instance in instances:
        other = np.concatenate(_orientation(instance))
        if not np.allclose(axes, other, atol=1e-4):
            raise _error(
                f"slices that are not parallel: Image Orientation {axes.tolist()} and {other.tolist()}",
                "one orientation: a volume, not a localizer or a radial series",
            )


def _distinct(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values})


def _check_spacing(positions: Sequence[float]) -> None:
    """Whether slices are evenly spaced along their normal."""
    if len(positions) < 2:
        raise _error("slices at one position", "at least two: one alone says nothing of the spacing")
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > max(0.01 * usual, SAME_POSITION))
    if len(odd):
        where = [f"{gaps[i]:.2f} mm between {positions[i]:.2f} and {positions[i + 1]:.2f} mm" for i in odd.tolist()]
        reason = "a slice is missing" if gaps[odd].max() > 1.5 * usual else "the slices are not evenly spaced"
        raise _error(f"gaps of {usual:.2f} mm between slices but {listed(where, 3)}", f"even gaps: {reason}")


def _check_upright(phase: Sequence[Instance], normal: np.ndarray) -> None:
    """Whether the slices lie above each other: a sheared stack (gantry tilt) is on no rectangular grid."""
    corners = np.stack([_numbers(instance, "ImagePositionPatient", 3) for instance in phase])
    along = (corners - corners[0]) @ normal
    sideways = np.linalg.norm(corners - corners[0] - along[:, None] * normal, axis=1).max()
    pixel = _numbers(phase[0], "PixelSpacing", 2).min()
    if sideways > pixel / 2:
        raise _error(
            f"a stack that leans by {sideways:.2f} mm (gantry tilt)",
            f"less than half a pixel, {pixel / 2:.2f} mm: such a grid is not rectangular, resample the series first",
        )


def _in_time(place: Sequence[Instance], normal: np.ndarray) -> list[Instance]:
    """The images at one position in the order of their phases."""
    if len(place) == 1:
        return list(place)
    for keyword in ("TemporalPositionIdentifier", "TriggerTime"):
        times = [instance.header.get(keyword) for instance in place]
        if None not in times and len(set(times)) == len(times):
            return [instance for _, instance in sorted(zip(map(float, times), place, strict=True), key=lambda t: t[0])]
    raise _error(
        f"{len(place)} images at {position_of(place[0], normal):.2f} mm that no time tells apart",
        "one, or different Temporal Position Identifiers or Trigger Times",
    )


def _error(found: str, expected: str) -> DataError:
    return DataError(f"key 'image': found {found}, expected {expected}.")
