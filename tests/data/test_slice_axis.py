from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from skimage.draw import ellipse_perimeter

from sizeloss_monai.checks import check_datalist, choose_slice_axis, decide_slice_axis
from sizeloss_monai.cli.main import main
from sizeloss_monai.datalist import load_datalist
from sizeloss_monai.errors import DataError

FLAT = (1.95, 1.95, 1.0)
"""Slices closer to each other than their pixels, in mm."""
THICK = (1.0, 1.0, 3.0)


def write_case(
    folder: Path,
    name: str,
    spacing: tuple[float, float, float] = FLAT,
    painted: int | None = 2,
    order: tuple[int, int, int] = (0, 1, 2),
    shape: tuple[int, int, int] = (76, 70, 46),
) -> dict[str, Any]:
    """A case whose loops lie on four slices along a world axis, its axes stored in another order."""
    weak = np.full(shape, 255, np.uint8)
    if painted is not None:
        planes = np.moveaxis(weak, painted, -1)
        for index in (12, 18, 25, 32):
            for class_id, radius in ((0, 17), (1, 8)):
                rows, columns = ellipse_perimeter(22, 24, radius, radius - index // 6)
                planes[rows, columns, index] = class_id
    affine = np.diag([*spacing, 1.0])[:, [*order, 3]]
    image = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    for key, voxels in (("image", image), ("weak", weak)):
        nib.save(nib.Nifti1Image(voxels.transpose(order), affine), folder / f"{name}_{key}.nii.gz")
    return {"case": name, "image": f"{name}_image.nii.gz", "weak_label": f"{name}_weak.nii.gz"}


def write_list(folder: Path, *items: dict[str, Any], **more: Any) -> Path:
    labels = {"0": "background", "1": "organ"}
    file = folder / "list.json"
    file.write_text(json.dumps({"labels": labels, **more, "training": items[:-1], "validation": items[-1:]}))
    return file


def absolute(folder: Path, *items: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**item, **{key: str(folder / item[key]) for key in ("image", "weak_label")}} for item in items]


def test_check_counts_the_slices_that_were_painted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    # 46 axial slices a case, where the widest voxels would have given 76 sagittal ones
    file = write_list(tmp_path, write_case(tmp_path, "a"), write_case(tmp_path, "b", order=(2, 0, 1)))
    report = check_datalist(file)
    assert report.summary["slice_axis"]["taken"] == "axial"
    assert [report.summary["splits"][name]["slices"] for name in ("training", "validation")] == [46, 46]
    (warning,) = [finding for finding in report.findings if finding.code == "slice-axis"]
    assert "strokes on axial slices in case a, which are taken although the voxels are wider across sagittal" in str(
        warning
    )
    assert main(["check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "slices: axial along voxel axis 2 (1 case), as 1 case with strokes show" in out
    assert "1.95 x 1.95 x 1 mm" in out
    annotated = [row for row in report.summary["annotations"] if row["split"] == "training" and row["class"] == 1]
    assert annotated[0]["annotated_slices"] == 4


@pytest.mark.parametrize("said", ["option", "list"])
def test_what_is_said_counts_and_is_no_guess(tmp_path: Path, said: str) -> None:
    more = {"slice_axis": "coronal"} if said == "list" else {}
    file = write_list(tmp_path, write_case(tmp_path, "a"), write_case(tmp_path, "b"), **more)
    report = check_datalist(file, slice_axis="auto" if more else "coronal")
    assert report.summary["slice_axis"]["taken"] == "coronal"
    assert report.summary["splits"]["training"]["slices"] == 70
    assert not [finding for finding in report.findings if finding.code in ("slice-axis", "unknown-key")]
    assert check_datalist(file, slice_axis="2").summary["slice_axis"]["taken"] == 2, "an option before the list"


def test_an_unknown_value_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = write_list(tmp_path, write_case(tmp_path, "a"), write_case(tmp_path, "b"))
    for command in ("check", "bounds"):
        assert main([command, str(file), "--slice_axis", "axail"]) == 1
        assert "slice_axis must be one of auto, widest, axial" in capsys.readouterr().err
    file = write_list(tmp_path, write_case(tmp_path, "a"), write_case(tmp_path, "b"), slice_axis="z")
    with pytest.raises(DataError, match=r"^data list, key 'slice_axis': slice_axis must be .*, got 'z'\.$"):
        check_datalist(file)


def test_one_answer_for_axes_stored_in_any_order(tmp_path: Path) -> None:
    items = [
        write_case(tmp_path, "a"),
        write_case(tmp_path, "bb", order=(2, 1, 0)),
        write_case(tmp_path, "ccc", painted=None, order=(1, 2, 0)),
    ]
    choice = choose_slice_axis(absolute(tmp_path, *items), unannotated=255)
    assert choice.taken == "axial"
    assert "axial along voxel axis 2 (1 case), axial along voxel axis 0 (1 case), axial along" in choice.reason
    assert "2 cases with strokes" in choice.reason


def test_the_widest_voxels_where_strokes_agree_with_them(tmp_path: Path) -> None:
    # of oblique or differently stored scans the spacing says more than a plane does
    items = [
        write_case(tmp_path, "a", THICK, painted=2),
        write_case(tmp_path, "bb", (3.0, 1.0, 1.0), painted=0),
        write_case(tmp_path, "ccc", THICK, painted=None),
    ]
    choice = choose_slice_axis(absolute(tmp_path, *items), unannotated=255)
    assert choice.taken == "widest"
    assert not choice.doubts


def test_strokes_on_isotropic_scans_name_a_plane(tmp_path: Path) -> None:
    # so that a new scan whose axes are stored in another order is cut into the same slices
    items = [write_case(tmp_path, "a", (1.0, 1.0, 1.0)), write_case(tmp_path, "bb", (1.0, 1.0, 1.0), None, (2, 0, 1))]
    choice = choose_slice_axis(absolute(tmp_path, *items), unannotated=255)
    assert choice.taken == "axial"
    assert not choice.doubts


def test_strokes_that_disagree(tmp_path: Path) -> None:
    items = [write_case(tmp_path, name, THICK, painted=2) for name in ("a", "bb")]
    items.append(write_case(tmp_path, "ccc", THICK, painted=1))
    choice = choose_slice_axis(absolute(tmp_path, *items), unannotated=255)
    assert choice.taken == "widest"
    (doubt,) = map(str, choice.doubts)
    assert "strokes on coronal slices in case ccc, where slices are taken as axial" in doubt
    assert "say it with slice_axis: axial, coronal, sagittal" in doubt


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.05, 1.0), FLAT])
def test_no_strokes_and_no_axis_clearly_the_widest(
    tmp_path: Path, spacing: tuple[float, float, float], caplog: pytest.LogCaptureFixture
) -> None:
    items = absolute(tmp_path, write_case(tmp_path, "a", spacing, painted=None))
    with caplog.at_level(logging.INFO):
        assert decide_slice_axis(items, unannotated=255) == "widest"
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "no axis clearly wider than the others in case a" in warning
    plane = {(1.0, 1.0, 1.0): "axial", (1.0, 1.05, 1.0): "coronal", FLAT: "sagittal"}[spacing]
    assert f"slices are taken as {plane}" in warning
    assert any(f"slices: {plane} along voxel axis" in record.message for record in caplog.records)


def test_masks_and_unread_strokes_are_no_evidence(tmp_path: Path) -> None:
    item = write_case(tmp_path, "a")
    (absolute_item,) = absolute(tmp_path, item)
    assert choose_slice_axis([absolute_item]).taken == "widest", "training does not read strokes"
    full = {**absolute_item, "supervision": "full"}
    assert choose_slice_axis([full], unannotated=255).taken == "widest", "it is a mask"
    broken = {**absolute_item, "weak_label": str(tmp_path / "gone.nii.gz")}
    assert choose_slice_axis([broken], unannotated=255).taken == "widest", "for other checks to tell"
    assert choose_slice_axis([{**absolute_item, "image": str(tmp_path / "gone.nii.gz")}], "axial").taken == "axial"


def test_bounds_of_the_slices_that_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = [write_case(tmp_path, "a"), write_case(tmp_path, "b")]
    mask = np.zeros((76, 70, 46), np.uint8)
    mask[20:40, 30:40, 10:14] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([*FLAT, 1.0])), tmp_path / "a_mask.nii.gz")
    file = write_list(tmp_path, {**items[0], "label": "a_mask.nii.gz"}, items[1])
    load_datalist(file)
    for slice_axis, size in (("auto", 20 * 10 * 1.95**2), ("sagittal", 10 * 4 * 1.95), ("1", 20 * 4 * 1.95)):
        options = ["--per", "slice", "--method", "range", "--slice_axis", slice_axis]
        assert main(["bounds", str(file), *options]) == 0
        out = capsys.readouterr().out
        row = next(line for line in out.splitlines() if line.startswith("1 organ")).split()
        assert float(row[3]) == float(row[4]) == pytest.approx(size, rel=1e-3)
        assert ("warning: data list, key 'slice_axis'" in out) == (slice_axis == "auto")
