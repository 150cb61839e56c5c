"""allocate: the budget that pays most, by the gradient of a fitted model, with a certificate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import TaskError
from ..forecaster import Forecaster, When
from ..panel import Panel
from ..words import number
from .ahead import checked_controls, written
from .ascent import Found, Objective, ascend
from .bounds import Bounds, Budget, columns_of, outside, seen_range, space_of
from .follow import followers
from .plans import Asked, Band, Goal, Plan
from .space import Space
from .surface import Surface, surface

STARTS, STEPS = 8, 400  # starts of an ascent, and its steps at most
ROUNDS, ROUGH, NEAR = 10, 60, 1.005  # halvings of the budget on the way to a return, steps of each ascent, and what is near enough


def allocate(
    model: Forecaster,
    panel: Panel,
    budget: Budget,
    controls: Mapping[str, Bounds],
    *,
    goal: Goal | Literal["revenue", "profit", "roas"] = "revenue",
    follows: Mapping[str, str] | None = None,
    least_change: float = 0.0,
    origin: When | None = None,
    starts: int = STARTS,
) -> Plan:
    """The allowed plan of the largest goal over the model's horizon, from the model's own gradient.

    `budget`: most to spend, for all steps together or one number a step; None, no limit but the bounds. `controls`: bounds a step (see
    `space_of`). `follows` names channels that a control causes ({"clicks": "search"}); they move with the plan. A column whose
    total would change by less than `least_change` stays as written. TaskError, with the cure, where no plan is allowed.
    """
    goal = Goal(kind=goal) if isinstance(goal, str) else goal
    return planned(model, panel, goal, Asked(budget, controls, follows or {}, least_change, origin), starts=starts, check=model.training.halves)


def planned(model: Forecaster, panel: Panel, goal: Goal, asked: Asked, *, starts: int, check: bool) -> Plan:
    """What `allocate` does; without `check`, that of the halves is left out."""
    if not asked.controls:
        raise TaskError("no control to plan with: controls= maps channels known ahead to (least, most)")
    if starts < 1:
        raise TaskError(f"starts={starts}: the ascent begins from 1 plan or more")
    names = tuple(asked.controls)
    checked_controls(model, panel, names)
    told = written(model, panel, names, asked.origin)
    follow = followers(model, panel, names, asked.follows, told.origin)
    seen = surface(model, told.panel, names, origin=told.origin, follows=follow)
    plan = columns_of(seen, told.panel, told.origin)
    notes: list[str] = []
    allowed = space_of(seen, asked.controls, asked.budget, plan)
    if told.made_up:
        plan, note = as_usual(plan, seen, allowed, told.made_up)
        notes.append(note)
    notes += [str(f) for f in follow]
    job = _Job(seen, goal, plan, (allowed.width > 0).any(0))
    found, allowed = _solved(job, allowed, starts, notes)
    found, allowed = _settled(job, found, allowed, asked.least_change, starts)
    made = _plan(job, found, allowed, panel, told.origin, model, notes)
    return replace(made, asked=asked, checked=_checked(job, found, allowed) if check else None)


class _Job(NamedTuple):
    """A surface, what is asked of it, and the written plan."""

    surface: Surface
    goal: Goal
    written: Float[Tensor, "step column"]
    free: Bool[Tensor, " column"]

    def worth(self) -> Objective:
        """The goal of a batch of plans: mean or lower quantile, over the members, of the gain over the written plan."""
        with torch.no_grad():
            base = self.gained(self.written[None])

        def worth(plans: Float[Tensor, "plan step column"]) -> Float[Tensor, " plan"]:
            gain = self.gained(plans) - base
            if self.goal.risk:
                gain = gain.quantile(self.goal.risk, dim=1, keepdim=True)
            lost = self.goal.spread * gain.std(1) if self.goal.spread and gain.shape[1] > 1 else 0.0
            return gain.mean(1) - lost

        return worth

    def gained(self, plans: Float[Tensor, "plan step column"]) -> Float[Tensor, "plan member"]:
        total = self.surface.total(plans)
        return total if self.goal.kind != "profit" else self.goal.margin * total - plans.sum((1, 2))[:, None]

    def bare(self, plan: Float[Tensor, "step column"]) -> Float[Tensor, "step column"]:
        """Every column that may move at 0."""
        return plan.masked_fill(self.free, 0.0)


def as_usual(plan: Tensor, seen: Surface, allowed: Space, made_up: tuple[str, ...]) -> tuple[Float[Tensor, "step column"], str]:
    """Where no plan was written: the usual spend, brought to the budget, so that the comparison spends the same."""
    names = ", ".join(made_up)
    said = f"no plan was written for {names}: compared with their mean of the last year"
    if not bool(allowed.budget.isfinite().all()):
        return plan, said
    ours = torch.tensor([c.split(" · ")[-1] in made_up for c in seen.columns]) & (allowed.width > 0).any(0)
    room = allowed.budget - allowed.spent(plan.masked_fill(ours, 0.0))
    mine = allowed.spent(plan.masked_fill(~ours, 0.0))
    ratio = (room / mine.clamp(min=1e-12)).clamp(min=0)
    scaled = torch.where(ours, plan * (ratio[:, None] if len(ratio) > 1 else ratio), plan)
    return scaled, f"{said}, brought to the budget"


def _solved(job: _Job, allowed: Space, starts: int, notes: list[str]) -> tuple[Found, Space]:
    """The best plan; for a return asked for, that of the largest budget that reaches it."""
    found = _best(job, allowed, starts)
    if job.goal.kind != "roas" or job.goal.roas is None:
        return found, allowed
    need = job.goal.roas
    if _roas(job, found) >= need:
        return found, allowed
    least, most, kept = 0.0, 1.0, None
    floor = allowed.spent(allowed.low)
    for _ in range(ROUNDS):
        share = (least + most) / 2
        smaller = Space(allowed.low, allowed.high, floor + share * (allowed.most - floor), allowed.columns)
        trial = _best(job, smaller, 1, near=None if kept is None else kept[0].plan, steps=ROUGH)
        if (now := _roas(job, trial)) >= need:
            least, kept = share, (trial, smaller)
            if now < need * NEAR:
                break
        else:
            most = share
    if kept is None:
        raise TaskError(f"no plan returns {need:g} per unit spent: the best first unit of this budget returns {_roas(job, trial):.3g}; lower roas=")
    notes.append(f"spends what returns {need:g} on average; the whole budget would return {_roas(job, found):.3g}")
    found, smaller = _best(job, kept[1], starts, near=kept[0].plan), kept[1]
    return (found, smaller) if _roas(job, found) >= need else kept


def _roas(job: _Job, found: Found) -> float:
    with torch.no_grad():
        both = job.surface.total(torch.stack([found.plan, job.bare(found.plan)])).mean(1)
    return float((both[0] - both[1]) / found.plan[:, job.free].sum().clamp(min=1e-12))


def _best(job: _Job, allowed: Space, starts: int, near: Float[Tensor, "step column"] | None = None, steps: int = STEPS) -> Found:
    """From the written plan, the middle, the corners and random splits."""
    first = [job.written[None], allowed.drawn(max(1, starts - 1), seed=0)] if near is None else [near[None], allowed.drawn(starts, seed=0)[: starts - 1]]
    return ascend(job.worth(), allowed, torch.cat(first), steps=steps)


def _checked(job: _Job, found: Found, allowed: Space) -> Float[Tensor, " member"] | None:
    """The gain of each member's own best plan by the member that learned from the other half of the steps, which had no part in choosing
    it: what is left of a promise when the luck of the data that chose the plan is taken out. None for a single member."""
    paired = job.surface.members // 2 * 2
    if paired < 2 or job.surface.members != paired:
        return None
    every = torch.arange(paired)
    with torch.no_grad():
        base, before = job.gained(job.written[None])[0], job.surface.total(job.written[None])[0]
    apart = ascend(lambda plans: job.gained(plans)[every, every] - base, allowed, found.plan.expand(paired, -1, -1), steps=ROUGH)
    with torch.no_grad():
        total = job.surface.total(apart.plans)
    return total[every, every ^ 1] - before[every ^ 1]


def _settled(job: _Job, found: Found, allowed: Space, least_change: float, starts: int) -> tuple[Found, Space]:
    """Columns whose change is too small to be worth making go back to what is written, and the rest is planned again."""
    if least_change < 0:
        raise TaskError(f"least_change={least_change:g}: the smallest change worth making is 0 or more")
    for _ in range(len(allowed.columns)):
        change = (found.plan - job.written).abs().sum(0)
        small = (change < least_change) & (change > 1e-9) & (allowed.width > 0).any(0)
        if not bool(small.any()):
            break
        cells = (small & (change == change[small].min())).expand_as(found.plan)
        allowed = allowed.fixed(job.written, cells)
        Space.of(allowed.low, allowed.high, allowed.budget, allowed.columns)
        found = _best(job, allowed, starts)
    return found, allowed


def _plan(job: _Job, found: Found, allowed: Space, panel: Panel, origin: int, model: Forecaster, notes: list[str]) -> Plan:
    seen = job.surface
    still = (found.plan - job.written).abs() <= 1e-9 * found.plan.abs().max()
    plan = torch.where(still, job.written, found.plan)  # what is not changed is not changed by a rounding either
    cases = torch.stack([plan, job.written, job.bare(plan), job.bare(job.written)])
    with torch.no_grad():
        total, before, bare, bare_before = seen.total(cases)
    low, high = seen_range(panel, seen, origin)
    beyond = outside(plan, low, high)
    marginal = marginal_returns(seen.total, plan)
    if seen.members == 1:
        notes.append("one member: the gain has no band; fit with members= and Training(halves=True) to see how sure it is")
    if bool((outside(job.bare(plan), low, high) & job.free).any()):
        notes.append("attributable revenue and ROAS compare with controls at 0, which the history has not seen for every one of them")
    left = float(found.certificate.slack.sum())
    if left > 1e-6 * float(allowed.budget.sum().clamp(max=1e300)) and bool(allowed.budget.isfinite().all()):
        why = "the bounds allow no more" if float(allowed.most.sum()) <= float(allowed.spent(plan).sum()) * (1 + 1e-9) else "more of it would not pay"
        notes.append(f"{number(left)} of the budget is left: {why}")
    times = panel.clock.local((origin + torch.arange(1, seen.steps + 1)).numpy())
    return Plan(
        plan, job.written, seen.columns, times, job.goal, allowed.budget, total, before, bare, bare_before, marginal, job.free,
        found.certificate, beyond, torch.stack([low, high]), seen.function.targets[seen.target], panel.names, tuple(notes), found.values,
    )  # fmt: skip


def marginal_returns(total: Callable[[Tensor], Tensor], plan: Float[Tensor, "step column"]) -> Float[Tensor, "member column"]:
    """Mean slope over the steps of each member's total: what one more unit of a column, spread evenly over its steps, brings in."""
    with torch.enable_grad():
        at = plan.detach()[None].requires_grad_()
        found = total(at)[0]
        slopes = [torch.autograd.grad(one, at, retain_graph=True)[0][0].mean(0) for one in found]
    return torch.stack(slopes)


def judge(
    model: Forecaster, panel: Panel, made: Plan, controls: Sequence[str], *, follows: Mapping[str, str] | None = None, origin: When | None = None
) -> Band:
    """What a model, this or another, expects a plan to gain over the written one: for a second opinion. `controls` are those the plan was
    made with, in their order."""
    told = written(model, panel, tuple(controls), origin)
    seen = surface(model, told.panel, tuple(controls), origin=told.origin, follows=followers(model, panel, tuple(controls), follows or {}, told.origin))
    if seen.columns != made.columns:
        raise TaskError(f"this plan has the columns {', '.join(made.columns)}; these controls give {', '.join(seen.columns)}")
    with torch.no_grad():
        total, before = seen.total(torch.stack([made.spend, made.written]))
    return Band(total - before)
