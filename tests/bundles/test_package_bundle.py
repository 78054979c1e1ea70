"""A bundle's package: checked, complete, and of use to a site that has MONAI alone."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

from scripts.tools import checksummed_zip, package_checks
from scripts.tools.package_bundle import package
from scripts.tools.package_checks import PackagingError
from sizeloss_monai.networks import ENet
from tests.support import ROOT
from tests.support.bundle_runs import CINE
from tests.support.standalone_site import BUNDLE, STANDALONE, segment

SCHEMA = {"type": "object", "required": ["version", "task"]}


def edit_metadata(bundle: Path, **values: Any) -> None:
    file = bundle / "configs" / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / CINE))


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("schema") / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    return file


# ---- what is refused, before anything is written


def drop_section(title: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        file = bundle / "docs" / "README.md"
        assert f"## {title}\n" in file.read_text()
        file.write_text(file.read_text().replace(f"## {title}\n", ""))

    return change


def save_weights(content: Any) -> Callable[[Path], None]:
    return lambda bundle: torch.save(content, bundle / "models" / "model.pt")


REFUSED: list[tuple[Callable[[Path], Any], str]] = [
    *[(lambda bundle, file=file: (bundle / file).unlink(), file) for file in package_checks.FILES],
    (lambda bundle: (bundle / "LICENSE").write_text(" \n"), "LICENSE"),
    *[(drop_section(title), title) for title in package_checks.HEADINGS],
    *[(lambda bundle, name=name: edit_metadata(bundle, **{name: ""}), name) for name in package_checks.METADATA],
    (lambda bundle: edit_metadata(bundle, version="0.2.0"), "'0.2.0' in the changelog"),
    (lambda bundle: edit_metadata(bundle, task=None, schema=None), "schema"),
    (lambda bundle: (bundle / "models" / "model.pt").unlink(), "give --checkpoint"),
    (lambda bundle: (bundle / "models" / "model.pt").write_bytes(b"none"), "cannot be read"),
    (save_weights({"epoch": 3}), "no state dict"),
    (save_weights({}), "no state dict"),
    (save_weights(ENet(out_channels=3).state_dict()), "does not fit network_def"),
    (save_weights({**ENet().state_dict(), "more": torch.zeros(1)}), "does not fit network_def"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_missing_or_wrong_is_refused(
    bundle: Path, tmp_path: Path, schema: Path, change: Callable[[Path], Any], words: str
) -> None:
    change(bundle)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        package(bundle, tmp_path / "out", schema=schema)
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_metadata_that_break_the_schema_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "required": ["no_such_key"]}))
    with pytest.raises(ValueError, match="no_such_key"):
        package(bundle, tmp_path / "out", schema=tmp_path / "schema.json")
    # MONAI would download it to there
    with pytest.raises(PackagingError, match="found no file"):
        package(bundle, tmp_path / "out", schema=tmp_path / "mistyped.json")
    assert not (tmp_path / "mistyped.json").exists()


@pytest.mark.parametrize("suffix", ["", ".sha256"])
def test_a_package_is_never_replaced(bundle: Path, tmp_path: Path, schema: Path, suffix: str) -> None:
    existing = tmp_path / f"{CINE}_v0.1.0.zip{suffix}"
    existing.write_text("mine")
    with pytest.raises(PackagingError, match="not replaced"):
        package(bundle, tmp_path, schema=schema)
    assert existing.read_text() == "mine"


def test_a_heading_counts_with_text_below_it_and_outside_code() -> None:
    card = "".join(f"## {title.upper()} ##\n\ntext\n" for title in package_checks.HEADINGS)
    package_checks.check_card(card)
    with pytest.raises(PackagingError, match="Licence"):
        package_checks.check_card(card.replace("## LICENCE ##\n\ntext\n", "## LICENCE ##\n\n"))
    with pytest.raises(PackagingError, match="Licence"):
        package_checks.check_card(card.replace("## LICENCE ##\n", "```bash\n# Licence\n```\n"))


def test_weights_may_be_those_of_a_resumable_checkpoint(tmp_path: Path) -> None:
    state = ENet().state_dict()
    torch.save({"model": state, "optimizer": {"state": {}}}, tmp_path / "checkpoint_epoch=3.pt")
    loaded = package_checks.load_weights(tmp_path / "checkpoint_epoch=3.pt")
    assert loaded.keys() == state.keys()
    package_checks.load_network(BUNDLE / "configs" / "inference.yaml", loaded)


# ---- TorchScript


METADATA = {"network_data_format": {"inputs": {"image": {"num_channels": 1, "spatial_shape": ["8*n", "8*n"]}}}}


class FixedSize(torch.nn.Module):
    """Traced, it is right for the size it was traced with only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * int(x.shape[-1])


def test_torchscript_equals_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ENet().eval()
    torch.jit.script(network).save(tmp_path / "model.ts")
    assert package_checks.check_torchscript(tmp_path / "model.ts", network, METADATA) <= 1e-6
    with torch.no_grad():
        for bad in (1e-3, float("nan")):
            list(network.parameters())[-1].add_(bad)
            with pytest.raises(PackagingError, match="differs"):
                package_checks.check_torchscript(tmp_path / "model.ts", network, METADATA)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_of_one_size_only_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(FixedSize(), torch.rand(1, 1, 32, 40), check_trace=False).save(tmp_path / "model.ts")
    with pytest.raises(PackagingError, match=r"for an image \[2, "):
        package_checks.check_torchscript(tmp_path / "model.ts", FixedSize(), METADATA)


def test_sizes_are_those_that_the_metadata_allow() -> None:
    image: dict[str, Any] = {"num_channels": 3, "spatial_shape": ["8*n", "8*n", "16*n"]}
    metadata = {"network_data_format": {"inputs": {"image": image}}}
    for _, channels, *sides in package_checks._input_shapes(metadata):
        assert channels == 3
        assert [side % step for side, step in zip(sides, (8, 8, 16), strict=True)] == [0, 0, 0]
        assert len(set(sides)) == 3
    image["spatial_shape"] = ["8*n", "2**p"]
    with pytest.raises(PackagingError, match="expected sides"):
        package_checks._input_shapes(metadata)


# ---- the zip


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    checksummed_zip.write_checksums(folder)
    return folder


def test_the_same_files_give_the_same_zip(tmp_path: Path) -> None:
    names = ["b/c.txt", "a.txt", "b/a.txt"]
    first, second = fill(tmp_path / "1" / "x", names), fill(tmp_path / "2" / "x", names[::-1])
    os.utime(second / "a.txt", (0, 0))
    (second / "a.txt").chmod(0o700)
    for folder in (first, second):
        checksummed_zip.write_zip(folder, folder.parent / "x.zip")
    assert checksummed_zip.sha256(tmp_path / "1" / "x.zip") == checksummed_zip.sha256(tmp_path / "2" / "x.zip")
    with zipfile.ZipFile(tmp_path / "1" / "x.zip") as archive:
        assert archive.namelist() == ["x/SHA256SUMS", "x/a.txt", "x/b/a.txt", "x/b/c.txt"]
        sums = archive.read("x/SHA256SUMS").decode().splitlines()
        assert sums == [f"{hashlib.sha256(f'content of {n}'.encode()).hexdigest()}  {n}" for n in sorted(names)]
    with pytest.raises(FileExistsError):
        checksummed_zip.write_zip(first, tmp_path / "1" / "x.zip")


# ---- the whole


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory, schema: Path) -> Path:
    """The package of the released bundle, unpacked; the zip beside it."""
    folder = tmp_path_factory.mktemp("package")
    target = package(BUNDLE, folder, schema=schema)
    with zipfile.ZipFile(target) as archive:
        archive.extractall(folder)
    return folder / CINE


def test_the_package_is_complete(unpacked: Path) -> None:
    (archive,) = unpacked.parent.glob("*.zip")
    assert archive.name == f"{CINE}_v0.1.0.zip"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (archive.parent / f"{archive.name}.sha256").read_text() == f"{digest}  {archive.name}\n"
    files = {path.relative_to(unpacked).as_posix(): path.read_bytes() for path in unpacked.rglob("*") if path.is_file()}
    made = {f"configs/{STANDALONE}", "models/model.ts", "SHA256SUMS"}
    assert files.keys() - made == {
        path.relative_to(BUNDLE).as_posix() for path in BUNDLE.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert all(content == (BUNDLE / name).read_bytes() for name, content in files.items() if name not in made)
    sums = dict(line.split("  ")[::-1] for line in files.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert str(ROOT).encode() not in files["models/model.ts"]
    with zipfile.ZipFile(unpacked / "models" / "model.ts") as script:
        # what follows the paths of source files
        assert not [name for name in script.namelist() if name.endswith((".debug_pkl", "serialization_id"))]


def test_the_package_runs_without_our_package(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: Any
) -> None:
    nib.save(nib.Nifti1Image(*volume), tmp_path / "scan.nii.gz")
    for name in [*sys.modules, "sizeloss_monai"]:
        if name.split(".")[0] == "sizeloss_monai":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError):
        importlib.import_module("sizeloss_monai.networks")
    mask = segment(unpacked, tmp_path / "scan.nii.gz", tmp_path / "out")["scan_seg.nii.gz"]
    assert mask.shape == volume[0].shape


def test_configs_that_disagree_are_found(unpacked: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unpacked, tmp_path / CINE))
    config = folder / "configs" / STANDALONE
    config.write_text(config.read_text().replace("pixdim: [2.0, 2.0", "pixdim: [1.5, 1.5"))
    (tmp_path / "masks").mkdir()
    with pytest.raises(PackagingError, match="do not make the same mask"):
        package_checks.check_same_masks(folder, ("inference.yaml", STANDALONE), tmp_path / "masks")
