"""What bundle configs use beside MONAI's own components."""

from sizeloss_monai.bundle.guard import (
    check_names,
    check_that,
    guard_run,
    install_clear_errors,
    literal,
    unused_names,
    use_what_was_typed,
)
from sizeloss_monai.bundle.output_dir import (
    OutputDirError,
    check_checkpoint,
    last_epoch,
    latest_checkpoint,
    prepare_output_dir,
    release_output_dir,
)
from sizeloss_monai.bundle.run_checks import (
    check_inputs,
    check_label_map,
    check_pixdim,
    check_sizes_hold,
    check_trained_grid,
    trained_slice_axis,
)
from sizeloss_monai.bundle.run_record import record_run
from sizeloss_monai.bundle.start import start_run
from sizeloss_monai.errors import ConfigError

__all__ = [
    "ConfigError",
    "OutputDirError",
    "check_checkpoint",
    "check_inputs",
    "check_label_map",
    "check_names",
    "check_pixdim",
    "check_sizes_hold",
    "check_that",
    "check_trained_grid",
    "guard_run",
    "install_clear_errors",
    "last_epoch",
    "latest_checkpoint",
    "literal",
    "prepare_output_dir",
    "record_run",
    "release_output_dir",
    "start_run",
    "trained_slice_axis",
    "unused_names",
    "use_what_was_typed",
]
