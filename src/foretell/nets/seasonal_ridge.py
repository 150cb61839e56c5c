"""SeasonalRidge: a ridge on a handful of seasonal levels and on what is known ahead, one map for every step of the horizon.

For demand: few numbers a series, so that each of thousands may have its own. Hoerl & Kennard (1970),
doi:10.1080/00401706.1970.10488634, on features that planners know; everything is relative to the level of the last seasons.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Generator, Tensor, nn

from ..spec import Spec
from .layers import Shape
from .ridge import Moments, Solution

LEVELS = 5  # features that do not come from known channels


class SeasonalRidge(Spec):
    """Forecast = level + map(features). The level is the mean of half of the last `seasons` seasons; features are the level itself, how
    far the last season and all `seasons` lie from it, how far the same place in the season does over each of these spans,
    and every known channel ahead, alone and times the level. Measured known channels count from their own recent mean (a
    price, from what it was). λ is chosen on the stop part if `penalties` names several (relative to inputs of variance 1).

    `season` in steps; None takes the clock's. Every `every`-th origin is used: neighbours say nearly the same.
    """

    season: int | None = Field(default=None, ge=1)
    seasons: int = Field(default=8, ge=1)
    penalties: tuple[float, ...] = Field(default=(0.3,), min_length=1)
    every: int = Field(default=5, ge=1)
    most: int = Field(default=100_000, ge=1)

    def build(self, shape: Shape, streams: Sequence[Generator]) -> "SeasonalRidgeNet":
        """A map of zeros: the level repeated."""
        return SeasonalRidgeNet(self, shape)


class Inputs(NamedTuple):
    """What the map reads for every step ahead, and the level it starts from."""

    features: Float[Tensor, "member example horizon target input"]
    level: Float[Tensor, "member example 1 target"]


class SeasonalRidgeNet(nn.Module):
    """Weights are buffers: they are solved for, never trained. `offset` holds the levels' distance from the point."""

    weight: Float[Tensor, "member target input"]
    bias: Float[Tensor, "member target"]
    offset: Float[Tensor, "member horizon target level"]

    def __init__(self, spec: SeasonalRidge, shape: Shape) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.register_buffer("weight", torch.zeros(shape.members, shape.targets, self.inputs))
        self.register_buffer("bias", torch.zeros(shape.members, shape.targets))
        self.register_buffer("offset", torch.zeros(shape.members, shape.horizon, shape.targets, shape.levels))

    @property
    def inputs(self) -> int:
        """How many inputs the map has."""
        return LEVELS + 2 * self.shape.known

    @property
    def lean(self) -> Bool[Tensor, " input"]:
        """Every input stays: past-only channels are never read."""
        return torch.ones(self.inputs, dtype=torch.bool)

    @property
    def maps(self) -> tuple[int, int]:
        """How many maps are solved for, and the outputs of each: one a member and target."""
        return self.shape.members * self.shape.targets, 1

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: object = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """[.., horizon, target, 1 + level]."""
        read = self.read(past, observed, future)
        point = read.level + self.bias[:, None, None] + (read.features * self.weight[:, None, None]).sum(-1)
        return torch.cat([point[..., None], point[..., None] + self.offset[:, None]], -1)

    def penalty(self) -> Float[Tensor, " member"]:
        """Nothing to add to a loss: the penalty is in the solution."""
        return self.bias.new_zeros(self.shape.members)

    def read(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
    ) -> Inputs:
        """The features of every step ahead. What was not observed counts for nothing; where nothing was, a feature is 0."""
        shape, (half, whole) = self.shape, self.spans
        season = self.spec.season or 1
        goal, seen = past[..., : shape.targets], observed[..., : shape.targets]
        level = _mean(goal[:, :, -half:], seen[:, :, -half:], 2)
        near = [_mean(goal[:, :, -steps:], seen[:, :, -steps:], 2, level) - level for steps in (min(season, shape.context), whole)]
        place = torch.arange(shape.horizon, device=past.device) % season
        same = [(_by_place(goal[:, :, -steps:], seen[:, :, -steps:], season, level) - level)[:, :, place] for steps in (half, whole)]
        flat = [one.expand(-1, -1, shape.horizon, -1) for one in (level, *near)]
        known = (future - self._usual(past, observed))[:, :, :, None]
        both = torch.cat([known.expand(-1, -1, -1, shape.targets, -1), known * level[..., None]], -1)
        return Inputs(torch.cat([torch.stack([*flat, *same], -1), both], -1), level)

    @property
    def spans(self) -> tuple[int, int]:
        """Steps of half the seasons and of all, whole seasons where the context holds one."""
        season, context = self.spec.season or 1, self.shape.context
        fit = max(1, min(self.spec.seasons, context // season))
        return min(context, max(1, fit // 2) * season), min(context, fit * season)

    def _usual(self, past: Tensor, observed: Tensor) -> Float[Tensor, "member example 1 known"]:
        """What known channels count from: their mean over the level's span if measured, 0 if the clock decides them."""
        half, first = self.spans[0], self.shape.features - self.shape.known
        mean = _mean(past[:, :, -half:, first:], observed[:, :, -half:, first:], 2)
        measured = torch.arange(self.shape.known, device=past.device) < self.shape.known - self.shape.clocked
        return torch.where(measured, mean, 0.0)

    def moments(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        goal: Float[Tensor, "member example horizon target"],
        seen: Bool[Tensor, "member example horizon target"],
        weight: Float[Tensor, "member example"],
    ) -> Moments:
        """Of one piece of windows: each observed step ahead is a row of its target's map."""
        read = self.read(past.double(), observed, future.double())
        x = torch.cat([read.features, torch.ones_like(read.features[..., :1])], -1).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)
        y = (goal.double() - read.level).permute(0, 3, 1, 2).flatten(2).flatten(0, 1)[..., None]
        w = (weight[..., None, None] * seen).double().permute(0, 3, 1, 2).flatten(2).flatten(0, 1)[..., None]
        xw = x * w
        return Moments(xw.mT @ x, xw.mT @ y, (y.square() * w).sum(1))

    def solved(self, found: Solution) -> dict[str, Tensor]:
        """A solution as this net's weights."""
        size = (self.shape.members, self.shape.targets)
        return {"weight": found.weight[..., 0].unflatten(0, size), "bias": found.bias[..., 0].unflatten(0, size)}


def _mean(values: Tensor, seen: Tensor, axis: int, empty: Tensor | None = None) -> Tensor:
    """Of what was observed along an axis, which stays as one; `empty`, or 0, where nothing was."""
    count = seen.sum(axis, keepdim=True)
    mean = torch.where(seen, values, 0.0).sum(axis, keepdim=True) / count.clamp(min=1)
    return mean if empty is None else torch.where(count > 0, mean, empty)


def _by_place(values: Tensor, seen: Tensor, season: int, empty: Tensor) -> Float[Tensor, "member example season target"]:
    """Mean at each place of the season, the step after the last one first."""
    if values.shape[2] < season:
        return empty.expand(-1, -1, season, -1)
    folded, held = (x.unflatten(2, (-1, season)) for x in (values, seen))
    return _mean(folded, held, 2, empty[:, :, None])[:, :, 0]
