"""SeasonIndex: a channel's usual ratio to its mean at each place in the season, known for every step to come."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..clock import Clock, Steps
from ..panel import Panel

Cycle = Literal["hour", "weekday", "month", "none"]
PLACES: dict[Cycle, int] = {"hour": 24, "weekday": 7, "month": 12, "none": 1}
PRIOR = 2  # a place counts as if it had been seen this often more, at the mean
LEVEL = 0.01  # a ratio to a mean smaller than this share of the mean size says nothing
YEAR = 31_557_600
CHUNK = 2**18


@dataclass(frozen=True, eq=False)
class SeasonIndex:
    """`table` holds one ratio a series and place: hour of the day below a day, day of the week below a week, else month of the year."""

    table: Float[Tensor, "series place"]
    clock: Clock
    cycle: Cycle

    def value(self, steps: Int[Tensor, "example step"], series: Int[Tensor, " example"]) -> Float[Tensor, "example step"]:
        """The ratio at these clock steps, past the end of the data too."""
        if not steps.numel():
            return self.table.new_zeros(steps.shape)
        first, last = int(steps.min()), int(steps.max())
        place = torch.from_numpy(places(self.clock, self.cycle, np.arange(first, last + 1)))
        return self.table[series[:, None], place[steps - first]]

    def rows(self, series: Int[Tensor, " some"]) -> Self:
        """Of only these series, in this order."""
        return replace(self, table=self.table[series])

    def rows_or(self, series: Int[Tensor, " some"], new: Bool[Tensor, " some"], other: Self) -> Self:
        """Of these series; where `new`, the other index's row at that place."""
        return replace(self, table=torch.where(new[:, None], other.table, self.table[series.clamp(min=0)]))


def fit_index(panel: Panel, channel: str) -> SeasonIndex:
    """Fitted on all that the panel holds of the channel: hand it the training cut.

    Mean at a place over the overall mean, drawn towards 1 where seen seldom; 1 where the overall mean is next to 0.
    """
    values = panel.channel(channel)
    first, width = int(panel.start.min()), values.shape[1]
    cycle = cycle_of(panel.clock, int(panel.start.max()) - first + width)
    place = torch.from_numpy(places(panel.clock, cycle, np.arange(first, int(panel.start.max()) + width)))
    table = values.new_ones(len(values), PLACES[cycle])
    size = max(1, CHUNK // max(1, width))
    for at in range(0, len(values), size):
        some = slice(at, at + size)
        table[some] = _ratios(values[some], place[panel.start[some, None] - first + torch.arange(width)], PLACES[cycle])
    return SeasonIndex(table, panel.clock, cycle)


def cycle_of(clock: Clock, steps: int) -> Cycle:
    """Which cycle the index follows; weeks and months need two years of data."""
    if clock.sub_daily:
        return "hour"
    if clock.seconds < 7 * 86400:
        return "weekday"
    return "month" if steps * clock.seconds >= 2 * YEAR * 0.999 else "none"


def places(clock: Clock, cycle: Cycle, steps: Steps) -> np.ndarray:
    """Where in the cycle each clock step stands, on the wall."""
    local = clock.local(steps)
    if cycle == "hour":
        return np.asarray(local.astype("datetime64[h]").astype(np.int64) % 24)
    if cycle == "weekday":
        return np.asarray((local.astype("datetime64[D]").astype(np.int64) + 3) % 7)
    if cycle == "month":
        return np.asarray(local.astype("datetime64[M]").astype(np.int64) % 12)
    return np.zeros(len(steps), np.int64)


def _ratios(values: Float[Tensor, "series time"], place: Int[Tensor, "series time"], count: int) -> Float[Tensor, "series place"]:
    seen = values.isfinite()
    x = torch.where(seen, values.double(), 0.0)
    size = x.abs().sum(1, keepdim=True)
    often = x.new_zeros(len(x), count).scatter_add_(1, place, seen.double())
    total = x.new_zeros(len(x), count).scatter_add_(1, place, x)
    mean = x.sum(1, keepdim=True) / often.sum(1, keepdim=True).clamp(min=1)
    plain = mean.abs() * often.sum(1, keepdim=True) <= LEVEL * size
    ratio = (total + PRIOR * mean) / (often + PRIOR) / torch.where(plain, 1.0, mean)
    return torch.where(plain, 1.0, ratio)
