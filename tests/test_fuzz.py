"""Mangled image files and data lists: each gives a mask on the right grid, or one line that says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.support.fuzzing import KINDS

ROOT = Path(__file__).resolve().parents[1]
COUNT = 55
"""Of each kind; thousands were tried, see the numbers that ``python -m tests.support.fuzzing`` takes."""


def test_mangled_inputs_give_a_mask_in_place_or_a_line() -> None:
    # in a process of its own, whose memory is limited: the libraries may end it
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.fuzzing", "0", str(COUNT)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    told = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    last = f"the last of them: {told[-1] if told else None}\n{run.stderr[-2000:]}"
    assert run.returncode == 0, f"an abort, or more than 20 s or 2 GB (code {run.returncode}), {last}"
    ended = [line for line in told if line["outcome"] != "began"]
    assert len(ended) == COUNT * len(KINDS), last
    assert [line for line in ended if line["outcome"].startswith("trace")] == []
    assert "Traceback" not in run.stderr
    kept = Counter(line["kind"] for line in ended if line["outcome"] in ("mask", "passed"))
    assert all(COUNT // 10 <= kept[kind] <= 9 * COUNT // 10 for kind in KINDS), kept  # else nothing is tried
