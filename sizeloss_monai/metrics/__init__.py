"""Metrics of volumes predicted slice by slice."""

from sizeloss_monai.metrics.hausdorff_mm import HausdorffDistanceMMMetric
from sizeloss_monai.metrics.slice_dice import SliceDiceMetric

__all__ = ["HausdorffDistanceMMMetric", "SliceDiceMetric"]
