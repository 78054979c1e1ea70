from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from sizeloss_monai import __version__
from sizeloss_monai.__main__ import main
from sizeloss_monai.datalist.layouts import LAYOUTS
from sizeloss_monai.options import LayoutName


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    root = tmp_path / "acdc"
    for patient in (1, 2, 21, 22):
        name = f"patient{patient:03d}"
        (root / name).mkdir(parents=True)
        for suffix in ("", "_gt", "_scribble"):
            (root / name / f"{name}_frame01{suffix}.nii.gz").touch()
    return root


def run(dataset_dir: Path, *options: str, layout: str = "auto") -> int:
    output = dataset_dir.parent / "list.json"
    return main(["datalist", layout, "--dataset_dir", str(dataset_dir), "--output", str(output), *options])


@pytest.mark.parametrize("layout", ["auto", "acdc"])
def test_datalist(dataset_dir: Path, layout: str, capsys: pytest.CaptureFixture) -> None:
    assert run(dataset_dir, "--num_validation", "2", "--seed", "5", "--weak_labels", layout=layout) == 0
    datalist = json.loads((dataset_dir.parent / "list.json").read_text())
    assert datalist["seed"] == 5
    assert len(datalist["validation"]) == 2
    assert "weak_label" in datalist["training"][0]
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "ACDC (acdc), seed 5",
        "split        patients  cases  weak labels  masks  neither  patients per group",
        "training            2      2            2      2        0  DCM 1  HCM 1",
        "validation          2      2            2      2        0  DCM 1  HCM 1",
        "test                0      0            0      0        0",
    ]


def test_fraction_and_pattern(dataset_dir: Path) -> None:
    assert run(dataset_dir, "--num_validation", "0.5", "--patient_pattern", r"^patient\d\d") == 0
    datalist = json.loads((dataset_dir.parent / "list.json").read_text())
    assert {item["patient"] for key in ("training", "validation") for item in datalist[key]} == {
        "patient00",
        "patient02",
    }


def test_classes_of_a_list(dataset_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(dataset_dir, "--weak_labels", "--unannotated", "0", "--labels", "1=heart", "4=background") == 0
    datalist = json.loads((dataset_dir.parent / "list.json").read_text())
    assert datalist["unannotated"] == 0
    assert datalist["labels"] == {"1": "heart", "4": "background"}
    assert run(dataset_dir, "--labels", "heart") == 1
    assert "found 'heart', expected an id and a name" in capsys.readouterr().err


def test_overwrite(dataset_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(dataset_dir) == 0
    assert run(dataset_dir) == 0
    assert run(dataset_dir, "--num_validation", "2") == 1
    assert "exists with other content" in capsys.readouterr().err
    assert run(dataset_dir, "--num_validation", "2", "--overwrite") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset_dir", "nowhere"], "is not a folder"),
        (["--num_validation", "9"], "4 patients cannot give 9"),
        (["--num_validation", "1.5"], "num_validation must be an integer"),
        (["--patient_pattern", "xyz"], "does not match"),
    ],
)
def test_errors(dataset_dir: Path, options: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert run(dataset_dir, *options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sizeloss-monai: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (dataset_dir.parent / "list.json").exists()


def test_errors_of_the_program_are_not_hidden(dataset_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args, **kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr("sizeloss_monai.datalist.make_datalist", broken)
    with pytest.raises(ValueError, match="a bug"):
        run(dataset_dir)


@pytest.mark.parametrize("argv", [[], ["unknown"], ["datalist", "acdc"], ["datalist", "acd", "--dataset_dir", "."]])
def test_wrong_arguments(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "usage:" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_layouts_are_those_of_the_package() -> None:
    assert set(get_args(LayoutName)) == {*LAYOUTS, "auto"}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sizeloss_monai.cli.main import main\n"
        "try:\n    main(['datalist', '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'monai', 'matplotlib', 'pydicom'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "sizeloss_monai", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert __version__ in done.stdout
