"""Figures of finished runs: training curves, DSC over fully annotated volumes, examples (Figures 3, 4 and 5 to 7)."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.image as mpl_image
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.experiments.result_tables import read_cases, summarise
from scripts.experiments.tables import Run, Setting, Table
from sizeloss_monai.report.curves import read_curves, read_events

PANELS_OF_OVERLAY = ("image", "weak label", "prediction", "truth")  # as the validation of a training logs them


def example_panels(run_dir: Path) -> dict[str, list[NDArray[np.float32]]]:
    """By case, the panels of the last overlay that validation wrote: image, weak label, prediction, truth."""
    latest: dict[str, tuple[int, bytes]] = {}
    for events in read_events(run_dir):
        for tag in events.Tags()["images"]:
            if tag.startswith("overlay/"):
                last = events.Images(tag)[-1]
                if last.step >= latest.get(tag, (0, b""))[0]:
                    latest[tag] = (last.step, last.encoded_image_string)
    panels = {}
    for tag, (_, encoded) in latest.items():
        strip = mpl_image.imread(io.BytesIO(encoded), format="png")
        panels[tag.removeprefix("overlay/")] = np.array_split(strip, len(PANELS_OF_OVERLAY), axis=1)
    return panels


def draw_curves(table: Table, setting: Setting, seed: int, file: Path) -> None:
    """Figure 3: validation DSC over epochs, a line a row."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for row in table.rows:
        run = Run(row.run, table.dataset, seed)
        if run.is_evaluated(setting):
            epochs, values = read_curves(read_events(run.folder(setting))).get("val_mean_dice", ([], []))
            axes.plot(epochs, values, label=row.title, linewidth=1.2)
    axes.set(xlabel="epoch", ylabel="validation DSC (3D, what the network sees)", ylim=(0, 1), title=table.title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="x-small")
    figure.savefig(file, dpi=120)
    print("wrote", file)


def draw_full_volumes(table: Table, setting: Setting, seed: int, file: Path) -> None:
    """Figure 4: DSC over the number of fully annotated volumes, alone and with weakly annotated ones."""
    lines: dict[str, list[tuple[int, float]]] = {"alone": [], "and the rest weak (hybrid)": []}
    everything = None
    for row in table.rows:
        run = Run(row.run, table.dataset, seed)
        if not run.is_evaluated(setting):
            continue
        mean, _, _ = summarise(case["dice_3d"] for case in read_cases(run.folder(setting)).values())
        if row.full is None:
            everything = mean
        else:
            lines["alone" if row.run.startswith("full") else "and the rest weak (hybrid)"].append((row.full, mean))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=f"n full volumes {name}")
    if everything is not None:
        axes.axhline(everything, color="grey", linestyle="--", label="all volumes full")
    axes.set(xlabel="fully annotated volumes n", ylabel="3D DSC", ylim=(0, 1), title=table.title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)
    print("wrote", file)


def draw_examples(table: Table, setting: Setting, seed: int, file: Path) -> None:
    """Figures 5 to 7: a validation case a line; image, truth, and the prediction of each row of the table."""
    made = {
        row.title: example_panels(run.folder(setting))
        for row in table.rows
        if (run := Run(row.run, table.dataset, seed)).is_evaluated(setting)
    }
    # overlays of an older version are not named by case
    named = {case for panels in made.values() for case in panels if not case.isdigit()}
    cases = sorted(case for case in named if sum(case in panels for panels in made.values()) > 1 or len(made) == 1)
    for title in [title for title, panels in made.items() if not set(cases) <= set(panels)]:
        print(f"{title}: has no overlays of {', '.join(cases)}, left out of the examples")
        del made[title]
    if not cases or not made:
        print(f"table {table.name}: no overlays to draw examples from")
        return
    first = next(iter(made.values()))
    figure = Figure(figsize=(1.5 * (len(made) + 3), 1.5 * len(cases) + 0.6), layout="constrained")
    grid = figure.subplots(len(cases), len(made) + 3, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, case in zip(grid, cases, strict=True):
        image, weak_label, _, truth = first[case]
        columns = {"image": image, "weak label": weak_label, "truth": truth}
        columns |= {title: panels[case][2] for title, panels in made.items()}
        for axes, (title, panel) in zip(line, columns.items(), strict=True):
            axes.imshow(panel)
            if case == cases[0]:
                axes.set_title("\n".join(_wrapped(title)), fontsize=6)
    figure.savefig(file, dpi=140)
    print("wrote", file)


def _wrapped(title: str, width: int = 20) -> list[str]:
    lines = [""]
    for word in title.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def draw_figures(table: Table, setting: Setting, seed: int, results: Path) -> None:
    """Draw what can be drawn of a table's finished runs.

    Args:
        table: which.
        setting: of the runs.
        seed: whose run is shown.
        results: folder of the pictures.
    """
    if not any(Run(row.run, table.dataset, seed).is_evaluated(setting) for row in table.rows):
        return
    name = f"table{table.name}_{setting.name}"
    draw_curves(table, setting, seed, results / f"{name}_curves.png")
    if any(row.full is not None for row in table.rows):
        draw_full_volumes(table, setting, seed, results / f"{name}_full_volumes.png")
    draw_examples(table, setting, seed, results / f"{name}_examples.png")
