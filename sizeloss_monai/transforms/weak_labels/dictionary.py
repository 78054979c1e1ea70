"""Dictionary twins of the weak-label transforms."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, ensure_tuple

from sizeloss_monai.transforms.weak_labels.array import (
    DEFAULT_IGNORE_INDEX,
    LabelToDiscSeed,
    LabelToErodedSeed,
    ScribbleToWeakLabel,
)

__all__ = [
    "LabelToDiscSeedD",
    "LabelToDiscSeedDict",
    "LabelToDiscSeedd",
    "LabelToErodedSeedD",
    "LabelToErodedSeedDict",
    "LabelToErodedSeedd",
    "ScribbleToWeakLabelD",
    "ScribbleToWeakLabelDict",
    "ScribbleToWeakLabeld",
]


class _WeakLabeld(MapTransform):
    """Write the weak label made from ``keys`` under ``output_keys``."""

    backend = LabelToErodedSeed.backend

    def __init__(self, keys: KeysCollection, output_keys: KeysCollection, converter: Callable[..., Any]) -> None:
        super().__init__(keys)
        self.output_keys = ensure_tuple(output_keys)
        if len(self.output_keys) != len(self.keys):
            raise ValueError(f"as many output_keys as keys are needed, found {self.output_keys} and {self.keys}.")
        self.converter = converter

    def _convert(self, label: Any, data: Mapping[Hashable, Any]) -> Any:
        return self.converter(label)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key, output_key in zip(self.keys, self.output_keys, strict=True):
            out[output_key] = self._convert(out[key], out)
        return out


class LabelToErodedSeedd(_WeakLabeld):
    """Dictionary-based version of :class:`LabelToErodedSeed`."""

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_keys: KeysCollection = "weak_label",
        sizes: Sequence[int] = (10, 7, 6, 5, 4, 3, 2),
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        """
        Args:
            keys: full annotations.
            output_keys: where the weak labels go.
            sizes: see :class:`LabelToErodedSeed`.
            ignore_index: value of unannotated pixels.
        """
        super().__init__(keys, output_keys, LabelToErodedSeed(sizes, ignore_index))


class LabelToDiscSeedd(_WeakLabeld):
    """Dictionary-based version of :class:`LabelToDiscSeed`; the case's name is read from ``case_key``."""

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_keys: KeysCollection = "weak_label",
        max_radius: int = 4,
        seed: int = 0,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        case_key: str = "case",
        slice_key: str = "slice",
        slice_wise: bool = True,
    ) -> None:
        """
        Args:
            keys: full annotations.
            output_keys: where the weak labels go.
            max_radius: in pixels.
            seed: of the experiment.
            ignore_index: value of unannotated pixels.
            case_key: key of the case's name. Where it is absent, as in cases that MONAI Label hands over, the name of
                the label's file stands for it; one of them must be there, or every case would get the same discs.
            slice_key: key of the index of the (first) slice; 0 where the key is absent, as in whole volumes.
            slice_wise: see :class:`LabelToDiscSeed`.
        """
        super().__init__(keys, output_keys, LabelToDiscSeed(max_radius, seed, ignore_index, slice_wise))
        self.case_key = case_key
        self.slice_key = slice_key

    def _convert(self, label: Any, data: Mapping[Hashable, Any]) -> Any:
        file = getattr(label, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        case = Path(file).name if self.case_key not in data and file else data[self.case_key]
        return self.converter(label, case=case, first_slice=int(data.get(self.slice_key, 0)))


class ScribbleToWeakLabeld(_WeakLabeld):
    """Dictionary-based version of :class:`ScribbleToWeakLabel`."""

    def __init__(
        self,
        keys: KeysCollection,
        unannotated: int,
        output_keys: KeysCollection = "weak_label",
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        """
        Args:
            keys: scribbles.
            unannotated: value of unannotated pixels in the scribbles.
            output_keys: where the weak labels go.
            ignore_index: value of unannotated pixels in the weak label.
        """
        super().__init__(keys, output_keys, ScribbleToWeakLabel(unannotated, ignore_index))


LabelToErodedSeedD = LabelToErodedSeedDict = LabelToErodedSeedd
LabelToDiscSeedD = LabelToDiscSeedDict = LabelToDiscSeedd
ScribbleToWeakLabelD = ScribbleToWeakLabelDict = ScribbleToWeakLabeld
