"""What tests of several files share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""
