"""Weak labels from full annotations or scribbles."""

from sizeloss_monai.transforms.weak_labels.array import *  # noqa: F403
from sizeloss_monai.transforms.weak_labels.dictionary import *  # noqa: F403
