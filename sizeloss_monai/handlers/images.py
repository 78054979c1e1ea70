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
        masks: class ids, each of shape ``[1, H, W]``; 0 is not coloured, another has one colour in every mask.
        num_classes: including the background.
        alpha: opacity of a mask.

    Returns:
        RGB in 0..1, shape ``[3, H, W * (1 + len(masks))]``.
    """
    grey = torch.as_tensor(rescale_array(image)).float()
    panels = [grey.expand(3, -1, -1)]
    for mask in masks:
        # blend_images would rescale every mask by the classes it happens to hold
        shade = mask.to(grey) / (num_classes - 1)
        panels.append(torch.as_tensor(blend_images(grey, shade, alpha=alpha, cmap="autumn", rescale_arrays=False)))
    return torch.cat(panels, dim=-1).clamp(0, 1)


class OverlayImagesHandler:
    """Writes a row of overlays (image, weak label, prediction, truth) of some validation volumes to TensorBoard.

    Of each volume the slice with the largest truth is shown, so that the same slice comes back every epoch. Where there
    is no truth it is left out, and the slice with most of the weak label is shown.
    """

    def __init__(self, log_dir: str, num_cases: int = 4, ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        """
        Args:
            log_dir: folder of the event file.
            num_cases: how many volumes are shown, the first ones of the data set.
            ignore_index: value of unannotated pixels, which are not coloured.
        """
        self.writer = SummaryWriter(log_dir=log_dir)
        self.num_cases = num_cases
        self.ignore_index = ignore_index
        self.shown = 0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a MONAI evaluator of volumes whose ``pred`` is one-hot after postprocessing, and whose ``label``,
                if any, is one-hot or has class ids.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._flush)

    def _reset(self, engine: Engine) -> None:
        self.shown = 0

    def _flush(self, engine: Engine) -> None:
        self.writer.flush()

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: the evaluator, after an iteration.
        """
        for item in evaluated_items(engine)[: max(self.num_cases - self.shown, 0)]:
            prediction = torch.as_tensor(item["pred"]).argmax(dim=0, keepdim=True)
            masks = [prediction]
            if "weak_label" in item:
                weak = torch.as_tensor(item["weak_label"]).to(prediction)
                masks.insert(0, torch.where(weak == self.ignore_index, 0, weak))
            if "label" in item:
                masks.append(_class_ids(item["label"]).to(prediction))
            # without a truth the slice with most of the weak label; without that, of the prediction
            known = masks[-1] if "label" in item else masks[0]
            index = int((known > 0).sum(dim=(0, 1, 2)).argmax())
            row = overlay_row(
                torch.as_tensor(item["image"])[..., index].cpu(),
                *(mask[..., index].cpu() for mask in masks),
                num_classes=len(item["pred"]),
            )
            self.writer.add_image(f"overlay/{item.get('case', self.shown)}", row, engine.state.epoch)
            self.shown += 1


def _class_ids(label: torch.Tensor) -> torch.Tensor:
    """Class ids, ``[1, *spatial]``, of a mask that has them already or is one-hot."""
    plain = torch.as_tensor(label)
    return plain if len(plain) == 1 else plain.argmax(dim=0, keepdim=True)


SummaryWriter, _ = optional_import("torch.utils.tensorboard", name="SummaryWriter")


class ProposalImagesHandler:
    """Writes rows of image, weak label, proposal, prediction and truth of an epoch's first batch to TensorBoard."""

    def __init__(self, log_dir: str, num_items: int = 4, ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        """
        Args:
            log_dir: folder of the event file.
            num_items: how many items of the batch are shown, those with the largest truth.
            ignore_index: value of unannotated pixels, which are not coloured.
        """
        self.writer = SummaryWriter(log_dir=log_dir)
        self.num_items = num_items
        self.ignore_index = ignore_index

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a :class:`~sizeloss_monai.engines.LagrangianProposalTrainer`, hard or soft, whose targets have
                ``weak_label`` and ``label``. Of a volume the slice with the largest truth is shown.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._wait)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._flush)

    def _wait(self, engine: Engine) -> None:
        self.waiting = True

    def _flush(self, engine: Engine) -> None:
        self.writer.flush()

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer, after an iteration.
        """
        if not self.waiting:
            return
        self.waiting = False
        output: Any = engine.state.output
        truth = torch.as_tensor(output["label"]["label"]).long()
        weak = torch.as_tensor(output["label"]["weak_label"]).long()
        proposal = output["proposal"]
        if proposal.shape[1] > 1:
            proposal = proposal.argmax(dim=1, keepdim=True)
        prediction = output["pred"].argmax(dim=1, keepdim=True)
        masks = [torch.where(weak == self.ignore_index, 0, weak), proposal, prediction, truth]
        largest = (truth > 0).flatten(1).sum(dim=1).argsort(descending=True)[: self.num_items]
        for place, index in enumerate(largest.tolist()):
            panels = [panel[index].cpu() for panel in (torch.as_tensor(output["image"]), *masks)]
            if panels[0].ndim == 4:
                shown = int((panels[-1] > 0).sum(dim=(0, 1, 2)).argmax())
                panels = [panel[..., shown] for panel in panels]
            row = overlay_row(*panels, num_classes=output["pred"].shape[1])
            self.writer.add_image(f"proposal/{place}", row, engine.state.epoch)
