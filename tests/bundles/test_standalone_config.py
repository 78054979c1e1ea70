"""The inference config for a site that has MONAI alone."""

from __future__ import annotations

import gzip
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from scripts.tools.standalone_config import standalone_config
from sizeloss_monai.phantoms import make_affine
from sizeloss_monai.transforms import ThroughPlaneLast
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLES, CINE, root_of
from tests.support.standalone_site import BUNDLE, STANDALONE, segment


def targets(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        yield from [config["_target_"]] if "_target_" in config else []
        config = list(config.values())
    for value in config if isinstance(config, list) else []:
        yield from targets(value)


@pytest.mark.parametrize("name", BUNDLES)
def test_every_bundle_has_a_standalone_config(name: str) -> None:
    text = (ROOT / "bundles" / name / "configs" / "inference.yaml").read_text()
    config = yaml.safe_load(standalone_config(text))
    found = list(targets(config))
    assert found
    assert all("." not in target or target.startswith(("monai.", "torch.")) for target in found), found
    assert ("order" in config) == ("ThroughPlaneLastd" in text)
    kept = ("device", "inferer", "one_piece", "pixdim", "evaluator", "run")
    assert {key: config[key] for key in kept} == {key: yaml.safe_load(text)[key] for key in kept}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  _target_: SliceInferer", "  _target_: sizeloss_monai.inferers.ChunkedInferer", "inferer need"),
        ("    - {_target_: EnsureChannelFirstd, keys: image}\n", "", "once, found it 0 times"),
        ("    - _target_: SaveImaged\n", "    - _target_: SaveImaged\n" * 2, "once, found it 2 times"),
        ("sizeloss_monai.data.MaskWriter", "sizeloss_monai.data.OtherWriter", "once, found it 0 times"),
    ],
)
def test_what_has_no_substitute_is_refused(old: str, new: str, words: str) -> None:
    text = (BUNDLE / "configs" / "inference.yaml").read_text()
    assert old in text
    with pytest.raises(ValueError, match=words):
        standalone_config(text.replace(old, new))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's folder with the standalone config, and a network that is no more than a threshold."""

    class Threshold(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([0.5 - x, x - 0.5], dim=1) * 50.0

    folder = tmp_path_factory.mktemp("site") / CINE
    (folder / "models").mkdir(parents=True)
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    text = standalone_config((BUNDLE / "configs" / "inference.yaml").read_text())
    (folder / "configs" / STANDALONE).write_text(text)
    torch.jit.script(Threshold()).save(folder / "models" / "model.ts")
    return folder


@pytest.mark.parametrize("spacing", [(2.0, 1.7, 6.0), (2.0, 2.0, 2.01), (2.03, 2.0, 2.0), (2.0, 2.01, 2.0), (3, 3, 2)])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("slice_axis", ["auto", "widest", "axial", "coronal", "sagittal", 0, 1])
def test_slices_come_last_as_in_the_full_config(
    site: Path, spacing: Any, order: tuple[int, ...], slice_axis: Any
) -> None:
    parser = ConfigParser()
    parser.read_config(str(site / "configs" / STANDALONE))
    parser["slice_axis"] = slice_axis
    affine = make_affine(spacing, 3, (4, 5, 6))[:, [*order, 3]]
    data = torch.arange(4.0 * 5 * 6).reshape(1, 4, 5, 6).permute(0, *(i + 1 for i in order))
    scan = MetaTensor(data, affine=affine, meta={"original_affine": affine})
    out = parser.get_parsed_content("slices_last")({"image": scan})["image"]
    expected = ThroughPlaneLast(slice_axis)(scan)
    assert torch.equal(out.as_tensor(), expected.as_tensor())
    np.testing.assert_allclose(out.affine, expected.affine, rtol=0, atol=1e-9)
    back = parser.get_parsed_content("slices_back")({"pred": out})["pred"]
    assert torch.equal(back.as_tensor(), scan.as_tensor())
    np.testing.assert_array_equal(back.affine, scan.affine)


def test_masks_lie_on_their_scans(site: Path, tmp_path: Path, volume: Any) -> None:
    image, affine = volume
    (tmp_path / "scans [1]").mkdir()  # what a pattern would take for a set of characters
    for order in itertools.permutations(range(3)):
        name = "".join(map(str, order))
        scan = nib.Nifti1Image(image.transpose(order), affine[:, [*order, 3]])
        nib.save(scan, tmp_path / "scans [1]" / f"{name}.nii.gz")
    masks = segment(site, tmp_path / "scans [1]", tmp_path / "out", resample=False)
    assert len(masks) == 6
    low, high = np.percentile(image, [1, 99])
    bright = image > (low + high) / 2
    for name, mask in masks.items():
        order = [int(digit) for digit in name[:3]]
        np.testing.assert_allclose(mask.affine, affine[:, [*order, 3]], atol=1e-4)
        found = np.asarray(mask.dataobj).transpose(np.argsort(order))
        assert found.any()
        assert not found[~bright].any(), "the largest component of what is bright"


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def save_header(folder: Path, image: nib.Nifti1Image, **fields: Any) -> None:
    """Write a scan with some fields of its header changed, and nothing repaired."""
    content = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for field, value in fields.items():
        header[field] = value
    content[:348] = header.binaryblock
    (folder / "a.nii.gz").write_bytes(gzip.compress(content))


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda folder, image: nib.save(image(np.nan), folder / "a.nii.gz"), {}, "a.nii.gz: expected a 3D scan"),
        (lambda folder, image: nib.save(image(np.inf), folder / "a.nii.gz"), {}, "a.nii.gz: expected a 3D scan"),
        (lambda folder, image: nib.save(image((2,)), folder / "a.nii.gz"), {}, r"found shape \[2, "),
        (lambda folder, image: nib.save(image(0).slicer[:, :, :1], folder / "a.nii"), {"pattern": "x*"}, "no scan x"),
        (
            lambda folder, image: [nib.save(image(0), folder / name) for name in ("a.nii", "a.nii.gz")],
            {"pattern": "*"},
            "same name",
        ),
        (
            lambda folder, image: (folder / "a.nii").write_bytes(image(0).to_bytes()[:-9]),
            {"pattern": "*"},
            "Expected .* bytes",
        ),
        (
            lambda folder, image: (folder / "a.nii.gz").write_bytes(gzip.compress(image(0).to_bytes())[:-9]),
            {},
            "ended before",
        ),
        (
            # stored, not deflated: only the checksum at the end tells
            lambda folder, image: (folder / "a.nii.gz").write_bytes(damaged(gzip.compress(image(0).to_bytes(), 0))),
            {},
            "CRC check failed",
        ),
        # what MONAI's own reader would take otherwise than the full config does, or its writer would not carry
        (
            lambda folder, image: save_header(folder, image(0), qform_code=1, qoffset_x=12),
            {},
            "with one placement, in mm",
        ),
        (lambda folder, image: save_header(folder, image(0), pixdim=[1] * 8), {}, "with one placement, in mm"),
        (lambda folder, image: save_header(folder, image(0), xyzt_units=3), {}, "with one placement, in mm"),
        (lambda folder, image: save_header(folder, image(0), sform_code=0), {}, "with one placement, in mm"),
        (lambda folder, image: None, {}, "found no scan"),
        (lambda folder, image: folder.rmdir(), {}, "found no scan"),
    ],
)
def test_scans_that_cannot_be_used_are_errors(
    site: Path, tmp_path: Path, volume: Any, make: Callable[..., Any], options: dict[str, Any], words: str
) -> None:
    data, affine = volume

    def image(extra: Any) -> nib.Nifti1Image:
        if isinstance(extra, tuple):
            return nib.Nifti1Image(np.stack([data] * extra[0], axis=-1), affine)
        changed = data.copy()
        changed[0, 0, 0] += extra
        return nib.Nifti1Image(changed, affine)

    (tmp_path / "scans").mkdir()
    make(tmp_path / "scans", image)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        segment(site, tmp_path / "scans", tmp_path / "out", **options)
    assert re.search(words, str(root_of(caught.value)))
    assert not list(tmp_path.glob("out/*"))


def test_masks_are_not_overwritten_unasked(site: Path, tmp_path: Path, volume: Any) -> None:
    nib.save(nib.Nifti1Image(*volume), tmp_path / "scan.nii.gz")
    segment(site, tmp_path / "scan.nii.gz", tmp_path / "out")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        segment(site, tmp_path / "scan.nii.gz", tmp_path / "out")
    assert "is not empty" in str(root_of(caught.value))
    assert segment(site, tmp_path / "scan.nii.gz", tmp_path / "out", resume=True).keys() == {"scan_seg.nii.gz"}
