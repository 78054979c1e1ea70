"""The documents' numbers, links and code are what the repository holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs" / "paper.md"], ids=lambda path: path.name)
def test_result_tables_are_the_files(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    tables = re.findall(r"<!-- (docs/results/\S+\.md) -->\n(.*?)<!-- end -->", text, flags=re.DOTALL)
    assert tables
    for file, table in tables:
        assert table.strip() == (ROOT / file).read_text(encoding="utf-8").strip(), file


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_local_links_and_pictures_exist(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_readme_has_links() -> None:
    assert re.search(r"\]\((?!https?:)([^)#]+)\)", README)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_config_files_named_exist() -> None:
    named = set(re.findall(r"'((?:bundles|configs)/[^']+\.yaml)'", README))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
