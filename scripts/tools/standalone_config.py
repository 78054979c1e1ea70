"""An inference config that runs with MONAI alone, made of a bundle's own."""

from __future__ import annotations

from pathlib import Path

import yaml

from scripts.tools.make_bundles import merge_yaml

__all__ = ["standalone_config"]

BLOCKS = Path(__file__).with_name("standalone.yaml")
PACKAGE = "sizeloss_monai"
LOADED = "    - {_target_: EnsureChannelFirstd, keys: image}\n"
SLICES_LAST = (
    '    - {_target_: sizeloss_monai.transforms.ThroughPlaneLastd, keys: image, slice_axis: "@decided_slice_axis"}\n'
)
SAVED = "    - _target_: SaveImaged\n"
WRITER = "      writer: sizeloss_monai.data.MaskWriter # with the placement of the scan's own header\n"
# of inference.yaml, what a TorchScript model has no use for
UNUSED = ("checkpoint", "num_classes", "finalize")
# of standalone.yaml, what a bundle without `SLICES_LAST` has no use for
OF_SLICES = ("decided_slice_axis", "widest", "axis", "order", "permute", "slices_last", "slices_back")


def standalone_config(inference: str) -> str:
    """Put MONAI's own components into the place of ours, and the TorchScript model into that of the network.

    `standalone.yaml` has the blocks. MONAI has no counterpart of `ThroughPlaneLastd`, and does not invert functions in
    a config (`Lambdad` ignores its `inv_func`): one function brings the slices' axis to the end, and another brings it
    back before masks are saved. MONAI's own reader and writer keep one placement, in mm: a scan whose header holds
    others is refused.

    Args:
        inference: text of a bundle's `inference.yaml`.

    Returns:
        Text of the config.

    Raises:
        ValueError: when it would still need our package, or lacks what the checks come after.
    """
    text = merge_yaml(inference, BLOCKS.read_text(encoding="utf-8"), UNUSED)
    places = {LOADED: LOADED + '    - "@check_scan"\n    - "@set_upright"\n', WRITER: ""}
    saved = '    - "@set_scanned"\n' + SAVED
    if SLICES_LAST in text:
        places |= {SLICES_LAST: '    - "@slices_last"\n', SAVED: '    - "@slices_back"\n' + saved}
    else:
        places[SAVED] = saved
        text = merge_yaml(text, "", OF_SLICES)
    for line, lines in places.items():
        if text.count(line) != 1:
            raise ValueError(
                f"inference.yaml: expected the line {line.strip()!r} once, found it {text.count(line)} times."
            )
        text = text.replace(line, lines)
    config = yaml.safe_load(text)
    left = [name for name, value in config.items() if f"{PACKAGE}." in str(value)]
    if left:
        raise ValueError(
            f"inference.yaml: {', '.join(left)} need {PACKAGE}, for which standalone.yaml has no substitute."
        )
    return text
