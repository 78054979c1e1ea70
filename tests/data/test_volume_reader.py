from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import LoadImage

from sizeloss_monai.data import VolumeReader
from tests.support.image_files import SHAPE, metaimage, nifti, nrrd, oblique_affine, voxels_of, write

VOXELS = voxels_of()
AFFINE = oblique_affine()


def load(*paths: Path) -> MetaTensor:
    return LoadImage(image_only=True, ensure_channel_first=True)(list(paths), reader=VolumeReader())


def test_every_format_alike(tmp_path: Path) -> None:
    placed = np.diag([-1.4, -1.3, 9.5, 1.0])
    placed[:3, 3] = (7, -11.5, 13)
    files = {
        "a.nii": nifti(VOXELS, placed),
        "b.nii.gz": nifti(VOXELS, None, placed, endian=">"),
        "c.mha": metaimage(VOXELS, pack=True),
        "d.nrrd": nrrd(VOXELS),
        "E.NRRD": nrrd(VOXELS),
    }
    for name, content in files.items():
        volume = load(write(tmp_path / name, content))
        assert volume.shape == (1, *SHAPE)
        np.testing.assert_array_equal(volume[0], VOXELS)
        np.testing.assert_allclose(volume.affine, placed, atol=1e-5)


def test_an_sform_is_not_corrected_by_pixdim(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", nifti(VOXELS, AFFINE, pixdim=[1] * 8))
    np.testing.assert_allclose(load(path).affine, AFFINE, atol=1e-5)
    monais = LoadImage(image_only=True, reader="NibabelReader")(path)
    assert not np.allclose(monais.affine, AFFINE, atol=0.1), "MONAI's own reader would do"


def test_channels(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{index}.nii", nifti(VOXELS + np.int16(index), AFFINE)) for index in range(2)]
    assert load(*paths).shape == (2, *SHAPE)
    other = write(tmp_path / "c.nrrd", nrrd(VOXELS))
    with pytest.raises(OSError, match="as channels of one image, expected one format"):
        load(paths[0], other)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "folder.nii").mkdir()
    for name, message in (("gone.nii", "no such file"), ("folder.nii", "no such file"), ("a.png", "expected a NIfTI")):
        if name == "a.png":
            (tmp_path / name).write_bytes(b"\x89PNG")
        with pytest.raises(OSError, match=message):
            LoadImage(reader=VolumeReader())(tmp_path / name)


def test_a_comment_in_another_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mha", metaimage(VOXELS, Comment="M\u00fcller", **{"M\u00fcller": 1}))
    np.testing.assert_array_equal(load(path)[0], VOXELS)
