"""Parts of training engines that MONAI lacks."""

from sizeloss_monai.engines.prepare_batch import PrepareBatchTargets
from sizeloss_monai.engines.proposal_trainer import LagrangianProposalTrainer

__all__ = ["LagrangianProposalTrainer", "PrepareBatchTargets"]
