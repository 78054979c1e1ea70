"""Damaged files are told before a library reads their voxels."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage

from sizeloss_monai.data import SimpleITKReader, VolumeReader, verify_file
from tests.support.image_files import metaimage, nifti, nrrd, oblique_affine, voxels_of, write

VOXELS = voxels_of()
AFFINE = oblique_affine()


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 0x55
    return bytes(changed)


def refused(path: Path, message: str) -> None:
    # with a reader of its own, LoadImage tries MONAI's readers on what `read` refuses, which read damaged files
    for read in (verify_file, LoadImage(reader=VolumeReader())):
        with pytest.raises(OSError, match=message) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_checksum_of_nrrd(tmp_path: Path) -> None:
    content = nrrd(VOXELS)
    path = write(tmp_path / "scan.nrrd", content)
    verify_file(path)
    for place in (-6, -2):  # the checksum, and the size behind it
        path.write_bytes(flipped(content, place))
        refused(path, "compressed voxels are damaged")
    stored = content[: content.index(b"\n\n") + 2] + gzip.compress(VOXELS.tobytes("F"), 0)
    path.write_bytes(flipped(stored, -100))  # unpacks all the same: only the checksum tells
    refused(path, "compressed voxels are damaged")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.nrrd", nrrd(VOXELS, encoding="raw")),
        ("scan.nrrd", nrrd(VOXELS)),
        ("scan.nrrd", nrrd(VOXELS, encoding="ascii")),
        ("scan.mha", metaimage(VOXELS)),
        ("scan.mha", metaimage(VOXELS, pack=True)),
        ("scan.nii", nifti(VOXELS, AFFINE)),
        ("scan.nii", nifti(VOXELS, AFFINE, version=2, endian=">")),
    ],
)
@pytest.mark.parametrize("missing", [1, 100])
def test_truncated(tmp_path: Path, name: str, content: bytes, missing: int) -> None:
    verify_file(write(tmp_path / name, content))
    if name == "scan.nrrd" and b"ascii" in content:
        missing = 2 * missing + 1  # the last newline, and no half number
    refused(write(tmp_path / name, content[:-missing]), "truncated|damaged")


def test_offsets_count(tmp_path: Path) -> None:
    content = nifti(VOXELS, AFFINE, vox_offset=400)
    refused(write(tmp_path / "scan.nii", content), "found 624 bytes of voxels, expected 672")
    for size in (7, 50, 4000):
        local = metaimage(VOXELS, pack=True, CompressedDataSize=size)
        refused(write(tmp_path / "scan.mha", local), "truncated")


def test_pieces_of_metaimage(tmp_path: Path) -> None:
    raw = VOXELS.tobytes("F")
    for index in range(6):
        (tmp_path / f"s{index:03d}.raw").write_bytes(b"12345" + VOXELS[:, :, index].tobytes("F"))
    (tmp_path / "all.raw").write_bytes(b"12345" + raw)
    (tmp_path / "all.zraw").write_bytes(zlib.compress(raw))
    names = "\n".join(f"s{index:03d}.raw" for index in range(6))
    whole = {
        "LIST": {"ElementDataFile": f"LIST\n{names}", "HeaderSize": 5},
        "LIST 2": {"ElementDataFile": f"LIST 2\n{names}", "HeaderSize": 5},
        "pattern": {"ElementDataFile": "s%03d.raw 0 5 1", "HeaderSize": 5},
        "skipped": {"ElementDataFile": "all.raw", "HeaderSize": 5},
        "last bytes": {"ElementDataFile": "all.raw", "HeaderSize": -1},
        "packed": {"ElementDataFile": "all.zraw", "CompressedData": "True"},
    }
    for kind, fields in whole.items():
        path = write(tmp_path / "scan.mhd", metaimage(VOXELS, **fields))
        voxels, _ = VolumeReader().get_data(VolumeReader().read(path))
        np.testing.assert_array_equal(voxels, VOXELS, err_msg=kind)
    (tmp_path / "s003.raw").write_bytes(b"12345")
    for kind in ("LIST", "pattern"):
        refused(write(tmp_path / "scan.mhd", metaimage(VOXELS, **whole[kind])), "truncated")
    (tmp_path / "s003.raw").unlink()
    refused(write(tmp_path / "scan.mhd", metaimage(VOXELS, **whole["pattern"])), r"found no file 's003\.raw' of voxels")


def test_detached_nrrd(tmp_path: Path) -> None:
    header = nrrd(VOXELS, encoding="raw", data_file="voxels.raw")
    path = write(tmp_path / "scan.nhdr", header)
    refused(path, r"found no file 'voxels\.raw' of voxels beside the header")
    (tmp_path / "voxels.raw").write_bytes(VOXELS.tobytes("F"))
    for end in (header, header.rstrip(b"\n")):
        path.write_bytes(end + (b"\n" if end is not header else b""))
        voxels, _ = SimpleITKReader().get_data(SimpleITKReader().read(path))
        np.testing.assert_array_equal(voxels, VOXELS)
    (tmp_path / "voxels.raw").write_bytes(VOXELS.tobytes("F")[:-1])
    refused(path, "truncated")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.nii", nifti(VOXELS, AFFINE, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])),
        ("scan.nii.gz", nifti(VOXELS, AFFINE, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])),
        ("scan.mha", metaimage(VOXELS, DimSize="65536 65536 65536")),
        ("scan.nrrd", nrrd(VOXELS, sizes="65536 65536 65536")),
    ],
)
def test_more_than_memory_holds(tmp_path: Path, name: str, content: bytes) -> None:
    refused(write(tmp_path / name, content), "expected at most this machine's memory")


def test_the_process_lives_on(tmp_path: Path) -> None:
    # ITK itself ends the process at 100 dimensions
    path = write(tmp_path / "scan.mhd", metaimage(VOXELS, NDims=100, DimSize=" ".join(["2"] * 100)))
    code = "import sys; from sizeloss_monai.cli.main import main; sys.exit(main(['check', sys.argv[1]]))"
    (tmp_path / "list.json").write_text('{"training": [{"image": "scan.mhd"}]}')
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "list.json")], capture_output=True, text=True)
    assert run.returncode == 1
    assert "found 100 dimensions in the header, expected 1 to 7" in run.stdout
    assert "Traceback" not in run.stderr
    assert path.exists()


def test_what_follows_the_voxels_does_no_harm(tmp_path: Path) -> None:
    for name, content in (("a.nii", nifti(VOXELS, AFFINE)), ("a.nrrd", nrrd(VOXELS)), ("a.mha", metaimage(VOXELS))):
        verify_file(write(tmp_path / name, content + bytes(200)))
