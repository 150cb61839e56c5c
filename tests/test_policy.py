"""Budget policies: an environment that passes the checkers, spend that never leaves the bounds, a rule that is learned, saved and asked."""

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as by_gymnasium
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as by_baselines

import foretell as ft
from conftest import fingerprint
from foretell import Task, TaskError, plan
from foretell.plan.environment import BudgetEnv, Episodes
from foretell.plan.episodes import Ground, Simulator, advanced, begun, decided, filled, gained, observed, with_budget
from foretell.plan.policy import WIDE, Policy, _weights, judged, learn, replanned
from foretell.worlds import ads
from laws import refused


def small() -> Simulator:
    return Simulator.of_world(ads(3, weeks=70, horizon=4, media=3))


def policy(ground: Ground, seed: int, size: float = 3.0) -> Policy:
    """Of any weights at all."""
    draw, columns = torch.Generator().manual_seed(seed), len(ground.columns)
    widths = [3 + 2 * columns, *WIDE, 1 + columns]
    names = [*map(str, range(len(WIDE))), "last"]
    weights = {f"{name}.weight": size * torch.randn(b, a, generator=draw) for name, a, b in zip(names, widths, widths[1:], strict=False)}
    return Policy(ground, weights | {f"{name}.bias": torch.randn(b, generator=draw) for name, b in zip(names, widths[1:], strict=True)}, 0.4)


def test_both_checkers_are_content() -> None:
    by_gymnasium(BudgetEnv(small()), skip_render_check=True)
    by_baselines(BudgetEnv(small()))
    assert isinstance(BudgetEnv(small()), gymnasium.Env)


@given(st.integers(0, 10**6), st.floats(0.2, 3.0))
def test_no_policy_leaves_the_bounds(seed: int, share: float) -> None:
    """Whatever its weights, with a floor and a ceiling in every cell; and the whole budget is spent, as far as the bounds allow."""
    draw = np.random.default_rng(seed)
    low = torch.from_numpy(draw.uniform(0, 1, (5, 3)) * (draw.random((5, 3)) < 0.5))
    high = low + torch.from_numpy(draw.uniform(0, 4, (5, 3)))
    usual = torch.from_numpy(draw.uniform(0, 2, (5, 3))).clamp(low, high)
    budget = max(float(low.sum()), share * float(usual.sum()) + 0.1)
    ground = Ground(low, high, budget, usual, torch.zeros(3, 3, dtype=torch.float64), ("a", "b", "c")).checked()
    spend = policy(ground, seed).plan()
    assert bool((spend >= low).all()) and bool((spend <= high).all())
    assert float(spend.sum()) <= budget * (1 + 1e-12)
    assert float(spend.sum()) == pytest.approx(min(budget, float(high.sum())), rel=1e-9)


def test_an_amount_is_split_by_shares_between_bounds() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        share, low = draw.dirichlet(np.ones(4)), draw.uniform(0, 1, 4)
        high = low + draw.uniform(0.1, 3, 4)
        amount = draw.uniform(low.sum(), high.sum())
        level = brentq(lambda s, p=share, a=low, b=high, c=amount: np.clip(s * p, a, b).sum() - c, 0, (high / share).max() + 1, xtol=1e-14)  # type: ignore[misc]
        told = filled(*(torch.from_numpy(x) for x in (share[None], np.array([amount]), low, high)))
        np.testing.assert_allclose(told[0].numpy(), np.clip(level * share, low, high), atol=1e-9)


def test_many_episodes_are_single_ones_side_by_side() -> None:
    simulator = small()
    many, draw = Episodes(simulator, 3, spread=0.3, seed=5), np.random.default_rng(1)
    seen, alone = many.reset(), [BudgetEnv(simulator) for _ in range(3)]
    for row, one in enumerate(alone):
        np.testing.assert_allclose(one.reset(options={"budget": float(many.state.budget[row])})[0], seen[row], atol=1e-6)
    total = np.zeros(3)
    budgets, first = many.state.budget, gained(simulator, many.state)
    for step in range(simulator.ground.steps):
        action = draw.uniform(-1, 1, (3, 4)).astype(np.float32)
        seen, reward, done, told = many.step(action)
        singles = [one.step(row) for one, row in zip(alone, action, strict=True)]
        np.testing.assert_allclose(reward, [one[1] for one in singles], atol=1e-4)
        last = [t["terminal_observation"] for t in told] if step == simulator.ground.steps - 1 else seen
        np.testing.assert_allclose(last, [one[0] for one in singles], atol=1e-6)
        assert done.tolist() == [one[2] for one in singles] == [step == simulator.ground.steps - 1] * 3
        total += reward
    # An episode's rewards add up to its whole gain over the usual plan.
    plans = torch.stack([one.state.plan[0] for one in alone])
    gain = (simulator.revenue(plans).sum(1) - first) / many.unit
    np.testing.assert_allclose(total, gain.numpy(), atol=1e-4)
    assert bool((budgets > 0).all())


def test_the_usual_plan_is_the_rule_of_no_action() -> None:
    ground = small().ground
    state = begun(ground, torch.tensor([ground.budget], dtype=torch.float64))
    for _ in range(ground.steps):
        state = advanced(ground, state, decided(ground, state, torch.zeros(1, 4)))
    torch.testing.assert_close(state.plan[0].sum(0), ground.usual.sum(0), rtol=0.01, atol=0)
    assert observed(ground, begun(ground, state.budget)).shape == (1, 9)


@pytest.fixture(scope="module")
def taught() -> Policy:
    return learn(small(), rounds=6, episodes=16, seed=1)


def test_a_policy_learns_and_says_how_it_went(taught: Policy) -> None:
    simulator = small()
    assert [one.rounds for one in taught.looks] == [0, 1, 2, 3, 4, 5, 6]
    assert max(one.gain for one in taught.looks) == pytest.approx(judged(taught, simulator)) and judged(taught, simulator) > 0
    worth = [float(simulator.revenue(p[None]).sum()) for p in (simulator.ground.usual, taught.plan(), replanned(simulator, starts=2))]
    assert worth[0] < worth[1] <= worth[2] * (1 + 1e-9)
    assert "budget" in repr(taught) and taught.facts["episodes"] == 96


def test_the_same_seed_teaches_the_same_and_leaves_chance_alone() -> None:
    torch.manual_seed(4), np.random.seed(4)
    here = (torch.get_rng_state(), np.random.get_state()[1].tolist())
    one, two, other = (learn(small(), rounds=1, episodes=8, seed=seed) for seed in (1, 1, 2))
    # Python's own generator is drawn from by the checker of shapes, too: it proves nothing here.
    assert torch.equal(torch.get_rng_state(), here[0]) and np.random.get_state()[1].tolist() == here[1]
    assert fingerprint(dict(one.weights)) == fingerprint(dict(two.weights)) != fingerprint(dict(other.weights))


def test_it_says_what_stable_baselines_says() -> None:
    simulator = small()
    many = Episodes(simulator, 4, spread=0.4, seed=0)
    made = PPO("MlpPolicy", many, n_steps=4, batch_size=16, seed=2, device="cpu", policy_kwargs={"net_arch": list(WIDE)})
    seen = many.reset()
    told = Policy(simulator.ground, _weights(made), 0.4).said(torch.from_numpy(seen))
    np.testing.assert_allclose(told.numpy(), made.predict(seen, deterministic=True)[0], atol=1e-6)


def test_it_is_asked_period_by_period(taught: Policy) -> None:
    whole = taught.plan()
    for done in range(4):
        torch.testing.assert_close(taught.next(whole[:done]), whole[done])
    more = taught.next(whole[:2] * 0.5)  # what was not spent is still there
    assert float(more.sum()) > float(whole[2].sum())
    with refused(TaskError, "this policy plans 4 periods, and 4 are over"):
        taught.next(whole)
    tight = replace(taught, ground=replace(taught.ground, low=taught.ground.usual * 0.9))
    with refused(TaskError, "of the budget is left, and the bounds ask for"):
        tight.next(taught.ground.high[:3] * 3)


def test_a_saved_policy_is_the_same_to_the_last_bit(taught: Policy, tmp_path: Path) -> None:
    ft.save(taught, tmp_path / "rule.foretell")
    again = ft.load(tmp_path / "rule.foretell")
    assert isinstance(again, Policy) and fingerprint(again) == fingerprint(taught)
    assert torch.equal(again.plan(1e5), taught.plan(1e5))


def test_a_fitted_model_is_a_simulator() -> None:
    world = ads(3, weeks=80, horizon=4, media=2)
    task = Task(target="revenue", known=(*world.media, "holiday"), context=4, horizon=4)
    model = plan.fit_media(world.panel, task, world.media, epochs=2, members=2)
    controls = {name: (0.0, float(top)) for name, top in zip(world.media, world.spend.amax(0), strict=True)}
    simulator = Simulator.of_model(model, world.panel, float(world.usual.sum()), controls)
    best = plan.allocate(model, world.panel, float(world.usual.sum()), controls, starts=2)
    told = simulator.revenue(best.spend[None]).sum()
    torch.testing.assert_close(told, best.total.mean().double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(simulator.ground.before, world.spend[-26:].double())
    spend = policy(simulator.ground, 0).plan()
    assert bool((spend <= simulator.ground.high).all()) and float(spend.sum()) <= simulator.ground.budget * (1 + 1e-12)


def test_what_cannot_be_learned_says_why() -> None:
    simulator = small()
    with refused(TaskError, "a policy spends a budget: give one above 0"):
        with_budget(simulator, 0.0)
    with refused(TaskError, "rounds=0: a policy learns from at least 1"):
        learn(simulator, rounds=0)
    with refused(TaskError, "spread=1.5: budgets are drawn within a share"):
        learn(simulator, spread=1.5)
