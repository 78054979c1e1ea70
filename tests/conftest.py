from __future__ import annotations

import os
from pathlib import Path

import pytest

_PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data, from SIZELOSS_DATA or beside the project; tests skip without it."""
    root = Path(os.environ.get("SIZELOSS_DATA") or _PROJECT_ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("no real data: set SIZELOSS_DATA to its folder")
    return root
