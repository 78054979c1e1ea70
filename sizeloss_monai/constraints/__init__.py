"""The constraint family: statistics of soft segmentations, penalties on their bounds, and the losses made of both."""

from sizeloss_monai.constraints.penalties import bound_violations
from sizeloss_monai.constraints.size_constraint import SizeConstraintLoss, VolumeSizeConstraintLoss, size_constraint
from sizeloss_monai.constraints.statistics import class_probabilities, soft_size

__all__ = [
    "SizeConstraintLoss",
    "VolumeSizeConstraintLoss",
    "bound_violations",
    "class_probabilities",
    "size_constraint",
    "soft_size",
]
