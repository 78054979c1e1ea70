"""Pictures for TensorBoard."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.transforms.utils import rescale_array
from monai.utils import optional_import
from monai.visualize import blend_images

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.handlers.case_metrics import evaluated_items

__all__ = ["OverlayImagesHandler", "ProposalImagesHandler", "overlay_row"]

SummaryWriter, _ = optional_import("torch.utils.tensorboard", name="SummaryWriter")


def overlay_row(image: torch.Tensor, *masks: torch.Tensor, num_classes: int = 2, alpha: float = 0.5) -> torch.Tensor:
    """The image, then the image under each mask, side by side.

    Args:
        image: shape ``[1, H, W]``, any range.
        masks: class ids, each ``[1, H, W]``; 0 has no colour, other classes one colour in every mask.
        num_classes: including the background.
        alpha: opacity of a mask.

    Returns:
        RGB in 0..1, shape ``[3, H, W * (1 + len(masks))]``.
    """
    grey = torch.as_tensor(rescale_array(image)).float()
    panels = [grey.expand(3, -1, -1)]
    for mask in masks:
        # blend_images would rescale each mask by the classes in it
        shade = mask.to(grey) / (num_classes - 1)
        panels.append(torch.as_tensor(blend_images(grey, shade, alpha=alpha, cmap="autumn", rescale_arrays=False)))
    return torch.cat(panels, dim=-1).clamp(0, 1)


class _RowsHandler:
    """Writes rows of overlays to TensorBoard, a few in an epoch."""

    def __init__(self, log_dir: str, limit: int, ignore_index: int) -> None:
        self.writer = SummaryWriter(log_dir=log_dir)
        self.limit = limit
        self.ignore_index = ignore_index
        self.shown = 0

    def attach(self, engine: Engine) -> None:
        """Write rows of each epoch of an engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._flush)

    def __call__(self, engine: Engine) -> None:
        """Write the rows of an iteration."""
        raise NotImplementedError

    def _reset(self, engine: Engine) -> None:
        self.shown = 0

    def _flush(self, engine: Engine) -> None:
        self.writer.flush()

    def _annotated(self, weak_label: Any) -> torch.Tensor:
        """Class ids of a weak label, 0 where it is not annotated."""
        weak = torch.as_tensor(weak_label).long()
        return torch.where(weak == self.ignore_index, 0, weak)

    def _write(
        self, name: str, image: Any, masks: list[torch.Tensor], known: torch.Tensor, classes: int, epoch: int
    ) -> None:
        """Write a row of slices ``[1, H, W]``, or of volumes ``[1, H, W, D]`` at the slice with most of `known`."""
        panels = [torch.as_tensor(panel).cpu() for panel in (image, *masks)]
        if panels[0].ndim == 4:
            index = int((known > 0).sum(dim=(0, 1, 2)).argmax())
            panels = [panel[..., index] for panel in panels]
        self.writer.add_image(name, overlay_row(*panels, num_classes=classes), epoch)
        self.shown += 1


class OverlayImagesHandler(_RowsHandler):
    """Writes rows of image, weak label, prediction and truth of some validation volumes to TensorBoard.

    A row shows the slice with the largest truth, the same one in every epoch; without a truth, the slice with most of
    the weak label, or else of the prediction. Attach it to a MONAI evaluator whose ``pred`` is one-hot after
    postprocessing, and whose ``label``, if any, is one-hot or has class ids.
    """

    def __init__(self, log_dir: str, num_cases: int = 4, ignore_index: int = 255) -> None:
        """
        Args:
            log_dir: folder of the event file.
            num_cases: number of volumes, the first ones of the data set.
            ignore_index: value of unannotated pixels, which get no colour.
        """
        super().__init__(log_dir, num_cases, ignore_index)

    def __call__(self, engine: Engine) -> None:
        """Write the rows of an iteration."""
        for item in evaluated_items(engine)[: max(self.limit - self.shown, 0)]:
            prediction = torch.as_tensor(item["pred"]).argmax(dim=0, keepdim=True)
            masks = [prediction]
            if "weak_label" in item:
                masks.insert(0, self._annotated(item["weak_label"]))
            if "label" in item:
                label = torch.as_tensor(item["label"])
                masks.append(label if len(label) == 1 else label.argmax(dim=0, keepdim=True))
            known = masks[-1] if "label" in item else masks[0]
            name = f"overlay/{item.get('case', self.shown)}"
            self._write(name, item["image"], masks, known, len(item["pred"]), engine.state.epoch)


class ProposalImagesHandler(_RowsHandler):
    """Writes rows of image, weak label, proposal, prediction and truth of an epoch's first batch to TensorBoard.

    Attach it to a :class:`~sizeloss_monai.engines.LagrangianProposalTrainer`, hard or soft, whose targets have
    ``weak_label`` and ``label``. Volumes show the slice with the largest truth.
    """

    def __init__(self, log_dir: str, num_items: int = 4, ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        """
        Args:
            log_dir: folder of the event file.
            num_items: number of items, those with the largest truth in the batch.
            ignore_index: value of unannotated pixels, which get no colour.
        """
        super().__init__(log_dir, num_items, ignore_index)

    def __call__(self, engine: Engine) -> None:
        """Write the rows of an epoch's first iteration."""
        if self.shown:
            return
        output: Any = engine.state.output
        truth = torch.as_tensor(output["label"]["label"]).long()
        proposal, prediction = output["proposal"], output["pred"].argmax(dim=1, keepdim=True)
        if proposal.shape[1] > 1:
            proposal = proposal.argmax(dim=1, keepdim=True)
        masks = [self._annotated(output["label"]["weak_label"]), proposal, prediction, truth]
        largest = (truth > 0).flatten(1).sum(dim=1).argsort(descending=True)[: self.limit]
        for place, index in enumerate(largest.tolist()):
            panels, classes = [mask[index] for mask in masks], output["pred"].shape[1]
            image = output["image"][index]
            self._write(f"proposal/{place}", image, panels, panels[-1], classes, engine.state.epoch)
