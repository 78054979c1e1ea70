"""Phantoms as a plain folder of scans and scribbles, as annotation programs leave them."""

from __future__ import annotations

from pathlib import Path

from sizeloss_monai.phantoms.cine import PHANTOM_LABELS, phantom_scans, write_volume

__all__ = ["FOLDER_LABELS", "write_phantom_folder"]

_UNANNOTATED = 255  # in the phantoms' own scribbles
_BACKGROUND = 4
#: Class ids and names of the scribbles. ITK-SNAP and 3D Slicer leave 0 where nobody painted, so the background is a
#: label of its own, painted like the others.
FOLDER_LABELS: dict[int, str] = {
    **{class_id: name for class_id, name in PHANTOM_LABELS.items() if class_id},
    _BACKGROUND: PHANTOM_LABELS[0],
}


def write_phantom_folder(output_dir: str | Path, num_patients: int = 10, num_masks: int = 0, seed: int = 0) -> Path:
    """Write phantom patients, both phases each, as a folder that a person might have: no data list, hardly a mask.

    .. code-block:: text

        images/patient001_ED.nii.gz         scans
        weak_labels/patient001_ED.nii.gz    scribbles, the ids of FOLDER_LABELS and 0 where nobody painted
        labels/patient001_ED.nii.gz         full masks of the first num_masks patients, whose background is 0
        new_scan.nii.gz                     the first scan of one more patient, for inference

    Args:
        output_dir: the folder; made if absent.
        num_patients: number of patients.
        num_masks: of how many of them there are full masks.
        seed: of everything; patient i is the same as of :py:func:`~sizeloss_monai.phantoms.write_cine_phantoms`.

    Returns:
        The folder.

    Raises:
        FileExistsError: when ``output_dir`` is a file or not empty.
        ValueError: when there are no patients, or fewer than masks.
    """
    if num_patients < 1 or not 0 <= num_masks <= num_patients:
        raise ValueError(f"expected 1 patient at least and 0 to that many masks, got {num_patients} and {num_masks}.")
    root = Path(output_dir)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"output_dir is a file or not empty: {root}")
    for index in range(num_patients):
        for scan in phantom_scans(seed, index):
            scribble = scan.scribble()
            painted = scribble.copy()
            painted[scribble == 0], painted[scribble == _UNANNOTATED] = _BACKGROUND, 0
            volumes = {"images": scan.image, "weak_labels": painted}
            if index < num_masks:
                volumes["labels"] = scan.label
            for folder, volume in volumes.items():
                (root / folder).mkdir(parents=True, exist_ok=True)
                write_volume(root / folder / f"{scan.case}.nii.gz", volume, scan.affine)
    new = next(phantom_scans(seed, num_patients))
    write_volume(root / "new_scan.nii.gz", new.image, new.affine)
    return root
