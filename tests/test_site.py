"""The site builds without a broken link, and asks no other server for anything."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

pytest.importorskip("mkdocs", reason="the extra [docs] is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, where no proxy answers."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = "http://127.0.0.1:9"
    offline = {name: nowhere for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **offline, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_pages_load_nothing_from_other_servers(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*\shref=\"?(?:https?:)?//")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    assert [str(page) for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []
    assert [str(style) for style in site.rglob("*.css") if "//fonts." in style.read_text(encoding="utf-8")] == []


def test_every_package_has_a_page_with_what_it_says_is_public(site: Path) -> None:
    packages = sorted(file.parent.name for file in (ROOT / "sizeloss_monai").glob("*/__init__.py"))
    overview = (site / "api" / "index.html").read_text(encoding="utf-8")
    for package in packages:
        page = (site / "api" / f"{package}.html").read_text(encoding="utf-8")
        assert f'href="{package}.html"' in overview
        for file in (ROOT / "sizeloss_monai" / package).glob("[!_]*.py"):
            source = file.read_text(encoding="utf-8")
            public = re.search(r"__all__ = \[(.*?)\]", source, flags=re.DOTALL)
            for name in re.findall(r'"(\w+)"', public[1]) if public else []:
                if re.search(rf"^(?:def|class) {name}\b", source, flags=re.MULTILINE):
                    assert f'id="sizeloss_monai.{package}.{file.stem}.{name}"' in page


def test_docstrings_are_shown_without_markup_of_another_kind(site: Path) -> None:
    pages = {page: re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")) for page in (site / "api").rglob("*.html")}
    assert [
        page.name for page, text in pages.items() if re.search(r":(?:class|func|math|meth|mod):|\.\. math::", text)
    ] == []
    losses = html.unescape((site / "api" / "losses.html").read_text(encoding="utf-8"))
    assert "<math" in losses
    assert "<blockquote>" not in losses, "a doctest that Markdown took for a quotation"


def test_the_notebook_is_a_page_with_pictures(site: Path) -> None:
    page = (site / "first_steps.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="(first_steps_\d+\.png)"', page)
    assert len(pictures) >= 2
    assert all((site / picture).stat().st_size > 10_000 for picture in pictures)


def test_files_outside_docs_have_pages(site: Path) -> None:
    for page in ("index", "contributing", "changelog", "repository/bundles/cine_lv_segmentation/docs/index"):
        assert (site / f"{page}.html").is_file(), page
