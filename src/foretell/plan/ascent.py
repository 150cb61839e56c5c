"""Ascent: the best allowed plan of any differentiable revenue function, and a certificate of how good it is."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .space import CLOSE, Space

Batch = Float[Tensor, "plan step column"]
Objective = Callable[[Batch], Float[Tensor, " plan"]]
MEMORY = 8  # values of the past that an ascent may fall back to
TRIES = 12  # halvings of a step
STEEP = 1e12  # stands in for an infinite slope, as √x has at 0
FLAT = 1e-5  # KKT residual at which an ascent ends
STILL = 1e-8  # of the steepest possible gain: less in ten steps ends it too


class Certificate(NamedTuple):
    """How far a plan is from satisfying the conditions of an optimum (Karush, Kuhn & Tucker), and what the budget is worth.

    `residual`: the largest violation over the cells, as a share of the marginal return; 0 at an optimum, exact where the
    function is concave, else a local one. `price`: the marginal return of one more unit of budget, a period. `slack`: what is left of it.
    """

    residual: float
    price: Float[Tensor, " period"]
    slack: Float[Tensor, " period"]
    slope: Float[Tensor, "step column"]


class Found(NamedTuple):
    """The best plan, what it is worth, its certificate; and of each start the worth reached, and the plan."""

    plan: Float[Tensor, "step column"]
    value: float
    certificate: Certificate
    values: Float[Tensor, " plan"]
    plans: Batch


def ascend(worth: Objective, space: Space, starts: Batch, *, steps: int = 400) -> Found:
    """Climbs from every start at once and keeps the best.

    Spectral projected gradient with a line search that may fall back: Birgin, Martínez & Raydan (2000), doi 10.1137/S1052623497330963,
    algorithm SPG2. Every iterate is an allowed plan.
    """
    x = space.project(starts.double())
    value, slope = _looked(worth, x)
    best, top = x.clone(), value.clone()
    past = value[:, None].expand(-1, MEMORY).clone()
    unit = float(space.width.max().clamp(min=1e-12))
    pace = unit / slope.abs().amax((1, 2)).clamp(min=1e-12)
    before = top.clone()
    for step in range(steps):
        way = space.project(x + pace[:, None, None] * slope) - x
        gain = (slope * way).sum((1, 2))
        new, new_value, new_slope = _line(worth, x, way, gain, past.amin(1))
        moved, bent = new - x, new_slope - slope
        curved = -(moved * bent).sum((1, 2))
        pace = torch.where(curved > 0, moved.square().sum((1, 2)) / curved.clamp(min=1e-300), pace * 4)
        pace = pace.clamp(1e-12 * unit / STEEP, 1e6 * unit / float(new_slope.abs().max().clamp(min=1e-12)))
        x, value, slope = new, new_value, new_slope
        past[:, step % MEMORY] = value
        better = value > top
        best, top = torch.where(better[:, None, None], x, best), torch.where(better, value, top)
        if step % 10 == 9:
            # Worth a ten-millionth of what a move across the bounds could bring: what is left is rounding, or a valley floor.
            still = bool((top - before <= STILL * (slope.abs() * space.width).sum((1, 2))).all())
            if still or all(certify(space, one, s).residual < FLAT for one, s in zip(x, slope, strict=True)):
                break
            before = top.clone()
    winner = int(top.argmax())
    _, at = _looked(worth, best)
    return Found(best[winner], float(top[winner]), certify(space, best[winner], at[winner]), top, best)


def certify(space: Space, plan: Float[Tensor, "step column"], slope: Float[Tensor, "step column"]) -> Certificate:
    """The certificate of a plan where the objective has this slope."""
    periods, slack = len(space.budget), space.budget - space.spent(plan)
    tight = slack <= 1e-6 * space.budget.clamp(min=1e-12)
    room = space.width * CLOSE + 1e-12
    shape = (periods, -1)
    g, down, up, free = (c.reshape(shape) for c in (slope, plan <= space.low + room, plan >= space.high - room, space.width > 0))
    inner = ~down & ~up
    price = torch.stack([_price(g[p], inner[p], down[p] & free[p], up[p] & free[p]) for p in range(periods)])
    price = torch.where(tight, price.clamp(min=0), 0.0)
    missed = g - price[:, None]
    violation = torch.where(inner, missed.abs(), torch.where(down, missed.clamp(min=0), (-missed).clamp(min=0)))
    unit = torch.maximum(price.amax(), (g.abs() * free).sum() / free.sum().clamp(min=1)).clamp(min=1e-300)
    return Certificate(float((violation * free).amax() / unit), price, slack, slope)


def _price(slope: Float[Tensor, " cell"], inner: Bool[Tensor, " cell"], down: Bool[Tensor, " cell"], up: Bool[Tensor, " cell"]) -> Float[Tensor, ""]:
    """The multiplier of a period's budget: the slope that all free cells share, or what lies between those at their bounds."""
    if bool(inner.any()):
        return slope[inner].mean()
    least = slope[down].amax().clamp(min=0) if bool(down.any()) else slope.new_zeros(())
    most = slope[up].amin() if bool(up.any()) else torch.maximum(least, slope.new_zeros(()))
    return least if least <= most else (least + most) / 2


def _line(worth: Objective, x: Batch, way: Batch, gain: Float[Tensor, " plan"], floor: Float[Tensor, " plan"]) -> tuple[Batch, Tensor, Batch]:
    """Each plan's step along its way, halved until it does not fall below the worst of its recent values."""
    share = torch.ones_like(gain)
    new = x + way
    value, slope = _looked(worth, new)
    for _ in range(TRIES):
        bad = ~(value >= floor + 1e-4 * share * gain)
        if not bool(bad.any()):
            break
        share = torch.where(bad, share / 2, share)
        new = x + share[:, None, None] * way
        value, slope = _looked(worth, new)
    return new, value, slope


def _looked(worth: Objective, x: Batch) -> tuple[Float[Tensor, " plan"], Batch]:
    """Values and slopes of a batch of plans."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        value = worth(at).double()
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), slope.nan_to_num(nan=0.0, posinf=STEEP, neginf=-STEEP)
