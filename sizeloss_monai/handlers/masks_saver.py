"""The masks an evaluation finds, on the grids of their scans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.transforms import SaveImage
from monai.utils import ensure_tuple

from sizeloss_monai.data.datalists import SECTIONS
from sizeloss_monai.data.findings import DataError
from sizeloss_monai.data.mask_writer import MaskWriter
from sizeloss_monai.data.whole_files import write_whole

__all__ = ["MasksSaver"]


class MasksSaver:
    """Writes ``masks/<case>.nii.gz``, and ``cases.json``, which says what files each mask belongs to.

    A mask has the network's classes (uint8) on its scan's own voxel grid: same shape, same affine. ``cases.json`` has
    ``target_ids``, the class of the network by id of the label files, and ``cases``: of each evaluated case ``case``,
    ``image``, ``label`` (None where there is no full annotation), and ``mask``, relative to the folder of the file.
    """

    def __init__(
        self,
        save_dir: str,
        datalist: Mapping[str, Any],
        label_ids: Sequence[int],
        target_ids: Sequence[int],
        probability_key: str = "probability",
    ) -> None:
        """
        Args:
            save_dir: folder of ``cases.json`` and of ``masks``; made if it is not there.
            datalist: what the cases were taken from, with absolute paths.
            label_ids: ids of the label files.
            target_ids: the class of the network that each of them is.
            probability_key: the softmax, ``MetaTensor`` of shape ``[C, X, Y, Z]`` on the scan's own grid.

        Raises:
            DataError: when a case's name cannot be that of a file.
        """
        self.save_dir = Path(save_dir)
        self.items = {str(item["case"]): item for section in SECTIONS for item in datalist.get(section, [])}
        for case in self.items:
            if not case or case != Path(case).name or "\\" in case:
                raise DataError(f"case '{case}', key 'case': expected a name that a file can have, its mask's.")
        self.target_ids = {str(given): int(made) for given, made in zip(label_ids, target_ids, strict=True)}
        self.probability_key = probability_key
        self.save = SaveImage(
            output_ext=".nii.gz", output_dtype=np.uint8, resample=False, print_log=False, writer=MaskWriter
        )
        self.cases: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a MONAI evaluator of volumes whose postprocessing leaves the probability, and whose batches have
                ``case``.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _reset(self, engine: Engine) -> None:
        self.cases = []
        (self.save_dir / "masks").mkdir(parents=True, exist_ok=True)

    def _write(self, engine: Engine) -> None:
        content = {"target_ids": self.target_ids, "cases": self.cases}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_whole(self.save_dir / "cases.json", text)

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: the evaluator, after an iteration.
        """
        batch: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(batch, outputs, strict=True):
            case = str(item["case"])
            given = self.items[case]
            mask = output[self.probability_key].argmax(dim=0, keepdim=True)
            self.save(mask, filename=self.save_dir / "masks" / case)
            self.cases.append(
                {
                    "case": case,
                    "image": ensure_tuple(given["image"])[0],
                    "label": given.get("label"),
                    "mask": f"masks/{case}.nii.gz",
                }
            )
