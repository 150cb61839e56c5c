"""How the forecast moves with one input: partial dependence, single windows, accumulated local effects; and what is lost without it."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..errors import TaskError, nearest
from .gradients import finished
from .probe import Probe
from .types import Attribution, Blocks, Curve, Labels, Map, block_named

Change = Literal["set", "shift", "scale"]
CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "set": lambda x, v: v.expand_as(x),
    "shift": lambda x, v: x + v,
    "scale": lambda x, v: x * v,
}


def dependence(
    f: Map,
    blocks: Blocks,
    where: Sequence[tuple[str, int]],
    grid: Float[Tensor, " grid"] | None = None,
    *,
    change: Change = "set",
    steps: slice | None = None,
    name: str = "",
) -> Curve:
    """The forecast of every window while one channel takes each value of the grid: single lines (ICE), their mean (PDP).

    `where` lists (block, channel) cells that move together, as the past and future of one price; `steps` limits the
    change to some of a block's steps (a future path, one lag). `set` puts the whole path to the value, `shift` adds it,
    `scale` multiplies by it. `outside` says which share of windows is then beyond anything seen.

    Friedman (2001), doi:10.1214/aos/1013203451; Goldstein et al. (2015), doi:10.1080/10618600.2014.907095.
    """
    if change not in CHANGES:
        raise TaskError(f'no change "{change}": {nearest(change, CHANGES)}')
    probe, part = Probe(f, blocks), steps or slice(None)
    seen = torch.cat([block_named(block, blocks)[..., channel].flatten() for block, channel in where])
    points = grid if grid is not None else _usual(seen) if change == "set" else _around(change, seen)
    moved = {block: x.expand(len(points), *x.shape).clone() for block, x in blocks.items()}
    outside = torch.zeros(len(points))
    for block, channel in where:
        path = blocks[block][:, part, channel]
        for at, value in enumerate(points):
            new = CHANGES[change](path, value)
            moved[block][at][:, part, channel] = new
            outside[at] += ((new < seen.min()) | (new > seen.max())).any(1).float().mean() / len(where)
    shape = probe.shape()
    lines = probe.values(moved).unflatten(2, shape)
    density = torch.exp(-0.5 * ((points[:, None] - seen) / (0.2 * seen.std().clamp(min=1e-9))).square()).mean(1) if change == "set" else None
    return Curve(points, lines, name or str(where[0]), change, "pdp", density, outside, Labels())


def local_effects(f: Map, blocks: Blocks, where: Sequence[tuple[str, int]], *, bins: int = 10, name: str = "") -> Curve:
    """Accumulated local effects of a channel's level: windows are sorted into bins by the channel's mean, moved to the edges
    of their own bin only, and the mean differences added up. No window goes where none was. Apley, Zhu (2020), arXiv 1612.08468, §2.
    """
    probe = Probe(f, blocks)
    level = torch.stack([block_named(block, blocks)[..., channel].mean(1) for block, channel in where]).mean(0)
    edges = level.quantile(torch.linspace(0, 1, bins + 1, dtype=level.dtype)).unique()
    if len(edges) < 2:
        raise TaskError("accumulated local effects need windows that differ in the channel's level; all are alike")
    at = (torch.searchsorted(edges, level.contiguous(), right=True) - 1).clamp(0, len(edges) - 2)
    ends = []
    for shift in (edges[at] - level, edges[at + 1] - level):
        moved = {block: x.clone() for block, x in blocks.items()}
        for block, channel in where:
            moved[block][..., channel] += shift[:, None]
        ends.append(probe.values({block: x[None] for block, x in moved.items()})[0])
    rise = ends[1] - ends[0]
    steps = torch.stack([rise[at == k].mean(0) if (at == k).any() else torch.zeros_like(rise[0]) for k in range(len(edges) - 1)])
    line = torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)])
    weight = torch.bincount(at, minlength=len(edges) - 1).to(line.dtype) / len(at)
    line = line - (((line[1:] + line[:-1]) / 2) * weight[:, None]).sum(0)
    return Curve(edges, line.unflatten(1, probe.shape())[:, None], name or str(where[0]), "shift", "ale", torch.cat([weight, weight[-1:]]))


def importance(
    f: Map, blocks: Blocks, truth: Float[Tensor, "example *output"], *, repeats: int = 10, seed: int = 0, together: Sequence[Sequence[tuple[str, int]]] = ()
) -> Attribution:
    """What the mean absolute error gains when a channel's whole window is another window's: donors keep the channel's own
    shape in time. Importance is in the target's units, in the first step's cell of each channel; standard errors over repeats.

    `together` lists channels of the same fate. Breiman (2001), doi:10.1023/A:1010933404324, on windows in place of rows.
    """
    probe, random = Probe(f, blocks), Generator().manual_seed(seed)
    if probe.examples < 2:
        raise TaskError("permutation importance swaps windows with one another: give several, by origin=[...] or more series")
    goal = truth.flatten(1)
    before = (probe.here() - goal).abs().mean(0)
    values = {block: x.new_zeros(1, goal.shape[1], *x.shape[1:]) for block, x in blocks.items()}
    errors = {block: torch.zeros_like(x) for block, x in values.items()}
    told = [tuple(group) for group in together] or [((block, c),) for block, x in blocks.items() for c in range(x.shape[2])]
    for group in told:
        gains = []
        for _ in range(repeats):
            donor = _derangement(probe.examples, random)
            moved = {block: x.clone() for block, x in blocks.items()}
            for block, c in group:
                moved[block][..., c] = blocks[block][donor][..., c]
            gains.append((probe.values({block: x[None] for block, x in moved.items()})[0] - goal).abs().mean(0) - before)
        gain = torch.stack(gains)
        for block, c in group:
            values[block][0, :, 0, c] = gain.mean(0) / len(group)
            errors[block][0, :, 0, c] = gain.std(0) / repeats**0.5 if repeats > 1 else 0.0
    shown = {block: x.expand(probe.examples, *x.shape[1:]) for block, x in values.items()}
    return finished(probe, shown, "importance", kind="importance", error=errors)


def _usual(seen: Tensor) -> Float[Tensor, " grid"]:
    """The values of a flag or of a few prices as they are; else 20 evenly spaced ranks."""
    each: Tensor = seen.unique()
    found: Tensor = each if len(each) <= 10 else seen.quantile(torch.linspace(0.02, 0.98, 20, dtype=seen.dtype)).unique()
    return found


def _around(change: str, seen: Tensor) -> Float[Tensor, " grid"]:
    return torch.linspace(0.5, 1.5, 21, dtype=seen.dtype) if change == "scale" else torch.linspace(-1, 1, 21, dtype=seen.dtype) * seen.std()


def _derangement(count: int, random: Generator) -> Tensor:
    """A shuffle in which nobody keeps his own: a random cycle through all."""
    order = torch.randperm(count, generator=random)
    donor = torch.empty(count, dtype=torch.long)
    donor[order] = order.roll(1)
    return donor
