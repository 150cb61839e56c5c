"""Errors: from what was seen and what was expected to one number a row and channel; overlapping windows brought together."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from .features import median

Rows = Float[Tensor, "time channel"]
Unroll = Literal["median", "mean", "last"]
DEPTH = 64  # rows unrolled at a time by the median, so that memory does not grow with the run


def point(error: Rows) -> Rows:
    """|seen − expected|, row by row."""
    return error.abs()


def area(error: Rows, behind: int, ahead: int) -> Rows:
    """|Area between seen and expected| over the rows −behind … +ahead, by trapezoids; where a row is missing, what is there counts."""
    halves = (error[1:] + error[:-1]) / 2
    known = torch.where(halves.isnan(), 0.0, halves)
    total = torch.cat([known.new_zeros(1, known.shape[1]), known.cumsum(0)])
    row = torch.arange(len(error))
    low, high = (row - behind).clamp(min=0), (row + ahead).clamp(max=len(error) - 1)
    return (total[high] - total[low]).abs().masked_fill(error.isnan(), torch.nan)


def rolled_mean(x: Rows, behind: int, ahead: int) -> Rows:
    """Mean of what is there over the rows −behind … +ahead; NaN where nothing is."""
    if not behind and not ahead:
        return x
    seen = ~x.isnan()
    width = behind + ahead + 1
    total, count = (pad(part.T, (behind, ahead)).unfold(1, width, 1).sum(-1).T for part in (torch.where(seen, x, 0.0), seen.to(x.dtype)))
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan)


def rolled_max(x: Rows, behind: int, ahead: int) -> Rows:
    """Largest of what is there over the rows −behind … +ahead; NaN where nothing is."""
    if not behind and not ahead:
        return x
    known = torch.where(x.isnan(), -torch.inf, x)
    found = max_pool1d(pad(known.T[None], (behind, ahead), value=-torch.inf), behind + ahead + 1, 1)[0].T
    return torch.where(found.isinf() & (found < 0), torch.nan, found)


def unrolled(windows: Float[Tensor, "example window channel"], starts: Int[Tensor, " example"], length: int, how: Unroll) -> Rows:
    """What overlapping windows say of each row, brought together: their median, their mean, or what the one says that ends there,
    which looks behind only; NaN where none does."""
    width = windows.shape[1]
    if how == "last":
        out = windows.new_full((length, windows.shape[2]), torch.nan)
        out[starts + width - 1] = windows[:, -1]
        return out
    place = torch.full((length,), -1, dtype=torch.long)
    place[starts] = torch.arange(len(starts))
    out = windows.new_full((length, windows.shape[2]), torch.nan)
    offset = torch.arange(width)
    for first in range(0, length, DEPTH):  # window w says of row t its value number t − start(w)
        row = torch.arange(first, min(first + DEPTH, length))[:, None]
        begin = row - offset
        which = torch.where(begin >= 0, place[begin.clamp(min=0)], -1)
        said = windows[which.clamp(min=0), offset].masked_fill((which < 0)[..., None], torch.nan).movedim(1, -1)
        out[first : first + DEPTH] = median(said) if how == "median" else said.nanmean(-1)
    return out
