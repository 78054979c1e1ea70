from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from PIL import Image

from sizeloss_monai.errors import DataError
from sizeloss_monai.report.page import make_report, write_report
from tests.support.evaluated_runs import NAMES, SHIFTS, write_evaluation, write_training

NOTHING = "\N{EN DASH}"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tables, images and texts of a page; fails where tags are not well nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.images: list[str] = []
        self.urls: list[str] = []
        self.ids: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        assert tag not in ("script", "link", "iframe", "object")
        if tag == "img":
            self.images.append(given["src"] or "")
            assert given["alt"]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag][-1] += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, first_heading: str) -> list[list[str]]:
        (found,) = [table for table in self.tables if table[0][0] == first_heading]
        return found


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_training(folder / "run")
    write_evaluation(folder / "run", folder / "data")
    return folder / "run"


@pytest.fixture(scope="module")
def html(evaluated: Path) -> str:
    page, notes = make_report(evaluated)
    assert notes == []
    return page


@pytest.fixture
def run(evaluated: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(evaluated, tmp_path / "run"))


def test_one_file_that_asks_for_no_other(html: str) -> None:
    page = Page(html)
    assert page.urls
    assert all(url.startswith(("data:image/png;base64,", "#")) for url in page.urls)
    assert {url[1:] for url in page.urls if url[0] == "#"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?:|url\(|@import", html)
    for image in page.images:
        Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))).verify()


def test_settings(html: str) -> None:
    settings = {row[0]: row[1] for row in Page(html).table("folder")}
    assert settings["command"] == "m run --config_file \"['a.yaml']\""
    assert settings["commit"] == "def"
    assert settings["machine"] == "cores 2, gpus none"
    assert "commit abc" in settings["started before"]


def test_numbers_are_the_files(html: str, evaluated: Path) -> None:
    folder = evaluated / "evaluation" / "validation"
    with (folder / "sizes.csv").open() as file:
        sizes = {(row["case"], row["name"]): row for row in csv.DictReader(file)}
    with (folder / "val_mean_dice_raw.csv").open() as file:
        scores = {row["filename"]: row for row in csv.DictReader(file)}
    heading, *rows = Page(html).table("case")
    case = ""
    seen = set()
    for cells in rows:
        case, cells = (cells[0], cells[1:]) if len(cells) == len(heading) else (case, cells)
        shown = dict(zip(heading[1:], cells, strict=True))
        given = sizes[case, shown["class"]]
        seen.add((case, shown["class"]))
        dice = float(scores[case][f"class{int(given['class']) - 1}"])
        assert shown["Dice"] == (NOTHING if math.isnan(dice) else f"{dice:.3f}")
        for name in ("soft", "hard", "true", "violation"):
            value = given[f"{name}_ml"]
            assert shown[f"{name} mL"].lstrip("+") == (f"{float(value):.2f}" if value else NOTHING)
        assert shown["violation mL"].startswith("+") == (float(given["violation_ml"]) > 0)
        assert shown["bounds mL"] == ("≥ 0.5" if given["class"] == "1" else "1 to 9")
        assert shown["pieces"] == given["components"]
        assert shown["at border"] == (given["touches_border"] or NOTHING)
    assert seen == set(sizes)
    assert {row[0]: row[1] for row in Page(html).table("metric")[1:]} == {"mean dice": "0.5000", "hd95 mm": NOTHING}


def test_main_numbers_come_first(run: Path) -> None:
    starts = json.loads((run / "run.json").read_text())
    starts[-1]["key_metric"] = "val_mean_dice"
    (run / "run.json").write_text(json.dumps(starts))
    folder = run / "evaluation" / "validation"
    distances = {
        "good": (1.0, 3.0),
        "fair": (4.0, 4.0),
        "poor": (6.0, 6.0),
        "out": (8.0, 8.0),
        "blind": (math.nan,) * 2,
    }
    lines = [f"{case},{a},{b},{(a + b) / 2}" for case, (a, b) in distances.items()]
    (folder / "val_hd95_mm_raw.csv").write_text("\n".join(["filename,class0,class1,mean", *lines]) + "\n")
    with (folder / "val_mean_dice_raw.csv").open() as file:
        dice = [mean for row in csv.DictReader(file) if not math.isnan(mean := float(row["mean"]))]
    page = Page(make_report(run)[0])
    summary = f"{np.mean(dice):.3f} ± {np.std(dice, ddof=1):.3f}"
    sentence = f"Mean 3D Dice {summary} on 4 annotated cases of validation; 1 of 5 masks with bounds is outside them."
    assert page.texts["p"][0].strip() == sentence
    facts = dict(zip(page.texts["dt"], page.texts["dd"][: page.texts["dt"].index("3D Dice")], strict=False))
    assert facts["experiment"] == "common_bounds"
    assert Path(facts["data"]).name == "data"
    cards = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd><dd class=\"of\">([^<]*)</dd>", make_report(run)[0])
    assert {name: value for name, value, _ in cards} == {
        "3D Dice": summary,
        "HD95, mm": f"5.0 ± {np.std([2, 4, 6, 8], ddof=1):.1f}",
        "Out of bounds": "1",
        "Chosen epoch": "4",
        "Training, minutes": "0.0",
    }
    heading, *rows = page.table("case")
    shown = {row[0]: row[heading.index("HD95 mm")] for row in rows if len(row) == len(heading)}
    assert shown == {"out": "8.0", "poor": "6.0", "fair": "4.0", "good": "1.0", "blind": NOTHING}


def test_every_template_is_packaged() -> None:
    root = Path(__file__).resolve().parents[2]
    files = {
        path for path in (root / "sizeloss_monai" / "report").rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    patterns = re.search(r'^"sizeloss_monai.report" = \["(.*)"\]$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert patterns
    packaged = set((root / "sizeloss_monai" / "report").glob(patterns[1]))
    assert {path for path in files if path.suffix != ".py"} == packaged != set()


def test_violations_come_first_then_the_worst(html: str) -> None:
    page = Page(html)
    cases = [row[0] for row in page.table("case")[1:] if row[0] in SHIFTS]
    assert cases == ["out", "poor", "fair", "good", "blind"]
    drawn = [text.split() for text in page.texts["h4"]]
    assert [words[0] for words in drawn] == ["out", "poor", "fair", "good", "blind"]
    reasons = ["out of bounds", "worst", "median", "best", "no full annotation"]
    assert [" ".join(words[1:]) for words in drawn] == reasons
    assert len(page.images) == 2 + 5  # curves of the loss and of Dice
    summary = {row[0]: row for row in page.table("class")[1:]}
    assert summary.keys() == set(NAMES.values())
    assert summary[NAMES[2]][3:] == ["1 of 5", "0 of 5", "0 of 5"]
    assert "5 cases, 4 with a full annotation; 1 of 5 with bounds are out of them." in page.texts["p"]


def test_which_weights_were_chosen_and_which_evaluated(html: str, run: Path) -> None:
    assert not any(text.startswith("model.pt has") for text in Page(html).texts["p"])  # no key metric was recorded
    starts = json.loads((run / "run.json").read_text())
    starts[-1]["key_metric"] = "val_mean_dice"
    (run / "run.json").write_text(json.dumps(starts))
    (run / "evaluation" / "validation" / "run.json").write_text(json.dumps([{"checkpoint": "<model>.pt"}]))
    texts = Page(make_report(run)[0]).texts["p"]
    assert "model.pt has the weights of epoch 4, the best by val_mean_dice (dashed)." in texts
    assert any(text.endswith("out of them. Weights: <model>.pt.") for text in texts)


def test_markup_in_names_is_text(run: Path) -> None:
    settings = json.loads((run / "run.json").read_text())
    settings[-1]["experiment"] = "<script>alert(1)</script>"
    (run / "run.json").write_text(json.dumps(settings))
    page = Page(make_report(run)[0])
    assert NAMES[1] in {row[0] for row in page.table("class")}
    assert ["experiment", "<script>alert(1)</script>"] in page.table("folder")


def test_without_any_truth(tmp_path: Path) -> None:
    write_training(tmp_path / "run")
    write_evaluation(tmp_path / "run", tmp_path / "data", section="test", labels=False)
    html, notes = make_report(tmp_path / "run")
    assert notes == []
    page = Page(html)
    assert "Evaluation: test" in page.texts["h2"]
    heading, *rows = page.table("case")
    assert all(
        row[len(row) - len(heading) + heading.index(name)] == NOTHING for row in rows for name in ("Dice", "true mL")
    )
    assert "nan" not in page.texts["body"][0]
    reasons = [" ".join(text.split()[1:]) for text in page.texts["h4"]]
    assert reasons[0].startswith("out of bounds")
    assert {"worst", "median", "best"} <= set(" ".join(reasons).split())


def test_without_evaluation_and_curves(tmp_path: Path) -> None:
    write_training(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "tensorboard")
    html, notes = make_report(tmp_path / "run")
    assert len(notes) == 2
    assert "was not evaluated yet" in notes[0]
    assert "tensorboard" in notes[1]
    assert Page(html).texts["p"] == notes


def test_an_evaluation_of_an_older_version(run: Path) -> None:
    (run / "evaluation" / "validation" / "sizes.csv").unlink()
    html, notes = make_report(run)
    assert len(notes) == 1
    assert "sizes.csv" in notes[0]
    assert notes[0] in Page(html).texts["p"]


def test_scans_that_were_moved_leave_no_overlay(run: Path) -> None:
    index = run / "evaluation" / "validation" / "cases.json"
    index.write_text(index.read_text().replace("poor.nii.gz", "gone.nii.gz").replace("masks/gone", "masks/poor"))
    html, notes = make_report(run)
    (note,) = notes
    assert note.startswith("No overlay: case 'poor', key 'image': found no file")
    assert note in Page(html).texts["p"]
    assert len(Page(html).images) == 2 + 4


def test_a_mask_of_another_grid(run: Path) -> None:
    folder = run / "evaluation" / "validation" / "masks"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), dtype=np.uint8), np.eye(4)), folder / "out.nii.gz")
    _, (note,) = make_report(run)
    assert "case 'out', key 'mask': found shape 4 x 5 x 6, expected the scan's, 24 x 20 x 6" in note


def cut(name: str, keep: float):
    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        (folder / name).write_text(text[: int(keep * len(text))])

    return damage


def without_last_case(folder: Path) -> None:
    lines = (folder / "sizes.csv").read_text().splitlines()
    (folder / "sizes.csv").write_text("\n".join(lines[:-2]) + "\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("sizes.csv", 0.9), r"sizes.csv', line \d+: found \d+ cells"),
        (without_last_case, "found case blind in only one of sizes.csv and cases.json"),
        (cut("cases.json", 0.9), "cases.json' is not valid JSON"),
        (lambda folder: (folder / "cases.json").write_text('{"cases": [{"case": "out"}]}'), "found no index of cases"),
        (lambda folder: (folder / "cases.json").unlink(), "found no cases.json, which evaluate.yaml writes"),
        (cut("val_mean_dice_raw.csv", 0.7), r"val_mean_dice_raw.csv', line \d+: found \d cells, expected 4"),
        (lambda folder: (folder / "metrics.csv").write_text("val_mean_dice,ha"), "line 1: found 'ha'"),
        (lambda folder: (folder / "metrics.csv").write_text("val_mean_dice"), "line 1: found 1 cells"),
        (lambda folder: (folder / "../../run.json").write_text("[{"), "run.json' is not valid JSON"),
        (lambda folder: (folder / "../../run.json").write_text("[]"), "must hold a list of objects"),
        (lambda folder: (folder / "../../run.json").unlink(), "found no run.json in it, expected the folder of a run"),
    ],
)
def test_damage_is_one_clear_error_and_nothing_is_written(run: Path, damage, message: str) -> None:
    damage(run / "evaluation" / "validation")
    with pytest.raises(DataError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_nothing_is_overwritten_silently(run: Path) -> None:
    path, _ = write_report(run)
    assert path == run / "report.html"
    assert write_report(run)[0] == path  # the same content
    path.write_text("something else")
    with pytest.raises(FileExistsError, match="exists with other content"):
        write_report(run)
    assert path.read_text() == "something else"
    write_report(run, overwrite=True)
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert write_report(run, run / "pages" / "a.html")[0].is_file()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_in_a_browser(run: Path, tmp_path: Path, width: int) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to look at the page with")
    path, _ = write_report(run)
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += f" --disable-component-update --disable-sync --hide-scrollbars --user-data-dir={tmp_path / 'profile'}"
    screenshot = tmp_path / "page.png"
    taken = f"--window-size={width},1600 --screenshot={screenshot}"
    done = subprocess.run([browser, *options.split(), *taken.split(), path.as_uri()], capture_output=True, timeout=120)
    if not screenshot.is_file():
        pytest.skip(f"Chromium takes no screenshot here: {done.stderr.decode(errors='replace')[-200:]}")
    pixels = np.asarray(Image.open(screenshot).convert("RGB")).astype(int)
    assert pixels.shape[:2] == (1600, width)
    assert (pixels[0] == 255).all()  # light, with a margin
    drawn = (pixels != 255).any(-1)
    assert drawn[:, :20].sum() == drawn[:, -20:].sum() == 0  # nothing wider than the window
    assert drawn[-400:].any()
    if width > 1000:  # on a telephone that column is scrolled to
        assert ((pixels - [253, 227, 223] == 0).all(-1)).sum() > 500  # the marked violation


def test_dice_of_a_former_evaluation_is_not_shown(run: Path) -> None:
    index = run / "evaluation" / "validation" / "cases.json"
    content = json.loads(index.read_text())
    for entry in content["cases"]:
        entry["label"] = None
    index.write_text(json.dumps(content))
    heading, *rows = Page(make_report(run)[0]).table("case")
    assert {row[len(row) - len(heading) + heading.index("Dice")] for row in rows} == {NOTHING}
