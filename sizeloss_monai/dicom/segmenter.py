"""Segments DICOM series with a bundle that is loaded once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, CopyItemsd, KeepLargestConnectedComponentd, LoadImaged, SaveImaged
from pydicom.config import disable_value_validation

from sizeloss_monai.bundle.guard import literal
from sizeloss_monai.bundle.output_dir import check_checkpoint
from sizeloss_monai.data.grid import MM3_PER_ML
from sizeloss_monai.data.whole_files import whole_file
from sizeloss_monai.dicom.classes import BundleDescription, Quality, assess_quality
from sizeloss_monai.dicom.instances import Instance, read_instances
from sizeloss_monai.dicom.segmentation import make_segmentation
from sizeloss_monai.dicom.series import decode_volume, phase_grid, pick_series, series_token, split_phases
from sizeloss_monai.errors import ConfigError

__all__ = ["DicomSegmenter", "SegmentedPhase"]

_FOUND = "found"  # key of the mask before connected components are removed


@dataclass(frozen=True)
class SegmentedPhase:
    """The result for one phase of a series.

    Args:
        segmentation: the DICOM Segmentation object.
        summary: volumes, bounds and the verdict, for JSON. It holds the series' UIDs and no data of the patient.
        mask: ``[x, y, z]`` class ids on the series' grid, with its affine (RAS, mm).
        seconds: spent on ``read``, ``inference`` and ``write``.
    """

    segmentation: hd.seg.Segmentation
    summary: dict[str, Any]
    mask: MetaTensor
    seconds: dict[str, float] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the segmentation.

        Args:
            path: of the DICOM file, which is replaced if it exists.
        """
        # the source's UIDs may be malformed; a warning would repeat them in the log
        with disable_value_validation(), whole_file(path) as part:
            self.segmentation.save_as(part, enforce_file_format=True)


class DicomSegmenter:
    """Segment DICOM series by the inference workflow of a bundle, ``configs/inference.yaml``.

    The workflow's own evaluator predicts, with its preprocessing, inferer and postprocessing. Only its first step,
    reading, and its last, saving, are replaced. ``configs/dicom.yaml`` describes the classes.

    Example::

        segmenter = DicomSegmenter("bundles/cine_lv_segmentation")
        for phase in segmenter.segment("scans/series"):
            phase.save("lv.dcm")
            print(phase.summary["verdict"])

    Args:
        bundle_dir: the bundle's folder.
        checkpoint: the weights; the bundle's own by default.
        device: such as ``"cuda:0"``; the bundle chooses by default.
        overrides: further values of the config, such as ``{"pixdim": [1.5, 1.5, -1.0]}``.

    Raises:
        FileNotFoundError: when the bundle has no inference or DICOM config.
        OutputDirError: when the weights are missing or belong to another network.
        ConfigError: when the DICOM config is wrong or does not fit the network, or torch lacks the device.
    """

    def __init__(
        self,
        bundle_dir: str | Path,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        overrides: dict[str, Any] | None = None,
    ) -> None:
        configs = Path(bundle_dir) / "configs"
        files = [configs / name for name in ("inference.yaml", "dicom.yaml", "metadata.json")]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"bundle: found no file '{file}', expected one.")
        parser = ConfigParser()
        parser.read_config(str(files[0]))
        parser.read_meta(str(files[2]))
        if parser.get("decided_slice_axis") is not None:
            parser["decided_slice_axis"] = 2  # the series says what its slices are
        parser.update({"bundle_root": literal(str(bundle_dir)), "dataset#data": [{}], **(overrides or {})})
        if checkpoint is not None:
            parser["checkpoint"] = literal(str(checkpoint))
        if device is not None:
            try:
                torch.empty(0, device=device)
            except (AssertionError, RuntimeError) as err:  # torch raises both, for one that it does not know or lacks
                raise ConfigError(f"device must be one that torch finds here, such as cpu, got {device!r}.") from err
            parser["device"] = f"$torch.device({device!r})"
        loaders = [h for h in parser["handlers"] if h["_target_"].endswith("CheckpointLoader")]
        parser.update({"handlers": loaders, "evaluator#val_handlers": []})
        weights = parser.get_parsed_content("checkpoint")
        self.description = BundleDescription.from_config(ConfigParser.load_config_file(str(files[1])))
        num_classes = parser.get_parsed_content("num_classes")
        if num_classes != len(self.description.segments) + 1:
            raise ConfigError(
                f"dicom.yaml: found {len(self.description.segments)} segments, expected {num_classes - 1}: "
                "one for each class of the network except the background."
            )
        check_checkpoint(weights, parser.get_parsed_content("network"), num_classes)
        self.model = Path(bundle_dir).resolve().name
        self.model_version = str(parser["_meta_#version"])
        self.weights_sha256 = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        _without(parser.get_parsed_content("preprocessing"), LoadImaged)
        postprocessing = parser.get_parsed_content("postprocessing")
        _without(postprocessing, SaveImaged)
        _keep_what_was_found(postprocessing)
        self.evaluator = parser.get_parsed_content("evaluator")
        self.dataset = parser.get_parsed_content("dataset")
        for loader in parser.get_parsed_content("handlers"):
            loader(self.evaluator)  # loads the weights once, not at every run

    def segment(self, source: str | Path | Iterable[str | Path], series_uid: str | None = None) -> list[SegmentedPhase]:
        """Segment every phase of a series.

        Args:
            source: the folder with the series, or its files. Names and order of the files do not matter.
            series_uid: the Series Instance UID. It is needed only where there are several series of images.

        Returns:
            One result for each phase, in the order of time; only a cine series has several.

        Raises:
            DataError: when the series cannot be used.
        """
        start = time.perf_counter()
        series = pick_series(read_instances(source), series_uid)
        return self.segment_series(series, time.perf_counter() - start)

    def segment_series(self, series: Sequence[Instance], seconds: float = 0.0) -> list[SegmentedPhase]:
        """Segment every phase of a series whose headers are read already.

        Args:
            series: its instances, see :py:func:`pick_series`.
            seconds: spent on reading the headers.

        Returns:
            As :py:meth:`segment`.

        Raises:
            DataError: when the series cannot be used.
        """
        start = time.perf_counter()
        phases = split_phases(series, self.description.modality)
        each = (seconds + time.perf_counter() - start) / len(phases)
        return [self._segment(phase, number, len(phases), each) for number, phase in enumerate(phases, 1)]

    def predict(self, image: MetaTensor) -> tuple[MetaTensor, np.ndarray]:
        """Run the bundle's inference workflow on one volume.

        Args:
            image: ``[x, y, z]``.

        Returns:
            Class ids ``[x, y, z]`` on the image's grid, and the same before connected components were removed.
        """
        self.dataset.data = [{"image": image}]
        self.evaluator.run()
        (output,) = self.evaluator.state.output
        self.dataset.data = [{}]
        self.evaluator.state.output = None  # it holds the volume
        return output["pred"][0], np.asarray(output[_FOUND][0]).astype(np.uint8)

    def _segment(self, phase: Sequence[Instance], number: int, count: int, seconds: float) -> SegmentedPhase:
        """Segment one of `count` phases; `seconds` were spent on reading its headers."""
        started = time.perf_counter()
        image = decode_volume(phase)
        read = time.perf_counter()
        mask, found = self.predict(image)
        inferred = time.perf_counter()
        ids = np.asarray(mask.cpu()).astype(np.uint8)
        voxel_ml = phase_grid([instance.header for instance in phase]).voxel_mm3 / MM3_PER_ML
        quality = assess_quality(ids, found, voxel_ml, self.description.segments, self.description.reject_factor)
        segmentation = make_segmentation(
            phase,
            ids,
            self.description.segments,
            self.model,
            self.model_version,
            self.weights_sha256,
            _series_description(self.model, quality),
            number,
        )
        written = time.perf_counter()
        took = {"read": seconds + read - started, "inference": inferred - read, "write": written - inferred}
        summary = self._summary(phase, segmentation, quality, voxel_ml, number, count)
        return SegmentedPhase(segmentation, summary, mask, took)

    def _summary(
        self,
        phase: Sequence[Instance],
        segmentation: hd.seg.Segmentation,
        quality: Quality,
        voxel_ml: float,
        number: int,
        count: int,
    ) -> dict[str, Any]:
        """The summary of a phase, see `SegmentedPhase`."""
        first = phase[0].header
        frames = len({str(instance.header.get("FrameOfReferenceUID", "")) for instance in phase})
        return {
            "series": series_token(str(first.SeriesInstanceUID)),
            "study_instance_uid": str(first.StudyInstanceUID),
            "source_series_instance_uid": str(first.SeriesInstanceUID),
            "segmentation_sop_instance_uid": str(segmentation.SOPInstanceUID),
            "phase": number,
            "phases": count,
            "slices": len(phase),
            "voxel_ml": voxel_ml,
            "model": {"name": self.model, "version": self.model_version, "weights_sha256": self.weights_sha256},
            "verdict": quality.verdict,
            "reasons": list(quality.reasons),
            "segments": {
                str(class_id): {
                    "label": found.label,
                    "volume_ml": round(found.volume_ml, 3),
                    "bounds_ml": found.bounds_ml and list(found.bounds_ml),
                    "bounds_source": self.description.segments[class_id].volume_source,
                    "components_found": found.components,
                    "largest_component_share": round(found.largest_share, 4),
                    "touches_border": found.touches_border,
                    "verdict": found.verdict,
                }
                for class_id, found in quality.segments.items()
            },
            "notes": [f"the slices name {frames} frames of reference; the first one's was taken for all"]
            if frames > 1
            else [],
        }


def _series_description(model: str, quality: Quality) -> str:
    """The description of the series, which every viewer shows: it holds the verdict."""
    if quality.verdict == "pass":
        return f"{model}: PASS"
    return f"{quality.verdict.upper()}: {'; '.join(quality.reasons)}"


def _without(compose: Compose, kind: type) -> None:
    """Remove the transforms of a kind."""
    compose.transforms = tuple(transform for transform in compose.transforms if not isinstance(transform, kind))


def _keep_what_was_found(postprocessing: Compose) -> None:
    """Copy the prediction before connected components are removed, or at the end if they are kept."""
    kinds = [isinstance(transform, KeepLargestConnectedComponentd) for transform in postprocessing.transforms]
    index = kinds.index(True) if any(kinds) else len(kinds)
    transforms = list(postprocessing.transforms)
    transforms.insert(index, CopyItemsd(keys="pred", names=_FOUND))
    postprocessing.transforms = tuple(transforms)
