"""Ignite handlers MONAI lacks."""

from sizeloss_monai.handlers.case_metrics import LabelledMetricHandler, WeakScoreHandler, evaluated_items
from sizeloss_monai.handlers.checkpoints import (
    CheckpointHandler,
    KeyMetricLrHandler,
    ResumeHandler,
    WholeFileSaver,
    WholeMetricsSaver,
)
from sizeloss_monai.handlers.images import OverlayImagesHandler, ProposalImagesHandler, overlay_row
from sizeloss_monai.handlers.progress import LossTermsHandler, ProgressBarHandler, step_numbers, without_loggers
from sizeloss_monai.handlers.savers import MasksSaver, SizesSaver

__all__ = [
    "CheckpointHandler",
    "KeyMetricLrHandler",
    "LabelledMetricHandler",
    "LossTermsHandler",
    "MasksSaver",
    "OverlayImagesHandler",
    "ProgressBarHandler",
    "ProposalImagesHandler",
    "ResumeHandler",
    "SizesSaver",
    "WeakScoreHandler",
    "WholeFileSaver",
    "WholeMetricsSaver",
    "evaluated_items",
    "overlay_row",
    "step_numbers",
    "without_loggers",
]
