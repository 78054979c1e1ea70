from __future__ import annotations

from pathlib import Path

import pytest

from sizeloss_monai.data import find_scans
from sizeloss_monai.errors import DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_scans_of_a_folder_without_annotations(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.nii.gz",
        "1.2.840.1.nii.gz",
        "a.mhd",
        "a.zraw",
        "b_gt.nii.gz",
        "b_seg.nii.gz",
        "b_scribble.nii",
        "x.txt",
    )
    assert [item["case"] for item in find_scans(tmp_path)] == ["1.2.840.1", "a", "b"]


def test_one_file_whatever_its_name(tmp_path: Path) -> None:
    file = touch(tmp_path, "b_gt.nii.gz") / "b_gt.nii.gz"
    assert find_scans(file) == [{"image": str(file), "case": "b_gt"}]


def test_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "p_ED.nii.gz", "p_ES.nii.gz")
    assert [item["case"] for item in find_scans(tmp_path, "*_ED*")] == ["p_ED"]


@pytest.mark.parametrize("names", [(), ("x.txt",), ("a_gt.nii.gz",), ("a.nii.gz", "a.mhd")])
def test_nothing_or_two_of_a_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"key 'image'|several scans"):
        find_scans(touch(tmp_path, *names))


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        find_scans(tmp_path / "absent")


def test_a_pattern_leaves_scans_out_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    find_scans(touch(tmp_path, "p_ED.nii.gz", "p_ES.nii.gz"), "*_ED*")
    (record,) = caplog.records
    assert record.message == f"not used in '{tmp_path.name}': left out by the pattern (1): p_ES.nii.gz"
    assert record.levelname == "INFO"


def test_two_scans_of_a_name_are_both_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"case a \(a\.mhd, a\.nii\.gz\): found several scans"):
        find_scans(touch(tmp_path, "a.nii.gz", "a.mhd"))


def test_a_pattern_is_of_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pattern must match file names, .*, got '\*/a\.nii'"):
        find_scans(touch(tmp_path, "a.nii"), "*/a.nii")
