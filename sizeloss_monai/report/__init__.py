"""Figures for reports, and in ``page`` the report of a run; needs the extra ``[report]`` (matplotlib, Jinja2)."""

from sizeloss_monai.report.overlays import Outline, Panel, draw_panel, largest_slice, overlay_figure, square_window

__all__ = ["Outline", "Panel", "draw_panel", "largest_slice", "overlay_figure", "square_window"]
