"""The command ``bounds``: propose size bounds per class and write them into a data list."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sizeloss_monai.cli.check import SLICE_AXIS
from sizeloss_monai.options import Method, Per, PublishedName

__all__ = ["add"]

if TYPE_CHECKING:
    from sizeloss_monai.sizes.proposal import BoundsProposal


_PUBLISHED = get_args(PublishedName)
_DESCRIPTION = """
Propose size bounds per class, from the full annotations of a few training cases or from published normal ranges.
The command prints the bounds. It writes them only into --output, and only if they contradict no case.

  sizeloss-monai bounds list.json --per volume --num_cases 5 --output list_bounds.json
  sizeloss-monai bounds list.json --published 1=rv_cavity 2=lv_myocardium 3=lv_cavity --margin 1.5

Published ranges hold for volumes; a name that is not known lists all of them.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command ``bounds``."""
    parser = commands.add_parser(
        "bounds",
        help="propose size bounds per class and write them into a data list",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("datalist", type=Path, help="the data list (JSON)")
    parser.add_argument("--dataset_dir", help="the folder its paths are relative to; default: the list's own")
    parser.add_argument(
        "--per", choices=get_args(Per), default="volume", help="bounds in mm2 or in mL; default: volume"
    )
    parser.add_argument("--slice_axis", default="auto", help=SLICE_AXIS)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--cases", nargs="+", metavar="NAME", help="annotated training cases or patients to use")
    source.add_argument("--num_cases", type=int, help="use the first so many cases; default: all")
    source.add_argument("--published", nargs="+", type=_entry, metavar="ID=NAME", help="class ids and published ranges")
    parser.add_argument(
        "--method",
        choices=get_args(Method),
        help="for cases: 0.9 min to 1.1 max, sample quantiles, or a prediction interval; default: lognormal",
    )
    parser.add_argument("--coverage", type=float, help="for quantile and lognormal; default: 0.95")
    parser.add_argument(
        "--margin", type=float, default=1.0, help="divides lower and multiplies upper bounds; default: 1"
    )
    parser.add_argument("--output", type=Path, help="the data list to write; default: print only")
    parser.add_argument("--overwrite", action="store_true", help="replace an output file, such as the list itself")
    parser.set_defaults(run=_run, parser=parser)


def _run(args: argparse.Namespace) -> int:
    """Print the proposed bounds, and write them where they contradict no case."""
    _check_options(args)
    import json

    from sizeloss_monai.checks import choose_slice_axis
    from sizeloss_monai.data.names import existing_path
    from sizeloss_monai.datalist import load_datalist, save_datalist, unannotated_id_of
    from sizeloss_monai.datalist.lists import new_spellings
    from sizeloss_monai.sizes.proposal import add_bounds, propose_from_cases, propose_published, review_bounds

    args.datalist = existing_path(args.datalist)
    datalist = load_datalist(args.datalist, args.dataset_dir)
    slices = choose_slice_axis(datalist["training"], args.slice_axis, datalist, unannotated_id_of(datalist))
    if args.published:
        proposal = propose_published(datalist, dict(args.published), args.margin)
    else:
        method: Method = args.method or "lognormal"
        coverage = 0.95 if args.coverage is None else args.coverage
        proposal = propose_from_cases(
            datalist, args.per, method, coverage, args.margin, args.cases, args.num_cases, True, slices.taken
        )
    # the file as it is: the paths as written, and no key added
    raw, _ = new_spellings(json.loads(args.datalist.read_text(encoding="utf-8")))
    written = add_bounds(raw, proposal)
    infeasible, notes = review_bounds(add_bounds(datalist, proposal), proposal, True, slices.taken)
    print(_summary(proposal, datalist, dict(args.published or [])))
    if args.per == "slice":
        print(f"slices: {slices.reason}.")
        for doubt in slices.doubts:
            print(f"warning: {doubt}.")
    for line in (*proposal.notes, *notes):
        print(f"note: {line}.")
    for line in infeasible:
        print(f"infeasible: {line}.")
    if infeasible:
        print("Nothing was written: bounds contradict cases. Widen them (--margin), or give these cases their own.")
        return 1
    if args.output is None:
        print("Nothing was written: give --output to write these bounds into a copy of the data list.")
        return 0
    save_datalist(written, args.output, overwrite=args.overwrite)
    print(f"wrote {args.output}")
    if args.dataset_dir is None and args.output.resolve().parent != args.datalist.resolve().parent:
        print(f"note: its relative paths are still relative to {args.datalist.resolve().parent}.")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored."""
    ids = [class_id for class_id, _ in args.published or []]
    if args.published and (args.method or args.coverage is not None):
        args.parser.error("--method and --coverage require bounds from cases, got --published.")
    if args.published and args.per == "slice":
        args.parser.error("--published requires --per volume, got --per slice.")
    if len(set(ids)) < len(ids):
        args.parser.error("--published must name each class once.")
    if args.method == "range" and args.coverage is not None:
        args.parser.error("--coverage requires --method quantile or lognormal, got range.")
    if args.overwrite and args.output is None:
        args.parser.error("--overwrite requires --output.")


def _summary(proposal: BoundsProposal, datalist: dict[str, Any], published: dict[int, PublishedName]) -> str:
    """A table of the bounds, and what they were made from."""
    from sizeloss_monai.sizes.proposal import label_names
    from sizeloss_monai.sizes.published import published_range

    names = label_names(datalist)
    titles = {class_id: f"{class_id} {names.get(class_id, '')}".strip() for class_id in proposal.bounds}
    width = max(len(title) for title in [*titles.values(), "class"])
    lines = [f"size bounds per {proposal.per} in {proposal.unit}", proposal.source]
    evidence = f"{'sizes':>7}{'smallest':>10}{'largest':>10}" if proposal.evidence else ""
    lines.append(f"{'class':<{width}}{evidence}{'lower':>10}{'upper':>10}{'  outside' if evidence else ''}")
    for class_id, (lower, upper) in proposal.bounds.items():
        row = f"{titles[class_id]:<{width}}"
        found = proposal.evidence.get(class_id)
        if found:
            row += f"{found.count:>7}{found.smallest:>10.4g}{found.largest:>10.4g}"
        row += f"{lower:>10.4g}{upper:>10.4g}"
        if found:
            row += f"  {found.counted}" + (f" ({found.outside / found.tested:.0%})" if found.tested else "")
        lines.append(row)
    if proposal.held_out:
        lines.append(f"outside: {proposal.held_out}.")
    references: list[str] = []
    for class_id, name in published.items():
        entry = published_range(name)
        lines.append(f"{name}, class {class_id}: {entry.title}. {entry.note.strip()}")
        for group in entry.rows:
            if group.reference not in references:
                references.append(group.reference)
            who = f"{group.population}{f', {group.phase}' if group.phase else ''}"
            number = references.index(group.reference) + 1
            lines.append(f"  {who}: {group.lower:.4g} to {group.upper:.4g} mL ({group.statistic}) [{number}]")
    lines += [f"[{number}] {reference}" for number, reference in enumerate(references, 1)]
    return "\n".join(lines)


def _entry(text: str) -> tuple[int, str]:
    """A class id and the name of a published range."""
    class_id, _, name = text.partition("=")
    if not class_id.isdecimal() or not name:
        raise argparse.ArgumentTypeError(f"found '{text}', expected ID=NAME, such as 1=prostate")
    return int(class_id), name
