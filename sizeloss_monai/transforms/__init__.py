"""Transforms, array and dictionary forms: weak labels, size bounds, annotations, units, supervision, orientation."""

from sizeloss_monai.transforms.annotations import *  # noqa: F403
from sizeloss_monai.transforms.bounds import *  # noqa: F403
from sizeloss_monai.transforms.label_ids import *  # noqa: F403
from sizeloss_monai.transforms.orientation import *  # noqa: F403
from sizeloss_monai.transforms.supervision import *  # noqa: F403
from sizeloss_monai.transforms.units import *  # noqa: F403
from sizeloss_monai.transforms.weak_labels import *  # noqa: F403
