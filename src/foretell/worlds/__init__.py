"""Worlds: simulators whose truth is known. Whatever they give is simulated, and says so."""

from .ads import AdsWorld, ads
from .shop import ShopWorld, shop

__all__ = ["AdsWorld", "ShopWorld", "ads", "shop"]
