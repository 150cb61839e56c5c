"""Space: which plans are allowed, and the nearest allowed plan to any other."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import TaskError
from ..words import number

Plans = Float[Tensor, "*plan step column"]
CLOSE = 1e-9  # of the range of a cell: as good as on its bound


@dataclass(frozen=True, eq=False)
class Space:
    """Cells [step, column] between `low` and `high`; their sum at most `budget`: one number for all steps, or one a step.

    Cells with `low` = `high` are fixed. A budget of infinity is none.
    """

    low: Float[Tensor, "step column"]
    high: Float[Tensor, "step column"]
    budget: Float[Tensor, " period"]
    columns: tuple[str, ...]

    @classmethod
    def of(cls, low: Float[Tensor, "step column"], high: Float[Tensor, "step column"], budget: Float[Tensor, " period"], columns: tuple[str, ...]) -> Self:
        """TaskError where no plan is allowed, saying what would make one possible."""
        _check_bounds(low, high, columns)
        made = cls(low.double(), high.double(), budget.double(), columns)
        _check_budget(made)
        return made

    @property
    def width(self) -> Float[Tensor, "step column"]:
        """How far each cell can move."""
        return self.high - self.low

    @property
    def most(self) -> Float[Tensor, " period"]:
        """What can be spent: the budget, or all that the bounds allow where that is less."""
        return torch.minimum(self.budget, self._by_period(self.high))

    def spent(self, plan: Plans) -> Float[Tensor, "*plan period"]:
        """What a plan spends in each period of the budget."""
        return self._by_period(plan)

    def fixed(self, plan: Float[Tensor, "step column"], cells: Bool[Tensor, "step column"]) -> Self:
        """These cells held at the plan's values."""
        return replace(self, low=torch.where(cells, plan, self.low), high=torch.where(cells, plan, self.high))

    def project(self, plan: Plans) -> Plans:
        """The allowed plan nearest to this one: clip(plan − λ) with the least λ ≥ 0, a period, that keeps the budget.

        λ is found by bisection; 60 halvings leave an error below 1e-17 of the largest number (see `project` in tests/naive_plan.py).
        """
        rows = plan.unflatten(-2, (len(self.budget), -1)) if len(self.budget) > 1 else plan.unsqueeze(-3)
        low, high = (self._rows(bound) for bound in (self.low, self.high))
        over = rows.clamp(low, high).sum((-1, -2)) > self.budget
        if not bool(over.any()):
            return plan.clamp(self.low, self.high)
        least, most = torch.zeros_like(self.budget.expand(over.shape)), (rows - low).amax((-1, -2)).clamp(min=0)
        for _ in range(60):
            middle = (least + most) / 2
            above = (rows - middle[..., None, None]).clamp(low, high).sum((-1, -2)) > self.budget
            least, most = torch.where(above, middle, least), torch.where(above, most, middle)
        shift = torch.where(over, most, 0.0)[..., None, None]
        return (rows - shift).clamp(low, high).flatten(-3, -2)

    def drawn(self, count: int, seed: int) -> Float[Tensor, "plan step column"]:
        """Allowed plans to start from: the middle, the corners where one column takes all it may, and random splits."""
        draw = torch.Generator().manual_seed(seed)
        share = torch.eye(len(self.columns), dtype=torch.float64)[:count]
        rest = -torch.rand(max(0, count - len(share)), len(self.columns), generator=draw, dtype=torch.float64).log()
        share = torch.cat([torch.ones(1, len(self.columns), dtype=torch.float64), share, rest])[:count]
        spend = self.most.sum().clamp(max=float(self._by_period(self.high).sum()))
        plans = (share / share.sum(1, keepdim=True))[:, None] * spend / len(self.low)
        return self.project(plans.expand(-1, len(self.low), -1))

    def _by_period(self, plan: Plans) -> Float[Tensor, "*plan period"]:
        return plan.sum(-1) if len(self.budget) > 1 else plan.sum((-1, -2))[..., None]

    def _rows(self, bound: Float[Tensor, "step column"]) -> Float[Tensor, "period row column"]:
        return bound[:, None] if len(self.budget) > 1 else bound[None]


def _check_bounds(low: Tensor, high: Tensor, columns: tuple[str, ...]) -> None:
    for wrong, told in ((~(low.isfinite() & high.isfinite()), "have no end"), (low > high, "exclude every value"), (low < 0, "allow negative spend")):
        if bool(wrong.any()):
            step, column = wrong.nonzero()[0].tolist()
            ends = f"{_money(float(low[step, column]))} to {_money(float(high[step, column]))}"
            raise TaskError(f'the bounds of "{columns[column]}" at step {step + 1} {told}: {ends}; give 0 ≤ least ≤ most')


def _check_budget(space: Space) -> None:
    need, have = space.spent(space.low), space.budget
    if bool(have.isnan().any() or (have < 0).any()):
        raise TaskError(f"the budget must be 0 or more; got {_money(float(have.min()))}")
    short = (need > have * (1 + 1e-9) + 1e-9).nonzero()[:, 0].tolist()
    if short:
        at = short[0]
        where = f" of step {at + 1}" if len(have) > 1 else ""
        raise TaskError(
            f"no plan keeps the budget{where}: {_money(float(have[at]))} is less than the least that the bounds and fixed channels spend, "
            f"{_money(float(need[at]))}; raise the budget to that, or lower the bounds"
        )


def _money(value: float) -> str:
    return number(value)
