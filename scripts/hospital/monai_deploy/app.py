"""A MONAI Deploy application that segments one DICOM series with a bundle and writes a DICOM Segmentation.

    ulimit -s 32768
    python scripts/hospital/monai_deploy/app.py -i <folder of DICOM files> -o <folder> -m bundles/cine_lv_segmentation

It is made of the App SDK's own operators. Before they start, the folder is checked as `sizeloss-monai dicom` checks it,
because the operators do not: they would take the first of several series, and stack slices at uneven distances.
`scripts/hospital/monai_deploy/setup.sh` makes the environment.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application
from monai.deploy.core.domain import Image
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.io_type import IOType
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.dicom_utils import ModelInfo
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from pydicom.config import disable_value_validation
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from sizeloss_monai.bundle import install_clear_errors
from sizeloss_monai.dicom import BundleDescription, pick_series, read_instances, source_headers, split_phases
from sizeloss_monai.errors import DataError

STACK = 32768 * 1024  # bytes, what the SDK asks for


def check_folder(folder: Path, modality: str) -> None:
    """Raise where the SDK's operators would make something else of a folder than what it holds.

    Args:
        folder: of DICOM files.
        modality: what the series has to be, such as ``"MR"``.

    Raises:
        DataError: when there is not exactly one series of one phase, on a regular grid of square pixels.
    """
    found = read_instances(folder)
    instances = pick_series(found)
    if len(instances) < len(found):
        raise DataError("key 'image': found other series beside the scan, expected none: the SDK takes the first.")
    bare = [instance.path.name for instance in instances if instance.header.preamble is None]
    if bare:
        raise DataError(
            f"key 'image': found no preamble in '{bare[0]}', expected one: the SDK does not read such files."
        )
    phases = split_phases(instances, modality)
    if len(phases) > 1:
        raise DataError(f"key 'image': found {len(phases)} phases, expected one: the SDK does not tell phases apart.")
    rows, columns = map(float, instances[0].header.PixelSpacing)
    if rows != columns:
        raise DataError(
            f"key 'image': found pixels of {rows} mm by {columns} mm, expected square ones: "
            "DICOMSeriesToVolumeOperator takes the one spacing for the other."
        )


class SegmentationWriter(DICOMSegmentationWriterOperator):
    """The SDK's writer, for anonymised series too, which may have a birth date 00000000 or two frames of reference."""

    def create_dicom_seg(self, image: np.ndarray, dicom_series: DICOMSeries, output_dir: Path) -> None:
        """
        Args:
            image: ``[D, H, W]`` class ids.
            dicom_series: what was segmented; the headers it holds are changed.
            output_dir: for the file, which is named by its SOP Instance UID.
        """
        headers = [instance.get_native_sop_instance() for instance in dicom_series.get_sop_instances()]
        for header, shown in zip(headers, source_headers(headers), strict=True):
            header.update(shown)
        super().create_dicom_seg(image, dicom_series, output_dir)


class SegmentationApp(Application):
    """DICOM series → volume → bundle → DICOM Segmentation."""

    def compose(self) -> None:
        """Make the operators and connect them."""
        context: AppContext = Application.init_app_context(self.argv)
        bundle, output = Path(context.model_path).resolve(), Path(context.output_path)
        # The SDK takes any folder for a loaded model and then finds nothing in it to call. Without a model in the
        # context the operator loads the bundle's weights itself.
        context.models = None
        metadata: dict[str, Any] = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
        description = BundleDescription.from_config(
            yaml.safe_load((bundle / "configs" / "dicom.yaml").read_text(encoding="utf-8"))
        )
        check_folder(Path(context.input_path), description.modality)
        weights = hashlib.sha256((bundle / "models" / "model.pt").read_bytes()).hexdigest()

        # one run, then the application ends
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, name="selector")
        to_volume = DICOMSeriesToVolumeOperator(self, name="to_volume")
        inference = MonaiBundleInferenceOperator(
            self,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            app_context=context,
            bundle_path=bundle,
            name="inference",
        )
        writer = SegmentationWriter(
            self,
            segment_descriptions=[
                SegmentDescription(
                    segment_label=segment.label,
                    segmented_property_category=Code(*segment.category),
                    segmented_property_type=Code(*segment.type),
                    algorithm_name=bundle.name,
                    algorithm_version=metadata["version"],
                )
                for segment in description.segments.values()
            ],
            output_folder=output,
            model_info=ModelInfo(metadata["authors"], bundle.name, metadata["version"], generate_uid(None, [weights])),
            custom_tags={"SeriesDescription": f"{bundle.name} {metadata['version']}"[:64]},
            omit_empty_frames=False,
            name="writer",
        )
        series = {("study_selected_series_list", "study_selected_series_list")}
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, to_volume, series)
        self.add_flow(to_volume, inference, {("image", "image")})
        self.add_flow(selector, writer, series)
        self.add_flow(inference, writer, {("pred", "seg_image")})


def main(argv: Sequence[str] | None = None) -> None:
    """Run the application.

    Args:
        argv: the program's name and its arguments; None takes those of the process.
    """
    argv = list(sys.argv if argv is None else argv)
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != resource.RLIM_INFINITY and soft < STACK:
        raise SystemExit(
            f"the stack has {soft // 1024} KiB, the SDK needs {STACK // 1024}: run `ulimit -s 32768` first."
        )
    if not {"-l", "--log-level"} & set(argv):
        argv += ["-l", "WARN"]  # on the SDK's own level it logs UIDs
    install_clear_errors()
    # values that break their VR's rules would be told in warnings, the patient's name among them
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SegmentationApp([sys.executable, *argv]).run()  # what it takes for the interpreter is left out


if __name__ == "__main__":
    main()
