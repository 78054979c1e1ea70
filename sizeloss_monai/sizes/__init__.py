"""Sizes and bounds: units, sizes of annotated cases, published ranges, tables."""

from sizeloss_monai.sizes.bounds import SizeBounds, case_bounds, case_tags, check_bounds
from sizeloss_monai.sizes.from_cases import common_size_bounds, measure_common_bounds, measure_sizes, size_interval
from sizeloss_monai.sizes.proposal import add_bounds, propose_from_cases, propose_published, review_bounds
from sizeloss_monai.sizes.published import published_range

__all__ = [
    "SizeBounds",
    "add_bounds",
    "case_bounds",
    "case_tags",
    "check_bounds",
    "common_size_bounds",
    "measure_common_bounds",
    "measure_sizes",
    "propose_from_cases",
    "propose_published",
    "published_range",
    "review_bounds",
    "size_interval",
]
