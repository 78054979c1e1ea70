"""The report of a run: one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from monai.config import PathLike

from sizeloss_monai.bundle.run_record import read_starts, shell_line
from sizeloss_monai.data.whole_files import write_whole
from sizeloss_monai.errors import DataError
from sizeloss_monai.report.case_overlays import case_figure, legend_keys
from sizeloss_monai.report.curves import best_epoch, curve_figures, read_curves, read_events, training_minutes
from sizeloss_monai.report.ranking import choose_cases, rank_cases
from sizeloss_monai.report.run_files import CaseResult, Evaluation, read_evaluation
from sizeloss_monai.sizes.table import SizeRow

__all__ = ["make_report", "write_report"]

NOTHING = "\N{EN DASH}"
_PAGE_DPI = 96  # of CSS
_IMAGE_DPI = 192  # sharp on screens with two pixels for one of CSS, and where the page enlarges a picture


def make_report(run_dir: PathLike) -> tuple[str, list[str]]:
    """The report of a run.

    Args:
        run_dir: folder of the run, its ``output_dir``.

    Returns:
        The page, and a sentence for each part that is missing, which the page has too.

    Raises:
        DataError: when the folder holds no run, or a table in it is damaged.
    """
    run_dir = Path(run_dir)
    starts = read_starts(run_dir)
    key_metric = starts[-1].get("key_metric")
    events = read_events(run_dir)
    curves = read_curves(events)
    chosen = best_epoch(curves, key_metric)
    notes: list[str] = []

    def noted(text: str) -> str:
        notes.append(text)
        return text

    sections: list[dict[str, Any]] = []
    for folder in sorted(path for path in (run_dir / "evaluation").glob("*") if path.is_dir()):
        section: dict[str, Any] = {"name": folder.name, "note": ""}
        if (folder / "sizes.csv").is_file():
            section |= _evaluation(read_evaluation(folder), notes)
        else:
            section["note"] = noted(f"No sizes.csv in '{folder}': evaluate the run again.")
        sections.append(section)
    missing = {}
    if not sections:
        text = f"No cases: the run was not evaluated yet. Evaluate it: sizeloss-monai evaluate {run_dir}."
        missing["evaluation"] = noted(text)
    if not curves:
        missing["curves"] = noted(f"No curves: found none in '{run_dir / 'tensorboard'}'.")
    templates = Environment(
        loader=PackageLoader("sizeloss_monai.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": _number, "bounds": _bounds, "mean_sd": _mean_sd}
    page = templates.get_template("report.html.j2").render(
        name=run_dir.resolve().name,
        start=starts[-1],
        settings=_settings(run_dir, starts),
        sections=sections,
        data=_data_folder(section["evaluation"] for section in sections if "evaluation" in section),
        missing=missing,
        chosen=chosen,
        key_metric=key_metric,
        last_epoch=max((steps[-1] for steps, _ in curves.values()), default=None),
        minutes=training_minutes(events) if events else None,
        curves={title: _picture(figure) for title, figure in curve_figures(curves, chosen).items()},
    )
    return page, notes


def write_report(run_dir: PathLike, output: PathLike | None = None, overwrite: bool = False) -> tuple[Path, list[str]]:
    """Write the report of a run.

    Args:
        run_dir: folder of the run, its ``output_dir``.
        output: the file; default: ``report.html`` in the run's folder.
        overwrite: whether to replace a file of other content.

    Returns:
        The file, and a sentence for each part that is missing.

    Raises:
        DataError: when the folder holds no run, or a table in it is damaged.
        FileExistsError: when the file exists with other content and `overwrite` is false.
    """
    path = Path(run_dir) / "report.html" if output is None else Path(output)
    page, notes = make_report(run_dir)
    if path.exists() and not overwrite and path.read_text(encoding="utf-8", errors="replace") != page:
        raise FileExistsError(f"'{path}' exists with other content: give --overwrite to replace it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path, notes


def _evaluation(evaluation: Evaluation, notes: list[str]) -> dict[str, Any]:
    """A section for the page: summaries, ranked cases, and pictures of some."""
    results = {result.case: result for result in evaluation.cases}
    drawn: list[dict[str, Any]] = []
    for case, reasons in choose_cases(evaluation.cases).items():
        drawn.append({"result": results[case], "reasons": reasons})
        try:
            drawn[-1]["picture"] = _picture(case_figure(results[case], evaluation.classes, evaluation.slice_axis))
        except DataError as err:
            drawn[-1]["note"] = f"No overlay: {err}"
            notes.append(drawn[-1]["note"])
    bounded = [result for result in evaluation.cases if any(row.violation_ml is not None for row in result.rows)]
    return {
        "evaluation": evaluation,
        "cases": rank_cases(evaluation.cases),
        "dice": [result.mean_dice for result in evaluation.cases if result.mean_dice is not None],
        "hd95": [result.mean_hd95 for result in evaluation.cases if result.mean_hd95 is not None],
        "bounded": len(bounded),
        "violating": sum(bool(result.violated) for result in bounded),
        "classes": _classes(evaluation.cases),
        "drawn": drawn,
        "legend": legend_keys([entry["result"] for entry in drawn]),
    }


def _classes(results: Sequence[CaseResult]) -> list[dict[str, Any]]:
    """A summary of each class over the cases."""
    summaries = []
    for first in results[0].rows if results else ():
        rows = [row for result in results for row in result.rows if row.class_id == first.class_id]
        bounded = [row for row in rows if row.violation_ml is not None]
        sizes = [row.hard_ml for row in rows]
        summaries.append(
            {
                "name": first.name,
                "dice": [result.dice[first.class_id] for result in results if first.class_id in result.dice],
                "size": f"{median(sizes):.2f} ({min(sizes):.2f} to {max(sizes):.2f})",
                "out": f"{sum(bool(row.violation_ml) for row in bounded)} of {len(bounded)}",
                "in_pieces": f"{sum(row.components > 1 for row in rows)} of {len(rows)}",
                "not_found": f"{sum(row.components == 0 for row in rows)} of {len(rows)}",
            }
        )
    return summaries


def _settings(run_dir: Path, starts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The settings of the last start."""
    settings = {"folder": str(run_dir)}
    for key, value in starts[-1].items():
        if key == "command" and isinstance(value, list):
            text = shell_line([str(part) for part in value])
        elif isinstance(value, dict):
            text = ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
        else:
            text = _plain(value)
        settings[key.replace("_", " ")] = text
    if len(starts) > 1:
        earlier = (f"{start.get('started')} (commit {start.get('commit')})" for start in starts[:-1])
        settings["started before"] = ", ".join(earlier)
    return settings


def _data_folder(evaluations: Iterable[Evaluation]) -> str:
    """The folder that holds the evaluated scans; empty without any."""
    folders = [os.path.abspath(result.image.parent) for evaluation in evaluations for result in evaluation.cases]
    return os.path.commonpath(folders) if folders else ""


def _picture(figure: Figure) -> dict[str, Any]:
    """A figure as an image for the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_IMAGE_DPI, metadata={"Software": None})
    width, height = (round(inches * _PAGE_DPI) for inches in figure.get_size_inches())
    return {"data": base64.b64encode(buffer.getvalue()).decode("ascii"), "width": width, "height": height}


def _number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """A number in the report; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:+.{digits}f}" if signed and value else f"{value:.{digits}f}"


def _mean_sd(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation."""
    spread = f" \N{PLUS-MINUS SIGN} {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}" if values else NOTHING


def _bounds(row: SizeRow) -> str:
    """The bounds of a class in mL."""
    if row.lower_ml is None or row.upper_ml is None:
        return NOTHING
    lower, upper = (f"{bound:.2f}".rstrip("0").rstrip(".") for bound in (row.lower_ml, row.upper_ml))
    return f"\N{GREATER-THAN OR EQUAL TO} {lower}" if math.isinf(row.upper_ml) else f"{lower} to {upper}"


def _plain(value: Any) -> str:
    """A value of ``run.json``."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
