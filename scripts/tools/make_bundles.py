"""Write every bundle's configs, docs and LICENSE from one source.

    python -m scripts.tools.make_bundles          # after a change in bundle_source/
    python -m scripts.tools.make_bundles --check  # compare only: fails where a bundle differs from its source

A task's config is an overlay on that of `bundle_source/shared`, as in MONAI: `a#b` names item `b` of section `a`. One
that has a `bundle_root` is complete in itself. Items of a task's `common.yaml` replace those of all its configs.
Comments stay with their items. `<task>` stands for the task's name; in Markdown, `<shared>` for the shared text.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node

from scripts import ROOT

SOURCE, SHARED, COMMON = "bundle_source", "shared", "common.yaml"
# what lies between the shared config and the task's, and the items that a task has no use for
BELOW = {"prostate_t2_segmentation/configs/train.yaml": "configs/protocols/augmented_copies.yaml"}
UNUSED = {"hippocampus_3d_segmentation/configs/inference.yaml": ("slice_size", "slice_axis")}


class Item(NamedTuple):
    """An item of a mapping in a text: from the comment right above its key to the line before the next item."""

    key: str
    value: Node
    first: int
    key_line: int
    end: int
    indent: str


_compose = lru_cache(maxsize=8)(YAML(pure=True).compose)


def items(lines: Sequence[str], node: Node | None = None, end: int = 0) -> Iterator[Item]:
    """The items of a mapping in a YAML text, by default the whole text's. Lines `# ---- …` belong to no item."""
    node = node or _compose("\n".join(lines))
    pairs = node.value if isinstance(node, MappingNode) and not node.flow_style else []
    firsts = []
    for key, _ in pairs:
        firsts.append(key.start_mark.line)
        while firsts[-1] and re.match(r" *#(?! ----)", lines[firsts[-1] - 1]):
            firsts[-1] -= 1
    for (key, value), first, stop in zip(pairs, firsts, [*firsts[1:], end or len(lines)], strict=False):
        while re.match(r" *(# ----|$)", lines[stop - 1]):
            stop -= 1
        yield Item(key.value, value, first, key.start_mark.line, stop, " " * key.start_mark.column)


def find(lines: Sequence[str], path: str, inside: Item | None = None) -> Item | None:
    """The item with that MONAI id."""
    for item in items(lines, *((inside.value, inside.end) if inside else ())):
        if item.key == path:
            return item
        if path.startswith(f"{item.key}#") and (found := find(lines, path.removeprefix(f"{item.key}#"), item)):
            return found
    return None


def merge_yaml(base: str, layer: str, drop: Sequence[str] = ()) -> str:
    """Put every item of one YAML text into the place of its namesake in another.

    Args:
        base: the text to change.
        layer: the items. A new one comes after the one before it in `layer`, or last in its section. A comment at the
            top, up to an empty line, takes the place of that of `base`.
        drop: ids of items to leave out.
    """
    lines, new = base.splitlines(), layer.splitlines()
    if re.match(r"(#.*\n)+\n", layer):
        lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")] = new[: new.index("")]
    previous = ""
    for item in items(new):
        old, before, section = (find(lines, path) for path in (item.key, previous, item.key.rpartition("#")[0]))
        comment, body, previous = new[item.first : item.key_line], new[item.key_line : item.end], item.key
        if old:
            key, indent, first, end = old.key, old.indent, old.first, old.end
            comment = comment or [line.strip() for line in lines[first : old.key_line]]
        else:
            inner = next(items(lines, section.value, section.end), None) if section else None
            key, indent = (item.key.rpartition("#")[2], inner.indent) if inner else (item.key, "")
            place = before if before and before.indent == indent else section
            first = end = place.end if place else len(lines)
        body[0] = key + body[0].removeprefix(item.key)
        lines[first:end] = [indent + line if line else line for line in (*comment, *body)]
    for item in filter(None, (find(lines, path) for path in drop)):
        if old := find(lines, item.key):
            del lines[old.first : old.end]
    return "\n".join(lines) + "\n"


def make_file(root: Path, task: str, file: str) -> str:
    """One file of a bundle."""
    sources = (f"{SOURCE}/{SHARED}/{file}", f"{SOURCE}/{task}/{file}", BELOW.get(f"{task}/{file}", "no file"))
    shared, own, below = ((root / path).read_text("utf-8") if (root / path).is_file() else "" for path in sources)
    if file.endswith(".json"):
        text = json.dumps(json.loads(shared) | json.loads(own or "{}"), indent=4, ensure_ascii=False) + "\n"
        short = r"(?<=[\[{])\n[^\[\]{}]{,60}\n *(?=[\]}])"  # lists and objects that fit into a line
        return re.sub(short, lambda found: " ".join(found[0].split()), text)
    if file.endswith(".md"):
        config = YAML(typ="safe").load(make_file(root, task, "configs/train.yaml"))
        return own.replace("<shared>\n", shared).replace("<dataset_dir>", config["dataset_dir"])
    if not file.endswith(".yaml"):
        return own or shared
    complete = not shared or re.search("^bundle_root:", own, re.MULTILINE)
    text = own if complete else merge_yaml(merge_yaml(shared, below[below.find("\n\n") + 1 :]), own)
    common = (root / SOURCE / task / COMMON).read_text("utf-8").splitlines()
    kept = [
        line for item in items(common) if find(text.splitlines(), item.key) for line in common[item.first : item.end]
    ]
    text = merge_yaml(text, "\n".join(kept), UNUSED.get(f"{task}/{file}", ()))
    return (
        f"# Made by scripts/tools/make_bundles.py from {SOURCE}/{task} and {SOURCE}/{SHARED}: change it there.\n{text}"
    )


def make_all(root: Path) -> dict[str, str]:
    """The generated files of all bundles, texts by path relative to the project's folder."""
    made: dict[str, str] = {}
    for task in sorted(path.name for path in (root / SOURCE).iterdir() if path.name != SHARED):
        folders = [root / SOURCE / layer for layer in (SHARED, task)]
        files = {p.relative_to(f).as_posix() for f in folders for p in f.rglob("*.*") if p.name != COMMON}
        made |= {
            f"bundles/{task}/{file}": make_file(root, task, file).replace("<task>", task) for file in sorted(files)
        }
        made[f"bundles/{task}/LICENSE"] = (root / "LICENSE").read_text("utf-8")
    return made


def differing(root: Path) -> list[str]:
    """The generated files that are not what their source says, relative to the project's folder."""
    made = make_all(root)
    return [p for p in made if not (root / p).is_file() or (root / p).read_text("utf-8") != made[p]]


def main() -> None:
    """Parse the command line, write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 where a file differs")
    changed = differing(ROOT)
    if parser.parse_args().check and changed:
        raise SystemExit("not what the source says, run python -m scripts.tools.make_bundles:\n" + "\n".join(changed))
    made = make_all(ROOT)
    for path in changed:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(made[path], "utf-8")
        print("wrote", path)


if __name__ == "__main__":
    main()
