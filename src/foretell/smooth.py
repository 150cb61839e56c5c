"""LOESS for every series at once, robust if asked; and its causal end: the line at an origin from what lies before it, continued and damped.

Cleveland (1979), doi:10.1080/01621459.1979.10481038: straight lines with tricube weights over the nearest share of the points, bisquare weights on
the residuals in robust rounds. On a clock the neighbours of a step depend on nothing but the length of the series, so that
the sums every line needs are the same banded products for all series of one length.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CELLS = 2**21  # values worked on at a time
BLOCK = 128  # steps whose lines come from one dense product
SIX = 6.0  # median absolute residuals at which a point counts for nothing
FLAT = 1e-9  # spread of a line's points, in squared steps, below which there is no line
DAMPED = 0.95  # share of a slope that is left after each step ahead


def loess(values: Float[Tensor, "series time"], share: float = 0.1, *, rounds: int = 0) -> Float[Tensor, "series time"]:
    """The smooth line through each series between its first and its last observed step; NaN outside.

    `share` of a series' steps are the neighbours of each; `rounds` robust reweightings (3 is usual). A step inside that was not
    observed gets a line from its neighbours. Without gaps equal to statsmodels' `lowess(frac=share, it=rounds, delta=0)`.
    """
    seen = values.isfinite()
    first, span = reach(seen)
    line = torch.full_like(values, torch.nan)
    for length in span.unique().tolist():
        rows = (span == length).nonzero()[:, 0]
        blocks = _blocks(length, share, values.dtype) if length else []
        for some in rows.split(max(1, CELLS // max(1, length))) if length else ():
            at = first[some, None] + torch.arange(length)
            y, mark = values[some].gather(1, at), seen[some].gather(1, at)
            line[some] = line[some].scatter(1, at, _smoothed(y, mark, blocks, rounds))
    return line


def reach(seen: Bool[Tensor, "series time"]) -> tuple[Int[Tensor, " series"], Int[Tensor, " series"]]:
    """First observed row of each series, and how many rows lie from it to the last observed one."""
    step = torch.arange(seen.shape[1])
    first = torch.where(seen, step, seen.shape[1]).amin(1) if seen.shape[1] else torch.zeros(len(seen), dtype=torch.long)
    last = torch.where(seen, step, -1).amax(1) if seen.shape[1] else first - 1
    return torch.where(last < 0, 0, first), torch.where(last < 0, 0, last - first + 1)


class Block(NamedTuple):
    """Lines of some steps: rows `first` … of the neighbours, their tricube weights, and those times distance and its square; and
    the smoother itself, where every neighbour was observed and counts in full."""

    first: int
    weight: Float[Tensor, "power step near"]
    smoother: Float[Tensor, "step near"]


def _blocks(length: int, share: float, dtype: torch.dtype) -> list[Block]:
    """All steps of a series of this length. What they weigh depends on the width alone: at either end the window stands still and
    reaches farther, and between the ends every step weighs its neighbours alike."""
    width = min(length, max(2, int(share * length + 1e-10)))
    left, middle, right = _kinds(width, dtype)
    blocks, inner = [left] if len(left.smoother) else [], length - width + 1
    for begin in range(0, inner, BLOCK):
        rows = min(BLOCK, inner - begin)
        near = rows + width - 1
        blocks.append(Block(begin, middle.weight[:, :rows, :near], middle.smoother[:rows, :near]))
    return [*blocks, right._replace(first=length - width)] if len(right.smoother) else blocks


@lru_cache(maxsize=64)
def _kinds(width: int, dtype: torch.dtype) -> tuple[Block, Block, Block]:
    """The steps before the first whole window, `BLOCK` steps with their neighbours around them, and those after the last whole window."""
    half = width // 2
    before, between, after = torch.arange(half), torch.arange(BLOCK) + half, torch.arange(half + 1, width)
    low = torch.arange(BLOCK)
    return (
        _block(before, torch.zeros(half, dtype=torch.long), width, dtype),
        _block(between, low, width, dtype),
        _block(after, torch.zeros(len(after), dtype=torch.long), width, dtype),
    )


def _block(step: Int[Tensor, " step"], low: Int[Tensor, " step"], width: int, dtype: torch.dtype) -> Block:
    """Tricube weights of `width` neighbours from `low` on, and the straight line through them at each step."""
    near = torch.arange((int(low[-1]) if len(low) else 0) + width)
    away = (near - step[:, None]).double()
    far = torch.maximum(step - low, low + width - 1 - step).double()[:, None].clamp(min=1)
    inside = (near >= low[:, None]) & (near < low[:, None] + width)
    weight = torch.where(inside, (1 - (away.abs() / far).clamp(max=1).pow(3)).pow(3), 0.0)
    powers = torch.stack([weight, weight * away, weight * away.square()])
    zero, one, two = powers.sum(-1)
    spread = zero * two - one.square()
    plain = (powers[0] * two[:, None] - powers[1] * one[:, None]) / spread.clamp(min=FLAT)[:, None]
    itself = (near == step[:, None]).double()
    smoother = torch.where((spread > FLAT * zero.square())[:, None], plain, itself)
    return Block(0, powers.to(dtype), smoother.to(dtype))


def _smoothed(y: Float[Tensor, "series time"], seen: Bool[Tensor, "series time"], blocks: Sequence[Block], rounds: int) -> Float[Tensor, "series time"]:
    whole = bool(seen.all())
    y = torch.where(seen, y, 0.0)
    mean = y.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
    y = torch.where(seen, y - mean, 0.0)
    share = seen.to(y.dtype)
    line = torch.cat([y[:, b.first : b.first + b.smoother.shape[1]] @ b.smoother.T for b in blocks], 1) if whole else _lines(y, share, seen, blocks)
    for _ in range(rounds):
        line = _lines(y, share * _trust((y - line).abs(), seen), seen, blocks)
    return line + mean


def _lines(
    y: Float[Tensor, "series time"], share: Float[Tensor, "series time"], seen: Bool[Tensor, "series time"], blocks: Sequence[Block]
) -> Float[Tensor, "series time"]:
    """Each step's line where every point counts by its share: five sums over the neighbours."""
    parts, begin = [], 0
    for first, weight, _ in blocks:
        near = slice(first, first + weight.shape[2])
        zero, one, two = (share[:, near] @ w.T for w in weight)
        load = (share * y)[:, near]
        value, turn = load @ weight[0].T, load @ weight[1].T
        spread = zero * two - one.square()
        here = slice(begin, begin + weight.shape[1])
        alone = torch.where(seen[:, here], y[:, here], value / zero.clamp(min=1e-30))
        parts.append(torch.where(spread > FLAT * zero.square(), (value * two - turn * one) / spread.clamp(min=1e-30), alone))
        begin += weight.shape[1]
    return torch.cat(parts, 1)


def _trust(away: Float[Tensor, "series time"], seen: Bool[Tensor, "series time"]) -> Float[Tensor, "series time"]:
    """Bisquare of the residuals in units of six times their median."""
    array = torch.where(seen, away, torch.inf).numpy()
    count = seen.sum(1).numpy()
    if (count == count[0]).all():  # a partition takes a tenth of the time of a sort
        places = sorted({int(count[0] - 1) // 2, int(count[0]) // 2})
        parted = np.partition(array, places, axis=1)
        middle = parted[:, places].mean(1)
    else:
        ordered = np.sort(array, axis=1)
        middle = (np.take_along_axis(ordered, (count[:, None] - 1) // 2, 1) + np.take_along_axis(ordered, count[:, None] // 2, 1))[:, 0] / 2
    scale = torch.from_numpy(np.asarray(SIX * middle, array.dtype))[:, None]
    share = torch.where(scale > 0, away / torch.where(scale > 0, scale, 1.0), (away > 0).to(away.dtype))
    return (1 - share.clamp(max=1).square()).square()


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
