"""Ignite handlers MONAI lacks."""

from sizeloss_monai.handlers.case_metrics import LabelledMetricHandler, WeakScoreHandler, evaluated_items
from sizeloss_monai.handlers.checkpoints import (
    BestCheckpointSaver,
    LastCheckpointLoader,
    LastCheckpointSaver,
    WholeFileSaver,
    WholeMetricsSaver,
)
from sizeloss_monai.handlers.images import OverlayImagesHandler, ProposalImagesHandler, overlay_row
from sizeloss_monai.handlers.progress import LossTermsHandler, ProgressBarHandler
from sizeloss_monai.handlers.savers import MasksSaver, SizesSaver

__all__ = [
    "BestCheckpointSaver",
    "LabelledMetricHandler",
    "LastCheckpointLoader",
    "LastCheckpointSaver",
    "LossTermsHandler",
    "MasksSaver",
    "OverlayImagesHandler",
    "ProgressBarHandler",
    "ProposalImagesHandler",
    "SizesSaver",
    "WeakScoreHandler",
    "WholeFileSaver",
    "WholeMetricsSaver",
    "evaluated_items",
    "overlay_row",
]
