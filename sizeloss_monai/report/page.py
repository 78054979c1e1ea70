"""The report of a run: one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template

from monai.config import PathLike

from sizeloss_monai.bundle.run_record import read_starts
from sizeloss_monai.data.findings import DataError
from sizeloss_monai.data.whole_files import write_whole
from sizeloss_monai.report.case_overlays import case_figure
from sizeloss_monai.report.curves import Curve, best_epoch, curves_figure, read_curves
from sizeloss_monai.report.markup import figure_image
from sizeloss_monai.report.ranking import choose_cases, rank_cases
from sizeloss_monai.report.run_files import CaseResult, Evaluation, read_evaluation
from sizeloss_monai.report.style import STYLE
from sizeloss_monai.report.tables import (
    bounds_text,
    case_table,
    class_table,
    dice_text,
    scores_table,
    settings_table,
    size_text,
)

__all__ = ["make_report", "write_report"]

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")

_EXPLANATION = (
    "Sizes are measured on each scan's own grid. The soft size is the sum of the probabilities, the hard size that of "
    "the mask, the violation what the hard size lacks to its lower bound (below 0) or has above its upper one. Pieces "
    "are connected components. At border names the faces of the scan that the mask reaches: left, right, anterior, "
    "posterior, inferior, superior. Cases out of their bounds come first, then from the worst to the best: by mean "
    "Dice, and without full annotation by pieces and by the difference of soft and hard size."
)


def make_report(run_dir: PathLike) -> tuple[str, list[str]]:
    """The report of a run.

    Args:
        run_dir: folder of the run, its ``output_dir``.

    Returns:
        The page, and what is missing from it, a sentence each, which the page says too.

    Raises:
        DataError: when the folder is that of no run, or a table in it is damaged.
    """
    run_dir = Path(run_dir)
    starts = read_starts(run_dir)
    notes: list[str] = []
    body = ["<h2>Settings</h2>", settings_table(run_dir, starts), "<h2>Training</h2>"]
    curves = read_curves(run_dir)
    if curves:
        body += _training(curves, starts[-1].get("key_metric"))
    else:
        body.append(_noted(f"No curves: found none in '{run_dir / 'tensorboard'}'.", notes))
    folders = sorted(path for path in (run_dir / "evaluation").glob("*") if path.is_dir())
    if not folders:
        text = "No cases: the run was not evaluated yet. Run its bundle with evaluate.yaml as the last config file."
        body += ["<h2>Evaluation</h2>", _noted(text, notes)]
    for folder in folders:
        body.append(f"<h2>Evaluation: {escape(folder.name)}</h2>")
        if (folder / "sizes.csv").is_file():
            body += _evaluation(read_evaluation(folder), notes)
        else:
            body.append(_noted(f"No sizes.csv in '{folder}': evaluate the run again.", notes))
    title = escape(f"Report of {run_dir.resolve().name}")
    return _PAGE.substitute(title=title, style=STYLE, body="\n".join(body)), notes


def write_report(run_dir: PathLike, output: PathLike | None = None, overwrite: bool = False) -> tuple[Path, list[str]]:
    """Write the report of a run.

    Args:
        run_dir: folder of the run, its ``output_dir``.
        output: the file; by default ``report.html`` in the run's folder.
        overwrite: whether to replace a file of other content. A file of the same content is left as it is.

    Returns:
        The file, and what is missing from the page, a sentence each.

    Raises:
        DataError: when the folder is that of no run, or a table in it is damaged.
        FileExistsError: if the file exists with other content and `overwrite` is false.
    """
    path = Path(run_dir) / "report.html" if output is None else Path(output)
    page, notes = make_report(run_dir)
    if path.exists() and not overwrite and path.read_text(encoding="utf-8", errors="replace") != page:
        raise FileExistsError(f"'{path}' exists with other content; ask for overwriting to replace it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path, notes


def _noted(text: str, notes: list[str]) -> str:
    """A paragraph that says what is missing; also kept for whoever made the page."""
    notes.append(text)
    return f'<p class="note">{escape(text)}</p>'


def _training(curves: Mapping[str, Curve], key_metric: str | None) -> list[str]:
    """The curves, and which epoch was chosen."""
    parts = []
    epoch = best_epoch(curves, key_metric)
    if epoch is not None:
        parts.append(
            f"<p>model.pt has the weights of epoch {epoch}, the best by {escape(str(key_metric))} (dashed).</p>"
        )
    description = f"Curves over epochs of {', '.join(curves)}"
    return [*parts, f"<figure>{figure_image(curves_figure(curves, epoch), description)}</figure>"]


def _evaluation(evaluation: Evaluation, notes: list[str]) -> list[str]:
    """Tables and overlays of the evaluation of a section."""
    results = evaluation.cases
    count = f"{len(results)} case{'s' if len(results) != 1 else ''}"
    annotated = sum(bool(result.dice) for result in results)
    violating = sum(bool(result.violated) for result in results)
    bounded = sum(any(row.violation_ml is not None for row in result.rows) for result in results)
    weights = f" Weights: {escape(evaluation.checkpoint)}." if evaluation.checkpoint else ""
    parts = [
        f"<p>{count}, {annotated} with a full annotation; {violating} of {bounded} with bounds are out of them."
        f"{weights}</p>",
        class_table(results),
    ]
    if evaluation.scores:
        parts.append(scores_table(evaluation.scores))
    parts += ["<h3>Cases</h3>", f"<p>{escape(_EXPLANATION)}</p>", case_table(rank_cases(results))]
    parts += [
        "<h3>Overlays</h3>",
        "<p>The slice with most of mask and truth, then slices near both ends and in the middle, close up. Slices are "
        "counted from 0 in the order of the file.</p>",
    ]
    by_name = {result.case: result for result in results}
    for case, reasons in choose_cases(results).items():
        parts.append(_overlay(by_name[case], reasons, evaluation, notes))
    return parts


def _overlay(result: CaseResult, reasons: list[str], evaluation: Evaluation, notes: list[str]) -> str:
    """A case's picture and what there is to say of it."""
    heading = " ".join(f'<span class="reason">{escape(reason)}</span>' for reason in reasons)
    try:
        figure = case_figure(result, evaluation.target_ids)
    except DataError as err:
        picture = _noted(f"No overlay: {err}", notes)
    else:
        picture = figure_image(figure, f"Mask over slices of {result.case}", enlarge=1.35)
    lines = []
    for row in result.rows:
        dice = f"Dice {dice_text(result.dice[row.class_id])}, " if row.class_id in result.dice else ""
        line = f"{row.name}: {dice}{size_text(row.hard_ml)} mL"
        if row.true_ml is not None:
            line += f" (true {size_text(row.true_ml)})"
        if row.violation_ml is not None:
            line += f", bounds {bounds_text(row)}"
        if row.violation_ml:
            side = "above" if row.violation_ml > 0 else "below"
            line += f": {size_text(abs(row.violation_ml))} mL {side}"
        lines.append(f"<li>{escape(line)}</li>")
    return (
        f"<figure>\n<h4>{escape(result.case)} {heading}</h4>\n{picture}\n"
        f"<figcaption><ul>{''.join(lines)}</ul></figcaption>\n</figure>"
    )
