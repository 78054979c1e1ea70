from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import pytest

from sizeloss_monai.__main__ import main
from sizeloss_monai.datalist import load_datalist, make_datalist, save_datalist
from sizeloss_monai.errors import DataError
from sizeloss_monai.options import Method, PublishedName
from sizeloss_monai.sizes import add_bounds, case_bounds, published
from sizeloss_monai.sizes.from_cases import MIN_SIZES
from sizeloss_monai.sizes.proposal import propose_from_cases, propose_published, review_bounds

# by case: patient, number of voxels of class 1 in slices 0 and 1, of class 2 in slice 2, spacing in mm
CASES: dict[str, tuple[str, int, int, int, float]] = {
    "a1": ("a", 20, 30, 10, 10.0),
    "a2": ("a", 10, 14, 10, 10.0),
    "b1": ("b", 40, 44, 12, 10.0),
    "c1": ("c", 12, 20, 14, 12.0),
    "v1": ("v", 60, 60, 60, 10.0),
}


def write_case(folder: Path, name: str) -> None:
    _, first, second, third, spacing = CASES[name]
    ids = np.zeros((100, 4), np.uint8)
    ids[:first, 0] = ids[:second, 1] = 1
    ids[:third, 2] = 2
    affine = np.diag([5.0, 4.0, spacing, 1.0])  # 20 mm2 a pixel, 0.2 or 0.24 mL a voxel
    weak = np.full_like(ids, 255)
    weak[:4] = ids[:4]
    for key, array in (("image", ids.astype(np.float32)), ("mask", ids), ("weak", weak)):
        nib.save(nib.Nifti1Image(array.reshape(10, 10, 4), affine), folder / f"{name}_{key}.nii.gz")


@pytest.fixture
def datalist() -> dict[str, Any]:
    items = [
        {
            "case": name,
            "patient": CASES[name][0],
            "image": f"{name}_image.nii.gz",
            "label": f"{name}_mask.nii.gz",
            "weak_label": f"{name}_weak.nii.gz",
            "note": "of the user",
        }
        for name in CASES
    ]
    labels = {"0": "background", "1": "muscle", "2": "cavity"}
    return {"name": "x", "labels": labels, "extra": [1, None], "training": items[:4], "validation": items[4:]}


@pytest.fixture
def file(tmp_path: Path, datalist: dict[str, Any]) -> Path:
    for name in CASES:
        write_case(tmp_path, name)
    return write(tmp_path, datalist)


def write(folder: Path, datalist: dict[str, Any]) -> Path:
    (folder / "list.json").write_text(json.dumps(datalist))
    return folder / "list.json"


def run(file: Path, *options: str) -> int:
    return main(["bounds", str(file), *options])


def test_lists_of_names_are_those_of_the_package() -> None:
    assert set(get_args(Method)) == set(MIN_SIZES)
    # an entry that differs between the phases of the heart has two more names
    expected = set()
    for name, entry in published._table()["entries"].items():
        phases = {row["phase"].lower() for row in entry["rows"] if "phase" in row}
        expected |= {name, *(f"{name}_{phase}" for phase in phases)}
    assert set(get_args(PublishedName)) == expected


def test_prints_and_writes_nothing(file: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    assert run(file, "--method", "range") == 0
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before
    out = capsys.readouterr().out
    # class 1: (20 + 30) and (10 + 14) voxels of 0.2 mL, ..., 32 of 0.24 mL
    row = next(line for line in out.splitlines() if line.startswith("1 muscle")).split()
    assert row[2:7] == ["4", "4.8", "16.8", "4.32", "18.48"]
    assert "from 4 annotated cases of 3 patients: a1, a2, b1, c1" in out
    assert "Nothing was written" in out


def test_writes_into_the_list_and_keeps_the_rest(file: Path, datalist: dict[str, Any]) -> None:
    output = file.parent / "new.json"
    assert run(file, "--method", "range", "--output", str(output)) == 0
    written = json.loads(output.read_text())
    found = written.pop("size_bounds")
    assert written == datalist
    assert (found["per"], found["unit"]) == ("volume", "mL")
    assert found["bounds"] == {"1": [4.32, 18.48], "2": [1.8, 3.696]}
    assert "4 annotated cases" in found["source"]
    loaded = load_datalist(output)
    parsed = case_bounds(loaded, loaded["training"][0])
    assert parsed is not None
    assert parsed.bounds[1] == (4.32, 18.48)


def test_the_same_file_only_when_asked(file: Path, capsys: pytest.CaptureFixture) -> None:
    before = file.read_bytes()
    assert run(file, "--output", str(file)) == 1
    assert "exists with other content" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert run(file, "--output", str(file), "--overwrite") == 0
    assert "size_bounds" in json.loads(file.read_text())


def test_per_slice(file: Path) -> None:
    options = ["--per", "slice", "--method", "range", "--output", str(file), "--overwrite"]
    # the strokes made here fill a part of one sagittal slice, which would be taken
    assert run(file, *options, "--slice_axis", "axial") == 0
    found = json.loads(file.read_text())["size_bounds"]
    # 20 mm2 a pixel; every slice that has the class counts
    assert found["unit"] == "mm2"
    assert found["bounds"]["1"] == [180, 968]  # 0.9 · 10 · 20 and 1.1 · 44 · 20


@pytest.mark.parametrize(
    ("options", "sizes", "held_out"),
    [
        (["--cases", "a1", "c1"], [10.0, 7.68], "0 of 1 "),  # b1 is left: 16.8
        (["--cases", "a"], [10.0, 4.8], "1 of 2 "),  # b1 16.8 and c1 7.68
        (["--num_cases", "1"], [10.0], "2 of 2 "),  # not a2, of the same patient
    ],
)
def test_chosen_cases_and_held_out_ones(
    file: Path, options: list[str], sizes: list[float], held_out: str, capsys: pytest.CaptureFixture
) -> None:
    margin = "2" if options[1:] == ["a1", "c1"] else "1"
    assert run(file, "--method", "range", "--margin", margin, *options) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("1 muscle"))
    assert row.split()[2:5] == [str(len(sizes)), f"{min(sizes):.4g}", f"{max(sizes):.4g}"]
    assert held_out in row


def test_no_sizes_to_hold_out(file: Path, datalist: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    del datalist["training"][2:]
    write(file.parent, datalist)
    output = file.parent / "new.json"
    assert run(file, "--method", "range", "--output", str(output)) == 0
    out = capsys.readouterr().out
    assert "0 of 0" not in out
    assert all(line.endswith("  not known") for line in out.splitlines() if line.startswith(("1 muscle", "2 cavity")))
    assert "outside: not known, there are too few sizes of other patients to hold any out.\n" in out
    source = json.loads(output.read_text())["size_bounds"]["source"]
    assert source.endswith("held-out sizes outside: class 1 not known, class 2 not known")


def test_validation_masks_are_never_read(file: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("image", "mask", "weak"):
        (file.parent / f"v1_{name}.nii.gz").unlink()
    assert run(file) == 0
    assert run(file, "--cases", "v1") == 1
    assert "no training case or patient named 'v1'; it is in 'validation'" in capsys.readouterr().err


def test_weakly_supervised_masks_are_not_used(file: Path, datalist: dict[str, Any]) -> None:
    datalist["training"][0]["supervision"] = datalist["training"][1]["supervision"] = "weak"
    datalist["training"][2]["supervision"] = "full"
    loaded = load_datalist(write(file.parent, datalist))
    assert propose_from_cases(loaded, method="range").evidence[1].count == 2
    assert propose_from_cases(loaded, method="range", names=["a1"]).evidence[1].count == 1, "unless it is named"


def test_a_background_other_than_0_has_no_size(file: Path, datalist: dict[str, Any]) -> None:
    datalist |= {"unannotated": 0, "labels": {"1": "muscle", "2": "cavity", "3": "background"}}
    left_at_0 = propose_from_cases(load_datalist(write(file.parent, datalist)), method="range")
    for case in CASES:  # and painted
        mask = nib.load(file.parent / f"{case}_mask.nii.gz")
        ids = np.asarray(mask.dataobj)
        nib.save(nib.Nifti1Image(np.where(ids == 0, np.uint8(3), ids), mask.affine), mask.get_filename())
    painted = propose_from_cases(load_datalist(file), method="range")
    assert left_at_0 == painted
    assert set(painted.bounds) == {1, 2}
    assert painted.notes == ()
    with pytest.raises(DataError, match="no class 3"):
        propose_published(datalist, {3: "prostate"})


def test_margin_is_said(file: Path) -> None:
    assert run(file, "--method", "range", "--margin", "2", "--output", str(file), "--overwrite") == 0
    found = json.loads(file.read_text())["size_bounds"]
    assert found["bounds"]["1"] == [2.16, 36.96]
    assert "widened by 2 on both sides" in found["source"]


def test_published(file: Path, capsys: pytest.CaptureFixture) -> None:
    output = file.parent / "new.json"
    assert run(file, "--published", "2=hippocampus", "--output", str(output)) == 0
    found = json.loads(output.read_text())["size_bounds"]
    assert (found["per"], found["unit"], found["bounds"]) == ("volume", "mL", {"2": [2.58, 4.92]})
    assert "published normal range hippocampus (" in found["source"]
    out = capsys.readouterr().out
    assert "men and women, left: 2.58 to 3.94 mL (3.26 ± 2 · 0.34 mL) [2]" in out
    assert "[2] Hippocampal volume in normal Malay people" in out


def test_published_keeps_bounds_of_other_classes(file: Path, datalist: dict[str, Any]) -> None:
    datalist["size_bounds"] = {"per": "volume", "unit": "mL", "source": "mine", "bounds": {"1": [1, 90], "2": [3, 4]}}
    output = file.parent / "new.json"
    options = ["--published", "2=lv_cavity_es", "--margin", "1.5", "--output", str(output)]
    assert run(write(file.parent, datalist), *options) == 0
    found = json.loads(output.read_text())["size_bounds"]
    assert found["bounds"] == {"1": [1, 90], "2": [14.66, 123]}
    assert found["source"].startswith("classes 1: mine | class 2: published normal range lv_cavity_es (Kawel-Boehm")
    assert "widened by 1.5" in found["source"]


def test_infeasible_bounds_are_not_written(file: Path, capsys: pytest.CaptureFixture) -> None:
    # 4 voxels of 0.2 mL of each of 2 slices are annotated of class 1, and whole images are of 80 or 96 mL
    output = file.parent / "new.json"
    assert run(file, "--published", "1=lv_cavity_ed", "--output", str(output)) == 1
    out = capsys.readouterr().out
    assert "infeasible: class 1: the lower bound, 86 mL, is above the whole image of a1 (80), a2 (80), b1 (80)" in out
    assert not output.exists()
    assert run(file, "--published", "1=lv_cavity_ed", "--margin", "2", "--output", str(output)) == 0


def test_annotation_above_the_upper_bound(file: Path, datalist: dict[str, Any]) -> None:
    loaded = load_datalist(file)
    proposal = propose_published(loaded, {1: "hippocampus"})
    nib.save(nib.load(file.parent / "b1_mask.nii.gz"), file.parent / "b1_weak.nii.gz")  # all annotated: 16.8 mL
    infeasible, _ = review_bounds(add_bounds(loaded, proposal), proposal)
    assert infeasible == ["class 1: the upper bound, 4.92 mL, is below what is annotated in b1 (16.8)"]
    loaded["training"][2]["size_bounds"] = {"1": [10, 20]}
    infeasible, _ = review_bounds(add_bounds(loaded, proposal), proposal)
    assert infeasible == [], "the case has its own"


def test_vacuous_bounds(file: Path, datalist: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    datalist["training"][3].pop("weak_label")  # then its image says how large it is
    assert run(write(file.parent, datalist), "--cases", "a", "--coverage", "0.99") == 0
    out = capsys.readouterr().out
    assert "note: class 1: the lower bound, " in out
    assert "is vacuous, less than a voxel, in 4 of 4 training cases" in out
    assert "is vacuous, more than half of the image, in 4 of 4 training cases" in out
    assert "class 2: the" not in out


def test_classes_and_groups_that_are_missing(
    file: Path, datalist: dict[str, Any], capsys: pytest.CaptureFixture
) -> None:
    datalist["labels"]["5"] = "appendix"
    for item, group in zip(datalist["training"], ["DCM", "DCM", "NOR", "HCM"], strict=True):
        item["group"] = group
    assert run(write(file.parent, datalist), "--num_cases", "2") == 0
    out = capsys.readouterr().out
    assert "note: no bounds for class 5 (appendix), which is in none of these cases." in out
    assert "note: all these cases are of group DCM, the list also has HCM, NOR" in out


def test_sizes_used_that_are_outside_are_counted(file: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(file, "--method", "quantile", "--coverage", "0.5") == 0
    assert "note: class 1: 2 of the 4 sizes used are outside the bounds themselves." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num_cases", "9"], "num_cases must lie in 1..4, the annotated training cases, got 9"),
        (["--cases", "z"], "found no training case or patient named 'z'."),
        (["--num_cases", "1"], "class 1: found 1 size of it in the cases used, expected at least 2"),
        (["--coverage", "1.5"], "coverage must lie between 0 and 1, got 1.5"),
        (["--margin", "0.5"], "margin must be at least 1, got 0.5"),
        (["--published", "2=prostate", "--margin", "0"], "margin must be at least 1, got 0"),
        (["--published", "7=prostate"], "found no class 7 in the data list, expected 1 (muscle), 2 (cavity)"),
        (["--published", "0=prostate"], "found no class 0"),
    ],
)
def test_errors(file: Path, options: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    output = file.parent / "new.json"
    assert run(file, *options, "--output", str(output)) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--published", "prostate"], "expected ID=NAME"),
        (["--published", "1=prostate", "1=hippocampus"], "each class once"),
        (["--published", "1=prostate", "--per", "slice"], "requires --per volume"),
        (["--published", "1=prostate", "--method", "range"], "--method and --coverage"),
        (["--published", "1=prostate", "--num_cases", "2"], "not allowed with"),
        (["--method", "range", "--coverage", "0.9"], "got range"),
        (["--overwrite"], "--overwrite requires --output"),
    ],
)
def test_options_that_make_no_sense(
    file: Path, options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(file, *options)
    assert message in capsys.readouterr().err


def test_neither_slice_nor_volume(file: Path) -> None:
    with pytest.raises(DataError, match=r"per must be one of \('slice', 'volume'\), got 'mm'"):
        propose_from_cases(load_datalist(file), per="mm")


def test_lists_without_masks(file: Path, datalist: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    for item in datalist["training"]:
        del item["label"]
    assert run(write(file.parent, datalist)) == 1
    assert "found no training case with a full annotation" in capsys.readouterr().err
    assert run(file, "--cases", "a1") == 1
    assert "case 'a1', key 'label': found no such key, expected a full annotation" in capsys.readouterr().err


def test_a_mask_with_unknown_ids(file: Path, datalist: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    datalist["labels"] = {"0": "background", "1": "muscle"}
    assert run(write(file.parent, datalist)) == 1
    assert "case 'a1', key 'label': found ids 2, expected 0, 1" in capsys.readouterr().err


def test_bounds_of_another_kind_are_not_mixed(
    file: Path, datalist: dict[str, Any], capsys: pytest.CaptureFixture
) -> None:
    datalist["size_bounds"] = {"per": "slice", "unit": "mm2", "bounds": {"1": [1, 90]}}
    assert run(write(file.parent, datalist), "--output", str(file), "--overwrite") == 1
    assert "has size_bounds per slice in mm2, the proposed ones are per volume in mL" in capsys.readouterr().err
    assert json.loads(file.read_text()) == datalist


def test_an_infinite_bound_is_null() -> None:
    datalist = {"training": [], "validation": []}
    proposal = propose_published({}, {1: "prostate"})
    endless = type(proposal)("volume", "mL", "x", {1: (2.0, math.inf)})
    assert add_bounds(datalist, endless)["size_bounds"]["bounds"] == {"1": [2.0, None]}
    assert datalist == {"training": [], "validation": []}
    with pytest.raises(DataError, match="every case"):
        add_bounds({"size_bounds": 3}, proposal)


def test_relative_paths_and_another_folder(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "elsewhere" / "list.json"
    assert run(file, "--output", str(output)) == 0
    assert f"note: its relative paths are still relative to {file.parent}" in capsys.readouterr().out
    assert run(output, "--dataset_dir", str(file.parent)) == 0


def test_acdc_scribbles(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = data_root / "acdc"
    if not root.is_dir():
        pytest.skip(f"no ACDC in {data_root}")
    datalist = make_datalist(root, "acdc", weak_labels=True) | {"unannotated": 4}
    kept = {item["patient"] for item in datalist["training"][::24]}
    datalist["training"] = [item for item in datalist["training"] if item["patient"] in kept]
    save_datalist(datalist, tmp_path / "list.json")
    entries = ["1=rv_cavity", "2=lv_myocardium", "3=lv_cavity"]
    assert run(tmp_path / "list.json", "--dataset_dir", str(root), "--published", *entries, "--margin", "2") == 0
    assert run(tmp_path / "list.json", "--dataset_dir", str(root)) == 0
    assert "infeasible" not in capsys.readouterr().out
