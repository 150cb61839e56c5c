"""Groups: cells that are taken in and out together: channels, segments of the past, single cells; and where a past is cut."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import TaskError
from .types import Blocks, Groups


def cells(blocks: Blocks, free: Mapping[str, Tensor] | None = None) -> Groups:
    """Every cell its own group; `free` marks those that take part."""
    at, names, count = {}, [], 0
    for block, x in blocks.items():
        mark = torch.ones(x.shape[1:], dtype=torch.bool) if free is None else free[block]
        number = torch.full(x.shape[1:], -1)
        number[mark] = torch.arange(count, count + int(mark.sum()))
        at[block], count = number, count + int(mark.sum())
        names += [f"{block} {s} {c}" for s, c in mark.nonzero().tolist()]
    return Groups(tuple(names), at)


def by_channel(blocks: Blocks, channels: Mapping[str, Sequence[str]] | None = None) -> Groups:
    """All steps of a channel together; a channel of the same name in two blocks is one group."""
    return by_segment(blocks, {}, channels)


def by_segment(blocks: Blocks, cuts: Mapping[str, Sequence[int]], channels: Mapping[str, Sequence[str]] | None = None) -> Groups:
    """Channel × segment of time: `cuts[block]` are the steps at which a new segment begins; a block without cuts is one."""
    names: dict[str, int] = {}
    at = {}
    for block, x in blocks.items():
        steps, width = x.shape[1:]
        edges = [0, *cuts.get(block, ()), steps]
        if sorted(set(edges)) != edges:
            raise TaskError(f'cuts of block "{block}" must rise strictly between 0 and {steps}; got {list(cuts[block])}')
        number = torch.full((steps, width), -1)
        for c in range(width):
            channel = channels[block][c] if channels else f"{block}[{c}]"
            for low, high in pairwise(edges):
                name = channel if len(edges) == 2 else f"{channel} {segment_name(low, high, steps)}"
                number[low:high, c] = names.setdefault(name, len(names))
        at[block] = number
    return Groups(tuple(names), at)


def by_time(blocks: Blocks, cuts: Mapping[str, Sequence[int]], free: Mapping[str, Tensor] | None = None) -> Groups:
    """All channels of a stretch of time together: `cuts[block]` are the steps at which a new one begins; a block without cuts is one.
    `free` marks the cells that take part."""
    names: list[str] = []
    at = {}
    for block, x in blocks.items():
        steps = x.shape[1]
        mark = torch.ones(x.shape[1:], dtype=torch.bool) if free is None else free[block]
        number = torch.full(x.shape[1:], -1)
        for low, high in pairwise([0, *cuts.get(block, ()), steps]):
            if bool(mark[low:high].any()):
                number[low:high] = torch.where(mark[low:high], len(names), -1)
                names.append(segment_name(low, high, steps) if cuts.get(block) else block)
        at[block] = number
    return Groups(tuple(names), at)


def segment_name(low: int, high: int, steps: int) -> str:
    """A stretch of the past by its lags: "lag 1-24"."""
    first, last = steps - high + 1, steps - low
    return f"lag {first}" if first == last else f"lag {first}-{last}"


def lag_cuts(steps: int, period: int, most: int = 6) -> list[int]:
    """Where a past of so many steps is cut: ever longer stretches back from its end, whole periods where it has some."""
    lags: list[int] = []
    size = max(1, min(period, steps) // 4)
    lag = size
    while lag < steps and len(lags) < most - 1:
        lags.append(lag)
        lag = lag * 4 if lag < period else lag + (-(-steps // period // 2) or 1) * period
    return [steps - lag for lag in reversed(lags)]


def even_cuts(steps: int, count: int) -> list[int]:
    """So many stretches of equal length."""
    return sorted({round(k * steps / count) for k in range(1, count)} - {0, steps})


def season_cuts(steps: int, season: int, most: int = 12) -> list[int]:
    """Stretches of equal length, a season each where the past has a few, at most twelve."""
    whole = steps // season if season > 1 else 0
    return even_cuts(steps, min(most, whole if whole > 3 else max(2, min(8, steps // 2))))


def change_cuts(values: Float[Tensor, " step"], count: int) -> list[int]:
    """The best `count` flat stretches in least squares, by dynamic programming: where the level changes.

    Bellman (1961), doi:10.1145/366573.366611.
    """
    x = values.double()
    steps = len(x)
    total, square = (torch.cat([x.new_zeros(1), v.cumsum(0)]) for v in (x, x.square()))
    low, high = torch.arange(steps)[:, None], torch.arange(1, steps + 1)[None]
    size = (high - low).clamp(min=1)
    loss = square[high] - square[low] - (total[high] - total[low]).square() / size
    loss = torch.where(high > low, loss, torch.inf)
    best, back = loss[0], []
    for _ in range(1, min(count, steps)):
        # A stretch low … high costs what came before low plus its own.
        either = torch.cat([x.new_full((1,), torch.inf), best[:-1]])[:, None] + loss
        value, place = either.min(0)
        back.append(place)
        best = value
    cuts, end = [], steps
    for place in reversed(back):
        end = int(place[end - 1])
        cuts.append(end)
    return sorted(c for c in set(cuts) if 0 < c < steps)


def inside(groups: Groups, coalition: Bool[Tensor, "copy group"]) -> dict[str, Bool[Tensor, "copy step channel"]]:
    """Which cells are real in each coalition; cells in no group always are."""
    whole = torch.cat([coalition, torch.ones(len(coalition), 1, dtype=torch.bool)], 1)
    return {block: whole[:, at] for block, at in groups.at.items()}


def spread_out(groups: Groups, values: Float[Tensor, "group example output"]) -> dict[str, Float[Tensor, "example output step channel"]]:
    """A group's value shared evenly by its cells, so that every sum over cells is a sum over groups."""
    each = values / groups.sizes.clamp(min=1)[:, None, None]
    whole = torch.cat([each, torch.zeros_like(each[:1])])
    return {block: whole[at].permute(2, 3, 0, 1) for block, at in groups.at.items()}


def checked_groups(groups: Groups, blocks: Blocks) -> None:
    """Every block must have its cells told."""
    for block, x in blocks.items():
        if block not in groups.at or groups.at[block].shape != x.shape[1:]:
            raise TaskError(f'groups must say for block "{block}" which group each of its {tuple(x.shape[1:])} cells is in, −1 for none')
    if not len(groups):
        raise TaskError("there is no group to attribute to: every cell is marked −1")
