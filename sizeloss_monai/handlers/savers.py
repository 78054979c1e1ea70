"""Masks and sizes, which an evaluation writes for reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from sizeloss_monai.data.components import component_sizes
from sizeloss_monai.data.mask_writer import MaskWriter
from sizeloss_monai.data.whole_files import write_whole
from sizeloss_monai.datalist.classes import ClassMap
from sizeloss_monai.datalist.layouts import SECTIONS
from sizeloss_monai.errors import DataError
from sizeloss_monai.sizes.bounds import SizeBounds, case_bounds, case_tags, union_bounds
from sizeloss_monai.sizes.table import SizeRow, write_sizes
from sizeloss_monai.transforms import VoxelSize

__all__ = ["MasksSaver", "SizesSaver", "bounds_in_ml", "touched_faces"]


class _CasesSaver:
    """Collects something of each case of an epoch, and writes it at the end."""

    def __init__(self, datalist: Mapping[str, Any], probability_key: str) -> None:
        self.items = {str(item["case"]): item for section in SECTIONS for item in datalist.get(section, [])}
        self.probability_key = probability_key

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a MONAI evaluator of volumes whose postprocessing leaves the probability, and a one-hot ``label``
                where there is a full annotation. Its batches have ``case``.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def __call__(self, engine: Engine) -> None:
        """Collect the cases of an iteration."""
        batch: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(batch, outputs, strict=True):
            self._add(str(item["case"]), output)

    def _reset(self, engine: Engine) -> None:
        raise NotImplementedError

    def _add(self, case: str, output: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _write(self, engine: Engine) -> None:
        raise NotImplementedError


class MasksSaver(_CasesSaver):
    """Writes ``masks/<case>.nii.gz``, and ``cases.json`` with the files of each case.

    A mask has the network's classes (uint8) on its scan's own voxel grid. ``cases.json`` has ``target_ids``, the class
    of each id in the label files, and ``cases``, a list with ``case``, ``image``, ``label`` (None without a full
    annotation) and ``mask``, relative to the folder of the file.
    """

    def __init__(
        self,
        save_dir: str,
        datalist: Mapping[str, Any],
        classes: ClassMap,
        probability_key: str = "probability",
    ) -> None:
        """
        Args:
            save_dir: folder of ``cases.json`` and of ``masks``; made if it is not there.
            datalist: what the cases were taken from, with absolute paths.
            classes: the class of each id of the label files.
            probability_key: the softmax, ``MetaTensor`` of shape ``[C, X, Y, Z]`` on the scan's own grid.

        Raises:
            DataError: when the name of a case cannot name a file.
        """
        super().__init__(datalist, probability_key)
        self.save_dir = Path(save_dir)
        for case in self.items:
            if not case or case != Path(case).name or "\\" in case:
                raise DataError(f"case '{case}', key 'case': expected a name that a file can have, its mask's.")
        self.target_ids = {str(label_id): class_id for label_id, class_id in classes.class_of.items()}
        self.cases: list[dict[str, Any]] = []

    def _reset(self, engine: Engine) -> None:
        self.cases = []
        (self.save_dir / "masks").mkdir(parents=True, exist_ok=True)

    def _write(self, engine: Engine) -> None:
        content = {"target_ids": self.target_ids, "cases": self.cases}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_whole(self.save_dir / "cases.json", text)

    def _add(self, case: str, output: Mapping[str, Any]) -> None:
        given = self.items[case]
        mask = output[self.probability_key].argmax(dim=0, keepdim=True)
        # not by SaveImage, which hides the error of a full disk in the text of another
        writer = MaskWriter(output_dtype=np.uint8)
        writer.set_data_array(mask)
        writer.set_metadata(mask.meta, resample=False)
        writer.write(self.save_dir / "masks" / f"{case}.nii.gz")
        files = {"image": ensure_tuple(given["image"])[0], "label": given.get("label"), "mask": f"masks/{case}.nii.gz"}
        self.cases.append({"case": case, **files})


_OPPOSITE = dict(zip("LRAPIS", "RLPASI", strict=True))


def touched_faces(mask: NDArray[np.bool_], affine: Any) -> str:
    """The faces of a volume that a mask reaches.

    Args:
        mask: ``[X, Y, Z]``.
        affine: voxel index -> mm, RAS.

    Returns:
        The nearest directions of these faces, such as ``"IS"`` for the lowest and highest slice of an axial volume.
    """
    faces = ""
    for axis, code in enumerate(nib.orientations.aff2axcodes(np.asarray(affine, dtype=np.float64))):
        first, last = (bool(np.take(mask, index, axis).any()) for index in (0, -1))
        faces += _OPPOSITE[code] * first + code * last
    return faces


def bounds_in_ml(
    bounds: SizeBounds | None, tags: Mapping[int, bool | tuple[int, ...]], ids: Sequence[int], voxel_ml: float
) -> tuple[float, float] | None:
    """The bounds on the volume of a class.

    Args:
        bounds: bounds of the case.
        tags: tags of the case.
        ids: ids in the label files that make up the class; their bounds add up.
        voxel_ml: volume of a voxel of the file, mL.

    Returns:
        Lower and upper bound in mL, (0, 0) for a class that the tags call absent, None without bounds on volumes.
    """
    if all(tags.get(label_id) in (False, ()) for label_id in ids):
        return 0.0, 0.0
    if bounds is None or bounds.per != "volume" or not any(label_id in bounds.bounds for label_id in ids):
        return None
    lower, upper = union_bounds(bounds, tags, ids)
    factor = voxel_ml if bounds.unit == "voxels" else 1.0
    return factor * lower, factor * upper


class SizesSaver(_CasesSaver):
    """Writes ``sizes.csv``: soft, hard and true size of each class of each case in mL, beside its bounds.

    :py:class:`~sizeloss_monai.sizes.table.SizeRow` has the columns. The bounds are those on volumes in the data list,
    tags included. Cases without ``label`` have no true size.
    """

    def __init__(
        self,
        save_dir: str,
        datalist: Mapping[str, Any],
        classes: ClassMap,
        probability_key: str = "probability",
    ) -> None:
        """
        Args:
            save_dir: folder of the table; made if it is not there.
            datalist: what the cases were taken from, for their bounds and the names of classes.
            classes: the class of each id of the label files, by which the data list gives bounds.
            probability_key: the softmax, ``MetaTensor`` of shape ``[C, X, Y, Z]`` on the scan's own grid.

        Raises:
            DataError: when the data list has bounds or tags of another form.
        """
        super().__init__(datalist, probability_key)
        self.path = Path(save_dir) / "sizes.csv"
        self.known = {case: (case_bounds(datalist, item), case_tags(item)) for case, item in self.items.items()}
        self.names = classes.names(datalist)
        self.ids = classes.ids_of
        self.rows: list[SizeRow] = []

    def _reset(self, engine: Engine) -> None:
        self.rows = []

    def _write(self, engine: Engine) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_sizes(self.rows, self.path)

    def _add(self, case: str, output: Mapping[str, Any]) -> None:
        """Measure a case; raises TypeError where the probability has no affine."""
        probability, label = output[self.probability_key], output.get("label")
        if not isinstance(probability, MetaTensor):
            raise TypeError(
                f"{self.probability_key!r} must be a MetaTensor to know its voxels in mm, found "
                f"{type(probability).__name__}."
            )
        affine = probability.affine.cpu().numpy()
        voxel_ml = float(VoxelSize("volume")(probability))
        values = probability.as_tensor()
        classes = values.argmax(dim=0).cpu().numpy()
        for class_id, name in self.names.items():
            mask = classes == class_id
            lower, upper = bounds_in_ml(*self.known.get(case, (None, {})), self.ids[class_id], voxel_ml) or (None, None)
            self.rows.append(
                SizeRow(
                    case=case,
                    class_id=class_id,
                    name=name,
                    soft_ml=voxel_ml * float(values[class_id].sum(dtype=torch.float64)),
                    hard_ml=voxel_ml * int(mask.sum()),
                    true_ml=None if label is None else voxel_ml * int((torch.as_tensor(label)[class_id] > 0).sum()),
                    lower_ml=lower,
                    upper_ml=upper,
                    components=len(component_sizes(mask)),
                    touches_border=touched_faces(mask, affine),
                )
            )
