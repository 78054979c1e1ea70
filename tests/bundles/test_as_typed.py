"""Names of files and folders that Fire or MONAI would take for something else, in processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLE, ROOT, make_workflow
from monai.bundle import ConfigWorkflow

from sizeloss_monai.bundle import ConfigError, literal
from sizeloss_monai.bundle.as_typed import typed_settings
