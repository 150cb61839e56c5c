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
from torch.nn import functional as F

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
        self.parts = self._parts()
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
        """[.., horizon, target, 1 + level]. The features of known channels are not laid out: what they add is a product with the future."""
        level, rest = self.levels(past, observed)
        wide = rest.shape[:2]
        of_level, of_known, of_both = self.weight.split([LEVELS, self.shape.known, self.shape.known], 2)
        point = level + self.bias[:, None, None] + (rest * of_level[:, None, None]).sum(-1)
        maps = torch.cat([of_known, of_both], 1).mT  # [member, known, 2 · target]
        told = (future.flatten(1, 2) @ maps).unflatten(1, (wide[1], -1)) - (self._usual(past, observed).flatten(1, 2) @ maps)[:, :, None]
        plain, scaled = told.split(self.shape.targets, -1)
        point = point + plain + scaled * level
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
        level, rest = self.levels(past, observed)
        known = (future - self._usual(past, observed))[:, :, :, None]
        both = torch.cat([known.expand(-1, -1, -1, self.shape.targets, -1), known * level[..., None]], -1)
        return Inputs(torch.cat([rest, both], -1), level)

    def levels(
        self, past: Float[Tensor, "member example context feature"], observed: Bool[Tensor, "member example context feature"]
    ) -> tuple[Float[Tensor, "member example 1 target"], Float[Tensor, "member example horizon target level"]]:
        """The level and the five features that do not come from known channels. All are means over parts of the window: two products."""
        season, targets = self.spec.season or 1, self.shape.targets
        goal, seen = (one[..., :targets].movedim(-1, 2) for one in (past, observed))
        parts = self.parts.to(goal)
        count = seen.to(goal) @ parts
        mean = (torch.where(seen, goal, 0.0) @ parts) / count.clamp(min=1)
        level = mean[..., :1]
        near, half, whole = (torch.where(count > 0, mean, level) - level)[..., 1:].split([2, season, season], -1)
        place = torch.arange(self.shape.horizon, device=past.device) % season
        flat = torch.cat([level, near], -1)[..., None, :].expand(*level.shape[:-1], len(place), -1)
        rest = torch.cat([flat, half[..., place, None], whole[..., place, None]], -1)
        return level.movedim(-1, 2), rest.movedim(2, 3)

    def _parts(self) -> Float[Tensor, "context part"]:
        """Which steps each mean is over: half the seasons, the last season, all seasons; then each place in the season, the step after
        the last one first, over half of them and over all. No step, where the context is shorter than a season."""
        context, season = self.shape.context, self.spec.season or 1
        back = torch.arange(context, 0, -1)[:, None]
        place = (-back) % season == torch.arange(season)
        lately = [back <= steps for steps in (self.spans[0], min(season, context), self.spans[1])]
        same = [place & (back <= steps) & (context >= season) for steps in self.spans]
        return torch.cat([*lately, *same], 1).double()

    @property
    def spans(self) -> tuple[int, int]:
        """Steps of half the seasons and of all, whole seasons where the context holds one."""
        season, context = self.spec.season or 1, self.shape.context
        fit = max(1, min(self.spec.seasons, context // season))
        return min(context, max(1, fit // 2) * season), min(context, fit * season)

    def _usual(self, past: Tensor, observed: Tensor) -> Float[Tensor, "member example 1 known"]:
        """What known channels count from: their mean over the level's span if measured, 0 if the clock decides them."""
        half, first, measured = self.spans[0], self.shape.features - self.shape.known, self.shape.known - self.shape.clocked
        part = slice(first, first + measured)
        mean = _mean(past[:, :, -half:, part], observed[:, :, -half:, part], 2)
        return F.pad(mean, (0, self.shape.clocked))

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


def _mean(values: Tensor, seen: Tensor, axis: int) -> Tensor:
    """Of what was observed along an axis, which stays as one; 0 where nothing was."""
    return torch.where(seen, values, 0.0).sum(axis, keepdim=True) / seen.sum(axis, keepdim=True).clamp(min=1)
