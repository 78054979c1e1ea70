"""The weighted sum of a likelihood term and constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from monai.utils import ensure_tuple
from torch import nn

__all__ = ["WeakSupervisionLoss"]


class WeakSupervisionLoss(nn.Module):
    r"""Weighted sum :math:`\sum_k \lambda_k L_k`, each term with a target of its own (Kervadec et al. 2019, Eq. 2).

    The paper's loss, :math:`H(S) + \lambda\, C(V_S)`, in a config:

    .. code-block:: yaml

        loss:
          _target_: sizeloss_monai.losses.WeakSupervisionLoss
          terms:
            partial_ce: {loss: {_target_: sizeloss_monai.losses.PartialCrossEntropyLoss}, target: weak_label}
            size: {loss: {_target_: sizeloss_monai.constraints.SizeConstraintLoss}, target: size_bounds, weight: 0.01}

    After each call ``values`` holds every term's weighted value of that batch by name, detached; they add up to the
    loss. :class:`sizeloss_monai.handlers.LossTermsHandler` logs them.

    Args:
        terms: by name, a mapping with ``loss`` (an ``nn.Module`` of logits and target), ``target`` (the key of its
            target, or several keys for a loss of several targets) and optionally ``weight`` (default 1).

    Raises:
        ValueError: when there are no terms, a term lacks ``loss`` or ``target`` or has another key than these three, or
            a weight is negative or not finite.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("terms must hold at least one loss, got none.")
        self.losses = nn.ModuleDict()
        self.targets: dict[str, tuple[str, ...]] = {}
        self.weights: dict[str, float] = {}
        self.values: dict[str, torch.Tensor] = {}
        for name, term in terms.items():
            if not {"loss", "target"} <= set(term) <= {"loss", "target", "weight"}:
                raise ValueError(
                    f"term {name!r} must have the keys loss and target, and may have weight, got {sorted(term)}."
                )
            weight = float(term.get("weight", 1.0))
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"weight of term {name!r} must be finite and >= 0, got {weight}.")
            self.losses[name] = term["loss"]
            self.targets[name] = ensure_tuple(term["target"])
            self.weights[name] = weight

    def forward(self, input: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """
        Args:
            input: logits, shape ``[B, C, *spatial]``.
            targets: the batch's targets by key.

        Raises:
            KeyError: when a term's target is missing.
        """
        terms: dict[str, torch.Tensor] = {}
        for name, loss in self.losses.items():
            keys = self.targets[name]
            for key in keys:
                if key not in targets:
                    raise KeyError(f"loss term {name!r}: expected the target {key!r}, found {sorted(targets)}.")
            terms[name] = self.weights[name] * loss(input, *(targets[key] for key in keys))
        self.values = {name: value.detach() for name, value in terms.items()}
        return torch.stack(list(terms.values())).sum()
