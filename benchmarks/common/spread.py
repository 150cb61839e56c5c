"""Spread: several timings as one median with an interval, and pairs of them as ratios."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, Self


class Spread(NamedTuple):
    """Median, least and most. From least to most of five timings is a 94 % interval of the median, whatever their distribution."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of one number or more."""
        return cls(median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Pair by pair: what both timings of a pair suffered from alike falls out."""
    return Spread.of([a / b for a, b in zip(over, under, strict=True)])
