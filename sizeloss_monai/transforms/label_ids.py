"""From the ids of label files to the classes of a network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX, ROUNDING

if TYPE_CHECKING:
    from sizeloss_monai.datalist import ClassMap

__all__ = ["LabelIdsToClasses", "LabelIdsToClassesD", "LabelIdsToClassesDict", "LabelIdsToClassesd"]


class LabelIdsToClasses(Transform):
    """Turn the ids of label files into classes, and refuse an id without a class.

    Values are rounded as :func:`~sizeloss_monai.data.label_ids.whole_ids` says. (MONAI's ``MapLabelValue`` keeps a
    value that it does not know, and cuts it to 8 bits.)

    Example:
        >>> from sizeloss_monai.datalist import ClassMap
        >>> to_classes = LabelIdsToClasses(ClassMap([0, 300, 4095], [0, 1, 1]))
        >>> to_classes(torch.tensor([0.0, 300.0000305, 4095.0])).tolist()
        [0, 1, 1]
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(
        self, classes: ClassMap, unannotated: int | None = None, ignore_index: int = DEFAULT_IGNORE_INDEX
    ) -> None:
        """
        Args:
            classes: the class of each id.
            unannotated: the id of voxels that were not annotated, in weak labels. None for full masks: 0 is background
                there, unless it has another class.
            ignore_index: what ``unannotated`` becomes, 0 to 255.
        """
        extra = {0: 0} if unannotated is None else {unannotated: ignore_index}
        self.class_of = extra | classes.class_of

    def __call__(self, img: NdarrayOrTensor) -> Any:
        """
        Args:
            img: the values of a label file, any shape and type.

        Returns:
            Classes, uint8, of the same shape and container; a ``MetaTensor`` keeps its affine and applied operations.

        Raises:
            ValueError: when a value is not an id with a class.
        """
        values = convert_to_tensor(img, track_meta=False)
        if not values.is_floating_point():
            values = values.long()
        classes = torch.zeros(values.shape, dtype=torch.uint8, device=values.device)
        known = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
        for label_id, target in self.class_of.items():
            here = (values - label_id).abs_() <= ROUNDING
            classes[here] = target
            known |= here
        if not bool(known.all()):
            found = torch.unique(values[~known])[:5].tolist()
            raise ValueError(f"ids must be among {sorted(self.class_of)}, got {found}.")
        out, *_ = convert_to_dst_type(classes, dst=img, dtype=torch.uint8 if torch.is_tensor(img) else np.uint8)
        return out


class LabelIdsToClassesd(MapTransform):
    """Dictionary form of :class:`LabelIdsToClasses`."""

    backend = LabelIdsToClasses.backend

    def __init__(
        self,
        keys: KeysCollection,
        classes: ClassMap,
        unannotated: int | None = None,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        allow_missing_keys: bool = False,
    ) -> None:
        """
        Args:
            keys: of the label files.
            classes, unannotated, ignore_index: see :class:`LabelIdsToClasses`.
            allow_missing_keys: whether an item may lack a key.
        """
        super().__init__(keys, allow_missing_keys)
        self.to_classes = LabelIdsToClasses(classes, unannotated, ignore_index)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item.

        Returns:
            A copy with classes.

        Raises:
            ValueError: that of :class:`LabelIdsToClasses`, with case and key.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            try:
                out[key] = self.to_classes(out[key])
            except ValueError as err:
                raise ValueError(f"case '{out.get('case')}', key '{key}': {err}") from err
        return out


LabelIdsToClassesD = LabelIdsToClassesDict = LabelIdsToClassesd
