"""What bundle configs use beside MONAI's own components."""

from sizeloss_monai.bundle.as_typed import literal, use_what_was_typed
from sizeloss_monai.bundle.clear_errors import install_clear_errors
from sizeloss_monai.bundle.config_check import ConfigError, cases_handed_over, check_config, check_that, unused_names
from sizeloss_monai.bundle.output_dir import (
    OutputDirError,
    check_checkpoint,
    last_epoch,
    latest_checkpoint,
    prepare_output_dir,
    release_output_dir,
)
from sizeloss_monai.bundle.run_checks import (
    check_label_map,
    check_pixdim,
    check_sizes_hold,
    check_trained_grid,
    trained_slice_axis,
)
from sizeloss_monai.bundle.run_record import record_run

__all__ = [
    "ConfigError",
    "OutputDirError",
    "cases_handed_over",
    "check_checkpoint",
    "check_config",
    "check_label_map",
    "check_pixdim",
    "check_sizes_hold",
    "check_that",
    "check_trained_grid",
    "install_clear_errors",
    "last_epoch",
    "latest_checkpoint",
    "literal",
    "prepare_output_dir",
    "record_run",
    "release_output_dir",
    "trained_slice_axis",
    "unused_names",
    "use_what_was_typed",
]
