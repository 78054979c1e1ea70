"""Lagrangian proposals in TensorBoard."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import optional_import

from sizeloss_monai.handlers.overlay_images import overlay_row

__all__ = ["ProposalImagesHandler"]

SummaryWriter, _ = optional_import("torch.utils.tensorboard", name="SummaryWriter")


class ProposalImagesHandler:
    """Writes rows of image, weak label, proposal, prediction and truth of an epoch's first batch to TensorBoard."""

    def __init__(self, log_dir: str, num_items: int = 4, ignore_index: int = 255) -> None:
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
