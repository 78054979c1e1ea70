from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import NibabelReader

from sizeloss_monai.checks import check_cases
from sizeloss_monai.data import SimpleITKReader
from sizeloss_monai.datalist import open_datalist
from sizeloss_monai.errors import DataError
from sizeloss_monai.sizes import check_bounds

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


def make_case(folder: Path, name: str = "a", image=None, label=None, affine=AFFINE, **extra) -> dict:
    image = np.ones(SHAPE, np.float32) if image is None else image
    label = np.zeros(SHAPE, np.uint8) if label is None else label
    return {
        "case": name,
        "image": save(folder / f"{name}.nii.gz", image),
        "label": save(folder / f"{name}_gt.nii.gz", label, affine),
        **extra,
    }


def with_values(*values: float, dtype: type = np.float32) -> np.ndarray:
    array = np.zeros(SHAPE, dtype)
    array.flat[: len(values)] = values
    return array


def problems(items: list[dict], **kwargs) -> list[str]:
    """The lines of the error but the first."""
    with pytest.raises(DataError) as error:
        check_cases(items, **kwargs)
    return str(error.value).splitlines()[1:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_good_cases(tmp_path: Path, num_workers: int, capsys: pytest.CaptureFixture) -> None:
    items = [
        make_case(tmp_path, "empty"),
        make_case(tmp_path, "ids", label=with_values(1, 2, 255, dtype=np.uint8)),
        make_case(tmp_path, "float", label=with_values(1, 2)),
        make_case(tmp_path, "rounded", affine=AFFINE + 1e-5),
    ]
    check_cases(items, num_classes=3, num_workers=num_workers, progress=True)
    assert "4/4" in capsys.readouterr().err
    check_cases([])


@pytest.mark.parametrize(
    ("label", "kwargs", "expected"),
    [
        (with_values(1, 3, 7), {"num_classes": 2}, "found ids 3, 7, expected 0, 1 or 255 (ignored)"),
        (with_values(255), {"num_classes": 2, "ignore_index": None}, "found ids 255, expected 0, 1"),
        (with_values(-1), {}, "found ids -1, expected ids from 0 or 255 (ignored)"),
        (
            with_values(4),
            {"num_classes": 4, "label_ids": {"label": [0, 1]}},
            "found ids 4, expected 0, 1 or 255 (ignored)",
        ),
        (with_values(0.5, 1), {}, "found values other than integers (0.5), expected class ids"),
        (with_values(np.nan), {}, "found values other than integers (nan), expected class ids"),
        (np.zeros((6, 5, 3), np.uint8), {}, "found shape (6, 5, 3), expected that of 'image' (6, 5, 4)"),
    ],
)
def test_bad_label(tmp_path: Path, label: np.ndarray, kwargs: dict, expected: str) -> None:
    assert problems([make_case(tmp_path, label=label)], **kwargs) == [f"case 'a', key 'label': {expected}"]


def test_label_ids_of_another_key(tmp_path: Path) -> None:
    item = make_case(tmp_path)
    item["weak_label"] = save(tmp_path / "weak.nii.gz", with_values(4))
    keys = ("image", "label", "weak_label")
    check_cases([item], keys, num_classes=4, label_ids={"weak_label": range(5)})
    assert "key 'weak_label': found ids 4" in problems([item], keys=keys, num_classes=4)[0]


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (0.1, None),  # a tenth of a voxel of 1.5 mm is 0.15 mm
        (0.2, "found an affine that puts voxels up to 0.2 mm away from those of 'image', expected the same grid"),
        (0.75, "found an affine that puts voxels up to 0.75 mm away"),  # half a voxel, as between centres and corners
        (float("nan"), "found NaN or infinite numbers in the sform, expected finite ones"),
    ],
)
def test_affine(tmp_path: Path, shift: float, message: str | None) -> None:
    affine = AFFINE.copy()
    affine[0, 3] += shift
    item = make_case(tmp_path, affine=affine)
    if message is None:
        check_cases([item])
    else:
        (line,) = problems([item])
        assert message in line


def test_image_values(tmp_path: Path) -> None:
    item = make_case(tmp_path, image=with_values(np.nan, np.nan, np.inf))
    assert problems([item]) == [
        "case 'a', key 'image': found 2 NaN and 1 infinite voxels, expected finite numbers",
    ]


def test_dimensions(tmp_path: Path) -> None:
    flat = make_case(tmp_path, "flat", image=np.ones((6, 5), np.float32), label=np.zeros((6, 5), np.uint8))
    film = make_case(tmp_path, "film", image=np.ones((*SHAPE, 2), np.float32))
    lines = problems([flat, film])
    assert lines[0] == "case 'flat', key 'image': found 2D (6x5) with 1 channels, expected 3D with 1 channel"
    assert lines[1].startswith("case 'flat', key 'label': found 2D")
    assert lines[2] == (
        "case 'film', key 'image': found 3D (6x5x4) with 2 channels, expected 3D with 1 channel "
        "(split a 4D file, a volume over time, into its phases)"
    )
    check_cases([film], num_channels=2)


def test_files_as_channels(tmp_path: Path) -> None:
    item = make_case(tmp_path)
    item["image"] = [item["image"], save(tmp_path / "b.nii.gz", np.ones(SHAPE, np.float32))]
    check_cases([item], num_channels=2)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mhd", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("reader", [None, SimpleITKReader, "sizeloss_monai.data.SimpleITKReader"])
def test_unreadable_files(tmp_path: Path, name: str, reader) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((10, 10, 10), np.float32))
    sitk.WriteImage(image, str(folder / name), name != "a.nii")
    check_cases([{"image": folder / name}], ["image"], reader=reader)
    voxels = folder / name.replace(".mhd", ".zraw")
    voxels.write_bytes(voxels.read_bytes()[:-100])
    (line,) = problems([{"case": "a", "image": folder / name}], keys=["image"], reader=reader)
    assert line.startswith("case 'a', key 'image': found a file that cannot be read (")
    assert line.endswith("), expected a whole image")
    assert "secret" not in line  # folders may name people


def test_missing(tmp_path: Path) -> None:
    item = make_case(tmp_path)
    Path(item["image"]).unlink()
    assert problems([item]) == ["case 'a', key 'image': found no file a.nii.gz, expected it to exist"]
    del item["image"], item["label"]
    lines = ["case 'a', key 'image': found no such key, expected a file"]
    assert problems([item], require_label=False) == lines
    assert problems([item]) == [*lines, "case 'a', key 'label': found no such key, expected a file"]
    assert problems([{}], keys=["image"]) == ["case '#0', key 'image': found no such key, expected a file"]


def test_all_problems_of_all_cases_at_once(tmp_path: Path) -> None:
    items = [
        make_case(tmp_path, "good"),
        make_case(tmp_path, "two", image=with_values(np.inf), label=with_values(9)),
        make_case(tmp_path, "label", label=with_values(0.5), affine=AFFINE + 1),
        {"case": "gone", "image": str(tmp_path / "gone.nii"), "label": str(tmp_path / "gone_gt.nii")},
    ]
    with pytest.raises(DataError) as error:
        check_cases(items, num_classes=2, num_workers=2)
    first, *lines = str(error.value).splitlines()
    assert first == "6 problems in 3 of 4 cases:"
    assert Counter(line.split(",")[0] for line in lines) == {"case 'two'": 2, "case 'label'": 2, "case 'gone'": 2}
    assert all("found " in line and "expected " in line for line in lines)


def test_every_file_is_read_once(tmp_path: Path) -> None:
    class CountingReader(NibabelReader):
        def read(self, data, **kwargs):
            counts.update([str(data[0])])
            return super().read(data, **kwargs)

    counts: Counter = Counter()
    items = [make_case(tmp_path, name) for name in "ab"]
    check_cases(items, reader=CountingReader())
    assert counts == {str(item[key]): 1 for item in items for key in ("image", "label")}


BAD_BOUNDS = [
    ([[2, 1]], "found (2, 1) for class 0, expected 0 <= lower <= upper"),
    ([[0, 1], [float("nan"), 1]], "found (nan, 1) for class 1, expected 0 <= lower <= upper"),
    ([[-1, 1]], "found (-1, 1) for class 0, expected 0 <= lower <= upper"),
    ([[float("inf"), float("inf")]], "found (inf, inf) for class 0, expected 0 <= lower < inf"),
    ([1, 2], "found shape [2], expected [C, 2]"),
    ([[1, 2, 3]], "found shape [1, 3], expected [C, 2]"),
    ([[1, 2], [3]], "found no array of numbers, expected [C, 2]"),
    ("abc", "found no array of numbers, expected [C, 2]"),
]


@pytest.mark.parametrize(("bounds", "message"), BAD_BOUNDS)
def test_check_bounds(bounds, message: str) -> None:
    with pytest.raises(DataError) as error:
        check_bounds(bounds, name="common_bounds")
    assert str(error.value) == f"common_bounds: {message}"


def test_check_bounds_passes() -> None:
    for bounds in ([[0, float("inf")], [60, 2000], [0, 0]], np.zeros((3, 2)), torch.ones(3, 2, requires_grad=True)):
        check_bounds(bounds, num_classes=3)
    with pytest.raises(DataError, match=r"found shape \[3, 2\], expected \[4, 2\]"):
        check_bounds(np.zeros((3, 2)), num_classes=4)


@pytest.mark.parametrize(
    ("folder", "keys", "num_classes"),
    [("acdc", ("image", "label", "weak_label"), 4), ("promise12", ("image", "label"), 2)],
)
def test_real_data(data_root: Path, folder: str, keys: tuple[str, ...], num_classes: int) -> None:
    if not (data_root / folder).is_dir():
        pytest.skip(f"no {folder} in the real data")
    datalist = open_datalist(data_root / folder, num_validation=4, weak_labels="weak_label" in keys)
    check_cases(datalist["validation"], keys, num_classes=num_classes, label_ids={"weak_label": range(5)})
