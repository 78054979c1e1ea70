"""Read every case once, and report the problems of all."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImage
from numpy.typing import NDArray
from tqdm import tqdm

from sizeloss_monai.data.grid import Grid, grid_of
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX, whole_ids
from sizeloss_monai.data.slice_axis import SliceAxis, slice_axis_of
from sizeloss_monai.data.volumes import grid_findings, image_findings, label_findings, read_volume
from sizeloss_monai.datalist.classes import Classes
from sizeloss_monai.errors import DataError, Finding, Place, counted

__all__ = ["ANNOTATIONS", "CaseFacts", "check_cases", "for_every_case", "gather_facts", "raise_if_any", "read_case"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")


def check_cases(
    items: Sequence[Mapping[str, Any]],
    keys: Sequence[str] = ("image", "label"),
    num_classes: int | None = None,
    label_ids: Mapping[str, Collection[int]] | None = None,
    ignore_index: int | None = DEFAULT_IGNORE_INDEX,
    reader: ImageReader | type[ImageReader] | str | None = None,
    require_label: bool = True,
    image_key: str = "image",
    num_channels: int = 1,
    num_workers: int = 0,
    progress: bool = False,
) -> None:
    """Read every case once and report all problems of all cases in one error.

    A problem is a file that is missing, unreadable, truncated or damaged; an image that is not 3D, or has NaN or
    infinite voxels; and a label that lies on another grid than its image, or has values other than known ids. An empty
    label is right. For the cases of a data list see :py:func:`check_used_data`, which checks the list, too.

    Example::

        datalist = open_datalist(dataset_dir)
        check_cases(datalist["training"] + datalist["validation"], num_classes=4)

    Args:
        items: the items of a data list with absolute paths.
        keys: the keys to read. All but `image_key` are labels.
        num_classes: allows the ids ``0 .. num_classes - 1``; None allows any from 0.
        label_ids: the ids allowed for a key, instead of those of `num_classes`: ``{"weak_label": range(5)}``.
        ignore_index: an id that is always allowed, or None.
        reader: a MONAI reader for all files; :py:class:`~sizeloss_monai.data.VolumeReader` by default.
        require_label: whether an item must have all `keys`, or the image only.
        image_key: the key of the image.
        num_channels: of the image.
        num_workers, progress: see :py:func:`for_every_case`.

    Raises:
        DataError: with one line per problem: ``case 'a', key 'label': found ..., expected ...``.
    """
    allowed = {key: None if num_classes is None else range(num_classes) for key in keys} | dict(label_ids or {})
    read = partial(
        read_case,
        keys=keys,
        label_ids=allowed,
        ignore_index=ignore_index,
        reader=None if reader is None else LoadImage(reader=reader).readers[-1],
        require_label=require_label,
        image_key=image_key,
        num_channels=num_channels,
    )
    named = [{**item, "case": str(item.get("case", item.get(image_key, f"#{i}")))} for i, item in enumerate(items)]
    found = for_every_case(lambda item: read(item)[1], named, num_workers, progress)
    raise_if_any(found)


def read_case(
    item: Mapping[str, Any],
    keys: Sequence[str],
    label_ids: Mapping[str, Collection[int] | None],
    ignore_index: int | None = None,
    reader: ImageReader | None = None,
    require_label: bool = False,
    image_key: str = "image",
    num_channels: int = 1,
) -> tuple[dict[str, MetaTensor], list[Finding]]:
    """Read the files of one case and check each of them, and labels against the image.

    Args:
        item: the case, with its name under ``case``.
        keys, label_ids, ignore_index, reader, require_label, image_key, num_channels: see :py:func:`check_cases`.

    Returns:
        The volumes that could be read, ``[C, *spatial]``, and the findings.
    """
    volumes: dict[str, MetaTensor] = {}
    findings: list[Finding] = []
    for key in sorted(keys, key=lambda name: name != image_key):
        where = Place(item["case"], key)
        if item.get(key) is None:
            if require_label or key == image_key:
                findings.append(where.error("missing-key", "no such key", "a file"))
            continue
        volume = read_volume(item[key], where, reader)
        if isinstance(volume, Finding):
            findings.append(volume)
            continue
        volumes[key] = volume
        if key == image_key:
            findings += image_findings(volume, where, num_channels)
        else:
            findings += label_findings(volume, where, label_ids.get(key), ignore_index)
            if image_key in volumes:
                findings += grid_findings(volume, volumes[image_key], where, image_key)
    return volumes, findings


def for_every_case(function: Callable[[T], U], items: Sequence[T], num_workers: int, progress: bool) -> list[U]:
    """Apply a function to every case, in `num_workers` threads (0: the calling one), and show `progress` on stderr."""
    if num_workers > 0:
        with ThreadPoolExecutor(num_workers) as pool:
            return list(tqdm(pool.map(function, items), total=len(items), disable=not progress))
    return [function(item) for item in tqdm(items, disable=not progress)]


def raise_if_any(found: Iterable[Sequence[Finding]]) -> None:
    """Log the warnings among the findings of every case, and raise its errors.

    Raises:
        DataError: when there are errors; it has a line for each, after one that counts them.
    """
    cases = list(found)
    for finding in (finding for findings in cases for finding in findings if finding.severity == "warning"):
        logger.warning(finding)
    errors = [[finding for finding in findings if finding.severity == "error"] for findings in cases]
    lines = [str(finding) for findings in errors for finding in findings]
    if lines:
        bad = sum(bool(findings) for findings in errors)
        raise DataError("\n".join([f"{counted(len(lines), 'problem')} in {bad} of {len(cases)} cases:", *lines]))


ANNOTATIONS = ("label", "weak_label")
"""The keys of annotations."""

_PERCENTILE_SAMPLES = 1 << 20


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a case once its files have been read.

    Args:
        section: of the data list.
        item: its entry.
        grid: of the image; None if it is not 3D, or could not be read.
        slice_axis: voxel axis that its slices are stacked along.
        counts: by key of an annotation on the image's grid, and by id, the number of voxels in each slice.
        intensity_range: difference of the image's 1st and 99th percentile; None if it is 0.
        digest: of the image's voxels.
        findings: what is wrong with each file.
    """

    section: str
    item: Mapping[str, Any]
    grid: Grid | None = None
    slice_axis: int = 2
    counts: Mapping[str, Mapping[int, NDArray[np.int64]]] = field(default_factory=dict)
    intensity_range: float | None = None
    digest: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def case(self) -> str:
        """The name of the case."""
        return str(self.item["case"])

    @property
    def num_slices(self) -> int:
        """The number of slices, 0 without a grid."""
        return 0 if self.grid is None else self.grid.shape[self.slice_axis]

    def count(self, key: str, class_id: int) -> NDArray[np.int64] | None:
        """The number of voxels of a class in each slice; None without such an annotation."""
        if key not in self.counts or self.grid is None:
            return None
        return self.counts[key].get(class_id, np.zeros(self.num_slices, dtype=np.int64))


def gather_facts(
    section: str,
    item: Mapping[str, Any],
    classes: Classes,
    num_channels: int = 1,
    keys: Sequence[str] = ANNOTATIONS,
    require_label: bool = False,
    slice_axis: SliceAxis = "widest",
) -> CaseFacts:
    """Read the files of a case once, and say what is known of it.

    Args:
        section: of the data list.
        item: its entry, with absolute paths.
        classes: the ids that annotations may have.
        num_channels: of the image.
        keys: of the annotations to read.
        require_label: whether the case must have all of them.
        slice_axis: where slices lie.
    """
    volumes, findings = read_case(
        item,
        ("image", *keys),
        {key: classes.allowed_ids(key) for key in keys},
        ignore_index=None if classes.names else classes.unannotated,
        require_label=require_label,
        num_channels=num_channels,
    )
    bad = {(finding.key, finding.code) for finding in findings}
    if "image" not in volumes:
        return CaseFacts(section, item, findings=tuple(findings))
    image = volumes["image"]
    grid = grid_of(image)
    where = Place(str(item["case"]), "image")
    counts = {}
    axis = 2
    if grid is not None:
        axis = slice_axis_of(grid.spacing, grid.affine, slice_axis)
        for key in keys:
            codes = {code for of_key, code in bad if of_key == key}
            if key in volumes and not codes & {"dimensions", "not-integer", "shape"}:
                counts[key] = _count_ids(volumes[key], axis)
    if "label" in counts and classes.unannotated == 0 and classes.background and 0 in counts["label"]:
        of_label = counts["label"]  # 0 is the background of a full mask
        of_label[classes.background] = of_label.pop(0) + of_label.get(classes.background, 0)
    intensity_range = None
    if ("image", "not-finite") not in bad:
        intensity_range = _intensity_range(image)
        if not intensity_range:
            found = f"the same value, {float(image.flatten()[0]):g}, in all voxels"
            findings.append(where.error("constant", found, "an image"))
    return CaseFacts(section, item, grid, axis, counts, intensity_range or None, _digest(image), tuple(findings))


def _count_ids(label: MetaTensor, axis: int) -> dict[int, NDArray[np.int64]]:
    """The voxels of every id in each slice of a label ``[1, x, y, z]``."""
    counts: dict[int, NDArray[np.int64]] = {}
    slices = np.moveaxis(label[0].numpy(), axis, 0)
    for index, values in enumerate(slices):
        ids, _ = whole_ids(values)
        for class_id, number in zip(*np.unique(ids, return_counts=True), strict=True):
            counts.setdefault(int(class_id), np.zeros(len(slices), np.int64))[index] = number
    return dict(sorted(counts.items()))


def _intensity_range(image: MetaTensor) -> float:
    """The difference of the 1st and 99th percentile, of the extremes where that is 0."""
    values = image.numpy().ravel(order="K")
    low, high = np.percentile(values[:: max(1, values.size // _PERCENTILE_SAMPLES)], (1, 99))
    return float(high - low) or float(values.max() - values.min())


def _digest(image: MetaTensor) -> str:
    """A hash of the shape and the voxels."""
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    digest.update(np.ascontiguousarray(image.numpy()).reshape(-1).data)
    return digest.hexdigest()
