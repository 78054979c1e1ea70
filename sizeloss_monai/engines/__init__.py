"""Parts of training engines that MONAI lacks."""

from sizeloss_monai.engines.prepare_batch import PrepareBatchTargets

__all__ = ["PrepareBatchTargets"]
