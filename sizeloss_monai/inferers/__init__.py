"""Inferers that MONAI lacks."""

from sizeloss_monai.inferers.chunked import ChunkedInferer

__all__ = ["ChunkedInferer"]
