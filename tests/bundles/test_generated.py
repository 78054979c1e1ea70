"""Bundles are what their source says, and the script that makes them merges as it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from scripts.tools import make_bundles
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLES

BASE = """# top
a: 1 # one

# ---- part
# about b
b:
  # about c
  c: [1,
    2]
  d: 3
b#x:
  - y
"""


def test_bundles_are_what_their_source_says() -> None:
    assert make_bundles.differing(ROOT) == {}, "run python -m scripts.tools.make_bundles"


def test_every_bundle_has_a_source() -> None:
    sources = {path.name for path in (ROOT / "bundle_source").iterdir()}
    assert sources == {*BUNDLES, "shared"}


def append(path: Path) -> None:
    path.write_text(path.read_text() + "extra: 1\n")


@pytest.mark.parametrize(
    ("file", "change", "differ"),
    [
        ("bundles/prostate_t2_segmentation/configs/train.yaml", append, 1),
        ("bundles/prostate_t2_segmentation/LICENSE", Path.unlink, 1),
        ("bundle_source/shared/configs/evaluate.yaml", append, len(BUNDLES)),
        ("bundle_source/prostate_t2_segmentation/configs/train.yaml", append, 1),
        ("configs/protocols/augmented_copies.yaml", append, 1),
    ],
)
def test_a_drift_is_seen(tmp_path: Path, file: str, change: Callable[[Path], Any], differ: int) -> None:
    for folder in ("bundles", "bundle_source", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("models"))
    shutil.copy(ROOT / "LICENSE", tmp_path)
    assert make_bundles.differing(tmp_path) == {}
    change(tmp_path / file)
    assert len(make_bundles.differing(tmp_path)) == differ


@pytest.mark.parametrize(
    ("layer", "old", "new"),
    [
        ("\na: 2", "a: 1 # one", "a: 2"),
        ("# other\n\na: 2", "# top\na: 1 # one", "# other\na: 2"),
        ("\nb: 2", "b:\n  # about c\n  c: [1,\n    2]\n  d: 3\n", "b: 2\n"),
        ("\n# new\nb: 2", "# about b\nb:\n  # about c\n  c: [1,\n    2]\n  d: 3\n", "# new\nb: 2\n"),
        ("\nb#c:\n  - 4", "  c: [1,\n    2]\n", "  c:\n    - 4\n"),
        ("\nb#c: 1\nb#e: 5", "  c: [1,\n    2]\n", "  c: 1\n  e: 5\n"),
        ("\nb#d: 4\nb#e: 5", "  d: 3\n", "  d: 4\n  e: 5\n"),
        ("\na: 1 # one\nz: 3", "a: 1 # one\n", "a: 1 # one\nz: 3\n"),
        ("\nq#r: 4", "  - y\n", "  - y\nq#r: 4\n"),
        ("\nb#x: 4", "b#x:\n  - y\n", "b#x: 4\n"),
        ("\nq: 4", "  - y\n", "  - y\nq: 4\n"),
    ],
)
def test_merge(layer: str, old: str, new: str) -> None:
    assert BASE.count(old) == 1
    merged = make_bundles.merge_yaml(BASE, layer)
    assert merged == BASE.replace(old, new)
    yaml.safe_load(merged)


@pytest.mark.parametrize(("path", "lines"), [("b#c", "  # about c\n  c: [1,\n    2]\n"), ("b#x", "b#x:\n  - y\n")])
def test_an_item_is_left_out(path: str, lines: str) -> None:
    assert make_bundles.merge_yaml(BASE, "", [path]) == BASE.replace(lines, "")


@pytest.mark.parametrize("layer", ["\n  - stray\nb: 1", "\na: {"])
def test_merge_refuses_what_is_no_yaml(layer: str) -> None:
    with pytest.raises(YAMLError):
        make_bundles.merge_yaml(BASE, layer)


@pytest.mark.parametrize(
    "file",
    [path for folder in ("bundle_source", "configs") for path in sorted((ROOT / folder).rglob("*.yaml"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_a_source_names_each_item_once(file: Path) -> None:
    YAML(typ="safe").load(file)  # raises DuplicateKeyError
