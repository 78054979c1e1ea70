"""Metrics of volumes predicted slice by slice, and of what can be measured without full masks."""

from sizeloss_monai.metrics.crf_energy import CRFEnergyMetric
from sizeloss_monai.metrics.dice import AnnotatedDiceMetric, SliceDiceMetric
from sizeloss_monai.metrics.hausdorff_mm import HausdorffDistanceMMMetric
from sizeloss_monai.metrics.size_violation import SizeViolationMetric, size_violation
from sizeloss_monai.metrics.weak_score import WeakScoreMetric

__all__ = [
    "AnnotatedDiceMetric",
    "CRFEnergyMetric",
    "HausdorffDistanceMMMetric",
    "SizeViolationMetric",
    "SliceDiceMetric",
    "WeakScoreMetric",
    "size_violation",
]
