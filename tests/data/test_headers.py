"""Headers of NIfTI, MetaImage and NRRD: what is taken of one that contradicts itself, and what cannot be true."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.transforms import LoadImage

from sizeloss_monai.data import VolumeReader, read_grid
from sizeloss_monai.data.headers import HeaderError, read_header
from sizeloss_monai.errors import DataError
from tests.support.image_files import SHAPE, metaimage, nifti, nrrd, oblique_affine, shifted, voxels_of, write

AFFINE = oblique_affine()
VOXELS = voxels_of()
MICROMETRES = np.diag([1000.0, 1000.0, 1000.0, 1.0])


# ------------------------------------------------------------------------------------------------------ what is taken


@pytest.mark.parametrize(
    ("content", "expected", "note"),
    [
        (nifti(VOXELS, AFFINE, AFFINE), AFFINE, None),
        (nifti(VOXELS, AFFINE), AFFINE, None),
        (nifti(VOXELS, None, AFFINE), AFFINE, None),
        (nifti(VOXELS, AFFINE, pixdim=[1] * 8), AFFINE, "pixdim (1 x 1 x 1 mm) contradicts the sform"),
        (nifti(VOXELS, AFFINE, pixdim=[np.nan] * 8), AFFINE, "pixdim (nan x nan x nan mm) contradicts the sform"),
        (nifti(VOXELS, AFFINE, shifted(AFFINE, 12, 0, 0)), AFFINE, "sform and qform differ by up to 12 mm"),
        (nifti(VOXELS, AFFINE, AFFINE, quatern_b=2.0), AFFINE, "the qform cannot be used: the sform is taken"),
        (nifti(VOXELS, MICROMETRES @ AFFINE, MICROMETRES @ AFFINE, xyzt_units=3), AFFINE, None),
        (nifti(VOXELS, np.linalg.inv(MICROMETRES) @ AFFINE, xyzt_units=1), AFFINE, None),
        (nifti(VOXELS, AFFINE, xyzt_units=0), AFFINE, None),
        (nifti(VOXELS, AFFINE, xyzt_units=2 + 8), AFFINE, None),  # and seconds
        (nifti(VOXELS, AFFINE, xyzt_units=5), AFFINE, "unknown code 5: millimetres are taken"),
        (nifti(VOXELS, AFFINE, AFFINE, endian=">"), AFFINE, None),
        (nifti(VOXELS, AFFINE, AFFINE, version=2), AFFINE, None),
        (nifti(VOXELS, AFFINE, AFFINE, version=2, endian=">"), AFFINE, None),
    ],
)
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_placement_of_nifti(tmp_path: Path, name: str, content: bytes, expected: np.ndarray, note: str | None) -> None:
    path = write(tmp_path / name, content)
    grid = read_grid(path)
    assert grid.shape == SHAPE
    np.testing.assert_allclose(grid.affine, expected, atol=1e-4)
    assert (note is None) == (grid.notes == ()), grid.notes
    assert note is None or note in grid.notes[0]
    volume = LoadImage(image_only=True)(path, reader=VolumeReader())
    np.testing.assert_array_equal(volume, VOXELS)
    np.testing.assert_allclose(volume.affine, expected, atol=1e-4)


def test_codes_of_zero_leave_pixdim_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii", nifti(VOXELS, pixdim=[1, 1.5, -1.25, 8, 0, 0, 0, 0]))
    grid = read_grid(path)
    assert grid.spacing == pytest.approx((1.5, 1.25, 8))
    assert list(grid.forms) == ["pixdim"]
    assert "neither sform nor qform has a code" in grid.notes[0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, np.diag([-1.4, -1.3, 9.5, 1.0])),
        ({"space": "right-anterior-superior"}, np.diag([1.4, 1.3, 9.5, 1.0])),
        ({"space": "RAS"}, np.diag([1.4, 1.3, 9.5, 1.0])),
        ({"space": "left-anterior-superior"}, np.diag([-1.4, 1.3, 9.5, 1.0])),
        ({"space": None, "space_directions": None, "space_origin": None, "spacings": "1.4 1.3 9.5"}, None),
        ({"space_origin": None}, None),
        ({"endian": "little", "encoding": "raw"}, None),
        ({"encoding": "ascii"}, None),
    ],
)
def test_spaces_of_nrrd(tmp_path: Path, fields: dict[str, Any], expected: np.ndarray | None) -> None:
    path = write(tmp_path / "scan.nrrd", nrrd(VOXELS, **fields))
    grid = read_grid(path)
    assert (grid.shape, grid.spacing) == (SHAPE, pytest.approx((1.4, 1.3, 9.5)))
    if expected is not None:
        np.testing.assert_allclose(grid.affine[:3, :3], expected[:3, :3])
        np.testing.assert_allclose(np.abs(grid.affine[:3, 3]), (7, 11.5, 13))
    np.testing.assert_array_equal(LoadImage(image_only=True)(path, reader=VolumeReader()), VOXELS)


def test_channels_of_nrrd(tmp_path: Path) -> None:
    voxels = np.stack([VOXELS, 2 * VOXELS])
    fields = {"space_directions": "none (1.4,0,0) (0,1.3,0) (0,0,9.5)", "kinds": "vector domain domain domain"}
    path = write(tmp_path / "scan.nrrd", nrrd(voxels, **fields))
    header = read_header(path)
    assert (header.shape, header.channels) == (SHAPE, 2)
    volume = LoadImage(image_only=True, ensure_channel_first=True)(path, reader=VolumeReader())
    np.testing.assert_array_equal(volume, voxels)


# ----------------------------------------------------------------------------------------------- what cannot be true

NAN = AFFINE.copy()
NAN[0, 3] = np.nan
FAR = AFFINE.copy()
FAR[1, 3] = 1e30
FLAT = AFFINE.copy()
FLAT[:3, 1] = FLAT[:3, 0]
WIDE = AFFINE @ np.diag([1, 1e30, 1, 1])
RGB = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])

NIFTI = {
    "zero dimension": (nifti(VOXELS, AFFINE, dim=[3, 0, 7, 6, 1, 1, 1, 1]), "found the sizes 0 x 7 x 6"),
    "negative dimension": (nifti(VOXELS, AFFINE, dim=[3, 8, -7, 6, 1, 1, 1, 1]), "found the sizes 8 x -7 x 6"),
    "no dimension": (nifti(VOXELS, AFFINE, dim=[0, 8, 7, 6, 1, 1, 1, 1]), "found 0 dimensions"),
    "100 dimensions": (nifti(VOXELS, AFFINE, dim=[100, 8, 7, 6, 1, 1, 1, 1]), "found 100 dimensions"),
    "NaN origin": (nifti(VOXELS, NAN), "found NaN or infinite numbers in the sform"),
    "far origin": (nifti(VOXELS, FAR), "found the origin"),
    "wide spacing": (nifti(VOXELS, WIDE), "found a voxel spacing of 1.4 x 1.3e+30 x 9.5 mm in the sform"),
    "flat axes": (nifti(VOXELS, FLAT), "axes in the sform that lie in one plane"),
    "zero sform": (nifti(VOXELS, None, None, sform_code=1), "found a voxel spacing of 0 x 0 x 0 mm in the sform"),
    "unknown form": (nifti(VOXELS, AFFINE, sform_code=77), "found the sform_code 77, expected 0 to 5"),
    "zero pixdim": (nifti(VOXELS, pixdim=[1, 0, 1, 1, 1, 1, 1, 1]), "found the pixdim [0.0, 1.0, 1.0]"),
    "NaN pixdim": (nifti(VOXELS, None, AFFINE, pixdim=[1, np.nan, 1, 1, 1, 1, 1, 1]), "the qform cannot be used"),
    "offset in the header": (nifti(VOXELS, AFFINE, vox_offset=10), "found the voxels at byte 10"),
    "NaN offset": (nifti(VOXELS, AFFINE, vox_offset=np.nan), "found the voxels at byte nan"),
    "unknown type": (nifti(VOXELS, AFFINE, datatype=3), "found the unknown code 3 for the type of voxels"),
    "complex": (nifti(VOXELS.astype("complex64"), AFFINE), "found voxels of type complex64"),
    "RGB": (nifti(RGB, AFFINE), "expected real numbers"),
    "two files": (nifti(VOXELS, AFFINE, magic=b"ni1"), "found the magic b'ni1'"),
    "tiny slope": (nifti(VOXELS, AFFINE, scl_slope=1e-30), "found the scl_slope 1e-30"),
    "bad intercept": (nifti(VOXELS, AFFINE, scl_slope=1, scl_inter=np.nan), "found a header that cannot be used"),
    "text": (b"no image at all" * 99, "found no NIfTI header"),
    "short": (nifti(VOXELS, AFFINE)[:200], "found no NIfTI header"),
}


@pytest.mark.parametrize("kind", NIFTI)
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_nifti_that_cannot_be(tmp_path: Path, name: str, kind: str) -> None:
    content, message = NIFTI[kind]
    refused(write(tmp_path / name, content), message)


@pytest.mark.parametrize("slope", [0, np.nan])
def test_no_slope_is_one(tmp_path: Path, slope: float) -> None:
    path = write(tmp_path / "scan.nii", nifti(VOXELS, AFFINE, scl_slope=slope, scl_inter=slope))
    np.testing.assert_array_equal(LoadImage(image_only=True)(path, reader=VolumeReader()), VOXELS)


@pytest.mark.parametrize(("name", "packed"), [("scan.nii", True), ("scan.nii.gz", False)])
def test_compressed_or_not_as_the_name_says(tmp_path: Path, name: str, packed: bool) -> None:
    content = nifti(VOXELS, AFFINE)
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    refused(tmp_path / name, "by its name")


METAIMAGE = {
    "100 dimensions": ({"NDims": 100, "DimSize": " ".join(["2"] * 100)}, "found 100 dimensions"),
    "zero dimension": ({"DimSize": "8 0 6"}, "found the sizes 8 x 0 x 6"),
    "too few sizes": ({"DimSize": "8 7"}, "found the DimSize '8 7', expected 3 finite numbers"),
    "sizes that are no integers": ({"DimSize": "8 7 6.5"}, "expected integers"),
    "negative spacing": ({"ElementSpacing": "-1.4 1.3 9.5"}, "found the ElementSpacing -1.4 x 1.3 x 9.5"),
    "wide spacing": ({"ElementSpacing": "1e30 1 1"}, "found a voxel spacing of 1e+30"),
    "NaN origin": ({"Offset": "nan 0 0"}, "found the Offset 'nan 0 0', expected 3 finite numbers"),
    "flat axes": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "axes in the header that lie in one plane"),
    "unknown type": ({"ElementType": "MET_STRING"}, "found the ElementType MET_STRING"),
    "neither true nor false": ({"CompressedData": "1,5"}, "found the CompressedData '1,5', expected True or False"),
    "packed by number": ({"CompressedData": "1"}, "found no CompressedDataSize above 0"),
    "a field twice": ({"Offset": "0 0 0\nDimSize = 2 2 2"}, "found the field DimSize twice"),
    "a million channels": ({"ElementNumberOfChannels": 10**6}, "found 1000000 channels"),
    "header size in a local file": ({"HeaderSize": 5}, "found the HeaderSize 5"),
    "no data file": ({"ElementDataFile": ""}, "found no ElementDataFile"),
    "too few files": ({"ElementDataFile": "s%03d.raw 0 3 1"}, "found 4 files of voxels in the header, expected 6"),
    "no pattern": ({"ElementDataFile": "s%99999999d.raw 0 5 1"}, "expected a pattern such as"),
    "empty list": ({"ElementDataFile": "LIST"}, "found 0 files of voxels in the header, expected 6"),
}


@pytest.mark.parametrize("kind", METAIMAGE)
def test_metaimage_that_cannot_be(tmp_path: Path, kind: str) -> None:
    fields, message = METAIMAGE[kind]
    refused(write(tmp_path / "scan.mha", metaimage(VOXELS, **fields)), message)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (None, "found no CompressedDataSize above 0"),
        (0, "found no CompressedDataSize above 0"),
        (-5, "found the CompressedDataSize -5"),
        (1 << 50, "expected bytes of a file"),
    ],
)
def test_packed_size_of_metaimage(tmp_path: Path, size: int | None, message: str) -> None:
    refused(write(tmp_path / "scan.mha", metaimage(VOXELS, pack=True, CompressedDataSize=size)), message)


NRRD = {
    "100 dimensions": ({"dimension": 100}, "found 100 dimensions"),
    "zero dimension": ({"sizes": "8 0 6"}, "found the sizes 8 x 0 x 6"),
    "wide spacing": ({"space_directions": "(1e30,0,0) (0,1,0) (0,0,1)"}, "found a voxel spacing of 1e+30"),
    "NaN origin": ({"space_origin": "(nan,0,0)"}, "found the space origin 'nan 0 0'"),
    "flat axes": ({"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, "axes in the header that lie in one plane"),
    "too few directions": ({"space_directions": "(1,0,0) (0,1,0)"}, "found 2 space directions, expected 3"),
    "blocks": ({"type": "block"}, "found the type 'block'"),
    "bzip2": ({"encoding": "bzip2"}, "found the encoding 'bzip2', expected raw, gzip or ascii"),
    "a field twice": ({"kinds": "domain domain domain\nsizes: 2 2 2"}, "found the field sizes twice"),
    "skipped lines": ({"line_skip": 2}, "found the line skip 2"),
    "skipped bytes of a stream": ({"byte_skip": 2}, "found the byte skip 2"),
}


@pytest.mark.parametrize("kind", NRRD)
def test_nrrd_that_cannot_be(tmp_path: Path, kind: str) -> None:
    fields, message = NRRD[kind]
    refused(write(tmp_path / "scan.nrrd", nrrd(VOXELS, **fields)), message)


def test_headers_without_end(tmp_path: Path) -> None:
    refused(write(tmp_path / "scan.nrrd", nrrd(VOXELS).split(b"\n\n")[0]), "found no end of the NRRD header")
    refused(write(tmp_path / "scan.mha", b"ObjectType = Image\nNDims = 3\n"), "found no ElementDataFile")
    refused(write(tmp_path / "scan.png", b""), "expected a NIfTI, MetaImage or NRRD file")


def refused(path: Path, message: str) -> None:
    with pytest.raises(HeaderError) as error:
        read_header(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError) as told:
        read_grid(path)
    assert str(told.value) == f"file '{path.name}': {error.value}."
    with pytest.raises(OSError, match="found"):
        LoadImage(reader=VolumeReader())(path)


def test_itk_reads_what_is_accepted(tmp_path: Path) -> None:
    for name, content in (("a.mha", metaimage(VOXELS, True)), ("a.mhd", metaimage(VOXELS)), ("a.nrrd", nrrd(VOXELS))):
        image = sitk.ReadImage(str(write(tmp_path / name, content)))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, VOXELS)
