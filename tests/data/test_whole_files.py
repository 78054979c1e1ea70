"""Files are whole or absent, also on a disk that is full."""

import os
import resource
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from sizeloss_monai.data.whole_files import UNFINISHED, save_nifti, whole_file, write_whole
from sizeloss_monai.sizes.table import read_sizes, write_sizes


@pytest.fixture
def small_files():
    """No file may be larger than 1000 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_takes_the_place_of_the_old(tmp_path):
    write_whole(tmp_path / "a.json", "é")
    assert (tmp_path / "a.json").read_bytes() == "é".encode()
    write_whole(str(tmp_path / "a.json"), b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert names(tmp_path) == ["a.json"]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_name_while_it_is_written(tmp_path):
    with whole_file(tmp_path / ("x" * 240 + ".nii.gz")) as part:
        assert part.parent == tmp_path
        assert part.name.startswith(UNFINISHED)
        assert part.name.endswith(".nii.gz")
        part.touch()
    assert names(tmp_path) == ["x" * 240 + ".nii.gz"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_old_file(tmp_path, error):
    write_whole(tmp_path / "a", "old")

    def write():
        with whole_file(tmp_path / "a") as part:
            part.write_text("ne")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_whole(path, "x" * 2000),
        lambda path: save_nifti(nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9)), np.eye(4)), path),
    ],
)
def test_a_full_disk(tmp_path, small_files, write):
    (tmp_path / "a.nii.gz").write_text("old")
    with pytest.raises(OSError, match=r"File too large: .*a\.nii\.gz"):
        write(tmp_path / "a.nii.gz")
    assert names(tmp_path) == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_text() == "old"


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent/a"):
        write_whole(tmp_path / "absent" / "a", "x")


def test_a_volume_is_read_back(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name in ("a.nii", "a.nii.gz"):
        save_nifti(nib.Nifti1Image(values, np.diag([2.0, 3, 4, 1])), tmp_path / name)
        volume = nib.load(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(volume.dataobj), values)
        np.testing.assert_array_equal(volume.affine, np.diag([2.0, 3, 4, 1]))


def test_a_table_of_sizes(tmp_path):
    write_sizes([], tmp_path / "sizes.csv")
    assert read_sizes(tmp_path / "sizes.csv") == []
    assert names(tmp_path) == ["sizes.csv"]


def test_a_kill_while_writing(tmp_path):
    code = """
import os, signal, sys
from sizeloss_monai.data.whole_files import whole_file
with whole_file(sys.argv[1]) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "run.json").write_text("old")
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.json")], check=False)
    assert killed.returncode == -signal.SIGKILL
    left, kept = names(tmp_path)
    assert left.startswith(UNFINISHED)
    assert (tmp_path / kept).read_text() == "old"
