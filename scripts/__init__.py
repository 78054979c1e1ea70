"""What is run beside the package, from the project's folder: ``python -m scripts.tools.make_bundles``."""

from pathlib import Path

__all__ = ["ROOT"]

ROOT = Path(__file__).resolve().parents[1]
"""The project's folder."""
