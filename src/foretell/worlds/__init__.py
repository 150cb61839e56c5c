"""Worlds: simulators whose truth is known. Whatever they give is simulated, and says so."""

from .ads import AdsWorld, ads
from .drivers import DriversWorld, drivers
from .network import NetworkWorld, network
from .shop import ShopWorld, shop

__all__ = ["AdsWorld", "DriversWorld", "NetworkWorld", "ShopWorld", "ads", "drivers", "network", "shop"]
