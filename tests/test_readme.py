"""The documents' numbers, links and code are what the repository holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.experiments import result_files
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", result_files.DOCUMENTS, ids=lambda path: path.name)
def test_result_tables_are_the_files(document: Path) -> None:
    tables = result_files.BLOCK.findall(document.read_text(encoding="utf-8"))
    assert tables
    for file, titles, table in tables:
        rows = (ROOT / file).read_text(encoding="utf-8").splitlines()
        if titles:  # some rows, in the order named
            rows = rows[:2] + [
                row for title in titles.splitlines()[1:] for row in rows if row.startswith(f"| {title} |")
            ]
        assert table.splitlines() == rows, file


def test_the_readme_has_one_table_of_six_rows() -> None:
    ((_, titles, table),) = result_files.BLOCK.findall(README)
    assert len(titles.splitlines()) - 1 == len(table.splitlines()) - 2 == 6


def test_tables_are_refreshed_with_the_rows_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "README.md"
    document.write_text(re.sub(r"^\| Full supervision.*\n", "", README, flags=re.MULTILINE), encoding="utf-8")
    monkeypatch.setattr(result_files, "DOCUMENTS", (document,))
    result_files.refresh_documents()
    assert document.read_text(encoding="utf-8") == README


def test_a_row_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="found 0 rows 'none such'"):
        result_files.chosen_rows("| a |\n| --- |\n| b |\n", ["none such"])


def test_the_readme_takes_two_minutes() -> None:
    prose = re.sub(r"```.*?```|<!--.*?<!-- end -->", "", README, flags=re.DOTALL)
    assert len(prose.split()) < 400  # 200 words a minute
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert 10 <= len([line for line in code.splitlines() if line]) <= 15


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_local_links_and_pictures_exist(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_readme_has_links() -> None:
    assert re.search(r"\]\((?!https?:)([^)#]+)\)", README)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_config_files_named_exist(document: Path) -> None:
    named = re.findall(
        r"'(configs/[^']+\.yaml)'|(?<![\w/])(bundles/[\w/]+\.yaml)", document.read_text(encoding="utf-8")
    )
    assert [name for names in named for name in names if name and not (ROOT / name).is_file()] == []


def test_config_files_are_named() -> None:
    pages = " ".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert set(re.findall(r"'((?:bundles|configs)/[^']+\.yaml)'", pages))


def test_contributing_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = {file.parent.name for file in (ROOT / "sizeloss_monai").glob("*/__init__.py")}
    picture = text.partition("```text\n")[2].partition("```")[0]
    table = text.partition("| room in `sizeloss_monai/` |")[2].partition("\n\n")[0]
    assert rooms == set(re.findall(r"`(\w+)/`", table))
    assert rooms <= set(picture.split())


def test_the_training_page_lists_every_bundle_and_overlays_that_exist() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    bundles = re.findall(r"^\| \[`(\w+)`\]", text, flags=re.MULTILINE)
    assert set(bundles) == {folder.name for folder in (ROOT / "bundles").iterdir() if folder.is_dir()}
    overlays = re.findall(r"^\| `(\w+\.yaml)`", text, flags=re.MULTILINE)
    assert len(overlays) > 10
    assert set(overlays) <= {file.name for file in (ROOT / "configs").glob("*/*.yaml")}
