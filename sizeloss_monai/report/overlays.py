"""Contours of masks over slices, in grids of labelled panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

try:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
except ImportError as error:
    raise ImportError("figures need matplotlib: pip install 'sizeloss-monai[report]'", name="matplotlib") from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Outline", "Panel", "draw_panel", "largest_slice", "overlay_figure", "square_window"]

_PANEL_INCHES = 1.9
_GAP_INCHES = 0.06
_LABEL_INCHES = 0.3
_LEGEND_INCHES = 0.36


@dataclass(frozen=True)
class Outline:
    """A mask to be drawn over a slice.

    Args:
        mask: true inside, ``[H, W]``; may be empty.
        color: a colour that matplotlib knows.
        name: name in the legend; "" for none.
        fill: opacity of the inside, 0 (contour only) to 1.
        style: style of the contour's line.
    """

    mask: NDArray[Any]
    color: str
    name: str = ""
    fill: float = 0.0
    style: Literal["-", "--", ":"] = "-"


@dataclass(frozen=True)
class Panel:
    """One slice with the masks drawn over it.

    Args:
        image: ``[H, W]``, any range; the first axis is drawn from left to right, the second from top to bottom.
        outlines: drawn in this order.
        spacing: distance of pixels along the two axes, mm.
        note: a few words in the panel's lower left corner.
    """

    image: NDArray[Any]
    outlines: Sequence[Outline] = ()
    spacing: tuple[float, float] = (1.0, 1.0)
    note: str = ""


def largest_slice(mask: NDArray[Any]) -> int:
    """Index of the slice with most of a mask ``[H, W, D]``; the middle slice where the mask is empty."""
    areas = (np.asarray(mask) != 0).sum(axis=(0, 1))
    return int(areas.argmax()) if areas.any() else len(areas) // 2


def square_window(mask: NDArray[Any], spacing: tuple[float, float], margin: float = 15.0) -> tuple[slice, slice]:
    """Indices of the square in plane around a mask, cut at the edges of the scan.

    Args:
        mask: ``[H, W]`` or ``[H, W, D]``, not empty.
        spacing: distance of pixels along the first two axes, mm.
        margin: distance from the mask to the square's sides, mm.
    """
    centres, halves = [], []
    for axis, size in enumerate(spacing):
        inside = np.unique(np.nonzero(mask)[axis])
        centres.append((inside[0] + inside[-1] + 1) / 2 * size)
        halves.append((inside[-1] - inside[0] + 1) / 2 * size)
    half = max(halves) + margin
    first, second = (
        slice(max(int((centre - half) / size), 0), min(int(np.ceil((centre + half) / size)), length))
        for centre, size, length in zip(centres, spacing, mask.shape[:2], strict=True)
    )
    return first, second


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw a slice and its masks without a frame, a millimetre as wide as high.

    Raises:
        ValueError: when the image is not ``[H, W]``, or a mask has another shape.
    """
    image = np.asarray(panel.image, dtype=float)
    if image.ndim != 2:
        raise ValueError(f"image must have shape [H, W], got {list(image.shape)}.")
    low, high = np.percentile(image, (1, 99))
    # pixel (i, j) is centred at (i, j) times the spacing
    sizes = [n * s for n, s in zip(image.shape, panel.spacing, strict=True)]
    starts = [-s / 2 for s in panel.spacing]
    extent = (starts[0], starts[0] + sizes[0], starts[1] + sizes[1], starts[1])
    axes.imshow(image.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, interpolation="bilinear")
    # a margin of one pixel outside closes contours at the image's edge
    x, y = (np.arange(-1, n + 1) * s for n, s in zip(image.shape, panel.spacing, strict=True))
    for outline in panel.outlines:
        mask = np.asarray(outline.mask) != 0
        if mask.shape != image.shape:
            raise ValueError(f"mask must have the image's shape {list(image.shape)}, got {list(mask.shape)}.")
        if not mask.any():
            continue
        values = np.pad(mask, 1).T.astype(float)
        if outline.fill > 0:
            axes.contourf(x, y, values, levels=[0.5, 1.5], colors=[outline.color], alpha=outline.fill)
        axes.contour(x, y, values, levels=[0.5], colors=[outline.color], linestyles=[outline.style], linewidths=1.3)
    if panel.note:
        axes.text(
            0.03, 0.03, panel.note, transform=axes.transAxes, color="white", fontsize=8, ha="left", va="bottom",
            bbox={"facecolor": "black", "alpha": 0.55, "pad": 1.5, "linewidth": 0},
        )  # fmt: skip
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _add_black_bars(axes: Axes, height_by_width: float) -> None:
    """Add black margins until a panel's sides have the given ratio."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    width, height = right - left, bottom - top
    wider, higher = max(height / height_by_width - width, 0.0) / 2, max(width * height_by_width - height, 0.0) / 2
    axes.set_xlim(left - wider, right + wider)
    axes.set_ylim(bottom + higher, top - higher)
    axes.set_facecolor("black")


def _height_by_width(panel: Panel) -> float:
    """Ratio of a panel's sides in mm."""
    width, height = (n * s for n, s in zip(np.shape(panel.image), panel.spacing, strict=True))
    return float(height / width)


def overlay_figure(
    rows: Sequence[Sequence[Panel | None]],
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    title: str = "",
    legend: bool = True,
) -> Figure:
    """A grid of panels of one size, with equal gaps and a legend of the outlines' names.

    It opens no window and chooses no backend: save it by ``figure.savefig(path)``.

    Example::

        panel = Panel(image, [Outline(truth, "lime", "truth"), Outline(prediction, "red", "prediction")])
        overlay_figure([[panel]], column_titles=["+ size"]).savefig("overlay.png", dpi=130)

    Args:
        rows: panels by row, each row with the same number; None stays empty.
        column_titles: a title for each column, or none.
        row_titles: a title for each row, or none.
        title: title above the grid.
        legend: whether the figure has a legend; a page may have one for all its figures.

    Raises:
        ValueError: when there is no panel, rows differ in length, or the number of titles does not fit.
    """
    num_columns = len(rows[0]) if rows else 0
    if num_columns == 0 or any(len(row) != num_columns for row in rows):
        raise ValueError(f"rows must have the same number of panels, at least 1, got {[len(row) for row in rows]}.")
    for name, titles, count in (("column", column_titles, num_columns), ("row", row_titles, len(rows))):
        if titles and len(titles) != count:
            raise ValueError(f"{name}_titles must have {count} titles, got {len(titles)}.")
    left = _LABEL_INCHES if row_titles else _GAP_INCHES
    title_lines = max((text.count("\n") + 1 for text in column_titles), default=0)
    top = 0.3 * bool(title) + 0.2 * title_lines + 2 * _GAP_INCHES
    named = {outline.name: outline for row in rows for panel in row if panel for outline in panel.outlines}
    handles = [
        Line2D([], [], color=outline.color, linestyle=outline.style, linewidth=2, label=name)
        for name, outline in named.items()
        if name and legend
    ]
    bottom = _LEGEND_INCHES if handles else _GAP_INCHES
    height_by_width = max((_height_by_width(panel) for row in rows for panel in row if panel), default=1.0)
    panel_inches = _PANEL_INCHES * height_by_width
    width = left + num_columns * (_PANEL_INCHES + _GAP_INCHES)
    height = top + len(rows) * (panel_inches + _GAP_INCHES) - _GAP_INCHES + bottom
    figure = Figure(figsize=(width, height), facecolor="white")
    grid = figure.subplots(
        len(rows),
        num_columns,
        squeeze=False,
        gridspec_kw={
            "left": left / width, "right": 1 - _GAP_INCHES / width, "top": 1 - top / height, "bottom": bottom / height,
            "wspace": _GAP_INCHES / _PANEL_INCHES, "hspace": _GAP_INCHES / panel_inches,
        },
    )  # fmt: skip
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            if panel is None:
                grid[i, j].set_axis_off()
            else:
                draw_panel(grid[i, j], panel)
                _add_black_bars(grid[i, j], height_by_width)
            if i == 0 and column_titles:
                grid[i, j].set_title(column_titles[j], fontsize=11, pad=4)
            if j == 0 and row_titles:
                grid[i, j].set_ylabel(row_titles[i], fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11, y=1 - 0.08 / height, va="top")
    if handles:
        names = figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=10, frameon=False)
        for text in names.get_texts():
            text.set_parse_math(False)  # a dollar in a user's name is no formula
    return figure
