"""Methods that take cells out and look what happens: occlusion, Shapley values, LIME. Nothing but calls of f.

What takes the place of a removed cell is the baseline; several draws of it are averaged over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import comb

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..errors import TaskError
from .gradients import finished
from .groups import by_time, cells, checked_groups, inside, spread_out
from .probe import Probe
from .types import Attribution, Baseline, Blocks, Groups, Map

EXACT = 11  # groups up to which every coalition is tried
BUDGET = 256  # coalitions otherwise


def occlusion(f: Map, blocks: Blocks, against: Baseline, groups: Groups | None = None) -> Attribution:
    """What the forecast loses when a group alone is taken out; None: every cell by itself. Where two groups say the same,
    neither is missed: values do not add up. Zeiler, Fergus (2014), arXiv 1311.2901; with draws the augmented occlusion of
    Tonekaboni et al. (2020), arXiv 2003.02821, §4.
    """
    probe, groups = Probe(f, blocks), groups or cells(blocks)
    checked_groups(groups, blocks)
    lost = [probe.here() - world_values(probe, against, groups, some)[:, :] for some in (~torch.eye(len(groups), dtype=torch.bool)).split(512)]
    found = finished(probe, spread_out(groups, torch.cat(lost)), "occlusion", against)
    return with_groups(found, groups)


def sliding(f: Map, blocks: Blocks, against: Baseline, window: int, stride: int | None = None) -> Attribution:
    """Occlusion of `window` steps of one channel at a time, every `stride` steps; a cell's value is the mean over the windows
    that cover it, each window's loss shared evenly by its cells."""
    probe, stride = Probe(f, blocks), stride or window
    if not 1 <= stride <= window:
        raise TaskError(f"stride must be between 1 and the window of {window} steps, so that every cell is covered; got {stride}")
    total = {name: probe.here().new_zeros(1, 1, *x.shape[1:]) for name, x in blocks.items()}
    seen = {name: torch.zeros(x.shape[1:]) for name, x in blocks.items()}
    for block, x in blocks.items():
        steps, width = x.shape[1:]
        starts = [*range(0, max(1, steps - window), stride), max(0, steps - window)]
        marks = torch.zeros(len(starts) * width, steps, width, dtype=torch.bool)
        for n, (s, c) in enumerate((s, c) for s in dict.fromkeys(starts) for c in range(width)):
            marks[n, s : s + window, c] = True
        marks = marks[marks.any((1, 2))]
        kept = {name: torch.ones(len(marks), *b.shape[1:], dtype=torch.bool) for name, b in blocks.items()} | {block: ~marks}
        lost = probe.here() - mixed_values(probe, against, kept)
        total[block] = torch.einsum("neo,nsc->eosc", lost, marks.to(lost.dtype)) / min(window, steps)
        seen[block] = marks.sum(0)
    return finished(probe, {name: x / seen[name].clamp(min=1) for name, x in total.items()}, "occlusion", against)


def shapley(f: Map, blocks: Blocks, against: Baseline, groups: Groups, *, budget: int = BUDGET, seed: int = 0) -> Attribution:
    """Shapley values of groups, for all outputs at once: exact up to 11 groups, else from `budget` paired coalitions and one
    constrained least-squares solve, with standard errors. The background is interventional: removed groups take the draws' values.

    Lundberg, Lee (2017), arXiv 1705.07874, §4.1; pairs: Covert, Lee (2021), arXiv 2012.01536, §4.1.
    """
    probe = Probe(f, blocks)
    checked_groups(groups, blocks)
    if len(groups) == 1:
        ends = world_values(probe, against, groups, torch.tensor([[False], [True]]))
        value, error = (ends[1] - ends[0])[None], None
    elif len(groups) <= EXACT:
        every = torch.tensor([[bool(n >> g & 1) for g in range(len(groups))] for n in range(2 ** len(groups))])
        value, error = exact(world_values(probe, against, groups, every)), None
    else:
        value, error = _kernel(probe, against, groups, budget, seed)
    spread = {} if error is None else spread_out(groups, error)
    held = _held(against, groups, blocks)
    return with_groups(finished(probe, spread_out(groups, value), "shapley", held, error=spread), groups)


def exact(values: Float[Tensor, "coalition example output"]) -> Float[Tensor, "group example output"]:
    """From the values of all 2ᴳ coalitions, numbered by their bits: mean marginal contribution over all orders of joining.

    Shapley (1953), doi:10.1515/9781400881970-018.
    """
    count = (len(values) - 1).bit_length()
    number = torch.arange(len(values))
    size = torch.stack([(number >> g) & 1 for g in range(count)]).sum(0)
    weight = torch.tensor([1 / (count * comb(count - 1, s)) if s < count else 0.0 for s in range(count + 1)], dtype=torch.float64)
    found = []
    for g in range(count):
        out = number[(number >> g) & 1 == 0]
        share = weight[size[out]].to(values.dtype)
        found.append(torch.einsum("c,ceo->eo", share, values[out + (1 << g)] - values[out]))
    return torch.stack(found)


def lime(f: Map, blocks: Blocks, against: Baseline, groups: Groups, *, draws: int | None = None, width: float = 0.75, seed: int = 0) -> Attribution:
    """A linear model of f around the window on "group real or removed", one weighted ridge for all outputs: coefficients with
    standard errors, R² in `facts`. Groups that are segments of time make it LIME for series.

    Ribeiro, Singh, Guestrin (2016), arXiv 1602.04938, §3; segments: Sivill, Flach (2022), LIMESegment; Schlegel et al. (2021),
    arXiv 2109.08438 for forecasting. `draws` None is 20 a group; fewer than 5 a group are refused.
    """
    probe, random = Probe(f, blocks), Generator().manual_seed(seed)
    checked_groups(groups, blocks)
    count = draws or 20 * len(groups)
    if count < 5 * len(groups):
        raise TaskError(f"{count} draws for {len(groups)} groups say nothing: at least 5 a group, {5 * len(groups)}, are needed")
    share = 0.5 + 0.5 * torch.rand(count, 1, generator=random)
    z = torch.rand(count, len(groups), generator=random) < share
    z[0] = True
    y = world_values(probe, against, groups, z).double()
    far = 1 - z.double().mean(1)
    weight = (-(far / (width * far.max().clamp(min=1e-9))).square()).exp()
    value, error, fit = _ridge(z.double(), y, weight)
    dtype = probe.here().dtype
    found = finished(probe, spread_out(groups, value.to(dtype)), "lime", _held(against, groups, blocks), error=spread_out(groups, error.to(dtype)))
    notes = (f"the linear model explains only {fit:.0%} of the neighbourhood: do not lean on it",) if fit < 0.8 else ()
    return with_groups(found, groups, warnings=notes, facts={"R2": fit})


def temporal_lime(f: Map, blocks: Blocks, against: Baseline, cuts: Mapping[str, Sequence[int]], free: Blocks | None = None, *, seed: int = 0) -> Attribution:
    """LIME for series: when, not which. All channels of a stretch of time are real or removed together; `cuts` are the steps of each
    block at which a new one begins. Segmentation into equal parts of Schlegel et al. (2021), arXiv 2109.08438, §3.
    """
    return replace(lime(f, blocks, against, by_time(blocks, cuts, free), seed=seed), method="temporal_lime")


def world_values(probe: Probe, against: Baseline, groups: Groups, coalition: Bool[Tensor, "copy group"]) -> Float[Tensor, "copy example output"]:
    """f where only the groups of a coalition are real, averaged over the draws of the baseline."""
    found = [mixed_values(probe, against, inside(groups, some)) for some in coalition.split(max(1, probe.most))]
    return torch.cat(found)


def mixed_values(probe: Probe, against: Baseline, real: dict[str, Bool[Tensor, "copy step channel"]]) -> Float[Tensor, "copy example output"]:
    """f where marked cells are real and the others the baseline's, averaged over its draws."""
    total = torch.zeros(())
    for draw in range(against.draws):
        mixed = {name: torch.where(real[name][:, None], x, against.values[name][draw]) for name, x in probe.blocks.items()}
        total = total + probe.values(mixed) / against.draws
    return total


def with_groups(found: Attribution, groups: Groups, *, warnings: tuple[str, ...] = (), facts: dict[str, float] | None = None) -> Attribution:
    """The same attribution, knowing its groups."""
    return replace(found, groups=groups, warnings=found.warnings + warnings, facts={**found.facts, **(facts or {})})


def _held(against: Baseline, groups: Groups, blocks: Blocks) -> Baseline:
    """The baseline as used: what is in no group stays real."""
    return Baseline({name: torch.where(groups.at[name] < 0, x, against.values[name]) for name, x in blocks.items()}, against.name)


def _kernel(probe: Probe, against: Baseline, groups: Groups, budget: int, seed: int) -> tuple[Tensor, Tensor]:
    z, weight = coalitions(len(groups), budget, seed)
    ends = torch.stack([torch.zeros(len(groups), dtype=torch.bool), torch.ones(len(groups), dtype=torch.bool)])
    y = world_values(probe, against, groups, torch.cat([ends, z])).double()
    empty, full, y = y[0], y[1], y[2:]
    change = full - empty
    # Σφ = full − empty is built in: the last group takes what the others leave.
    design = z.double()
    left = design[:, :-1] - design[:, -1:]
    right = y - empty - design[:, -1, None, None] * change
    value, error, _ = _solve(left, right, weight, ridge=1e-10)
    last = (change - value.sum(0))[None]
    dtype = probe.here().dtype
    return torch.cat([value, last]).to(dtype), torch.cat([error, error.square().sum(0, keepdim=True).sqrt()]).to(dtype)


def coalitions(groups: int, budget: int, seed: int) -> tuple[Bool[Tensor, "copy group"], Float[Tensor, " copy"]]:
    """Pairs of a coalition and its complement with their kernel weights: sizes small enough are listed whole, from the outside
    in, the rest of the budget is drawn from the others."""
    random = Generator().manual_seed(seed)
    sizes = list(range(1, groups // 2 + 1))
    mass = {s: (groups - 1) / (s * (groups - s)) * (1 if 2 * s == groups else 2) for s in sizes}
    rows: list[Tensor] = []
    weights: list[float] = []
    room = budget // 2
    while sizes and comb(groups, sizes[0]) <= room:
        size = sizes.pop(0)
        listed = [torch.zeros(groups, dtype=torch.bool).index_fill(0, torch.tensor(c), True) for c in combinations(range(groups), size)]
        rows += listed
        weights += [mass[size] / len(listed)] * len(listed)
        room -= len(listed)
    if sizes and room:
        share = torch.tensor([mass[s] for s in sizes])
        drawn = torch.multinomial(share, room, replacement=True, generator=random)
        for k in drawn.tolist():
            pick = torch.randperm(groups, generator=random)[: sizes[k]]
            rows.append(torch.zeros(groups, dtype=torch.bool).index_fill(0, pick, True))
        weights += [float(share.sum()) / room] * room
    z = torch.stack(rows)
    both, weight = torch.cat([z, ~z]), torch.tensor(weights, dtype=torch.float64).repeat(2)
    return both, weight


def _solve(left: Tensor, right: Tensor, weight: Tensor, *, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted least squares for all right-hand sides; values, standard errors, residuals."""
    shape = right.shape[1:]
    flat, scaled = right.flatten(1), left * weight[:, None]
    normal = scaled.mT @ left
    normal = normal + ridge * normal.diagonal().mean() * torch.eye(len(normal), dtype=normal.dtype)
    value = torch.linalg.solve(normal, scaled.mT @ flat)
    rest = flat - left @ value
    free = max(1, len(left) - left.shape[1])
    noise = (weight[:, None] * rest.square()).sum(0) / weight.sum() * len(left) / free
    inverse = torch.linalg.inv(normal * len(left) / weight.sum())
    error = (inverse.diagonal()[:, None].clamp(min=0) * noise).sqrt()
    return value.unflatten(1, shape), error.unflatten(1, shape), rest.unflatten(1, shape)


def _ridge(z: Tensor, y: Float[Tensor, "copy example output"], weight: Tensor) -> tuple[Tensor, Tensor, float]:
    """Coefficients, their errors, and the share of the weighted variance explained (the mean over outputs)."""
    share = weight / weight.sum()
    middle, level = (share[:, None] * z).sum(0), (share[:, None, None] * y).sum(0)
    value, error, rest = _solve(z - middle, y - level, weight, ridge=1e-8)
    spread = (share[:, None, None] * (y - level).square()).sum(0)
    left = (share[:, None, None] * rest.square()).sum(0)
    seen = spread > 1e-12 * spread.max().clamp(min=1e-30)
    return value, error, float((1 - left[seen] / spread[seen]).mean()) if seen.any() else 1.0
