"""Weak supervision on phantoms, from data to masks, in minutes on two CPU cores and without patient data.

Writes phantom patients, trains the cine-MRI bundle at three levels of supervision (seeds alone, seeds and size bounds,
full annotation) as a user would, scores them on held-out patients, and segments a new scan on its own grid::

    python -m scripts.tools.demo --output_dir demo

What an earlier call finished is kept, so that an interrupted demo goes on where it was; ``--overwrite`` starts anew.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from monai.transforms import ResampleToMatch

from scripts import ROOT
from scripts.experiments.result_files import read_case_means, write_csv
from sizeloss_monai.bundle import last_epoch, latest_checkpoint
from sizeloss_monai.data.volumes import load_volume
from sizeloss_monai.errors import Place
from sizeloss_monai.phantoms import write_cine_phantoms
from sizeloss_monai.report import Outline, Panel, largest_slice, overlay_figure, square_window

BUNDLE_CONFIGS = "bundles/cine_lv_segmentation/configs"
PROTOCOL = "configs/protocols/demo.yaml"
MARKER = ".sizeloss_monai_demo"  # tells a folder of the demo's from one of the user's
OUTPUTS = ("data", "runs", "new_scan", "results.csv", "results.md", "overlays.png", "new_scan.png")
NUM_PATIENTS = 20
DRAWN_CASES = 4
PICTURE_DPI = 210  # twice what the README's width of 850 pixels needs
CAVITY = 3  # id of the left ventricle's cavity in the phantoms
IGNORE_INDEX = 255
METRICS = {"val_mean_dice": "3D DSC", "val_slice_dice": "2D DSC", "val_hd95_mm": "HD95 (mm)"}


@dataclass(frozen=True)
class Level:
    """A level of supervision: its overlay in ``configs/supervision``, its name, and what it is given."""

    config: str
    title: str
    given: str


LEVELS = (
    Level("partial_ce", "partial CE", "seeds"),
    Level("individual_bounds", "+ size", "seeds and size bounds"),
    Level("full", "full", "all pixels"),
)
NEW_SCAN_LEVEL = LEVELS[1]


@dataclass(frozen=True)
class Prediction:
    """Masks of a test case on its own grid, all ``[H, W, D]``."""

    image: MetaTensor
    seed: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks of one shape; 1 where both are empty."""
    total = int((a != 0).sum()) + int((b != 0).sum())
    return 2 * int(((a != 0) & (b != 0)).sum()) / total if total else 1.0


def spacing_of(image: MetaTensor) -> tuple[float, float, float]:
    """Voxel size of a volume ``[H, W, D]`` or ``[1, H, W, D]`` in mm."""
    x, y, z = image.pixdim.tolist()[:3]
    return x, y, z


def first_channel(path: Path) -> MetaTensor:
    """Read a NIfTI or MetaImage file, ``[H, W, D]``."""
    return load_volume(path, Place(path.name, "image"))[0]  # type: ignore[return-value]


class Demo:
    """The demo's steps in one output folder."""

    def __init__(self, output_dir: Path, jobs: int) -> None:
        """
        Args:
            output_dir: may be absent.
            jobs: number of trainings at a time, each on one thread.
        """
        self.dir = output_dir
        self.jobs = jobs
        self.protocol: dict[str, Any] = yaml.safe_load((ROOT / PROTOCOL).read_text(encoding="utf-8"))

    def relative(self, path: Path) -> str:
        """A path as it is given to commands, which run in the project's folder."""
        path = path.absolute()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)

    def run_dir(self, level: Level) -> Path:
        """Folder of a training."""
        return self.dir / "runs" / level.config

    def epochs_done(self, level: Level) -> int:
        """Number of epochs of which there is a checkpoint."""
        return last_epoch(self.run_dir(level) / "checkpoints")

    def configs(self, level: Level, *further: str) -> list[str]:
        """The bundle's config and its overlays."""
        return [f"{BUNDLE_CONFIGS}/train.yaml", PROTOCOL, f"configs/supervision/{level.config}.yaml", *further]

    def start_bundle(self, config_files: Sequence[str], log: Path, **overrides: str) -> subprocess.Popen[bytes]:
        """Start ``python -m monai.bundle run`` in the project's folder and show the command.

        Args:
            config_files: relative to the project's folder.
            log: file that takes what the process prints.
            overrides: of the config.
        """
        files = f"[{','.join(repr(file) for file in config_files)}]"
        arguments = ["-m", "monai.bundle", "run", "--config_file", files]
        for name, value in overrides.items():
            arguments += [f"--{name}", value]
        print("  $ python", shlex.join(arguments), flush=True)
        threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        with log.open("ab") as sink:
            return subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **threads}, stdout=sink, stderr=sink
            )

    def write_data(self) -> None:
        """Write the phantom patients, unless they are there."""
        data = self.dir / "data"
        if (data / "datalist.json").is_file():
            print(f"Kept the phantoms in {data}")
            return
        write_cine_phantoms(data, num_patients=NUM_PATIENTS, overwrite=True)
        print(f"Wrote {NUM_PATIENTS} phantom patients, two phases each, to {data}")

    def train(self) -> None:
        """Train every level that is not finished yet, ``jobs`` at a time.

        Raises:
            RuntimeError: when a training fails; the others are stopped.
        """
        epochs = int(self.protocol["epochs"])
        waiting = [level for level in LEVELS if self.epochs_done(level) < epochs]
        for level in LEVELS:
            if level not in waiting:
                print(f"Kept the finished training in {self.run_dir(level)}")
        running: dict[Level, subprocess.Popen[bytes]] = {}
        started = shown = time.monotonic()
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    level = waiting.pop(0)
                    log = self.run_dir(level).with_suffix(".log")
                    log.parent.mkdir(parents=True, exist_ok=True)
                    overrides = {
                        "dataset_dir": self.relative(self.dir / "data"),
                        "output_dir": self.relative(self.run_dir(level)),
                    }
                    if self.run_dir(level).exists():
                        overrides["resume"] = "true"
                    running[level] = self.start_bundle(self.configs(level), log, **overrides)
                time.sleep(0.5)
                for level in [level for level, process in running.items() if process.poll() is not None]:
                    self.check(running.pop(level), self.run_dir(level).with_suffix(".log"))
                    print(f"  {level.title}: trained after {time.monotonic() - started:.0f} s", flush=True)
                if running and time.monotonic() - shown > 20:
                    shown = time.monotonic()
                    done = ", ".join(f"{level.title} {self.epochs_done(level)}/{epochs}" for level in running)
                    print(f"  {shown - started:4.0f} s: epochs {done}", flush=True)
        finally:
            for process in running.values():
                process.terminate()

    @staticmethod
    def check(process: subprocess.Popen[bytes], log: Path) -> None:
        """Raise with the end of the log where a process failed.

        Args:
            process: may still run.
            log: what it printed.

        Raises:
            RuntimeError: when its exit code is not 0.
        """
        if process.wait() != 0:
            end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{end}\nThe command above failed; all it printed is in {log}")

    def evaluate(self, level: Level) -> dict[str, Prediction]:
        """Score a level on the test patients with the bundle's evaluation, which writes tables into the run's folder.

        Args:
            level: one that is trained.

        Returns:
            Predictions by case.
        """
        workflow = ConfigWorkflow(
            config_file=[str(ROOT / file) for file in self.configs(level, f"{BUNDLE_CONFIGS}/evaluate.yaml")],
            logging_file=False,
            section="test",
            dataset_dir=str(self.dir / "data"),
            output_dir=str(self.run_dir(level)),
            resume=True,  # the tables of an earlier call are replaced
        )
        workflow.initialize()
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
        predictions: dict[str, Prediction] = {}

        @evaluator.on(Events.ITERATION_COMPLETED)
        def collect(engine: Engine) -> None:
            inputs: list[dict[str, Any]] = engine.state.batch  # type: ignore[assignment]
            outputs: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
            for item in ({**given, **output} for given, output in zip(inputs, outputs, strict=True)):
                image = first_channel(Path(item["image"].meta["filename_or_obj"]))
                to_scan = ResampleToMatch(mode="nearest", padding_mode="border")
                seed = np.asarray(to_scan(item["weak_label"].float(), img_dst=image[None]))[0]
                truth, predicted = (np.asarray(item[key])[1].astype(bool) for key in ("label", "pred"))
                predictions[str(item["case"])] = Prediction(image, seed.round() == 1, truth, predicted)

        workflow.run()
        workflow.finalize()
        return predictions

    def scores(self, level: Level) -> dict[str, np.ndarray]:
        """Scores of every test case from the tables of the evaluation, by metric."""
        scores = {}
        for metric in METRICS:
            path = self.run_dir(level) / "evaluation" / "test" / f"{metric}_raw.csv"
            scores[metric] = np.array(list(read_case_means(path).values()))
        return scores

    def write_results(self) -> str:
        """Write the levels' scores as CSV and Markdown, and return the Markdown."""
        lines = [
            f"| supervision | given | {' | '.join(METRICS.values())} |",
            f"|---|---|{'---|' * len(METRICS)}",
        ]
        records: list[dict[str, Any]] = []
        for level in LEVELS:
            cells = []
            for metric, values in self.scores(level).items():
                known = values[np.isfinite(values)]
                mean, std = (float(known.mean()), float(known.std())) if len(known) else (np.nan, np.nan)
                records.append(
                    {
                        "supervision": level.config,
                        "metric": metric.removeprefix("val_"),
                        "mean": f"{mean:.4f}",
                        "std": f"{std:.4f}",
                        "cases": len(known),
                    }
                )
                digits = 1 if metric == "val_hd95_mm" else 3
                cells.append(f"{mean:.{digits}f} ± {std:.{digits}f}")
            lines.append(f"| {level.title} | {level.given} | {' | '.join(cells)} |")
        write_csv(self.dir / "results.csv", records)
        text = "\n".join(lines) + "\n"
        (self.dir / "results.md").write_text(text, encoding="utf-8")
        return text

    def draw_overlays(self, predictions: dict[Level, dict[str, Prediction]]) -> None:
        """Draw the largest slice of the first test cases, a row a case: the seed, then each level's prediction."""
        rows: list[list[Panel]] = []
        cases = list(next(iter(predictions.values())).items())[:DRAWN_CASES]
        for case, reference in cases:
            spacing = spacing_of(reference.image)[:2]
            window = (*square_window(reference.truth, spacing, margin=25.0), largest_slice(reference.truth))
            image, truth = (
                np.asarray(reference.image)[window],
                Outline(reference.truth[window], "lime", "truth", style="--"),
            )
            row = [Panel(image, [Outline(reference.seed[window], "gold", "seed", 0.8), truth], spacing)]
            for by_case in predictions.values():
                predicted = by_case[case].predicted
                outlines = [Outline(predicted[window], "red", "prediction", 0.25), truth]
                row.append(Panel(image, outlines, spacing, f"3D DSC {dice(predicted, reference.truth):.2f}"))
            rows.append(row)
        columns = ["scan, seed\nand truth", *(f"{level.title}\n({level.given})" for level in predictions)]
        titles = [case.replace("_", " ") for case, _ in cases]
        figure = overlay_figure(rows, columns, titles)
        figure.savefig(self.dir / "overlays.png", dpi=PICTURE_DPI)

    def segment_new_scan(self) -> str:
        """Segment a scan of a patient nobody has seen, oblique and as MetaImage, and compare mask and scan.

        Returns:
            A sentence on the mask.
        """
        folder = self.dir / "new_scan"
        write_cine_phantoms(
            folder, num_patients=1, seed=2019, suffixes=(".mhd",), splits=(1.0, 0.0, 0.0), overwrite=True
        )
        scan = folder / "patient001_ES.mhd"
        checkpoint = latest_checkpoint(self.run_dir(NEW_SCAN_LEVEL) / "checkpoints", required=True)
        assert checkpoint is not None
        log = self.run_dir(NEW_SCAN_LEVEL).with_name("new_scan.log")
        process = self.start_bundle(
            [f"{BUNDLE_CONFIGS}/inference.yaml"],
            log,
            dataset_dir=self.relative(scan),
            output_dir=self.relative(folder / "masks"),
            checkpoint=self.relative(Path(checkpoint)),
            resume="true",
            **{name: str(self.protocol[name]) for name in ("pixdim", "slice_size", "network_def")},
        )
        self.check(process, log)
        image, truth = first_channel(scan), np.asarray(first_channel(folder / "patient001_ES_gt.mhd")) == CAVITY
        saved = first_channel(folder / "masks" / "patient001_ES_seg.nii.gz")
        mask = np.asarray(saved)
        same_grid = saved.shape == image.shape and np.allclose(saved.affine, image.affine, atol=1e-3)
        volume = float((mask > 0).sum() * np.prod(spacing_of(image)) / 1000)
        self.draw_new_scan(np.asarray(image), mask, truth, spacing_of(image))
        return (
            f"New scan: cavity of {volume:.0f} mL, 3D DSC {dice(mask, truth):.3f}; the mask "
            f"{'lies' if same_grid else 'DOES NOT LIE'} on the scan's own grid ({' x '.join(map(str, mask.shape))} "
            f"voxels of {' x '.join(f'{s:.2f}' for s in spacing_of(image))} mm, oblique)."
        )

    def draw_new_scan(
        self, image: np.ndarray, mask: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]
    ) -> None:
        """Draw every slice of the new scan with its mask."""
        columns = (image.shape[2] + 1) // 2
        panels: list[Panel | None] = []
        for z in range(image.shape[2]):
            outlines = [
                Outline(mask[..., z], "red", "mask of the network with size bounds", 0.25),
                Outline(truth[..., z], "lime", "truth", style=":"),
            ]
            panels.append(Panel(image[..., z], outlines, spacing[:2], f"slice {z + 1}"))
        panels += [None] * (2 * columns - len(panels))
        rows = [panels[:columns], panels[columns:]]
        overlay_figure(rows, title="A new scan, base to apex").savefig(self.dir / "new_scan.png", dpi=PICTURE_DPI)

    def run(self) -> None:
        """All steps."""
        started = time.monotonic()
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.dir / MARKER).touch()
        print("1. Data", flush=True)
        self.write_data()
        print(f"2. Training, {self.jobs} at a time on one thread each", flush=True)
        self.train()
        print("3. Evaluation on the test patients", flush=True)
        logging.disable(logging.WARNING)  # scores come below, and remarks on where configs lie help nobody here
        predictions = {level: self.evaluate(level) for level in LEVELS}
        logging.disable(logging.NOTSET)
        table = self.write_results()
        self.draw_overlays(predictions)
        print("4. A new scan", flush=True)
        sentence = self.segment_new_scan()
        cases = len(next(iter(predictions.values())))
        print(f"\nDone in {time.monotonic() - started:.0f} s. Mean ± std over {cases} test volumes:\n")
        print(f"{table}\n{sentence}\n")
        for name, what in (
            ("results.md", "the table"),
            ("results.csv", "the same, for programs"),
            ("overlays.png", f"predictions of every level on {DRAWN_CASES} of the test volumes"),
            ("new_scan.png", "the new scan and its mask"),
            ("new_scan/masks", "the mask itself"),
            ("runs", "checkpoints, logs, TensorBoard files and per-case tables"),
        ):
            print(f"  {self.dir / name}: {what}")


def remove_outputs(output_dir: Path) -> None:
    """Remove what the demo wrote into a folder of its own.

    Args:
        output_dir: of an earlier call; may be absent.

    Raises:
        RuntimeError: when the folder holds something and no demo made it.
    """
    if output_dir.is_dir() and any(output_dir.iterdir()) and not (output_dir / MARKER).is_file():
        raise RuntimeError(f"{output_dir} was not made by this demo, nothing was removed.")
    for name in OUTPUTS:
        path = output_dir / name
        if path.is_dir():
            print(f"Removing {path}")
            shutil.rmtree(path)
        elif path.exists():
            print(f"Removing {path}")
            path.unlink()


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run the demo.

    Args:
        argv: arguments without the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(description="Weak supervision on phantoms, from data to masks.")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "demo", help="default: demo in the project's folder")
    parser.add_argument("--jobs", type=int, default=3, help="trainings at a time, one thread each (default: 3)")
    parser.add_argument("--overwrite", action="store_true", help="remove the demo's former outputs and start anew")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs must be at least 1.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # trainings are then stopped too
    try:
        if args.overwrite:
            remove_outputs(args.output_dir)
        Demo(args.output_dir, args.jobs).run()
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
