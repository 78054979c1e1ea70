from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sizeloss_monai.bundle import ConfigError, check_trained_grid


def weights_of(folder: Path, *starts: dict[str, Any]) -> Path:
    (folder / "run.json").write_text(json.dumps(starts))
    return folder / "checkpoints" / "model.pt"


@pytest.mark.parametrize("pixdim", [[1.5, 1.5, -1.0], None])
def test_the_same(tmp_path: Path, pixdim: list[float] | None) -> None:
    check_trained_grid(weights_of(tmp_path, {"grid": {"pixdim": [9, 9, 9]}}, {"grid": {"pixdim": pixdim}}), pixdim)


@pytest.mark.parametrize(
    ("trained", "given", "message"),
    [
        (
            [2.0, 2.0, -1.0],
            [1.75, 1.75, -1.0],
            "found [1.75, 1.75, -1.0] mm, expected [2.0, 2.0, -1.0] mm, with which {} was trained: "
            'give --pixdim "[2.0,2.0,-1.0]".',
        ),
        (
            None,
            (2, 2, -1),
            "found [2, 2, -1] mm, expected each scan's own, with which {} was trained: give --resample False.",
        ),
        (
            [1, 1, 1],
            None,
            'found each scan\'s own, expected [1, 1, 1] mm, with which {} was trained: give --pixdim "[1,1,1]".',
        ),
    ],
)
def test_another(tmp_path: Path, trained: Any, given: Any, message: str) -> None:
    weights = weights_of(tmp_path, {"grid": {"pixdim": trained}})
    with pytest.raises(ConfigError, match=f"^{re.escape('pixdim: ' + message.format(repr(str(weights))))}$"):
        check_trained_grid(weights, given)


def test_weights_of_no_run_or_an_older_one_are_not_compared(tmp_path: Path) -> None:
    check_trained_grid(tmp_path / "models" / "model.pt", [1.0, 1.0, 1.0])
    check_trained_grid(weights_of(tmp_path, {"seed": 0}), [1.0, 1.0, 1.0])


@pytest.mark.parametrize("text", ["[{", "[]", "{}", "[1]", '[{"grid": 1}]'])
def test_a_damaged_record(tmp_path: Path, text: str) -> None:
    weights = weights_of(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"found a damaged '.*run\.json', expected what training wrote"):
        check_trained_grid(weights, None)
