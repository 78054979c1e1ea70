"""Time of a training step of every method of the paper's Table 5, interleaved in one run.

    python -m scripts.experiments.benchmark_step --output docs/results/table5.csv

A step is forward, loss (proposals included), backward, optimiser. Ratios are of medians, to partial cross-entropy in
the same run; their interval is a bootstrap over rounds. `proposals_ms_per_slice` is the time of the proposals alone.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from scripts.experiments.benchmarking import environment, interleaved, target_device
from scripts.experiments.result_files import write_csv
from sizeloss_monai.constraints import SizeConstraintLoss
from sizeloss_monai.losses import PartialCrossEntropyLoss, WeakSupervisionLoss
from sizeloss_monai.networks import ENet
from sizeloss_monai.proposals import LagrangianProposals

# by row: its title, and the constraint or the proposals
METHODS: dict[str, tuple[str, SizeConstraintLoss | LagrangianProposals | None]] = {
    "partial_ce": ("Partial CE", None),
    "direct_1": ("Direct loss, 1 bound", SizeConstraintLoss(scale="image", sides="upper")),
    "direct_2": ("Direct loss, 2 bounds", SizeConstraintLoss(scale="image")),
    "ascent_1": ("Lagrangian proposals, 1 bound", LagrangianProposals("gradient_ascent", sides="upper")),
    "ascent_2": ("Lagrangian proposals, 2 bounds", LagrangianProposals("gradient_ascent")),
    "ascent_2_sound": (
        "Lagrangian proposals, 2 bounds, sound early stop at 1 voxel",
        LagrangianProposals("gradient_ascent", early_stop="sound", tolerance=1.0),
    ),
    "ascent_2_published": (
        "Lagrangian proposals, 2 bounds, early stop as published",
        LagrangianProposals("gradient_ascent", early_stop="as_published"),
    ),
    "exact_2": ("Lagrangian proposals, 2 bounds, exact", LagrangianProposals()),
    "full": ("Full supervision", None),
}


def make_targets(batch_size: int, size: int, device: torch.device) -> dict[str, torch.Tensor]:
    """A disc with bounds of 10 % about its size; its centre is annotated."""
    axis = torch.arange(size) - size / 2
    squared = axis[:, None] ** 2 + axis[None, :] ** 2
    label = (squared < (size / 14) ** 2).long().expand(batch_size, 1, size, size)
    weak_label = torch.where(squared < (size / 56) ** 2, 1, 255).expand(batch_size, 1, size, size)
    true_size = float(label[0].sum())
    bounds = torch.tensor([[0.0, torch.inf], [0.9 * true_size, 1.1 * true_size]]).expand(batch_size, 2, 2)
    targets = {"label": label, "weak_label": weak_label, "size_bounds": bounds}
    return {key: value.contiguous().to(device) for key, value in targets.items()}


def make_step(
    method: str, network: torch.nn.Module, image: torch.Tensor, targets: dict[str, torch.Tensor]
) -> Callable[[], None]:
    """A training step; every method gets the same network and batch."""
    what = METHODS[method][1]
    cross_entropy = PartialCrossEntropyLoss()
    if isinstance(what, SizeConstraintLoss):
        loss = WeakSupervisionLoss(
            {
                "ce": {"loss": cross_entropy, "target": "weak_label"},
                "size": {"loss": what, "target": "size_bounds", "weight": 0.01},
            }
        )
    else:
        target = "proposal" if what is not None else "label" if method == "full" else "weak_label"
        loss = WeakSupervisionLoss({"ce": {"loss": cross_entropy, "target": target}})
    # the network stays as it is: every step of every method sees the same problem
    optimizer = torch.optim.Adam(network.parameters(), 0.0)

    def step() -> None:
        optimizer.zero_grad()
        logits = network(image)
        made = {}
        if isinstance(what, LagrangianProposals):
            made["proposal"] = what(logits, targets["weak_label"], targets["size_bounds"]).labels()
        loss(logits, {**targets, **made}).backward()
        optimizer.step()

    return step


def make_proposals_alone(
    proposals: LagrangianProposals, logits: torch.Tensor, targets: dict[str, torch.Tensor]
) -> Callable[[], object]:
    """The proposals of one output, without the rest of a step."""
    return lambda: proposals(logits, targets["weak_label"], targets["size_bounds"]).labels()


def ratio_interval(times: list[float], base: list[float]) -> tuple[float, float, float]:
    """Ratio of medians and its 95 % bootstrap interval over rounds."""
    pairs = np.stack([times, base], axis=1)
    draws = pairs[np.random.default_rng(0).integers(len(pairs), size=(1000, len(pairs)))]
    ratios = np.median(draws[..., 0], axis=1) / np.median(draws[..., 1], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(pairs[:, 0]) / np.median(pairs[:, 1])), float(low), float(high)


def markdown(records: list[dict[str, str]]) -> str:
    """A line a method: milliseconds of a step and its ratio to partial cross-entropy, and of the proposals a slice."""
    batch_sizes = list(dict.fromkeys(record["batch_size"] for record in records))
    headings = ["method", *(f"batch {b}: step (ms), ratio, proposals (ms a slice)" for b in batch_sizes)]
    lines = [headings, ["---"] * len(headings)]
    for method in dict.fromkeys(record["method"] for record in records):
        rows = [record for record in records if record["method"] == method]
        cells = [
            f"{float(row['step_ms']):.0f}, {float(row['ratio']):.3f} ({float(row['ratio_95_low']):.3f} to "
            f"{float(row['ratio_95_high']):.3f})"
            + (f", {float(row['proposals_ms_per_slice']):.1f}" if row["proposals_ms_per_slice"] else "")
            for row in rows
        ]
        lines.append([rows[0]["title"], *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=None, help="CSV; default: print only")
    parser.add_argument("--rounds", type=int, default=40, help="steps of each method at batch 1; fewer at larger ones")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = target_device()
    records = []
    for batch_size in args.batch_sizes:
        torch.manual_seed(0)
        network = ENet(in_channels=1, out_channels=2).to(device)
        image = torch.rand(batch_size, 1, args.size, args.size, device=device)
        targets = make_targets(batch_size, args.size, device)
        rounds = max(args.rounds // batch_size, 5)
        methods = list(dict.fromkeys(["partial_ce", *args.methods]))
        steps = {name: make_step(name, network, image, targets) for name in methods}
        times = interleaved(steps, rounds, device)
        with torch.no_grad():
            logits = network(image)
        solvers = {name: METHODS[name][1] for name in methods}
        alone = {
            name: make_proposals_alone(solver, logits, targets)
            for name, solver in solvers.items()
            if isinstance(solver, LagrangianProposals)
        }
        alone_times = interleaved(alone, rounds, device)
        for name in methods:
            ratio, low, high = ratio_interval(times[name], times["partial_ce"])
            solver = solvers[name]
            record = {
                "method": name,
                "title": METHODS[name][0],
                "image": f"{args.size}x{args.size}",
                "batch_size": str(batch_size),
                "rounds": str(rounds),
                "step_ms": f"{statistics.median(times[name]):.2f}",
                "ratio": f"{ratio:.4f}",
                "ratio_95_low": f"{low:.4f}",
                "ratio_95_high": f"{high:.4f}",
                "proposals_ms_per_slice": "",
                "iterations": "",
                "dual_value": "",
                "violation": "",
            }
            if isinstance(solver, LagrangianProposals):
                made = solver(logits, targets["weak_label"], targets["size_bounds"])
                record |= {
                    "proposals_ms_per_slice": f"{statistics.median(alone_times[name]) / batch_size:.2f}",
                    "iterations": f"{made.iterations.float().mean().item():.1f}",
                    "dual_value": f"{made.dual_value.mean().item():.3f}",
                    "violation": f"{made.violation[:, 1].mean().item():.3f}",
                }
            record |= environment(device)
            record["command"] = shlex.join(["python", "-m", "scripts.experiments.benchmark_step", *sys.argv[1:]])
            records.append(record)
            print({key: record[key] for key in list(record)[:13]}, flush=True)
    if args.output:
        write_csv(args.output, records)
        args.output.with_suffix(".md").write_text(markdown(records))


if __name__ == "__main__":
    main()
