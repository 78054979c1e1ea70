import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Flip
from scipy import ndimage, stats

from sizeloss_monai import transforms
from sizeloss_monai.transforms import (
    LabelToDiscSeed,
    LabelToDiscSeedd,
    LabelToErodedSeed,
    LabelToErodedSeedd,
    ScribbleToWeakLabel,
    ScribbleToWeakLabeld,
)

SIZES = (10, 7, 6, 5, 4, 3, 2)
AFFINE = torch.tensor([[0.0, -1.5, 0, 3], [1.5, 0, 0, -7], [0, 0, 8, 1], [0, 0, 0, 1]], dtype=torch.float64)


@st.composite
def masks(draw, max_edge=24):
    """Unions of rectangles with some speckle removed: convex or not, in parts, at the border, empty or full."""
    height, width = draw(st.integers(1, max_edge)), draw(st.integers(1, max_edge))
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(draw(st.integers(0, 3))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(st.integers(1, max_edge)), left : left + draw(st.integers(1, max_edge))] = True
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask[rng.random(mask.shape) < draw(st.sampled_from([0.0, 0.0, 0.05, 0.6]))] = False
    return mask


def erode(mask):
    weak = LabelToErodedSeed()(mask[None].astype(np.uint8))
    assert set(np.unique(weak)) <= {1, 255}
    return weak[0] == 1


def disc(mask, max_radius, seed=0, case="a", **kwargs):
    weak = LabelToDiscSeed(max_radius, seed)(mask[None].astype(np.uint8), case=case, **kwargs)
    assert set(np.unique(weak)) <= {1, 255}
    return weak[0] == 1


def corners(mask, size):
    """Top left corners of every ``size`` x ``size`` square that lies inside the mask."""
    height, width = mask.shape
    return [
        (i, j)
        for i in range(height - size + 1)
        for j in range(width - size + 1)
        if mask[i : i + size, j : j + size].all()
    ]


def disc_pixels(centre, radius):
    reach = range(-radius, radius + 1)
    return {(centre[0] + i, centre[1] + j) for i in reach for j in reach if i * i + j * j <= radius * radius}


def assert_largest_disc(mask, max_radius, seed):
    seed, inside = (set(map(tuple, np.argwhere(m).tolist())) for m in (seed, mask))
    if not inside:
        assert not seed
        return
    assert seed <= inside
    # a disc is symmetric about its centre
    centre = tuple(np.mean(sorted(seed), axis=0).tolist())
    assert centre in inside
    centre = tuple(map(int, centre))
    fitting = [radius for radius in range(max_radius + 1) if disc_pixels(centre, radius) <= inside]
    assert seed == disc_pixels(centre, max(fitting))


# ---- erosion


@settings(deadline=None, max_examples=80)
@given(masks())
def test_erosion_by_the_first_square_that_fits(mask):
    seed = erode(mask)
    assert seed.any() == mask.any()
    assert not (seed & ~mask).any()
    for size in SIZES:
        fitting = corners(mask, size)
        if fitting:
            # the anchor of an even square may be either of its two middle pixels
            anchored = [{(i + anchor, j + anchor) for i, j in fitting} for anchor in (size // 2, (size - 1) // 2)]
            assert set(map(tuple, np.argwhere(seed).tolist())) in anchored
            return
    if mask.any():  # no square of 2 x 2: the innermost pixel alone
        assert seed.sum() == 1
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        depth = {tuple(p): ((outside - p) ** 2).sum(1).min() for p in np.argwhere(mask)}
        assert depth[tuple(np.argwhere(seed)[0])] == max(depth.values())


@settings(deadline=None, max_examples=40)
@given(masks())
def test_erosion_equals_scipys(mask):
    for size in SIZES:
        expected = ndimage.binary_erosion(mask, np.ones((size, size)))
        if expected.any():
            break
    else:
        return
    np.testing.assert_array_equal(erode(mask), expected)


@pytest.mark.parametrize(
    ("edge", "left"),
    [(14, 25), (11, 4), (10, 1), (9, 9), (8, 4), (7, 1), (6, 1), (5, 1), (4, 1), (3, 1), (2, 1), (1, 1)],
)
def test_erosion_of_a_square(edge, left):
    # 10 x 10 from an edge of 10, 7 x 7 from 7, below that the largest that fits
    mask = np.zeros((20, 20), dtype=bool)
    mask[3 : 3 + edge, 2 : 2 + edge] = True
    assert erode(mask).sum() == left


def test_erosion_treats_the_border_of_the_image_as_background():
    assert erode(np.ones((12, 12), dtype=bool)).sum() == 9


def test_innermost_pixel_of_a_line_and_a_cross():
    line = np.zeros((5, 9), dtype=bool)
    line[2, 1:8] = True
    assert erode(line).sum() == 1
    cross = np.zeros((9, 9), dtype=bool)
    cross[4, 1:8] = cross[1:8, 4] = True
    assert np.argwhere(erode(cross)).tolist() == [[4, 4]]


def test_erosion_with_other_sizes():
    mask = np.zeros((1, 9, 9), dtype=np.uint8)
    mask[0, 1:8, 1:8] = 1
    assert (LabelToErodedSeed(sizes=(5,))(mask) == 1).sum() == 9
    assert (LabelToErodedSeed(sizes=(8,))(mask) == 1).sum() == 1
    np.testing.assert_array_equal(LabelToErodedSeed(sizes=[1])(mask) == 1, mask == 1)


# ---- discs


@settings(deadline=None, max_examples=80)
@given(masks(16), st.integers(0, 5), st.integers(0, 2**31))
def test_disc_is_the_largest_around_a_centre_in_the_target(mask, max_radius, random_seed):
    assert_largest_disc(mask, max_radius, disc(mask, max_radius, random_seed))


def test_disc_in_a_round_target_with_a_hole():
    # the nearest pixel outside lies along a diagonal as often as not
    i, j = np.ogrid[:25, :23]
    mask = ((i - 12) ** 2 + (j - 11) ** 2 <= 100) & ((i - 7) ** 2 + (j - 8) ** 2 > 4)
    for index in range(80):
        assert_largest_disc(mask, 6, disc(mask, 6, case=str(index)))


def test_largest_disc_in_the_middle_of_a_large_target():
    mask = np.ones((64, 64), dtype=bool)
    found = {int(disc(mask, 4, case=f"case {i}").sum()) for i in range(60)}
    assert max(found) == 49  # pixels within 4 of the centre
    assert found <= {len(disc_pixels((0, 0), radius)) for radius in range(5)}


@pytest.mark.parametrize("identity", ["case", "seed", "slice"])
def test_centre_is_uniform_in_the_target(identity):
    mask = np.zeros((7, 7), dtype=bool)
    mask[1:5, 2:4] = mask[5, 5] = mask[0, 0] = True
    counts = np.zeros(mask.shape, dtype=int)
    draws = 1500
    for i in range(draws):
        kwargs = {"case": {"case": f"patient{i:04d}"}, "seed": {"seed": i}, "slice": {"first_slice": i}}[identity]
        counts += disc(mask, 0, **kwargs)
    assert counts[~mask].sum() == 0
    assert counts.sum() == draws
    assert stats.chisquare(counts[mask]).pvalue > 1e-3


def test_discs_differ_between_cases_slices_and_seeds():
    mask = np.ones((64, 64), dtype=bool)
    first = disc(mask, 4)
    assert not np.array_equal(first, disc(mask, 4, case="b"))
    assert not np.array_equal(first, disc(mask, 4, seed=1))
    assert not np.array_equal(first, disc(mask, 4, first_slice=1))


def volume():
    """Three classes that touch, over 6 slices, some of which are empty; made without any random generator."""
    i, j, k = np.ogrid[:40, :36, :6]
    label = np.zeros((40, 36, 6), dtype=np.uint8)
    label[((i - 18) ** 2 + (j - 17) ** 2 < 225) & (k > 0)] = 1
    label[((i - 18) ** 2 + (j - 17) ** 2 < 100) & (k > 1)] = 2
    label[(abs(i - 31) < 4) & (abs(j - 30) < 2) & (k == 3)] = 3
    return label[None]


def digest(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def test_disc_depends_on_nothing_but_its_identity():
    transform, label = LabelToDiscSeed(3, seed=5), volume()
    cases = [f"case{i}" for i in range(8)]
    expected = {case: digest(transform(label, case=case)) for case in cases}
    assert len(set(expected.values())) == len(cases)
    np.random.seed(1)  # noqa: NPY002 - no global generator matters
    torch.manual_seed(1)
    assert {case: digest(transform(label, case=case)) for case in reversed(cases)} == expected
    assert {case: digest(LabelToDiscSeed(3, seed=5)(label, case=case)) for case in cases} == expected
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(cases, pool.map(lambda case: digest(transform(label, case=case)), cases), strict=True))
    assert found == expected


@pytest.mark.parametrize("max_radius", [0, 2, 4])
def test_one_ball_a_class_in_the_whole_volume(max_radius):
    label = np.repeat(volume(), 4, axis=-1)
    offsets = np.ogrid[-max_radius : max_radius + 1, -max_radius : max_radius + 1, -max_radius : max_radius + 1]
    largest = sum(axis**2 for axis in offsets) <= max_radius**2
    for case in map(str, range(10)):
        weak = LabelToDiscSeed(max_radius, per="volume")(label, case=case)
        assert set(np.unique(weak)) == {1, 2, 3, 255}
        for class_id in (1, 2, 3):
            ball = weak[0] == class_id
            assert not (ball & (label[0] != class_id)).any()
            voxels = np.argwhere(ball)
            centre = voxels.mean(axis=0)  # a ball is symmetric about it
            radius = int(np.ptp(voxels[:, 0])) // 2
            squared = ((np.argwhere(label[0] == class_id) - centre) ** 2).sum(axis=1)
            assert (squared <= radius**2).sum() == len(voxels) <= largest.sum()
            # no larger one fits
            nearest_outside = ((np.argwhere(label[0] != class_id) - centre) ** 2).sum(axis=1).min()
            assert (
                radius == max_radius or nearest_outside <= (radius + 1) ** 2 or edge_distance(centre, label) <= radius
            )


def edge_distance(centre, label):
    return min(*centre, *(np.array(label.shape[1:]) - 1 - centre))


def test_ball_of_a_slice_is_its_disc():
    label = volume()[..., 3]
    discs, balls = (LabelToDiscSeed(3, per=per)(label, case="a") for per in ("slice", "volume"))
    np.testing.assert_array_equal(discs, balls)


def test_disc_is_the_same_in_another_process(tmp_path):
    np.save(tmp_path / "label.npy", volume())
    code = (
        "import sys, zlib, numpy as np; from sizeloss_monai.transforms import LabelToDiscSeed; "
        "label = np.load(sys.argv[1]); "
        "print(*(zlib.crc32(LabelToDiscSeed(3, seed=5)(label, case=c).tobytes()) for c in ('a', 'Ü', '')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "label.npy")],
        capture_output=True,
        text=True,
        check=True,
        # str's own hash would differ
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    expected = [digest(LabelToDiscSeed(3, seed=5)(volume(), case=case)) for case in ("a", "Ü", "")]
    assert [int(value) for value in result.stdout.split()] == expected


# ---- both


@pytest.mark.parametrize("make", [LabelToErodedSeed, LabelToDiscSeed])
def test_a_slice_gives_the_slice_of_the_volume(make):
    label = volume()
    kwargs = {"case": "x"} if make is LabelToDiscSeed else {}
    weak = make()(label, **kwargs)
    for index in range(label.shape[-1]):
        if make is LabelToDiscSeed:
            kwargs["first_slice"] = index
        np.testing.assert_array_equal(make()(label[..., index], **kwargs), weak[..., index])
    if make is LabelToDiscSeed:
        np.testing.assert_array_equal(make()(label[..., 2:5], case="x", first_slice=2), weak[..., 2:5])


@pytest.mark.parametrize("transform", [LabelToErodedSeed(), LabelToDiscSeed()])
def test_every_class_has_a_seed_in_every_slice_it_is_in(transform):
    label = volume()
    weak = transform(label)
    assert weak.shape == label.shape
    assert set(np.unique(weak)) == {1, 2, 3, 255}
    np.testing.assert_array_equal(weak[weak != 255], label[weak != 255])
    for index in range(label.shape[-1]):
        assert set(np.unique(weak[..., index])) - {255} == set(np.unique(label[..., index])) - {0}


@pytest.mark.parametrize("transform", [LabelToErodedSeed(), LabelToDiscSeed()])
def test_classes_do_not_depend_on_each_other(transform):
    label = volume()
    weak = transform(label)
    for class_id in (1, 2, 3):
        alone = transform(np.where(label == class_id, label, 0))
        np.testing.assert_array_equal(alone == class_id, weak == class_id)


@pytest.mark.parametrize("transform", [LabelToErodedSeed(), LabelToDiscSeed(), ScribbleToWeakLabel(4)])
@pytest.mark.parametrize("spatial", [(12, 10), (12, 10, 3)])
def test_empty_target_is_unannotated(transform, spatial):
    label = np.full((1, *spatial), 4 if isinstance(transform, ScribbleToWeakLabel) else 0, dtype=np.uint8)
    assert (transform(label) == 255).all()


@pytest.mark.parametrize("make", [LabelToErodedSeed, LabelToDiscSeed])
def test_other_ignore_index(make):
    label = volume()
    weak = make(ignore_index=9)(label)
    np.testing.assert_array_equal(weak, np.where(make()(label) == 255, 9, make()(label)))


@pytest.mark.parametrize("transform", [LabelToErodedSeed(), LabelToDiscSeed(), ScribbleToWeakLabel(0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32])
@pytest.mark.parametrize("spatial", [2, 3])
def test_container_dtype_and_input_untouched(transform, dtype, spatial):
    label = volume().astype(dtype) if spatial == 3 else volume()[..., 3].astype(dtype)
    weak = transform(label)
    assert type(weak) is np.ndarray
    assert weak.dtype == np.uint8
    before = label.copy()
    tensor = torch.from_numpy(label)
    from_tensor = transform(tensor)
    assert type(from_tensor) is torch.Tensor
    assert from_tensor.dtype == torch.uint8
    np.testing.assert_array_equal(from_tensor.numpy(), weak)
    meta = MetaTensor(tensor, affine=AFFINE, meta={"filename_or_obj": "x.nii"})
    from_meta = transform(meta)
    assert type(from_meta) is MetaTensor
    assert from_meta.dtype == torch.uint8
    torch.testing.assert_close(from_meta.affine, AFFINE, rtol=0, atol=0)
    assert from_meta.meta["filename_or_obj"] == "x.nii"
    np.testing.assert_array_equal(from_meta.numpy(), weak)
    np.testing.assert_array_equal(label, before)
    torch.testing.assert_close(meta.affine, AFFINE, rtol=0, atol=0)


def test_record_of_operations_is_kept_for_inversion():
    flip = Flip(0)
    label = flip(MetaTensor(torch.from_numpy(volume()), affine=AFFINE))
    weak = LabelToErodedSeed()(label)
    assert [op["class"] for op in weak.applied_operations] == ["Flip"]
    expected = np.flip(weak.numpy(), 1).copy()
    restored = flip.inverse(weak)
    np.testing.assert_array_equal(restored.numpy(), expected)
    torch.testing.assert_close(restored.affine, AFFINE)
    assert [op["class"] for op in label.applied_operations] == ["Flip"]


# ---- scribbles


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(1, 3))
def test_scribbles(random_seed, unannotated, dims):
    rng = np.random.default_rng(random_seed)
    scribble = rng.integers(0, 4, size=(1, *[5] * dims)).astype(np.int16)
    scribble[rng.random(scribble.shape) < 0.7] = unannotated
    weak = ScribbleToWeakLabel(unannotated)(scribble)
    for found, drawn in zip(weak.ravel(), scribble.ravel(), strict=True):
        assert found == (255 if drawn == unannotated else drawn)


def test_scribbles_keep_annotated_background():
    assert ScribbleToWeakLabel(4)(np.array([[[0, 1, 4]]])).tolist() == [[[0, 1, 255]]]
    assert ScribbleToWeakLabel(4, ignore_index=7)(np.array([[[0, 1, 4]]])).tolist() == [[[0, 1, 7]]]


@pytest.mark.parametrize(
    ("transform", "scribble"),
    [
        (ScribbleToWeakLabel(4), [[[0, 255, 4]]]),
        (ScribbleToWeakLabel(4, ignore_index=1), [[[0, 1, 4]]]),
        (ScribbleToWeakLabel(4), [[[0, 256, 4]]]),
        (ScribbleToWeakLabel(4), [[[0, -1, 4]]]),
        (ScribbleToWeakLabel(4), [[[0, 1.5, 4]]]),
        (ScribbleToWeakLabel(4), [[[0, np.nan, 4]]]),
    ],
)
def test_wrong_scribbles(transform, scribble):
    with pytest.raises(ValueError, match="scribbles"):
        transform(np.array(scribble))


# ---- arguments


@pytest.mark.parametrize("sizes", [(), (0,), (-1,), (3, 3), (3, 5), (5, 3, 0)])
def test_wrong_sizes(sizes):
    with pytest.raises(ValueError, match="sizes"):
        LabelToErodedSeed(sizes=sizes)


@pytest.mark.parametrize("kwargs", [{"max_radius": -1}, {"seed": -1}])
def test_wrong_radius_or_seed(kwargs):
    with pytest.raises(ValueError, match=">= 0"):
        LabelToDiscSeed(**kwargs)


@pytest.mark.parametrize("make", [LabelToErodedSeed, LabelToDiscSeed])
@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8), (3, 8, 8, 2), (1, 1, 8, 8, 2), (8,)])
def test_wrong_shape(make, shape):
    with pytest.raises(ValueError, match="shape"):
        make()(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("make", [LabelToErodedSeed, LabelToDiscSeed])
@pytest.mark.parametrize("class_id", [-1, 256, 300, 0.5, np.nan])
def test_id_that_does_not_fit_is_no_other_class(make, class_id):
    with pytest.raises(ValueError, match="ids"):
        make()(np.full((1, 8, 8), class_id))


# ---- dictionaries


@pytest.mark.parametrize("name", ["LabelToErodedSeed", "LabelToDiscSeed", "ScribbleToWeakLabel"])
def test_aliases(name):
    twin = getattr(transforms, f"{name}d")
    assert getattr(transforms, f"{name}D") is twin
    assert getattr(transforms, f"{name}Dict") is twin


def test_dictionary_defaults_and_input_untouched():
    item = {"label": MetaTensor(torch.from_numpy(volume()), affine=AFFINE), "case": "a"}
    for twin, array in [
        (LabelToErodedSeedd(), LabelToErodedSeed()(volume())),
        (LabelToDiscSeedd(), LabelToDiscSeed()(volume(), case="a")),
    ]:
        out = twin(item)
        assert item.keys() == {"label", "case"}
        assert out.keys() == {"label", "case", "weak_label"}
        assert out["label"] is item["label"]
        np.testing.assert_array_equal(out["weak_label"].numpy(), array)
        assert isinstance(out["weak_label"], MetaTensor)


def test_dictionary_output_keys_and_arguments():
    item = {"ed": volume(), "es": volume()[..., ::-1].copy(), "name": "p1"}
    keys = {"keys": ["ed", "es"], "output_keys": ["ed_weak", "es_weak"]}
    out = LabelToErodedSeedd(**keys, sizes=(3, 2), ignore_index=200)(item)
    for key in ("ed", "es"):
        expected = LabelToErodedSeed((3, 2), 200)(item[key])
        np.testing.assert_array_equal(out[f"{key}_weak"], expected)
    out = LabelToDiscSeedd(**keys, max_radius=2, seed=3, ignore_index=200, case_key="name")(item)
    for key in ("ed", "es"):
        expected = LabelToDiscSeed(2, 3, 200)(item[key], case="p1")
        np.testing.assert_array_equal(out[f"{key}_weak"], expected)
    out = LabelToDiscSeedd(**keys, max_radius=2, case_key="name", per="volume")(item)
    np.testing.assert_array_equal(out["ed_weak"], LabelToDiscSeed(2, per="volume")(item["ed"], case="p1"))
    out = ScribbleToWeakLabeld(keys="ed", unannotated=2, output_keys="w", ignore_index=200)(item)
    np.testing.assert_array_equal(out["w"], ScribbleToWeakLabel(2, 200)(item["ed"]))
    out = ScribbleToWeakLabeld(keys="ed", unannotated=2)(item)
    np.testing.assert_array_equal(out["weak_label"], ScribbleToWeakLabel(2)(item["ed"]))


def test_dictionary_of_a_slice_takes_its_index():
    weak = LabelToDiscSeed(2, 1)(volume(), case="a")
    for index in range(6):
        item = {"label": volume()[..., index], "case": "a", "slice": index}
        np.testing.assert_array_equal(LabelToDiscSeedd(max_radius=2, seed=1)(item)["weak_label"], weak[..., index])
        item["k"] = item.pop("slice")
        found = LabelToDiscSeedd(max_radius=2, seed=1, slice_key="k")(item)["weak_label"]
        np.testing.assert_array_equal(found, weak[..., index])


def test_dictionary_disc_goes_by_the_file_of_a_case_without_a_name():
    def discs(file):
        return LabelToDiscSeedd(seed=1)(
            {"label": MetaTensor(torch.as_tensor(volume()), meta={"filename_or_obj": file})}
        )

    np.testing.assert_array_equal(discs("x/a.nii.gz")["weak_label"], LabelToDiscSeed(seed=1)(volume(), case="a.nii.gz"))
    assert not np.array_equal(discs("x/a.nii.gz")["weak_label"], discs("x/b.nii.gz")["weak_label"])


def test_dictionary_disc_needs_a_case():
    with pytest.raises(KeyError, match="case"):
        LabelToDiscSeedd()({"label": volume()})


def test_dictionary_missing_label():
    with pytest.raises(KeyError, match="label"):
        LabelToErodedSeedd()({"case": "a"})


@pytest.mark.parametrize(
    "make", [LabelToErodedSeedd, LabelToDiscSeedd, lambda **kwargs: ScribbleToWeakLabeld(unannotated=4, **kwargs)]
)
def test_as_many_output_keys_as_keys(make):
    with pytest.raises(ValueError, match="output_keys"):
        make(keys=["a", "b"], output_keys="w")


def test_in_a_compose():
    out = Compose([LabelToErodedSeedd()])({"label": volume()})
    np.testing.assert_array_equal(out["weak_label"], LabelToErodedSeed()(volume()))


def test_scribbles_may_mark_unannotated_by_minus_one() -> None:
    weak = ScribbleToWeakLabel(-1)(np.array([[[0, -1, 1]]]))
    np.testing.assert_array_equal(weak, [[[0, 255, 1]]])
