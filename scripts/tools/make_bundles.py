"""Write every bundle's configs, docs and LICENSE from one source, so that nobody keeps near-copies by hand.

    python -m scripts.tools.make_bundles          # after a change in bundle_source/
    python -m scripts.tools.make_bundles --check  # compare only: fails where a bundle is not what its source says

A file of a bundle is `bundle_source/shared/<file>` with the blocks of `bundle_source/<task>/<file>` in the place of its
own. A block is a key with all below it and the comment right above it; `a#b` names block `b` inside block `a`, as in
MONAI's overlays. A block that is new comes after the task's block before it, `key: !remove` takes one away,
and a task's comment at the top of the file takes the place of the shared one. A first line `# on top of: <file>` merges
that file of the project first. Blocks of `bundle_source/<task>/common.yaml` replace those of every shared file that has
them. In JSON files the task's keys replace the shared ones; Markdown is the task's, with the shared text where it says
`<shared>`. `<task>` stands for the task's name. What is in the task's folder alone is copied.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts import ROOT

SOURCE = "bundle_source"
SHARED = "shared"
COMMON = "common.yaml"
REMOVE = "!remove"
ON_TOP_OF = "# on top of: "
SECTION = "# ---- "


@dataclass
class Block:
    """A key of a mapping with its comment and all below it; without a key, lines between two of them."""

    key: str | None
    comment: list[str]
    lines: list[str]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def split_blocks(lines: list[str]) -> list[Block]:
    """Split the text of a YAML mapping.

    Args:
        lines: of the mapping, all indented at least as far as its keys.

    Returns:
        Blocks that hold every line once, in order.

    Raises:
        ValueError: when a line is no key and below none, or a key comes twice.
    """
    depth = min((_indent(line) for line in lines if line.strip()), default=0)
    blocks: list[Block] = []
    comment: list[str] = []
    for line in lines:
        text = line[depth:]
        key = re.match(r"([^\s#:-][^:]*):(\s|$)", text)
        if text.startswith(SECTION) or not text.strip():
            blocks.append(Block(None, [], [*comment, line]))
            comment = []
        elif text.startswith("#"):
            comment.append(line)
        elif key:
            blocks.append(Block(key[1], comment, [line]))
            comment = []
        elif text.startswith((" ", "- ")) and blocks and blocks[-1].key and not comment:
            blocks[-1].lines.append(line)
        else:
            raise ValueError(f"no key, and below none: {line!r}")
    keys = [block.key for block in blocks if block.key]
    if len(set(keys)) < len(keys):
        raise ValueError(f"a key comes twice among {keys}")
    return [*blocks, Block(None, [], comment)] if comment else blocks


def _removes(block: Block) -> bool:
    return block.lines[0].split(":", 1)[1].strip() == REMOVE


def _find(blocks: list[Block], key: str) -> int | None:
    return next((index for index, block in enumerate(blocks) if block.key == key), None)


def put(lines: list[str], path: str, block: Block, after: str | None = None) -> list[str]:
    """Replace, add or remove one block of a mapping.

    Args:
        lines: of the mapping.
        path: the block's place, such as ``a`` or ``a#b``.
        block: the new block, not indented; without a comment the replaced block's stays.
        after: the key after which a new block goes; at the end by default.

    Returns:
        The lines of the changed mapping.

    Raises:
        ValueError: when there is no mapping to put it into, or nothing to remove.
    """
    blocks = split_blocks(lines)
    found = _find(blocks, path)
    if found is None and "#" in path:
        # the block around it may itself have a name such as `a#b`
        parents = [b for b in blocks if b.key and path.startswith(f"{b.key}#") and b.lines[1:]]
        if not parents:
            raise ValueError(f"{path!r}: there is no block to put it into")
        parent = max(parents, key=lambda b: len(str(b.key)))
        prefix = f"{parent.key}#"
        before = after.removeprefix(prefix) if after and after.startswith(prefix) else None
        parent.lines[1:] = put(parent.lines[1:], path.removeprefix(prefix), block, before)
    else:
        depth = " " * min((_indent(line) for line in lines if line.strip()), default=0)
        head = block.lines[0].split(":", 1)[1]
        new = Block(path, [depth + line for line in block.comment], [f"{depth}{path}:{head}"])
        new.lines += [depth + line for line in block.lines[1:]]
        if _removes(block):
            if found is None:
                raise ValueError(f"{path!r} cannot be removed: there is none")
            del blocks[found]
        elif found is not None:
            new.comment = new.comment or blocks[found].comment
            blocks[found] = new
        else:
            previous = None if after is None else _find(blocks, after)
            blocks.insert(len(blocks) if previous is None else previous + 1, new)
    return [line for block in blocks for line in (*block.comment, *block.lines)]


def split_header(text: str) -> tuple[list[str], list[str]]:
    """The comment at the top of a file, and the rest."""
    lines = text.splitlines()
    end = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end], lines[end:]


def merge_yaml(base: str, layer: str) -> str:
    """Put every block of one YAML text in the place of its namesake in another.

    Args:
        base: the text to change.
        layer: the blocks; its comment at the top of the file, if any, takes the place of that of `base`.
    """
    header, lines = split_header(base)
    layer_header, layer_lines = split_header(layer)
    blocks = [block for block in split_blocks(layer_lines) if block.key]
    before = dict(zip((block.key for block in blocks), [None, *(block.key for block in blocks)], strict=False))
    # what is removed goes last: until then a new block can find its place after it
    for block in sorted(blocks, key=_removes):
        lines = put(lines, str(block.key), block, after=before[block.key])
    return "\n".join([*(layer_header or header), *lines]) + "\n"


def make_yaml(root: Path, task: str, file: str) -> str:
    """One YAML file of a bundle, see the top of this module."""
    text = (root / SOURCE / SHARED / file).read_text(encoding="utf-8")
    common = root / SOURCE / task / COMMON
    if common.is_file():
        keys = {block.key for block in split_blocks(split_header(text)[1])}
        blocks = split_blocks(split_header(common.read_text(encoding="utf-8"))[1])
        lines = [line for block in blocks if block.key in keys for line in (*block.comment, *block.lines)]
        text = merge_yaml(text, "\n".join(["", *lines]))
    own = root / SOURCE / task / file
    if own.is_file():
        layer = own.read_text(encoding="utf-8")
        if layer.startswith(ON_TOP_OF):
            first, layer = layer.split("\n", 1)
            below = (root / first.removeprefix(ON_TOP_OF)).read_text(encoding="utf-8")
            text = merge_yaml(text, "\n".join(split_header(below)[1]))
        text = merge_yaml(text, layer)
    return (
        f"# Made by scripts/tools/make_bundles.py from {SOURCE}/{task} and {SOURCE}/{SHARED}: change it there.\n{text}"
    )


def make_json(root: Path, task: str, file: str) -> str:
    """One JSON file of a bundle."""
    merged: dict[str, object] = {}
    for layer in (SHARED, task):
        merged |= json.loads((root / SOURCE / layer / file).read_text(encoding="utf-8"))
    text = json.dumps(merged, indent=4, ensure_ascii=False)
    # short lists and objects in one line each
    return re.sub(r"(?<=[\[{])\n[^\[\]{}]{,60}\n *(?=[\]}])", lambda found: " ".join(found[0].split()), text) + "\n"


def make_markdown(root: Path, task: str, file: str) -> str:
    """One Markdown file of a bundle: the task's, with the shared text in the place of `<shared>`."""
    shared, own = ((root / SOURCE / layer / file).read_text(encoding="utf-8") for layer in (SHARED, task))
    dataset_dir = yaml.safe_load(make_yaml(root, task, "configs/train.yaml"))["dataset_dir"]
    return own.replace("<shared>\n", shared).replace("<dataset_dir>", dataset_dir)


def make_bundle(root: Path, task: str) -> dict[str, str]:
    """The generated files of a bundle.

    Args:
        root: the project's folder.
        task: name of the bundle.

    Returns:
        Texts by path, relative to `root`.
    """
    made = {"LICENSE": (root / "LICENSE").read_text(encoding="utf-8")}
    shared, own = root / SOURCE / SHARED, root / SOURCE / task
    for folder in (shared, own):
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != own / COMMON):
            file = path.relative_to(folder).as_posix()
            make = {".yaml": make_yaml, ".json": make_json, ".md": make_markdown}.get(path.suffix)
            made[file] = make(root, task, file) if make else path.read_text(encoding="utf-8")
    return {f"bundles/{task}/{file}": text.replace("<task>", task) for file, text in made.items()}


def make_all(root: Path) -> dict[str, str]:
    """The generated files of all bundles, texts by path relative to the project's folder."""
    tasks = sorted(path.name for path in (root / SOURCE).iterdir() if path.is_dir() and path.name != SHARED)
    return {path: text for task in tasks for path, text in make_bundle(root, task).items()}


def differing(root: Path) -> list[str]:
    """The generated files that are not what their source says, relative to the project's folder."""
    return [
        path
        for path, text in make_all(root).items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]


def main() -> None:
    """Parse the command line, write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 where a file differs")
    args = parser.parse_args()
    changed = differing(ROOT)
    if args.check:
        if changed:
            raise SystemExit(
                "not what the source says, run python -m scripts.tools.make_bundles:\n" + "\n".join(changed)
            )
        return
    made = make_all(ROOT)
    for path in changed:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(made[path], encoding="utf-8")
        print("wrote", path)


if __name__ == "__main__":
    main()
