"""What can be wrong with a data list and its files."""

from sizeloss_monai.checks.cases import check_cases
from sizeloss_monai.checks.datalist import CheckReport, check_datalist, check_used_data
from sizeloss_monai.checks.slice_axis import SliceAxisChoice, choose_slice_axis, decide_slice_axis

__all__ = [
    "CheckReport",
    "SliceAxisChoice",
    "check_cases",
    "check_datalist",
    "check_used_data",
    "choose_slice_axis",
    "decide_slice_axis",
]
