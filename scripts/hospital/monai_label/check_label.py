r"""Serve a bundle by MONAI Label, segment and train through its HTTP server, and compare with the bundle's own run.

    env/bin/python -m scripts.hospital.monai_label.check_label --work_dir check \
        --scan data/sunnybrook/SCD0000101_ED.nii.gz

Run it with the environment that `scripts/hospital/monai_label/setup.sh` makes. It checks that

- the mask that the server sends is that of `python -m monai.bundle run`, voxel for voxel;
- training on masks put through the server writes checkpoints of its own, leaves every file of the bundle as it is, and
  can be done again;
- a trained checkpoint that a person has put beside the released one is used by the requests that name it.

Server and training are told of a proxy that does not exist: whatever they would download fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import requests

from scripts import ROOT
from scripts.hospital.route_checks import OFFLINE, check, compare, new_folder, run, run_bundle
from sizeloss_monai.phantoms import write_cine_phantoms

TARGET = 3  # the id of the left ventricle's cavity in the phantoms' masks; the network's class is 1
DEADLINE = 1800  # seconds for the server to start, and for a training


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder but compiled ones, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Server:
    """MONAI Label's server, by HTTP."""

    def __init__(self, port: int, model: str) -> None:
        """
        Args:
            port: on the loopback interface.
            model: name of the bundle.
        """
        self.url = f"http://127.0.0.1:{port}"
        self.model = model
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy, whatever the environment says

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request that succeeds, or ends the program."""
        answer = self.session.request(method, self.url + path, timeout=DEADLINE, **options)
        answer.raise_for_status()
        return answer

    def segment(self, image: str, file: Path, **params: Any) -> Path:
        """Segment an image of the server's and save the mask.

        Args:
            image: its name.
            file: where the mask goes.
            params: of the request.

        Returns:
            `file`.
        """
        data = {"params": json.dumps({"device": "cpu", "result_dtype": "uint8", **params})}
        answer = self.ask("POST", f"/infer/{self.model}", params={"image": image, "output": "image"}, data=data)
        file.write_bytes(answer.content)
        return file

    def add(self, name: str, image: Path, label: Path) -> None:
        """Put an image and its finished mask on the server."""
        with image.open("rb") as content:
            self.ask("PUT", "/datastore/image", params={"image": name}, files={"file": (image.name, content)})
        with label.open("rb") as content:
            where = {"image": name, "tag": "final"}
            self.ask("PUT", "/datastore/label", params=where, files={"label": (label.name, content)})

    def train(self, **params: Any) -> dict[str, Any]:
        """Train, and wait for the end.

        Args:
            params: of the request.

        Returns:
            The task as the server tells it: ``status`` is DONE when all went well.
        """
        self.ask("POST", f"/train/{self.model}", json={"device": "cpu", **params})
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            task = dict(self.ask("GET", "/train/").json())
            if task["status"] in ("DONE", "ERROR"):
                return task
            time.sleep(2)
        raise SystemExit(f"training took longer than {DEADLINE} s")


@contextmanager
def running_server(app: Path, studies: Path, model: str, port: int, work_dir: Path) -> Iterator[Server]:
    """Start the server, and stop it in the end.

    Args:
        app: the folder of the application, with the bundle in its `model` folder.
        studies: the folder of scans.
        model: name of the bundle.
        port: on the loopback interface.
        work_dir: the server's working directory, where trainings write, and its log, `server.log`.

    Yields:
        The server, when it answers.
    """
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    # of any other source than `monaihosting` bundles are taken from the app's folder, without a look at the zoo's list
    command += ["--conf", "models", model, "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    paths = {"PYTHONPATH": str(ROOT), "MONAI_LABEL_SESSION_PATH": str(work_dir / "sessions")}
    environment = {**os.environ, **OFFLINE, **paths}
    with (work_dir / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=work_dir, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            server = Server(port, model)
            end = time.monotonic() + DEADLINE
            while True:
                try:
                    server.ask("GET", "/info/")
                    break
                except requests.ConnectionError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise SystemExit(f"the server did not start, see {work_dir / 'server.log'}") from None
                    time.sleep(1)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=60)


def same_mask(found: Path, expected: Path) -> tuple[bool, str]:
    """Compare two files, see `route_checks.compare`."""
    image = nib.Nifti1Image.from_filename(found)
    return compare(np.asarray(image.dataobj), image.affine, expected)


def main() -> None:
    """Parse the command line and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="folder to write into; absent or empty")
    parser.add_argument("--scan", type=Path, help="a NIfTI file to segment (default: a phantom)")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "cine_lv_segmentation")
    parser.add_argument("--port", type=int, default=23456)
    parser.add_argument("--epochs", type=int, default=1, help="of each training (default: %(default)s)")
    args = parser.parse_args()
    work_dir, model = new_folder(args.work_dir), args.bundle.name

    phantoms = write_cine_phantoms(work_dir / "phantoms", num_patients=4)
    items = [item for section in ("training", "validation") for item in json.loads(phantoms.read_text())[section]]
    scan = args.scan or phantoms.parent / items[0]["image"]
    app, studies = work_dir / "monaibundle", work_dir / "studies"
    run([sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", work_dir])
    bundle = Path(shutil.copytree(args.bundle, app / "model" / model))
    studies.mkdir()
    shutil.copy(scan, studies / "scan.nii.gz")
    released = digests(bundle)
    expected = run_bundle(bundle, studies / "scan.nii.gz", work_dir / "expected")

    with running_server(app, studies, model, args.port, work_dir) as server:
        info = server.ask("GET", "/info/").json()
        print(f"server: {info['name']}; models {list(info['models'])}, trainers {list(info['trainers'])}")
        print(f"labels: {info['models'][model]['labels']}")
        start = time.monotonic()
        found = server.segment("scan", work_dir / "found.nii.gz")
        same, text = same_mask(found, expected)
        check(same, f"mask by HTTP = mask by monai.bundle run: {text} ({time.monotonic() - start:.1f} s)")

        for item in items:
            mask = nib.Nifti1Image.from_filename(phantoms.parent / item["label"])
            label = work_dir / f"{item['case']}_mask.nii.gz"
            target = (np.asarray(mask.dataobj) == TARGET).astype(np.uint8)
            nib.save(nib.Nifti1Image(target, mask.affine), label)
            server.add(item["case"], phantoms.parent / item["image"], label)
        runs = []
        for number in (1, 2):
            start = time.monotonic()
            task = server.train(max_epochs=args.epochs, val_split=0.25)
            if task["status"] != "DONE":
                print("\n".join(task.get("details", [])))
            runs = sorted((work_dir / "runs" / model).glob("*/checkpoints/model.pt"))
            what = f"training {number} on {len(items)} masks, {args.epochs} epochs: {task['status']}"
            check(
                task["status"] == "DONE" and len(runs) == number,
                f"{what}, wrote {[str(run.relative_to(work_dir)) for run in runs]} ({time.monotonic() - start:.0f} s)",
            )
        check(digests(bundle) == released, f"all {len(released)} files of the bundle are as they were")

        # what a person does who wants the trained model: put it beside the released one
        shutil.copy(runs[-1], bundle / "models" / "model_site.pt")
        trained = run_bundle(bundle, studies / "scan.nii.gz", work_dir / "trained", checkpoint=str(runs[-1]))
        found = server.segment("scan", work_dir / "found_trained.nii.gz", model_filename="model_site.pt")
        same, text = same_mask(found, trained)
        check(same, f"mask of the trained model, named in the request: {text}")
        found = server.segment("scan", work_dir / "found_again.nii.gz", model_filename="model.pt")
        same, text = same_mask(found, expected)
        check(same, f"mask of the released model again: {text}")


if __name__ == "__main__":
    main()
