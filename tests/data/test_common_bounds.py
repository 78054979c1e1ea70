import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, ResizeWithPadOrCropd

from sizeloss_monai.sizes import measure_common_bounds

INF = math.inf


def make_case(case, patient, sizes):
    """A volume whose k-th slice has ``sizes[k]`` pixels of class 1, in rows of 10."""
    label = torch.zeros(1, 10, 10, len(sizes), dtype=torch.uint8)
    for index, size in enumerate(sizes):
        rows = torch.zeros(100, dtype=torch.uint8)
        rows[:size] = 1
        label[0, ..., index] = rows.reshape(10, 10)
    return {"case": case, "patient": patient, "label": MetaTensor(label)}


CASES = [
    make_case("p1_ed", "p1", [0, 20, 40, 10]),
    make_case("p2_ed", "p2", [5, 90]),
    make_case("p1_es", "p1", [30, 8, 0]),
]


class Recorder:
    def __init__(self):
        self.cases = []

    def __call__(self, item):
        self.cases.append(item["case"])
        return item


@pytest.mark.parametrize(
    ("name", "read", "smallest", "largest"),
    [
        (None, ["p1_ed", "p1_es"], 8, 40),
        ("p1", ["p1_ed", "p1_es"], 8, 40),
        ("p1_es", ["p1_es"], 8, 30),
        ("p2", ["p2_ed"], 5, 90),
        ("p2_ed", ["p2_ed"], 5, 90),
    ],
)
def test_from_one_patient_or_case(name, read, smallest, largest):
    transform = Recorder()
    bounds = measure_common_bounds(CASES, transform, 2, name)
    assert transform.cases == read
    assert bounds[0] == [0, INF]
    assert bounds[1] == pytest.approx([0.9 * smallest, 1.1 * largest])


@pytest.mark.parametrize(
    ("num_cases", "name", "read", "sizes"),
    [
        (1, None, ["p1_ed"], [70]),
        (2, None, ["p1_ed", "p2_ed"], [70, 95]),
        (3, None, ["p1_ed", "p2_ed", "p1_es"], [70, 95, 38]),
        (3, "p1", ["p1_ed", "p1_es"], [70, 38]),  # a name wins
    ],
)
def test_volumes_of_the_first_cases(num_cases, name, read, sizes):
    transform = Recorder()
    bounds = measure_common_bounds(CASES, transform, 2, name, num_cases=num_cases, per="volume")
    assert transform.cases == read
    assert bounds[1] == pytest.approx([0.9 * min(sizes), 1.1 * max(sizes)])


@pytest.mark.parametrize("num_cases", [0, 4])
def test_number_of_cases_out_of_range(num_cases):
    with pytest.raises(ValueError, match=rf"1\.\.3, got {num_cases}"):
        measure_common_bounds(CASES, Recorder(), 2, num_cases=num_cases)


def test_factors_and_label_key():
    cases = [{"case": "a", "truth": CASES[1]["label"]}]
    bounds = measure_common_bounds(cases, Recorder(), 2, "a", label_key="truth", lower_factor=1, upper_factor=2)
    assert bounds == [[0, INF], [5, 180]]


def test_measured_on_what_the_network_sees():
    transform = Compose([ResizeWithPadOrCropd("label", spatial_size=(4, 4, -1))])
    sizes = [int((transform(c)["label"].numpy() == 1)[..., k].sum()) for c in CASES[1:2] for k in range(2)]
    assert max(sizes) < 90
    positive = [n for n in sizes if n]
    bounds = measure_common_bounds(CASES, transform, 2, "p2")
    assert bounds[1] == pytest.approx([0.9 * min(positive), 1.1 * max(positive)])


def test_unknown_name():
    with pytest.raises(ValueError, match="'p9'"):
        measure_common_bounds(CASES, Recorder(), 2, "p9")


def test_class_that_is_in_no_slice():
    with pytest.raises(ValueError, match="class 2"):
        measure_common_bounds(CASES, Recorder(), 3)


def test_bounds_are_plain_numbers_for_a_config():
    bounds = measure_common_bounds(CASES, Recorder(), 2)
    assert all(type(value) is float for pair in bounds for value in pair)
    assert np.asarray(bounds).shape == (2, 2)
