"""What a check keeps of a case: little enough to hold all of them at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from sizeloss_monai.data.checks.cases import read_case
from sizeloss_monai.data.checks.classes import Classes
from sizeloss_monai.data.findings import Finding, Place
from sizeloss_monai.data.grid import Grid, grid_of
from sizeloss_monai.data.slice_axis import SliceAxis, slice_axis_of
from sizeloss_monai.transforms.label_ids import whole_ids

__all__ = ["ANNOTATIONS", "CaseFacts", "gather_facts"]

ANNOTATIONS = ("label", "weak_label")
"""The keys of annotations."""

_PERCENTILE_SAMPLES = 1 << 20


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a case once its files have been read.

    Args:
        section: of the data list.
        item: the entry of the data list.
        grid: of the image; None where it is no 3D volume, or could not be read.
        slice_axis: voxel axis that its slices are stacked along.
        counts: by key of an annotation on the image's grid, and by id, the number of voxels in each slice.
        intensity_range: difference of the image's 1st and 99th percentile; None where there is none above 0.
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
        """The number of slices, 0 where the image is no 3D volume, or could not be read."""
        return 0 if self.grid is None else self.grid.shape[self.slice_axis]

    def count(self, key: str, class_id: int) -> NDArray[np.int64] | None:
        """The number of voxels of a class in each slice, None where there is no such annotation."""
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
    """Read the files of a case once.

    Args:
        section: of the data list.
        item: its entry, with absolute paths.
        classes: the ids that annotations may have.
        num_channels: of the image.
        keys: of the annotations to read.
        require_label: whether the case must have all of them.
        slice_axis: where slices lie.

    Returns:
        What is known of the case, and what is wrong with its files.
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
        of_label = counts["label"]  # of a full mask, 0 is the background
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
