"""Phantom patients as files: with a data list, or as the plain folder that annotation programs leave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.data.whole_files import save_nifti, write_whole
from sizeloss_monai.phantoms.cine import PHANTOM_GROUPS, PHANTOM_LABELS, Phase, make_cine_phantom, seeded

__all__ = ["FOLDER_LABELS", "make_affine", "write_cine_phantoms", "write_phantom_folder"]

_SUFFIXES = (".nii.gz", ".mhd")
_SPLITS = ("training", "validation", "test")
_WRITTEN = re.compile(r"patient\d{3,}_(ED|ES)(_gt|_scribble)?\.(nii\.gz|mhd|zraw)")
# Matrix, spacing (mm), and number of slices of the simulated scanners.
_PROTOCOLS: tuple[tuple[tuple[int, int], tuple[float, float, float], int], ...] = (
    ((96, 96), (1.8, 1.8, 10.0), 8),
    ((112, 96), (1.6, 1.6, 8.0), 10),
    ((96, 112), (1.7, 1.7, 8.0), 9),
    ((104, 104), (1.5625, 1.5625, 10.0), 8),
    ((100, 96), (1.95, 1.95, 10.0), 7),
)
_BACKGROUND = 4
#: Class ids and names of a folder's scribbles. ITK-SNAP and 3D Slicer leave 0 where a voxel is not painted, so the
#: painted background is a label of its own.
FOLDER_LABELS: dict[int, str] = {
    **{class_id: name for class_id, name in PHANTOM_LABELS.items() if class_id},
    _BACKGROUND: PHANTOM_LABELS[0],
}


def make_affine(
    spacing: Sequence[float],
    seed: int | Sequence[int] = 0,
    shape: Sequence[int] | None = None,
    max_angle: float = 35.0,
    flip: Sequence[bool] = (False, False, False),
) -> NDArray[np.float64]:
    """Make an oblique affine from voxel indices to RAS millimetres.

    The volume starts with the axes of a DICOM axial slice (first index to the patient's left, second to the back). The
    seed turns it about an axis by an angle, and moves its centre off the scanner's origin.

    Args:
        spacing: voxel size along the three axes in mm.
        seed: determines rotation and position.
        shape: size of the volume in voxels, to turn it about its centre; None turns it about its first voxel.
        max_angle: largest angle in degrees, 0 to 180. Below 45 the axes keep their orientation codes.
        flip: which index axes to reverse; an odd number of them makes the affine left-handed.

    Returns:
        The affine, float64 ``[4, 4]``, with orthogonal columns as long as the spacing.

    Raises:
        ValueError: when ``spacing`` or ``flip`` does not have three entries, or a value is out of range.
    """
    if len(spacing) != 3 or min(spacing) <= 0 or len(flip) != 3:
        raise ValueError(f"spacing and flip must have 3 entries, spacing positive, got {spacing} and {flip}.")
    if not 0.0 <= max_angle <= 180.0:
        raise ValueError(f"max_angle must be within 0..180 degrees, got {max_angle}.")
    rng = seeded(seed, 5)
    turn_axis = rng.normal(size=3)
    angle = np.deg2rad(max_angle) * rng.uniform(0.5, 1.0)
    rotation = Rotation.from_rotvec(angle * turn_axis / np.linalg.norm(turn_axis)).as_matrix()
    axes = np.diag([-1.0, -1.0, 1.0]) @ np.diag(np.where(flip, -1.0, 1.0))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ axes @ np.diag(np.asarray(spacing, dtype=float))
    affine[:3, 3] = rng.uniform(-40.0, 40.0, 3)
    if shape is not None:
        affine[:3, 3] -= affine[:3, :3] @ ((np.asarray(shape, dtype=float) - 1.0) / 2.0)
    return affine


def _make_scribbles(label: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Scribble on every class of every slice: part of its ridge; for the background part of a line around the heart."""
    scribble = np.full_like(label, DEFAULT_IGNORE_INDEX)
    for z in range(label.shape[2]):
        plane = label[..., z]
        for k in PHANTOM_LABELS:
            mask = plane == k
            if not mask.any():
                continue
            inner = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            line = inner >= min(0.9 * inner.max(), 6.0)
            if k == 0:
                line &= inner < 7.0
            i, j = np.nonzero(line)
            turn = np.angle(np.exp(1j * (np.arctan2(j - j.mean(), i - i.mean()) - rng.uniform(-np.pi, np.pi))))
            keep = np.abs(turn) <= np.pi / 3
            keep |= not keep.any()
            scribble[i[keep], j[keep], z] = k
    return scribble


@dataclass(frozen=True)
class _Scan:
    """One phase of a phantom patient."""

    patient: str
    phase: Phase
    group: str
    image: NDArray[np.int16]  # [H, W, D]
    label: NDArray[np.uint8]  # [H, W, D], the ids of PHANTOM_LABELS
    affine: NDArray[np.float64]  # to RAS millimetres
    seed: tuple[int, int]

    @property
    def case(self) -> str:
        return f"{self.patient}_{self.phase}"

    def scribble(self) -> NDArray[np.uint8]:
        """Class ids, 255 where not annotated, ``[H, W, D]``."""
        return _make_scribbles(self.label, seeded(self.seed, 8, get_args(Phase).index(self.phase)))


def _scans(seed: int, index: int, noise: float = 0.05, bias: float = 0.35) -> Iterator[_Scan]:
    """The scans of patient ``index`` (from 0), end diastole and end systole on one oblique grid."""
    patient_seed = (seed, index + 1)
    group = PHANTOM_GROUPS[index % len(PHANTOM_GROUPS)]
    rng = seeded(patient_seed, 7)
    matrix, spacing, num_slices = _PROTOCOLS[int(rng.integers(len(_PROTOCOLS)))]
    flip = [bool(f) for f in rng.random(3) < 0.25]
    affine = make_affine(spacing, patient_seed, (*matrix, num_slices), flip=flip)
    for phase in get_args(Phase):
        image, label = make_cine_phantom(patient_seed, phase, num_slices, matrix, spacing, noise, bias, group)
        rounded = np.rint(image).astype(np.int16)
        yield _Scan(f"patient{index + 1:03d}", phase, group, rounded, label, affine, patient_seed)


def _write_volume(path: Path, volume: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write ``[H, W, D]`` with an RAS affine as NIfTI (nibabel) or compressed MetaImage (SimpleITK, hence LPS)."""
    if path.name.endswith(".nii.gz"):
        nifti = nib.Nifti1Image(volume, affine)
        nifti.set_qform(affine, code=1)
        nifti.set_sform(affine, code=1)
        nifti.header.set_xyzt_units("mm")
        save_nifti(nifti, path)
        return
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _split_patients(num_patients: int, splits: Sequence[float], rng: np.random.Generator) -> list[str]:
    """Name the split of each patient; a positive fraction gets at least one patient, training the rest."""
    held_out = [max(1, round(f * num_patients)) if f > 0 else 0 for f in splits[1:]]
    if sum(held_out) >= num_patients:
        raise ValueError(f"splits {tuple(splits)} leave none of {num_patients} patients for training.")
    names = [_SPLITS[0]] * (num_patients - sum(held_out))
    names += [_SPLITS[1]] * held_out[0] + [_SPLITS[2]] * held_out[1]
    return [names[i] for i in rng.permutation(num_patients)]


def write_cine_phantoms(
    output_dir: str | Path,
    num_patients: int = 12,
    seed: int = 0,
    suffixes: Sequence[str] = (".nii.gz",),
    splits: Sequence[float] = (0.6, 0.2, 0.2),
    with_scribbles: bool = False,
    noise: float = 0.05,
    bias: float = 0.35,
    overwrite: bool = False,
) -> Path:
    """Write phantom patients, both phases each, and a Decathlon-style ``datalist.json``.

    Patients differ in group, matrix, spacing, number of slices, and oblique affine. Both phases, image, label, and
    scribble of a patient share the grid. Images are int16, labels uint8. Splits are by patient.

    Args:
        output_dir: folder for the volumes (``patientNNN_ED.nii.gz``, ``patientNNN_ED_gt.nii.gz``, ...); made if absent.
        num_patients: number of patients.
        seed: decides arrays, affines and splits. Patient i does not depend on the number of patients.
        suffixes: file types, ``".nii.gz"`` or ``".mhd"`` (with ``.zraw`` beside it); patients take them in turn.
        splits: fractions of the patients for training, validation, and test, with sum 1. A positive fraction gets at
            least one patient.
        with_scribbles: also write ``_scribble`` files (class ids, 255 where not annotated), as ``weak_label``.
        noise, bias: see :func:`~sizeloss_monai.phantoms.make_cine_phantom`.
        overwrite: write into a folder that is not empty: remove its phantoms, keep its other files.

    Returns:
        Path of ``datalist.json``: ``training``, ``validation``, and ``test`` list ``image`` and ``label`` (relative to
        ``output_dir``), ``case``, ``patient``, ``phase``, and ``group``.

    Raises:
        FileExistsError: when ``output_dir`` is not empty and ``overwrite`` is False.
        NotADirectoryError: when ``output_dir`` is a file.
        ValueError: when a number of patients, a suffix or a split is invalid, or no patient is left for training.
    """
    root = Path(output_dir)
    if num_patients < 1:
        raise ValueError(f"num_patients must be >= 1, got {num_patients}.")
    if isinstance(suffixes, str) or not suffixes or any(s not in _SUFFIXES for s in suffixes):
        raise ValueError(f"suffixes must be a sequence with entries from {_SUFFIXES}, got {suffixes!r}.")
    if len(splits) != 3 or min(splits) < 0 or abs(sum(splits) - 1.0) > 1e-6:
        raise ValueError(f"splits must be three fractions that sum to 1, got {tuple(splits)}.")
    split_of = _split_patients(num_patients, splits, seeded(seed, 6))
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"output_dir must be a folder, got a file: {root}")
    if root.is_dir() and any(root.iterdir()):
        if not overwrite:
            raise FileExistsError(f"output_dir must be empty unless overwrite is True, found files in {root}")
        for stale in root.iterdir():
            if _WRITTEN.fullmatch(stale.name):
                stale.unlink()
    root.mkdir(parents=True, exist_ok=True)

    cases: dict[str, list[dict[str, str]]] = {name: [] for name in _SPLITS}
    for i in range(num_patients):
        suffix = suffixes[i % len(suffixes)]
        for scan in _scans(seed, i, noise, bias):
            volumes: dict[str, tuple[str, NDArray[Any]]] = {
                "image": (f"{scan.case}{suffix}", scan.image),
                "label": (f"{scan.case}_gt{suffix}", scan.label),
            }
            if with_scribbles:
                volumes["weak_label"] = (f"{scan.case}_scribble{suffix}", scan.scribble())
            for name, volume in volumes.values():
                _write_volume(root / name, volume, scan.affine)
            paths = {key: name for key, (name, _) in volumes.items()}
            names = {"case": scan.case, "patient": scan.patient, "phase": scan.phase, "group": scan.group}
            cases[split_of[i]].append({**paths, **names})

    datalist = {
        "name": "CinePhantoms",
        "description": "Synthetic short-axis cine-MRI volumes (ED and ES) with ACDC's classes; no patient data.",
        "labels": {str(k): name for k, name in PHANTOM_LABELS.items()},
        "modality": {"0": "MRI"},
        "seed": seed,
        **cases,
    }
    path = root / "datalist.json"
    write_whole(path, json.dumps(datalist, indent=2) + "\n")
    return path


def write_phantom_folder(output_dir: str | Path, num_patients: int = 10, num_masks: int = 0, seed: int = 0) -> Path:
    """Write phantom patients, both phases each, as a folder of scans and scribbles, without a data list.

    .. code-block:: text

        images/patient001_ED.nii.gz         scans
        weak_labels/patient001_ED.nii.gz    scribbles, the ids of FOLDER_LABELS, 0 where not painted
        labels/patient001_ED.nii.gz         full masks of the first num_masks patients, whose background is 0
        new_scan.nii.gz                     the first scan of one more patient, for inference

    Args:
        output_dir: the folder; made if absent.
        num_patients: number of patients, each the same as :func:`write_cine_phantoms` makes.
        num_masks: number of patients with full masks.
        seed: decides all arrays and affines.

    Returns:
        The folder.

    Raises:
        FileExistsError: when ``output_dir`` is a file or not empty.
        ValueError: when a number is out of range.
    """
    if num_patients < 1 or not 0 <= num_masks <= num_patients:
        raise ValueError(
            f"num_patients must be >= 1 and num_masks 0 to num_patients, got {num_patients} and {num_masks}."
        )
    root = Path(output_dir)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"output_dir must be absent or empty, got {root}")
    for index in range(num_patients):
        for scan in _scans(seed, index):
            scribble = scan.scribble()
            painted = scribble.copy()
            painted[scribble == 0], painted[scribble == DEFAULT_IGNORE_INDEX] = _BACKGROUND, 0
            volumes = {"images": scan.image, "weak_labels": painted}
            if index < num_masks:
                volumes["labels"] = scan.label
            for folder, volume in volumes.items():
                (root / folder).mkdir(parents=True, exist_ok=True)
                _write_volume(root / folder / f"{scan.case}.nii.gz", volume, scan.affine)
    new = next(_scans(seed, num_patients))
    _write_volume(root / "new_scan.nii.gz", new.image, new.affine)
    return root
