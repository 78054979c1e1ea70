"""Proposals: segmentations within size bounds, made from a network's output for training (Pathak et al. 2015)."""

from sizeloss_monai.proposals.exact import exact_proposals
from sizeloss_monai.proposals.gradient_ascent import projected_gradient_ascent
from sizeloss_monai.proposals.problem import NonFiniteLogitsError, Proposals
from sizeloss_monai.proposals.proposals import LagrangianProposals

__all__ = ["LagrangianProposals", "NonFiniteLogitsError", "Proposals", "exact_proposals", "projected_gradient_ascent"]
