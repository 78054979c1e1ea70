"""Made volumes."""

from sizeloss_monai.phantoms.cine import make_affine, make_cine_phantom, write_cine_phantoms

__all__ = ["make_affine", "make_cine_phantom", "write_cine_phantoms"]
