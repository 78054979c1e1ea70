"""A series: from the files of a folder to its phases, and from a phase to its grid and voxels."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk  # noqa: N813
from highdicom.spatial import create_affine_matrix_from_attributes, get_normal_vector
from monai.data import MetaTensor
from monai.data.utils import orientation_ras_lps
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    CTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from sizeloss_monai.data.grid import TOLERANCE, Grid
from sizeloss_monai.dicom.instances import FolderContents, Instance, Unused, data_error, is_scan
from sizeloss_monai.errors import DataError, listed

__all__ = [
    "digest",
    "numbers_of",
    "phase_grid",
    "pick_series",
    "decode_volume",
    "series_token",
    "split_phases",
    "unused_files",
    "usual_numbers",
]

_SOP_CLASSES = (
    MRImageStorage,
    CTImageStorage,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
    SecondaryCaptureImageStorage,
)
_SAME_POSITION = 0.05  # mm: slices closer than this are at one position, where a cine series has one image a phase
# How far rounded numbers may be apart, as far as the grids of two files: a share of a spacing, of a cosine, and of the
# height of a stack that leans.
_ROUNDED = TOLERANCE / 10


def series_token(uid: str) -> str:
    """A short name for a series that does not identify the patient: 12 hexadecimal digits of SHA-256 of its UID.

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
        instances: of any number of series. Segmentations, reports and the like are skipped.
        series_uid: the Series Instance UID. It is needed only where there are several series of images.

    Returns:
        Its instances.

    Raises:
        DataError: when the series does not exist, or there are several and no UID chooses one.
    """
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        if is_scan(instance.header):
            series[str(instance.header.get("SeriesInstanceUID", ""))].append(instance)
    choice = ", ".join(
        f"{uid} ({len(items)} instances, {items[0].header.get('Modality', 'no modality')})"
        for uid, items in series.items()
    )
    if series_uid is not None:
        if series_uid not in series:
            raise data_error(f"key 'image': found no series {series_uid}, expected one of: {choice or 'none'}.")
        return series[series_uid]
    if not series:
        raise data_error("key 'image': found no image among the DICOM files, expected a series.")
    if len(series) > 1:
        raise data_error(
            f"key 'image': found {len(series)} series, expected one, or the Series Instance UID that chooses: {choice}."
        )
    return next(iter(series.values()))


def unused_files(contents: FolderContents, series: Sequence[Instance]) -> list[Unused]:
    """All files of a folder that do not belong to one series.

    Args:
        contents: of the folder.
        series: the instances that are used.

    Returns:
        Each file with the reason, in the order of their names.
    """
    used = {instance.path for instance in series}
    others = [
        Unused(i.path, "an image of another series" if is_scan(i.header) else f"a {_sop_class(i.header)}, not a scan")
        for i in contents.instances
        if i.path not in used
    ]
    return sorted([*contents.unused, *others])


def _sop_class(header: Dataset) -> str:
    return UID(header.SOPClassUID).name.removesuffix(" Storage")


def split_phases(instances: Sequence[Instance], modality: str | None = None) -> list[list[Instance]]:
    """Sort the instances of one series into volumes, by position and time, never by file name or instance number.

    Slices are ordered along their normal, the cross product of the row's and the column's direction (DICOM PS3.3
    C.7.6.2.1.1). Several images at every position are phases, for instance of a heart beat: Temporal Position
    Identifier, or else Trigger Time, orders each position's images, and the k-th of every position make phase k.
    Trigger times of one phase differ from slice to slice, because the scanner takes each slice in other heart beats.

    Args:
        instances: of one series.
        modality: what the series must be, such as ``"MR"``.

    Returns:
        For each phase its slices in order.

    Raises:
        DataError: when the instances are not a regular stack of parallel slices (a slice is missing or is there twice,
            gantry tilt), have several channels, are damaged, or have another modality.
    """
    _check_instances(instances, modality)
    normal = get_normal_vector(_orientation([instance.header for instance in instances]))
    instances = sorted(instances, key=lambda instance: _position(instance, normal))
    places: list[list[Instance]] = []
    for instance in instances:
        here = _position(instance, normal)
        if places and here - _position(places[-1][0], normal) < _SAME_POSITION:
            places[-1].append(instance)
        else:
            places.append([instance])
    _check_spacing([_position(place[0], normal) for place in places])
    counts = Counter(len(place) for place in places)
    usual = counts.most_common(1)[0][0]
    if len(counts) > 1:
        odd = [f"{len(place)} at {_position(place[0], normal):.2f} mm" for place in places if len(place) != usual]
        raise _error(
            f"{usual} images at most positions but {listed(odd, 5)}",
            "as many at every position: a slice is missing, or there twice",
        )
    phases = [list(phase) for phase in zip(*(_in_time(place, normal) for place in places), strict=True)]
    for phase in phases:
        _check_upright(phase, normal)
    return phases


def phase_grid(headers: Sequence[Dataset]) -> Grid:
    """The grid of a phase, from the numbers in its headers alone.

    Args:
        headers: of its slices, in any order, see :py:func:`split_phases`.

    Returns:
        The grid of columns, rows and slices. The first slice is the lowest along the normal.

    Raises:
        DataError: when the voxels have no volume.
    """
    orientation = _orientation(headers)
    corners = np.array([numbers_of(header, "ImagePositionPatient") for header in headers])
    heights = corners @ get_normal_vector(orientation)
    affine = create_affine_matrix_from_attributes(
        image_position=corners[heights.argmin()],
        image_orientation=orientation,
        pixel_spacing=usual_numbers(headers, "PixelSpacing"),
        spacing_between_slices=float(np.ptp(heights)) / (len(headers) - 1),
    )
    grid = Grid.of((headers[0].Columns, headers[0].Rows, len(headers)), orientation_ras_lps(affine))
    if grid is None:
        raise _error("voxels of no volume", "pixels and distances between slices above 0 mm")
    return grid.at_right_angles()


def decode_volume(phase: Sequence[Instance]) -> MetaTensor:
    """Read the slices of a phase as a volume, as `LoadImage` would read it from one file.

    Each slice's own rescale slope and intercept are applied. GDCM, a part of SimpleITK, decodes JPEG, JPEG-LS, JPEG
    2000 and RLE. :py:func:`phase_grid` gives the grid: GDCM ignores positions in some SOP classes.

    Args:
        phase: its slices in order, see :py:func:`split_phases`.

    Returns:
        ``[x, y, z]``, float32: columns, rows, slices; with the affine (RAS, mm).

    Raises:
        DataError: when pixel data cannot be decoded.
    """
    grid = phase_grid([instance.header for instance in phase])
    meta = {
        MetaKeys.ORIGINAL_AFFINE: grid.affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(grid.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.AFFINE: grid.affine,
    }
    return MetaTensor.ensure_torch_and_prune_meta(np.stack([_pixels(instance) for instance in phase], axis=2), meta)


def _pixels(instance: Instance) -> NDArray[np.float32]:
    """The pixels of one slice, ``[x, y]``."""
    header, name = instance.header, instance.path.name
    try:
        image = _decoded(instance.path)
    except Exception as err:  # pydicom raises whatever a damaged value leads to
        raise _error(
            f"pixel data that cannot be decoded ({UID(header.file_meta.TransferSyntaxUID).name}) in '{name}'",
            "a file and a transfer syntax that GDCM reads; dcmtk's dcmdjpeg or gdcmconv --raw may make them "
            "uncompressed",
        ) from err
    pixels = sitk.GetArrayFromImage(image).T
    if pixels.size != header.Rows * header.Columns:
        raise _error(f"{pixels.size} decoded pixels in '{name}'", f"{header.Columns} columns and {header.Rows} rows")
    if not np.isfinite(pixels).all():
        raise _error(f"values that are not finite in '{name}'", "numbers")
    return pixels.reshape(header.Columns, header.Rows)


def _decoded(path: Path) -> sitk.Image:
    """The image in a file by GDCM; raises RuntimeError where it cannot decode it."""
    try:
        return sitk.ReadImage(str(path), sitk.sitkFloat32, "GDCMImageIO")
    except RuntimeError:
        dataset = dcmread(path, force=True)
        if "SpacingBetweenSlices" not in dataset:
            raise
        del dataset.SpacingBetweenSlices  # of 0, or no number, for which GDCM refuses the pixels
        with TemporaryDirectory() as folder:
            copy = Path(folder, "slice.dcm")
            dataset.save_as(copy)
            return sitk.ReadImage(str(copy), sitk.sitkFloat32, "GDCMImageIO")


def numbers_of(header: Dataset, keyword: str) -> tuple[float, ...]:
    """An attribute's values as numbers, in any writing: ``1.5``, ``1.50`` and ``1.5E0`` are one number.

    Args:
        header: a data set.
        keyword: of the attribute.

    Returns:
        The numbers; none where the attribute is absent or empty, or a value is not a finite number.
    """
    value = header.get(keyword)
    values = [value] if isinstance(value, (str, int, float)) else list(value or ())
    try:
        numbers = tuple(float(entry) for entry in values)
    except (TypeError, ValueError):
        return ()
    return numbers if np.isfinite(numbers).all() else ()


def usual_numbers(headers: Sequence[Dataset], keyword: str) -> tuple[float, ...]:
    """The numbers that most headers have for an attribute; the slices of one series may round them differently."""
    return Counter(numbers_of(header, keyword) for header in headers).most_common(1)[0][0]


def _orientation(headers: Sequence[Dataset]) -> list[float]:
    """The directions of a row and a column, 6 numbers (LPS); made perpendicular, since headers round them."""
    cosines = usual_numbers(headers, "ImageOrientationPatient")
    row, normal = np.array(cosines[:3]), get_normal_vector(cosines)
    row /= np.linalg.norm(row)
    return [*row, *np.cross(normal / np.linalg.norm(normal), row)]


def _position(instance: Instance, normal: NDArray[np.float64]) -> float:
    """Where a slice lies along the normal, in mm."""
    return float(_numbers(instance, "ImagePositionPatient", 3) @ normal)


def _numbers(instance: Instance, keyword: str, count: int) -> NDArray[np.float64]:
    """An attribute's numbers; raises an error unless there are `count`."""
    values = numbers_of(instance.header, keyword)
    if len(values) != count:
        found = instance.header.get(keyword)
        said = f"no usable {keyword}" if found is None else f"{keyword} {found}"
        raise _error(f"{said} in '{instance.path.name}'", f"{count} numbers")
    return np.asarray(values)


def _check_instances(instances: Sequence[Instance], modality: str | None) -> None:
    """Check each instance, and what must be the same in all."""
    for instance in instances:
        header, name = instance.header, instance.path.name
        if modality is not None and header.get("Modality") != modality:
            raise _error(f"modality {header.get('Modality') or 'not given'}", f"modality {modality}")
        if max(numbers_of(header, "NumberOfFrames"), default=1) > 1:
            raise _error(f"a multi-frame image, '{name}'", "one slice per instance: convert it to single frames first")
        if header.SOPClassUID not in _SOP_CLASSES:
            raise _error(
                f"the SOP class {_sop_class(header)} in '{name}'",
                f"one of single slices: {', '.join(uid.name.removesuffix(' Storage') for uid in _SOP_CLASSES)}",
            )
        if instance.problem:
            raise _error(f"{instance.problem} in '{name}'", "a whole file")
        if header.get("SamplesPerPixel") != 1 or header.get("PhotometricInterpretation") != "MONOCHROME2":
            kind = f"{header.get('PhotometricInterpretation')}, {header.get('SamplesPerPixel')} samples a pixel"
            raise _error(f"{kind} in '{name}'", "MONOCHROME2 with one sample a pixel")
    for keyword in ("StudyInstanceUID", "PatientID"):
        texts = {str(instance.header.get(keyword) or "").strip() for instance in instances} - {""}
        if len(texts) > 1:  # the message shows none: the log must not name a patient
            raise _error(f"{keyword} {len(texts)} different values", "one in the whole series")
    size = max(_check_same(instances, "Rows", 1)[0], _check_same(instances, "Columns", 1)[0])
    spacing = _check_same(instances, "PixelSpacing", 2, relative=min(_ROUNDED, 1 / size))
    if min(spacing) <= 0:
        raise _error(f"PixelSpacing {list(spacing)}", "two positive numbers")
    cosines = np.array(_check_same(instances, "ImageOrientationPatient", 6, absolute=_ROUNDED))
    lengths = np.linalg.norm(cosines[:3]), np.linalg.norm(cosines[3:])
    if not np.allclose([*lengths, cosines[:3] @ cosines[3:]], [1, 1, 0], atol=2 * _ROUNDED):
        raise _error(f"ImageOrientationPatient {cosines.tolist()}", "two perpendicular unit vectors")


def _check_same(
    instances: Sequence[Instance], keyword: str, count: int, relative: float = 0.0, absolute: float = 0.0
) -> tuple[float, ...]:
    """The usual numbers of an attribute; all instances must have them, but may round them differently."""
    values = [_numbers(instance, keyword, count) for instance in instances]
    usual = usual_numbers([instance.header for instance in instances], keyword)
    for value in values:
        if not np.allclose(value, usual, rtol=relative, atol=absolute):
            shown = [" ".join(f"{number:.7g}" for number in numbers) for numbers in (usual, value)]
            if keyword == "ImageOrientationPatient":
                raise _error(
                    f"slices that are not parallel: {keyword} {shown[0]} and {shown[1]}",
                    "one orientation: a volume, not a localizer or a radial series",
                )
            raise _error(f"{keyword} {shown[0]} and {shown[1]}", "one in the whole series")
    return usual


def _check_spacing(positions: Sequence[float]) -> None:
    """Check that slices are evenly spaced along their normal."""
    if len(positions) < 2:
        raise _error("slices at one position", "at least two: one alone says nothing of the spacing")
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > max(_ROUNDED * usual, _SAME_POSITION))
    if len(odd):
        where = [f"{gaps[i]:.2f} mm between {positions[i]:.2f} and {positions[i + 1]:.2f} mm" for i in odd.tolist()]
        reason = "a slice is missing" if gaps[odd].max() > 1.5 * usual else "the slices are not evenly spaced"
        raise _error(f"gaps of {usual:.2f} mm between slices but {listed(where, 3)}", f"even gaps: {reason}")


def _check_upright(phase: Sequence[Instance], normal: NDArray[np.float64]) -> None:
    """Check that the slices lie above each other: the grid of a sheared stack (gantry tilt) is not rectangular."""
    corners = np.stack([_numbers(instance, "ImagePositionPatient", 3) for instance in phase])
    along = (corners - corners[0]) @ normal
    sideways = np.linalg.norm(corners - corners[0] - along[:, None] * normal, axis=1).max()
    pixel = _numbers(phase[0], "PixelSpacing", 2).min()
    if sideways > max(pixel / 2, _ROUNDED * along[-1]):
        raise _error(
            f"a stack that leans by {sideways:.2f} mm (gantry tilt)",
            f"less than half a pixel, {pixel / 2:.2f} mm, or a hundredth of its height: such a grid is not "
            "rectangular, resample the series first",
        )


def _in_time(place: Sequence[Instance], normal: NDArray[np.float64]) -> list[Instance]:
    """The images at one position in the order of their phases."""
    if len(place) == 1:
        return list(place)
    for keyword in ("TemporalPositionIdentifier", "TriggerTime"):
        times = [numbers_of(instance.header, keyword) for instance in place]
        if all(len(time) == 1 for time in times) and len(set(times)) == len(times):
            return [instance for _, instance in sorted(zip(times, place, strict=True), key=lambda pair: pair[0])]
    raise _error(
        f"{len(place)} images at {_position(place[0], normal):.2f} mm that no time tells apart",
        "one image, or different Temporal Position Identifiers or Trigger Times",
    )


def _error(found: str, expected: str) -> DataError:
    return data_error(f"key 'image': found {found}, expected {expected}.")
