"""The notebook runs, and says what its saved outputs say."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest

from tests.support import ROOT

nbclient = pytest.importorskip("nbclient", reason="the extra [test] is not installed as a whole")

NOTEBOOK = ROOT / "docs" / "first_steps.ipynb"


def printed(notebook: Any) -> list[str]:
    """The text that each code cell prints."""
    return [
        "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def pictures(notebook: Any) -> int:
    """The number of pictures among the outputs."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(scope="module")
def executed() -> Any:
    """The notebook with outputs made anew."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    )
    return client.execute()


def test_bounds_help(executed: Any) -> None:
    without, with_bounds = map(float, re.findall(r"Dice (\d\.\d+)", "".join(printed(executed))))
    assert without < 0.5 < 0.7 < with_bounds


def test_the_saved_outputs_are_of_this_code(executed: Any) -> None:
    """Numbers may differ between machines."""
    saved = nbformat.read(NOTEBOOK, as_version=4)
    assert pictures(saved) == pictures(executed) == 2
    for then, now in zip(printed(saved), printed(executed), strict=True):
        assert re.sub(r"\d+", "0", then) == re.sub(r"\d+", "0", now)
