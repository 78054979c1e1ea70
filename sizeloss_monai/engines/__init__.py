"""What MONAI's training engines lack: targets of several losses, and training on proposals."""

from sizeloss_monai.engines.prepare_batch import PrepareBatchTargets
from sizeloss_monai.engines.proposal_trainer import LagrangianProposalTrainer

__all__ = ["LagrangianProposalTrainer", "PrepareBatchTargets"]
