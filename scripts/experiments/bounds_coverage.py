"""How often size bounds made from a few patients of ACDC, or from published ranges, hold for the others.

    python -m scripts.experiments.bounds_coverage --data_dir data

Bounds on the volumes of right ventricle, myocardium and left ventricle are made from 1, 3, 5 and 10 patients (both
phases), drawn at random many times, in mL and in voxels; the other patients' volumes are counted that lie inside.
Published ranges, at several margins, are counted by diagnosis.

--data_dir holds the folder acdc, and where they are at hand promise12 and Task04_Hippocampus. Writes
bounds_coverage.csv, bounds_coverage_published.csv and bounds_coverage.md.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scripts import ROOT
from scripts.experiments.result_files import write_csv
from sizeloss_monai.bundle import record_run
from sizeloss_monai.datalist import open_datalist
from sizeloss_monai.options import LayoutName, Method, PublishedName
from sizeloss_monai.sizes.from_cases import MIN_SIZES, count_outside, measure_sizes, size_interval
from sizeloss_monai.sizes.published import published_range

CLASSES = {1: "RV", 2: "myocardium", 3: "LV"}
PUBLISHED: dict[int, PublishedName] = {1: "rv_cavity", 2: "lv_myocardium", 3: "lv_cavity"}
MARGINS = (1.0, 1.5, 2.0, 3.0)
UNITS = ("mL", "voxels")
OTHERS: dict[str, tuple[LayoutName, PublishedName]] = {
    "promise12": ("promise12", "prostate"),
    "Task04_Hippocampus": ("decathlon", "hippocampus"),
}
"""By folder, the layout and the published range of other data sets."""

Sizes = dict[str, dict[int, NDArray[np.float64]]]
"""By patient and class, the volumes of both phases, ``[2, 2]``: in mL and in voxels."""


def measure_patients(items: list[dict[str, Any]]) -> Sizes:
    """The volumes of every patient."""
    found: dict[str, dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for item in tqdm(items, desc="cases"):
        case = measure_sizes(item, per="volume", allowed=[0, *CLASSES])
        for class_id, size in case.sizes.items():
            found[case.patient][class_id].append([size.item(), size.item() / case.voxel])
    return {patient: {c: np.array(pairs) for c, pairs in classes.items()} for patient, classes in found.items()}


def drawn_coverage(
    sizes: Sizes, class_id: int, unit: str, method: Method, subsets: list[NDArray[np.int64]]
) -> dict[str, Any]:
    """Coverage and width of the bounds that each subset of the patients gives."""
    column = UNITS.index(unit)
    volumes = np.stack([classes[class_id][:, column] for classes in sizes.values()])
    coverages, widths = [], []
    for subset in subsets:
        bounds = size_interval(volumes[subset], method)
        others = np.delete(volumes, subset, axis=0)
        coverages.append(1 - count_outside(others, bounds) / others.size)
        widths.append(bounds[1] / bounds[0])
    low, high = np.quantile(coverages, [0.05, 0.95])
    return {
        "class": CLASSES[class_id],
        "unit": unit,
        "method": method,
        "patients": len(subsets[0]),
        "coverage_mean": f"{np.mean(coverages):.4f}",
        "coverage_5_percent": f"{low:.4f}",
        "coverage_95_percent": f"{high:.4f}",
        # of the logarithm, since single widths from one patient are astronomic
        "width_geometric_mean": f"{np.exp(np.mean(np.log(widths))):.4g}",
        "width_median": f"{np.median(widths):.4g}",
    }


def published_coverage(
    label: str, entry: PublishedName, volumes: dict[str, NDArray[np.float64]], data: str
) -> list[dict[str, Any]]:
    """How many volumes of each group of patients, in mL, lie inside a published range, at several margins."""
    lower, upper = published_range(entry).bounds
    return [
        {
            "class": label,
            "entry": entry,
            "margin": f"{margin:g}",
            "lower_ml": f"{lower / margin:.4g}",
            "upper_ml": f"{upper * margin:.4g}",
            "group": group,
            "volumes": len(found),
            "below": int((found < lower / margin).sum()),
            "above": int((found > upper * margin).sum()),
            "coverage": f"{1 - count_outside(found, (lower / margin, upper * margin)) / len(found):.4f}",
            "data": data,
        }
        for margin in MARGINS
        for group, found in volumes.items()
    ]


def acdc_groups(sizes: Sizes, groups: dict[str, str], class_id: int) -> dict[str, NDArray[np.float64]]:
    """The volumes of a class in mL, of all patients and of those of each diagnosis."""
    members = {group: [p for p in sizes if group in ("all", groups[p])] for group in ["all", *sorted(groups.values())]}
    return {group: np.concatenate([sizes[p][class_id][:, 0] for p in patients]) for group, patients in members.items()}


def other_organs(data_dir: Path) -> list[dict[str, Any]]:
    """Coverage of published ranges on other data sets, as far as they are at hand; all their classes are one organ."""
    records = []
    for folder, (layout, entry) in OTHERS.items():
        if not (data_dir / folder).is_dir():
            print(f"left out {folder}: not in {data_dir}")
            continue
        items = open_datalist(data_dir / folder, layout=layout, num_validation=0, sections="training")["training"]
        volumes = [sum(size.item() for size in measure_sizes(item).sizes.values()) for item in tqdm(items, desc=folder)]
        records += published_coverage(entry, entry, {"all": np.array(volumes)}, f"{folder}, {len(items)} volumes")
    return records


def provenance(command: str, seed: int, draws: int) -> dict[str, Any]:
    """What made the numbers."""
    with TemporaryDirectory() as folder:
        record_run(folder)
        entry = json.loads((Path(folder) / "run.json").read_text())[-1]
    machine = entry["machine"]
    return {
        "seed": seed,
        "draws": draws,
        "commit": entry["commit"],
        "numpy": entry["packages"]["numpy"],
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s), CPU",
        "command": command,
    }


def markdown(drawn: list[dict[str, Any]], published: list[dict[str, Any]]) -> str:
    """Both tables."""
    counts = list(dict.fromkeys(record["patients"] for record in drawn))
    lines = [
        "Bounds from a few patients: share of the others' volumes inside (mean over draws), and in brackets the width, "
        "upper over lower bound (median over draws).",
        "",
        f"| class | method | unit | {' | '.join(f'from {n}' for n in counts)} |",
        "| --- | --- | --- |" + " --- |" * len(counts),
    ]
    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for record in drawn:
        cell = f"{float(record['coverage_mean']):.0%} ({float(record['width_median']):.3g})"
        rows[record["class"], record["method"], record["unit"]].append(cell)
    lines += [f"| {' | '.join([*key, *cells])} |" for key, cells in rows.items()]
    groups = list(dict.fromkeys(record["group"] for record in published))
    headings = ["class", "data", "margin", "bounds (mL)", *groups]
    lines += [
        "",
        "Published normal ranges: share of volumes inside, of ACDC by diagnosis.",
        "",
        f"| {' | '.join(headings)} |",
        "|" + " --- |" * len(headings),
    ]
    shares: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for record in published:
        bounds = f"{record['lower_ml']} to {record['upper_ml']}"
        shares[record["class"], record["data"].split(",")[0], record["margin"], bounds][record["group"]] = (
            f"{float(record['coverage']):.0%}"
        )
    lines += [f"| {' | '.join([*key, *(share.get(g, '') for g in groups)])} |" for key, share in shares.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, draw, count and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    parser.add_argument("--results_dir", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--patients", type=int, nargs="+", default=[1, 3, 5, 10], help="to make bounds from")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    args = parser.parse_args()
    datalist = open_datalist(args.data_dir / "acdc", layout="acdc", num_validation=0, sections="training")
    items = datalist["training"]
    sizes, groups = measure_patients(items), {item["patient"]: item["group"] for item in items}
    if max(args.patients) >= len(sizes):
        parser.error(f"--patients must leave some of the {len(sizes)} patients to test on")
    rng = np.random.default_rng(args.seed)
    # the same patients for every class, method and unit, so that these can be compared
    subsets = {n: [rng.choice(len(sizes), n, replace=False) for _ in range(args.draws)] for n in args.patients}
    counts = " ".join(map(str, args.patients))
    command = (
        f"python -m scripts.experiments.bounds_coverage --data_dir data --patients {counts} --draws {args.draws} "
        f"--seed {args.seed}"
    )
    made, acdc = provenance(command, args.seed, args.draws), f"ACDC, {len(sizes)} patients, {len(items)} volumes"
    drawn = [
        drawn_coverage(sizes, class_id, unit, method, subsets[n]) | {"data": acdc} | made
        for class_id in CLASSES
        for method in MIN_SIZES
        for unit in UNITS
        for n in args.patients
    ]
    published = []
    for class_id, entry in PUBLISHED.items():
        published += published_coverage(CLASSES[class_id], entry, acdc_groups(sizes, groups, class_id), acdc)
    published = [record | made for record in [*published, *other_organs(args.data_dir)]]
    write_csv(args.results_dir / "bounds_coverage.csv", drawn)
    write_csv(args.results_dir / "bounds_coverage_published.csv", published)
    (args.results_dir / "bounds_coverage.md").write_text(markdown(drawn, published), encoding="utf-8")


if __name__ == "__main__":
    main()
