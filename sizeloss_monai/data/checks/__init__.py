"""Checks of data that name every problem of every case at once, before any training starts."""

from sizeloss_monai.data.checks.bounds_array import check_bounds
from sizeloss_monai.data.checks.cases import check_cases
from sizeloss_monai.data.checks.classes import label_ids_of, unannotated_id_of
from sizeloss_monai.data.checks.datalist import CheckReport, check_datalist, check_used_data
from sizeloss_monai.data.checks.slice_axis import SliceAxisChoice, choose_slice_axis, decide_slice_axis
from sizeloss_monai.data.findings import DataError, listed

__all__ = [
    "CheckReport",
    "DataError",
    "SliceAxisChoice",
    "check_bounds",
    "check_cases",
    "check_datalist",
    "check_used_data",
    "choose_slice_axis",
    "decide_slice_axis",
    "label_ids_of",
    "listed",
    "unannotated_id_of",
]
