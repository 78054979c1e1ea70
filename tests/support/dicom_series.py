"""Small DICOM series to test with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

ROW = np.array([0.6, 0.8, 0.0])  # oblique
COLUMN = np.array([0.0, 0.0, -1.0])
NORMAL = np.cross(ROW, COLUMN)


def make_instance(slice_number: int, pixels: np.ndarray, seed: str = "series", time: int = 0) -> Dataset:
    """An MR instance of a series: slices 8 mm apart, pixels of 1.5 mm (rows) and 1.25 mm (columns)."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
    uid = generate_uid(entropy_srcs=[seed, str(slice_number), str(time)])
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = uid
    header.StudyInstanceUID = generate_uid(entropy_srcs=["study", seed])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[seed])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", seed])
    header.PatientName, header.PatientID = "Doe^Jane", "secret-7"
    header.PatientBirthDate, header.PatientSex = "19700102", "F"
    header.StudyDate, header.StudyTime, header.StudyID = "20200102", "030405", "1"
    header.AccessionNumber, header.ReferringPhysicianName = "A1", "Roe^Richard"
    header.Modality, header.SeriesNumber, header.InstanceNumber = "MR", 3, 100 - slice_number
    header.PositionReferenceIndicator = ""
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.PixelSpacing, header.SliceThickness = [1.5, 1.25], 8
    header.ImageOrientationPatient = [*ROW, *COLUMN]
    header.ImagePositionPatient = [round(float(v), 5) for v in np.array([10.0, -20, 30]) + 8 * slice_number * NORMAL]
    header.TriggerTime = 40 * time + slice_number  # slices are taken in heart beats of their own
    header.PixelData = pixels.astype("<u2").tobytes()
    return header


def write_series(
    folder: Path,
    array: np.ndarray,
    change: Callable[[Dataset, int], None] | None = None,
    seed: str = "series",
    skip: tuple[int, ...] = (),
) -> Path:
    """Write a series of array[time, slice, row, column], or [slice, row, column], under meaningless file names."""
    folder.mkdir(parents=True, exist_ok=True)
    array = array if array.ndim == 4 else array[None]
    for time, volume in enumerate(array):
        for number, pixels in enumerate(volume):
            instance = make_instance(number, pixels, seed, time)
            if change:
                change(instance, number)
            if number not in skip:
                name = str(instance.SOPInstanceUID).rsplit(".", 1)[-1]
                instance.save_as(folder / name, enforce_file_format=True)
    return folder


def strip_preamble(path: Path, implicit: bool = True) -> None:
    """Leave of a file the data set alone."""
    plain = Dataset()
    plain.update(dcmread(path))
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, plain)
    path.write_bytes(buffer.getvalue())


def some_pixels(*shape: int) -> np.ndarray:
    """Random pixels, the same each time."""
    return np.random.default_rng(0).integers(0, 1000, shape)
