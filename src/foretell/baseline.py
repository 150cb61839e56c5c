"""The honest neighbours: seasonal naive, drift and moving average, in the interface of a net."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Generator, Tensor, nn

from .nets.layers import Shape
from .nets.seasonal_ridge import SeasonalRidge
from .spec import Spec

Past = Float[Tensor, "member example context feature"]


class SeasonalNaive(Spec):
    """The last season again: hour for hour, weekday for weekday. `season` in steps; None takes the clock's."""

    season: int | None = Field(default=None, ge=1)

    def build(self, shape: Shape, streams: Sequence[Generator]) -> nn.Module:
        """A net without weights."""
        return Plain(self, shape)

    def __call__(self, past: Tensor, horizon: int) -> Tensor:
        season = self.season or 1
        ahead = torch.arange(horizon) % season
        return past[:, :, past.shape[2] - season + ahead]


class Drift(Spec):
    """The straight line from the first to the last step of the context, continued."""

    def build(self, shape: Shape, streams: Sequence[Generator]) -> nn.Module:
        """A net without weights."""
        return Plain(self, shape)

    def __call__(self, past: Tensor, horizon: int) -> Tensor:
        slope = (past[:, :, -1:] - past[:, :, :1]) / max(1, past.shape[2] - 1)
        return past[:, :, -1:] + slope * torch.arange(1, horizon + 1, dtype=past.dtype)[:, None]


class MovingAverage(Spec):
    """The mean of the last `window` steps; None takes one season of the clock."""

    window: int | None = Field(default=None, ge=1)

    def build(self, shape: Shape, streams: Sequence[Generator]) -> nn.Module:
        """A net without weights."""
        return Plain(self, shape)

    def __call__(self, past: Tensor, horizon: int) -> Tensor:
        return past[:, :, -(self.window or 1) :].mean(2, keepdim=True).expand(-1, -1, horizon, -1)


Simple = SeasonalNaive | Drift | MovingAverage
Seasonal = Simple | SeasonalRidge


class Plain(nn.Module):
    """A rule on the targets' past; every level slot repeats the point."""

    def __init__(self, rule: Simple, shape: Shape) -> None:
        super().__init__()
        self.rule, self.shape = rule, shape

    def forward(
        self, past: Past, observed: Bool[Tensor, "member example context feature"], future: Tensor, static: Tensor, noise: None = None
    ) -> Float[Tensor, "member example horizon target slot"]:
        """[.., horizon, target, 1 + level]."""
        point = self.rule(past[..., : self.shape.targets], self.shape.horizon)
        return point[..., None].expand(*point.shape, 1 + self.shape.levels)


def with_season(rule: Seasonal, season: int) -> Seasonal:
    """The rule with the clock's season where the user left it open."""
    if isinstance(rule, SeasonalNaive | SeasonalRidge) and rule.season is None:
        return rule.model_copy(update={"season": season})
    if isinstance(rule, MovingAverage) and rule.window is None:
        return rule.model_copy(update={"window": season})
    return rule


def steps_needed(rule: Seasonal) -> int:
    """The shortest context the rule can work with; of a SeasonalRidge, that which shows it every season it averages."""
    match rule:
        case SeasonalNaive():
            return rule.season or 1
        case SeasonalRidge():
            return rule.seasons * (rule.season or 1)
        case MovingAverage():
            return rule.window or 1
    return 2
