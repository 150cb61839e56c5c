"""Worlds: simulators whose truth is known. Whatever they give is simulated, and says so."""

from .ads import AdsWorld, ads
from .drivers import DriversWorld, drivers
from .shop import ShopWorld, shop

__all__ = ["AdsWorld", "DriversWorld", "ShopWorld", "ads", "drivers", "shop"]
