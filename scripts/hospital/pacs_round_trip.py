"""Push series from an Orthanc to the service, end both in the middle, and count and time what comes back.

    python -m scripts.hospital.pacs_round_trip sunnybrook/dicom/SCD0000101_ED --output docs/results/pacs_round_trip.json

Needs Orthanc with DICOMweb (`apt install orthanc orthanc-dicomweb`). All series are copies of one, with UIDs and
patients of their own; of one, a slice's pixel data are cut in half. Orthanc sends them by C-STORE. After `--kill_after`
segmentations the service is killed (SIGKILL) and started again, after twice as many Orthanc is. What Orthanc could not
send meanwhile is begun again, as an administrator would have it done (docs/hospital.md).

Times are of the service's own log. The network alone is timed in a process of its own, on the batches that the
workflow gives it, in turns with the whole inference, reading and writing left out; beside the time on the clock stands
that on the processor, which other work on the machine stretches less. Use OMP_NUM_THREADS=1 for it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset, FileDataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid

from scripts.experiments.benchmarking import environment, interleaved
from scripts.hospital import orthanc
from sizeloss_monai.bundle.run_record import source_commit
from sizeloss_monai.dicom import DicomSegmenter, decode_volume, read_instances, split_phases
from sizeloss_monai.dicom.series import digest

PHASES = ("receive", "wait", "read", "inference", "write", "store", "total")


class Service:
    """``sizeloss-monai dicom-service``, over its restarts."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._config, self._log = folder / "service.yaml", folder / "service.log"
        self._config.write_text(yaml.safe_dump(dict(settings)))
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        started = self.count("listening")
        command = [sys.executable, "-m", "sizeloss_monai", "dicom-service", "--config", str(self._config)]
        secrets = {"PACS_USER": orthanc.USER, "PACS_PASSWORD": orthanc.PASSWORD}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | secrets)
        until(lambda: self.count("listening") > started)

    def end(self, number: int) -> int:
        """End it by a signal; gives its exit code, 0 where there is nothing to end."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait()
        self._process = None
        return code

    def log(self) -> str:
        """Everything that it wrote."""
        return self._log.read_text() if self._log.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        """The lines of the log; a line that is no JSON, such as a traceback, is an error."""
        return [json.loads(line) for line in self.log().splitlines()]

    def count(self, *names: str) -> int:
        """How many lines tell one of these events."""
        return sum(event["event"] in names for event in self.events())


def until(condition: Callable[[], object], seconds: float = 600, pause: float = 0.2) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain; see the logs in --work_dir")
        time.sleep(pause)


def free_port() -> int:
    """A port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def copies(folder: Path, count: int) -> list[list[FileDataset]]:
    """Copies of a series: each of another patient, with a study of its own."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    made = []
    for number in range(1, count + 1):
        series = [dcmread(path) for path in files]
        study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
        for ds in series:
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study_uid, series_uid, frame_uid
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.PatientName = ds.PatientID = f"ROUNDTRIP{number:03d}"
        made.append(series)
    return made


def round_trip(args: argparse.Namespace, work_dir: Path) -> dict[str, Any]:
    """Push, interrupt, wait, and count."""
    with disable_value_validation():  # the UIDs of pseudonymised data
        series = copies(args.folder, args.series)
    corrupt = series[args.series // 2][0]
    corrupt.PixelData = corrupt.PixelData[: len(corrupt.PixelData) // 4 * 2]
    port = free_port()
    pacs = orthanc.Orthanc(work_dir / "orthanc", free_port(), free_port(), ("SIZELOSS", port))
    service = Service(
        work_dir,
        {
            "ae_title": "SIZELOSS",
            "port": port,
            "calling_ae_titles": ["ORTHANC"],
            "dicomweb_url": pacs.dicomweb_url,
            "user_variable": "PACS_USER",
            "password_variable": "PACS_PASSWORD",
            "bundle": str(args.bundle),
            "spool": str(work_dir / "spool"),
            "sop_classes": ["MRImageStorage"],
            "quiet_seconds": args.quiet_seconds,
            "device": args.device,
        },
    )

    begun_again = 0

    def ended() -> int:
        """Series done or failed; what Orthanc could not send is begun again."""
        nonlocal begun_again
        with contextlib.suppress(OSError):
            begun_again += pacs.resubmit_failed()
        return service.count("stored", "failed")

    try:
        pacs.start()
        service.start()
        for instance in (instance for item in series for instance in item):
            with BytesIO() as file:
                instance.save_as(file)
                pacs.upload(file.getvalue())
        for item in series[: len(series) // 2]:
            pacs.push(item[0].SeriesInstanceUID)
        until(lambda: ended() >= args.kill_after)
        later = series[len(series) // 2 :]
        incoming = {work_dir / "spool" / "incoming" / digest(item[0].SeriesInstanceUID): len(item) for item in later}
        for item in later:
            pacs.push(item[0].SeriesInstanceUID)
        until(lambda: any(folder.exists() for folder in incoming), pause=0.01)
        service.end(signal.SIGKILL)  # while it receives
        received = {folder: len(list(folder.iterdir())) for folder in incoming if folder.exists()}
        broken_off = sum(count < incoming[folder] for folder, count in received.items())
        time.sleep(5)
        service.start()
        until(lambda: ended() >= 2 * args.kill_after)
        pacs.stop()
        time.sleep(5)
        pacs.start()
        until(lambda: ended() >= args.series)
        time.sleep(3 * args.quiet_seconds)  # for what should not come
        exit_code = service.end(signal.SIGTERM)
        stored = [segmentations(pacs, item[0].StudyInstanceUID) for item in series]
    finally:
        service.end(signal.SIGKILL)
        pacs.stop()
    events = service.events()
    secrets = {str(value) for item in series for ds in item for value in (ds.PatientName, ds.SOPInstanceUID)}
    secrets |= {str(uid) for item in series for uid in (item[0].StudyInstanceUID, item[0].SeriesInstanceUID)}
    names = " ".join(str(path) for path in (work_dir / "spool").rglob("*"))
    masks = [instance.pixel_array for found in stored for instance in found]
    return {
        "series_pushed": len(series),
        "segmentations_by_series": {
            str(number): sum(len(found) == number for found in stored)
            for number in sorted({len(found) for found in stored})
        },
        "all_masks_equal": all(np.array_equal(mask, masks[0]) for mask in masks),
        "failures": [event["reason"] for event in events if event["event"] == "failed"],
        "series_half_received_at_the_kill": broken_off,
        "incomplete_series_waited_for": service.count("incomplete"),
        "transfers_begun_again": begun_again,
        "starts_of_the_service": service.count("listening"),
        "exit_code_after_sigterm": exit_code,
        "requests_while_the_pacs_was_down": service.count("PACS unavailable"),
        "identifiers_in_log_or_file_names": sum(value in service.log() + names for value in secrets),
        "files_left_in_the_spool": {
            state: sum(1 for _ in (work_dir / "spool" / state).rglob("*.dcm"))
            for state in ("incoming", "working", "failed")
        },
        "seconds": latencies([event["seconds"] for event in events if event["event"] == "stored"]),
    }


def segmentations(pacs: orthanc.Orthanc, study_uid: str) -> list[Dataset]:
    """The segmentations of a study, found by QIDO-RS and read back by WADO-RS."""
    client = DICOMwebClient(pacs.dicomweb_url, create_session_from_user_pass(orthanc.USER, orthanc.PASSWORD))
    found = client.search_for_instances(study_uid, search_filters={"Modality": "SEG"})
    return [
        client.retrieve_instance(study_uid, item["0020000E"]["Value"][0], item["00080018"]["Value"][0])
        for item in found
    ]


def latencies(logged: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Minimum, median and maximum of every phase over the series."""
    table = {}
    for phase in PHASES:
        values = [seconds[phase] for seconds in logged]
        shown = {"min": min(values), "median": statistics.median(values), "max": max(values)}
        table[phase] = {name: round(value, 3) for name, value in shown.items()}
    return table


def ratio(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Medians in ms, and the inference's as a multiple of the network's."""
    inference, network = (statistics.median(times[name]) for name in ("inference", "bare_network"))
    return {
        "inference_ms": round(inference, 1),
        "bare_network_ms": round(network, 1),
        "ratio": round(inference / network, 3),
    }


def inference_ratio(args: argparse.Namespace) -> dict[str, Any]:
    """The time of the inference, and of the network alone on the same batches, in turns."""
    segmenter = DicomSegmenter(args.bundle, device=args.device)
    (phase,) = split_phases(read_instances(args.folder), segmenter.description.modality)
    image = decode_volume(phase)
    network = segmenter.evaluator.network
    batches: list[torch.Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].clone()))
    segmenter.predict(image)
    hook.remove()

    def bare() -> None:
        network.eval()
        with torch.no_grad():
            for batch in batches:
                network(batch)

    processor: dict[str, list[float]] = {"inference": [], "bare_network": []}

    def on_processor(name: str, step: Callable[[], object]) -> Callable[[], None]:
        def timed() -> None:
            start = time.process_time()
            step()
            processor[name].append((time.process_time() - start) * 1000)

        return timed

    steps = {
        "inference": on_processor("inference", lambda: segmenter.predict(image)),
        "bare_network": on_processor("bare_network", bare),
    }
    device = torch.device(segmenter.evaluator.state.device)
    clock = interleaved(steps, args.rounds, device)
    return {
        "wall_clock": ratio(clock),
        "processor_time": ratio({name: values[-args.rounds :] for name, values in processor.items()}),
        "rounds": args.rounds,
        "batches": [list(batch.shape) for batch in batches],
        **environment(device),
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="one DICOM series, a file a slice")
    parser.add_argument("--output", type=Path, required=True, help="JSON")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cine_lv_segmentation"))
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--kill_after", type=int, default=6, help="segmentations")
    parser.add_argument("--quiet_seconds", type=float, default=2.0, help="of the service")
    parser.add_argument("--rounds", type=int, default=20, help="of the timing of the network")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work_dir", type=Path, help="keep databases and logs here; must be empty or absent")
    args = parser.parse_args()
    if not orthanc.is_installed():
        raise SystemExit("no Orthanc with DICOMweb: apt install orthanc orthanc-dicomweb")
    if args.work_dir and args.work_dir.exists() and any(args.work_dir.iterdir()):
        raise SystemExit(f"{args.work_dir} is not empty")
    with tempfile.TemporaryDirectory() as temporary:
        work_dir = args.work_dir or Path(temporary)
        work_dir.mkdir(parents=True, exist_ok=True)
        result = {
            "round_trip": round_trip(args, work_dir.resolve()),
            "inference": inference_ratio(args),
            "data": f"{args.folder.name}, {len(list(args.folder.iterdir()))} slices",
            "bundle": args.bundle.name,
            "commit": source_commit(),
            "command": shlex.join(["python", "-m", "scripts.hospital.pacs_round_trip", *sys.argv[1:]]),
        }
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
