"""Ignite handlers MONAI lacks."""

from sizeloss_monai.handlers.best_checkpoint import BestCheckpointSaver
from sizeloss_monai.handlers.case_metrics import LabelledMetricHandler, WeakScoreHandler, evaluated_items
from sizeloss_monai.handlers.last_checkpoint import LastCheckpointLoader, LastCheckpointSaver
from sizeloss_monai.handlers.loss_terms import LossTermsHandler
from sizeloss_monai.handlers.masks_saver import MasksSaver
from sizeloss_monai.handlers.overlay_images import OverlayImagesHandler, overlay_row
from sizeloss_monai.handlers.progress_bar import ProgressBarHandler
from sizeloss_monai.handlers.proposal_images import ProposalImagesHandler
from sizeloss_monai.handlers.sizes_saver import SizesSaver
from sizeloss_monai.handlers.whole_files import WholeFileSaver, WholeMetricsSaver

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
