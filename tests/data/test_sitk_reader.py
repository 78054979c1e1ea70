from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import ITKReader, MetaTensor, NibabelReader
from monai.data.utils import is_no_channel
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged
from scipy.spatial.transform import Rotation

from sizeloss_monai.data import SimpleITKReader, verify_file

READER = "sizeloss_monai.data.SimpleITKReader"
OBLIQUE = Rotation.from_euler("xyz", [0.2, -0.4, 0.7]).as_matrix()
DIRECTIONS = {
    "identity": np.eye(3),
    "flipped": np.diag([-1.0, 1.0, -1.0]),
    "permuted": np.eye(3)[[2, 0, 1]],
    "oblique": OBLIQUE,
    "oblique-flipped": OBLIQUE @ np.diag([1.0, -1.0, 1.0]),
}


def write(
    path: Path, shape=(4, 5, 6), direction=None, spacing=(0.7, 1.3, 8.0), components=1, dtype="float32", compress=True
) -> np.ndarray:
    """Write random voxels and return them indexed [x, y, z] or [x, y, z, C]."""
    voxels = (
        np.random.default_rng(0).integers(0, 200, (*shape, *([components] if components > 1 else []))).astype(dtype)
    )
    zyx = voxels.transpose([*range(len(shape))][::-1] + ([len(shape)] if components > 1 else []))
    image = sitk.GetImageFromArray(zyx, isVector=components > 1)
    image.SetSpacing((*spacing, 1.0)[: len(shape)])
    image.SetOrigin((-10.0, 20.5, 33.25, 0.0)[: len(shape)])
    if direction is not None:
        image.SetDirection(np.asarray(direction).ravel().tolist())
    sitk.WriteImage(image, str(path), compress)
    return voxels


def load(reader, path):
    return reader.get_data(reader.read(path))


def assert_same(ours, theirs) -> None:
    (array, meta), (expected, expected_meta) = ours, theirs
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    for key in ("affine", "original_affine"):
        np.testing.assert_allclose(meta[key], expected_meta[key], atol=1e-5)
    np.testing.assert_array_equal(meta["spatial_shape"], expected_meta["spatial_shape"])
    assert meta["space"] == expected_meta["space"]
    channel, expected_channel = meta["original_channel_dim"], expected_meta["original_channel_dim"]
    assert channel == expected_channel or (is_no_channel(channel) and is_no_channel(expected_channel))


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mhd", ".mha", ".nrrd"])
def test_same_as_monai(tmp_path: Path, suffix: str, direction: np.ndarray) -> None:
    pytest.importorskip("itk")
    path = tmp_path / f"scan{suffix}"
    voxels = write(path, direction=direction, dtype="int16")
    ours = load(SimpleITKReader(), path)
    np.testing.assert_array_equal(ours[0], voxels)
    assert_same(ours, load(ITKReader(), path))
    if ".nii" in suffix:
        assert_same(ours, load(NibabelReader(), path))


@pytest.mark.parametrize(("shape", "components"), [((4, 5), 1), ((4, 5, 6, 3), 1), ((4, 5, 6), 3), ((4, 5), 2)])
def test_other_dimensions_same_as_itk(tmp_path: Path, shape: tuple[int, ...], components: int) -> None:
    pytest.importorskip("itk")
    path = tmp_path / "scan.mha"
    voxels = write(path, shape=shape, components=components)
    ours = load(SimpleITKReader(), path)
    np.testing.assert_array_equal(ours[0], voxels)
    assert_same(ours, load(ITKReader(), path))


def test_affine_of_a_known_case(tmp_path: Path) -> None:
    write(tmp_path / "scan.mhd", spacing=(2.0, 3.0, 4.0))
    _, ras = load(SimpleITKReader(), tmp_path / "scan.mhd")
    _, lps = load(SimpleITKReader(affine_lps_to_ras=False), tmp_path / "scan.mhd")
    np.testing.assert_allclose(ras["affine"], [[-2, 0, 0, 10], [0, -3, 0, -20.5], [0, 0, 4, 33.25], [0, 0, 0, 1]])
    np.testing.assert_allclose(lps["affine"], [[2, 0, 0, -10], [0, 3, 0, 20.5], [0, 0, 4, 33.25], [0, 0, 0, 1]])
    assert (ras["space"], lps["space"]) == ("RAS", "LPS")


@pytest.mark.parametrize("reader", [READER, SimpleITKReader, SimpleITKReader()], ids=["name", "class", "instance"])
def test_in_load_imaged(tmp_path: Path, reader) -> None:
    voxels = write(tmp_path / "scan.mhd")
    transform = Compose([LoadImaged("image", reader=reader), EnsureChannelFirstd("image")])
    image = transform({"image": tmp_path / "scan.mhd"})["image"]
    assert isinstance(image, MetaTensor)
    assert image.shape == (1, 4, 5, 6)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image[0], voxels)
    np.testing.assert_allclose(image.pixdim, [0.7, 1.3, 8.0], rtol=1e-6)


def test_components_become_channels(tmp_path: Path) -> None:
    voxels = write(tmp_path / "scan.mha", components=3)
    image = LoadImage(reader=SimpleITKReader(), ensure_channel_first=True)(tmp_path / "scan.mha")
    np.testing.assert_array_equal(image, np.moveaxis(voxels, -1, 0))


def test_channel_dim(tmp_path: Path) -> None:
    write(tmp_path / "scan.nii", shape=(4, 5, 6, 3))
    _, meta = load(SimpleITKReader(channel_dim=3), tmp_path / "scan.nii")
    assert meta["original_channel_dim"] == 3
    assert meta["spatial_shape"].tolist() == [4, 5, 6]
    write(tmp_path / "flat.nii")
    _, meta = load(SimpleITKReader(channel_dim="no_channel"), tmp_path / "flat.nii")
    assert is_no_channel(meta["original_channel_dim"])


def test_list_of_files(tmp_path: Path) -> None:
    pytest.importorskip("itk")
    paths = [tmp_path / "a.mha", tmp_path / "b.mha"]
    for components, shape in ((1, (2, 4, 5, 6)), (3, (4, 5, 6, 6))):
        for path in paths:
            write(path, components=components)
        ours = load(SimpleITKReader(), paths)
        assert ours[0].shape == shape
        assert_same(ours, load(ITKReader(), paths))


@pytest.mark.parametrize("other", [{"spacing": (0.7, 1.3, 7.0)}, {"shape": (4, 5, 7)}])
def test_list_of_different_grids(tmp_path: Path, other: dict) -> None:
    write(tmp_path / "a.mha")
    write(tmp_path / "b.mha", **other)
    with pytest.raises(RuntimeError, match="must have the same"):
        load(SimpleITKReader(), [tmp_path / "a.mha", tmp_path / "b.mha"])


def test_verify_suffix() -> None:
    reader = SimpleITKReader()
    assert reader.verify_suffix("a.mhd")
    assert reader.verify_suffix(["a.nii.gz", Path("b.NRRD".lower())])
    assert not reader.verify_suffix("a.png")
    assert not reader.verify_suffix(["a.mhd", "a.png"])


def test_pickle(tmp_path: Path) -> None:
    write(tmp_path / "scan.mhd")
    reader = pickle.loads(pickle.dumps(SimpleITKReader(channel_dim="no_channel")))
    assert load(reader, tmp_path / "scan.mhd")[0].shape == (4, 5, 6)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.mhd"):
        SimpleITKReader().read(tmp_path / "nothing.mhd")


FILES = {  # image -> the file of its voxels
    "scan.nii": "scan.nii",
    "scan.nii.gz": "scan.nii.gz",
    "scan.mhd": "scan.zraw",
    "scan.mha": "scan.mha",
    "scan.nrrd": "scan.nrrd",
}


@pytest.mark.parametrize(("name", "voxels"), FILES.items(), ids=FILES)
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.99])
def test_truncated(tmp_path: Path, name: str, voxels: str, kept: float) -> None:
    write(tmp_path / name, shape=(20, 20, 20), compress=name != "scan.nii")
    content = (tmp_path / voxels).read_bytes()
    (tmp_path / voxels).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(RuntimeError, match=name.replace(".", r"\.")):
        SimpleITKReader().read(tmp_path / name)


def test_truncated_uncompressed_metaimage(tmp_path: Path) -> None:
    write(tmp_path / "scan.mhd", compress=False)
    (tmp_path / "scan.raw").write_bytes(b"1234")
    with pytest.raises(RuntimeError, match=r"scan\.mhd"):
        SimpleITKReader().read(tmp_path / "scan.mhd")


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mhd", "scan.mha"])
def test_damaged(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, shape=(40, 40, 40))
    voxels = tmp_path / FILES[name]
    content = bytearray(voxels.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = bytes(20)
    voxels.write_bytes(content)
    with pytest.raises(OSError, match=r"check|decompress"):
        verify_file(tmp_path / name)
    with pytest.raises(RuntimeError, match=name.replace(".", r"\.")):
        SimpleITKReader().read(tmp_path / name)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_whole_files_pass(tmp_path: Path, name: str, compress: bool) -> None:
    write(tmp_path / name, compress=compress)
    verify_file(tmp_path / name)


def test_promise12(data_root: Path) -> None:
    pytest.importorskip("itk")
    path = data_root / "promise12" / "Case00.mhd"
    if not path.is_file():
        pytest.skip("no PROMISE12 in the real data")
    assert_same(load(SimpleITKReader(), path), load(ITKReader(), path))


def test_oblique_cine(data_root: Path) -> None:
    paths = sorted((data_root / "sunnybrook").glob("*.nii.gz"))
    if not paths:
        pytest.skip("no Sunnybrook in the real data")
    for path in paths:
        assert_same(load(SimpleITKReader(), path), load(NibabelReader(), path))
