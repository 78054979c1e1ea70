"""Training on Lagrangian proposals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from monai.engines import IterationEvents, SupervisedTrainer

from sizeloss_monai.proposals import LagrangianProposals

__all__ = ["LagrangianProposalTrainer"]


class LagrangianProposalTrainer(SupervisedTrainer):
    """Makes a proposal from each output, its weak label and its size bounds, and trains on it.

    This is the method of Pathak et al. 2015, the baseline of Kervadec et al. 2019 (section 4). The loss finds the
    proposals among its targets under ``proposal``: hard ones are class ids, shape ``[B, 1, *spatial]``, for
    cross-entropy; soft ones are probabilities, shape ``[B, C, *spatial]``, for ``torch.nn.CrossEntropyLoss``.
    Beside what MONAI's trainer leaves there, ``engine.state.output`` holds ``proposal``, ``proposal_seconds`` (time to
    make them), ``proposal_iterations`` (mean over the batch) and ``proposal_violation`` (mean, in voxels).

    Args:
        loss_function: of logits and targets, among them ``proposal``.
        proposals: makes the proposals.
        hard: whether the loss gets class ids, as published, or probabilities. The likeliest classes of an uncertain
            network can leave the bounds that its probabilities keep.
        weak_label_key: target that holds annotated voxels.
        bounds_key: target that holds size bounds in voxels.
        kwargs: of ``monai.engines.SupervisedTrainer``.
    """

    def __init__(
        self,
        *,
        loss_function: Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor],
        proposals: LagrangianProposals,
        hard: bool = True,
        weak_label_key: str = "weak_label",
        bounds_key: str = "size_bounds",
        **kwargs: Any,
    ) -> None:
        super().__init__(loss_function=self._loss_on_proposals, **kwargs)
        self.supervision = loss_function
        self.proposals = proposals
        self.hard = hard
        self.weak_label_key = weak_label_key
        self.bounds_key = bounds_key
        # after the backward pass is queued, so that the device has work while the host waits for the proposals
        self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._note_seconds)

    def _loss_on_proposals(self, pred: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        self._clock = _Clock(pred.device)
        with torch.no_grad():
            made = self.proposals(pred, targets[self.weak_label_key], targets[self.bounds_key])
            proposal = made.labels() if self.hard else made.probabilities
        self._clock.stop()
        self.state.output.update(
            proposal=proposal,
            proposal_iterations=made.iterations.float().mean(),
            proposal_violation=made.violation.mean(),
        )
        return self.supervision(pred, {**targets, "proposal": proposal})

    def _note_seconds(self) -> None:
        self.state.output["proposal_seconds"] = self._clock.seconds()


class _Clock:
    """The time that a device takes for its work between now and :meth:`stop`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start = self.end = self._mark()

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def stop(self) -> None:
        """End the time; the host does not wait for the device."""
        self.end = self._mark()

    def seconds(self) -> float:
        """Seconds between start and end; the host waits until the device reaches the end."""
        if self.device.type != "cuda":
            return float(self.end - self.start)
        self.end.synchronize()
        return float(self.start.elapsed_time(self.end)) / 1000
