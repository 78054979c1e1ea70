"""Losses on logits: annotated voxels, sizes, absent classes, unannotated voxels, and their weighted sum."""

from sizeloss_monai.constraints import SizeConstraintLoss, VolumeSizeConstraintLoss
from sizeloss_monai.losses.absent_class import AbsentClassLoss
from sizeloss_monai.losses.entropy import EntropyLoss
from sizeloss_monai.losses.gated_crf import GatedCRFLoss, gated_crf_energy
from sizeloss_monai.losses.partial_cross_entropy import PartialCrossEntropyLoss, partial_cross_entropy
from sizeloss_monai.losses.partial_dice import PartialDiceLoss
from sizeloss_monai.losses.weak_supervision import WeakSupervisionLoss

__all__ = [
    "AbsentClassLoss",
    "EntropyLoss",
    "GatedCRFLoss",
    "PartialCrossEntropyLoss",
    "PartialDiceLoss",
    "SizeConstraintLoss",
    "VolumeSizeConstraintLoss",
    "WeakSupervisionLoss",
    "gated_crf_energy",
    "partial_cross_entropy",
]
