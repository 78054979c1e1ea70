"""Losses on logits: of annotated voxels, of sizes, of absent classes, of no annotation, and their weighted sum."""

from sizeloss_monai.constraints.penalties import bound_violations
from sizeloss_monai.constraints.size_constraint import SizeConstraintLoss, VolumeSizeConstraintLoss, size_constraint
from sizeloss_monai.constraints.statistics import class_probabilities, soft_size
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
    "bound_violations",
    "class_probabilities",
    "gated_crf_energy",
    "partial_cross_entropy",
    "size_constraint",
    "soft_size",
]
