"""Train and evaluate every supervision level on ACDC with the `small` or the `paper` protocol, and tabulate them.

Rows that are finished are not run again, interrupted ones go on from their last epoch:

    python scripts/reproduce.py --dataset_dir data/acdc --protocol small
    python scripts/reproduce.py --dataset_dir data/acdc --protocol small --print    # the commands only
    python scripts/reproduce.py --dataset_dir data/acdc --protocol small --collect  # tables from finished runs only
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizeloss_monai.bundle import last_epoch

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = "bundles/cine_lv_segmentation/configs"
# supervision overlay, its name in the paper and the paper's DSC on ACDC (Kervadec et al. 2019, Table 1)
ROWS = {
    "partial_ce": ("Partial CE", 0.15),
    "tags": ("CE + tags", 0.79),
    "common_bounds": ("CE + tags + common bounds", 0.80),
    "individual_bounds": ("CE + tags + individual bounds", 0.87),
    "full": ("Full supervision", 0.89),
}
METRICS = {"val_mean_dice": "dice_3d", "val_slice_dice": "dice_2d", "val_hd95_mm": "hd95_mm"}


def command(protocol: str, row: str, dataset_dir: str, output_dir: str, seed: int, evaluate: bool = False) -> list[str]:
    """The command that trains a row, or evaluates it on the validation patients."""
    files = [f"{CONFIGS}/train.yaml", f"configs/{protocol}.yaml", f"configs/{row}.yaml"]
    files += [f"{CONFIGS}/evaluate.yaml"] * evaluate
    listed = "[" + ",".join(f"'{file}'" for file in files) + "]"
    options = ["--dataset_dir", dataset_dir, "--output_dir", output_dir, "--seed", str(seed)]
    return ["python", "-m", "monai.bundle", "run", "--config_file", listed, *options, "--resume", "true"]


def run(arguments: list[str]) -> None:
    """Run a command from the project's root, with this interpreter; stop at the first that fails."""
    print("+", shlex.join(arguments), flush=True)
    subprocess.run([sys.executable, *arguments[1:]], cwd=ROOT, check=True)


def training_minutes(run_dir: Path) -> float:
    """Minutes from the first to the last training step, pauses between resumed parts left out."""
    seconds = 0.0
    for file in sorted((run_dir / "tensorboard").iterdir()):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        if "loss" in events.Tags()["scalars"]:
            times = [event.wall_time for event in events.Scalars("loss")]
            seconds += max(times) - min(times)
    return seconds / 60


def read_cases(run_dir: Path) -> dict[str, dict[str, float]]:
    """By case, each metric of the evaluation on the validation patients."""
    cases: dict[str, dict[str, float]] = {}
    for file, metric in METRICS.items():
        with (run_dir / "evaluation" / "validation" / f"{file}_raw.csv").open() as handle:
            for record in csv.DictReader(handle):
                cases.setdefault(record["filename"], {})[metric] = float(record["mean"])
    return cases


def summarise(values: Iterable[float]) -> tuple[float, float, int]:
    """Mean, standard deviation and number of the values that are defined."""
    defined = [value for value in values if value == value]
    if not defined:
        return math.nan, math.nan, 0
    return statistics.mean(defined), statistics.pstdev(defined), len(defined)


def write_csv(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records of the same keys."""
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    print("wrote", path)


def collect(protocol: str, runs: Path, results: Path, seed: int) -> None:
    """Write the table (CSV, Markdown) and the per-case table of the finished rows."""
    table, per_case = [], []
    for row, (title, paper) in ROWS.items():
        run_dir = runs / row
        if not (run_dir / "evaluation" / "validation" / "metrics.csv").is_file():
            print(f"{row}: not evaluated yet, left out")
            continue
        entries = json.loads((run_dir / "run.json").read_text())
        if {entry["seed"] for entry in entries} != {seed}:
            raise SystemExit(f"{run_dir} was run with seed {[entry['seed'] for entry in entries]}, not {seed}.")
        started = entries[0]
        cases = read_cases(run_dir)
        record: dict[str, Any] = {"row": row, "supervision": title, "cases": len(cases)}
        for metric in METRICS.values():
            mean, std, defined = summarise(case[metric] for case in cases.values())
            record |= {f"{metric}_mean": f"{mean:.4f}", f"{metric}_std": f"{std:.4f}"}
            if metric == "hd95_mm":
                record["hd95_undefined"] = len(cases) - defined
        record |= {
            "paper_dice": paper,
            "epochs": last_epoch(run_dir / "checkpoints"),
            "minutes": f"{training_minutes(run_dir):.1f}",
            "seed": seed,
            "commit": started["commit"],
            "torch": started["packages"]["torch"],
            "machine": f"{started['machine']['processor']}, {started['machine']['cores']} cores, "
            f"{started['machine']['threads']} thread(s), {len(started['machine']['gpus'])} GPU",
            "command": shlex.join(command(protocol, row, "data/acdc", f"runs/{protocol}-seed{seed}/{row}", seed)),
        }
        table.append(record)
        per_case += [{"row": row, "case": case, **values} for case, values in sorted(cases.items())]
    if not table:
        raise SystemExit("no finished run to tabulate.")
    results.mkdir(parents=True, exist_ok=True)
    name = f"acdc_{protocol}" if seed == 0 else f"acdc_{protocol}_seed{seed}"
    write_csv(results / f"{name}.csv", table)
    write_csv(results / f"{name}_cases.csv", per_case)
    lines = [
        "| supervision | 3D DSC | 2D DSC | HD95 (mm) | epochs | minutes | paper's DSC |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in table:
        scores = [
            f"{float(r[f'{m}_mean']):.{d}f} ± {float(r[f'{m}_std']):.{d}f}"
            for m, d in (("dice_3d", 3), ("dice_2d", 3), ("hd95_mm", 1))
        ]
        lines.append(
            f"| {r['supervision']} | {' | '.join(scores)} | {r['epochs']} | {float(r['minutes']):.0f} "
            f"| {r['paper_dice']:.2f} |"
        )
    (results / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    """Parse the command line and run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", default="data/acdc", help="ACDC in its own folder layout")
    parser.add_argument("--protocol", choices=("small", "paper"), default="small")
    parser.add_argument("--runs_dir", type=Path, default=None, help="default: runs/<protocol>-seed<seed>")
    parser.add_argument("--results_dir", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--print", action="store_true", help="print the commands, run nothing")
    parser.add_argument("--collect", action="store_true", help="tabulate finished runs, run nothing")
    args = parser.parse_args()
    runs = args.runs_dir.resolve() if args.runs_dir else ROOT / "runs" / f"{args.protocol}-seed{args.seed}"
    dataset_dir = str(Path(args.dataset_dir).resolve())  # the commands run in the project's folder
    for row in [] if args.collect else args.rows:
        output = str(runs / row)
        train = command(args.protocol, row, dataset_dir, output, args.seed)
        evaluate = command(args.protocol, row, dataset_dir, output, args.seed, evaluate=True)
        if args.print:
            print(shlex.join(train), shlex.join(evaluate), sep="\n")
            continue
        run(train)
        if not (runs / row / "evaluation" / "validation" / "metrics.csv").is_file():
            run(evaluate)
    if not args.print:
        collect(args.protocol, runs, args.results_dir, args.seed)


if __name__ == "__main__":
    main()
