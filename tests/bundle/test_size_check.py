from __future__ import annotations

import pytest
from monai import transforms as mt

from sizeloss_monai.bundle import check_sizes_hold


def test_transforms_that_keep_sizes() -> None:
    check_sizes_hold(
        [
            mt.RandAffined("image", scale_range=0.1, rotate_range=0.3),
            mt.RandFlipd("image"),
            mt.Compose([mt.RandRotate90d("image"), mt.RandAdjustContrastd("image")]),
        ]
    )


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        (mt.RandSpatialCropd("image", [8, 8]), "RandSpatialCropd, which may cut"),
        (mt.CenterSpatialCropd("image", [8, 8]), "CenterSpatialCropd, which may cut"),
        (mt.RandCropByPosNegLabeld("image", "label", [8, 8]), "RandCropByPosNegLabeld, which may cut"),
        (mt.RandZoomd("image"), "RandZoomd, which may cut"),
        (mt.Rand2DElasticd("image", spacing=[4, 4], magnitude_range=[1, 2]), "Rand2DElasticd, which deforms"),
        (mt.Compose([mt.RandGridDistortiond("image")]), "RandGridDistortiond, which deforms"),
    ],
)
def test_transforms_that_do_not(transform: object, what: str) -> None:
    with pytest.raises(ValueError, match=f"augmentation: found {what}"):
        check_sizes_hold([mt.RandFlipd("image"), transform])
