"""solve: the closed-form counterpart of train. Windows of a source go in piece by piece, the ridge's weights come out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import gcd
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .errors import TaskError
from .halves import Halves
from .nets.layers import Shape
from .nets.ridge import Moments, Ridge, RidgeNet, Solution, again, choose, solution
from .nets.seasonal_ridge import SeasonalRidge, SeasonalRidgeNet
from .task import CELLS, Batch, Source, Span, Split, filled, usable

PIECE = 4096  # windows whose inputs are in memory at once
MEMBERS = 2**21  # numbers in the second moments of the members solved at once: 16 MB, and several times that while they are
Closed = Ridge | SeasonalRidge
Net = RidgeNet | SeasonalRidgeNet


class Solved(NamedTuple):
    """The weights of a RidgeNet by name, those `judged` on the stop part before it was learned from, and what each member chose."""

    weights: dict[str, Tensor]
    judged: dict[str, Tensor]
    chosen: Solution


class Members(NamedTuple):
    """Whose windows are summed: of these series together, or each `apart` as a member of its own; of one member with a half of its
    own only the goals in it, and of those the steps ahead in `run`."""

    series: Int[Tensor, " n"]
    apart: bool
    levels: tuple[float, ...]
    half: Halves | None = None
    run: slice = slice(0, 0)


class Piece(NamedTuple):
    """Windows by member: a row of the source each, 0 weight for an empty slot."""

    series: Int[Tensor, "member example"]
    row: Int[Tensor, "member example"]
    weight: Float[Tensor, "member example"]


def solve(
    spec: Closed, shape: Shape, source: Source, parts: Split, levels: tuple[float, ...], *, by_series: bool = False, halves: Halves | None = None
) -> Solved:
    """Every member's λ and inputs chosen on the stop part, then solved on train and stop together; without a stop part the
    choice is made on the training part. By series, members are the source's series in their order; with halves, each has a map
    from its own, with the λ and the inputs of the whole."""
    every = torch.arange(len(source.panel))
    size = max(1, MEMBERS // (_net(spec, shape).inputs + 1) ** 2)
    groups = every.split(size) if by_series else [every]
    found = [_solve(spec, replace(shape, members=len(g) if by_series else 1), source, parts, Members(g, by_series, levels)) for g in groups]
    if halves is not None and not by_series:
        found = [_half(spec, shape, source, parts, Members(every, False, levels, halves[member]), found[0]) for member in range(len(halves.kept))]
    return Solved(
        _joined([f.weights for f in found]), _joined([f.judged for f in found]), Solution(*(torch.cat(x) for x in zip(*(f.chosen for f in found), strict=True)))
    )


def _half(spec: Closed, shape: Shape, source: Source, parts: Split, who: Members, whole: Solved) -> Solved:
    """One member's, from its own half. A ridge has a map for every step ahead, and a window's goals may lie in both halves: each run of
    a block is solved from the windows of which the member has most of that run."""
    assert who.half is not None
    net, size = _net(spec, shape), shape.horizon if isinstance(spec, SeasonalRidge) else who.half.size
    runs = [slice(first, min(first + size, shape.horizon)) for first in range(0, shape.horizon, size)]
    found: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for run in runs:
        train, stop = (_moments(spec, net, source, span, who._replace(run=run)) for span in (parts.train, parts.stop))
        found.append((net.solved(_as(whole.chosen, net, train)), net.solved(_as(whole.chosen, net, train + stop))))
    judged, weights = ({name: w.to(whole.weights[name].dtype) for name, w in _by_run(one, runs, shape).items()} for one in zip(*found, strict=True))
    return Solved(weights | {"offset": whole.weights["offset"]}, judged | {"offset": whole.judged["offset"]}, whole.chosen)


def _as(chosen: Solution, net: Net, train: Moments) -> Solution:
    """Solved from these moments, with the λ and the inputs that were chosen for each map."""
    lines = []
    for at, (penalty, used) in enumerate(zip(chosen.penalty.tolist(), chosen.past_used.tolist(), strict=True)):
        own = Moments(*(x[at : at + 1] for x in (train.xx, train.xy, train.yy)))
        lines.append(solution(own, torch.ones_like(net.lean) if used else net.lean, penalty))
    return chosen._replace(weight=torch.cat([line.weight for line in lines]), bias=torch.cat([line.bias for line in lines]))


def _by_run(parts: Sequence[dict[str, Tensor]], runs: list[slice], shape: Shape) -> dict[str, Tensor]:
    """The outputs of each run from the map that was solved for it."""
    if len(runs) == 1:
        return parts[0]
    outputs = [slice(run.start * shape.targets, run.stop * shape.targets) for run in runs]
    return {name: torch.cat([part[name][..., at] for part, at in zip(parts, outputs, strict=True)], -1) for name in ("weight", "bias")}


def _net(spec: Closed, shape: Shape) -> Net:
    return SeasonalRidgeNet(spec, shape) if isinstance(spec, SeasonalRidge) else RidgeNet(shape)


def _solve(spec: Closed, shape: Shape, source: Source, parts: Split, who: Members) -> Solved:
    net, dtype = _net(spec, shape), source.panel.values.dtype
    train, stop = (_moments(spec, net, source, span, who) for span in (parts.train, parts.stop))
    if not bool((train.weight > 0).any()):
        raise TaskError("no window to learn from: too short for context + horizon, or less than half of every context is observed")
    judged = stop.weight > 0
    chosen = choose(spec.penalties, net.lean, train, stop.where(judged, train))
    first, last = ({name: w.to(dtype) for name, w in net.solved(found).items()} for found in (chosen, again(train + stop, net.lean, chosen)))
    net.load_state_dict({**first, "offset": net.offset.to(dtype)}, assign=True)
    offset = _offset(net, source, parts.stop if bool(judged.any()) else parts.train, who)
    return Solved({**last, "offset": offset}, {**first, "offset": offset}, chosen)


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _moments(spec: Closed, net: Net, source: Source, span: Span, who: Members) -> Moments:
    size, (maps, outputs) = net.inputs + 1, net.maps
    zeros = [torch.zeros(maps, *s, dtype=torch.float64) for s in ((size, size), (size, outputs), (outputs,))]
    total = Moments(*zeros)
    for piece in _pieces(spec, source, span, who):
        batch = _read(source, piece)
        if who.half is not None:
            batch = batch._replace(seen=batch.seen & _mine(who.half, who.run, source, piece))
        total = total + net.moments(batch.past, batch.observed, batch.future, batch.goal, batch.seen, piece.weight)
    return total


def _mine(half: Halves, run: slice, source: Source, piece: Piece) -> Bool[Tensor, "1 example horizon 1"]:
    """Which goals of one member's windows it learns from: those in its half, or a whole run of which it has half or more."""
    one, row = piece.series.flatten(), piece.row.flatten()
    mine = half.mine(source, torch.zeros_like(one), one, row)
    if run.stop - run.start < source.horizon:
        inside = torch.zeros(source.horizon, dtype=torch.bool)
        inside[run] = True
        mine = (mine[:, run].double().mean(1) >= 0.5)[:, None] & inside
    return mine[None, :, :, None]


def _read(source: Source, piece: Piece) -> Batch:
    """A goal that was not observed takes the last value before it, as a gap in the past does."""
    one, row = piece.series.flatten(), piece.row.flatten()
    batch, goal = source.inputs(one, row), source.goals(one, row)
    whole = torch.cat([batch.past[:, -1:, : goal.shape[2]], goal], 1)
    batch = batch._replace(goal=filled(whole, whole.isfinite())[:, 1:], seen=goal.isfinite())
    return Batch(*(x.unflatten(0, piece.row.shape) for x in batch))


def _pieces(spec: Closed, source: Source, span: Span, who: Members) -> Iterator[Piece]:
    width = source.panel.values.shape[1]
    thin = _thinning(spec, source, span, apart=who.apart)
    for group in [who.series] if who.apart else who.series.split(max(1, CELLS // max(1, width))):
        weight = _weights(spec, source, span, group, thin)
        if who.apart:
            yield from _side_by_side(group, weight)
        else:
            one, row = weight.nonzero(as_tuple=True)
            for at in torch.arange(len(row)).split(PIECE) if len(row) else ():
                yield Piece(group[one[at]][None], row[at][None], weight[one[at], row[at]][None])


def _side_by_side(series: Int[Tensor, " n"], weight: Float[Tensor, "n row"]) -> Iterator[Piece]:
    """Each series' windows as one member's, in columns; a member with fewer has empty slots at the end."""
    row = torch.where(weight > 0, torch.arange(weight.shape[1]), -1).sort(1, descending=True).values
    row = row[:, : int((weight > 0).sum(1).max())]
    for part in row.split(max(1, PIECE // len(series)), 1):
        at = part.clamp(min=0)
        yield Piece(series[:, None].expand_as(part), at, torch.where(part >= 0, weight.gather(1, at), 0.0))


class Thinning(NamedTuple):
    """Of the windows in phase every `phase`-th season is kept, of the others every `other`-th row."""

    phase: int
    other: int


def _thinning(spec: Closed, source: Source, span: Span, *, apart: bool = False) -> Thinning:
    """So that about `most` windows are used. A stride that shares a factor with the season would see some hours only."""
    each = (span.last - span.first - source.horizon).clamp(min=0)
    # A member alone and in company must see the same windows: members of their own are thinned by the width of the data.
    count = 0 if apart else int(each.sum())
    season = source.panel.clock.season
    other = next(k for k in range(max(1, -(-count // spec.most)), count + 2) if gcd(k, season) == 1)
    return Thinning(max(1, -(-2 * count // (season * spec.most))), other)


def _weights(spec: Closed, source: Source, span: Span, series: Int[Tensor, " n"], thin: Thinning) -> Float[Tensor, "n row"]:
    """Weight of each row as an origin, 0 for those that cannot be one: windows that end where the series ends in its season
    carry `spec.phase` of it together."""
    fair: Bool[Tensor, "n row"] = usable(source, span, series)
    season = source.panel.clock.season
    end = source.ends[series, None]
    back = end - torch.arange(fair.shape[1])
    whole = back % season == 0
    kept = fair & torch.where(whole, (back // season + series[:, None]) % thin.phase == 0, (back + series[:, None]) % thin.other == 0)
    if isinstance(spec, SeasonalRidge):
        kept = kept & (back % spec.every == 0)
    weight = kept.to(source.panel.values.dtype)
    inside, outside = (kept & whole).sum(1, keepdim=True), (kept & ~whole).sum(1, keepdim=True)
    phase = spec.phase if isinstance(spec, Ridge) else 0.0
    ratio = phase / (1 - phase) * outside / inside.clamp(min=1)
    return torch.where(kept & whole & (season > 1) & (phase > 0) & (outside > 0), ratio.to(weight.dtype), weight)


def _offset(net: Net, source: Source, span: Span, who: Members) -> Float[Tensor, "member horizon target level"]:
    """How far the levels lie from the point: quantiles of the stop part's errors before the refit."""
    shape, dtype = net.shape, source.panel.values.dtype
    gaps = []
    for piece in _pieces(Ridge(phase=0, most=PIECE * max(1, shape.members)), source, span, who):
        batch = _read(source, piece)
        gap = batch.goal - net(*batch[:4])[..., 0]
        gaps.append(torch.where((piece.weight[..., None, None] > 0) & batch.seen, gap, torch.nan))
    if not gaps or not shape.levels:
        return net.offset
    probs = torch.tensor(who.levels, dtype=dtype)
    return torch.cat(gaps, 1).nanquantile(probs, dim=1).movedim(0, -1).nan_to_num(0.0)
