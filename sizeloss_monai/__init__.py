"""Weakly supervised medical image segmentation with size constraints, as MONAI components."""

__version__ = "0.1.0"
