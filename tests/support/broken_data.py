"""A valid data list of phantoms, and what may be wrong with one: each kind of broken data with what is said of it."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (16, 16, 16)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])  # a voxel has 2 mm3, an image 8.192 mL
IGNORED = 255
Broken = Callable[[Path, dict[str, Any]], object]
"""What changes files of a folder, and its data list."""


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def make_label() -> np.ndarray:
    """256 voxels of organ (0.512 mL) in slices 6 to 9, four of them a lesion in slice 7."""
    label = np.zeros(SHAPE, np.uint8)
    label[4:12, 4:12, 6:10] = 1
    label[5:7, 5:7, 7] = 2
    return label


def make_weak_label() -> np.ndarray:
    """Strokes of 4 voxels each: background and organ in slice 8, lesion in slice 7."""
    weak = np.full(SHAPE, IGNORED, np.uint8)
    weak[0:2, 0:2, 8] = 0
    weak[8:10, 8:10, 8] = 1
    weak[5:7, 5:7, 7] = 2
    return weak


def make_image(seed: int) -> np.ndarray:
    return (100 * make_label() + np.random.default_rng(seed).normal(0, 10, SHAPE)).astype(np.float32)


def write_phantoms(root: Path) -> None:
    """Write six phantoms, differently annotated, and their data list, in which nothing is wrong."""
    for seed, case in enumerate("abcdef"):
        save(root / f"{case}.nii.gz", make_image(seed))
        save(root / f"{case}_label.nii.gz", make_label())
        save(root / f"{case}_weak_label.nii.gz", make_weak_label())
    weak, full, none = ("weak_label",), ("label",), ()
    entries: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "a": (weak, {"tags": {"1": True, "2": [7]}}),
        "b": (weak, {"size_bounds": {"2": [0.002, 0.1]}}),
        "c": (full, {"supervision": "full", "tags": {"1": [6, 7, 8, 9], "2": True}, "size_bounds": {"1": [0.4, 0.6]}}),
        "d": (none, {"supervision": "bounds", "tags": {"1": True, "2": False}}),
        "e": (weak + full, {}),
        "f": (full, {}),
    }
    items = [
        {"image": f"{case}.nii.gz", **{key: f"{case}_{key}.nii.gz" for key in keys}, **extra}
        for case, (keys, extra) in entries.items()
    ]
    datalist = {
        "name": "phantoms",
        "labels": {"0": "background", "1": "organ", "2": "lesion"},
        "size_bounds": {"per": "volume", "unit": "mL", "source": "drawn", "bounds": {"1": [0.1, 2]}},
        "training": items[:4],
        "validation": items[4:],
    }
    (root / "datalist.json").write_text(json.dumps(datalist))


def change(name: str, edit: Callable[[np.ndarray], np.ndarray | None], affine: np.ndarray = AFFINE) -> Broken:
    """Edit the voxels of a file, in place or to what `edit` returns, or its affine."""

    def broken(folder: Path, datalist: dict[str, Any]) -> None:
        array = np.asarray(nib.load(folder / name).dataobj).copy()
        edited = edit(array)
        save(folder / name, array if edited is None else edited, affine)

    return broken


def entry(name: str, /, **changes: Any) -> Broken:
    """Change the entry of a case; None removes a key."""

    def broken(folder: Path, datalist: dict[str, Any]) -> None:
        items = [*datalist["training"], *datalist["validation"]]
        item = next(item for item in items if item["image"] == f"{name}.nii.gz")
        item.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del item[key]

    return broken


def top(**changes: Any) -> Broken:
    """Change the data list itself."""
    return lambda folder, datalist: datalist.update(changes)


def common(bounds: dict[str, list], per: str = "volume", unit: str = "mL") -> Broken:
    return top(size_bounds={"per": per, "unit": unit, "bounds": bounds})


def both(*parts: Broken) -> Broken:
    return lambda folder, datalist: [part(folder, datalist) for part in parts]


def paint(value: float, where: Any) -> Callable[[np.ndarray], None]:
    def edit(array: np.ndarray) -> None:
        array[where] = value

    return edit


def without(*ids: int, by: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.where(np.isin(array, ids), by, array).astype(array.dtype)


def moved() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = 5
    return affine


def linked_to_nothing(folder: Path, datalist: dict[str, Any]) -> None:
    (folder / "a_weak_label.nii.gz").unlink()
    (folder / "a_weak_label.nii.gz").symlink_to("nowhere")


def truncated(folder: Path, datalist: dict[str, Any]) -> None:
    path = folder / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:-500])


def flattened(folder: Path, datalist: dict[str, Any]) -> None:
    """An affine whose first two axes point the same way, which nibabel reads but does not write."""
    path = folder / "d.nii.gz"
    header = bytearray(gzip.decompress(path.read_bytes()))
    header[280:328] = struct.pack("<12f", 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0)  # srow_x, srow_y, srow_z
    path.write_bytes(gzip.compress(header))


def everywhere(suffix: str, edit: Callable[[np.ndarray], np.ndarray | None]) -> Broken:
    return both(*(change(f"{case}{suffix}", edit) for case in "abcdef"))


def keep(array: np.ndarray) -> None:
    """No edit."""


SOME = (slice(0, 2), 0, 0)  # two voxels

BROKEN: dict[str, tuple[Broken, list[str]]] = {
    # files
    "missing file": (
        lambda folder, datalist: (folder / "a_weak_label.nii.gz").unlink(),
        ["error: case 'a', key 'weak_label': found no file a_weak_label.nii.gz, expected it to exist"],
    ),
    "link to nothing": (
        linked_to_nothing,
        [
            "error: case 'a', key 'weak_label': found no file a_weak_label.nii.gz (a link that points to nothing), "
            "expected it to exist"
        ],
    ),
    "truncated file": (
        truncated,
        [
            "error: case 'a', key 'image': found a file that cannot be read (the file is truncated: its "
            "compressed voxels do not end), expected a whole image"
        ],
    ),
    "no image": (
        lambda folder, datalist: datalist["training"].append({"weak_label": "a_weak_label.nii.gz"}),
        [
            "error: case 'training[4]', key 'image': found no 'image' in "
            '{"weak_label": "a_weak_label.nii.gz"}, expected a file'
        ],
    ),
    "no file name": (
        entry("a", weak_label=5),
        ["error: case 'training[0]', key 'weak_label': found 5, expected a file, or a list of files"],
    ),
    "section is no list": (
        top(test={"image": "g.nii.gz"}),
        ['error: data list, key \'test\': found {"image": "g.nii.gz"}, expected a list of cases'],
    ),
    # grids
    "4D image": (
        change("d.nii.gz", lambda array: np.stack([array, array], axis=-1)),
        [
            "error: case 'd', key 'image': found 3D (16x16x16) with 2 channels, expected 3D with 1 channel "
            "(split a 4D file, a volume over time, into its phases)"
        ],
    ),
    "shape": (
        change("a_weak_label.nii.gz", lambda array: array[:-1]),
        ["error: case 'a', key 'weak_label': found shape (15, 16, 16), expected that of 'image' (16, 16, 16)"],
    ),
    "affine": (
        change("c_label.nii.gz", keep, moved()),
        [
            "error: case 'c', key 'label': found an affine that puts voxels up to 5 mm away from those of 'image', "
            "expected the same grid (export it again, with the scan as reference volume)"
        ],
    ),
    "singular affine": (
        flattened,
        [
            "error: case 'd', key 'image': found a file that cannot be read (found axes in the sform that lie in one "
            "plane, expected three directions), expected a whole image"
        ],
    ),
    "spacing": (
        change("d.nii.gz", keep, np.diag([1.0, 1.0, 6.0, 1.0])),
        [
            "warning: case 'd', key 'image': found a spacing of 1 x 1 x 6 mm, expected about 2 mm between slices, the "
            "median of all cases"
        ],
    ),
    # voxels
    "NaN": (
        change("a.nii.gz", paint(np.nan, SOME)),
        ["error: case 'a', key 'image': found 2 NaN and 0 infinite voxels, expected finite numbers"],
    ),
    "constant image": (
        change("a.nii.gz", lambda array: np.full_like(array, 7)),
        ["error: case 'a', key 'image': found the same value, 7, in all voxels, expected an image"],
    ),
    "intensities": (
        change("a.nii.gz", lambda array: array * 100),
        [
            "warning: case 'a', key 'image': found intensities over a range of 1.327e+04 (1st to 99th percentile), "
            "expected about 133.7, the median of all cases"
        ],
    ),
    # ids
    "unknown id": (
        change("a_weak_label.nii.gz", paint(7, SOME)),
        ["error: case 'a', key 'weak_label': found ids 7, expected 0, 1, 2, 255"],
    ),
    "no integers": (
        change("c_label.nii.gz", lambda array: np.where(array == 2, 1.5, array).astype(np.float32)),
        ["error: case 'c', key 'label': found values other than integers (1.5), expected class ids"],
    ),
    "unannotated voxels in a full annotation": (
        change("c_label.nii.gz", paint(IGNORED, SOME)),
        ["error: case 'c', key 'label': found ids 255, expected 0, 1, 2"],
    ),
    "no labels": (
        top(labels={}),
        [
            "warning: data list, key 'labels': found no classes, so that ids are not checked, expected an object such "
            "as {'0': 'background', '1': 'left ventricle'}"
        ],
    ),
    "labels the other way round": (
        top(labels={"background": 0, "organ": 1}),
        [
            "error: data list, key 'labels': found {'background': 0, 'organ': 1}, expected an object such as "
            "{'0': 'background', '1': 'left ventricle'}"
        ],
    ),
    "no background class": (
        top(labels={"1": "organ", "2": "lesion"}),
        [
            "warning: data list, key 'labels': found no class named background among 1 (organ), 2 (lesion), expected "
            "one, with the id that files have"
        ],
    ),
    "unannotated is no id": (
        top(unannotated="255"),
        ["error: data list, key 'unannotated': found '255', expected an integer from -1 to 16777216, or none for 255"],
    ),
    "unannotated is a class": (
        both(top(unannotated=0), everywhere("_weak_label.nii.gz", without(IGNORED, by=0))),
        [
            "error: data list, key 'unannotated': found 0, which 'labels' say is 'background', expected an id "
            "other than those of classes"
        ],
    ),
    # annotations
    "unannotated in no weak label": (
        everywhere("_weak_label.nii.gz", without(IGNORED, by=0)),
        [
            "error: data list, key 'unannotated': found no voxel of id 255 (not annotated) in any 'weak_label', most "
            "of whose voxels are 0, expected the id of unannotated voxels in the files"
        ],
    ),
    "unannotated forgotten": (
        both(
            top(labels={"3": "background", "1": "organ", "2": "lesion"}),
            everywhere("_weak_label.nii.gz", lambda array: np.array([3, 1, 2, 0], np.uint8)[np.minimum(array, 3)]),
            *(entry(case, label=None, supervision=None, size_bounds=None) for case in "cef"),
        ),
        [
            "error: data list, key 'unannotated': found no voxel of id 255 (not annotated) in any 'weak_label', most "
            "of whose voxels are 0, expected the id of unannotated voxels in the files (datalist ... "
            '--unannotated 0, or "unannotated": 0 in the list)'
        ],
    ),
    "unannotated not in one weak label": (
        change("a_weak_label.nii.gz", without(IGNORED, by=0)),
        [
            "warning: case 'a', key 'weak_label': found no voxel of id 255 (not annotated), expected some; a full "
            "annotation belongs under 'label'"
        ],
    ),
    "nothing annotated": (
        change("a_weak_label.nii.gz", lambda array: np.full_like(array, IGNORED)),
        ["warning: case 'a', key 'weak_label': found no annotated voxel, all are 255, expected some, or no such key"],
    ),
    "no background": (
        both(entry("c", label=None, supervision="bounds"), everywhere("_weak_label.nii.gz", without(0, by=IGNORED))),
        [
            "warning: data list, key 'weak_label': found no voxel annotated as class 0 (background) in any of 2 "
            "training cases, expected some: otherwise size bounds alone keep a network from calling every voxel a "
            "target"
        ],
    ),
    "a class nobody annotated": (
        top(labels={"0": "background", "1": "organ", "2": "lesion", "3": "cyst"}),
        [
            "warning: data list, key 'labels': found no voxel of class 3 (cyst) in any annotation of 3 training cases, "
            "expected some in at least one case"
        ],
    ),
    # tags
    "tags of another form": (
        entry("a", tags={"1": "yes"}),
        ["error: case 'a', key 'tags': found 'yes' for class 1, expected true, false, or a list of slices from 0"],
    ),
    "tag of an unknown class": (
        entry("a", tags={"5": True}),
        ["error: case 'a', key 'tags': found class 5, expected one of 0 (background), 1 (organ), 2 (lesion)"],
    ),
    "tag of the background": (
        entry("d", tags={"0": True, "1": True}),
        [
            "warning: case 'd', key 'tags': found a tag for class 0 (background), expected tags of targets only: these "
            "are not used"
        ],
    ),
    "tag false but annotated": (
        entry("a", tags={"2": False}),
        [
            "error: case 'a', key 'tags': found false for class 2 (lesion), but 4 voxels of it in 'weak_label', "
            "expected true, or no such voxel"
        ],
    ),
    "tag true but absent": (
        change("c_label.nii.gz", without(2, by=1)),
        [
            "error: case 'c', key 'tags': found true for class 2 (lesion), but no voxel of it in 'label', expected "
            "false, or voxels of it"
        ],
    ),
    "annotated outside tagged slices": (
        entry("a", tags={"2": [6, 5]}),
        [
            "error: case 'a', key 'tags': found slices 5, 6 for class 2 (lesion), but voxels of it in slice 7 of "
            "'weak_label', expected all slices that hold the class"
        ],
    ),
    "tagged slices without the class": (
        entry("c", tags={"1": [5, 6, 7, 8, 9]}),
        [
            "error: case 'c', key 'tags': found slices 5, 6, 7, 8, 9 for class 1 (organ), but no voxel of it in "
            "slice 5 of 'label', expected only slices that hold the class"
        ],
    ),
    "tagged slice that does not exist": (
        entry("d", tags={"1": [8, 16]}),
        ["error: case 'd', key 'tags': found slice 16 for class 1 (organ), expected slices 0 to 15"],
    ),
    # bounds
    "bounds without a unit": (
        both(top(size_bounds=None), entry("d", supervision="tags")),
        [
            f"error: case '{case}', key 'size_bounds': found bounds without a unit, expected 'per' and 'unit' in the "
            "data list's 'size_bounds'"
            for case in "bc"
        ],
    ),
    "bounds the other way round": (
        both(common({"1": [2, 0.1], "2": [1]}), entry("b", size_bounds={"2": [3, 2]})),
        [
            "error: data list, key 'size_bounds': found [2, 0.1] for class 1, expected 0 <= lower <= upper",
            "error: data list, key 'size_bounds': found [1] for class 2, expected [lower, upper]",
            "error: case 'b', key 'size_bounds': found [3, 2] for class 2, expected 0 <= lower <= upper",
        ],
    ),
    "bounds of an unknown class": (
        entry("b", size_bounds={"4": [1, 2]}),
        ["error: case 'b', key 'size_bounds': found class 4, expected one of 0 (background), 1 (organ), 2 (lesion)"],
    ),
    "upper bound below the scribble": (
        entry("b", size_bounds={"1": [0, 0.007]}),
        [
            "error: case 'b', key 'size_bounds': found [0, 0.007] mL for class 1 (organ), less than the 0.008 mL "
            "annotated in 'weak_label', expected an upper bound of at least that (is the unit right?)"
        ],
    ),
    "upper bound below the scribble of a slice": (
        both(common({"1": [1, 3.5]}, "slice", "mm2"), entry("b", size_bounds=None), entry("c", size_bounds=None)),
        [
            *(
                f"error: case '{case}', key 'size_bounds': found [1, 3.5] mm2 for class 1 (organ), less than the 4 mm2 "
                "annotated in a slice of 'weak_label', expected an upper bound of at least that (is the unit right?)"
                for case in "ab"
            ),
            "warning: case 'c', key 'size_bounds': found [1, 3.5] mm2 for class 1 (organ), but 4 of 4 slices, such as "
            "64 mm2 in 'label', expected bounds that hold the size of the full annotation",
            "error: case 'e', key 'size_bounds': found [1, 3.5] mm2 for class 1 (organ), less than the 4 mm2 "
            "annotated in a slice of 'weak_label', expected an upper bound of at least that (is the unit right?)",
            "warning: case 'f', key 'size_bounds': found [1, 3.5] mm2 for class 1 (organ), but 4 of 4 slices, such as "
            "64 mm2 in 'label', expected bounds that hold the size of the full annotation",
        ],
    ),
    "own bounds without the size": (
        entry("c", size_bounds={"1": [0.4, 0.5]}),
        [
            "error: case 'c', key 'size_bounds': found [0.4, 0.5] mL for class 1 (organ), but 0.504 mL in "
            "'label', expected bounds that hold the size of the full annotation"
        ],
    ),
    "common bounds without the size": (
        both(common({"1": [0.6, 2]})),
        [
            f"warning: case '{case}', key 'size_bounds': found [0.6, 2] mL for class 1 (organ), but 0.504 mL in "
            "'label', expected bounds that hold the size of the full annotation"
            for case in "ef"
        ],
    ),
    "bounds above the image": (
        entry("d", size_bounds={"1": [60, 2000]}),
        [
            "error: case 'd', key 'size_bounds': found [60, 2000] mL for class 1 (organ), whose lower bound is above "
            "the whole image (8.192 mL), expected a size that fits (is the unit right?)"
        ],
    ),
    "common upper bound above the image": (
        common({"1": [0.1, 2000]}),
        [
            "warning: data list, key 'size_bounds': found [0.1, 2000] mL for class 1 (organ), whose upper bound is "
            "above the whole image of case a, b, d, e, f, expected a size that fits, or null (is the unit right?)"
        ],
    ),
    "vacuous bounds": (
        entry("d", size_bounds={"1": [0, None]}),
        [
            "warning: case 'd', key 'size_bounds': found [0, null] mL for class 1 (organ), which the whole image "
            "(8.192 mL) cannot exceed, expected a narrower interval"
        ],
    ),
    "bounds of an absent class": (
        entry("d", size_bounds={"2": [0.002, 1]}),
        [
            "error: case 'd', key 'size_bounds': found [0.002, 1] mL for class 2 (lesion), which 'tags' say is absent, "
            "expected a lower bound of 0"
        ],
    ),
    "bounds of zero for a class that is there": (
        entry("d", size_bounds={"1": [0, 0]}),
        [
            "error: case 'd', key 'size_bounds': found [0, 0] mL for class 1 (organ), which 'tags' say is there, "
            "expected an upper bound above 0"
        ],
    ),
    "bounds of the background": (
        both(common({"0": [1, 8], "1": [0.1, 2]}), entry("d", size_bounds={"0": [2, 8]})),
        [
            f"warning: {place}, key 'size_bounds': found bounds for class 0 (background), expected bounds of targets "
            "only: these are not used"
            for place in ("data list", "case 'd'")
        ],
    ),
    # supervision
    "marked full without a label": (
        entry("a", supervision="full"),
        ["error: case 'a', key 'supervision': found 'full', but no label, expected label, or another mark"],
    ),
    "marked weak without annotation": (
        entry("d", supervision="weak"),
        [
            "error: case 'd', key 'supervision': found 'weak', but no weak_label or label, expected weak_label or "
            "label, or another mark"
        ],
    ),
    "marked weak with a mask alone": (
        entry("c", supervision="weak"),
        [
            "warning: case 'c', key 'supervision': found 'weak', but no weak_label, expected weak_label for "
            "cardiac_scribble_segmentation, which refuses the case otherwise; the other bundles make it of the label"
        ],
    ),
    "marked as tagged with a mask alone": (
        entry("c", supervision="tags", tags=None),
        [
            "warning: case 'c', key 'supervision': found 'tags', but no tags, expected tags for "
            "cardiac_scribble_segmentation, which refuses the case otherwise; the other bundles make it of the label"
        ],
    ),
    "marked as bounded with a mask alone": (
        both(
            *(entry(case, size_bounds=None) for case in "bc"),
            entry("c", supervision="bounds"),
            top(size_bounds=None),
            entry("d", supervision="tags"),
        ),
        [
            "error: case 'c', key 'supervision': found 'bounds', but no size_bounds, expected size_bounds, or another "
            "mark"
        ],
    ),
    "unknown mark": (
        entry("a", supervision="scribbles"),
        ["error: case 'a', key 'supervision': found 'scribbles', expected one of bounds, full, none, tags, weak"],
    ),
    "annotation that is not used": (
        entry("a", supervision="none"),
        [
            "warning: case 'a', key 'supervision': found 'none', which leaves weak_label and tags unused, expected a "
            "mark that uses them, or a case without them"
        ],
    ),
    "bounds that are not used": (
        entry("d", supervision="tags", size_bounds={"1": [0.4, 0.6]}),
        [
            "warning: case 'd', key 'supervision': found 'tags', which leaves size_bounds unused, expected a mark that "
            "uses them, or a case without them"
        ],
    ),
    "nothing to learn from": (
        both(
            entry("d", supervision=None, tags=None),
            entry("b", size_bounds=None),
            entry("c", size_bounds=None),
            top(size_bounds=None),
        ),
        [
            "warning: case 'd', key 'supervision': found nothing to learn from, expected one of label, weak_label, "
            "tags and size_bounds, or 'supervision': 'none'"
        ],
    ),
    # keys
    "misspelt key of a case": (
        entry("c", size_bounds=None, size_bound={"1": [0.4, 0.6]}),
        ["warning: case 'c', key 'size_bound': found a key that nothing reads, expected 'size_bounds', perhaps"],
    ),
    "misspelt key of the list": (
        top(unanotated=0),
        ["warning: data list, key 'unanotated': found a key that nothing reads, expected 'unannotated', perhaps"],
    ),
    "other keys": (both(entry("a", notes="a", age=3), top(licence="CC0", release="1", numTraining=4)), []),
    # several cases
    "patient in two splits": (
        both(entry("a", patient="p"), entry("e", patient="p")),
        [
            "error: data list, key 'patient': found patient 'p' in training (a) and validation (e), expected each "
            "patient in one split"
        ],
    ),
    "name twice": (
        both(entry("a", case="x"), entry("b", case="x")),
        ["error: data list, key 'case': found case 'x' 2 times, expected each name once"],
    ),
    "entry twice": (
        lambda folder, datalist: datalist["validation"].append(datalist["validation"][1]),
        [
            "error: data list, key 'case': found case 'f' 2 times, expected each name once",
            "warning: case 'f', key 'image': found the same file in validation (f, f), expected each in one case only",
            "warning: case 'f', key 'label': found the same file in validation (f, f), expected each in one case only",
        ],
    ),
    "same scan in two splits": (
        lambda folder, datalist: shutil.copy(folder / "a.nii.gz", folder / "f.nii.gz"),
        [
            "error: case 'a', key 'image': found the same voxels in training (a) and validation (f), expected each in "
            "one split only"
        ],
    ),
    "same scan twice in a split": (
        lambda folder, datalist: shutil.copy(folder / "a.nii.gz", folder / "b.nii.gz"),
        ["warning: case 'a', key 'image': found the same voxels in training (a, b), expected each in one case only"],
    ),
    "same file in two splits": (
        entry("f", image="a.nii.gz", case="f"),
        [
            "error: case 'a', key 'image': found the same file in training (a) and validation (f), expected each in "
            "one split only"
        ],
    ),
    "annotation of another case": (
        entry("b", weak_label="a_weak_label.nii.gz"),
        ["warning: case 'a', key 'weak_label': found the same file in training (a, b), expected each in one case only"],
    ),
    "empty validation": (
        top(validation=[]),
        ["error: data list, key 'validation': found no cases, expected some to choose the best epoch by"],
    ),
    "empty training": (
        top(training=[]),
        ["error: data list, key 'training': found no cases, expected some to train on"],
    ),
}
