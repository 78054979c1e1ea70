"""Pieces of HTML, everything escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

__all__ = ["Cell", "figure_image", "table"]

_PAGE_DPI = 96  # of CSS
_IMAGE_DPI = 130  # screens of higher resolution gain


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: plain; escaped when written.
        kind: classes of the style sheet, such as ``"number"``.
        rows: how many rows it spans.
    """

    text: str
    kind: str = ""
    rows: int = 1


def table(headings: Sequence[Cell | str], rows: Sequence[Sequence[Cell | str]], kind: str = "") -> str:
    """A table.

    Args:
        headings: of the columns; none for a table without a head.
        rows: cells or plain texts.
        kind: classes of the style sheet.
    """
    head = f"<thead>\n{_row(headings, 'th')}\n</thead>\n" if headings else ""
    body = "\n".join(_row(row, "td") for row in rows)
    written = f'<table class="{escape(kind)}">\n{head}<tbody>\n{body}\n</tbody>\n</table>'
    return f'<div class="scroll">\n{written}\n</div>'


def _row(cells: Sequence[Cell | str], tag: str) -> str:
    written = ""
    for cell in cells:
        cell = cell if isinstance(cell, Cell) else Cell(cell)
        attributes = f' class="{escape(cell.kind)}"' if cell.kind else ""
        attributes += f' rowspan="{cell.rows}"' if cell.rows > 1 else ""
        written += f"<{tag}{attributes}>{escape(cell.text)}</{tag}>"
    return f"<tr>{written}</tr>"


def figure_image(figure: Figure, description: str, enlarge: float = 1.0) -> str:
    """A figure as an image within the page.

    Args:
        figure: what to draw.
        description: for who cannot see it.
        enlarge: its size on the page, as a multiple of its own.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_IMAGE_DPI * enlarge, metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width = round(figure.get_figwidth() * _PAGE_DPI * enlarge)
    return f'<img src="data:image/png;base64,{data}" width="{width}" alt="{escape(description)}">'
