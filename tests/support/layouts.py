"""Phantoms in the folder layouts of the bundles' data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from sizeloss_monai.phantoms import make_cine_phantom, write_cine_phantoms

CAVITY, MYOCARDIUM = 3, 2


def _save(array: np.ndarray, spacing: tuple[float, float, float], file: Path) -> None:
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing(spacing)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file), useCompression=True)


def write_promise12(folder: Path) -> None:
    """Four cases, MetaImage; the left ventricle stands for the prostate."""
    for case in range(4):
        spacing = (2.7, 2.7, 10.0)
        image, label = make_cine_phantom(case, num_slices=5, matrix=(64, 64), spacing=spacing)
        _save(np.rint(image).astype(np.int16), spacing, folder / f"Case{case:02d}.mhd")
        _save((label == CAVITY).astype(np.int16), spacing, folder / f"Case{case:02d}_segmentation.mhd")


def write_vertebral(folder: Path) -> None:
    """Four cases whose slices lie along the first axis, as sagittal ones do."""
    for case in range(4):
        spacing = (10.0, 2.7, 2.7)
        image, label = make_cine_phantom(case, num_slices=5, matrix=(64, 64), spacing=(2.7, 2.7, 10.0))
        _save(np.moveaxis(image, 2, 0), spacing, folder / f"Img_{case + 1:02d}.nii")
        _save(np.moveaxis(label == CAVITY, 2, 0).astype(np.uint8), spacing, folder / f"Img_{case + 1:02d}_Labels.nii")


def write_hippocampus(folder: Path) -> None:
    """Seven small volumes with two classes, in a Decathlon task; voxels of 1 mm, whatever they show."""
    training = []
    for case in range(7):
        # no two of the same shape
        image, label = make_cine_phantom(case, num_slices=22 + case % 2, matrix=(32, 36), spacing=(4.5, 4.5, 4.5))
        name = f"hippocampus_{case:03d}.nii.gz"
        _save(image * 10.0**case, (1.0, 1.0, 1.0), folder / "imagesTr" / name)
        classes = np.where(label == CAVITY, 2, np.where(label == MYOCARDIUM, 1, 0)).astype(np.uint8)
        _save(classes, (1.0, 1.0, 1.0), folder / "labelsTr" / name)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    task = {"name": "Hippocampus", "labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}
    (folder / "dataset.json").write_text(json.dumps({**task, "numTraining": len(training), "training": training}))


def write_scribbles(folder: Path) -> None:
    """Four patients, two phases each, annotated in every way; one mask in training, one in validation, no other."""
    write_cine_phantoms(folder, num_patients=4, seed=0, splits=(0.75, 0.25, 0), with_scribbles=True)
    file = folder / "datalist.json"
    datalist = json.loads(file.read_text())
    bounds = {"1": [10, 300], "2": [20, 250], "3": [10, 300]}
    datalist["size_bounds"] = {"per": "volume", "unit": "mL", "source": "a guess", "bounds": bounds}
    masked = (datalist["training"][0], datalist["validation"][0])
    for item in datalist["training"] + datalist["validation"]:
        if item not in masked:
            (folder / item.pop("label")).unlink()
    full, weak, tags, some_tags, bounds_only, nothing = datalist["training"]
    full["supervision"] = "full"
    weak["size_bounds"] = {"3": [15, 200]}
    tags |= {"supervision": "tags", "tags": {"1": True, "2": [1, 2, 3], "3": [1, 2]}}
    some_tags |= {"tags": {"1": False}}
    del some_tags["weak_label"], bounds_only["weak_label"]
    nothing["supervision"] = "none"
    file.write_text(json.dumps(datalist))


WRITERS: dict[str, Callable[[Path], None]] = {
    "prostate_t2_segmentation": write_promise12,
    "vertebral_body_t2_segmentation": write_vertebral,
    "hippocampus_3d_segmentation": write_hippocampus,
}
# a scan of each, relative to its folder
SCANS = {
    "prostate_t2_segmentation": "Case00.mhd",
    "vertebral_body_t2_segmentation": "Img_01.nii",
    "hippocampus_3d_segmentation": "imagesTr/hippocampus_000.nii.gz",
}
