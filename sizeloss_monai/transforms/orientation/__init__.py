"""Orientation of volumes that are read slice by slice."""

from sizeloss_monai.transforms.orientation.array import *  # noqa: F403
from sizeloss_monai.transforms.orientation.dictionary import *  # noqa: F403
from sizeloss_monai.transforms.orientation.functional import *  # noqa: F403
