"""Runs as training and evaluation leave them, made by hand and so in no time."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch.utils.tensorboard import SummaryWriter

from sizeloss_monai.datalist import ClassMap
from sizeloss_monai.handlers import MasksSaver, SizesSaver
from sizeloss_monai.phantoms import make_affine

SHAPE, SPACING = (24, 20, 6), (2.0, 2.0, 8.0)
NAMES = {1: "left <ventricle>", 2: "wall & rim"}
SHIFTS = {"good": 0, "fair": 2, "poor": 5, "out": 1, "blind": 3}
"""By case, how many voxels the mask lies beside the truth."""


def annotation(shift: int = 0, thick: int = 1) -> np.ndarray:
    """A box in a shell."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[7 + shift : 15 + shift, 6:14, 1:5] = 2
    mask[7 + shift + thick : 15 + shift - thick, 6 + thick : 14 - thick, 1:5] = 1
    return mask


def dice(mask: np.ndarray, truth: np.ndarray, class_id: int) -> float:
    """Of one class."""
    found, wanted = mask == class_id, truth == class_id
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def write_training(run_dir: Path, experiment: str = "common_bounds") -> None:
    """`run.json` and event files, of a run that was resumed."""
    run_dir.mkdir(parents=True)
    start = {"command": ["m", "run", "--config_file", "['a.yaml']"], "started": "2026-01-01T00:00:00+00:00"}
    start |= {"commit": "abc", "experiment": experiment, "seed": 0, "machine": {"cores": 2, "gpus": []}}
    (run_dir / "run.json").write_text(json.dumps([start, {**start, "commit": "def"}]))
    for suffix, epochs, offset in (("a", (1, 2, 3), 0.0), ("b", (3, 4), 10.0)):
        with SummaryWriter(str(run_dir / "tensorboard"), filename_suffix=suffix) as writer:
            for epoch in epochs:
                writer.add_scalar("loss", 1.0, 100 * epoch)
                writer.add_scalar("train_partial_ce", offset + 1 / epoch, epoch)
                writer.add_scalar("val_mean_dice", epoch / 5, epoch)
                writer.add_scalar("val_slice_dice", epoch / 6, epoch)


def write_evaluation(run_dir: Path, data_dir: Path, section: str = "validation", labels: bool = True) -> Path:
    """What `evaluate.yaml` leaves for the cases of `SHIFTS`; "blind" has no truth, "out" is above its bounds.

    Args:
        run_dir: of the run.
        data_dir: where scans and truths go.
        section: of the data list.
        labels: whether any case has a truth.
    """
    folder = run_dir / "evaluation" / section
    affine = make_affine(SPACING, seed=1)
    data_dir.mkdir(parents=True, exist_ok=True)
    bounds = {"per": "volume", "unit": "mL", "bounds": {"1": [0.5, None], "4": [1, 9]}}
    datalist = {"labels": {"1": NAMES[1], "4": NAMES[2]}, "size_bounds": bounds, section: []}
    outputs, lines = {}, []
    generator = np.random.default_rng(0)
    for case, shift in SHIFTS.items():
        truth, mask = annotation(), annotation(shift, thick=2 if case == "out" else 1)
        mask = np.where(annotation() > 0, 2, mask) if case == "out" else mask
        item = {"case": case, "image": str(data_dir / f"{case}.nii.gz")}
        grey = 100 * truth + generator.normal(0, 10, SHAPE)
        nib.save(nib.Nifti1Image(grey.astype(np.float32), affine), item["image"])
        one_hot = torch.nn.functional.one_hot(torch.as_tensor(mask).long(), 3).movedim(-1, 0)
        outputs[case] = {"probability": MetaTensor(0.05 + 0.85 * one_hot, affine=torch.as_tensor(affine))}
        values = [float("nan")] * 2
        if labels and case != "blind":
            item["label"] = str(data_dir / f"{case}_gt.nii.gz")
            nib.save(nib.Nifti1Image(np.where(truth == 2, 4, truth).astype(np.uint8), affine), item["label"])
            outputs[case]["label"] = torch.nn.functional.one_hot(torch.as_tensor(truth).long(), 3).movedim(-1, 0)
            values = [dice(mask, truth, class_id) for class_id in (1, 2)]
        lines.append(",".join([case, *map(str, values), str(sum(values) / 2)]))
        datalist[section].append(item)
    engine = Engine(lambda engine, batch: [outputs[item["case"]] for item in batch])
    for handler in (SizesSaver, MasksSaver):
        handler(str(folder), datalist, ClassMap([0, 1, 4], [0, 1, 2])).attach(engine)
    engine.run([[{"case": case}] for case in SHIFTS])
    if labels:
        (folder / "val_mean_dice_raw.csv").write_text("\n".join(["filename,class0,class1,mean", *lines]) + "\n")
    (folder / "metrics.csv").write_text("val_mean_dice,0.5\nval_hd95_mm,nan\n")
    return folder
