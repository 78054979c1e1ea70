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
from monai.bundle import ConfigWorkflow

from sizeloss_monai.cli.main import main as command
from sizeloss_monai.errors import DataError
from sizeloss_monai.phantoms import make_cine_phantom
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


def make_files(folder: Path) -> dict[str, tuple[str, Path]]:
    """Write a scan and its annotation in every kind of header.

    Args:
        folder: to write in; a folder each.

    Returns:
        What is in it and the scan, by the name of the kind; ``scan_label`` beside it has the ventricle's cavity as 1.
    """
    image, phantom = make_cine_phantom(7, spacing=SPACING)
    image = np.rint(image / image.max() * 1000).astype(np.int16)
    label = (phantom == CAVITY).astype(np.uint8)
    affine = oblique_affine(SPACING, (10, -20, 30))
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


def _shear() -> np.ndarray:
    shear = np.eye(4)
    shear[1, 2] = 0.3
    return shear


def _flipped(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 0x55]) + content[-4:]


def check(folder: Path) -> list[str]:
    """What ``check`` says of the scan, a line each."""
    out = _run("check", folder / "list.json")[1]
    return [line for line in out.splitlines() if re.match(r"(error|warning): case .*key 'image'", line)]


def listed(scan: Path) -> str:
    """What ``datalist folder`` makes of a folder with the scan."""
    images = scan.parent / "folder" / "images"
    images.mkdir(parents=True)
    (images / scan.name).write_bytes(scan.read_bytes())
    output = images.parent / "list.json"
    options = ("--labels", "1=cavity", "--num_validation", 0, "--output", output)
    code, _, err = _run("datalist", "folder", "--dataset_dir", images.parent, *options)
    if code:
        return err.strip()
    cases = json.loads(output.read_text())
    return f"{sum(len(cases[section]) for section in ('training', 'validation', 'test'))} case"


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


def segment(scan: Path) -> Path | str:
    """The mask that the released weights give by ``inference.yaml``, or the line that refuses the scan."""
    out = scan.parent / "out"
    try:
        workflow = ConfigWorkflow(
            config_file=str(BUNDLE / "configs" / "inference.yaml"),
            workflow_type="infer",
            logging_file=False,
            bundle_root=str(BUNDLE),
            dataset_dir=str(scan),
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
        _, line = str(cause).splitlines()  # after how many problems there are
        assert not out.exists()
        return line
    (mask,) = out.iterdir()
    return mask


def rows(folder: Path) -> list[str]:
    """The rows of the table, every input through every route."""
    made = make_files(folder)
    plain_mask, plain_size = None, None
    table = ["| kind | what is in it | `check` | `datalist` | `bounds` | inference |", "|---|---|---|---|---|---|"]
    for kind, (text, scan) in made.items():
        size, mask = cavity(scan.parent), segment(scan)
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
        findings = check(scan.parent)
        said = "<br>".join(f"`{line}`" for line in findings) or "nothing"
        table.append(f"| `{kind}` | {text} | {said} | {listed(scan)} | {bounds} | {told} |")
    return [re.sub(r"memory of [\d.e+]+ GB", "memory of ... GB", row) for row in table]


def page(table: list[str], text: str) -> str:
    """The page with its table replaced."""
    start, end = "<!-- table: python -m tests.support.field_inputs -->\n", "<!-- end of table -->\n"
    before, rest = text.split(start)
    return before + start + "\n" + "\n".join(table) + "\n\n" + end + rest.split(end)[1]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(page(rows(Path(name)), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
