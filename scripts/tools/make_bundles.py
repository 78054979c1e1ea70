"""Write every bundle's configs, docs and LICENSE from bundle_source/: `python -m scripts.tools.make_bundles [--check]`.

A task's config is an overlay on that of `bundle_source/shared`, as in MONAI: `a#b` names item `b` of section `a`. One
that has a `bundle_root` is complete in itself. Items of a task's `common.yaml` replace those of all its configs.
`<task>` stands for the task's name; in Markdown, `<shared>` for the shared text.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import namedtuple
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node

from scripts import ROOT

SOURCE, SHARED, COMMON = "bundle_source", "shared", "common.yaml"
# what lies between the shared config and the task's, and the items that a task has no use for
BELOW = {"prostate_t2_segmentation/configs/train.yaml": "configs/protocols/augmented_copies.yaml"}
UNUSED = {"hippocampus_3d_segmentation/configs/inference.yaml": ("slice_size", "slice_axis")}
# an item of a mapping in a text: from the comment right above its key to the line before the next item
Item = namedtuple("Item", "key value first key_line end indent")
_compose = lru_cache(maxsize=8)(YAML(pure=True).compose)


def items(lines: Sequence[str], node: Node | None = None, end: int = 0) -> Iterator[Item]:
    """The items of a mapping in a YAML text, by default the whole text's. Lines `# ---- …` belong to no item."""
    node = node or _compose("\n".join(lines))
    pairs = node.value if isinstance(node, MappingNode) and not node.flow_style else []
    firsts = [key.start_mark.line for key, _ in pairs]
    for index, first in enumerate(firsts):
        while first and re.match(r" *#(?! ----)", lines[first - 1]):
            firsts[index] = first = first - 1
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
    """Put items into the place of their namesakes, new ones after the item before them in `layer`; drop some."""
    lines, new, previous = base.splitlines(), layer.splitlines(), ""
    if re.match(r"(#.*\n)+\n", layer):  # a comment at the top, up to an empty line, replaces that of `base`
        lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")] = new[: new.index("")]
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
    for old in filter(None, (find(lines, path) for path in drop)):
        del lines[old.first : old.end]
    return "\n".join(lines) + "\n"


def make_file(root: Path, task: str, file: str) -> str:
    """One file of a bundle."""
    sources = (f"{SOURCE}/{SHARED}/{file}", f"{SOURCE}/{task}/{file}", BELOW.get(f"{task}/{file}", "no file"))
    shared, own, below = ((root / path).read_text("utf-8") if (root / path).is_file() else "" for path in sources)
    if file.endswith(".json"):  # short lists in a line
        text = json.dumps(json.loads(shared) | json.loads(own), indent=4, ensure_ascii=False) + "\n"
        return re.sub(r"(?<=[\[{])\n[^\[\]{}]{,60}\n *(?=[\]}])", lambda short: " ".join(short[0].split()), text)
    if file.endswith(".md"):
        dataset_dir = re.findall("\ndataset_dir: (.*)", make_file(root, task, "configs/train.yaml"))[0]
        return own.replace("<shared>\n", shared).replace("<dataset_dir>", dataset_dir)
    if not file.endswith(".yaml"):
        return own or shared
    is_overlay = shared and "\nbundle_root:" not in own
    text = merge_yaml(merge_yaml(shared, below[below.find("\n\n") + 1 :]), own) if is_overlay else own
    common = (root / SOURCE / task / COMMON).read_text("utf-8").splitlines()
    known = ["\n".join(common[i.first : i.end]) for i in items(common) if find(text.splitlines(), i.key)]
    text = merge_yaml(text, "\n".join(known), UNUSED.get(f"{task}/{file}", ()))
    return f"# Made by scripts/tools/make_bundles.py from {SOURCE}/: change it there.\n{text}"


def differing(root: Path) -> dict[str, str]:
    """The texts of the generated files that are not what their source says, by path in the project."""
    made: dict[str, str] = {}
    for task in sorted(path.name for path in (root / SOURCE).iterdir() if path.name != SHARED):
        folders = [root / SOURCE / layer for layer in (SHARED, task)]
        files = {p.relative_to(f).as_posix() for f in folders for p in f.rglob("*.*") if p.name != COMMON}
        made |= {f"bundles/{task}/{file}": make_file(root, task, file).replace("<task>", task) for file in files}
        made[f"bundles/{task}/LICENSE"] = (root / "LICENSE").read_text("utf-8")
    return {p: made[p] for p in sorted(made) if not (root / p).is_file() or (root / p).read_text("utf-8") != made[p]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 where a file differs")
    check, changed = parser.parse_args().check, differing(ROOT)
    for name in changed:
        print("differs:" if check else "writes", name)
        if not check:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(changed[name], "utf-8")
    raise SystemExit(check and bool(changed))
