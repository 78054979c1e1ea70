"""Targets from what a person annotated, and the guard of what a crop may take away."""

from sizeloss_monai.transforms.annotations.inside import *  # noqa: F403
from sizeloss_monai.transforms.annotations.targets import *  # noqa: F403
