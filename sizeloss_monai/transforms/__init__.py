"""Transforms, array and dictionary forms: weak labels and size bounds."""

from sizeloss_monai.transforms.bounds import *  # noqa: F403
from sizeloss_monai.transforms.weak_labels import *  # noqa: F403
