"""What a bundle is checked for before it is packaged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from sizeloss_monai.phantoms import make_affine, make_cine_phantom

__all__ = [
    "PackagingError",
    "check_card",
    "check_files",
    "check_metadata",
    "check_same_masks",
    "check_torchscript",
    "load_network",
    "load_weights",
    "read_metadata",
]

FILES = ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "docs/README.md", "docs/data_license.txt")
# sections of the model card, docs/README.md
HEADINGS = ("Data", "Licence", "Intended use", "Results", "Known failures")
# what MONAI's schema does not ask for
METADATA = ("changelog", "data_source", "eval_metrics", "intended_use")
TOLERANCE = 1e-5


class PackagingError(ValueError):
    """A bundle that cannot be packaged as it is; the message says what was found and what was expected."""


def check_files(bundle: Path) -> None:
    """Check that a bundle has licences, metadata, inference config and model card, none of them empty.

    Args:
        bundle: its folder.

    Raises:
        PackagingError: when one is missing.
    """
    missing = [
        file for file in FILES if not (bundle / file).is_file() or not (bundle / file).read_text("utf-8").strip()
    ]
    if missing:
        raise PackagingError(f"bundle {str(bundle)!r}: found no {', '.join(missing)}, or nothing in it.")


def check_card(card: str) -> None:
    """Check that a model card has every section, and something in it.

    Args:
        card: Markdown.

    Raises:
        PackagingError: when one is missing.
    """
    # what looks like a heading in a block of code, such as a comment of a shell, is none
    text = re.sub(r"^```.*?^```", "code", card, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^#+ +(.*?)[ #]*$", text, flags=re.MULTILINE)[1:]
    written = {title.lower() for title, body in zip(parts[::2], parts[1::2], strict=True) if body.strip()}
    missing = [title for title in HEADINGS if title.lower() not in written]
    if missing:
        raise PackagingError(f"docs/README.md: expected the sections {', '.join(HEADINGS)}, found none on {missing}.")


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Check what MONAI's schema leaves open: the model card's facts, and a changelog that knows the version.

    Args:
        metadata: content of `metadata.json`.

    Raises:
        PackagingError: when something is missing.
    """
    missing = [name for name in ("version", *METADATA) if not metadata.get(name)]
    if missing:
        raise PackagingError(f"configs/metadata.json: found no {', '.join(missing)}.")
    if metadata["version"] not in metadata["changelog"]:
        raise PackagingError(
            f"configs/metadata.json: found no version {metadata['version']!r} in the changelog, "
            f"which has {', '.join(metadata['changelog'])}."
        )


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint: a state dict, or one under `model` as training's `checkpoint_epoch=N.pt` have it.

    Args:
        path: the file; nothing but tensors and plain Python values is unpickled.

    Raises:
        PackagingError: when there is no such file, it cannot be read, or has no state dict in it.
    """
    if not path.is_file():
        raise PackagingError(f"checkpoint: found no file {str(path)!r}; give --checkpoint for weights of your own.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise PackagingError(f"checkpoint {str(path)!r}: cannot be read: {str(error).splitlines()[0]}") from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise PackagingError(f"checkpoint {str(path)!r}: found no state dict, expected one, or one under 'model'.")
    return state


def load_network(config: Path, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The network of an inference config with its weights, in evaluation mode.

    Args:
        config: has the network's definition under `network_def`.
        state: the weights, exactly those of the network.

    Raises:
        PackagingError: when they are of another network.
    """
    parser = ConfigParser()
    parser.read_config(str(config))
    network = parser.get_parsed_content("network_def")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = "\n".join(str(error).splitlines()[:4])
        raise PackagingError(f"the checkpoint does not fit network_def of configs/{config.name}: {reason}") from error
    return network.eval()


def _input_shapes(metadata: Mapping[str, Any]) -> list[list[int]]:
    """Three batches of different sizes, no two sides the same, as the metadata's `K*n` allow."""
    (image,) = metadata["network_data_format"]["inputs"].values()
    found = [re.fullmatch(r"(\d+)\*n", str(side)) for side in image["spatial_shape"]]
    steps = [int(match[1]) for match in found if match]
    if not steps or len(steps) < len(found):
        raise PackagingError(
            f"configs/metadata.json: found spatial_shape {image['spatial_shape']}, expected sides such as '8*n'."
        )
    channels = image["num_channels"]
    return [[b, channels, *(step * (n + i) for i, step in enumerate(steps))] for b, n in ((1, 4), (2, 7), (3, 2))]


def check_torchscript(file: Path, network: torch.nn.Module, metadata: Mapping[str, Any]) -> float:
    """Check that a TorchScript model gives what the network gives, for images of several sizes.

    Args:
        file: the TorchScript model.
        network: in evaluation mode.
        metadata: tells the sizes.

    Returns:
        The greatest difference of a logit.

    Raises:
        PackagingError: when it is above 1e-5, or not a number.
    """
    script = torch.jit.load(str(file), map_location="cpu")
    generator = torch.Generator().manual_seed(0)
    differences = []
    with torch.no_grad():
        for shape in _input_shapes(metadata):
            image = torch.rand(shape, generator=generator)
            differences.append(float((script(image) - network(image)).abs().max()))
            if not differences[-1] <= TOLERANCE:
                raise PackagingError(
                    f"{file.name}: differs from the network by {differences[-1]:g} for an image {shape}."
                )
    return max(differences)


def _write_phantoms(folder: Path) -> None:
    """Oblique scans whose slices lie along the last, the first and the second axis."""
    folder.mkdir()
    spacing = (1.8, 1.6, 8.0)
    for seed, order in enumerate(([0, 1, 2], [2, 0, 1], [1, 2, 0])):
        image, _ = make_cine_phantom(seed, num_slices=5, matrix=(80, 72), spacing=spacing)
        affine = make_affine(spacing, seed, image.shape)[:, [*order, 3]]
        nib.save(nib.Nifti1Image(image.transpose(order), affine), folder / f"scan{seed}.nii.gz")


def _predict(bundle: Path, config: str, scans: Path, output: Path) -> dict[str, Any]:
    """Run an inference config in this process; the masks by file name."""
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / config),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(scans),
        output_dir=str(output),
        device="cpu",
    )
    workflow.initialize()
    missing = workflow.check_properties()
    if missing:
        raise PackagingError(
            f"configs/{config}: found no {', '.join(missing)}, which MONAI's inference workflows have."
        )
    workflow.run()
    workflow.finalize()
    return {path.name: nib.load(path) for path in sorted(output.iterdir())}


def check_same_masks(bundle: Path, configs: Sequence[str], folder: Path) -> int:
    """Check that inference configs make the same masks of the same scans, phantoms of the heart.

    Args:
        bundle: its folder, complete with weights.
        configs: names of the configs.
        folder: an empty one for scans and masks.

    Returns:
        The voxels of all masks that are not background: where it is 0, nothing was compared but the grids.

    Raises:
        PackagingError: when a voxel or an affine differs, or a config lacks a property of MONAI's inference workflows.
    """
    _write_phantoms(folder / "scans")
    masks = [_predict(bundle, config, folder / "scans", folder / config) for config in configs]
    foreground = 0
    for name in sorted({name for found in masks for name in found}):
        if not all(name in found for found in masks):
            raise PackagingError(f"not all of {', '.join(configs)} make the mask {name}.")
        voxels = [np.asarray(found[name].dataobj) for found in masks]
        same = [np.array_equal(voxels[0], other) for other in voxels[1:]]
        same += [np.array_equal(masks[0][name].affine, found[name].affine) for found in masks[1:]]
        if not all(same):
            raise PackagingError(f"{' and '.join(configs)} do not make the same mask {name} of a phantom.")
        foreground += int(np.count_nonzero(voxels[0]))
    return foreground


def read_metadata(bundle: Path) -> dict[str, Any]:
    """The content of a bundle's `metadata.json`."""
    content: dict[str, Any] = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return content
