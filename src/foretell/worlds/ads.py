"""The world of advertising (simulated): weekly revenue from a base, a season and media with known saturation and carry-over."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..clock import Clock
from ..errors import TaskError
from ..panel import Panel

NAMES: Final = ("tv", "search", "social", "print", "radio", "video", "display", "email")
YEAR = 52.18  # weeks
BEFORE = 26  # weeks simulated before the first one shown, so that carry-over has begun


@dataclass(frozen=True, eq=False)
class AdsWorld:
    """A simulated advertiser. Revenue of a week = base × season × trend + Σ ceiling · Hill(carried-over spend) + noise.

    `carry` is the share of a week's effect that is left a week later (geometric adstock, normalised so that constant spend
    is carried over as itself); `half` the weekly spend with half the effect, `shape` the Hill exponent, `ceiling` the revenue a
    week that the channel can never exceed. Historic spend follows the season: who regresses on spend alone is fooled.
    """

    panel: Panel  # history: revenue, a channel a medium, holiday; holiday also for the weeks ahead
    media: tuple[str, ...]
    carry: Float[Tensor, " media"]
    half: Float[Tensor, " media"]
    shape: Float[Tensor, " media"]
    ceiling: Float[Tensor, " media"]
    base: Float[Tensor, " horizon"]  # expected revenue without any media, in the weeks to plan
    simulated: bool = True

    @property
    def spend(self) -> Float[Tensor, "time media"]:
        """Historic spend."""
        return torch.stack([self.panel.channel(m)[0, : self.weeks] for m in self.media], -1)

    @property
    def weeks(self) -> int:
        """Weeks of history."""
        return int(self.panel.last("revenue")[0]) + 1

    @property
    def horizon(self) -> int:
        """Weeks to plan."""
        return len(self.base)

    @property
    def usual(self) -> Float[Tensor, "horizon media"]:
        """The historic split: the mean weekly spend of the last year, every week."""
        return self.spend[-52:].mean(0).expand(self.horizon, -1)

    def attributable(self, plan: Float[Tensor, "*plan horizon media"]) -> Float[Tensor, "*plan horizon"]:
        """Expected revenue that is there because of these weeks' media, week by week; what earlier weeks carry over is the base's."""
        return self._media(plan) - self._media(torch.zeros_like(plan))

    def revenue(self, plan: Float[Tensor, "*plan horizon media"]) -> Float[Tensor, "*plan horizon"]:
        """Expected revenue of the planned weeks under this spend."""
        return self.base + self._media(plan)

    def optimum(
        self, budget: float, low: Float[Tensor, "horizon media"], high: Float[Tensor, "horizon media"], *, starts: int = 8, seed: int = 0
    ) -> Float[Tensor, "horizon media"]:
        """The plan that truly earns most: SLSQP on the truth from several starts, the best kept."""
        from scipy.optimize import Bounds, LinearConstraint, minimize

        draw, size = np.random.default_rng(seed), self.horizon * len(self.media)
        unit, floor, ceil = budget / size, low.double().numpy().ravel(), high.double().numpy().ravel()
        if floor.sum() > budget:
            raise TaskError(f"a budget of {budget:,.0f} is below the least that the bounds spend, {floor.sum():,.0f}")

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            plan = torch.from_numpy(x * unit).view(self.horizon, -1).requires_grad_()
            total = self.revenue(plan).sum() / scale
            (slope,) = torch.autograd.grad(total, plan)
            return -float(total.detach()), -slope.numpy().ravel() * unit

        scale = float(self.attributable(self.usual.double()).sum().abs().clamp(min=1.0))
        room = LinearConstraint(np.ones((1, size)), -np.inf, budget / unit)
        found = []
        for start in range(starts):
            share = draw.dirichlet(np.ones(len(self.media))) if start else np.ones(len(self.media)) / len(self.media)
            first = np.clip(np.tile(share, self.horizon) * len(self.media), floor / unit, ceil / unit)
            found.append(
                minimize(loss, first, jac=True, bounds=Bounds(floor / unit, ceil / unit), constraints=[room], method="SLSQP", options={"maxiter": 400})
            )
        best = min(found, key=lambda one: float(one.fun))
        return torch.from_numpy(np.clip(best.x * unit, floor, ceil)).view(self.horizon, -1)

    def _media(self, plan: Float[Tensor, "*plan horizon media"]) -> Float[Tensor, "*plan horizon"]:
        """Revenue of the planned weeks from media, what was spent before included."""
        before = self.spend.to(plan.dtype)[-BEFORE:].expand(*plan.shape[:-2], -1, -1)
        every = torch.cat([before, plan], -2)
        return self._effects(every)[..., BEFORE:, :].sum(-1)

    def _effects(self, spend: Float[Tensor, "*plan time media"]) -> Float[Tensor, "*plan time media"]:
        """Revenue by week and medium."""
        carried = carried_over(spend, self.carry.to(spend.dtype))
        return self.ceiling.to(spend.dtype) * hill(carried, self.half.to(spend.dtype), self.shape.to(spend.dtype))


def carried_over(spend: Float[Tensor, "*plan time media"], carry: Float[Tensor, " media"]) -> Float[Tensor, "*plan time media"]:
    """Geometric adstock, Jin et al. (2017) "Bayesian Methods for Media Mix Modeling with Carryover and Shape Effects" §2.1,
    its weights adding to one: (1 − c) Σ cᵏ spend(t − k)."""
    level, levels = torch.zeros_like(spend[..., 0, :]), []
    for week in spend.unbind(-2):
        level = carry * level + (1 - carry) * week
        levels.append(level)
    return torch.stack(levels, -2)


def hill(x: Float[Tensor, "*plan time media"], half: Float[Tensor, " media"], shape: Float[Tensor, " media"]) -> Float[Tensor, "*plan time media"]:
    """The share of the ceiling reached at x: xˢ / (xˢ + halfˢ); 0 at 0 (ibid. §2.2)."""
    ratio = (x.clamp(min=1e-9) / half) ** shape
    return ratio / (1 + ratio)


def ads(seed: int = 0, *, weeks: int = 156, horizon: int = 13, media: int = 5, confounded: float = 1.0, noise: float = 0.03, share: float = 0.35) -> AdsWorld:
    """A simulated advertiser of so many media, drawn by its seed.

    `confounded` is how strongly historic spend follows the season (0: not at all); `noise` the deviation of a week's revenue
    as a share of the mean, half of it lasting; `share` the part of historic revenue that media brought in.
    """
    for name, value, least, most in (("weeks", weeks, 60, 5000), ("horizon", horizon, 1, 520), ("media", media, 1, len(NAMES))):
        if not least <= value <= most:
            raise TaskError(f"worlds.ads: {name} must be from {least} to {most}; got {value}")
    draw = np.random.default_rng([seed, 8])
    length = BEFORE + weeks + horizon
    week = np.arange(length)
    holiday = ((week % YEAR) >= 47) & ((week % YEAR) < 51)
    season = _season(draw, week) + 0.18 * holiday
    spend = _spend(draw, season, holiday, media, confounded)
    base = 1e6 * (1 - share) * season * (1 + draw.uniform(0, 0.06) * (week - BEFORE) / YEAR)
    names, mean = NAMES[:media], spend[BEFORE : BEFORE + weeks].mean(0)
    carry, half, shape = draw.uniform(0.05, 0.7, media), mean * draw.uniform(0.5, 2.5, media), draw.uniform(0.8, 1.6, media)
    silent = _panel(np.zeros(weeks), spend[BEFORE:-horizon], holiday[BEFORE:], names)
    ceiling, ahead = torch.ones(media, dtype=torch.float64), torch.from_numpy(base[-horizon:])
    blank = AdsWorld(silent, names, torch.from_numpy(carry), torch.from_numpy(half), torch.from_numpy(shape), ceiling, ahead)
    effects = blank._effects(torch.from_numpy(spend)).numpy()
    worth = draw.dirichlet(np.full(media, 3.0)) * 1e6 * share / effects[BEFORE:-horizon].mean(0)
    clean = base + (effects * worth).sum(1)
    heard = clean * (1 + noise * _lasting(draw, length))
    panel = _panel(heard[BEFORE:-horizon], spend[BEFORE:-horizon], holiday[BEFORE:], names)
    return replace(blank, panel=panel, ceiling=torch.from_numpy(worth))


def _season(draw: np.random.Generator, week: np.ndarray) -> np.ndarray:
    angle, phase = 2 * np.pi * week / YEAR, draw.uniform(0, 2 * np.pi, 2)
    season: np.ndarray = 1 + draw.uniform(0.12, 0.28) * np.sin(angle + phase[0]) + draw.uniform(0.03, 0.08) * np.sin(2 * angle + phase[1])
    return season


def _spend(draw: np.random.Generator, season: np.ndarray, holiday: np.ndarray, media: int, confounded: float) -> np.ndarray:
    """What was spent [time, media]: planned along the season, in flights of some weeks, with weeks of silence for some media."""
    length = len(season)
    mean = 1e6 * 0.02 * np.exp(draw.normal(0, 0.7, media))
    flights = np.repeat(draw.normal(0, 0.35, (length // 4 + 1, media)), 4, 0)[:length]
    wobble = np.exp(flights + draw.normal(0, 0.25, (length, media)))
    silent = np.repeat(draw.random((length // 6 + 1, media)) < draw.choice([0.0, 0.25], media), 6, 0)[:length]
    along = season[:, None] ** (confounded * draw.uniform(0.8, 2.5, media)) * (1 + 0.3 * confounded * holiday[:, None])
    spent: np.ndarray = np.where(silent, 0.0, mean * along * wobble)
    return spent


def _lasting(draw: np.random.Generator, length: int) -> np.ndarray:
    """Noise of deviation one, half of its variance with a memory of .7 a week."""
    fresh, shock, level = draw.normal(size=length), draw.normal(size=length) * np.sqrt(1 - 0.49), np.zeros(length)
    for t in range(1, length):
        level[t] = 0.7 * level[t - 1] + shock[t]
    both: np.ndarray = (fresh + level) * np.sqrt(0.5)
    return both


def _panel(revenue: np.ndarray, spend: np.ndarray, holiday: np.ndarray, names: tuple[str, ...]) -> Panel:
    """One series that says it is simulated; revenue and spend end where the plan begins, holidays go on."""
    length = len(holiday)
    values = np.full((1, length, 2 + len(names)), np.nan)
    values[0, : len(revenue), 0] = revenue
    values[0, : len(spend), 1:-1] = spend
    values[0, :, -1] = holiday
    clock = Clock(np.datetime64("2021-01-04"), "W")
    blank = torch.zeros(0, 0, dtype=torch.float64)
    return Panel(torch.from_numpy(values), blank, torch.zeros(1, dtype=torch.long), clock, ("simulated",), ("revenue", *names, "holiday"))
