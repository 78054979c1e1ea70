r"""Make the zip by which a bundle with weights is handed on: it segments scans at a site that has MONAI alone.

    python -m scripts.tools.package_bundle bundles/cine_lv_segmentation --output_dir packages
    python -m scripts.tools.package_bundle my_bundle --output_dir packages \
        --checkpoint runs/my_scans/checkpoints/model.pt

`<bundle>_v<version>.zip` holds the bundle's configs, docs and licence as they are, `models/model.pt`, and beside them
`models/model.ts` (TorchScript), `configs/inference_standalone.yaml` (MONAI's components only) and `SHA256SUMS`;
`<zip>.sha256` is the checksum of the zip. The same bundle gives the same bytes. Before anything is written the bundle
is checked: files, model card, metadata by MONAI's schema, weights, network and TorchScript, and that both inference
configs make the same masks of phantoms. A zip that exists is never replaced. It needs jsonschema, which the extra
[test] has.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from monai.bundle import verify_metadata, verify_net_in_out

from scripts.tools.checksummed_zip import rewrite_zip, sha256, write_checksums, write_zip
from scripts.tools.package_checks import (
    PackagingError,
    check_card,
    check_files,
    check_metadata,
    check_same_masks,
    check_torchscript,
    load_network,
    load_weights,
    read_metadata,
)
from scripts.tools.standalone_config import standalone_config
from sizeloss_monai.bundle import trained_slice_axis

FULL, STANDALONE = "inference.yaml", "inference_standalone.yaml"


def export_torchscript(bundle: Path) -> Path:
    """Write `models/model.ts` by MONAI's `ckpt_export`, without the paths of the source files it was made from.

    In a process of its own: the order of constants in the code follows Python's random hashes, which are fixed at its
    start.

    Args:
        bundle: has `models/model.pt`.

    Returns:
        The file.

    Raises:
        PackagingError: when MONAI cannot export the network.
    """
    file, configs = bundle / "models" / "model.ts", bundle / "configs"
    options = {
        "net_id": "network_def",
        "filepath": file,
        "ckpt_file": bundle / "models" / "model.pt",
        "meta_file": configs / "metadata.json",
        "config_file": configs / FULL,
    }
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "ckpt_export", *(f"--{k}={v}" for k, v in options.items())],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 or not file.is_file():
        raise PackagingError(f"monai.bundle ckpt_export failed:\n{done.stderr[-2000:]}")
    # nothing needs the paths, nor the number, which is of all contents including them
    rewrite_zip(file, without=(".debug_pkl", ".data/serialization_id"))
    return file


def stage(bundle: Path, folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Put a package's files together, but for the TorchScript model and the checksums.

    Args:
        bundle: the bundle's folder, of which `configs`, `docs` and `LICENSE` are taken.
        folder: the package's, which must not exist.
        state: the weights.
    """
    hidden = shutil.ignore_patterns(".*", "__pycache__")
    for name in ("configs", "docs"):
        shutil.copytree(bundle / name, folder / name, ignore=hidden)
    shutil.copyfile(bundle / "LICENSE", folder / "LICENSE")
    text = standalone_config((bundle / "configs" / FULL).read_text(encoding="utf-8"))
    (folder / "configs" / STANDALONE).write_text(text, encoding="utf-8", newline="\n")
    (folder / "models").mkdir()
    torch.save(state, folder / "models" / "model.pt")


def _check_slices(config: Path, checkpoint: Path) -> None:
    """Raise where the config that goes out with the weights takes other slices than their training."""
    trained = trained_slice_axis(checkpoint)
    given = yaml.safe_load(config.read_text(encoding="utf-8")).get("slice_axis")
    if given is not None and trained != ("widest" if given == "auto" else given):
        raise PackagingError(
            f"{config.name}: slice_axis must be {trained!r}, with which {str(checkpoint)!r} was trained, got {given!r}."
        )


def package(bundle: Path, output_dir: Path, checkpoint: Path | None = None, schema: Path | None = None) -> Path:
    """Check a bundle and write its zip and the zip's checksum.

    Args:
        bundle: the bundle's folder.
        output_dir: where both go.
        checkpoint: the weights; None takes the bundle's `models/model.pt`.
        schema: a copy of MONAI's metadata schema; None downloads the one that the metadata name.

    Returns:
        The zip.

    Raises:
        ValueError: when the bundle cannot be packaged as it is, or the zip exists. Ours are `PackagingError`, MONAI's
            are about metadata and network.
    """
    bundle = bundle.resolve()
    check_files(bundle)
    check_card((bundle / "docs" / "README.md").read_text(encoding="utf-8"))
    metadata = read_metadata(bundle)
    check_metadata(metadata)
    target = output_dir / f"{bundle.name}_v{metadata['version']}.zip"
    checksum = target.with_name(f"{target.name}.sha256")
    existing = [str(path) for path in (target, checksum) if path.exists()]
    if existing:
        raise PackagingError(
            f"{' and '.join(existing)} exists: a package is not replaced. Raise the version, or remove it."
        )
    if schema and not schema.is_file():
        raise PackagingError(f"schema: found no file {str(schema)!r}.")
    if checkpoint:
        _check_slices(bundle / "configs" / FULL, checkpoint)
    state = load_weights(checkpoint or bundle / "models" / "model.pt")
    network = load_network(bundle / "configs" / FULL, state)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / bundle.name
        meta_file = str(bundle / "configs" / "metadata.json")
        verify_metadata(meta_file=meta_file, filepath=str(schema or Path(work) / "schema.json"))
        stage(bundle, folder, state)
        difference = check_torchscript(export_torchscript(folder), network, metadata)
        for config in (FULL, STANDALONE):
            path = str(folder / "configs" / config)
            verify_net_in_out(
                "network_def", meta_file=meta_file, config_file=path, n=4, device="cpu", bundle_root=str(folder)
            )
        masks = Path(work) / "masks"
        masks.mkdir()
        foreground = check_same_masks(folder, (FULL, STANDALONE), masks)
        write_checksums(folder)
        zipped = Path(work) / target.name
        write_zip(folder, zipped)
        output_dir.mkdir(parents=True, exist_ok=True)
        checksum.write_text(f"{sha256(zipped)}  {target.name}\n", encoding="utf-8", newline="\n")
        shutil.move(zipped, target)
    print(f"TorchScript and network differ by {difference:g} at most")
    print(f"masks of phantoms by {FULL} and {STANDALONE}: the same, {foreground} voxels of foreground")
    return target


def main() -> None:
    """Parse the command line and package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the zip and its checksum go")
    parser.add_argument("--checkpoint", type=Path, help="the weights, instead of the bundle's models/model.pt")
    parser.add_argument("--schema", type=Path, help="a copy of MONAI's metadata schema; without it, it is downloaded")
    args = parser.parse_args()
    try:
        target = package(args.bundle, args.output_dir, args.checkpoint, args.schema)
    except ValueError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    print(f"wrote {target}\n{target.with_name(target.name + '.sha256').read_text(encoding='utf-8').strip()}")


if __name__ == "__main__":
    main()
