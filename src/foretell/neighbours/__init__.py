"""Neighbours: boosted trees and statistical methods in the interface of a net, so that each is a row like any other."""

from .boosting import Boosting
from .statistical import Statistical

__all__ = ["Boosting", "Statistical"]
