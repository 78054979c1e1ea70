"""Networks that MONAI lacks."""

from sizeloss_monai.networks.enet import ENet
from sizeloss_monai.networks.residual_unet import FusionNet

__all__ = ["ENet", "FusionNet"]
