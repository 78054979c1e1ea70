"""The command `check` and the first step of a training give the same verdict, and the true one, in the same words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from sizeloss_monai.cli.main import main
from sizeloss_monai.errors import DataError
from tests.support.bundle_runs import CINE, SCRIBBLES, make_workflow, root_of

SHAPE = (16, 16, 6)
AFFINE = np.diag([2.0, 2.0, 8.0, 1.0])
NAMES = {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "cavity"}
ORGAN = {"0": "background", "1": "organ"}
Edit = Callable[[Path, dict[str, Any]], object]


def save(path: Path, array: np.ndarray) -> None:
    image = nib.Nifti1Image(array, AFFINE, dtype=array.dtype)
    nib.save(image, path)


def make_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.int32)
    mask[2:14, 2:14, 1:5] = 1
    mask[4:12, 4:12, 1:5] = 2
    mask[6:10, 6:10, 1:5] = 3
    return mask


def make_strokes() -> np.ndarray:
    strokes = np.full(SHAPE, 255, np.int32)
    strokes[0, :, 2], strokes[2, 4:8, 2], strokes[4, 5:9, 2], strokes[7:9, 7:9, 2] = 0, 1, 2, 3
    return strokes


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases, masks and strokes, in whose data lists nothing is wrong."""
    root = tmp_path_factory.mktemp("agree")
    for seed, case in enumerate("abc"):
        noise = np.random.default_rng(seed).normal(0, 10, SHAPE)
        save(root / f"{case}.nii.gz", (100 * make_mask() + noise).astype(np.float32))
        save(root / f"{case}_mask.nii.gz", make_mask().astype(np.uint8))
        save(root / f"{case}_strokes.nii.gz", make_strokes().astype(np.uint8))
    return root


class Source(NamedTuple):
    """What a bundle learns from, and the file suffix and the made array of it."""

    key: str
    suffix: str
    make: Callable[[], np.ndarray]


SOURCES = {CINE: Source("label", "mask", make_mask), SCRIBBLES: Source("weak_label", "strokes", make_strokes)}
MASKS_ALONE = Source("label", "mask", make_mask)  # which the bundle for scribbles takes too


def make_list(source: Source, marks: dict[str, Any] | None = None) -> dict[str, Any]:
    a, b, c = (
        {"image": f"{case}.nii.gz", source.key: f"{case}_{source.suffix}.nii.gz", **(marks or {})} for case in "abc"
    )
    return {"labels": NAMES, "training": [a, b], "validation": [c]}


def values(edit: Callable[[np.ndarray], np.ndarray], cases: str = "abc") -> Edit:
    """Change the voxels of what the bundle learns from."""

    def change(folder: Path, datalist: dict[str, Any]) -> None:
        for item in [*datalist["training"], *datalist["validation"]]:
            file = item.get("weak_label") or item["label"]
            if file[0] in cases:
                save(folder / file, edit(np.asarray(nib.load(folder / file).dataobj)))

    return change


def ids(*new: int, dtype: type) -> Edit:
    """The ids 0 to 3 become others, those of the list too."""

    def change(folder: Path, datalist: dict[str, Any]) -> None:
        datalist["labels"] = {str(number): name for number, name in zip(new, NAMES.values(), strict=True)}
        table = dict(enumerate(new)) | {255: 255}
        values(lambda array: np.vectorize(table.get)(array).astype(dtype))(folder, datalist)

    return change


def paint(value: float, dtype: type = np.float32) -> Callable[[np.ndarray], np.ndarray]:
    def edit(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype)
        array[1, 1, 2] = value
        return array

    return edit


def top(**changes: Any) -> Edit:
    def change(folder: Path, datalist: dict[str, Any]) -> None:
        datalist.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del datalist[key]

    return change


def both(*edits: Edit) -> Edit:
    return lambda folder, datalist: [edit(folder, datalist) for edit in edits]


def as_nrrd(folder: Path, datalist: dict[str, Any]) -> None:
    """Annotations of one bit a voxel, as booleans are written, in NRRD: uint8 0 and 1."""
    datalist["labels"] = ORGAN
    for item in [*datalist["training"], *datalist["validation"]]:
        key = "label" if "label" in item else "weak_label"
        image = sitk.ReadImage(str(folder / item[key]))
        array = sitk.GetArrayFromImage(image)
        new = sitk.GetImageFromArray(np.where(array == 255, 255, (array > 0) & (array != 255)).astype(np.uint8))
        new.CopyInformation(image)
        item[key] = item[key].replace(".nii.gz", ".nrrd")
        sitk.WriteImage(new, str(folder / item[key]))


def same_scan(folder: Path, datalist: dict[str, Any]) -> None:
    shutil.copy(folder / "a.nii.gz", folder / "c.nii.gz")


def options(*label_ids: int) -> dict[str, Any]:
    """What the bundle of one target is told where ids are others than its own."""
    return {"label_ids": list(label_ids), "target_ids": [0] * (len(label_ids) - 1) + [1]}


class Row(NamedTuple):
    """An edit, words of the error (None: both accept it), and overrides of the bundle that has ids of its own."""

    edit: Edit
    error: str | None = None
    cine: dict[str, Any] | None = None


TABLE: dict[str, Row] = {
    "healthy": Row(lambda folder, datalist: None),
    # ids above 255
    "uint16 ids": Row(ids(0, 300, 1000, 4095, dtype=np.uint16), cine=options(0, 300, 1000, 4095)),
    "int32 ids": Row(ids(0, 256, 257, 70000, dtype=np.int32), cine=options(0, 256, 257, 70000)),
    "an id that 8 bits cut to a class": Row(values(paint(259, np.uint16), "a"), "found ids 259, expected 0, 1, 2, 3"),
    "an id that float32 cannot hold": Row(values(paint(2.0**25, np.int32), "a"), "found ids too large (33554432)"),
    "unannotated above 255": Row(
        both(top(unannotated=300), values(lambda array: np.where(array == 255, 300, array.astype(np.uint16))))
    ),
    # values
    "noise": Row(values(lambda array: (array + 3e-7 * (array > 0)).astype(np.float32))),
    "noise of a slope": Row(values(lambda array: (array * 0.9999998).astype(np.float32))),
    "noise below the tolerance": Row(values(paint(0.9991), "a")),
    "noise above the tolerance": Row(values(paint(1.002), "a"), "found values other than integers (1.002"),
    "half an id": Row(values(paint(1.4), "a"), "found values other than integers (1.4"),
    "negative id": Row(values(paint(-1, np.int16), "b"), "found ids -1, expected 0, 1, 2, 3"),
    "NaN": Row(values(paint(np.nan), "c"), "found values other than integers (nan)"),
    "infinity": Row(values(paint(np.inf), "a"), "found values other than integers (inf)"),
    # the classes of the list
    "an id that is not in labels": Row(values(paint(7, np.uint8), "a"), "found ids 7, expected 0, 1, 2, 3"),
    "a class in labels that is never there": Row(values(lambda array: np.where(array == 2, 1, array).astype(np.uint8))),
    "all background": Row(values(lambda array: np.where(array == 255, 255, 0).astype(np.uint8))),
    "one class": Row(values(lambda array: np.where(np.isin(array, (0, 255)), array, 3).astype(np.uint8))),
    "labels of another form": Row(top(labels=["background", "organ"]), "key 'labels': found ['background', 'organ']"),
    "unannotated is no id": Row(top(unannotated="255"), "key 'unannotated': found '255'"),
    "unannotated is the background": Row(top(unannotated=0), "key 'unannotated': found 0, which 'labels' say is"),
    "background by another id": Row(
        both(top(labels={"1": "background", "0": "a", "2": "b", "3": "c"})), cine=options(1, 0, 2, 3)
    ),
    # the files
    "singleton channel": Row(values(lambda array: array[..., None])),
    "two channels": Row(values(lambda array: np.stack([array, array], -1), "a"), "with 2 channels, expected 3D with 1"),
    "two dimensions": Row(values(lambda array: array[:, :, 0], "a"), "expected 3D with 1 channel"),
    "another shape": Row(values(lambda array: array[:-1], "a"), "found shape (15, 16, 6), expected that of 'image'"),
    "boolean NRRD": Row(as_nrrd, cine=options(0, 1)),
    "constant image": Row(
        lambda folder, datalist: save(folder / "a.nii.gz", np.full(SHAPE, 7, np.float32)), "found the same value, 7"
    ),
    # the sections
    "empty validation": Row(top(validation=[]), "key 'validation': found no cases, expected some to choose the best"),
    "empty training": Row(top(training=[]), "key 'training': found no cases, expected some to train on"),
    "no validation": Row(top(validation=None), "key 'validation': found no cases, expected some to choose the best"),
    "no training": Row(top(training=None), "key 'training': found no cases, expected some to train on"),
    "same scan in two sections": Row(same_scan, "found the same voxels in training (a) and validation (c)"),
    "same case twice": Row(
        lambda folder, datalist: datalist["validation"].append(datalist["validation"][0]), "found case 'c' 2 times"
    ),
    "patient in two sections": Row(
        lambda folder, datalist: [item.update(patient="p") for item in (datalist["training"] + datalist["validation"])],
        "found patient 'p' in training (a, b) and validation (c)",
    ),
    # tags and bounds
    "tag of a slice beyond": Row(
        lambda folder, datalist: datalist["training"][0].update(tags={"1": [9]}), "expected slices 0 to 5"
    ),
    "tag against what is annotated": Row(
        lambda folder, datalist: datalist["training"][0].update(tags={"3": False}), "found false for class 3 (cavity)"
    ),
    "bounds above the image": Row(
        top(size_bounds={"per": "volume", "unit": "mL", "bounds": {"3": [900, 999]}}), "above the whole image of every"
    ),
    "bounds of another form": Row(top(size_bounds={"per": "volume", "unit": "mm2"}), "key 'size_bounds': found {'per'"),
    "mark that nobody knows": Row(
        lambda folder, datalist: datalist["training"][0].update(supervision="x"), "key 'supervision': found 'x'"
    ),
}


def errors_of_check(folder: Path, capsys: pytest.CaptureFixture, label_ids: list[int] | None = None) -> list[str]:
    """What `check` calls errors."""
    ids_ = [] if label_ids is None else ["--label_ids", *map(str, label_ids)]
    capsys.readouterr()
    code = main(["check", str(folder / "datalist.json"), *ids_])
    lines = [
        line.removeprefix("error: ") for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")
    ]
    assert code == bool(lines)
    return lines


def start(bundle: str, tiny: str, folder: Path, **overrides: Any) -> tuple[list[str], Any]:
    """The lines that stop a training in its first step, or none and what its config gives."""
    workflow = make_workflow(bundle, ["train.yaml", tiny], folder, folder / "run", **overrides)
    try:
        workflow.initialize()
    except Exception as error:  # MONAI wraps what an item of a config raises
        root = root_of(error)
        if not isinstance(root, DataError):
            raise
        assert not (folder / "run").exists()
        lines = str(root).splitlines()
        return lines[1:] if lines[0].endswith(" with the data:") else lines, None
    return [], workflow.parser.get_parsed_content


def broken(healthy: Path, tmp_path: Path, datalist: dict[str, Any], edit: Edit) -> Path:
    folder = Path(shutil.copytree(healthy, tmp_path / "data"))
    edit(folder, datalist)
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


@pytest.mark.parametrize("bundle", [CINE, SCRIBBLES])
@pytest.mark.parametrize("kind", TABLE)
def test_the_same_verdict_in_the_same_words(
    kind: str, bundle: str, healthy: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    row = TABLE[kind]
    folder = broken(healthy, tmp_path, make_list(SOURCES[bundle]), row.edit)
    checked = errors_of_check(folder, capsys)
    trained, parse = start(bundle, tiny, folder, **(row.cine or {} if bundle == CINE else {}))
    if row.error is None:
        assert (checked, trained) == ([], [])
        prepared = [parse("train#preprocessing")(item) for item in parse("train#dataset#data")]
        assert all(item["weak_label"].dtype == torch.uint8 for item in prepared)
    else:
        assert row.error in checked[0]
        assert trained == [line for line in checked if line in trained], "another error than those of check"
        assert row.error in trained[0]


@pytest.mark.parametrize("kind", ["healthy", "int32 ids", "noise", "noise of a slope", "singleton channel"])
@pytest.mark.parametrize("bundle", [CINE, SCRIBBLES])
def test_what_is_accepted_is_learnt(kind: str, bundle: str, healthy: Path, tiny: str, tmp_path: Path) -> None:
    row = TABLE[kind]
    prepared = []
    for name, edit in (("plain", TABLE["healthy"].edit), ("edited", row.edit)):
        folder = broken(healthy, tmp_path / name, make_list(SOURCES[bundle]), edit)
        overrides = row.cine or {} if bundle == CINE and name == "edited" else {}
        _, parse = start(bundle, tiny, folder, **overrides)
        key = "label" if bundle == CINE else "weak_label"
        prepared.append([parse("train#preprocessing")(item)[key] for item in parse("train#dataset#data")])
    for plain, edited in zip(*prepared, strict=True):
        assert torch.equal(plain, edited)
        assert len(torch.unique(plain)) == (2 if bundle == CINE else 5)


def masks_of_255(folder: Path, datalist: dict[str, Any]) -> None:
    datalist["labels"] = {"0": "background", "255": "organ"}
    values(lambda array: np.where(array > 0, 255, 0).astype(np.uint8))(folder, datalist)


@pytest.mark.parametrize("bundle", [CINE, SCRIBBLES])
def test_masks_of_0_and_255_without_strokes(
    bundle: str, healthy: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = broken(healthy, tmp_path, make_list(MASKS_ALONE), masks_of_255)
    assert errors_of_check(folder, capsys) == []
    lines, parse = start(bundle, tiny, folder, **(options(0, 255) if bundle == CINE else {}))
    assert lines == []
    item = parse("train#preprocessing")(parse("train#dataset#data")[0])
    key = "label" if bundle == CINE else "weak_label"
    assert torch.unique(item[key]).tolist() in ([0, 1], [0, 1, 255])  # 255 where the volume was padded
    assert (item[key] == 1).sum() > 0
    if bundle == CINE:
        return
    # beside strokes 255 is what nobody annotated, unless the list says another id
    datalist = json.loads((folder / "datalist.json").read_text())
    datalist["training"][0] = {"image": "a.nii.gz", "weak_label": "a_strokes.nii.gz"}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    checked = errors_of_check(folder, capsys)
    shutil.rmtree(folder / "run")
    trained, _ = start(bundle, tiny, folder)
    assert "found 255, which 'labels' say is 'organ', expected an id other than those of classes" in checked[0]
    assert trained == [checked[0]]


def test_a_full_mask_has_no_voxel_that_is_not_annotated(
    healthy: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = broken(healthy, tmp_path, make_list(MASKS_ALONE), values(paint(255, np.uint8), "a"))
    checked = errors_of_check(folder, capsys)
    assert checked == ["case 'a', key 'label': found ids 255, expected 0, 1, 2, 3"]
    assert [start(bundle, tiny, folder)[0] for bundle in (CINE, SCRIBBLES)] == [checked, checked]


def test_ids_without_names(healthy: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = broken(
        healthy, tmp_path, make_list(MASKS_ALONE), both(ids(0, 1, 2, 300, dtype=np.uint16), top(labels=None))
    )
    assert errors_of_check(folder, capsys) == []  # a warning says that ids are not checked
    expected = [f"case '{case}', key 'label': found ids 300, expected 0, 1, 2, 3" for case in "abc"]
    assert errors_of_check(folder, capsys, [0, 1, 2, 3]) == expected
    assert [start(bundle, tiny, folder)[0] for bundle in (CINE, SCRIBBLES)] == [expected, expected]


def test_masks_of_cases_with_strokes_stay_unread(
    healthy: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def edit(folder: Path, datalist: dict[str, Any]) -> None:
        datalist["training"][0]["label"] = "a_mask.nii.gz"
        save(folder / "a_mask.nii.gz", np.full(SHAPE, 9, np.uint8))

    folder = broken(healthy, tmp_path, make_list(SOURCES[SCRIBBLES]), edit)
    assert errors_of_check(folder, capsys) == ["case 'a', key 'label': found ids 9, expected 0, 1, 2, 3"]
    assert start(SCRIBBLES, tiny, folder)[0] == []
