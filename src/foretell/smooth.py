"""LOESS for every series at once, robust if asked; and its causal end: the line at an origin from what lies before it, continued and damped.

Cleveland (1979), doi:10.1080/01621459.1979.10481038: straight lines with tricube weights over the nearest share of the points, bisquare weights on
the residuals in robust rounds. On a clock what a step weighs depends on nothing but its number of neighbours and how near either end is, so that
the sums every line needs are the same banded products for all series of one width, wherever each of them starts.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

CELLS = 2**18  # values worked on at a time: they and their sums stay in cache
BLOCK = 64  # steps at most whose lines come from one dense product: the larger, the more of what it multiplies are zeros
SIX = 6.0  # median absolute residuals at which a point counts for nothing
FLAT = 1e-9  # spread of a line's points, in squared steps, below which there is no line
DAMPED = 0.95  # share of a slope that is left after each step ahead


def loess(values: Float[Tensor, "series time"], share: float = 0.1, *, rounds: int = 0) -> Float[Tensor, "series time"]:
    """The smooth line through each series between its first and its last observed step; NaN outside.

    `share` of a series' steps are the neighbours of each; `rounds` robust reweightings (3 is usual). A step inside that was not
    observed gets a line from its neighbours, or where there are none the mean of the series (the median with robust rounds). Without
    gaps equal to statsmodels' `lowess(frac=share, it=rounds, delta=0)`.
    """
    first, span = reach(values)
    line = torch.full_like(values, torch.nan)
    for rows, width in _alike(first, span, share):
        low, high = int(first[rows].min()), int((first + span)[rows].max())
        for some in rows.split(max(1, CELLS // (high - low))):
            place = Place(first[some] - low, span[some], width, high - low)
            line[:, low:high].index_copy_(0, some, _smoothed(values[:, low:high].index_select(0, some), place, rounds))
    return line


def reach(values: Float[Tensor, "series time"]) -> tuple[Int[Tensor, " series"], Int[Tensor, " series"]]:
    """First observed row of each series, and how many rows lie from it to the last observed one; 0 and 0 where none was."""
    first, span = torch.zeros(2, len(values), dtype=torch.long)
    if values.shape[1]:
        some = max(1, CELLS // values.shape[1])
        for part, head, reached in zip(values.split(some), first.split(some), span.split(some), strict=True):
            seen = np.isfinite(part.numpy())
            begin, end = seen.argmax(1), seen.shape[1] - seen[:, ::-1].argmax(1)
            head[:], reached[:] = torch.from_numpy(begin), torch.from_numpy((end - begin) * seen.any(1))
    return first, span


def _alike(first: Int[Tensor, " series"], span: Int[Tensor, " series"], share: float) -> Iterator[tuple[Int[Tensor, " some"], int]]:
    """Rows of series that have one width and start within a block of each other, so that few steps beside them are smoothed in vain; and the width."""
    width = (share * span.double() + 1e-10).long().clamp(min=2).minimum(span)
    key = width * (span.numel() and int(first.max()) // BLOCK + 1) + first // BLOCK
    order = key.argsort(stable=True)
    for rows in order.split(key[order].unique_consecutive(return_counts=True)[1].tolist()):
        if wide := int(width[rows[0]]):
            yield rows, wide


class Place(NamedTuple):
    """Where series of one width lie in a table of so many steps, and how their steps are laid out for the products: those with whole
    windows in blocks as long as each other, and those at both ends."""

    first: Int[Tensor, " series"]
    span: Int[Tensor, " series"]
    width: int
    length: int

    @property
    def half(self) -> int:
        """Steps at either end without a whole window around them; also the distance from which neighbours weigh nothing elsewhere."""
        return self.width // 2

    @property
    def blocks(self) -> tuple[int, int]:
        """How many, and how many steps each: one step or more even if no window is whole."""
        inner = max(1, self.length - 2 * self.half)
        count = -(-inner // BLOCK)
        return count, -(-inner // count)

    @property
    def room(self) -> int:
        """Steps of the table that the last block asks for with its neighbours."""
        count, steps = self.blocks
        return max(self.length, self.half + count * steps + max(0, self.half - 1))

    def between(self, of: Float[Tensor, "series time"], beyond: int = 0) -> Float[Tensor, "block near"]:
        """Blocks, with so many steps more at both sides."""
        count, steps = self.blocks
        near = of[:, self.half - beyond : self.half + count * steps + beyond]
        return near.unfold(1, steps + 2 * beyond, steps).reshape(len(of) * count, -1)

    def ends(self, of: Float[Tensor, "series time"], steps: int) -> Float[Tensor, "twice step"]:
        """The first steps of each series, and below them the last ones, read backwards: to a line either end is the same."""
        row, window = torch.arange(len(of)), of.unfold(1, steps, 1)
        return torch.cat([window[row, self.first], window[row, self.first + self.span - steps].flip(1)])

    def joined(self, between: Float[Tensor, "block step"], ends: Float[Tensor, "twice end"]) -> Float[Tensor, "series time"]:
        """The lines of all steps; beside a series they mean nothing."""
        line = between.new_empty(len(self.first), self.room)
        line[:, self.half : self.half + self.blocks[0] * self.blocks[1]] = between.view(len(line), -1)
        if self.half:
            row, window, (begin, end) = torch.arange(len(line)), line.unfold(1, self.half, 1), ends.chunk(2)
            window[row, self.first], window[row, self.first + self.span - self.half] = begin, end.flip(1)
        return line

    def outside(self) -> Bool[Tensor, "series time"]:
        """Steps of the table before the first or after the last of each series."""
        step = torch.arange(self.length) - self.first[:, None]
        return (step < 0) | (step >= self.span[:, None])


class Kernel(NamedTuple):
    """What some steps read of the neighbours around them all: tricube weights, those times distance and its square, side by side; and
    the smoother itself, where every neighbour was observed and counts in full."""

    weight: Float[Tensor, "near thrice"]
    smoother: Float[Tensor, "near step"]


@lru_cache(maxsize=4)
def _between(width: int, steps: int, dtype: torch.dtype) -> Kernel:
    """So many steps in a row with whole windows around them: each weighs its neighbours alike."""
    half = max(1, width // 2)
    one = _kernel(torch.arange(1 - half, half)[:, None], torch.tensor([half]), dtype)
    weight, smoother = (pad(part.mT, (steps - 1, steps - 1)).unfold(1, steps, 1).flip(2) for part in one)
    return Kernel(weight.transpose(0, 1).flatten(1), smoother[0])


@lru_cache(maxsize=4)
def _end(width: int, dtype: torch.dtype) -> Kernel:
    """The steps before the first with a whole window around it: the window stands still and reaches farther."""
    step = torch.arange(width // 2)
    return _kernel(torch.arange(width)[:, None] - step, width - 1 - step, dtype)


def _kernel(away: Int[Tensor, "near step"], far: Int[Tensor, " step"], dtype: torch.dtype) -> Kernel:
    """Tricube weights of neighbours so many steps away, nothing from `far` on, and the straight line through them at each step."""
    distance = away.double()
    weight = (1 - (distance.abs() / far).clamp(max=1).pow(3)).pow(3)
    powers = torch.stack([weight, weight * distance, weight * distance.square()], 1)
    zero, one, two = powers.sum(0)
    spread = zero * two - one.square()
    plain = (powers[:, 0] * two - powers[:, 1] * one) / spread.clamp(min=FLAT)
    smoother = torch.where(spread > FLAT * zero.square(), plain, (away == 0).double())
    return Kernel(powers.flatten(1).to(dtype), smoother.to(dtype))


def _smoothed(values: Float[Tensor, "series time"], place: Place, rounds: int) -> Float[Tensor, "series time"]:
    """The lines of series of one width, NaN beside them."""
    itself = pad(values, (0, place.room - place.length), value=torch.nan).nan_to_num_(torch.nan, torch.nan, torch.nan)
    count = itself.shape[1] - torch.from_numpy(np.count_nonzero(np.isnan(itself.numpy()), axis=1))[:, None]
    # About the median sales that are mostly 0 stay 0, and so do the lines through nothing else: no rounding is taken for a residual
    centre = _middles(itself, count)[:, :1] if rounds else itself.nan_to_num(0.0).sum(1, keepdim=True) / count
    y = itself.sub_(centre).nan_to_num(0.0)
    kernels = _between(place.width, place.blocks[1], y.dtype), _end(place.width, y.dtype)
    whole = bool((count[:, 0] == place.span).all())
    if whole:
        line = place.joined(place.between(y, max(0, place.half - 1)) @ kernels[0].smoother, place.ends(y, place.width) @ kernels[1].smoother)
    if not whole:
        line = _lines(itself, itself.isfinite().to(y.dtype), y, place, kernels)
    for _ in range(rounds):
        share = _trust(line.sub_(itself).abs_(), count)
        line = _lines(itself, share, share * y, place, kernels)
    line = line[:, : place.length].add_(centre)
    return line if bool((place.span == place.length).all()) else line.masked_fill_(place.outside(), torch.nan)


def _lines(
    itself: Float[Tensor, "series time"], share: Float[Tensor, "series time"], load: Float[Tensor, "series time"], place: Place, kernels: tuple[Kernel, Kernel]
) -> Float[Tensor, "series time"]:
    """Each step's line where every point counts by its share; `load` is share times value, and `itself` the value, NaN where there is none."""
    beyond = max(0, place.half - 1)
    between = _line(place.between(itself), place.between(share, beyond), place.between(load, beyond), kernels[0])
    ends = _line(place.ends(itself, place.half), place.ends(share, place.width), place.ends(load, place.width), kernels[1])
    return place.joined(between, ends)


def _line(
    itself: Float[Tensor, "block step"], share: Float[Tensor, "block near"], load: Float[Tensor, "block near"], kernel: Kernel
) -> Float[Tensor, "block step"]:
    """Five sums over the neighbours. Where those that count are one or none there is no line but the value itself, or theirs where it has none."""
    steps = itself.shape[1]
    zero, one, two = (share @ kernel.weight).chunk(3, 1)
    value, turn = (load @ kernel.weight[:, : 2 * steps]).chunk(2, 1)
    spread = (zero * two).addcmul_(one, one, value=-1)
    line = (value * two).addcmul_(turn, one, value=-1)
    firm = spread > FLAT * zero.square()
    if bool(firm.all()):
        return line.div_(spread)
    alone = torch.where(itself.isnan(), value / zero.clamp(min=1e-30), itself)
    return torch.where(firm, line / spread.clamp(min=1e-30), alone)


def _trust(away: Float[Tensor, "series time"], count: Int[Tensor, "series one"]) -> Float[Tensor, "series time"]:
    """Bisquare of the residuals, which it overwrites, in units of six times the median of so many; 0 for what is NaN. Where that
    median is 0, all but the residuals of 0 count for nothing."""
    scale = SIX * _middles(away, count).mean(1, keepdim=True)
    away.div_(scale.clamp(min=torch.finfo(away.dtype).tiny))
    return away.nan_to_num_(nan=1.0).clamp_(max=1).square_().sub_(1).square_()


def _middles(of: Float[Tensor, "series time"], count: Int[Tensor, "series one"]) -> Float[Tensor, "series two"]:
    """The lower and the upper median of so many values of each series. A sort puts NaN last, and is a fourth of the time of a partition at two places."""
    return torch.from_numpy(np.sort(of.numpy(), axis=1)).gather(1, torch.cat([(count - 1) // 2, count // 2], 1))


class Line(NamedTuple):
    """The level at the last step and the slope a step there."""

    level: Float[Tensor, "*row"]
    slope: Float[Tensor, "*row"]


def end_line(past: Float[Tensor, "*row time"], seen: Bool[Tensor, "*row time"]) -> Line:
    """LOESS at the last of these steps: the line by tricube weights over them, reading nothing after. The level of what has no line is the
    weighted mean, its slope 0; of what was never seen both are 0."""
    width = past.shape[-1]
    away = torch.arange(1 - width, 1, dtype=past.dtype, device=past.device)
    weight = (1 - (away.abs() / max(1, width - 1)).pow(3)).pow(3) * seen
    y = torch.where(seen, past, 0.0)
    zero, one, two = weight.sum(-1), (weight * away).sum(-1), (weight * away.square()).sum(-1)
    value, turn = (weight * y).sum(-1), (weight * y * away).sum(-1)
    spread = zero * two - one.square()
    firm = spread > FLAT * zero.square()
    safe = torch.where(firm, spread, 1.0)
    level = torch.where(firm, (value * two - turn * one) / safe, value / zero.clamp(min=1e-30))
    return Line(level, torch.where(firm, (turn * zero - value * one) / safe, 0.0))


def continued(line: Line, horizon: int, damping: float = DAMPED) -> Float[Tensor, "*row horizon"]:
    """The line ahead, its slope damped: level + slope · (φ + φ² + … ). Gardner & McKenzie (1985), doi:10.1287/mnsc.31.10.1237."""
    steps = torch.full((horizon,), damping, dtype=line.level.dtype, device=line.level.device).cumprod(0).cumsum(0)
    return line.level[..., None] + line.slope[..., None] * steps
