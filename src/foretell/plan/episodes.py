"""Episodes: a budget spent period by period, as what a policy sees, does and gains; many episodes at once, none of them outside the bounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError
from ..forecaster import Forecaster, When
from ..panel import Panel
from ..worlds.ads import AdsWorld
from .ahead import before, checked_controls, written
from .allocation import as_usual
from .bounds import Bounds, columns_of, space_of
from .space import Space
from .surface import Surface, surface

Revenue = Callable[[Float[Tensor, "plan step column"]], Float[Tensor, "plan step"]]
DECAYS = (0.3, 0.7)  # of what was spent before, in what a policy sees
PACE, SPLIT = 3.0, 2.0  # the usual pace is at most tripled or cut to a third, a share times e² or less
MEMORY = 26  # periods of spend before the first that a policy sees, at most
HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Ground:
    """What is to be spent and how it may be: bounds a step, one budget for all steps, the usual plan, and what was spent before."""

    low: Float[Tensor, "step column"]
    high: Float[Tensor, "step column"]
    budget: float
    usual: Float[Tensor, "step column"]
    before: Float[Tensor, "past column"]
    columns: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Periods to plan."""
        return len(self.low)

    def checked(self) -> Self:
        """TaskError where no plan is allowed, or where there is nothing to decide."""
        if not 0 < self.budget < float("inf"):
            raise TaskError(f"a policy spends a budget: give one above 0 for all steps together; got {self.budget:g}")
        Space.of(self.low, self.high, torch.tensor([self.budget], dtype=torch.float64), self.columns)
        return self


@dataclass(frozen=True, eq=False)
class Simulator:
    """A ground, and what every allowed plan brings in, step by step: by a fitted model, or by a simulated world."""

    ground: Ground
    revenue: Revenue

    @classmethod
    def of_model(cls, model: Forecaster, panel: Panel, budget: float, controls: Mapping[str, Bounds], *, origin: When | None = None) -> Self:
        """The mean over the members of a fitted model, summed over its series; arguments as `allocate` takes them."""
        checked_controls(model, panel, tuple(controls))
        told = written(model, panel, tuple(controls), origin)
        seen = surface(model, told.panel, tuple(controls), origin=told.origin)
        plan = columns_of(seen, told.panel, told.origin)
        allowed = space_of(seen, controls, budget, plan)
        if told.made_up:
            plan, _ = as_usual(plan, seen, allowed, told.made_up)
        ground = Ground(allowed.low, allowed.high, float(budget), plan.clamp(allowed.low, allowed.high), _spent(seen, told.panel, told.origin), seen.columns)

        def revenue(plans: Float[Tensor, "plan step column"]) -> Float[Tensor, "plan step"]:
            found: Tensor = seen.outcome(plans).mean(1).sum(1)
            return found.double()

        return cls(ground.checked(), revenue)

    @classmethod
    def of_world(cls, world: AdsWorld, budget: float | None = None) -> Self:
        """A simulated advertiser itself: the usual spend as budget unless told otherwise, a medium up to the most it ever spent in a week."""
        high = world.spend.double().amax(0).expand(world.horizon, -1)
        usual = world.usual.double()
        ground = Ground(torch.zeros_like(high), high, float(usual.sum()) if budget is None else budget, usual, world.spend[-MEMORY:].double(), world.media)
        return cls(ground.checked(), world.revenue)


def _spent(seen: Surface, panel: Panel, origin: int) -> Float[Tensor, "past column"]:
    """The newest spend up to the origin, 0 where none was observed."""
    lines: list[Tensor] = [torch.zeros(0)] * len(seen.columns)
    for at, name in enumerate(seen.controls):
        values, observed = before(panel, name, origin)
        for one, column in enumerate(seen.column[:, at].tolist()):
            lines[column] = values[one].where(observed[one], 0)[-MEMORY:].double()
    return torch.stack(lines, -1)


class State(NamedTuple):
    """Episodes on their way, all at the same step: `plan` holds what is spent, and the usual way to spend what is left."""

    plan: Float[Tensor, "episode step column"]
    step: int
    budget: Float[Tensor, " episode"]
    carried: Float[Tensor, "episode column decay"]

    @property
    def left(self) -> Float[Tensor, " episode"]:
        """Of the budget."""
        return self.budget - self.plan[:, : self.step].sum((1, 2))


def begun(ground: Ground, budget: Float[Tensor, " episode"]) -> State:
    """Episodes before their first step; a budget below what the bounds ask for is lifted to that."""
    budget = budget.double().clamp(min=float(ground.low.sum()))
    level = torch.zeros(len(ground.columns), len(DECAYS), dtype=torch.float64)
    decay = torch.tensor(DECAYS, dtype=torch.float64)
    for spend in ground.before:
        level = decay * level + (1 - decay) * spend[:, None]
    blank = State(torch.zeros(len(budget), *ground.low.shape, dtype=torch.float64), 0, budget, level.expand(len(budget), -1, -1))
    return blank._replace(plan=_rest(ground, blank))


def observed(ground: Ground, state: State) -> Float[Tensor, "episode fact"]:
    """What a policy sees: how far it is, what is left a step beside the usual, the budget beside the usual one, what is carried over. None of
    it is the future, and none is revenue: a policy can be asked without a simulator."""
    steps, usual = ground.steps - state.step, float(ground.usual.sum().clamp(min=1e-9))
    first = [torch.full_like(state.budget, state.step / ground.steps), state.left / max(1, steps) * ground.steps / usual, state.budget / usual]
    carried = state.carried / ground.high.amax(0).clamp(min=1e-9)[:, None]
    return torch.cat([torch.stack(first, -1), carried.flatten(1)], 1).clamp(0, 10)


def decided(ground: Ground, state: State, action: Float[Tensor, "episode choice"]) -> Float[Tensor, "episode column"]:
    """An action in −1 … 1 as spend: the first number is the pace, the others move the usual shares. The nearest that is allowed: every
    column in its bounds, enough left for the least of the later steps, and no less than what they could not spend."""
    low, high, later = ground.low[state.step], ground.high[state.step], slice(state.step + 1, None)
    spend = state.left / (ground.steps - state.step) * PACE ** action[:, 0].double()
    most = torch.minimum(state.left - ground.low[later].sum(), high.sum())
    least = torch.maximum(state.left - ground.high[later].sum(), low.sum())
    amount = torch.minimum(torch.maximum(spend, least), most)
    usual = ground.usual.sum(0) / ground.usual.sum().clamp(min=1e-9)
    share = torch.softmax((usual + 1e-3).log() + SPLIT * action[:, 1:].double(), -1)
    return filled(share, amount, low, high)


def filled(
    share: Float[Tensor, "episode column"], amount: Float[Tensor, " episode"], low: Float[Tensor, " column"], high: Float[Tensor, " column"]
) -> Float[Tensor, "episode column"]:
    """An amount split by shares as far as the bounds allow: clip(s · share) with the largest s, found by halving, that does not exceed it."""
    least, most = torch.zeros_like(amount), (high / share.clamp(min=1e-12)).amax(-1)
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        over = (middle[:, None] * share).clamp(low, high).sum(-1) > amount
        least, most = torch.where(over, least, middle), torch.where(over, middle, most)
    return (least[:, None] * share).clamp(low, high)


def advanced(ground: Ground, state: State, spend: Float[Tensor, "episode column"]) -> State:
    """One step later."""
    decay = torch.tensor(DECAYS, dtype=torch.float64)
    plan = state.plan.clone()
    plan[:, state.step] = spend
    now = State(plan, state.step + 1, state.budget, decay * state.carried + (1 - decay) * spend[..., None])
    return now._replace(plan=_rest(ground, now))


def _rest(ground: Ground, state: State) -> Float[Tensor, "episode step column"]:
    """The plan with what is left spent in the usual way, as far as the bounds allow."""
    usual, plan = ground.usual[state.step :], state.plan.clone()
    ratio = state.left / usual.sum().clamp(min=1e-9)
    plan[:, state.step :] = (ratio[:, None, None] * usual).clamp(ground.low[state.step :], ground.high[state.step :])
    return plan


def gained(simulator: Simulator, state: State) -> Float[Tensor, " episode"]:
    """What the plans of these episodes bring in together, as told by the simulator."""
    with torch.no_grad():
        return simulator.revenue(state.plan).sum(1).double()


def unit_of(simulator: Simulator) -> float:
    """What rewards are counted in: a tenth of what the usual plan brings in beyond the least that may be spent."""
    ground = simulator.ground
    with torch.no_grad():
        both = simulator.revenue(torch.stack([ground.usual, ground.low])).sum(1)
    return max(1e-9, abs(float(both[0] - both[1])) / 10)


def with_budget(simulator: Simulator, budget: float) -> Simulator:
    """The same with another budget."""
    return replace(simulator, ground=replace(simulator.ground, budget=budget).checked())
