from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sizeloss_monai.__main__ import main
from tests.support.evaluated_runs import write_evaluation, write_training

pytest.importorskip("matplotlib")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_training(tmp_path / "run")
    return tmp_path / "run"


def test_report(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_evaluation(run_dir, tmp_path / "data")
    assert main(["report", str(run_dir)]) == 0
    assert capsys.readouterr() == (f"wrote {run_dir / 'report.html'}\n", "")
    assert "Evaluation: validation" in (run_dir / "report.html").read_text()


def test_a_run_that_was_not_evaluated(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(run_dir), "--output", str(page)]) == 0
    out, err = capsys.readouterr()
    assert out == f"wrote {page}\n"
    command = f"sizeloss-monai evaluate {run_dir}"
    assert err == f"note: No cases: the run was not evaluated yet. Evaluate it: {command}.\n"
    assert "was not evaluated yet" in page.read_text()


def test_overwrite(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    page = run_dir / "report.html"
    page.write_text("notes of mine")
    assert main(["report", str(run_dir)]) == 1
    assert "exists with other content" in capsys.readouterr().err
    assert page.read_text() == "notes of mine"
    assert main(["report", str(run_dir), "--overwrite"]) == 0
    assert "notes of mine" not in page.read_text()


@pytest.mark.parametrize(("name", "message"), [("nowhere", "is not a folder"), (".", "found no run.json")])
def test_no_run(tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sizeloss-monai: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib(tmp_path: Path) -> None:
    code = "import sys; sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None\n"
    code += f"from sizeloss_monai.cli.main import main; sys.exit(main(['report', {str(tmp_path)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "sizeloss-monai: error: figures need matplotlib: pip install 'sizeloss-monai[report]'"
    )
