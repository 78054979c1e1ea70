from __future__ import annotations

import json
import os
import random
from collections import Counter
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeloss_monai.datalist import load_datalist, make_datalist, open_datalist, save_datalist
from sizeloss_monai.datalist.layouts import (
    LAYOUTS,
    detect_layout,
    find_items,
    set_patients,
)
from sizeloss_monai.datalist.lists import SECTIONS, parse_datalist, split_patients
from sizeloss_monai.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def make_acdc(root: Path, patients=(1, 21, 41, 61, 81, 101), frames=(1, 12)) -> Path:
    for patient in patients:
        name = f"patient{patient:03d}"
        touch(root, f"{name}/{name}_4d.nii.gz", f"{name}/._{name}_frame01.nii.gz")
        for frame in frames:
            stem = f"{name}/{name}_frame{frame:02d}"
            touch(root, *(f"{stem}{suffix}.nii.gz" for suffix in ("", "_gt", "_scribble")))
    return root


def make_decathlon(root: Path, entries: list, **extra) -> Path:
    for entry in entries:
        touch(root, entry["image"], entry["label"])
    task = {
        "name": "Task",
        "description": "d",
        "labels": {"0": "background", "1": "it"},
        "modality": {"0": "CT"},
        "training": entries,
        "test": ["./imagesTs/c.nii.gz"],
        **extra,
    }
    (root / "dataset.json").write_text(json.dumps(task))
    return root


# ------------------------------------------------------------------------------------------------------------ layouts


def test_acdc(tmp_path: Path) -> None:
    make_acdc(tmp_path)
    (tmp_path / "patient041" / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\nHeight: 180.0\n")
    items = find_items(tmp_path, "acdc")
    assert len(items) == 12
    assert items[0] == {
        "case": "patient001_frame01",
        "patient": "patient001",
        "image": "patient001/patient001_frame01.nii.gz",
        "label": "patient001/patient001_frame01_gt.nii.gz",
        "group": "DCM",
    }
    assert [item.get("group") for item in items[::2]] == ["DCM", "HCM", "NOR", "NOR", "RV", None]
    assert (
        find_items(tmp_path, "acdc", weak_labels=True)[0]["weak_label"]
        == "patient001/patient001_frame01_scribble.nii.gz"
    )


def test_acdc_in_the_parent_folder(tmp_path: Path) -> None:
    make_acdc(tmp_path / "training")
    touch(tmp_path, "testing/patient150/patient150_frame01.nii.gz")
    items = find_items(tmp_path, "acdc")
    assert len(items) == 12
    assert items[0]["image"] == "training/patient001/patient001_frame01.nii.gz"
    assert detect_layout(tmp_path) == detect_layout(tmp_path / "training") == "acdc"


def test_promise12(tmp_path: Path) -> None:
    touch(tmp_path, "Case00.mhd", "Case00.zraw", "Case00_segmentation.mhd", "Case00_segmentation.zraw", "Case01.mhd")
    assert find_items(tmp_path, "promise12") == [
        {"case": "Case00", "patient": "Case00", "image": "Case00.mhd", "label": "Case00_segmentation.mhd"},
        {"case": "Case01", "patient": "Case01", "image": "Case01.mhd"},
    ]
    assert detect_layout(tmp_path) == "promise12"


@pytest.mark.parametrize("folders", [("", ""), ("Images/", "Labels/"), ("images/", "masks/")])
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_vertebral(tmp_path: Path, folders: tuple[str, str], extension: str) -> None:
    image, label = f"{folders[0]}Img_01{extension}", f"{folders[1]}Img_01_Labels{extension}"
    touch(tmp_path, image, label)
    assert find_items(tmp_path, "vertebral") == [
        {"case": "Img_01", "patient": "Img_01", "image": image, "label": label}
    ]
    assert detect_layout(tmp_path) == "vertebral"


def test_decathlon(tmp_path: Path) -> None:
    entries = [
        {"image": "./imagesTr/b_2.nii.gz", "label": "./labelsTr/b_2.nii.gz", "size_bounds": {"1": [1, 2]}},
        {"image": "./imagesTr/._a_1.nii.gz", "label": "./labelsTr/._a_1.nii.gz"},
        {"image": "./imagesTr/a_1.nii.gz", "label": "./labelsTr/a_1.nii.gz", "weak_label": "./w.nii.gz"},
    ]
    make_decathlon(tmp_path, entries, numTraining=2)
    first, second = find_items(tmp_path, "decathlon")
    expected = {"case": "a_1", "patient": "a_1", "image": "imagesTr/a_1.nii.gz", "label": "labelsTr/a_1.nii.gz"}
    assert first == expected
    assert second["size_bounds"] == {"1": [1, 2]}
    assert find_items(tmp_path, "decathlon", weak_labels=True)[0] == {**expected, "weak_label": "w.nii.gz"}
    datalist = make_datalist(tmp_path, num_validation=1)
    assert datalist["layout"] == "decathlon"
    assert datalist["name"] == "Task"
    assert datalist["labels"] == {"0": "background", "1": "it"}
    assert datalist["modality"] == {"0": "CT"}


def test_decathlon_number_of_cases(tmp_path: Path) -> None:
    make_decathlon(tmp_path, [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}], numTraining=3)
    with pytest.warns(UserWarning, match="numTraining=3 but lists 1"):
        find_items(tmp_path, "decathlon")


def test_decathlon_broken_json(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json' is not valid JSON"):
        detect_layout(tmp_path)


@pytest.mark.parametrize("suffix", ["_label", "_labels", "_gt", "_seg", "_segmentation"])
@pytest.mark.parametrize("weak", ["_weak_label", "_scribble"])
def test_folder_by_suffix(tmp_path: Path, suffix: str, weak: str) -> None:
    touch(tmp_path, "x.nii.gz", f"x{suffix}.nrrd", f"x{weak}.nii", "y.mha", ".z.nii.gz", "readme.txt")
    assert find_items(tmp_path, "folder", weak_labels=True) == [
        {"case": "x", "patient": "x", "image": "x.nii.gz", "label": f"x{suffix}.nrrd", "weak_label": f"x{weak}.nii"},
        {"case": "y", "patient": "y", "image": "y.mha"},
    ]
    assert "weak_label" not in find_items(tmp_path, "folder")[0]
    assert detect_layout(tmp_path) == "folder"


def test_folder_with_sub_folders(tmp_path: Path) -> None:
    touch(tmp_path, "images/x.nii.gz", "labels/x.nii.gz", "weak_labels/x_scribble.nii.gz", "images/p_seg.nii.gz")
    p_seg, x = find_items(tmp_path, "folder", weak_labels=True)
    assert p_seg == {"case": "p_seg", "patient": "p_seg", "image": "images/p_seg.nii.gz"}
    assert (x["label"], x["weak_label"]) == ("labels/x.nii.gz", "weak_labels/x_scribble.nii.gz")


@given(st.integers(0, 1000), st.integers(2, 8), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_cases_without_annotation_are_for_training(seed: int, num_annotated: int, num_others: int) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, *(f"images/{i}.nii.gz" for i in range(num_annotated + num_others)))
        touch(root, *(f"weak_labels/{i}.nii.gz" for i in range(num_annotated)))
        datalist = make_datalist(root, layout="folder", seed=seed, weak_labels=True, num_validation=0.5)
    assert len(datalist["validation"]) == int(num_annotated / 2 + 0.5) if num_annotated > 1 else 1
    assert all("weak_label" in item for item in datalist["validation"])
    assert len(datalist["training"]) == num_annotated + num_others - len(datalist["validation"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["x.nii.gz", "y_gt.nii.gz"], "labels without an image: y_gt.nii.gz; .* with _label, _gt, _seg or _segm"),
        (["images/k.nii.gz", "weak_labels/k_lines.nii.gz"], "k_lines.nii.gz; .* with _weak_label or _scribble"),
        (["k01/scan.nii.gz"], "no cases .*of sub-folders only images, labels and weak_labels"),
        (["x.nii.gz", "x.nii"], "case 'x' is there twice"),
        (["readme.txt"], "no cases"),
    ],
)
def test_folder_errors(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_items(touch(tmp_path, *files), "folder")


def test_several_labels_of_a_case(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # a warning, no longer an error: a mask that a program wrote beside the scan must not stop a whole folder
    (item,) = find_items(touch(tmp_path, "x.nii.gz", "x_gt.nii.gz", "x_seg.nii.gz", "x-mask.nrrd"), "folder")
    assert item["label"] == "x_gt.nii.gz"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for name in ("x_seg.nii.gz (x_gt.nii.gz is taken)", "x-mask.nrrd (x_gt.nii.gz is taken)"):
        assert name in record.message


def test_patient_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "p1_ED.nii", "p1_ES.nii", "p2_ED.nii")
    assert [item["patient"] for item in find_items(tmp_path, "folder", patient_pattern=r"^(p\d)_")] == [
        "p1",
        "p1",
        "p2",
    ]
    assert [item["patient"] for item in find_items(tmp_path, "folder", patient_pattern=r"^p\d")] == ["p1", "p1", "p2"]
    with pytest.raises(DataError, match="does not match p2_ED"):
        set_patients(find_items(tmp_path, "folder"), "p1")
    with pytest.raises(DataError, match="not a regular expression"):
        set_patients(find_items(tmp_path, "folder"), "(")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_without_cases(tmp_path: Path, layout) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        find_items(tmp_path / "nothing", layout)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        find_items(tmp_path / "empty", layout)
    with pytest.raises(DataError, match="expected"):
        find_items(touch(tmp_path, "readme.txt"), layout)


def test_detect_layout_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known layout"):
        detect_layout(touch(tmp_path, "readme.txt"))


# -------------------------------------------------------------------------------------------------------------- split

patient_groups = st.dictionaries(
    st.text(min_size=1, max_size=8), st.sampled_from(["DCM", "HCM", "NOR", None]), min_size=3, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(groups=patient_groups, seed=st.integers(0, 2**32), data=st.data())
def test_split_properties(groups: dict, seed: int, data) -> None:
    num_validation = data.draw(st.integers(0, len(groups) - 1))
    num_test = data.draw(st.integers(0, len(groups) - 1 - num_validation))
    split = split_patients(groups, num_validation, num_test, seed)

    assert (len(split["validation"]), len(split["test"])) == (num_validation, num_test)
    assert sorted(chain(*split.values())) == sorted(groups)  # all of them, and none twice

    shuffled = list(groups.items())
    random.Random(seed).shuffle(shuffled)
    assert split_patients(dict(shuffled), num_validation, num_test, seed) == split

    left = Counter(groups.values())
    for section in ("test", "validation"):
        drawn = Counter(groups[patient] for patient in split[section])
        for group, size in left.items():
            assert abs(drawn[group] - len(split[section]) * size / left.total()) < 1
        left -= drawn


def test_split_depends_on_the_seed() -> None:
    groups = dict.fromkeys(f"p{i}" for i in range(30))
    assert len({tuple(split_patients(groups, 5, seed=seed)["validation"]) for seed in range(10)}) == 10


def test_split_is_the_same_everywhere() -> None:
    # pinned: a split that changes with a release would make old results incomparable
    groups = {f"p{i}": "ab"[i % 2] for i in range(8)}
    split = split_patients(groups, 2, 1, seed=0)
    assert split == {"training": ["p0", "p1", "p2", "p4", "p7"], "validation": ["p5", "p6"], "test": ["p3"]}


@pytest.mark.parametrize(("fraction", "count"), [(0.2, 4), (0.0, 0), (0.01, 1), (0.125, 3)])
def test_fractions(fraction: float, count: int) -> None:
    assert len(split_patients(dict.fromkeys(map(str, range(20))), fraction)["validation"]) == count


@pytest.mark.parametrize("number", [-1, -0.1, 1.0, 15.0, float("nan"), True, "3", None])
def test_bad_numbers(number) -> None:
    with pytest.raises(DataError, match="num_validation must"):
        split_patients({"a": None, "b": None}, num_validation=number)


def test_nobody_left_to_train() -> None:
    with pytest.raises(DataError, match="2 patients cannot give 1 for validation and 1 for test"):
        split_patients({"a": None, "b": None}, 1, 1)


# ------------------------------------------------------------------------------------------------- make, save, and load


def test_make_datalist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_acdc(tmp_path, patients=range(1, 101, 4))
    datalist = make_datalist(tmp_path, seed=3, num_validation=5, num_test=0.2)
    assert list(datalist) == ["name", "description", "labels", "modality", "layout", "seed", *SECTIONS]
    assert datalist["labels"]["3"] == "left ventricle"
    for section, per_group in (("training", 3), ("validation", 1), ("test", 1)):
        patients = {item["patient"]: item["group"] for item in datalist[section]}
        assert len(datalist[section]) == 2 * len(patients)  # both frames stay together
        assert set(Counter(patients.values()).values()) == {per_group}
    # whatever the order in which the file system lists
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / name for name in sorted(os.listdir(self))[::-1]]))
    assert make_datalist(tmp_path, seed=3, num_validation=5, num_test=0.2) == datalist


def test_make_datalist_errors(tmp_path: Path) -> None:
    touch(tmp_path, "x.nii", "y.nii")
    with pytest.raises(DataError, match="layout must be one of auto, decathlon, acdc"):
        make_datalist(tmp_path, layout="acd")
    with pytest.raises(DataError, match="no case has one"):
        make_datalist(tmp_path, weak_labels=True)
    with pytest.raises(DataError, match=r"expected CaseNN\.mhd"):
        make_datalist(tmp_path, layout="promise12")


def test_save_and_load(tmp_path: Path) -> None:
    make_acdc(tmp_path / "data")
    datalist = make_datalist(tmp_path / "data")
    file = tmp_path / "lists" / "acdc.json"
    save_datalist(datalist, file)
    assert str(tmp_path) not in file.read_text()
    save_datalist(datalist, file)  # the same again is fine
    with pytest.raises(FileExistsError, match=r"acdc\.json' exists with other content"):
        save_datalist({**datalist, "seed": 1}, file)
    save_datalist({**datalist, "seed": 1}, file, overwrite=True)
    loaded = load_datalist(file, base_dir=tmp_path / "data")
    assert loaded["seed"] == 1
    assert loaded["training"][0]["image"] == str(tmp_path / "data" / datalist["training"][0]["image"])
    assert load_datalist(file)["training"][0]["image"] == str(file.parent / datalist["training"][0]["image"])


def test_load_a_foreign_list(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    entries = [{"image": "./imagesTr/a.nii.gz"}, {"image": ["b_0.nii.gz", "b_1.nii.gz"], "case": 7, "patient": 5}]
    file.write_text(json.dumps({"training": entries, "test": ["./c.mhd"]}))
    loaded = load_datalist(file)
    assert loaded["training"] == [
        {"image": str(tmp_path / "imagesTr/a.nii.gz"), "case": "a", "patient": "a"},
        {"image": [str(tmp_path / "b_0.nii.gz"), str(tmp_path / "b_1.nii.gz")], "case": "7", "patient": "5"},
    ]
    assert loaded["validation"] == []
    assert loaded["test"] == [{"image": str(tmp_path / "c.mhd"), "case": "c", "patient": "c"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "not valid JSON"),
        ("[]", "is not a data list"),
        ('{"name": "x"}', "is not a data list"),
        ('{"training": {}}', "data list, key 'training': found {}, expected a list of cases"),
        ('{"training": [{"label": "a"}]}', r"case 'training\[0\]', key 'image': found no 'image' in"),
        ('{"training": [1]}', r"case 'training\[0\]', key 'image': found no 'image' in 1, expected a file"),
        ('{"training": [{"image": 1}]}', r"case 'training\[0\]', key 'image': found 1, expected a file, or a list"),
        ('{"test": [{"image": "a", "label": [0]}]}', r"case 'test\[0\]', key 'label': found \[0\], expected a file"),
    ],
)
def test_load_errors(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "list.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_datalist(tmp_path / "list.json")


def test_load_names_all_problems_at_once(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"training": ["a.nii", {}, {"image": "b.nii", "weak_label": None}, 3], "test": 0}))
    with pytest.raises(DataError, match="3 problems in the data list"):
        load_datalist(file)
    datalist, findings = parse_datalist(file)
    assert [(finding.case, finding.key) for finding in findings] == [
        ("training[1]", "image"),
        ("training[3]", "image"),
        (None, "test"),
    ]
    assert [item["case"] for item in datalist["training"]] == ["a", "b"]
    assert "weak_label" not in datalist["training"][1]  # null is none


# --------------------------------------------------------------------------------------------------------------- open


def test_open_builds(tmp_path: Path) -> None:
    make_acdc(tmp_path)
    datalist = open_datalist(tmp_path, num_validation=2, weak_labels=True)
    assert len(datalist["validation"]) == 4
    for section in SECTIONS:
        for item in datalist[section]:
            assert all(
                os.path.isabs(item[key]) and Path(item[key]).is_file() for key in ("image", "label", "weak_label")
            )


def test_open_prefers_the_file(tmp_path: Path) -> None:
    make_acdc(tmp_path)
    save_datalist(make_datalist(tmp_path, num_validation=1), tmp_path / "datalist.json")
    save_datalist(make_datalist(tmp_path, num_validation=3), tmp_path / "other.json")
    assert len(open_datalist(tmp_path, num_validation=2)["validation"]) == 2
    assert len(open_datalist(tmp_path, "", num_validation=2)["validation"]) == 2
    assert len(open_datalist(tmp_path, tmp_path / "other.json", num_validation=2)["validation"]) == 6


def test_open_sections(tmp_path: Path) -> None:
    make_acdc(tmp_path)
    with pytest.raises(DataError, match="key 'validation': found no cases, expected some to choose"):
        open_datalist(tmp_path, num_validation=0)
    assert len(open_datalist(tmp_path, num_validation=0, sections="training")["training"]) == 12
    with pytest.raises(DataError, match="sections must be among"):
        open_datalist(tmp_path, sections="train")


def test_open_errors_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        open_datalist(tmp_path / "nothing")
    with pytest.raises(DataError, match="is empty"):
        open_datalist(tmp_path)
    with pytest.raises(DataError, match="no known layout"):
        open_datalist(touch(tmp_path, "a.txt"))


def test_open_errors_of_the_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "b.nii")
    file = tmp_path / "datalist.json"

    def write(training: list, validation: list) -> None:
        file.write_text(json.dumps({"training": training, "validation": validation}))

    a, b = {"image": "a.nii"}, {"image": "b.nii"}
    write([a], [b])
    assert open_datalist(tmp_path)["validation"][0]["case"] == "b"
    # whoever wrote a list has said what is annotated; the check `check_used_data` tells who needs more
    assert open_datalist(tmp_path, weak_labels=True) == open_datalist(tmp_path)
    write([a, a], [b])
    with pytest.raises(DataError, match="key 'case': found case 'a' 2 times, expected each name once"):
        open_datalist(tmp_path)
    write([{**a, "patient": "p"}], [{**b, "patient": "p"}])
    with pytest.raises(DataError, match=r"found patient 'p' in training \(a\) and validation \(b\)"):
        open_datalist(tmp_path)
    write([{"image": f"m{i}.nii", "label": f"l{i}.nii"} for i in range(12)], [b])
    with pytest.raises(DataError, match=r"24 missing files: .*m0\.nii' \(image of case 'm0'\).* and 4 more") as error:
        open_datalist(tmp_path)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("folder", "layout", "num_patients", "num_cases"),
    [("acdc", "acdc", 75, 150), ("promise12", "promise12", 25, 25), ("Task04_Hippocampus", "decathlon", 200, 200)],
)
def test_real_data(data_root: Path, folder: str, layout: str, num_patients: int, num_cases: int) -> None:
    if not (data_root / folder).is_dir():
        pytest.skip(f"no {folder} in the real data")
    assert detect_layout(data_root / folder) == layout
    datalist = open_datalist(data_root / folder, num_validation=15, weak_labels=layout == "acdc")
    items = datalist["training"] + datalist["validation"]
    assert len(items) == num_cases
    assert len({item["patient"] for item in items}) == num_patients
    assert len({item["patient"] for item in datalist["validation"]}) == 15
    assert all("label" in item for item in items)
    if layout == "acdc":
        groups = Counter(item["group"] for item in datalist["validation"])
        assert groups == dict.fromkeys(("DCM", "HCM", "MINF", "NOR", "RV"), 6)


def test_bounds_for_a_list_that_has_none(tmp_path: Path) -> None:
    root = make_acdc(tmp_path / "acdc")
    bounds = {"per": "volume", "unit": "mL", "bounds": {"1": [1, 2]}}
    assert open_datalist(root, layout="acdc", size_bounds=bounds)["size_bounds"] == bounds
    none = {**make_datalist(root, layout="acdc"), "size_bounds": None}
    (tmp_path / "none.json").write_text(json.dumps(none))
    assert open_datalist(root, tmp_path / "none.json", size_bounds=bounds)["size_bounds"] == bounds
    datalist = {**make_datalist(root, layout="acdc"), "size_bounds": {**bounds, "bounds": {"1": [3, 4]}}}
    (root / "datalist.json").write_text(json.dumps(datalist))
    assert open_datalist(root, size_bounds=bounds)["size_bounds"]["bounds"] == {"1": [3, 4]}


def test_acdc_scribbles_have_an_id_of_their_own_for_unannotated_voxels(tmp_path: Path) -> None:
    root = make_acdc(tmp_path / "acdc")
    assert make_datalist(root, layout="acdc", weak_labels=True)["unannotated"] == 4
    assert "unannotated" not in make_datalist(root, layout="acdc")
