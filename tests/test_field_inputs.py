"""The table of inputs that people report: the page says what every route makes of them."""

from __future__ import annotations

from pathlib import Path

from tests.support.field_inputs import PAGE, page, rows


def test_the_page_says_what_comes_out(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(rows(tmp_path), text) == text, "run python -m tests.support.field_inputs"
