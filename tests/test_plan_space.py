"""Allowed plans and the ascent to the best one: closed forms, twins, and the sentence of every impossible budget."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor

import naive_plan
from foretell.errors import TaskError
from foretell.plan.ascent import ascend, certify
from foretell.plan.space import Space
from laws import refused

WIDE = 1e5


def space(steps: int, columns: int, budget: float | list[float], *, low: float = 0.0, high: float = WIDE) -> Space:
    ends = (torch.full((steps, columns), end, dtype=torch.float64) for end in (low, high))
    names = tuple(f"c{i}" for i in range(columns))
    return Space.of(*ends, torch.tensor([budget] if isinstance(budget, float) else budget, dtype=torch.float64), names)


def roots(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda plan: (weight * plan.sqrt()).sum((1, 2))


def hills(ceiling: Tensor, half: Tensor, shape: float = 1.0) -> Callable[[Tensor], Tensor]:
    return lambda plan: (ceiling * plan**shape / (plan**shape + half**shape)).sum((1, 2))


@given(some.integers(0, 10_000))
def test_projection_is_the_nearest_allowed_plan(seed: int) -> None:
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 2, (3, 4))
    high = low + draw.uniform(0, 5, (3, 4)) * draw.integers(0, 2, (3, 4))
    plan, budget = draw.normal(3, 5, (3, 4)), float(low.sum() + draw.uniform(0, 1) * (high - low).sum())
    allowed = Space.of(torch.tensor(low), torch.tensor(high), torch.tensor([budget], dtype=torch.float64), ("a", "b", "c", "d"))
    found = allowed.project(torch.tensor(plan)).numpy()
    np.testing.assert_allclose(found, naive_plan.project(plan, low, high, budget), atol=1e-9)
    assert found.sum() <= budget + 1e-9


def test_a_budget_a_step_is_kept_step_by_step() -> None:
    allowed = space(3, 2, [1.0, 5.0, 100.0])
    plan = allowed.project(torch.tensor([[4.0, 4.0], [1.0, 1.0], [80.0, 60.0]], dtype=torch.float64))
    assert plan.sum(1).tolist() == pytest.approx([1.0, 2.0, 100.0])


def test_square_roots_take_the_squares_of_their_weights() -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    found = ascend(roots(weight), space(1, 3, 12.0), space(1, 3, 12.0).drawn(5, 0))
    share = weight.square() / weight.square().sum() * 12
    assert ((found.plan - share).abs() / share).max() < 0.005
    assert found.certificate.residual < 1e-4
    assert found.certificate.price[0] == pytest.approx(float((weight.square().sum() / 12).sqrt() / 2), rel=1e-4)


@pytest.mark.parametrize("budget", [30.0, 300.0, 3000.0])
def test_hill_curves_meet_their_closed_form(budget: float) -> None:
    """Ceiling · x / (x + half): slopes are equal where x = √(ceiling · half / λ) − half, or x = 0; λ by bisection."""
    ceiling, half = torch.tensor([[500.0, 900.0, 200.0, 50.0]]).double(), torch.tensor([[40.0, 300.0, 10.0, 400.0]]).double()
    least, most = 1e-9, 1e3
    for _ in range(200):
        price = (least * most) ** 0.5
        spent = ((ceiling * half / price).sqrt() - half).clamp(min=0).sum()
        least, most = (price, most) if spent > budget else (least, price)
    exact = ((ceiling * half / price).sqrt() - half).clamp(min=0)
    allowed = space(1, 4, budget)
    found = ascend(hills(ceiling, half), allowed, allowed.drawn(6, 0))
    assert (found.plan - exact).abs().max() < 0.005 * budget
    assert float(hills(ceiling, half)(exact[None])) <= found.value * (1 + 1e-9)


def test_the_ascent_is_never_below_slsqp() -> None:
    draw = torch.Generator().manual_seed(3)
    ceiling, half = (torch.rand(4, 3, generator=draw, dtype=torch.float64) * 100 + 5 for _ in range(2))
    worth = hills(ceiling, half, 1.8)
    allowed = space(4, 3, 200.0, low=2.0, high=60.0)
    starts = allowed.drawn(8, 1)
    found = ascend(worth, allowed, starts)
    _, value = naive_plan.best(worth, allowed.low.numpy(), allowed.high.numpy(), 200.0, [s.numpy() for s in starts])
    assert found.value >= value * (1 - 1e-6)


def test_more_budget_is_never_worse_and_no_neighbour_better() -> None:
    draw = torch.Generator().manual_seed(5)
    weight = torch.rand(3, 4, generator=draw, dtype=torch.float64) + 0.2
    worth, last = roots(weight), -1.0
    for budget in (10.0, 11.0, 50.0, 400.0):
        allowed = space(3, 4, budget, high=60.0)
        found = ascend(worth, allowed, allowed.drawn(5, 0))
        assert found.value >= last
        near = allowed.project(found.plan + torch.randn(400, 3, 4, generator=draw, dtype=torch.float64) * budget / 20)
        assert float(worth(near).max()) <= found.value * (1 + 1e-9)
        last = found.value


def test_a_return_that_falls_leaves_budget_unspent_at_price_zero() -> None:
    allowed = space(1, 2, 100.0)
    found = ascend(lambda plan: -(plan - 7.0).square().sum((1, 2)), allowed, allowed.drawn(3, 0))
    assert found.plan.tolist() == [pytest.approx([7.0, 7.0], abs=1e-4)]
    assert found.certificate.price.tolist() == [0.0]
    assert found.certificate.slack.tolist() == pytest.approx([86.0], abs=1e-3)


def test_the_certificate_sees_a_plan_that_is_not_the_best() -> None:
    allowed, weight = space(1, 2, 10.0), torch.tensor([[1.0, 3.0]]).double()
    plan = torch.tensor([[5.0, 5.0]], dtype=torch.float64)
    assert certify(allowed, plan, weight / (2 * plan.sqrt())).residual > 0.2


def test_fixed_cells_stay() -> None:
    allowed = space(2, 2, 20.0)
    held = allowed.fixed(torch.full((2, 2), 3.0).double(), torch.tensor([[True, False], [False, False]]))
    found = ascend(roots(torch.ones(2, 2).double()), held, held.drawn(4, 0))
    assert float(found.plan[0, 0]) == 3.0
    assert float(found.plan.sum()) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("low", "high", "budget", "words"),
    [
        (5.0, 10.0, [29.0], "no plan keeps the budget: 29 is less than the least that the bounds and fixed channels spend, 30; raise the budget to that"),
        (5.0, 10.0, [10.0, 9.0, 30.0], "no plan keeps the budget of step 2: 9 is less than"),
        (6.0, 5.0, [100.0], 'the bounds of "c0" at step 1 exclude every value: 6 to 5; give 0 ≤ least ≤ most'),
        (-1.0, 5.0, [100.0], "allow negative spend: −1 to 5"),
        (0.0, float("inf"), [100.0], "have no end"),
        (0.0, 1.0, [-4.0], "the budget must be 0 or more; got −4"),
    ],
)
def test_what_no_plan_can_keep_gets_its_sentence(low: float, high: float, budget: list[float], words: str) -> None:
    with refused(TaskError, words):
        space(3, 2, budget, low=low, high=high)
