"""The README's numbers and code are what the repository holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_result_tables_are_the_files() -> None:
    tables = re.findall(r"<!-- (docs/results/\S+\.md) -->\n(.*?)<!-- end -->", README, flags=re.DOTALL)
    assert tables
    for file, text in tables:
        assert text.strip() == (ROOT / file).read_text(encoding="utf-8").strip(), file


def test_local_links_and_pictures_exist() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_config_files_named_exist() -> None:
    named = set(re.findall(r"'((?:bundles|configs)/[^']+\.yaml)'", README))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
