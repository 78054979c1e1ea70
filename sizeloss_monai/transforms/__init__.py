"""Transforms, array and dictionary forms: annotations, geometry, label ids, size bounds, weak labels."""

from sizeloss_monai.transforms.annotations import *
from sizeloss_monai.transforms.geometry import *
from sizeloss_monai.transforms.label_ids import *
from sizeloss_monai.transforms.size_bounds import *
from sizeloss_monai.transforms.weak_labels import *
