"""Features: differences, smoothing, lags, aggregates and group medians of one run [time, channel]; NaN where a row has no such value."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from ..errors import TaskError, nearest

Statistic = Literal["mean", "min", "max", "std", "median", "last"]
STATISTICS: tuple[Statistic, ...] = ("mean", "min", "max", "std", "median", "last")

Rows = Float[Tensor, "time channel"]


def shifted(x: Rows, steps: int) -> Rows:
    """Row t holds what stood at t − steps (ahead of it where steps are negative); NaN where there was no row."""
    steps = max(-len(x), min(steps, len(x)))
    return pad(x, (0, 0, steps, -steps), value=torch.nan)


def difference(x: Rows, order: int = 0, lag: int = 0) -> Rows:
    """First x[t] − x[t − lag] (if lag > 0), then `order` times x[t] − x[t − 1]."""
    x = x - shifted(x, lag) if lag else x
    for _ in range(order):
        x = x - shifted(x, 1)
    return x


def undifference(d: Rows, head: Float[Tensor, "first channel"], order: int = 0, lag: int = 0) -> Rows:
    """The rows whose difference is d, given the first order + lag of them in `head`; exact to rounding."""
    if order:
        inner = difference(head, order - 1, lag)
        first = order - 1 + lag
        steps = torch.cat([inner[first : first + 1], d[first + 1 :]]).cumsum(0)
        return undifference(torch.cat([inner[:first], steps]), head, order - 1, lag)
    if not lag:
        return d
    rows = d.clone()
    rows[:lag] = head[:lag]
    for place in range(lag):  # rows a lag apart form a chain of their own
        rows[place::lag] = rows[place::lag].cumsum(0)
    return rows


def smooth(x: Rows, rows: int) -> Rows:
    """Mean of the last `rows` rows; NaN where one of them is missing. Fewer than 2 leaves x as it is."""
    if rows < 2:
        return x
    if len(x) < rows:
        return torch.full_like(x, torch.nan)
    return torch.cat([torch.full_like(x[: rows - 1], torch.nan), x.unfold(0, rows, 1).mean(-1)])


def lagged(x: Rows, lags: int) -> Float[Tensor, "time feature"]:
    """The channels as they are, then as they were 1 … `lags` steps before."""
    return torch.cat([shifted(x, n) for n in range(lags + 1)], 1)


def aggregate(x: Rows, interval: int, statistics: Sequence[Statistic] = ("mean",)) -> Float[Tensor, "interval feature"]:
    """One row for every `interval` rows, the last from what is left: all channels by the first statistic, then by the next.

    NaN is passed over; where all rows are, the result is NaN. "std" is that of a sample, as in pandas.
    """
    for name in statistics:
        if name not in STATISTICS:
            raise TaskError(f'no statistic "{name}": {nearest(name, STATISTICS)}')
    if interval == 1 and tuple(statistics) == ("mean",):
        return x
    blocks = pad(x, (0, 0, 0, -len(x) % interval), value=torch.nan).unflatten(0, (-1, interval))
    return torch.cat([_of(blocks, name) for name in statistics], 1)


def _of(blocks: Float[Tensor, "interval row channel"], name: Statistic) -> Float[Tensor, "interval channel"]:
    seen = ~blocks.isnan()
    if name == "mean":
        return blocks.nanmean(1)
    if name == "median":
        return median(blocks.movedim(1, -1))
    if name == "std":
        count = seen.sum(1)
        spread = torch.where(seen, blocks - blocks.nanmean(1, keepdim=True), 0.0).square().sum(1) / (count - 1)
        return torch.where(count > 1, spread, torch.nan).sqrt()
    if name == "last":
        at = torch.where(seen, torch.arange(blocks.shape[1])[None, :, None], -1).amax(1, keepdim=True)
        return torch.where(at[:, 0] < 0, torch.nan, blocks.gather(1, at.clamp(min=0))[:, 0])
    worst = torch.inf if name == "min" else -torch.inf
    filled = torch.where(seen, blocks, worst)
    found = filled.amin(1) if name == "min" else filled.amax(1)
    return torch.where(seen.any(1), found, torch.nan)


def median(x: Float[Tensor, "*rows value"]) -> Float[Tensor, "*rows"]:
    """Median of the last axis, the mean of the two in the middle where their number is even; NaN is passed over."""
    if not x.shape[-1]:
        return x.new_full(x.shape[:-1], torch.nan)
    ordered = torch.where(x.isnan(), torch.inf, x).sort(-1).values
    count = (~x.isnan()).sum(-1, keepdim=True)
    low, high = (ordered.gather(-1, at.clamp(min=0)) for at in ((count - 1) // 2, count // 2))
    middle = torch.where(count == 0, torch.nan, torch.where(count % 2 == 1, low, (low + high) / 2))
    return middle[..., 0]


def without_median(x: Rows, groups: Sequence[Sequence[int]]) -> Rows:
    """Each group of channels less its own median at every time: how far a sensor stands from its kind."""
    x = x.clone()
    for group in groups:
        at = torch.tensor(list(group))
        x[:, at] = x[:, at] - median(x[:, at])[:, None]
    return x


def filled(x: Rows, reach: int) -> Rows:
    """A missing value is the last one seen, if that is at most `reach` rows old."""
    if not reach or not x.isnan().any():
        return x
    row = torch.arange(len(x))[:, None]
    last = torch.where(x.isnan(), -1, row).cummax(0).values
    near = (last >= 0) & (row - last <= reach)
    return torch.where(near, x.gather(0, last.clamp(min=0)), x)


def window_starts(invalid: Bool[Tensor, " time"], window: int, ahead: int = 0, stride: int = 1) -> Int[Tensor, " window"]:
    """First rows of all windows of `window` rows, with `ahead` rows after them, that touch no invalid row.

    They stand `stride` apart, counted anew after every invalid row.
    """
    length = window + ahead
    row = torch.arange(len(invalid))
    begin = torch.where(invalid, row + 1, 0).cummax(0).values if len(row) else row  # first row after the last invalid one
    whole = row - begin + 1 >= length
    start = row - length + 1
    return start[whole & ((start - begin) % stride == 0)]
