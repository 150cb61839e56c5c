"""Graph: which series follow which, after how many steps and how strongly; given by the user, or learned from a training cut."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from .errors import TaskError
from .frames import to_frame
from .nets.graph_lstm import Edge
from .panel import Panel, positions

WORD = "neighbour"
BLOCK = 2**26  # products of residuals held at once: half a gigabyte
CLIPPED = 4.0  # deviations at which a residual is cut: one spike must not make an edge
LEAST = 30  # steps that two series have in common, at least
FIRM = 1e-3  # of a regressor's variance, added so that two neighbours that move together still have a solution


@dataclass(frozen=True, eq=False)
class Graph:
    """Row i holds whom series i follows, the strongest first: `neighbour` is its place in `series`, −1 for none; `weight` is what i takes
    over from it after 1, 2 … steps, in deviations of i for a deviation of the neighbour; `score` how far the strongest of its
    lagged correlations stands above 0, in standard errors (NaN where the edge was given)."""

    target: str
    series: tuple[str, ...]
    neighbour: Int[Tensor, "series slot"]
    weight: Float[Tensor, "series slot lag"]
    score: Float[Tensor, "series slot"]

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels in which a series finds its neighbours' past."""
        return tuple(f"{WORD} {slot}" for slot in range(1, self.neighbour.shape[1] + 1))

    @property
    def reach(self) -> int:
        """How many steps back an edge can act."""
        return self.weight.shape[2]

    def __len__(self) -> int:
        """How many edges there are."""
        return int((self.neighbour >= 0).sum())

    def __repr__(self) -> str:
        return f"Graph({len(self)} edges between {len(self.series)} series, after 1 … {self.reach} steps)"

    def names(self, series: str) -> tuple[str, ...]:
        """Whom this series follows, by slot."""
        row = self.neighbour[positions([series], self.series, "series")[0]]
        return tuple(self.series[i] for i in row.tolist() if i >= 0)

    def frame(self) -> Any:
        """The edges as a table: unique_id, neighbour, lag (the strongest, in steps), weight (its sum over lags), score."""
        return to_frame(self.columns(), "polars")

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `frame()`, the strongest edges first."""
        at, slot = (self.neighbour >= 0).nonzero(as_tuple=True)
        weight, score, names = self.weight[at, slot], self.score[at, slot], np.array(self.series, dtype=object)
        order = weight.abs().sum(1).argsort(descending=True, stable=True)
        at, slot, weight, score = at[order], slot[order], weight[order], score[order]
        return {
            "unique_id": names[at.numpy()],
            WORD: names[self.neighbour[at, slot].numpy()],
            "lag": (weight.abs().argmax(1) + 1).numpy() if len(weight) else np.zeros(0, dtype=np.int64),
            "weight": weight.sum(1).numpy(),
            "score": score.numpy(),
        }

    def widened(self, panel: Panel) -> Panel:
        """The panel with a channel a slot: the neighbour's target at the same moment; NaN for none, and for one that is not in the panel.
        A panel that has these channels already is left as it is."""
        if not self.channels or self.channels[0] in panel.channels:
            return panel
        place = {name: i for i, name in enumerate(panel.series)}
        row = {name: i for i, name in enumerate(self.series)}
        known = torch.tensor([row.get(name, -1) for name in panel.series], dtype=torch.long)
        theirs = torch.tensor([*(place.get(name, -1) for name in self.series), -1], dtype=torch.long)  # the last is nobody
        who = theirs[torch.where(known[:, None] >= 0, self.neighbour[known], -1)]
        line, width = panel.channel(self.target), panel.values.shape[1]
        found = []
        for one in who.unbind(1):
            at = torch.arange(width) + (panel.start - panel.start[one])[:, None]
            inside = (at >= 0) & (at < width) & (one >= 0)[:, None]
            found.append(line[one[:, None], at.clamp(0, max(0, width - 1))].masked_fill(~inside, torch.nan))
        own = len(panel.own)
        channels = panel.channels[:own] + self.channels + panel.channels[own:]
        return replace(panel, values=torch.cat([panel.values, torch.stack(found, -1)], -1), channels=channels)

    def absent(self, panel: Panel) -> tuple[str, ...]:
        """Neighbours of the panel's series that are not in it."""
        wanted = {other for name in panel.series if name in self.series for other in self.names(name)}
        return tuple(name for name in self.series if name in wanted and name not in panel.series)


class Lines(NamedTuple):
    """Every series of a training cut on one clock: `level` its deviation from its usual value at each place in the season, in deviations
    of the whole series; `news` what its own past does not explain of that, in deviations of its own. 0 where not observed."""

    level: Float[Tensor, "series step"]
    news: Float[Tensor, "series step"]
    seen: Bool[Tensor, "series step"]
    reach: int

    @classmethod
    def of(cls, panel: Panel, target: str, reach: int) -> Self:
        """Prewhitened by an autoregression of order `reach`, each series for itself (Haugh 1976, doi 10.1080/01621459.1976.10480353)."""
        first, width = int(panel.start.min()), panel.values.shape[1]
        raw = panel.channel(target).double()
        whole = raw.new_full((len(panel), int(panel.start.max()) - first + width), torch.nan)
        whole.scatter_(1, (panel.start - first)[:, None] + torch.arange(width), raw)
        seen = whole.isfinite()
        level = _deseasoned(whole, seen, panel.clock.season) / _spread(whole, seen)
        # Some series at a time: their own pasts at every lag weigh so many times the panel.
        news = torch.cat([_own_news(part, reach) for part in level.split(max(1, BLOCK // max(1, 8 * reach * level.shape[1])))]).masked_fill(~seen, 0.0)
        news = news / news.square().sum(1, keepdim=True).div(seen.sum(1, keepdim=True).clamp(min=1)).sqrt().clamp(min=1e-12)
        return cls(level, news.clamp(-CLIPPED, CLIPPED), seen, reach)


def learned(panel: Panel, target: str, *, most: int, reach: int, chance: float = 0.05) -> Graph:
    """The graph of a panel that holds the training cut and nothing else: each series follows at most `most` others.

    For every series the lagged news of another that correlates most with its own news becomes an edge, is regressed out, and the next
    is sought, as long as it stands out of what chance would give (orthogonal matching pursuit; Pati, Rezaiifar & Krishnaprasad 1993,
    doi 10.1109/ACSSC.1993.342465). The weights are then fitted together, beside the series' own past.
    """
    lines = Lines.of(panel, target, reach)
    found = [_searched(lines, rows, most, chance) for rows in _groups(lines, reach)]
    source, lag, score = (torch.cat(parts) for parts in list(zip(*found, strict=True))[:3])
    edges, told = [], dict[tuple[int, int], float]()
    for at, pick in (source >= 0).nonzero().tolist():
        other = int(source[at, pick])
        edges.append(Edge(panel.series[at], panel.series[other], int(lag[at, pick])))
        told[at, other] = max(told.get((at, other), 0.0), float(score[at, pick]))
    made = given(panel, target, edges, reach=reach, lines=lines)
    heard = [[told.get((at, other), torch.nan) for other in row] for at, row in enumerate(made.neighbour.tolist())]
    return replace(made, score=torch.tensor(heard, dtype=torch.float64).view(made.neighbour.shape))


def given(panel: Panel, target: str, edges: Sequence[Edge], *, reach: int, lines: Lines | None = None) -> Graph:
    """The graph of edges that are told; what is left open of their lags and weights is fitted on the panel, which holds the training cut."""
    lines = lines or Lines.of(panel, target, reach)
    place = {name: i for i, name in enumerate(panel.series)}
    picks: list[dict[int, dict[int, float]]] = [{} for _ in panel.series]
    for edge in edges:
        at, other = positions([edge.series, edge.neighbour], panel.series, "series of an edge")
        if at == other:
            raise TaskError(f'an edge leads from "{edge.series}" to itself: a series reads its own past anyway; leave it out')
        if edge.lag > reach:
            raise TaskError(f'the edge "{edge.neighbour}" → "{edge.series}" acts after {edge.lag} steps, and reach={reach}: give a larger reach')
        lags = [edge.lag] if edge.lag else range(1, reach + 1)
        told = torch.nan if edge.weight is None else edge.weight / len(lags)
        picks[at].setdefault(other, {}).update(dict.fromkeys(lags, told))
    slots = max((len(one) for one in picks), default=0)
    neighbour, weight = torch.full((len(place), slots), -1), torch.zeros(len(place), slots, reach, dtype=torch.float64)
    for at, one in enumerate(picks):
        fitted = _weights(lines, at, one)
        order = sorted(one, key=lambda other: -sum(abs(w) for w in fitted[other].values()))
        for slot, other in enumerate(order):
            neighbour[at, slot] = other
            for lag, value in fitted[other].items():
                weight[at, slot, lag - 1] = value
    return Graph(target, panel.series, neighbour, weight, torch.full(neighbour.shape, torch.nan, dtype=torch.float64))


def scores(panel: Panel, target: str, *, most: int, reach: int, chance: float = 0.05) -> Float[Tensor, "series source"]:
    """For every pair how strongly the second foretells the first, in standard errors: an edge that `learned` takes as it was when taken, any
    other by what is left of it once those are regressed out. What a list of known edges is compared with."""
    lines = Lines.of(panel, target, reach)
    every = []
    for rows in _groups(lines, reach):
        found = _searched(lines, rows, most, chance)
        taken = torch.zeros(len(rows), len(panel) + 1, dtype=torch.float64)
        taken.scatter_reduce_(1, found.source.where(found.source >= 0, len(panel)), found.score, "amax")
        every.append(torch.maximum(found.left, taken[:, :-1]))
    return torch.cat(every)


class Searched(NamedTuple):
    """The picks of some series, −1 for none: a neighbour, after how many steps, its score; and what is left of every pair."""

    source: Int[Tensor, "n pick"]
    lag: Int[Tensor, "n pick"]
    score: Float[Tensor, "n pick"]
    left: Float[Tensor, "n source"]


def _searched(lines: Lines, rows: Int[Tensor, " n"], most: int, chance: float) -> Searched:
    """Picks one lag of one neighbour after another; a neighbour may be picked again at another lag."""
    series, reach, picks = len(lines.news), lines.reach, 2 * most
    limit = float(torch.special.ndtri(torch.tensor(1 - chance / 2 / max(1, (series - 1) * reach), dtype=torch.float64)))
    source, lag = torch.full((len(rows), picks), -1), torch.zeros(len(rows), picks, dtype=torch.long)
    score, open_ = torch.zeros(len(rows), picks, dtype=torch.float64), torch.ones(len(rows), series, reach, dtype=torch.bool)
    left, taken, at = _correlated(lines, lines.news[rows], rows, reach), torch.zeros(len(rows), series, dtype=torch.bool), torch.arange(len(rows))
    for pick in range(picks):
        full = taken.sum(1) >= most
        value, place = (left * (open_ & (taken | ~full[:, None])[..., None])).flatten(1).max(1)
        firm = value > limit
        if not bool(firm.any()):
            break
        one, step = place // reach, place % reach
        source[:, pick], lag[:, pick], score[:, pick] = torch.where(firm, one, -1), torch.where(firm, step + 1, 0), value * firm
        taken[at[firm], one[firm]], open_[at, one, step] = True, False
        left = _correlated(lines, _without(lines, rows, source[:, : pick + 1], lag[:, : pick + 1]), rows, reach)
    return Searched(source, lag, score, left.amax(-1))


def _correlated(lines: Lines, news: Float[Tensor, "n step"], rows: Int[Tensor, " n"], reach: int) -> Float[Tensor, "n source lag"]:
    """Size of the correlation of these news with everybody's news 1 … `reach` steps before, in standard errors; 0 with themselves."""
    width = news.shape[1]
    both = lines.seen[rows].double() @ lines.seen.double().T
    size = news.square().sum(1).div(lines.seen[rows].sum(1).clamp(min=1)).sqrt().clamp(min=1e-12)
    sums = torch.stack([news[:, lag:] @ lines.news[:, : width - lag].T for lag in range(1, reach + 1)], -1)
    found = sums.abs() / size[:, None, None] / both.clamp(min=1).sqrt()[..., None]
    found = found.masked_fill((both < LEAST)[..., None], 0.0)
    found[torch.arange(len(rows)), rows] = 0
    return found


def _own_news(level: Float[Tensor, "n step"], reach: int) -> Float[Tensor, "n step"]:
    """What is left of each series once its own past at 1 … `reach` steps is regressed out."""
    own = torch.stack([_later(level, lag) for lag in range(1, reach + 1)], -1)
    return level - (own @ _regressed(own, level)[..., None])[..., 0]


def _without(lines: Lines, rows: Int[Tensor, " n"], source: Int[Tensor, "n pick"], lag: Int[Tensor, "n pick"]) -> Float[Tensor, "n step"]:
    """The news of some series with what their picks explain taken out."""
    steps = torch.arange(lines.news.shape[1]) - lag[..., None]
    taken = lines.news[source.clamp(min=0)].gather(2, steps.clamp(min=0)) * ((steps >= 0) & (source >= 0)[..., None])
    news, told = lines.news[rows], taken.mT
    return (news - (told @ _regressed(told, news)[..., None])[..., 0]).masked_fill(~lines.seen[rows], 0.0)


def _weights(lines: Lines, at: int, picks: dict[int, dict[int, float]]) -> dict[int, dict[int, float]]:
    """Weights as told; where none is, fitted together beside the series' own past."""
    reach = lines.reach
    open_ = [(other, lag) for other, lags in picks.items() for lag, weight in lags.items() if weight != weight]
    if not open_:
        return picks
    own = [_later(lines.level[at], lag) for lag in range(1, reach + 1)]
    told = torch.stack([*(_later(lines.level[other], lag) for other, lag in open_), *own], -1)
    fitted = _regressed((told * lines.seen[at][:, None])[None], lines.level[at][None])[0, : len(open_)].tolist()
    found = {other: dict(lags) for other, lags in picks.items()}
    for (other, lag), value in zip(open_, fitted, strict=True):
        found[other][lag] = value
    return found


def _regressed(told: Float[Tensor, "n step regressor"], line: Float[Tensor, "n step"]) -> Float[Tensor, "n regressor"]:
    """Least squares, a little drawn to 0."""
    spread = told.mT @ told
    size = torch.eye(told.shape[-1], dtype=told.dtype) * (FIRM * spread.diagonal(dim1=1, dim2=2)[..., None] + 1e-9)
    solved: Tensor = torch.linalg.solve(spread + size, told.mT @ line[..., None])
    return solved[..., 0]


def _groups(lines: Lines, reach: int) -> Sequence[Int[Tensor, " n"]]:
    """The series, so many at a time that the correlations with all others are held at once."""
    every = torch.arange(len(lines.news))
    groups: tuple[Tensor, ...] = every.split(max(1, BLOCK // max(1, len(every) * reach)))
    return groups


def _later(x: Float[Tensor, "*series step"], lag: int) -> Float[Tensor, "*series step"]:
    """What stood so many steps before; 0 before the first."""
    moved: Tensor = F.pad(x, (lag, 0))[..., : x.shape[-1]]
    return moved


def _deseasoned(x: Float[Tensor, "series step"], seen: Bool[Tensor, "series step"], season: int) -> Float[Tensor, "series step"]:
    """Less its mean at each place in the season; 0 where not observed."""
    pad = -x.shape[1] % season
    values, marks = (F.pad(v, (0, pad)).unflatten(1, (-1, season)) for v in (x.masked_fill(~seen, 0.0), seen.double()))
    mean = values.sum(1, keepdim=True) / marks.sum(1, keepdim=True).clamp(min=1)
    left: Tensor = ((values - mean) * marks).flatten(1)[:, : x.shape[1]]
    return left


def _spread(x: Float[Tensor, "series step"], seen: Bool[Tensor, "series step"]) -> Float[Tensor, "series 1"]:
    """Deviation of what was observed; 1 for a series that never moves."""
    count = seen.sum(1, keepdim=True).clamp(min=1)
    values = x.masked_fill(~seen, 0.0)
    mean = values.sum(1, keepdim=True) / count
    spread = ((values - mean).square() * seen).sum(1, keepdim=True).div(count).sqrt()
    return torch.where(spread > 1e-9, spread, 1.0)
