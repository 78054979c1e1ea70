"""Sizes in physical units."""

from sizeloss_monai.transforms.units.array import *  # noqa: F403
from sizeloss_monai.transforms.units.dictionary import *  # noqa: F403
