"""Ignite handlers MONAI lacks."""

from sizeloss_monai.handlers.loss_terms import LossTermsHandler
from sizeloss_monai.handlers.overlay_images import OverlayImagesHandler, overlay_row
from sizeloss_monai.handlers.progress_bar import ProgressBarHandler

__all__ = ["LossTermsHandler", "OverlayImagesHandler", "ProgressBarHandler", "overlay_row"]
