r"""How close the choice of an epoch without full masks comes to the choice by true Dice.

    python -m scripts.experiments.selection_study --runs runs/small-seed*/acdc/scribbles* \
        --output docs/results/selection_small

Reads the TensorBoard scalars of finished runs that were trained with configs/protocols/select_without_masks.yaml, on
validation cases that have full masks too. Of every run it takes the epoch that the score chooses, those its parts alone
would choose, the last one, and the one that the true Dice would choose, and compares their true Dice (3D, mean over the
classes and the validation cases, at the resolution of the network). With each goes Spearman's rank correlation between
what chose and the true Dice over the epochs. Writes <output>.csv, <output>_epochs.csv and <output>.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.experiments.result_files import write_csv

TRUTH = "val_mean_dice"
SCORE = "val_weak_score"
# what may choose: the scalar, whether more of it is better, and the heading
CHOICES = {
    SCORE: (1, "weak score"),
    "val_annotated_dice": (1, "annotated Dice alone"),
    "val_size_violation": (-1, "size violation alone"),
    "val_crf_energy": (-1, "CRF energy alone"),
}
LAST, BEST = "last epoch", "true Dice"


def read_epochs(run_dir: Path) -> list[dict[str, Any]]:
    """Epoch, true Dice and what may choose, of every validated epoch of a run.

    Raises:
        SystemExit: when a run logged no score or no true Dice.
    """
    scalars: dict[str, dict[int, float]] = {}
    # a resumed run has several files; the later of them hold the epochs that were trained again
    for file in sorted((run_dir / "tensorboard").glob("events.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for tag in {TRUTH, *CHOICES} & set(events.Tags()["scalars"]):
            scalars.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    for tag in (SCORE, TRUTH):
        if tag not in scalars:
            raise SystemExit(
                f"{run_dir}: found no {tag} in its tensorboard folder; expected a run trained with "
                "configs/protocols/select_without_masks.yaml on validation cases that have full masks too."
            )
    tags = [tag for tag in (TRUTH, *CHOICES) if tag in scalars]
    epochs = sorted(set.intersection(*(set(scalars[tag]) for tag in tags)))
    return [{"epoch": epoch, **{tag: scalars[tag][epoch] for tag in tags}} for epoch in epochs]


def correlation(epochs: list[dict[str, Any]], tag: str, sign: int) -> float:
    """Rank correlation with the true Dice over the epochs; NaN where one of the two never changes."""
    values, truth = ([epoch[name] for epoch in epochs] for name in (tag, TRUTH))
    if min(len(set(values)), len(set(truth))) < 2:
        return math.nan
    return sign * float(spearmanr(values, truth).statistic)


def choices(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The epochs that are chosen, by what, with their true Dice; the first of several that are equally good."""
    rows = []
    for tag, (sign, name) in CHOICES.items():
        if tag in epochs[0]:
            chosen = max(epochs, key=lambda epoch: sign * epoch[tag])
            rows.append({"chosen_by": name, **chosen, "spearman": correlation(epochs, tag, sign)})
    rows.append({"chosen_by": LAST, **epochs[-1], "spearman": math.nan})
    best = max(epochs, key=lambda epoch: epoch[TRUTH])
    rows.append({"chosen_by": BEST, **best, "spearman": math.nan})
    return [
        {
            "chosen_by": row["chosen_by"],
            "epoch": row["epoch"],
            "true_dice": row[TRUTH],
            "below_best": best[TRUTH] - row[TRUTH],
            "spearman": row["spearman"],
        }
        for row in rows
    ]


def provenance(run_dir: Path) -> dict[str, Any]:
    """What made a run: its seed, commit, machine and command without the folders of that machine."""
    entries = json.loads((run_dir / "run.json").read_text())
    started = entries[0]
    arguments = ["python", "-m", "monai.bundle", *started["command"][1:]]
    machine = started["machine"]
    return {
        "seed": started["seed"],
        "commit": " ".join(dict.fromkeys(str(entry["commit"]) for entry in entries)),
        "torch": started["packages"]["torch"],
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s), "
        f"{len(machine['gpus'])} GPU",
        "command": shlex.join(re.sub(r"(?<![\w.])/(?:[^/\s'\",=]+/)+", "", part) for part in arguments),
    }


def markdown(records: list[dict[str, Any]]) -> str:
    """One line for each way to choose: means over the runs."""
    lines = ["| epoch chosen by | true DSC | below the best epoch | worst run | rank correlation | runs |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name in dict.fromkeys(record["chosen_by"] for record in records):
        rows = [record for record in records if record["chosen_by"] == name]
        dice, below = ([row[key] for row in rows] for key in ("true_dice", "below_best"))
        ranks = [row["spearman"] for row in rows if not math.isnan(row["spearman"])]
        rank = f"{statistics.mean(ranks):.2f}" if ranks else ""
        lines.append(
            f"| {name} | {statistics.mean(dice):.3f} | {statistics.mean(below):.3f} | {max(below):.3f} | {rank} "
            f"| {len(rows)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the runs, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="output folders of finished runs")
    parser.add_argument("--output", type=Path, required=True, help="of the tables, without an ending")
    args = parser.parse_args()
    records, every = [], []
    for run_dir in args.runs:
        epochs, source = read_epochs(run_dir), provenance(run_dir)
        run = {"run": run_dir.name, "seed": source.pop("seed")}
        records += [{**run, **row, "validations": len(epochs), **source} for row in choices(epochs)]
        every += [{**run, **{tag: epoch.get(tag, "") for tag in ("epoch", TRUTH, *CHOICES)}} for epoch in epochs]
    text = markdown(records)
    formatted = [
        [{key: f"{v:.4f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows]
        for rows in (records, every)
    ]
    write_csv(args.output.with_name(f"{args.output.name}.csv"), formatted[0])
    write_csv(args.output.with_name(f"{args.output.name}_epochs.csv"), formatted[1])
    args.output.with_name(f"{args.output.name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
