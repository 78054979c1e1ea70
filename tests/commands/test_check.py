"""The command ``check``: what it says of each kind of broken data, no more than that, and that it changes nothing."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeloss_monai.checks import check_datalist
from sizeloss_monai.cli.main import main
from tests.support.broken_data import BROKEN, save, write_phantoms


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("healthy")
    write_phantoms(root)
    return root


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    """A folder of phantoms and their data list, to be broken."""
    return Path(shutil.copytree(healthy, tmp_path / "data"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def findings(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(("error: ", "warning: "))]


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_data(kind: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    break_it, expected = BROKEN[kind]
    datalist = json.loads((folder / "datalist.json").read_text())
    break_it(folder, datalist)
    (folder / "datalist.json").write_text(json.dumps(datalist))
    before = contents(folder)

    errors = [line for line in expected if line.startswith("error")]
    assert main(["check", str(folder / "datalist.json")]) == (1 if errors else 0)

    out, _ = capsys.readouterr()
    assert findings(out) == expected
    after = contents(folder)
    report = json.loads(after.pop("datalist_check.json"))
    assert after == before
    assert (report["errors"], report["warnings"]) == (len(errors), len(expected) - len(errors))
    for finding, line in zip(report["findings"], expected, strict=True):
        assert line.startswith(f"{finding['severity']}: ")
        assert f"key '{finding['key']}': found {finding['found']}, expected {finding['expected']}" in line
        assert (f"case '{finding['case']}'" in line) == (finding["case"] is not None)


def test_all_problems_are_told_at_once(folder: Path, capsys: pytest.CaptureFixture) -> None:
    datalist = json.loads((folder / "datalist.json").read_text())
    kinds = ["truncated file", "4D image", "patient in two splits", "no integers"]
    for kind in kinds:
        BROKEN[kind][0](folder, datalist)
    (folder / "datalist.json").write_text(json.dumps(datalist))
    assert main(["check", str(folder / "datalist.json"), "--num_workers", "2"]) == 1
    assert set(findings(capsys.readouterr().out)) == {line for kind in kinds for line in BROKEN[kind][1]}


def test_the_table_of_the_tutorial() -> None:
    tutorial = Path(__file__).parents[2] / "docs" / "own_data.md"
    rows = re.findall(r"^\| (.+) \| `((?:error|warning): .+)` \|$", tutorial.read_text(encoding="utf-8"), re.MULTILINE)
    kinds = {kind for kind, _ in rows}
    assert len(kinds) >= 12
    assert rows == [(kind, line) for kind in dict(rows) for line in BROKEN[kind][1]]


# -------------------------------------------------------------------------------------------------------- clean lists


def test_what_nobody_painted_is_background_of_a_full_mask(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for path in folder.glob("*_weak_label.nii.gz"):
        weak = np.asarray(nib.load(path).dataobj)
        save(path, np.select([weak == 0, weak == 255], [np.uint8(3), np.uint8(0)], weak))
    datalist = json.loads((folder / "datalist.json").read_text())
    datalist |= {"unannotated": 0, "labels": {"1": "organ", "2": "lesion", "3": "background"}}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    assert main(["check", str(folder / "datalist.json")]) == 0
    out, _ = capsys.readouterr()
    assert findings(out) == []
    assert "training    label       3 background    1/1      16                16              93.8 %" in out
    assert "training    weak_label  3 background    2/2      32                 2            0.0977 %" in out


def test_clean_list(folder: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(folder)
    assert main(["check", str(folder / "datalist.json")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "slices: axial along voxel axis 2 (4 cases), the axis of the widest voxels",
        "",
        "split       patients  cases  slices  full  weak  tags  bounds  none",
        "training           4      4      64     1     2     0       1     0",
        "validation         2      2      32     1     1     0       0     0",
        "test               0      0       0     0     0     0       0     0",
        "",
        "split       annotation  class         cases  slices  annotated slices  annotated fraction",
        "training    label       0 background    1/1      16                16              93.8 %",
        "training    label       1 organ         1/1      16                 4              6.15 %",
        "training    label       2 lesion        1/1      16                 1            0.0977 %",
        "training    label       any class       1/1      16                16               100 %",
        "training    weak_label  0 background    2/2      32                 2            0.0977 %",
        "training    weak_label  1 organ         2/2      32                 2            0.0977 %",
        "training    weak_label  2 lesion        2/2      32                 2            0.0977 %",
        "training    weak_label  any class       2/2      32                 4             0.293 %",
        "validation  label       0 background    2/2      32                32              93.8 %",
        "validation  label       1 organ         2/2      32                 8              6.15 %",
        "validation  label       2 lesion        2/2      32                 2            0.0977 %",
        "validation  label       any class       2/2      32                32               100 %",
        "validation  weak_label  0 background    1/1      16                 1            0.0977 %",
        "validation  weak_label  1 organ         1/1      16                 1            0.0977 %",
        "validation  weak_label  2 lesion        1/1      16                 1            0.0977 %",
        "validation  weak_label  any class       1/1      16                 2             0.293 %",
        "",
        f"0 errors, 0 warnings. Report: {folder / 'datalist_check.json'}",
    ]
    assert "6/6" in err  # the progress bar
    after = contents(folder)
    report = json.loads(after.pop("datalist_check.json"))
    assert after == before
    assert report.keys() == {"datalist", "errors", "warnings", "findings", "summary"}
    assert report["findings"] == []
    assert report["summary"]["splits"]["training"] == {"patients": 4, "cases": 4, "slices": 64} | {
        **{"full": 1, "weak": 2, "bounds": 1},
        **{"tags": 0, "none": 0},
    }


@st.composite
def valid_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Cases with random shapes, spacings, orientations and blobs, annotated in random ways; all true."""
    axis = draw(st.integers(0, 2))
    cases = []
    for _ in range(draw(st.integers(1, 5))):
        cases.append(
            {
                "shape": [draw(st.integers(4, 9)) for _ in range(3)],
                "spacing": np.insert(draw(st.sampled_from([[1.0, 1.0], [0.7, 1.2]])), axis, 2.5).tolist(),
                "mirror": [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)],
                "seed": draw(st.integers(0, 2**16)),
                "annotated": draw(st.sampled_from([(), ("label",), ("weak_label",), ("label", "weak_label")])),
                "tags": draw(st.sampled_from(["none", "bool", "slices"])),
                "bounds": draw(st.booleans()),
                "section": draw(st.sampled_from(["training", "validation", "test"])),
            }
        )
    cases[0]["section"] = "training"
    return cases


@settings(max_examples=25, deadline=None)
@given(cases=valid_lists(), per=st.sampled_from(["slice", "volume"]), voxels=st.booleans(), data=st.data())
def test_random_valid_lists_have_no_errors(cases: list[dict[str, Any]], per: str, voxels: bool, data) -> None:
    unit = "voxels" if voxels else {"slice": "mm2", "volume": "mL"}[per]
    unannotated = data.draw(st.sampled_from([255, 4, -1]))
    with tempfile.TemporaryDirectory() as name:
        datalist: dict[str, Any] = {
            "labels": {"0": "background", "1": "one", "2": "two"},
            "unannotated": unannotated,
            "size_bounds": {"per": per, "unit": unit, "bounds": {}},
            "training": [],
            "validation": [],
            "test": [],
        }
        for index, case in enumerate(cases):
            rng = np.random.default_rng([case["seed"], index])
            affine = np.diag([*np.multiply(case["spacing"], case["mirror"]), 1.0])
            label = rng.integers(0, 3, case["shape"]).astype(np.int16)
            weak = np.where(rng.random(label.shape) < 0.5, label, unannotated).astype(np.int16)
            weak.flat[0] = unannotated
            item: dict[str, Any] = {"image": f"{index}.nii.gz"}
            save(Path(name, item["image"]), rng.normal(size=label.shape).astype(np.float32), affine)
            for key, array in (("label", label), ("weak_label", weak)):
                if key in case["annotated"]:
                    item[key] = f"{index}_{key}.nii"
                    save(Path(name, item[key]), array, affine)
            axis = int(np.argmax(case["spacing"]))
            slices = {k: (np.moveaxis(label, axis, 0) == k).sum(axis=(1, 2)) for k in (1, 2)}
            if case["tags"] == "bool":
                item["tags"] = {str(k): bool(count.any()) for k, count in slices.items()}
            elif case["tags"] == "slices":
                item["tags"] = {str(k): np.flatnonzero(count).tolist() for k, count in slices.items()}
            if case["bounds"]:
                item["size_bounds"] = {}
                area, volume = np.delete(case["spacing"], axis).prod(), np.prod(case["spacing"])
                voxel = {"mm2": area, "mL": volume / 1000, "voxels": 1}[unit]
                for k, count in slices.items():
                    sizes = (count[count > 0] if per == "slice" else count.sum(keepdims=True)) * voxel
                    if sizes.size:
                        item["size_bounds"][str(k)] = [0.9 * sizes.min(), 1.1 * sizes.max()]
            datalist[case["section"]].append(item)
        path = Path(name, "list.json")
        path.write_text(json.dumps(datalist))
        report = check_datalist(path, slice_axis="widest")  # as tags and bounds were made here
    errors = [finding for finding in report.findings if finding.severity == "error"]
    # a training refuses a list without cases in one of its sections
    without_cases = sorted(section for section in ("training", "validation") if not datalist[section])
    assert sorted(finding.key for finding in errors if finding.code == "no-cases") == without_cases
    assert [str(finding) for finding in errors if finding.code != "no-cases"] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.sampled_from(["", "1", "image", "a.nii"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(["0", "1", "per", "x"]), values),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    top=st.dictionaries(
        st.sampled_from(["labels", "unannotated", "size_bounds", "modality", "validation"]), json_values
    ),
    bounds=json_values,
    entry=st.dictionaries(
        st.sampled_from(["image", "label", "weak_label", "tags", "size_bounds", "supervision", "case", "patient"]),
        json_values,
    ),
)
def test_no_nonsense_stops_a_check(top: dict[str, Any], bounds: Any, entry: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        save(Path(name, "a.nii"), np.arange(8, dtype=np.float32).reshape(2, 2, 2))
        save(Path(name, "a_weak.nii"), np.array([[[0, 1], [255, 255]], [[0, 1], [255, 255]]], np.uint8))
        datalist = {
            "size_bounds": {"per": "volume", "unit": "mL", "bounds": bounds},
            **top,
            "training": [{"image": "a.nii", "weak_label": "a_weak.nii", **entry}],
        }
        path = Path(name, "list.json")
        path.write_text(json.dumps(datalist))
        report = check_datalist(path)
    assert json.loads(json.dumps(report.as_dict()))["errors"] == report.num_errors


# --------------------------------------------------------------------------------------------------------- the options


def test_output_and_dataset_dir(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.move(folder / "datalist.json", tmp_path / "list.json"))
    assert main(["check", str(path)]) == 1  # no file is beside the list
    output = tmp_path / "reports" / "check.json"
    assert main(["check", str(path), "--dataset_dir", str(folder), "--output", str(output)]) == 0
    assert json.loads(output.read_text())["errors"] == 0


def test_reading_in_threads_changes_nothing(folder: Path, tmp_path: Path) -> None:
    for workers in ("0", "3"):
        main(["check", str(folder / "datalist.json"), "--num_workers", workers, "--output", str(tmp_path / workers)])
    assert (tmp_path / "0").read_text() == (tmp_path / "3").read_text()


def test_an_earlier_report_is_replaced(folder: Path, capsys: pytest.CaptureFixture) -> None:
    broken = (folder / "f.nii.gz").rename(folder / "g.nii.gz")
    assert main(["check", str(folder / "datalist.json")]) == 1
    assert "replaces" not in capsys.readouterr().out
    broken.rename(folder / "f.nii.gz")
    assert main(["check", str(folder / "datalist.json")]) == 0
    assert "(replaces an earlier one)" in capsys.readouterr().out
    assert json.loads((folder / "datalist_check.json").read_text())["errors"] == 0


@pytest.mark.parametrize("name", ["datalist.json", "a.nii.gz", "other_check.json"])
def test_other_files_are_not_replaced(folder: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    shutil.copy(folder / "datalist.json", folder / "other.json")
    assert main(["check", str(folder / "other.json")]) == 0
    capsys.readouterr()
    before = contents(folder)
    assert main(["check", str(folder / "datalist.json"), "--output", str(folder / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "must be a report on 'datalist.json' to be replaced, got another file: give another --output." in err
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot read the data list"), ("{", "not valid JSON"), ("[]", "is not a data list")]
)
def test_no_data_list(tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture) -> None:
    if text is not None:
        (tmp_path / "list.json").write_text(text)
    before = contents(tmp_path)
    assert main(["check", str(tmp_path / "list.json")]) == 1
    assert message in capsys.readouterr().err
    assert contents(tmp_path) == before


# ---------------------------------------------------------------------------------------------------------- real data


def test_one_scan_of_acdc_under_two_names(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = data_root / "acdc" / "training"
    if not root.is_dir():
        pytest.skip("no acdc in the real data")

    def item(patient: str) -> dict[str, str]:
        stem = f"{patient}/{patient}_frame01"
        return {"image": f"{stem}.nii.gz", "label": f"{stem}_gt.nii.gz", "weak_label": f"{stem}_scribble.nii.gz"}

    datalist = {
        "labels": {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"},
        "unannotated": 4,
        "training": [item("patient074")],
        "validation": [item("patient076"), item("patient077")],
    }
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    assert main(["check", str(tmp_path / "list.json"), "--dataset_dir", str(root)]) == 1
    assert findings(capsys.readouterr().out) == [
        "error: case 'patient074_frame01', key 'image': found the same voxels in training (patient074_frame01) and "
        "validation (patient076_frame01), expected each in one split only"
    ]
