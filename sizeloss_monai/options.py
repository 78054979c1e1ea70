"""The options that the rooms of the package and the command line share. This module imports nothing heavy."""

from __future__ import annotations

from typing import Literal

__all__ = ["UNIT_OF", "LayoutName", "Method", "Per", "PublishedName", "Unit"]

Per = Literal["slice", "volume"]
"""What a size or its bounds hold for: each slice that has the class, or the whole volume."""

Unit = Literal["voxels", "mm2", "mL"]
"""The unit of sizes and bounds: ``mm2`` per slice, ``mL`` per volume, ``voxels`` for both."""

UNIT_OF: dict[Per, Unit] = {"slice": "mm2", "volume": "mL"}
"""The unit of sizes that are measured in mm."""

Method = Literal["range", "quantile", "lognormal"]
"""How bounds are made from sizes; see :py:func:`sizeloss_monai.sizes.size_interval`."""

LayoutName = Literal["auto", "decathlon", "acdc", "promise12", "vertebral", "folder"]
"""How the files of a data set lie in its folder; ``"auto"`` recognises the others."""

PublishedName = Literal[
    "lv_cavity",
    "lv_cavity_ed",
    "lv_cavity_es",
    "lv_myocardium",
    "rv_cavity",
    "rv_cavity_ed",
    "rv_cavity_es",
    "prostate",
    "hippocampus",
    "vertebral_body",
]
"""The published ranges of ``sizes/published_sizes.yaml``; ``_ed`` and ``_es`` are phases of the heart."""
