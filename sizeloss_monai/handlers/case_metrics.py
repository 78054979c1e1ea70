"""Metrics of an evaluator whose cases are annotated in different ways."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils import CommonKeys

from sizeloss_monai.errors import DataError
from sizeloss_monai.metrics import WeakScoreMetric

__all__ = ["LabelledMetricHandler", "WeakScoreHandler", "evaluated_items"]

logger = logging.getLogger(__name__)


def evaluated_items(engine: Engine) -> list[dict[str, Any]]:
    """The items of an evaluator's iteration: MONAI puts image, label and pred into the output, and leaves other keys in
    the batch.

    Args:
        engine: a MONAI evaluator after an iteration, decollated.

    Returns:
        An item for each case, without keys whose value is None, such as the label of a case without one.
    """
    batch: Any = engine.state.batch
    output: Any = engine.state.output
    merged = [{**b, **o} for b, o in zip(batch, output, strict=True)]
    return [{key: value for key, value in item.items() if value is not None} for item in merged]


class LabelledMetricHandler(IgniteMetricHandler):
    """A metric of prediction and full mask, over the cases that have a mask.

    Without such a case an additional metric is not logged. A key metric, which MONAI needs in every epoch, is NaN.
    """

    def __init__(
        self,
        metric_fn: CumulativeIterationMetric,
        label_key: str = CommonKeys.LABEL,
        pred_key: str = CommonKeys.PRED,
        is_key: bool = False,
    ) -> None:
        """
        Args:
            metric_fn: takes ``y_pred`` and ``y``, one item at a time.
            label_key: the full mask, in batch or output.
            pred_key: the prediction after postprocessing.
            is_key: whether it is the evaluator's key metric.
        """
        super().__init__(metric_fn=metric_fn)
        self.label_key = label_key
        self.pred_key = pred_key
        self.is_key = is_key

    def iteration_completed(self, engine: Engine) -> None:
        """Measure the items of an iteration; raises RuntimeError for a mask where there are several processes."""
        for item in evaluated_items(engine):
            if self.label_key in item:
                if idist.get_world_size() > 1:  # a process without masks would not gather the others' scores
                    raise RuntimeError("masks of some cases are compared in one process only: leave out watch_masks.")
                prediction = item[self.pred_key]
                self.update((prediction[None], item[self.label_key][None].to(prediction.device)))

    def completed(self, engine: Engine, name: str) -> None:
        """Put the metric into the engine's state, under `name`."""
        if len(self.metric_fn):
            super().completed(engine, name)
        elif self.is_key:
            engine.state.metrics[name] = float("nan")


class WeakScoreHandler(IgniteMetricHandler):
    """A :class:`~sizeloss_monai.metrics.WeakScoreMetric` as an evaluator's key metric.

    Its parts are logged as ``<prefix>annotated_dice``, ``<prefix>size_violation`` and ``<prefix>crf_energy``. The score
    of an item leaves out the keys that it lacks, and never reads full masks.

    Example, in a bundle's config::

        validate#key_metric:
          val_weak_score:
            _target_: sizeloss_monai.handlers.WeakScoreHandler
            metric_fn: {_target_: sizeloss_monai.metrics.WeakScoreMetric}
    """

    def __init__(self, metric_fn: WeakScoreMetric, keys: Mapping[str, str] | None = None, prefix: str = "val_") -> None:
        """
        Args:
            metric_fn: the score.
            keys: other names of ``pred``, ``weak_label``, ``size_bounds``, ``voxel_size`` and ``image`` in an item.
            prefix: first part of the logged names.

        Raises:
            ValueError: when ``keys`` has another key.
        """
        super().__init__(metric_fn=metric_fn)
        names = ("pred", "weak_label", "size_bounds", "voxel_size", "image")
        self.keys = {**{name: name for name in names}, **(keys or {})}
        if set(self.keys) != set(names):
            raise ValueError(f"keys must be among {names}, got {sorted(self.keys)}.")
        self.score = metric_fn
        self.prefix = prefix
        self.warned = False

    def iteration_completed(self, engine: Engine) -> None:
        """Measure the items of an iteration, whose predictions are one-hot."""
        for item in evaluated_items(engine):
            given = {name: torch.as_tensor(item[key])[None] for name, key in self.keys.items() if key in item}
            self.score(given.pop("pred"), given.pop("weak_label", None), **given)

    def completed(self, engine: Engine, name: str) -> None:
        """Put score and parts into the engine's state; raises DataError where no voxel of any case is annotated."""
        super().completed(engine, name)
        parts = self.score.parts()
        if "annotated_dice" not in parts:
            raise DataError(
                f"validation, key {self.keys['weak_label']!r}: found no annotated voxel of a target class in any case, "
                f"expected some to measure {name}."
            )
        engine.state.metrics.update({self.prefix + part: value for part, value in parts.items()})
        missing = [part for part in self.score.measured if part not in parts]
        if missing and not self.warned:
            logger.warning("%s leaves out %s: no validation case has the annotation for it.", name, missing)
            self.warned = True
