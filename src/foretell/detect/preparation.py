"""Preparation: from the rows of a run to what a method sees; fitted once on the normal runs, never on what is scored."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import pad

from ..errors import DataError, TaskError, nearest
from ..spec import Spec
from ..transform.scale import Affine, Scale, fit_scale
from .features import STATISTICS, Statistic, aggregate, difference, filled, lagged, median, smooth, without_median

Rows = Float[Tensor, "time channel"]
Piece = Float[Tensor, "_ channel"]  # one of several, each of its own length
LIKE = 4  # channels of one name pattern that may be a group
NEAR = 0.1  # their levels differ from the group's by at most this share …
OWN, MOST = 0.2, 0.9  # … or at most this share of the movement is a channel's own, for so many of them
OTHER_UNITS = 30.0  # times the largest value of training


class Preparation(Spec):
    """How rows are prepared. `groups`: patterns of channel names ("M??CV??"); each group loses its own median at every time and shares
    one scale; "auto" finds groups of equally named channels that move or stand together; () for none.

    `aggregate` rows become one by each of `statistics`. Then x[t] − x[t − `lag`], `order` differences, `absolute` values, a mean
    over `smooth` rows, `lags` earlier values as further features; `scale`; and with `components` the first principal
    components instead of the channels. A missing value is the last one seen up to `fill` rows ago, then the usual one with no error
    of its own (`gaps="fill"`), or makes every window that touches it unscored (`gaps="skip"`); "keep" leaves it to the method.
    """

    groups: Literal["auto"] | tuple[str, ...] = "auto"
    aggregate: int = Field(default=1, ge=1)
    statistics: tuple[Statistic, ...] = ("mean",)
    lag: int = Field(default=0, ge=0)
    order: int = Field(default=0, ge=0, le=4)
    absolute: bool = False
    smooth: int = Field(default=0, ge=0)
    lags: int = Field(default=0, ge=0)
    scale: Literal["standard", "robust", "minmax"] = "standard"
    components: int = Field(default=0, ge=0)
    fill: int = Field(default=10, ge=0)
    gaps: Literal["fill", "skip", "keep"] = "fill"

    @field_validator("statistics")
    @classmethod
    def _some(cls, value: tuple[Statistic, ...]) -> tuple[Statistic, ...]:
        if not value:
            raise ValueError(f"must name one or more of {', '.join(STATISTICS)}")
        return value

    @property
    def back(self) -> int:
        """Rows of aggregates before a row that its features depend on."""
        return self.lag + self.order + max(0, self.smooth - 1) + self.lags + self.fill


class Group(NamedTuple):
    """Like sensors: the pattern of their names and their places among the channels kept."""

    pattern: str
    members: tuple[int, ...]


class Ready(NamedTuple):
    """A run as a method sees it. `x` has no NaN but in rows to be skipped; `features` are before the components; `observed` rows had
    values; `first` is the clock step of the first row."""

    x: Float[Tensor, "time variable"]
    features: Float[Tensor, "time feature"]
    missing: Bool[Tensor, "time feature"]
    observed: Bool[Tensor, " time"]
    first: int = 0


@dataclass(frozen=True, eq=False)
class Prepared:
    """A preparation with what it learned: channels kept and dropped, groups, scale, components; `owner` is each feature's channel."""

    spec: Preparation
    channels: tuple[str, ...]
    dropped: tuple[str, ...]
    groups: tuple[Group, ...]
    scale: Affine
    owner: Int[Tensor, " feature"]
    low: Float[Tensor, " channel"]
    high: Float[Tensor, " channel"]
    axes: Float[Tensor, "component feature"]
    explained: Float[Tensor, " component"]

    @property
    def variables(self) -> int:
        """Width of what a method sees."""
        return len(self.axes) or len(self.owner)

    def apply(self, rows: Rows, first: int = 0) -> Ready:
        """A run's kept channels [time, channel], NaN where missing, from clock step `first` on."""
        features = self.scale.apply(features_of(self.spec, rows, self.groups)[None], torch.zeros(1, dtype=torch.long))[0]
        missing = features.isnan()
        seen = (~rows.isnan()).any(1)
        observed = pad(seen, (0, -len(seen) % self.spec.aggregate)).view(-1, self.spec.aggregate).any(1)
        usual = torch.where(missing, 0.0, features)
        x = features if self.spec.gaps == "keep" else usual @ self.axes.T if len(self.axes) else usual
        bad = missing.any(1) if self.spec.gaps == "skip" else missing.all(1)
        return Ready(x.masked_fill(bad[:, None], torch.nan), usual, missing, observed, first)

    def back_to_features(self, x: Float[Tensor, "time variable"]) -> Float[Tensor, "time feature"]:
        """Components → scaled features; without components, x."""
        return x @ self.axes if len(self.axes) else x

    def strange_units(self, rows: Rows) -> list[str]:
        """A sentence for each channel, three at most, that lies far outside of what was seen in training."""
        reach = torch.maximum(self.low.abs(), self.high.abs())
        usual = median(rows.abs().T)
        far = (usual > OTHER_UNITS * reach) & (reach > 0)
        small = (usual < reach / OTHER_UNITS / 10) & (torch.minimum(self.low.abs(), self.high.abs()) > reach / 3) & (usual > 0)
        said = []
        for at in (far | small).nonzero()[:, 0].tolist()[:3]:
            span, now = f"{float(self.low[at]):.4g} … {float(self.high[at]):.4g}", float(usual[at])
            factor = 10.0 ** round(torch.log10(usual[at] / reach[at]).item())
            said.append(f'channel "{self.channels[at]}" is about {now:.4g}, in training it was {span}: out of range, other units by a factor of {factor:,g}?')
        more = int((far | small).sum()) - len(said)
        return [*said, f"and {more} more channels out of range"] if more > 0 else said


def features_of(spec: Preparation, rows: Rows, groups: Sequence[Group]) -> Float[Tensor, "interval feature"]:
    """The features before scaling, NaN where a row has none."""
    x = without_median(filled(rows, spec.fill), [g.members for g in groups])
    x = difference(aggregate(x, spec.aggregate, spec.statistics), spec.order, spec.lag)
    x = x.abs() if spec.absolute else x
    return lagged(smooth(x, spec.smooth), spec.lags)


def fit_preparation(spec: Preparation, runs: Sequence[Piece], channels: Sequence[str], *, constant: bool = False) -> Prepared:
    """What is learned of the normal runs [time, channel]; DataError if no channel is left. Constant ones go, unless `constant` ones are to stay."""
    kept = [at for at in range(len(channels)) if constant or any(_moves(run[:, at]) for run in runs)]
    if not kept:
        raise DataError(f"every channel is constant in the normal runs ({', '.join(channels[:5])}): there is nothing to learn from")
    runs = [run[:, kept] for run in runs]
    names = tuple(channels[at] for at in kept)
    groups = found_groups(runs, names) if spec.groups == "auto" else named_groups(spec.groups, names)
    parts = [features_of(spec, run, groups) for run in runs]
    whole = torch.cat(parts)
    owner = torch.arange(len(names)).repeat(len(spec.statistics) * (spec.lags + 1))
    scale = _shared_scale(fit_scale(spec.scale, whole[None]), spec, whole, groups, owner)
    every = torch.cat(runs)
    low, high = torch.where(every.isnan(), torch.inf, every).amin(0), torch.where(every.isnan(), -torch.inf, every).amax(0)
    scaled = scale.apply(whole[None], torch.zeros(1, dtype=torch.long))[0]
    axes, explained = _components(scaled, spec.components)
    return Prepared(spec, names, tuple(c for c in channels if c not in names), groups, scale, owner, low, high, axes, explained)


def _moves(line: Float[Tensor, " time"]) -> bool:
    seen = line[~line.isnan()]
    return bool(len(seen)) and bool((seen != seen[0]).any())


def named_groups(patterns: Sequence[str], names: Sequence[str]) -> tuple[Group, ...]:
    """The groups of the given patterns; TaskError for a pattern that no two channels match."""
    taken: set[int] = set()
    found = []
    for pattern in patterns:
        members = tuple(at for at, name in enumerate(names) if fnmatchcase(name, pattern) and at not in taken)
        if len(members) < 2:
            raise TaskError(f'the group "{pattern}" matches {len(members)} of the channels, two or more are needed: {nearest(pattern, names)}')
        taken |= set(members)
        found.append(Group(pattern, members))
    return tuple(found)


def found_groups(runs: Sequence[Piece], names: Sequence[str]) -> tuple[Group, ...]:
    """Channels numbered as the sensors of an array are (M01CV07, cell_003: two numbers, or one with a leading zero), whose names differ
    in these alone, and that stand or move together in the normal runs. A plain index (metric7) says nothing of a kind."""
    by: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        if re.search(r"\d\D+\d|(?<!\d)0\d", name) or re.sub(r"\d", "?", name) in by:
            by.setdefault(re.sub(r"\d", "?", name), []).append(at)
    return tuple(Group(pattern, tuple(members)) for pattern, members in by.items() if len(members) >= LIKE and _alike(runs, members))


def _alike(runs: Sequence[Piece], members: Sequence[int]) -> bool:
    """Whether channels stand at the same level, or nine in ten of them move as their median does, by the same amount."""
    parts = [run[:, list(members)] for run in runs]
    means = torch.stack([part.nanmean(0) for part in parts])
    middle = median(means)[:, None]
    if bool(((means - middle).abs() <= NEAR * middle.abs()).all()):
        return True
    line = torch.cat([median(part - part.nanmean(0)) for part in parts])
    own = torch.cat([part - part.nanmean(0) for part in parts])
    both = ~(own.isnan() | line.isnan()[:, None])
    own, line = torch.where(both, own, 0.0), torch.where(both, line[:, None], 0.0)
    slope = (own * line).sum(0) / line.square().sum(0).clamp(min=1e-12)
    rest = (own - line).square().sum(0) / own.square().sum(0).clamp(min=1e-12)
    moves = (rest <= OWN) & (slope > 0.5) & (slope < 2)
    return bool(moves.double().mean() >= MOST)


def _shared_scale(scale: Scale, spec: Preparation, features: Tensor, groups: Sequence[Group], owner: Tensor) -> Affine:
    """A group's features have one centre and width, so that a sensor that always stands apart a little is not excused."""
    assert isinstance(scale, Affine)  # as every kind that a Preparation takes is
    center, width = scale.center.clone(), scale.width.clone()
    for group in groups:
        mine = torch.isin(owner, torch.tensor(group.members))
        for block in range(len(owner) // int(owner.max() + 1)):  # one block a statistic and lag
            at = (mine & (torch.arange(len(owner)) // int(owner.max() + 1) == block)).nonzero()[:, 0]
            one = fit_scale(spec.scale, features[:, at].reshape(1, -1, 1))
            assert isinstance(one, Affine)
            center[0, at], width[0, at] = one.center[0, 0], one.width[0, 0]
    return Affine(center, width)


def _components(scaled: Float[Tensor, "time feature"], count: int) -> tuple[Float[Tensor, "component feature"], Float[Tensor, " component"]]:
    if not count:
        return scaled.new_zeros(0, scaled.shape[1]), scaled.new_zeros(0)
    if count > scaled.shape[1]:
        raise TaskError(f"components={count} of {scaled.shape[1]} features: there cannot be more components than features")
    axes, variance = principal(scaled[~scaled.isnan().any(1)])
    return axes[:count], variance[:count] / variance.sum()


def principal(x: Float[Tensor, "row feature"]) -> tuple[Float[Tensor, "component feature"], Float[Tensor, " component"]]:
    """Principal axes about zero (the usual value), the most variable first, and their variances; of each axis the largest weight is positive."""
    variance, axes = torch.linalg.eigh(x.T @ x / max(1, len(x)))
    axes, variance = axes.flip(1).T, variance.flip(0).clamp(min=0)
    sign = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return axes * sign, variance
