"""The examples in the package's docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.support import ROOT

# without importing what has no example
MODULES = [
    file for file in sorted((ROOT / "sizeloss_monai").rglob("*.py")) if ">>>" in file.read_text(encoding="utf-8")
]


def name_of(file: Path) -> str:
    """The module's name."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_examples(file: Path) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name_of(file))):
        runner.run(example, out=report.append)
    assert runner.tries > 0, "an example that doctest does not find, such as one in a comment"
    assert runner.failures == 0, "".join(report)


def test_the_package_has_examples() -> None:
    assert MODULES
