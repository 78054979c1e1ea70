"""How the time of constraints and proposals grows with image size, batch, classes and slices per volume.

    python -m scripts.experiments.benchmark_growth --output docs/results/growth

writes growth.csv and growth.png. Each point is the median of interleaved rounds; the network's own time is left out.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from scripts.experiments.benchmarking import environment, interleaved, target_device
from scripts.experiments.result_files import write_csv
from sizeloss_monai.constraints import SizeConstraintLoss, VolumeSizeConstraintLoss
from sizeloss_monai.losses import PartialCrossEntropyLoss
from sizeloss_monai.proposals import LagrangianProposals

AXES = {
    "size": ("edge of the image (pixels)", [64, 128, 256, 512]),
    "batch": ("batch size", [1, 2, 4, 8, 16, 32]),
    "classes": ("constrained classes", [1, 2, 3, 4, 5]),
    "slices": ("slices of a volume", [1, 4, 16, 32]),
}
TITLES = {
    "partial_ce": "partial cross-entropy",
    "size_constraint": "size constraint",
    "volume_constraint": "volume constraint",
    "exact": "exact proposals",
    "gradient_ascent": "gradient ascent, 500 iterations",
}


def loss_and_gradient(loss: Callable[[], torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    """The gradient of a loss at the logits."""
    return torch.autograd.grad(loss(), logits)[0]


def make_calls(
    size: int, batch: int, classes: int, names: list[str], device: torch.device
) -> dict[str, Callable[[], object]]:
    """Each method on random logits; losses with their gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes + 1, size, size, generator=generator).to(device).requires_grad_()
    weak_label = torch.full((batch, 1, size, size), 255, device=device)
    weak_label[..., size // 2, size // 2] = 1
    limits = [[0.0, torch.inf], *[[0.9 * size**2 / 70, 1.1 * size**2 / 70]] * classes]
    bounds = torch.tensor(limits, device=device).expand(batch, -1, 2)
    volume = torch.zeros(batch, dtype=torch.long, device=device)
    proposals = {"exact": LagrangianProposals(), "gradient_ascent": LagrangianProposals("gradient_ascent")}
    losses = {
        "partial_ce": partial(PartialCrossEntropyLoss(), logits, weak_label),
        "size_constraint": partial(SizeConstraintLoss(), logits, bounds),
        "volume_constraint": partial(VolumeSizeConstraintLoss(), logits, bounds, volume),
    }
    calls: dict[str, Callable[[], object]] = {}
    for name in names:
        if name in proposals:
            calls[name] = partial(proposals[name], logits, weak_label, bounds)
        else:
            calls[name] = partial(loss_and_gradient, losses[name], logits)
    return calls


def draw(records: list[dict[str, str]], file: Path) -> None:
    """One panel an axis, milliseconds over it, both logarithmic."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for axes, (axis, (label, _)) in zip(panels, AXES.items(), strict=True):
        for name, title in TITLES.items():
            points = [(float(r["value"]), float(r["ms"])) for r in records if (r["axis"], r["method"]) == (axis, name)]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=title)
        axes.set(xlabel=label, xscale="log", yscale="log")
        axes.set_xticks(AXES[axis][1], [str(value) for value in AXES[axis][1]])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("ms a batch")
    handles = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize="small")
    figure.savefig(file, dpi=120)
    print("wrote", file)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="path of the files, without a suffix")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--largest", type=int, default=None, help="leave out larger values of each axis")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = target_device()
    records = []
    for axis in args.axes:
        for value in AXES[axis][1]:
            if args.largest is not None and value > args.largest:
                continue
            shape = {"size": 256, "batch": 1, "classes": 1}
            names = [name for name in TITLES if name != "volume_constraint"]
            if axis == "slices":
                shape["batch"], names = value, ["partial_ce", "volume_constraint"]
            else:
                shape[axis] = value
            times = interleaved(make_calls(**shape, names=names, device=device), args.rounds, device, warm_up=1)
            for name in names:
                records.append(
                    {
                        "axis": axis,
                        "value": str(value),
                        "method": name,
                        "ms": f"{statistics.median(times[name]):.3f}",
                        **{key: str(number) for key, number in shape.items()},
                        "rounds": str(args.rounds),
                        **environment(device),
                        "command": shlex.join(["python", "-m", "scripts.experiments.benchmark_growth", *sys.argv[1:]]),
                    }
                )
                print({key: records[-1][key] for key in ("axis", "value", "method", "ms")}, flush=True)
    write_csv(args.output.with_suffix(".csv"), records)
    draw(records, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
