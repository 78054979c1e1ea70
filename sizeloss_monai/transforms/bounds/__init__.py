"""Bounds on the size of every class."""

from sizeloss_monai.transforms.bounds.array import *  # noqa: F403
from sizeloss_monai.transforms.bounds.dictionary import *  # noqa: F403
