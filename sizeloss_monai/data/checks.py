"""Checks of data that name every problem of every case at once, before any training starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader, MetaTensor, NibabelReader
from monai.transforms import LoadImage
from monai.utils import ensure_tuple
from numpy.typing import ArrayLike
from tqdm import tqdm

from sizeloss_monai.data.integrity import verify_file
from sizeloss_monai.data.sitk_reader import SimpleITKReader

__all__ = ["DataError", "check_bounds", "check_cases", "listed"]


class DataError(ValueError):
    """Data that cannot be used as they are; the message says what was found and what was expected."""


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Join names for a message.

    Args:
        names: the names.
        limit: how many to show; of the others only the number is given.

    Returns:
        For instance ``"a, b and 3 more"``.
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def check_bounds(bounds: ArrayLike | torch.Tensor, num_classes: int | None = None, name: str = "size_bounds") -> None:
    """Check bounds of sizes.

    Args:
        bounds: lower and upper bound of every class, ``[C, 2]`` in any unit; an upper bound may be infinite.
        num_classes: `C`, or ``None`` for any number.
        name: what to call the bounds in the message.

    Raises:
        DataError: if the shape is wrong, a bound is NaN or negative, a lower bound is infinite or greater than its
            upper bound.
    """
    problems = _bounds_problems(bounds, num_classes, float("inf"))
    if problems:
        raise DataError("; ".join(f"{name}: {problem}" for problem in problems))


def check_cases(
    items: Sequence[Mapping[str, Any]],
    keys: Sequence[str] = ("image", "label"),
    num_classes: int | None = None,
    label_ids: Mapping[str, Collection[int]] | None = None,
    ignore_index: int | None = 255,
    reader: ImageReader | type[ImageReader] | str | None = None,
    require_label: bool = True,
    bounds_key: str = "size_bounds",
    bounds_in_voxels: bool = True,
    image_key: str = "image",
    num_channels: int = 1,
    affine_tolerance: float = 1e-3,
    num_workers: int = 0,
    progress: bool = False,
) -> None:
    """Read every case once and report all problems of all cases in one error.

    A problem is a file that is missing, unreadable, truncated or damaged; an image that is not 3D, or has NaN or
    infinite voxels; a label whose shape or affine is not that of its image, whose values are no integers or no known
    ids; and bounds that :py:func:`check_bounds` refuses or that are greater than the volume. A label without any
    object is none.

    Example::

        datalist = open_datalist(dataset_dir)
        check_cases(datalist["training"] + datalist["validation"], num_classes=4)

    Args:
        items: the items of a data list with absolute paths.
        keys: the keys to read. All but `image_key` are labels.
        num_classes: the ids ``0 .. num_classes - 1`` are allowed, and bounds must be ``[num_classes, 2]``. ``None``
            allows any ids from 0 and any number of classes.
        label_ids: the ids allowed for a key, instead of those of `num_classes`: ``{"weak_label": range(5)}``.
        ignore_index: an id that is always allowed, or ``None``.
        reader: a MONAI reader for all files, as for :py:class:`monai.transforms.LoadImage`. By default
            NibabelReader for NIfTI and SimpleITKReader for the others, after a check that the file is whole.
        require_label: whether an item must have all `keys`; otherwise the image only.
        bounds_key: where an item may have bounds, ``[C, 2]``.
        bounds_in_voxels: whether bounds are in voxels, so that they can be compared to the volume.
        image_key: the key of the image.
        num_channels: the number of channels of the image.
        affine_tolerance: the greatest difference of an entry of the affine, relative to the smallest voxel spacing.
        num_workers: number of threads; 0 reads in the calling one.
        progress: whether to show a progress bar.

    Raises:
        DataError: with one line per problem: ``case 'a', key 'label': found ..., expected ...``.
    """
    check = partial(
        _case_problems,
        keys=keys,
        num_classes=num_classes,
        label_ids=label_ids or {},
        ignore_index=ignore_index,
        reader=None if reader is None else LoadImage(reader=reader).readers[-1],
        require_label=require_label,
        bounds_key=bounds_key,
        bounds_in_voxels=bounds_in_voxels,
        image_key=image_key,
        num_channels=num_channels,
        affine_tolerance=affine_tolerance,
    )
    names = [str(item.get("case", f"#{i}")) for i, item in enumerate(items)]
    if num_workers > 0:
        with ThreadPoolExecutor(num_workers) as pool:
            found = list(tqdm(pool.map(check, items), total=len(items), disable=not progress))
    else:
        found = [check(item) for item in tqdm(items, disable=not progress)]
    lines = [
        f"case '{name}', key '{key}': {text}"
        for name, problems in zip(names, found, strict=True)
        for key, text in problems
    ]
    if lines:
        bad = sum(bool(problems) for problems in found)
        raise DataError("\n".join([f"{len(lines)} problems in {bad} of {len(items)} cases:", *lines]))


def _case_problems(
    item: Mapping[str, Any],
    keys: Sequence[str],
    num_classes: int | None,
    label_ids: Mapping[str, Collection[int]],
    ignore_index: int | None,
    reader: ImageReader | None,
    require_label: bool,
    bounds_key: str,
    bounds_in_voxels: bool,
    image_key: str,
    num_channels: int,
    affine_tolerance: float,
) -> list[tuple[str, str]]:
    """The problems of one case, each with its key. See :py:func:`check_cases` for the arguments."""
    problems: list[tuple[str, str]] = []
    image: MetaTensor | None = None
    num_voxels = float("inf")
    for key in sorted(keys, key=lambda name: name != image_key):
        if item.get(key) is None:
            if require_label or key == image_key:
                problems.append((key, "found no such key, expected a file"))
            continue
        volume, problem = _load(item[key], reader)
        if volume is None:
            problems.append((key, problem))
            continue
        if bounds_in_voxels and num_voxels == float("inf"):
            num_voxels = float(volume[0].numel())
        if key == image_key:
            image = volume
            texts = _image_problems(volume, num_channels)
        else:
            allowed = label_ids.get(key, None if num_classes is None else range(num_classes))
            texts = _label_problems(volume, allowed, ignore_index)
            if image is not None:
                texts += _grid_problems(volume, image, image_key, affine_tolerance)
        problems += [(key, text) for text in texts]
    if item.get(bounds_key) is not None:
        problems += [(bounds_key, text) for text in _bounds_problems(item[bounds_key], num_classes, num_voxels)]
    return problems


def _load(files: Any, reader: ImageReader | None) -> tuple[MetaTensor | None, str]:
    """Read a file, or several as channels: the volume ``[C, *spatial]``, or ``None`` and what is wrong with it."""
    paths = [Path(path) for path in ensure_tuple(files)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        return None, f"found no file {listed(missing)}, expected it to exist"
    try:
        for path in paths:
            if path.is_file():
                verify_file(path)
        nifti = all(path.name.lower().endswith((".nii", ".nii.gz")) for path in paths)
        default = NibabelReader() if nifti else SimpleITKReader(verify=False)
        return LoadImage(image_only=True, ensure_channel_first=True)(paths, reader=reader or default), ""
    except Exception as err:  # every reader has its own errors, and none of them may hide those of other cases
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(err).__name__
        for path in paths:
            reason = reason.replace(str(path), path.name)
        return None, f"found a file that cannot be read ({reason}), expected a whole image"


def _image_problems(image: MetaTensor, num_channels: int) -> list[str]:
    """What is wrong with the shape and the voxels of an image."""
    problems = _shape_problems(image, num_channels)
    num_nan, num_inf = int(image.isnan().sum()), int(image.isinf().sum())
    if num_nan or num_inf:
        problems.append(f"found {num_nan} NaN and {num_inf} infinite voxels, expected finite numbers")
    return problems


def _label_problems(label: MetaTensor, allowed: Collection[int] | None, ignore_index: int | None) -> list[str]:
    """What is wrong with the shape and the values of a label."""
    problems = _shape_problems(label, 1)
    values = np.unique(label.numpy())
    fractional = values[~(np.isfinite(values) & (values == np.rint(values)))]
    if fractional.size:
        shown = listed([f"{value:g}" for value in fractional], 5)
        return [*problems, f"found values that are no integers ({shown}), expected class ids"]
    ids = {int(value) for value in values} - {ignore_index}
    unknown = sorted(ids - set(allowed)) if allowed is not None else sorted(value for value in ids if value < 0)
    if unknown:
        expected = "ids from 0" if allowed is None else listed([str(value) for value in sorted(allowed)])
        extra = "" if ignore_index is None else f" or {ignore_index} (ignored)"
        problems.append(f"found ids {listed([str(value) for value in unknown])}, expected {expected}{extra}")
    return problems


def _shape_problems(volume: MetaTensor, num_channels: int) -> list[str]:
    """What is wrong with the shape ``[C, x, y, z]``."""
    if volume.ndim == 4 and volume.shape[0] == num_channels:
        return []
    found = "x".join(map(str, volume.shape[1:]))
    return [
        f"found {volume.ndim - 1}D ({found}) with {volume.shape[0]} channels, "
        f"expected 3D with {num_channels} channel{'s' if num_channels > 1 else ''}"
        + (" (split a 4D file, a volume over time, into its phases)" if volume.shape[0] > num_channels else "")
    ]


def _grid_problems(label: MetaTensor, image: MetaTensor, image_key: str, tolerance: float) -> list[str]:
    """How the grid of a label differs from that of its image."""
    if label.shape[1:] != image.shape[1:]:
        return [f"found shape {tuple(label.shape[1:])}, expected that of '{image_key}' {tuple(image.shape[1:])}"]
    difference = (label.affine - image.affine).abs().max().item()
    spacing = image.pixdim.min().item()
    if not difference <= tolerance * spacing:
        return [
            f"found an affine that differs by {difference:.4g}, "
            f"expected that of '{image_key}' within {tolerance * spacing:.4g}"
        ]
    return []


def _bounds_problems(bounds: Any, num_classes: int | None, num_voxels: float) -> list[str]:
    """What is wrong with bounds; `num_voxels` is infinite where they are not to be compared to a volume."""
    try:
        array = np.asarray(bounds.detach().cpu() if isinstance(bounds, torch.Tensor) else bounds, dtype=np.float64)
    except (TypeError, ValueError):
        return ["found no array of numbers, expected [C, 2]"]
    if array.ndim != 2 or array.shape[1] != 2 or num_classes not in (None, len(array)):
        return [f"found shape {list(array.shape)}, expected [{'C' if num_classes is None else num_classes}, 2]"]
    problems = []
    for index, (lower, upper) in enumerate(array.tolist()):
        found = f"found ({lower:g}, {upper:g}) for class {index}, expected "
        if np.isnan(lower) or np.isnan(upper):
            problems.append(found + "numbers")
        elif lower < 0 or upper < 0 or np.isinf(lower):
            problems.append(found + "0 <= lower < inf and upper >= 0")
        elif lower > upper:
            problems.append(found + "lower <= upper")
        elif lower > num_voxels or num_voxels < upper < float("inf"):
            problems.append(found + f"at most the {num_voxels:.0f} voxels of the volume, or an infinite upper bound")
    return problems
