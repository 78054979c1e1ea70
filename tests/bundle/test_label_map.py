import re

import pytest

from sizeloss_monai.bundle import ConfigError, check_label_map, check_pixdim
from sizeloss_monai.datalist import ClassMap

KIDNEYS = {"labels": {"1": "kidney", "2": "cyst", "3": "background"}, "unannotated": 0}


@pytest.mark.parametrize(
    ("label_ids", "target_ids", "num_classes"),
    [([3, 1, 2], [0, 1, 2], 3), ([1, 2, 3], [1, 2, 0], 3), ([3, 1, 2], [0, 1, 1], 2), ([3, 1, 2], [0, 0, 1], 2)],
)
def test_maps_in_which_the_background_is_class_0(label_ids, target_ids, num_classes):
    check_label_map(ClassMap(label_ids, target_ids, num_classes), KIDNEYS, unannotated=0)


@pytest.mark.parametrize(
    ("label_ids", "target_ids", "num_classes", "message"),
    [
        (
            [1, 2, 3],
            [0, 1, 2],
            3,
            "label_ids: found 1 (kidney) for class 0, expected 3, which the data list calls background.",
        ),
        ([3, 1, 2], [0, 1, 2], 4, "num_classes: found 4, but target_ids use 0..2: class 3 has no id."),
        ([3, 1, 2], [0, 2, 2], 3, "num_classes: found 3, but target_ids use 0..2: class 1 has no id."),
        (
            [0, 3, 1, 2],
            [0, 0, 1, 2],
            3,
            "label_ids: found 0, the id of voxels that were not annotated, expected ids of classes only.",
        ),
        ([3, 1, 2], [0, 1], 2, "target_ids must name a class for each of label_ids [3, 1, 2], got [0, 1]."),
        ([3, 1, 1], [0, 1, 2], 3, "label_ids must name each id once, got [3, 1, 1]."),
        (3, [0], 1, "label_ids must be a list of integers, got 3."),
        ([3, 1, 2], [0, 1, 2], 2, "target_ids must lie in 0..1 (num_classes 2), got [2]."),
    ],
)
def test_maps_that_teach_something_else(label_ids, target_ids, num_classes, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_label_map(ClassMap(label_ids, target_ids, num_classes), KIDNEYS, unannotated=0)


@pytest.mark.parametrize("pixdim", [[1.5, 1.5, -1.0], (2, 2, 2), (1.0, 1.0, -1)])
def test_sizes_of_voxels(pixdim):
    check_pixdim(pixdim)


@pytest.mark.parametrize("pixdim", [(1.5, 1.5), [1.5, 1.5, -1.0, 1.0], 1.5, "1.5,1.5,-1", [1.5, "1.5", -1], [0, 1, 1]])
def test_what_is_no_size_of_a_voxel(pixdim):
    with pytest.raises(ConfigError, match=r"^pixdim: found .*, expected three numbers in mm, such as \[1\.5, 1\.5, -1"):
        check_pixdim(pixdim)
