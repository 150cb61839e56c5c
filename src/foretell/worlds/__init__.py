"""Worlds: simulators whose truth is known. Whatever they give is simulated, and says so."""

from .ads import AdsWorld, ads

__all__ = ["AdsWorld", "ads"]
