"""Metrics that MONAI lacks: against full masks, and without them."""

from sizeloss_monai.metrics.with_masks import HausdorffDistanceMMMetric, SliceDiceMetric
from sizeloss_monai.metrics.without_masks import (
    AnnotatedDiceMetric,
    CRFEnergyMetric,
    SizeViolationMetric,
    WeakScoreMetric,
    size_violation,
)

__all__ = [
    "AnnotatedDiceMetric",
    "CRFEnergyMetric",
    "HausdorffDistanceMMMetric",
    "SizeViolationMetric",
    "SliceDiceMetric",
    "WeakScoreMetric",
    "size_violation",
]
