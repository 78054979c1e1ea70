"""Transforms, array and dictionary forms: weak labels, size bounds, supervision, orientation."""

from sizeloss_monai.transforms.bounds import *  # noqa: F403
from sizeloss_monai.transforms.orientation import *  # noqa: F403
from sizeloss_monai.transforms.supervision import *  # noqa: F403
from sizeloss_monai.transforms.weak_labels import *  # noqa: F403
