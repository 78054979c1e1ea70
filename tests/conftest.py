from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.support import ROOT


@pytest.fixture(scope="session", params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every kind of device that this machine has."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data, from SIZELOSS_DATA or beside the project; tests skip without it."""
    root = Path(os.environ.get("SIZELOSS_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("no real data: set SIZELOSS_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def reference() -> dict[str, dict[str, Any]]:
    """What the authors' published code returned, by tensor, from SIZELOSS_REFERENCE or beside the project."""
    default = ROOT.parent / "shared" / "reference" / "reference_values.json"
    path = Path(os.environ.get("SIZELOSS_REFERENCE") or default)
    if not path.is_file():
        pytest.skip("no values of the authors' code: set SIZELOSS_REFERENCE to reference_values.json")
    return {tensor["name"]: tensor for tensor in json.loads(path.read_text())["tensors"]}


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a script in this process, as by ``python -m`` with these arguments."""

    def run(script: ModuleType, *arguments: str | Path) -> None:
        monkeypatch.setattr(sys, "argv", [str(script.__file__), *map(str, arguments)])
        script.main()

    return run
