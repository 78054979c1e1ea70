"""Inputs of kinds that people report, and what every route makes of them.

``python -m tests.support.field_inputs`` writes the table of ``docs/field_inputs.md``.
"""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.bundle import ConfigWorkflow
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from sizeloss_monai.cli.main import main as command
from sizeloss_monai.errors import DataError
from sizeloss_monai.phantoms import make_cine_phantom
from tests.support.dicom_series import strip_preamble, write_series
from tests.support.image_files import MICROMETRES, metaimage, nifti, nrrd, oblique_affine, shifted, write
from tests.support.routes import assert_on_scan

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "field_inputs.md"
BUNDLE = ROOT / "bundles" / "cine_lv_segmentation"
SPACING = (1.7, 1.7, 10.0)
CAVITY = 3
OTHERS = {
    "plain": "the mask that others are compared with",
    "one_slice": "one slice",
    "no_form": "whose axes are not those of plain",
}
"""Why a mask is not compared with that of the plain header."""
SERIES = {
    "dicom_series": "a DICOM series",
    "no_preamble": "the same, whose last file has no preamble",
    "anonymised": "the same without StudyID, AccessionNumber, SliceThickness and PatientID",
}
SLICES = 8


def make_volumes() -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """A scan, the mask of the ventricle's cavity in it, and the affine of both."""
    image, phantom = make_cine_phantom(7, num_slices=SLICES, spacing=SPACING)
    image = np.rint(image / image.max() * 1000).astype(np.int16)
    return image, (phantom == CAVITY).astype(np.uint8), oblique_affine(SPACING, (10, -20, 30))


def make_files(folder: Path) -> dict[str, tuple[str, Path]]:
    """Write a scan and its annotation in every kind of header.

    Args:
        folder: to write in; a folder each.

    Returns:
        What is in it and the scan, by the name of the kind; ``scan_label`` beside it has the ventricle's cavity as 1.
    """
    image, label, affine = make_volumes()
    moved, micro = shifted(affine, 12, 12, 12), MICROMETRES @ affine
    broken = affine.copy()
    broken[0, 3] = np.nan
    middle = image.shape[2] // 2
    one = shifted(affine, *(affine[:3, 2] * middle))
    centre = slice(middle, middle + 1)
    kinds: dict[str, tuple[str, str, Any]] = {
        "plain": ("sform and qform agree", ".nii.gz", lambda a: nifti(a, affine, affine)),
        "sform_alone": ("qform code 0, pixdim 1 1 1", ".nii.gz", lambda a: nifti(a, affine, pixdim=[1] * 8)),
        "qform_alone": ("sform code 0", ".nii.gz", lambda a: nifti(a, None, affine)),
        "forms_apart": ("qform and sform 12 mm apart on each axis", ".nii.gz", lambda a: nifti(a, affine, moved)),
        "no_form": ("both codes 0", ".nii.gz", lambda a: nifti(a, pixdim=[1, *SPACING, 0, 0, 0, 0])),
        "micrometres": ("`xyzt_units` 3", ".nii.gz", lambda a: nifti(a, micro, micro, xyzt_units=3)),
        "nifti_2": ("NIfTI-2, which ITK does not read", ".nii", lambda a: nifti(a, affine, affine, version=2)),
        "one_slice": ("256 x 256 x 1 and the like", ".nii.gz", lambda a: nifti(a[:, :, centre], one, one)),
        "zero_dimension": ("a size of 0", ".nii.gz", lambda a: nifti(a, affine, dim=[3, 0, *a.shape[1:], 1, 1, 1, 1])),
        "nan_origin": ("NaN in the sform", ".nii.gz", lambda a: nifti(a, broken)),
        "huge": ("sizes beyond memory", ".nii.gz", lambda a: nifti(a, affine, dim=[3, *[32767] * 3, 1, 1, 1, 1])),
        "sheared": ("axes not at right angles", ".nii.gz", lambda a: nifti(a, affine @ _shear())),
        "damaged_nrrd": ("a gzip checksum that is wrong", ".nrrd", lambda a: _flipped(nrrd(a))),
        "truncated_nrrd": ("raw voxels that end early", ".nrrd", lambda a: nrrd(a, encoding="raw")[:-9]),
        "dimensions_100": ("a header of 100 dimensions", ".mha", lambda a: metaimage(a, NDims=100, DimSize="2 " * 100)),
        "packed_size": ("a wrong CompressedDataSize", ".mha", lambda a: metaimage(a, True, CompressedDataSize=50)),
    }
    made = {}
    for kind, (text, suffix, content) in kinds.items():
        path = write(folder / kind / f"scan{suffix}", content(image))
        write(folder / kind / f"scan_label{suffix}", content(label))
        (folder / kind / "list.json").write_text(
            json.dumps(
                {
                    "labels": {"0": "background", "1": "cavity"},
                    "training": [{"image": path.name, "label": f"scan_label{suffix}", "patient": "p"}],
                    "validation": [],
                }
            )
        )
        made[kind] = (text, path)
    return made


def make_crowd(folder: Path) -> Path:
    """Write a scan among other files, and return it."""
    image, label, affine = make_volumes()
    scan = write(folder / "a.nii.gz", nifti(image, affine, affine))
    itk = sitk.ReadImage(str(write(folder / "a_mask.nii.gz", nifti(label, affine, affine))))
    for name in ("a-label.nrrd", "a.seg.nrrd"):
        sitk.WriteImage(itk, str(folder / name))
    (folder / "._a.nii.gz").write_bytes(b"\0\5\26\7")
    (folder / "b.nii.gz").symlink_to("nowhere.nii.gz")
    return scan


def make_series(folder: Path, kind: str) -> None:
    """Write the scan as one of `SERIES`."""
    image, lps = make_volumes()[0], _lps()

    def change(header: Dataset, number: int) -> None:
        header.PixelSpacing, header.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        header.ImageOrientationPatient = [*np.round(lps[:3, 0] / SPACING[0], 6), *np.round(lps[:3, 1] / SPACING[1], 6)]
        header.ImagePositionPatient = list(np.round(lps[:3, 3] + number * lps[:3, 2], 6))
        for keyword in ("StudyID", "AccessionNumber", "SliceThickness", "PatientID") * (kind == "anonymised"):
            delattr(header, keyword)

    write_series(folder, image.T, change)
    for path in list(folder.iterdir()):
        path.rename(folder / f"{100 - dcmread(path).InstanceNumber}.dcm")
    if kind == "no_preamble":
        strip_preamble(folder / f"{SLICES - 1}.dcm")


def _lps() -> NDArray[np.float64]:
    """The affine as DICOM has it."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ make_volumes()[2]


def _shear() -> np.ndarray:
    shear = np.eye(4)
    shear[1, 2] = 0.3
    return shear


def _flipped(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 0x55]) + content[-4:]


def check(folder: Path) -> list[str]:
    """What ``check`` says of the scan in ``list.json``, a line each."""
    out = _run("check", folder / "list.json")[1]
    return [line for line in out.splitlines() if re.match(r"(error|warning): case .*key 'image'", line)]


def listed(folder: Path, output: Path) -> str:
    """What ``datalist folder`` makes of a folder, and what it says of the files that it does not use."""
    options = ("--labels", "1=cavity", "--num_validation", 0, "--output", output)
    code, out, err = _run("datalist", "folder", "--dataset_dir", folder, *options)
    if code:
        return f"`{_shown(err, folder)}`"
    cases = json.loads(output.read_text())
    count = f"{sum(len(cases[section]) for section in ('training', 'validation', 'test'))} case"
    unused = [line.split(": ", 1)[1] for line in (out + err).splitlines() if line.startswith("not used")]
    return "; not used: ".join([count, *(f"`{line}`" for line in unused)])


def by_dicom(folder: Path) -> tuple[str, NDArray[np.uint8] | None]:
    """What ``dicom`` makes of a folder: in words, and the mask ``[x, y, z]`` of the segmentation, if there is one."""
    output = folder.with_name("segmentations")
    code, out, err = _run("dicom", folder, "--bundle", BUNDLE, "--output_dir", output)
    if code:
        assert not output.exists()
        return ("refused: no DICOM file" if "found no DICOM file" in err else f"`{_shown(err, folder)}`"), None
    (file,) = output.glob("*.dcm")
    segmentation = dcmread(file)
    groups = segmentation.PerFrameFunctionalGroupsSequence
    places = np.array([group.PlanePositionSequence[0].ImagePositionPatient for group in groups], dtype=float)
    frames = segmentation.pixel_array[np.argsort(places @ _lps()[:3, 2])]
    told = out.splitlines()[0].split("_seg.dcm: ")[1]
    return f"a SEG of {len(frames)} slices, `{told}`", frames.transpose(2, 1, 0)


def _shown(err: str, folder: Path) -> str:
    """The line of an error, the same wherever the folder is."""
    return err.strip().removeprefix("sizeloss-monai: error: ").replace(str(folder), folder.name)


def cavity(folder: Path) -> float | str:
    """The size of the annotation by ``bounds``, in mL, or the line that refuses it."""
    code, out, err = _run("bounds", folder / "list.json", "--method", "range")
    if code:
        return err.strip()
    (row,) = [line for line in out.splitlines() if line.startswith("1 cavity")]
    return float(row.split()[3])


def _run(*arguments: object) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command([str(argument) for argument in arguments])
    assert "Traceback" not in err.getvalue()
    return code, out.getvalue(), err.getvalue()


def segment(scans: Path, out: Path) -> Path | str:
    """The mask that the released weights give by ``inference.yaml``, or the line that refuses the scan.

    Args:
        scans: the scan, or its folder.
        out: the folder to write in.
    """
    try:
        workflow = ConfigWorkflow(
            config_file=str(BUNDLE / "configs" / "inference.yaml"),
            workflow_type="infer",
            logging_file=False,
            bundle_root=str(BUNDLE),
            dataset_dir=str(scans),
            output_dir=str(out),
            device="cpu",
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()  # lets go of the folder
    except Exception as err:  # MONAI wraps what a config raises
        cause: BaseException = err
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if not isinstance(cause, DataError):
            raise
        assert not out.exists()
        return str(cause).splitlines()[-1]  # after how many problems there are
    (mask,) = out.iterdir()
    return mask


def rows(folder: Path) -> list[str]:
    """The rows of the table, every input through every route."""
    made = make_files(folder)
    plain_mask, plain_size = None, None
    table = [
        "| kind | what is in it | `check` | `datalist` | `bounds` | inference | `dicom` |",
        "|---|---|---|---|---|---|---|",
    ]
    made["annotations_beside"] = (
        "`a.nii.gz` with `a-label.nrrd`, `a.seg.nrrd`, `a_mask.nii.gz`, a hidden `._a.nii.gz`, a dangling link",
        make_crowd(folder / "annotations_beside" / "folder"),
    )
    for kind, (text, scan) in made.items():
        home = folder / kind
        scans = scan.parent
        if kind != "annotations_beside":
            scans = home / "folder" / "images"
            scans.mkdir(parents=True)
            (scans / scan.name).write_bytes(scan.read_bytes())
        lists = listed(home / "folder", home / "folder" / "list.json")
        if kind == "annotations_beside":
            home = home / "folder"  # with the list just made
        size, mask = cavity(home), segment(scans, home / "out")
        if isinstance(mask, Path):
            voxels = np.asarray(nib.load(mask).dataobj)
            plain_mask = voxels if plain_mask is None else plain_mask
            if kind not in OTHERS:
                assert voxels.shape == plain_mask.shape
                assert not (voxels != plain_mask).any(), (kind, int((voxels != plain_mask).sum()))
            assert_on_scan(mask, scan, threshold=None)
            told = f"on the scan, for nibabel and ITK, {OTHERS.get(kind, '0 voxels from plain')}"
        else:
            told = f"`{mask.split(', expected a whole image')[0]}`"
        if isinstance(size, float):
            plain_size = plain_size or size
            bounds = f"{size:.2f} mL"
            assert kind in OTHERS or abs(size - plain_size) <= 1e-6 * plain_size
        else:
            bounds = "refused, as by check"
        findings = check(home)
        said = "<br>".join(f"`{line}`" for line in findings) or "nothing"
        table.append(f"| `{kind}` | {text} | {said} | {lists} | {bounds} | {told} | {by_dicom(scans)[0]} |")
    for kind, text in SERIES.items():
        series = folder / kind / "series"
        make_series(series, kind)
        told, found = by_dicom(series)
        if found is not None:
            assert found.shape == plain_mask.shape
            assert not (found != plain_mask).any(), (kind, int((found != plain_mask).sum()))
            told += ", 0 voxels from plain"
        refused = segment(series, folder / kind / "out")
        assert isinstance(refused, str)
        lists = listed(series, folder / kind / "list.json")
        table.append(f"| `{kind}` | {text} | | {lists} | | `{_shown(refused, series)}` | {told} |")
    return [re.sub(r"memory of [\d.e+]+ GB", "memory of ... GB", row) for row in table]


def page(table: list[str], text: str) -> str:
    """The page with its table replaced."""
    start, end = "<!-- table: python -m tests.support.field_inputs -->\n", "<!-- end of table -->\n"
    before, rest = text.split(start)
    return before + start + "\n" + "\n".join(table) + "\n\n" + end + rest.split(end)[1]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(page(rows(Path(name)), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
