r"""Whether trainings give the same weights in several checkouts, bit by bit: one tiny run for each bundle and overlay.

    for commit in f3c0ca3 2f25f78 3bd777e; do git worktree add ../$commit $commit; done
    python -m tests.support.weight_digests f3c0ca3=../f3c0ca3 2f25f78=../2f25f78 3bd777e=../3bd777e \
        --network_first f3c0ca3 --write docs/results/refactoring_digests.csv

Each checkout trains on the same phantoms (2 epochs, fixed seed, one thread); a digest is the SHA-256 of the names and
values of the trained network's tensors. Digests hold for one machine and one build of PyTorch.

MONAI's ``DataLoader`` draws the seed of the augmentation from the generator that initialises the network. Since a run
checks the checkpoint that it resumes from, it builds the network before the loader; ``--network_first`` does so in a
checkout of before.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from sizeloss_monai.phantoms import write_cine_phantoms
from tests.bundles.conftest import TINY, TINY_3D
from tests.support.bundle_runs import BUNDLES, CINE, SCRIBBLES, VOLUMES
from tests.support.layouts import WRITERS, write_scribbles

# (bundle, overlays in configs/, options)
RUNS: list[tuple[str, list[str], dict[str, object]]] = [
    *((bundle, ["individual_bounds"] * (bundle != SCRIBBLES), {}) for bundle in BUNDLES),
    (CINE, ["tags"], {}),
    (CINE, ["common_bounds"], {}),
    (CINE, ["volume_bounds"], {"batch_size": 1}),
    (CINE, ["full"], {}),
    (CINE, ["scribbles"], {"size_weight": 0.01}),  # once the default
    (CINE, ["common_bounds", "hybrid", "lagrangian"], {"num_full": 1}),
    (VOLUMES, ["common_bounds"], {}),
]
# in the checkout's own process, which imports its own package
TRAIN = """
import json, sys
from pathlib import Path
import torch
from monai.bundle import ConfigWorkflow
files, settings = json.load(sys.stdin)
files = [f if "/" in f else str(next(Path("configs").rglob(f))) for f in files]
workflow = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **settings)
workflow.initialize()
workflow.run()
workflow.finalize()
"""


def digest(checkpoint: Path) -> str:
    """SHA-256 of the tensors of a network's checkpoint."""
    found = hashlib.sha256()
    for name, tensor in sorted(torch.load(checkpoint, weights_only=True)["model"].items()):
        found.update(name.encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def train(
    tree: Path, bundle: str, overlays: list[str], further: list[str], data: Path, options: dict[str, object]
) -> str:
    """Train in a checkout; the digest of the last checkpoint."""
    with tempfile.TemporaryDirectory() as output:
        configs = f"bundles/{bundle}/configs"
        files = [f"{configs}/train.yaml", *further, *(f"{overlay}.yaml" for overlay in overlays)]
        settings = {
            "meta_file": f"{configs}/metadata.json",
            "dataset_dir": str(data),
            "output_dir": f"{output}/run",
            "device": "cpu",
            "epochs": 2,
            "seed": 3,
            **options,
        }
        # scribbles of phantoms mark unannotated voxels by 255, ACDC's by 4
        settings |= {"unannotated": 255} if "scribbles" in overlays else {}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN],
            input=json.dumps([files, settings]),
            cwd=tree,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return "failed: " + done.stderr.strip().splitlines()[-1]
        (checkpoint,) = Path(output, "run", "checkpoints").glob("checkpoint_epoch=2.pt")
        return digest(checkpoint)


def main() -> None:
    """Parse the command line, train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="+", help="NAME=FOLDER of a checkout")
    parser.add_argument("--data", type=Path, default=None, help="keep the phantoms here; default: for this call only")
    parser.add_argument("--write", type=Path, default=None, help="CSV file; earlier columns of other names stay")
    parser.add_argument("--network_first", nargs="*", default=[], help="names of checkouts, see above")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    args = parser.parse_args()
    rows: dict[str, dict[str, str]] = {}
    if args.write and args.write.is_file():
        with args.write.open(newline="", encoding="utf-8") as file:
            rows = {row["run"]: row for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as scratch:
        root = args.data or Path(scratch)
        tiny = {False: root / "tiny.yaml", True: root / "tiny_3d.yaml"}
        if not tiny[True].is_file():
            root.mkdir(parents=True, exist_ok=True)
            write_cine_phantoms(root / CINE, num_patients=4, seed=0, splits=(0.5, 0.25, 0.25), with_scribbles=True)
            for bundle, write in {SCRIBBLES: write_scribbles, **WRITERS}.items():
                write(root / bundle)
            tiny[False].write_text(TINY)
            tiny[True].write_text(TINY_3D)
        first = root / "network_first.yaml"
        first.write_text('+initialize: ["@network_def"]\n')
        for bundle, overlays, options in RUNS:
            run = "+".join([bundle, *overlays])
            if args.only not in run:
                continue
            row = rows.setdefault(run, {"run": run})
            for name, folder in (tree.split("=", 1) for tree in args.trees):
                further = [str(tiny[bundle == VOLUMES]), *[str(first)] * (name in args.network_first)]
                row[name] = train(Path(folder).resolve(), bundle, overlays, further, root / bundle, options)
                print(run, name, row[name], flush=True)
            if args.write:
                columns = list(dict.fromkeys(key for row in rows.values() for key in row))
                with args.write.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(rows.values())


if __name__ == "__main__":
    main()
