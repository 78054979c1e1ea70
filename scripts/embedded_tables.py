"""Result tables in the documents are copies of the files in docs/results: this copies them anew."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "paper.md")
BLOCK = re.compile(r"<!-- (docs/results/\S+\.md) -->\n(.*?)<!-- end -->", flags=re.DOTALL)


def refresh() -> None:
    """Replace every marked table by its file's content."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")

        def copy(match: re.Match[str]) -> str:
            return f"<!-- {match[1]} -->\n{(ROOT / match[1]).read_text(encoding='utf-8')}<!-- end -->"

        renewed = BLOCK.sub(copy, text)
        if renewed != text:
            document.write_text(renewed, encoding="utf-8")
            print("updated", document)


if __name__ == "__main__":
    refresh()
