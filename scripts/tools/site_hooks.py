"""What MkDocs does not do by itself for the site; mkdocs.yml names this file among its hooks.

- README.md, CONTRIBUTING.md and CHANGELOG.md lie in the project's root and become pages.
- A notebook in docs/ becomes a page with the outputs that it was saved with.
- Every other file outside docs/ that a page links to becomes a page under ``repository/``; a module's is its API page.
- Each package gets an API page, whose text mkdocstrings takes from the docstrings.
- reStructuredText of the docstrings (roles, ``.. math::``, doctests) becomes Markdown, and MathML without a script.
"""

from __future__ import annotations

import base64
import posixpath
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import nbformat
from latex2mathml.converter import convert_to_element
from markdown import Markdown
from markdown.blockprocessors import BlockProcessor
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PACKAGE = "sizeloss_monai"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(?=[)#])")
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
CODE = {".py": "python", ".yaml": "yaml", ".json": "json", ".csv": "text", ".sh": "bash", "": "text"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the API pages in the navigation, and let Markdown understand the docstrings."""
    for entry in config.nav or []:
        if isinstance(entry, dict) and "API" in entry:
            entry["API"] = [{"Packages": "api/index.md"}, *({name: f"api/{name}.md"} for name in _packages(config))]
    config.markdown_extensions.append(DocstringExtension())  # an instance serves as well as a name
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    packages = _packages(config)
    lines = [f"- [`{PACKAGE}.{name}`]({name}.md): {_summary(config, name)}" for name in packages]
    lines = ["# Packages", "", "What each package holds, from its docstrings.", "", *lines, ""]
    files.append(File.generated(config, "api/index.md", content="\n".join(lines)))
    for name in packages:
        files.append(File.generated(config, f"api/{name}.md", content=_api_page(config, name)))

    root, docs = _root(config), Path(config.docs_dir)
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(notebook)
        for uri, content in _notebook_page(docs / notebook.src_uri, notebook.src_uri).items():
            files.append(File.generated(config, uri, content=content))

    waiting = [root / name for name in ROOT_PAGES]
    for page in files.documentation_pages():
        if page.generated_by is None:
            waiting += _linked(docs / page.src_uri)
    while waiting:
        file = waiting.pop()
        uri = _uri(config, file)
        if not file.is_file() or file.is_relative_to(docs) or uri.startswith("api/") or files.get_file_from_path(uri):
            continue
        if file.suffix == ".md":
            files.append(File.generated(config, uri, content=file.read_text(encoding="utf-8")))
            waiting += _linked(file)
        elif file.suffix in CODE:
            title, text = file.relative_to(root), file.read_text(encoding="utf-8")
            page_text = f"# `{title}`\n\n~~~~{CODE[file.suffix]}\n{text}\n~~~~\n"
            files.append(File.generated(config, uri, content=page_text))
        else:
            files.append(File.generated(config, uri, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to where the site has their files."""
    origin = next((name for name, uri in ROOT_PAGES.items() if uri == page.file.src_uri), "")
    origin = origin or page.file.src_uri.removeprefix("repository/")
    place = _root(config) if page.file.generated_by else Path(config.docs_dir)
    folder = (place / origin).parent

    def moved(match: re.Match[str]) -> str:
        file = Path(posixpath.normpath(folder / match[1]))
        if not file.exists():
            return match[0]  # MkDocs names the broken link
        return posixpath.relpath(_uri(config, file), posixpath.dirname(page.file.src_uri) or ".")

    markdown = markdown.replace(" ± ", "\u00a0±\u00a0")  # so that no narrow column splits a score
    return LINK.sub(moved, markdown) if not page.file.src_uri.startswith("api/") else markdown


def _root(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent


def _packages(config: MkDocsConfig) -> list[str]:
    return sorted(file.parent.name for file in (_root(config) / PACKAGE).glob("*/__init__.py"))


def _summary(config: MkDocsConfig, package: str) -> str:
    """The first line of a package's docstring."""
    text = (_root(config) / PACKAGE / package / "__init__.py").read_text(encoding="utf-8")
    return text.split('"""')[1].splitlines()[0].replace("``", "`")


def _api_page(config: MkDocsConfig, package: str) -> str:
    """Each module that says what is public in it, with what that is."""
    folder = _root(config) / PACKAGE
    lines = [f"# {PACKAGE}.{package}", "", _summary(config, package), ""]
    for file in sorted((folder / package).rglob("*.py")):
        if "__all__" in file.read_text(encoding="utf-8") and file.name != "__init__.py":
            lines += [f"::: {'.'.join([PACKAGE, *file.relative_to(folder).with_suffix('').parts])}", ""]
    return "\n".join(lines)


def _notebook_page(notebook: Path, uri: str) -> dict[str, str | bytes]:
    """The Markdown of a notebook, and its pictures, by their places in the site."""
    name = notebook.stem
    lines: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        if printed:
            lines += ["```text", printed.rstrip("\n"), "```", ""]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                picture = f"{name}_{len(pictures)}.png"
                pictures[posixpath.join(posixpath.dirname(uri), picture)] = base64.b64decode(output.data["image/png"])
                lines += [f"![Picture {len(pictures)} of the notebook]({picture})", ""]
    return {uri.replace(".ipynb", ".md"): "\n".join(lines), **pictures}


def _linked(file: Path) -> list[Path]:
    """The files that a Markdown file links to."""
    if not file.is_file():
        return []
    return [Path(posixpath.normpath(file.parent / link)) for link in LINK.findall(file.read_text(encoding="utf-8"))]


def _uri(config: MkDocsConfig, file: Path) -> str:
    """Where the site has a file of the repository."""
    docs = Path(config.docs_dir)
    if file.is_relative_to(docs):
        return file.relative_to(docs).as_posix().replace(".ipynb", ".md")
    path = file.relative_to(_root(config))
    if path.as_posix() in ROOT_PAGES:
        return ROOT_PAGES[path.as_posix()]
    if path.parts[0] == PACKAGE and len(path.parts) > 1:
        return f"api/{path.parts[1]}.md"
    return f"repository/{path.as_posix()}" + (".md" if file.suffix in CODE else "")


class _Doctests(Preprocessor):
    """Doctests become fenced code: Markdown would take ``>>>`` for quotations."""

    def run(self, lines: list[str]) -> list[str]:
        written: list[str] = []
        inside = False
        for line in [*lines, ""]:
            if not inside and line.lstrip().startswith(">>> "):
                written += ["", "```pycon"]
                inside = True
            elif inside and not line.strip():
                written.append("```")
                inside = False
            written.append(line)
        return written


class _Role(InlineProcessor):
    """``:class:`Name``` becomes code, ``:math:`x``` MathML."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Element, int, int]:  # noqa: N802
        if m[1] == "math":
            return convert_to_element(m[2]), m.start(0), m.end(0)
        element = Element("code")
        element.text = m[2].split(".")[-1] if m[2].startswith("~") else m[2]
        return element, m.start(0), m.end(0)


class _MathBlock(BlockProcessor):
    """``.. math::`` with an indented formula becomes a block of MathML."""

    START = re.compile(r"^\.\. math::\s*")

    def test(self, parent: Element, block: str) -> bool:
        return bool(self.START.match(block))

    def run(self, parent: Element, blocks: list[str]) -> None:
        formula = self.START.sub("", blocks.pop(0))
        parent.append(convert_to_element(" ".join(formula.split()), display="block"))


class DocstringExtension(Extension):
    """What of reStructuredText the docstrings use."""

    def extendMarkdown(self, md: Markdown, **_: Any) -> None:  # noqa: N802
        """Register the processors before Markdown's own for quotations and code."""
        md.preprocessors.register(_Doctests(md), "doctests", 29)
        md.inlinePatterns.register(_Role(r":(class|func|data|meth|mod|math):`([^`]+)`", md), "roles", 195)
        md.parser.blockprocessors.register(_MathBlock(md.parser), "math_block", 95)
