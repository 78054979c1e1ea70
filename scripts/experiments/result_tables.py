"""Tables of finished runs: a CSV with a line a run, a CSV with a line a case, and Markdown."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.experiments.result_files import read_case_means, read_class_means, write_csv
from scripts.experiments.tables import Row, Run, Setting, Table
from sizeloss_monai.bundle import last_epoch
from sizeloss_monai.report.curves import read_events, training_minutes

METRICS = {"val_mean_dice": "dice_3d", "val_slice_dice": "dice_2d", "val_hd95_mm": "hd95_mm"}
HEADINGS = {"dice_3d": "3D DSC", "dice_2d": "2D DSC", "hd95_mm": "HD95 (mm)"}


def read_cases(run_dir: Path) -> dict[str, dict[str, float]]:
    """By case, each metric of the evaluation on the validation cases."""
    cases: dict[str, dict[str, float]] = {}
    for name, metric in METRICS.items():
        file = run_dir / "evaluation" / "validation" / f"{name}_raw.csv"
        if not file.is_file():  # a native 3D bundle has no score a slice
            continue
        for case, value in read_case_means(file).items():
            cases.setdefault(case, {})[metric] = value
    return cases


def summarise(values: Iterable[float]) -> tuple[float, float, int]:
    """Mean, standard deviation and number of the values that are defined."""
    defined = [value for value in values if value == value]
    if not defined:
        return math.nan, math.nan, 0
    deviation = statistics.stdev(defined) if len(defined) > 1 else math.nan
    return statistics.mean(defined), deviation, len(defined)


def run_record(row: Row, run: Run, setting: Setting) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What there is to say of a finished run, and its scores by case."""
    folder = run.folder(setting)
    entries = json.loads((folder / "run.json").read_text())
    if {entry["seed"] for entry in entries} != {run.seed}:
        raise SystemExit(f"{folder} was run with seed {[entry['seed'] for entry in entries]}, not {run.seed}.")
    started = entries[0]
    commits = list(dict.fromkeys(str(entry["commit"]) for entry in entries))  # a resumed run may have several
    cases = read_cases(folder)
    record: dict[str, Any] = {"row": row.run, "supervision": row.title, "seed": run.seed, "cases": len(cases)}
    for metric in METRICS.values():
        mean, std, defined = summarise(case.get(metric, math.nan) for case in cases.values())
        record |= {f"{metric}_mean": f"{mean:.4f}", f"{metric}_std": f"{std:.4f}"}
        if metric == "hd95_mm":
            record["hd95_undefined"] = len(cases) - defined
    by_class = read_class_means(folder / "evaluation" / "validation" / "val_mean_dice_raw.csv")
    record["dice_3d_by_class"] = " ".join(f"{mean:.4f}" for mean in by_class)
    generic = Setting(setting.protocol, Path("data"), Path("runs"), setting.epochs)
    record |= {
        "paper_dice": "" if row.paper is None else row.paper,
        "epochs": last_epoch(folder / "checkpoints"),
        "minutes": f"{training_minutes(read_events(folder)):.1f}",
        "commit": " ".join(commits),
        "torch": started["packages"]["torch"],
        "machine": f"{started['machine']['processor']}, {started['machine']['cores']} cores, "
        f"{started['machine']['threads']} thread(s), {len(started['machine']['gpus'])} GPU",
        "command": shlex.join(run.command(generic)),
    }
    return record, cases


def _cell(records: list[dict[str, Any]], metric: str) -> str:
    """Mean ± deviation: over the cases of one run, over the means of several."""
    digits = 1 if metric == "hd95_mm" else 3
    means = [float(record[f"{metric}_mean"]) for record in records]
    if any(math.isnan(mean) for mean in means):
        return ""
    deviation = float(records[0][f"{metric}_std"]) if len(records) == 1 else statistics.stdev(means)
    return f"{statistics.mean(means):.{digits}f} ± {deviation:.{digits}f}"


def _classes(records: list[dict[str, Any]]) -> str:
    """Mean 3D DSC of each class, over seeds."""
    by_seed = [[float(mean) for mean in record["dice_3d_by_class"].split()] for record in records]
    return " / ".join(f"{statistics.mean(means):.3f}" for means in zip(*by_seed, strict=True))


def _markdown(rows: list[list[dict[str, Any]]]) -> str:
    """One line a row; columns that are empty throughout are left out."""
    lines = [["supervision", *HEADINGS.values(), "3D DSC by class", "epochs", "seeds", "minutes", "paper's DSC"]]
    for records in rows:
        first = records[0]
        minutes = statistics.mean(float(record["minutes"]) for record in records)
        paper = "" if first["paper_dice"] == "" else f"{first['paper_dice']:.2f}"
        seeds = ", ".join(str(record["seed"]) for record in records)
        scores = [_cell(records, metric) for metric in HEADINGS]
        lines.append(
            [first["supervision"], *scores, _classes(records), str(first["epochs"]), seeds, f"{minutes:.0f}", paper]
        )
    kept = [column for column in range(len(lines[0])) if any(line[column] for line in lines[1:])]
    text = [" | ".join(line[column] for column in kept) for line in lines]
    return "\n".join(f"| {line} |" for line in [text[0], " | ".join(["---"] * len(kept)), *text[1:]]) + "\n"


def write_tables(table: Table, setting: Setting, seeds: list[int], results: Path) -> None:
    """Write the tables of the finished runs among a table's rows.

    Args:
        table: which.
        setting: of the runs.
        seeds: of the runs.
        results: folder of the files.

    Raises:
        SystemExit: when a run was made with another seed.
    """
    rows, per_case = [], []
    for row in table.rows:
        runs = [Run(row.run, table.dataset, seed) for seed in seeds]
        finished = [run for run in runs if run.is_evaluated(setting)]
        if not finished:
            print(f"table {table.name}, {row.run}: not evaluated yet, left out")
            continue
        made = [run_record(row, run, setting) for run in finished]
        rows.append([record for record, _ in made])
        for record, cases in made:
            per_case += [
                {"row": row.run, "seed": record["seed"], "case": case, **values}
                for case, values in sorted(cases.items())
            ]
    if not rows:
        print(f"table {table.name}: no finished run to tabulate")
        return
    results.mkdir(parents=True, exist_ok=True)
    name = f"table{table.name}_{setting.name}"
    write_csv(results / f"{name}.csv", [record for records in rows for record in records])
    write_csv(results / f"{name}_cases.csv", per_case)
    text = _markdown(rows)
    (results / f"{name}.md").write_text(text)
    print(table.title, text, sep="\n")
