"""Losses: equal to the plain sum over what was observed, blind to the rest, member by member."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import naive
from foretell.errors import TaskError
from foretell.loss import LEAST, Goals, negative_binomial, observed, peak, pinball, point_loss, total, tweedie

KINDS = ("mse", "mae", "huber", "pinball")


def example(levels: int, members: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(levels)
    goal = torch.randn(members, 5, 4, 2, generator=random, dtype=torch.float64) * 2
    seen = torch.rand(goal.shape, generator=random) < 0.7
    seen[1] = False
    output = torch.randn(*goal.shape, 1 + levels, generator=random, dtype=torch.float64)
    return output, goal.masked_fill(~seen, torch.nan), seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [(), (0.1, 0.5, 0.9)], ids=str)
def test_total_is_the_plain_sum(kind, levels) -> None:
    output, goal, seen = example(len(levels))
    ours = total(output, goal, seen, levels=levels, kind=kind)
    plain = torch.tensor(naive.total_loss(output, goal, seen, levels, kind), dtype=torch.float64)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)


def test_what_was_not_seen_has_no_influence_and_no_gradient() -> None:
    output, goal, seen = example(2)
    output.requires_grad_()
    loss = total(output, goal, seen, levels=(0.2, 0.8), kind="mse")
    (slope,) = torch.autograd.grad(loss.sum(), output)
    assert loss[1] == 0 and slope.isfinite().all()
    assert (slope[~seen] == 0).all() and (slope[seen] != 0).all()
    assert torch.equal(loss, total(output, goal.nan_to_num(1e9), seen, levels=(0.2, 0.8), kind="mse"))


def test_members_are_as_alone() -> None:
    output, goal, seen = example(1)
    together = total(output, goal, seen, levels=(0.3,), kind="huber")
    alone = [total(output[m : m + 1], goal[m : m + 1], seen[m : m + 1], levels=(0.3,), kind="huber") for m in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-14, atol=0)


def test_pieces_with_the_whole_count_add_up() -> None:
    output, goal, seen = example(1)
    whole = total(output, goal, seen, levels=(0.3,), kind="mae")
    halves = [total(output[:, s], goal[:, s], seen[:, s], levels=(0.3,), kind="mae", count=observed(seen)) for s in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(sum(halves), whole, rtol=1e-14, atol=0)


def test_point_losses_are_those_of_torch() -> None:
    error = torch.linspace(-3, 3, 61, dtype=torch.float64)
    zero = torch.zeros_like(error)
    torch.testing.assert_close(point_loss(error, "huber"), F.huber_loss(error, zero, reduction="none"))
    torch.testing.assert_close(point_loss(error, "pinball"), pinball(error[:, None], (0.5,))[:, 0])


def test_pinball_is_least_at_the_quantile() -> None:
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(20_001, generator=random, dtype=torch.float64)
    tries = torch.linspace(-2, 2, 401, dtype=torch.float64)
    loss = pinball((draws[:, None] - tries)[..., None], (0.9,)).mean((0, 2))
    assert abs(float(tries[loss.argmin()]) - float(draws.quantile(0.9))) <= 0.01


def test_a_net_of_another_width_gets_a_sentence() -> None:
    output, goal, seen = example(2)
    with pytest.raises(TaskError, match=r"3 outputs a target, the task needs 1 \+ 1"):
        total(output, goal, seen, levels=(0.5,), kind="mse")


def test_peak_loss_is_the_notebooks(golden: Path) -> None:
    """With the batch's largest goal, as there."""
    z = np.load(golden / "peak_loss.npz")
    goal, output = torch.from_numpy(z["y_true"]), torch.from_numpy(z["y_pred"])
    assert float(peak(output, goal, goal.abs().max()).mean()) == pytest.approx(float(z["loss"]), abs=1e-6)


def test_peak_loss_weighs_by_the_training_goals_not_by_company() -> None:
    output, goal, seen = example(0)
    goal = goal.nan_to_num(0.0)
    goals = Goals(torch.tensor([3.0, 1.0, 5.0]), torch.ones(3))
    whole = total(output, goal, seen, levels=(), kind="peak", goals=goals)
    plain = [(((g - o).square() * (g.abs() / s).exp())[m]).mean() for o, g, m, s in zip(output[..., 0], goal, seen, (3.0, 1.0, 5.0), strict=True)]
    torch.testing.assert_close(whole[[0, 2]], torch.stack([plain[0], plain[2]]), rtol=1e-12, atol=0)
    part = total(output[:, :2], goal[:, :2], seen[:, :2], levels=(), kind="peak", goals=goals, count=observed(seen))
    rest = total(output[:, 2:], goal[:, 2:], seen[:, 2:], levels=(), kind="peak", goals=goals, count=observed(seen))
    torch.testing.assert_close(part + rest, whole, rtol=1e-12, atol=0)


COUNTED = {"tweedie": lambda output, goal: tweedie(output, goal), "negative_binomial": lambda output, goal: negative_binomial(output, goal, torch.tensor(0.7))}


@pytest.mark.parametrize("kind", COUNTED)
def test_losses_of_counts_are_least_at_the_mean(kind) -> None:
    goal = torch.tensor([0.0, 0.0, 1.0, 0.0, 4.0, 0.0, 2.0], dtype=torch.float64)
    tries = torch.linspace(0.01, 3, 2991, dtype=torch.float64)
    loss = COUNTED[kind](tries[:, None], goal).mean(1)
    assert float(tries[loss.argmin()]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kind", COUNTED)
def test_losses_of_counts_go_on_straight_below_the_least_mean(kind) -> None:
    """Value and slope are continuous, and a negative forecast of a sale costs more the further it is off."""
    output = torch.tensor([LEAST - 1e-7, LEAST + 1e-7, -1.0, -2.0], dtype=torch.float64, requires_grad=True)
    loss = COUNTED[kind](output, torch.tensor(1.5, dtype=torch.float64))
    (slope,) = torch.autograd.grad(loss.sum(), output)
    loss = loss.detach()
    assert float(loss[0]) == pytest.approx(float(loss[1]), abs=1e-4) and float(slope[0]) == pytest.approx(float(slope[1]), rel=1e-4)
    assert loss[3] > loss[2] > loss[0]


def test_negative_binomial_is_scipys_likelihood() -> None:
    from scipy import stats

    goal, mean, excess = torch.tensor([0.0, 3.0, 7.0], dtype=torch.float64), torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64), 0.7
    ours = negative_binomial(mean, goal, torch.tensor(excess, dtype=torch.float64)) - negative_binomial(
        torch.ones(3).double(), goal, torch.tensor(excess, dtype=torch.float64)
    )
    size = 1 / excess
    theirs = [stats.nbinom.logpmf(g, size, size / (size + m)) - stats.nbinom.logpmf(g, size, size / (size + 1)) for g, m in zip(goal, mean, strict=True)]
    assert ours.tolist() == pytest.approx([-t for t in theirs], rel=1e-9)


def test_a_loss_of_goals_without_them_gets_a_sentence() -> None:
    output, goal, seen = example(0)
    with pytest.raises(TaskError, match='loss="peak" needs to know the training goals'):
        total(output, goal.nan_to_num(0.0), seen, levels=(), kind="peak")
