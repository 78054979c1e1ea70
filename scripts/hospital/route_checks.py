"""What the checks of the routes into a hospital share: a bundle's own mask of a scan, to compare with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts import ROOT

# a proxy that is not there: what would be downloaded at run time fails instead
OFFLINE = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1"),
}


def check(condition: bool, what: str) -> None:
    """Print what was checked, and end the program where it does not hold."""
    print(("ok    " if condition else "WRONG ") + what, flush=True)
    if not condition:
        raise SystemExit(1)


def new_folder(path: Path) -> Path:
    """Make a folder that holds nothing yet.

    Args:
        path: absent or empty.

    Returns:
        Its absolute path.
    """
    if path.is_dir() and any(path.iterdir()):
        raise SystemExit(f"--work_dir: {path} is not empty")
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def run(command: Sequence[str | Path], cwd: Path | None = None) -> None:
    """Run a program without network; what it printed is shown where it fails.

    Args:
        command: and its arguments.
        cwd: its working directory.
    """
    environment = {**os.environ, **OFFLINE}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=cwd
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nexit code {done.returncode}: {' '.join(map(str, command))}")


def run_bundle(bundle: Path, scan: Path, output_dir: Path, **overrides: str) -> Path:
    """Segment a scan by ``monai.bundle run``.

    Args:
        bundle: its folder.
        scan: a NIfTI file.
        output_dir: where the mask goes; absent or empty.
        overrides: further options.

    Returns:
        The mask's file.
    """
    options = {
        "config_file": bundle / "configs" / "inference.yaml",
        "bundle_root": bundle,
        "dataset_dir": scan,
        "output_dir": output_dir,
        **overrides,
    }
    parts = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    run([sys.executable, "-m", "monai.bundle", "run", *parts], cwd=ROOT)
    (mask,) = output_dir.glob("*_seg.nii.gz")
    return mask


def differing_voxels(
    found: NDArray[np.integer],
    affine: NDArray[np.floating],
    mask: NDArray[np.integer],
    mask_affine: NDArray[np.floating],
) -> int:
    """Compare two masks where their voxels lie, in whatever order and direction their axes go.

    Args:
        found: class ids, ``[x, y, z]`` in any order.
        affine: of `found`, to RAS in mm.
        mask: class ids on the same voxels.
        mask_affine: its affine.

    Returns:
        The number of voxels that differ.

    Raises:
        ValueError: when the two are not on the same voxels.
    """
    voxels = np.indices(found.shape).reshape(3, -1).T
    places = nib.affines.apply_affine(np.linalg.inv(mask_affine) @ affine, voxels)
    nearest = places.round().astype(int)
    away = float(np.abs(places - nearest).max())
    if found.size != mask.size or away > 0.01 or (nearest < 0).any() or (nearest >= mask.shape).any():
        raise ValueError(f"grids {found.shape} and {mask.shape} do not agree, voxels are {away:.3f} apart")
    return int((found.ravel() != mask[tuple(nearest.T)]).sum())


def compare(found: NDArray[np.integer], affine: NDArray[np.floating], expected: Path) -> tuple[bool, str]:
    """Compare a mask with a file, see :py:func:`differing_voxels`.

    Args:
        found: class ids, ``[x, y, z]`` in any order.
        affine: of `found`, to RAS in mm.
        expected: a NIfTI file on the same voxels; it must not be empty.

    Returns:
        Whether they are the same, and a line that says so.
    """
    image = nib.Nifti1Image.from_filename(expected)
    mask = np.asarray(image.dataobj)
    try:
        differing = differing_voxels(found, affine, mask, image.affine)
    except ValueError as err:
        return False, str(err)
    text = f"{np.count_nonzero(found)} and {np.count_nonzero(mask)} voxels of {mask.size}, {differing} differ"
    return differing == 0 and bool(mask.any()), text
