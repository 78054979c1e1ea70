"""What a folder's entries are, and that none of them vanishes without a reason."""

from __future__ import annotations

import json
import logging
import os
import re
import unicodedata
from functools import partial
from pathlib import Path

import pytest

from sizeloss_monai.cli.main import main
from sizeloss_monai.data import find_scans
from sizeloss_monai.data.names import existing_path, read_folder, unused_lines
from sizeloss_monai.datalist import load_datalist, make_datalist, open_datalist, unused_files
from sizeloss_monai.datalist.layouts import detect_layout, find_items
from sizeloss_monai.errors import DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def reasons(root: Path, layout: str = "folder", weak_labels: bool = False) -> dict[str, str]:
    """The reason of every file that a layout does not use."""
    items = find_items(root, layout, weak_labels)
    return {file.name: file.reason for file in unused_files(root, items, layout)}


def dicom(path: Path) -> None:
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 8)


# A file beside the scan a.nii.gz: how to make it, and words of the reason
NOT_USED = {
    "b.nii.gz": (lambda path: path.symlink_to("nowhere/annexed.nii.gz"), "a link that points to nothing"),
    "loop.nii": (lambda path: path.symlink_to(path.name), "a link that points to nothing"),
    "c.hdr": (Path.touch, "convert it to .nii"),
    "c.IMG": (Path.touch, "convert it to .nii"),
    "c.img.gz": (Path.touch, "convert it to .nii"),
    "._a.nii.gz": (Path.touch, "hidden"),
    ".DS_Store": (Path.touch, "hidden"),
    ".nii.gz": (Path.touch, "hidden"),
    "d.minc": (Path.touch, "an unknown kind of file"),
    "e.mha.gz": (Path.touch, "a packed file other than .nii.gz"),
    "e.gz": (Path.touch, "a packed file other than .nii.gz"),
    "f.zip": (Path.touch, "a packed file other than .nii.gz"),
    "g.dcm": (Path.touch, "use sizeloss-monai dicom"),
    "IM000001": (dicom, "use sizeloss-monai dicom"),
    "readme.txt": (Path.touch, "not an image"),
    "h.nii.gz/": (Path.mkdir, "a folder named like an image"),
    "more/": (Path.mkdir, "a sub-folder that is not searched"),
    "pipe.nii": (os.mkfifo, "neither a file nor a folder"),
    "i\n.nii": (Path.touch, "a name with control characters"),
    "a_mask_left.nii.gz": (Path.touch, "named like an annotation of a scan"),
    "seg_a.nii.gz": (Path.touch, "named like an annotation of a scan"),
}


@pytest.mark.parametrize("name", NOT_USED)
def test_files_that_are_not_used(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, reason = NOT_USED[name]
    make(touch(tmp_path, "a.nii.gz") / name)
    ((found, why),) = reasons(tmp_path).items()
    assert found == name
    assert reason in why

    caplog.clear()
    caplog.set_level(logging.INFO)
    assert find_scans(tmp_path) == [{"image": str(tmp_path / "a.nii.gz"), "case": "a"}]
    (record,) = caplog.records
    assert reason in record.message
    assert record.levelname == ("INFO" if why in ("hidden", "not an image") else "WARNING")


@pytest.mark.parametrize(
    "name", sorted(NOT_USED.keys() - {"a_mask_left.nii.gz", "seg_a.nii.gz"})
)  # alone, these are scans
def test_a_folder_of_one_file_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    make, reason = NOT_USED[name]
    make(tmp_path / name)
    for call in (
        find_scans,
        detect_layout,
        partial(find_items, layout="folder"),
        partial(find_items, layout="promise12"),
    ):
        with pytest.raises(DataError, match="found") as error:
            call(tmp_path)
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["b.nii.gz", "c.hdr", "d.minc", "g.dcm", "IM000001", "pipe.nii"])
def test_one_file_that_is_no_scan(tmp_path: Path, name: str) -> None:
    make, reason = NOT_USED[name]
    make(tmp_path / name)
    with pytest.raises(DataError, match="key 'image'") as error:
        find_scans(tmp_path / name)
    assert reason in str(error.value)


WORDS = ["label", "LABELS", "gt", "seg", "Segmentation", "mask", "masks", "roi", "annotation", "ground_truth"]


@pytest.mark.parametrize("separator", ["_", "-", ".", " "])
@pytest.mark.parametrize("word", WORDS)
def test_annotations_beside_scans(tmp_path: Path, word: str, separator: str) -> None:
    name = f"1.2.A{separator}{word}.NRRD"
    touch(tmp_path, "1.2.A.NII.GZ", name)
    assert [item["case"] for item in find_scans(tmp_path)] == ["1.2.A"]
    (item,) = find_items(tmp_path, "folder")
    assert (item["case"], item["label"]) == ("1.2.A", name)


@pytest.mark.parametrize("ending", ["_scribble", "-Scribbles", ".weak_label", "_weak-labels", "_scribble.seg"])
def test_weak_labels_beside_scans(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, "a.nii.gz", f"a{ending}.nrrd")
    assert len(find_scans(tmp_path)) == 1
    (item,) = find_items(tmp_path, "folder", weak_labels=True)
    assert item["weak_label"] == f"a{ending}.nrrd"
    assert reasons(tmp_path) == {f"a{ending}.nrrd": "weak labels, which were not asked for"}


@pytest.mark.parametrize("name", ["mask.nii.gz", "Segmentation.seg.nrrd", "label.nii"])
def test_annotations_that_name_no_scan(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.nii.gz", name)
    assert [item["case"] for item in find_scans(tmp_path)] == ["a"]
    with pytest.raises(DataError, match=f"labels without an image: {name}"):
        find_items(tmp_path, "folder")


@pytest.mark.parametrize(
    ("scan", "annotation"),
    [("volume-0", "segmentation-0"), ("img0001", "label0001"), ("scan_p_1", "mask_p_1"), ("a", "a-label_1")],
)
def test_annotations_that_begin_or_go_on_otherwise(tmp_path: Path, scan: str, annotation: str) -> None:
    touch(tmp_path, f"{scan}.nii", f"{annotation}.nii")
    assert [item["case"] for item in find_scans(tmp_path)] == [scan]
    assert list(reasons(tmp_path)) == [f"{annotation}.nii"]
    (tmp_path / f"{scan}.nii").unlink()
    assert [item["case"] for item in find_scans(tmp_path)] == [annotation]  # alone, it may be a scan


def test_annotations_of_a_scan_named_like_an_annotation(tmp_path: Path) -> None:
    touch(tmp_path, "images/p_seg.nii", "labels/p_seg_gt.nii", "images/p_seg_scribble.nii", "labels/p_seg.nrrd")
    (item,) = find_items(tmp_path, "folder", weak_labels=True)
    assert (item["case"], item["label"]) == ("p_seg", "labels/p_seg.nrrd")
    assert item["weak_label"] == "images/p_seg_scribble.nii"
    assert reasons(tmp_path, weak_labels=True) == {"labels/p_seg_gt.nii": "another label of a case"}


def test_every_file_is_used_or_named(tmp_path: Path) -> None:
    names = ["images/x.nii.gz", "labels/x.nii.gz", "weak_labels/x.nii.gz", "new.nii.gz", "x_gt.nii", "old/a/y.nii"]
    touch(tmp_path, *names, "images/deep/z.nii", "labels/notes.txt")
    (tmp_path / "images" / "b.nii.gz").symlink_to("nowhere")
    (tmp_path / "labels" / "b.nii.gz").touch()
    assert reasons(tmp_path) == {
        "new.nii.gz": "outside of images, labels and weak_labels",
        "x_gt.nii": "outside of images, labels and weak_labels",
        "old/": "a sub-folder that is not searched",
        "images/deep/": "a sub-folder that is not searched",
        "images/b.nii.gz": "a link that points to nothing",
        "labels/b.nii.gz": "a label without an image",
        "labels/notes.txt": "not an image",
        "weak_labels/x.nii.gz": "weak labels, which were not asked for",
    }


def test_acdc(tmp_path: Path) -> None:
    frame = "training/patient001/patient001_frame01"
    touch(tmp_path, f"{frame}.nii.gz", f"{frame}_gt.nii.gz", "training/patient001/Info.cfg", "training/other.nii")
    touch(tmp_path, "training/patient001/patient001_4d.nii.gz", "testing/patient150/patient150_frame01.nii.gz")
    (tmp_path / "training/patient001/patient001_frame12.nii.gz").symlink_to("nowhere")
    assert reasons(tmp_path, "acdc") == {
        "testing/": "a sub-folder that is not searched",
        "training/other.nii": "not named patientNNN/patientNNN_frameFF.nii.gz",
        "training/patient001/patient001_4d.nii.gz": "not named patientNNN/patientNNN_frameFF.nii.gz",
        "training/patient001/patient001_frame12.nii.gz": "a link that points to nothing",
    }


def test_promise12(tmp_path: Path) -> None:
    (tmp_path / "Case00.mhd").write_text("NDims = 3\nElementDataFile = Case00.zraw\n")
    (tmp_path / "Case01.mhd").write_text("NDims = 3\nElementDataFile = slice%02d.raw 1 2 1\n")
    (tmp_path / "Case02.mhd").write_text("NDims = 3\nElementDataFile = LIST 2\nfirst.raw\nlast.raw\n")
    touch(tmp_path, "Case00.zraw", "slice01.raw", "slice02.raw", "first.raw", "last.raw")
    touch(tmp_path, "Case03.zraw", "case04.mhd", "Case05_segmentation.mhd", "Case00_segmentation.MHD")
    names = reasons(tmp_path, "promise12")
    assert names.pop("Case03.zraw").startswith("an unknown kind of file")
    assert names == {"case04.mhd": "not named CaseNN.mhd", "Case05_segmentation.mhd": "a label without an image"}


def test_vertebral(tmp_path: Path) -> None:
    touch(tmp_path, "images/Img_01.nii", "masks/Img_01_Labels.nii", "masks/Img_02_Labels.nii", "images/scout.nii")
    assert reasons(tmp_path, "vertebral") == {
        "images/scout.nii": "not named Img_NN.nii",
        "masks/Img_02_Labels.nii": "a label without an image",
    }


def test_decathlon(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/b.nii.gz")
    touch(tmp_path, "imagesTs/c.nii.gz", "imagesTr/._a.nii.gz", "extra/d.nii")
    entry = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [entry], "test": ["./imagesTs/c.nii.gz"]}))
    assert reasons(tmp_path, "decathlon") == {
        "extra/": "a sub-folder that is not searched",
        "imagesTr/._a.nii.gz": "hidden",
        "imagesTr/b.nii.gz": "not listed in dataset.json",
        "labelsTr/b.nii.gz": "not listed in dataset.json",
        "imagesTs/c.nii.gz": "test cases of the Decathlon, without labels",
    }


@pytest.mark.parametrize("image", [1, [], {}, None, ""])
def test_decathlon_entries_that_are_no_paths(tmp_path: Path, image) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": image}]}))
    with pytest.raises(DataError, match=r"training\[0\], key 'image': found .*, expected a file"):
        detect_layout(tmp_path)


def test_long_lists_are_cut(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", *(f"{i:03d}.minc" for i in range(300)), *(f"sub/{i}.nii" for i in range(1100)))
    unknown, folder = unused_lines(unused_files(tmp_path, find_items(tmp_path, "folder"), "folder"))
    assert "(300): 000.minc, 001.minc" in unknown
    assert unknown.endswith("009.minc and 290 more")
    assert folder.endswith("sub/ (more than 1000 files)")


def test_the_command_names_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = touch(tmp_path / "scans", "a.nii.gz", "a-label.nrrd", "a.seg.nrrd", "a_mask.nii.gz", "._a.nii.gz")
    (root / "b.nii.gz").symlink_to("nowhere")
    output = str(tmp_path / "list.json")
    assert main(["datalist", "folder", "--dataset_dir", str(root), "--num_validation", "0", "--output", output]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-3:] == [
        "not used in 'scans': another label of a case (2): a.seg.nrrd (a-label.nrrd is taken), a_mask.nii.gz "
        "(a-label.nrrd is taken)",
        "not used in 'scans': a link that points to nothing (1): b.nii.gz",
        "not used in 'scans': hidden (1): ._a.nii.gz",
    ]
    assert not err
    (item,) = load_datalist(output, root)["training"]
    assert item["label"] == str(root / "a-label.nrrd")
    assert not logging.getLogger("sizeloss_monai").handlers


def test_the_tutorial_says_what_is_said(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
    table = page.partition("\n| beside `a.nii.gz` | `datalist` says |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    touch(tmp_path, "a.nii.gz")
    for files, _ in rows:
        for name in re.findall("`([^`]+)`", files):
            NOT_USED.get(name, (Path.touch, ""))[0](tmp_path / name)
    lines = unused_lines(unused_files(tmp_path, find_items(tmp_path, "folder"), "folder"))
    assert sorted(said.strip("`") for _, said in rows) == sorted(lines)


def test_a_name_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    touch(tmp_path, "a.nii.gz")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.nii.gz")).touch()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    output = str(tmp_path / "out" / "list.json")
    assert (
        main(["datalist", "folder", "--dataset_dir", str(tmp_path), "--num_validation", "0", "--output", output]) == 0
    )
    assert r"not in UTF-8: rename it (1): '\udce9.nii.gz'" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- Unicode


@pytest.mark.parametrize(("image", "label"), [(DECOMPOSED, COMPOSED), (COMPOSED, DECOMPOSED)])
@pytest.mark.parametrize("folders", [("", "", "_gt"), ("images/", "labels/", "")])
def test_names_in_another_unicode_form_match(tmp_path: Path, image: str, label: str, folders: tuple) -> None:
    images, labels, ending = folders
    touch(tmp_path, f"{images}{image}.nii.gz", f"{labels}{label}{ending}.nii.gz")
    (item,) = find_items(tmp_path, "folder")
    assert item["case"] == COMPOSED
    assert (tmp_path / item["image"]).is_file()
    assert (tmp_path / item["label"]).is_file()
    assert find_scans(tmp_path, f"{DECOMPOSED}.*" if images == "" else "*") if images == "" else True


def test_scans_of_one_name_in_two_unicode_forms(tmp_path: Path) -> None:
    touch(tmp_path, f"{COMPOSED}.nii.gz", f"{DECOMPOSED}.nii.gz")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system knows one form only")
    with pytest.raises(DataError, match="several scans of that name"):
        find_scans(tmp_path)
    with pytest.raises(DataError, match="is there twice"):
        find_items(tmp_path, "folder")


def test_lists_whose_paths_have_another_unicode_form(tmp_path: Path) -> None:
    root = touch(tmp_path / DECOMPOSED, f"{DECOMPOSED}.nii.gz", "b.nii.gz")
    sections = {"training": [{"image": f"{COMPOSED}.nii.gz"}], "validation": ["b.nii.gz"]}
    (root / "datalist.json").write_text(json.dumps(sections, ensure_ascii=False))
    datalist = open_datalist(tmp_path / COMPOSED)
    assert Path(datalist["training"][0]["image"]).is_file()
    assert datalist["training"][0]["case"] == COMPOSED
    (root / "dataset.json").write_text(json.dumps(sections | {"training": [{"image": f"{COMPOSED}.nii.gz"}]}))
    (item,) = find_items(tmp_path / COMPOSED, "decathlon")
    assert (root / item["image"]).is_file()
    assert make_datalist(tmp_path / COMPOSED, num_validation=0)["layout"] == "decathlon"
    assert find_scans(tmp_path / COMPOSED / f"{COMPOSED}.nii.gz")[0]["case"] == COMPOSED
    assert existing_path(tmp_path / "ß" / "x") == tmp_path / "ß" / "x"


# ---------------------------------------------------------------------------------------------------- home and missing


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "scans/a.nii.gz", "scans/b.nii.gz")
    assert find_scans("~/scans")[0]["image"] == str(tmp_path / "scans" / "a.nii.gz")
    assert len(make_datalist("~/scans", num_validation=1)["training"]) == 1
    (tmp_path / "list.json").write_text(json.dumps({"training": ["~/scans/a.nii.gz"], "validation": ["b.nii.gz"]}))
    datalist = open_datalist("~/scans", "~/list.json")
    assert datalist["training"][0]["image"] == str(tmp_path / "scans" / "a.nii.gz")
    assert load_datalist("~/list.json", "~/scans")["validation"][0]["image"] == str(tmp_path / "scans" / "b.nii.gz")


@pytest.mark.parametrize("call", [find_scans, make_datalist, open_datalist])
def test_folders_that_cannot_be(call) -> None:
    for path in ("~no_such_user/scans", "x" * 5000, "\0"):
        with pytest.raises(DataError, match=r"found nothing|is not a folder"):
            call(path)


def test_lists_with_paths_that_are_no_files(tmp_path: Path) -> None:
    (touch(tmp_path, "c.nii") / "a.nii").symlink_to("nowhere")
    (tmp_path / "b.nii").mkdir()
    (tmp_path / "datalist.json").write_text(json.dumps({"training": ["a.nii", "b.nii"], "validation": ["c.nii"]}))
    with pytest.raises(DataError, match=r"2 missing files: .*a\.nii' \(image of case 'a': a link that .*: a folder\)"):
        open_datalist(tmp_path)


def test_entries_of_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a_gt.nii", "a_gt.seg.nrrd", "a_scribble.nii")
    assert [(entry.kind, entry.case) for entry in read_folder(tmp_path)] == [
        ("image", "a"),
        ("label", "a"),
        ("label", "a"),
        ("weak_label", "a"),
    ]
