"""Figures and reports; needs the extra ``[report]`` (matplotlib)."""

from sizeloss_monai.report.overlays import Outline, Panel, draw_panel, largest_slice, overlay_figure
from sizeloss_monai.report.page import make_report, write_report

__all__ = [
    "Outline",
    "Panel",
    "draw_panel",
    "largest_slice",
    "make_report",
    "overlay_figure",
    "write_report",
]
