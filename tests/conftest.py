from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

_PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data, from SIZELOSS_DATA or beside the project; tests skip without it."""
    root = Path(os.environ.get("SIZELOSS_DATA") or _PROJECT_ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("no real data: set SIZELOSS_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def reference() -> dict[str, dict[str, Any]]:
    """What the authors' published code returned, by tensor, from SIZELOSS_REFERENCE or beside the project."""
    default = _PROJECT_ROOT.parent / "shared" / "reference" / "reference_values.json"
    path = Path(os.environ.get("SIZELOSS_REFERENCE") or default)
    if not path.is_file():
        pytest.skip("no values of the authors' code: set SIZELOSS_REFERENCE to reference_values.json")
    return {tensor["name"]: tensor for tensor in json.loads(path.read_text())["tensors"]}
