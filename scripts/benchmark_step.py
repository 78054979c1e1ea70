"""Time of a training step with and without the size constraint, interleaved in one run.

    python scripts/benchmark_step.py --output docs/results/step_time.csv

The paper (Kervadec et al. 2019, Table 5) gives 112 ms for partial cross-entropy and 113 ms with two bounds.
Steps of the two losses alternate, so that whatever else the machine does falls on both; the ratio is of the medians,
and its interval is a bootstrap over the pairs.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sizeloss_monai.losses import PartialCrossEntropyLoss, SizeConstraintLoss, WeakSupervisionLoss
from sizeloss_monai.networks import ENet


def make_step(
    network: torch.nn.Module, loss: WeakSupervisionLoss, batch_size: int, size: int, device: torch.device
) -> Callable[[], None]:
    """A training step on random images with discs as targets; both losses get the same network and batch."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch_size, 1, size, size, generator=generator).to(device)
    weak_label = torch.full((batch_size, 1, size, size), 255, device=device)
    weak_label[..., size // 2 - 4 : size // 2 + 4, size // 2 - 4 : size // 2 + 4] = 1
    bounds = torch.tensor([[[0.0, torch.inf], [900.0, 1100.0]]], device=device).expand(batch_size, 2, 2)
    targets = {"weak_label": weak_label, "size_bounds": bounds}
    optimizer = torch.optim.Adam(network.parameters(), 5e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss(network(image), targets).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def timed(step: Callable[[], None]) -> float:
    """Milliseconds of one step."""
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=None, help="CSV; default: print only")
    parser.add_argument("--steps", type=int, default=100, help="steps of each loss")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    partial = {"loss": PartialCrossEntropyLoss(), "target": "weak_label"}
    constraint = {"loss": SizeConstraintLoss(scale="image"), "target": "size_bounds", "weight": 0.01}
    records = []
    for batch_size in args.batch_sizes:
        torch.manual_seed(0)
        network = ENet(in_channels=1, out_channels=2).to(device)
        steps = {
            "partial_ce": make_step(network, WeakSupervisionLoss({"ce": partial}), batch_size, args.size, device),
            "with_size": make_step(
                network, WeakSupervisionLoss({"ce": partial, "size": constraint}), batch_size, args.size, device
            ),
        }
        names = list(steps)
        times: dict[str, list[float]] = {name: [] for name in names}
        for round_index in range(args.steps + 5):
            # alternate which goes first, so that neither always runs on a warmer cache
            for name in names if round_index % 2 else reversed(names):
                elapsed = timed(steps[name])
                if round_index >= 5:
                    times[name].append(elapsed)
        base, constrained = (np.array(times[name]) for name in names)
        draws = np.random.default_rng(0).integers(len(base), size=(1000, len(base)))
        ratios = np.median(constrained[draws], axis=1) / np.median(base[draws], axis=1)
        records.append(
            {
                "network": "ENet",
                "image": f"{args.size}x{args.size}",
                "batch_size": batch_size,
                "steps": args.steps,
                "partial_ce_ms": f"{statistics.median(base):.2f}",
                "with_size_ms": f"{statistics.median(constrained):.2f}",
                "ratio": f"{statistics.median(constrained) / statistics.median(base):.4f}",
                "ratio_95_low": f"{np.percentile(ratios, 2.5):.4f}",
                "ratio_95_high": f"{np.percentile(ratios, 97.5):.4f}",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {args.threads} thread(s), {device.type}",
                "torch": torch.__version__,
                "command": f"python scripts/benchmark_step.py --size {args.size} --steps {args.steps} "
                f"--threads {args.threads}",
            }
        )
        print(records[-1])
    if args.output:
        with args.output.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(records[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
        print("wrote", args.output)


if __name__ == "__main__":
    main()
