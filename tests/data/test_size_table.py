from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeloss_monai.errors import DataError
from sizeloss_monai.sizes.table import SIZE_COLUMNS, SizeRow, read_sizes, write_sizes

ROW = SizeRow("a", 1, "left ventricle", 10.5, 12.0, 11.25, 2.0, math.inf, 3, "IS")
ROWS = [ROW, replace(ROW, class_id=2, name='wall, "outer"', true_ml=None, lower_ml=None, upper_ml=None)]
ROWS += [replace(row, case="b", touches_border="") for row in ROWS]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_sizes(ROWS, tmp_path / "sizes.csv")
    return tmp_path / "sizes.csv"


def test_a_table_is_read_as_it_was_written(file: Path) -> None:
    assert read_sizes(file) == ROWS
    with file.open(newline="") as handle:
        records = list(csv.DictReader(handle))
    assert tuple(records[0]) == SIZE_COLUMNS
    assert (records[0]["upper_ml"], records[0]["violation_ml"]) == ("inf", "0")
    assert (records[1]["true_ml"], records[1]["lower_ml"], records[1]["violation_ml"]) == ("", "", "")


@given(hard=st.floats(0, 1e4), lower=st.floats(0, 1e4), width=st.floats(0, 1e4))
def test_violation_is_the_signed_distance_to_the_interval(hard: float, lower: float, width: float) -> None:
    violation = replace(ROW, hard_ml=hard, lower_ml=lower, upper_ml=lower + width).violation_ml
    assert violation is not None
    nearest = min(max(hard, lower), lower + width)
    assert violation == hard - nearest
    assert (violation == 0) == (lower <= hard <= lower + width)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-12], r"line 5: found \d+ cells, expected 11"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "case 'b': found no class 2"),
        (lambda text: text.replace("10.5", "ten", 1), "line 2: could not convert"),
        (lambda text: text.replace("soft_ml", "soft"), "found the columns"),
        (lambda text: "", r"found the columns \[\]"),
    ],
)
def test_a_damaged_table_is_one_clear_error(file: Path, change, message: str) -> None:
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=message) as caught:
        read_sizes(file)
    assert "sizes.csv" in str(caught.value)
