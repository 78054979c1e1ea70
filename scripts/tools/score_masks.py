"""Score masks against annotations of the same scans: 3D and 2D Dice, HD95 in mm, a row a case and class.

    python -m scripts.tools.score_masks --masks predictions --labels sunnybrook --label_suffix _gt --output scores.csv

Mask ``<case>_seg.nii.gz`` is compared with ``<case><label_suffix>.nii.gz`` on the voxel grid both must share.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from monai.data import MetaTensor
from monai.metrics import compute_dice
from monai.transforms import LoadImage

from scripts.experiments.result_files import write_csv
from sizeloss_monai.checks import check_cases
from sizeloss_monai.data import VolumeReader
from sizeloss_monai.metrics import HausdorffDistanceMMMetric, SliceDiceMetric


def one_hot(volume: MetaTensor, label_id: int) -> MetaTensor:
    """``[1, 2, H, W, D]``: everything else, and the voxels of that id, with the volume's affine."""
    chosen = (volume.as_tensor() == label_id)[None, None]
    return MetaTensor(torch.cat([~chosen, chosen], dim=1).float(), affine=volume.affine)


def score(mask: MetaTensor, truth: MetaTensor, class_id: int, label_id: int) -> dict[str, float]:
    """Scores of a class of one case; both ``[H, W, D]``."""
    y_pred, y = one_hot(mask, class_id), one_hot(truth, label_id)
    slice_dice, hausdorff = SliceDiceMetric(), HausdorffDistanceMMMetric(percentile=95)
    slice_dice(y_pred, y)
    hausdorff(y_pred, y)
    return {
        "dice_3d": compute_dice(y_pred, y, include_background=False, ignore_empty=False).item(),
        "dice_2d": slice_dice.aggregate().item(),
        "hd95_mm": torch.as_tensor(hausdorff.aggregate("none")).item(),
    }


def main() -> None:
    """Score every mask and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True, help="folder of <case>_seg.nii.gz")
    parser.add_argument("--labels", type=Path, required=True, help="folder of <case><label_suffix>.nii.gz")
    parser.add_argument("--label_suffix", default="_gt")
    parser.add_argument(
        "--label_id", type=int, nargs="+", default=[1], help="ids of the masks' classes 1, 2, ... in the annotations"
    )
    parser.add_argument("--output", type=Path, required=True, help="CSV")
    args = parser.parse_args()
    cases = [path.name.removesuffix("_seg.nii.gz") for path in sorted(args.masks.glob("*_seg.nii.gz"))]
    items = [
        {
            "case": case,
            "image": str(args.masks / f"{case}_seg.nii.gz"),
            "label": str(args.labels / f"{case}{args.label_suffix}.nii.gz"),
        }
        for case in cases
    ]
    if not items:
        raise SystemExit(f"no mask named <case>_seg.nii.gz in {args.masks}")
    check_cases(items)
    load = LoadImage(reader=VolumeReader(), image_only=True)
    rows = []
    for item in items:
        mask, truth = load(item["image"]), load(item["label"])
        for class_id, label_id in enumerate(args.label_id, start=1):
            named = {"class": class_id} if len(args.label_id) > 1 else {}
            rows.append({"case": item["case"], **named, **score(mask, truth, class_id, label_id)})
    write_csv(args.output, [{k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
