"""What the bundle tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUNDLE = "bundles/cine_lv_segmentation/configs"
Run = Callable[..., subprocess.CompletedProcess[str]]
