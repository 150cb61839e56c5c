"""Planning with fitted models: allocate, what_if and response against closed forms, each other, and the truth of a world."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import foretell as ft
from foretell import Forecaster, Panel, Task, Training, forecast, from_array, plan
from foretell.errors import TaskError
from foretell.nets import GraphLSTM, PeriodKernel, Response, Ridge
from foretell.optim import Optimizer
from foretell.plan.ahead import with_ahead, written
from foretell.plan.follow import fitted
from foretell.plan.surface import surface
from foretell.worlds import ads
from foretell.worlds.ads import AdsWorld
from laws import refused

HIGH = 60_000.0
FREE = {"tv": (0.0, HIGH), "search": (0.0, HIGH), "social": (0.0, HIGH)}


@cache
def mixed() -> tuple[AdsWorld, Panel, Forecaster]:
    """A small world and an ensemble of response nets."""
    world = ads(1, weeks=90, horizon=5, media=3)
    panel = world.panel.with_calendar("dayofyear")
    task = Task(target="revenue", known=(*world.media, "holiday", *ft.calendar_of(panel)), context=8, horizon=5, levels=())
    optimizer = Optimizer(rate=0.05, schedule="cosine", first_decay=500)
    training = Training(epochs=40, batch=128, stop=0.0, calibrate=0.0, loss="mse", optimizer=optimizer, halves=True, device="cpu")
    return world, panel, forecast.fit(panel, task, Response(media=world.media, prior=3e-3), training, members=4)


@cache
def linear() -> tuple[Panel, Forecaster]:
    """Two shops whose sales are linear in two spends and a price: the model is exact."""
    draw = np.random.default_rng(0)
    a, b, price = draw.uniform(0, 100, (3, 2, 130))
    y = 50 + 3 * a + 1.5 * b - 0.2 * price
    panel = from_array(np.stack([y, a, b, price, 2 * a**0.8 + 1, y / 7], -1), ("y", "a", "b", "price", "clicks", "seen"), ("s", "t"), step="D")
    task = Task(target="y", known=("a", "b", "price"), past=("seen",), context=3, horizon=4)
    tight = Ridge(penalties=(1e-9,))
    model = forecast.fit(panel, task, tight, Training(calibrate=0.1, pooled=True))
    future = {"price": torch.full((2, 4), 40.0)}
    return with_ahead(panel, 129, future), model


def test_the_surface_is_what_predict_says_and_keeps_members_apart() -> None:
    world, panel, model = mixed()
    told = written(model, panel, world.media, None)
    seen = surface(model, told.panel, world.media, origin=told.origin)
    asked = torch.rand(3, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3e4
    out = seen.outcome(asked)
    assert out.shape == (3, 4, 1, 5)
    for at, one in enumerate(asked):
        ahead = with_ahead(told.panel, told.origin, {name: one[None, :, c] for c, name in enumerate(world.media)})
        torch.testing.assert_close(out[at].mean(0), model.predict(ahead).values[..., 0])
    alone = replace(model, members=model.members[2:3], weights={name: w[2:3] for name, w in model.weights.items()})
    torch.testing.assert_close(out[:, 2], surface(alone, told.panel, world.media, origin=told.origin).outcome(asked)[:, 0])


TOLD_APART = {
    "neighbours": GraphLSTM(hidden=(4,)),
    "own heads": PeriodKernel(kernels=2, filters=2, heads=1, size=2, dense=4, ahead=2, own_head=True),
}


@pytest.mark.parametrize("which", TOLD_APART)
def test_members_kept_apart_know_their_series_by_name(which: str) -> None:
    """A net of all series that tells them apart: neighbours, embeddings and heads of their own."""
    panel, _ = linear()
    task = Task(target="y", known=("a", "b", "price"), past=("seen",), context=8, horizon=4)
    model = forecast.fit(panel, task, TOLD_APART[which], Training(epochs=3, device="cpu", optimizer=Optimizer(rate=0.02)), members=2)
    told = written(model, panel, ("a", "b"), None)
    seen = surface(model, told.panel, ("a", "b"), origin=told.origin)
    out = seen.outcome(torch.full((1, 4, len(seen.columns)), 30.0, dtype=torch.float64))
    ahead = with_ahead(told.panel, told.origin, {name: torch.full((2, 4), 30.0) for name in ("a", "b")})
    for at, member in enumerate(model.members):
        alone = replace(model, members=(member,), weights={name: w[at : at + 1] for name, w in model.weights.items()})
        torch.testing.assert_close(out[0, at], alone.predict(ahead).values[..., 0])


def test_a_linear_model_fills_the_steepest_channel_first() -> None:
    panel, model = linear()
    best = plan.allocate(model, panel, 700.0, {"a": (0, 60), "b": (0, 80)})
    assert best.columns == ("s · a", "s · b", "t · a", "t · b")
    total = best.spend.sum(0)
    assert total[[0, 2]].tolist() == pytest.approx([240, 240], abs=0.05)  # a is worth twice as much, up to its bound
    assert float(total[[1, 3]].sum()) == pytest.approx(220, abs=0.1)
    assert best.marginal[0].tolist() == pytest.approx([3, 1.5, 3, 1.5], abs=0.02)
    assert best.certificate.residual < 0.02
    assert float(best.certificate.price[0]) == pytest.approx(1.5, abs=0.02)
    assert float(best.gain.mean) == pytest.approx(float((best.spend - best.written).sum(0) @ torch.tensor([3, 1.5, 3, 1.5]).double()), rel=0.01)


def test_a_plan_is_allowed_and_certified_and_no_neighbour_is_better() -> None:
    world, panel, model = mixed()
    best = plan.allocate(model, panel, 300_000.0, {**FREE, "social": (5_000.0, 30_000.0)})
    assert float(best.spend.sum()) <= 300_000 * (1 + 1e-9)
    assert float(best.spend[:, 2].min()) >= 5_000 and float(best.spend[:, 2].max()) <= 30_000
    assert best.certificate.residual < 1e-3
    told = written(model, panel, world.media, None)
    seen = surface(model, told.panel, world.media, origin=told.origin)
    draw = torch.Generator().manual_seed(1)
    near = (best.spend + torch.randn(200, 5, 3, generator=draw, dtype=torch.float64) * 3000).clamp(torch.tensor([0, 0, 5e3]), torch.tensor([HIGH, HIGH, 3e4]))
    near = near * (300_000 / near.sum((1, 2))).clamp(max=1)[:, None, None]
    allowed = (near[..., 2] >= 5_000).all(1)
    assert int(allowed.sum()) > 10
    assert float(seen.total(near[allowed]).mean(1).max()) <= float(best.total.mean()) * (1 + 1e-9)


@pytest.mark.slow
def test_more_budget_is_never_worse_and_profit_stops_where_a_unit_earns_a_unit() -> None:
    _, panel, model = mixed()
    totals = [float(plan.allocate(model, panel, b, FREE, starts=2).total.mean()) for b in (50_000, 60_000)]
    assert totals == sorted(totals)
    profit = plan.allocate(model, panel, 900_000, FREE, goal=plan.Goal(kind="profit", margin=0.5), starts=2)
    assert float(profit.certificate.slack[0]) > 0
    moving = (profit.spend > 1).all(0) & (profit.spend < HIGH - 1).all(0)
    assert (profit.marginal.mean(0)[moving] * 0.5).tolist() == pytest.approx([1.0] * int(moving.sum()), rel=0.05)
    assert any("of the budget is left: more of it would not pay" in note for note in profit.notes)


@pytest.mark.slow
def test_a_return_asked_for_is_kept() -> None:
    """(3 · 480 + 1.5 · x) / (480 + x) = 2.5 where 240 go to b, once a is full."""
    panel, model = linear()
    bounds = {"a": (0, 60), "b": (0, 80)}
    held = plan.allocate(model, panel, 1000.0, bounds, goal=plan.Goal(kind="roas", roas=2.5), starts=2)
    assert float(held.spent) == pytest.approx(720, rel=0.03)
    assert 2.5 <= float(held.roas.mean) < 2.52
    assert any(note.startswith("spends what returns 2.5 on average; the whole budget would return 2.2") for note in held.notes)
    with refused(TaskError, "no plan returns 1e.06 per unit spent: the best first unit of this budget returns .*; lower roas="):
        plan.allocate(model, panel, 300.0, bounds, goal=plan.Goal(kind="roas", roas=1e6), starts=2)


@pytest.mark.slow
def test_caution_gives_up_mean_for_the_lower_end() -> None:
    _, panel, model = mixed()
    plain = plan.allocate(model, panel, 200_000, FREE, starts=2)
    for careful in (plan.Goal(risk=0.1), plan.Goal(spread=1.0)):
        safe = plan.allocate(model, panel, 200_000, FREE, goal=careful, starts=2)
        assert float(safe.gain.mean) <= float(plain.gain.mean) * (1 + 1e-9)
        low = [float(p.gain.members.quantile(0.1)) if careful.risk else float(p.gain.mean - p.gain.members.std(0)) for p in (plain, safe)]
        assert low[1] >= low[0] - 1e-6 * abs(low[0])


@pytest.mark.slow
def test_fixed_channels_budgets_a_step_and_small_changes() -> None:
    _, panel, model = mixed()
    weekly = plan.allocate(model, panel, [70_000, 80_000, 90_000, 60_000, 65_000], {"tv": (0, HIGH), "search": 7_000, "social": None}, starts=3)
    assert torch.equal(weekly.spend[:, 1], torch.full((5,), 7_000.0, dtype=torch.float64))
    assert torch.equal(weekly.spend[:, 2], weekly.written[:, 2])
    assert bool((weekly.spend.sum(1) <= torch.tensor([70_000, 80_000, 90_000, 60_000, 65_000]) * (1 + 1e-9)).all())
    free = plan.allocate(model, panel, 200_000, FREE, starts=3)
    change = (free.spend - free.written).abs().sum(0)
    least = float(change.min()) * 1.01
    few = plan.allocate(model, panel, 200_000, FREE, least_change=least, starts=3)
    moved = (few.spend - few.written).abs().sum(0)
    assert bool(((moved < 1e-6) | (moved >= least)).all()) and bool((moved < 1e-6).any())


def test_a_promise_is_checked_by_the_member_that_learned_from_the_other_half() -> None:
    world, panel, model = mixed()
    best = plan.allocate(model, panel, 200_000, FREE, starts=2)
    assert best.checked is not None and best.checked.shape == (4,)
    alone, other = (replace(model, members=(model.members[m],), weights={name: w[m : m + 1] for name, w in model.weights.items()}) for m in (2, 3))
    chosen = plan.allocate(alone, panel, 200_000, FREE, starts=2)
    assert chosen.checked is None and torch.equal(chosen.promise.members, chosen.gain.members)
    assert float(best.checked[2]) == pytest.approx(float(plan.judge(other, panel, chosen, world.media).mean), rel=0.03)
    assert "checked: plans that one half of the data chose gain " in best.summary()


def test_a_plan_without_a_base_says_no_share() -> None:
    _, panel, model = mixed()
    best = plan.allocate(model, panel, 200_000, FREE, starts=1)
    empty = replace(best, before=best.before * 0, spend=best.spend * 0)
    assert "–\u00a0%" not in empty.summary() and ", – (80 % bands" in empty.summary() and "average –, written" in empty.summary()


def test_what_if_says_what_the_plan_promised() -> None:
    world, panel, model = mixed()
    best = plan.allocate(model, panel, 200_000, FREE, starts=3)
    named = {name: best.written[:, at].tolist() for at, name in enumerate(world.media)}
    moved = {name: best.spend[:, at].tolist() for at, name in enumerate(world.media)}
    told = plan.what_if(model, panel, {"written": named, "planned": moved})
    gain = told.difference["planned"].sum((1, 2)) - told.difference["written"].sum((1, 2))
    torch.testing.assert_close(gain, best.gain.members)
    assert list(told.forecasts) == ["as written", "written", "planned"]


def test_changes_are_read_as_they_are_written_and_what_is_outside_is_flagged() -> None:
    panel, model = linear()
    panel = with_ahead(panel, 129, {"a": torch.full((2, 4), 10.0), "b": torch.full((2, 4), 20.0)})
    told = plan.what_if(model, panel, {"up": {"a": "+50%"}, "less": {"a": "-4"}, "twice": {"a": "x2"}, "line": {"b": [20, 20, 20, 400]}, "set": {"a": 30}})
    change = {name: float(told.change(name).mean) for name in told.difference}
    assert change == pytest.approx({"as written": 0, "up": 120, "less": -96, "twice": 240, "line": 2 * 1.5 * 380, "set": 480}, rel=0.02, abs=0.5)
    assert told.outside == pytest.approx({"as written": 0, "up": 0, "less": 0, "twice": 0, "line": 0.25, "set": 0})
    assert '"line": 25% of the steps it changes lie outside what the history has seen' in told.notes
    assert len(told.table()) == 6 and len(told.frame()) == 6 * 2 * 4
    assert bool(torch.isnan(torch.stack(told.change("up").ends())).all())  # one member says nothing of its own error


def test_a_response_curve_is_its_own_derivative_and_rises_where_it_must() -> None:
    world, panel, model = mixed()
    curve = plan.response(model, panel, "search", points=61)
    rise = curve.effect.diff(dim=1) / curve.spend.diff()
    middle = (curve.marginal[:, 1:] + curve.marginal[:, :-1]) / 2
    assert float((rise - middle).abs()[:, 3:].max()) < 0.02 * float(middle.max())  # a power bends sharply at its foot
    assert bool((curve.effect.diff(dim=1) >= 0).all())
    assert float(curve.density.sum()) == pytest.approx(1)
    assert float(curve.spend[-1]) == pytest.approx(1.2 * float(world.spend[:, 1].max()))
    named = {p.name: p.members for p in curve.parameters}
    assert list(named) == ["carry-over", "half-life", "half-saturation", "exponent", "ceiling"]
    assert bool((curve.effect[:, -1] <= named["ceiling"] * 1.001).all())
    assert len(curve.table()) == 5 and len(curve.frame()) == 61


def test_a_linear_model_has_a_straight_curve_and_no_parameters() -> None:
    panel, model = linear()
    told = with_ahead(panel, 129, {"b": torch.zeros(2, 4)})
    curve = plan.response(model, told, "a", points=9)
    assert curve.marginal[0].tolist() == pytest.approx([6.0] * 9, rel=0.02)  # both shops
    assert curve.parameters == () and len(curve.table()) == 0


def test_a_follower_moves_with_its_control() -> None:
    panel, _ = linear()
    panel = panel.until(129)
    power = fitted(panel, "clicks", "a", 129)
    assert 0.7 < power.power < 0.81 and power.fit > 0.98
    task = Task(target="y", known=("clicks", "b"), past=(), context=3, horizon=4)
    model = forecast.fit(panel, task, Ridge(), Training())
    whole = with_ahead(panel, 129, {"b": torch.full((2, 4), 5.0), "clicks": torch.full((2, 4), 9.0)})
    told = plan.what_if(model, whole, {"more": {"clicks": "+10%"}})
    assert float(told.change("more").mean) > 0
    both = forecast.fit(panel, task.model_copy(update={"known": ("a", "clicks")}), Ridge(), Training())
    with refused(TaskError, r'"clicks" moved with "a" \(correlation 1.00\) and would be held as written while the plan changes "a": declare follows='):
        plan.allocate(both, whole, 100.0, {"a": (0, 50)})
    followed = plan.allocate(both, whole, 100.0, {"a": (0, 50)}, follows={"clicks": "a"}, starts=3)
    assert any(note.startswith("clicks follows a: ") for note in followed.notes)
    held = plan.allocate(both, whole, 200.0, {"a": (0, 50), "clicks": None}, starts=3)
    assert float(held.gain.mean) != pytest.approx(float(followed.gain.mean), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"controls": {}}, "no control to plan with"),
        ({"controls": {"q": (0, 1)}}, 'no channel "q" to plan with: '),
        ({"controls": {"seen": (0, 1)}}, '"seen" is known to this model up to the origin only, so a plan cannot change it'),
        ({"controls": {"y": (0, 1)}}, '"y" is what the model forecasts'),
        ({"controls": {"a": (0, 1, 2)}}, r'the bounds of "a" are \(least, most\), a number that fixes it, or None'),
        ({"controls": {"a": ([0, 0], 5)}}, 'a bound of "a" is one number or one a step: 4 are planned, 2 were given'),
        ({"budget": [1.0, 2.0]}, "a budget is one number or one a step: 4 are planned, 2 were given"),
        ({"budget": 10.0, "controls": {"a": (5, 6), "b": (0, 1)}}, "no plan keeps the budget: 10 is less than .*, 40"),
        ({"follows": {"b": "a"}}, '"b" cannot both be planned and follow "a"'),
        ({"follows": {"seen": "price"}}, '"seen" follows "price", which is no control of this plan. There are: a, b'),
        ({"follows": {"y": "a"}}, '"y" is what the model forecasts; follows= names channels between'),
        ({"starts": 0}, "starts=0: the ascent begins from 1 plan or more"),
        ({"goal": "sales"}, "kind"),
        ({"controls": {"a": (0, float("nan"))}}, r'the bounds of "s · a" at step 1 have no end'),
        ({"budget": -5.0}, "the budget must be 0 or more; got −5"),
        ({"least_change": -1.0}, "least_change=-1: the smallest change worth making is 0 or more"),
    ],
)
def test_a_plan_that_cannot_be_gets_its_sentence(options: Mapping[str, object], words: str) -> None:
    panel, model = linear()
    panel = with_ahead(panel, 129, {"b": torch.full((2, 4), 5.0)})
    asked = {"budget": 100.0, "controls": {"a": (0, 10), "b": (0, 10)}, **options}
    with refused(TaskError, words):
        plan.allocate(model, panel, asked.pop("budget"), asked.pop("controls"), **asked)


@pytest.mark.parametrize(
    ("scenarios", "words"),
    [
        ({}, "no scenario"),
        ({"as written": {"a": 1}}, '"as written" is what the scenarios are compared with'),
        ({"one": {"a": "much"}}, '"a": the change "much" is not understood; write a number, or'),
        ({"one": {"a": "+nan%"}}, '"a": the change ".nan%" is not understood'),
        ({"one": {"a": "xinf"}}, '"a": the change "xinf" is not understood'),
        ({"one": {"a": ""}}, '"a": the change "" is not understood'),
        ({"one": {"a": [1, 2]}}, '"a": 2 values for 4 steps ahead'),
        ({"one": {"a": [[1, 2, 3, 4]] * 3}}, '"a": 3 by 4 values for 4 steps ahead'),
        ({"one": {"a": float("nan")}}, '"a": a scenario says a finite number for every step; 1 are not'),
        ({"one": {"a": None}}, '"a": a change is a number, one number a step, or text like ".20%"; got None'),
        ({"one": {"prize": 1}}, 'no channel "prize" to plan with: did you mean "price"'),
    ],
)
def test_a_scenario_that_cannot_be_gets_its_sentence(scenarios: Mapping[str, Mapping[str, object]], words: str) -> None:
    panel, model = linear()
    with refused(TaskError, words):
        plan.what_if(model, with_ahead(panel, 129, {"b": torch.zeros(2, 4)}), scenarios)


@pytest.mark.slow
def test_nothing_that_was_handed_in_is_changed() -> None:
    _, panel, model = mixed()
    before: list[Tensor] = [panel.values.clone(), *(w.clone() for w in model.weights.values())]
    plan.allocate(model, panel, 100_000, FREE, starts=2)
    plan.what_if(model, panel, {"more": {"tv": "+10%"}})
    plan.response(model, panel, "tv", points=5)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(before, [panel.values, *model.weights.values()], strict=True))


def test_other_inputs_that_cannot_be_get_their_sentence() -> None:
    panel, model = linear()
    whole = with_ahead(panel, 129, {"a": torch.full((2, 4), 10.0), "b": torch.full((2, 4), 5.0)})
    with refused(TaskError, "a plan is made for a Panel, got dict: make one with ft.read"):
        plan.response(model, {}, "a")
    with refused(TaskError, "points=1: a curve has 2 points or more"):
        plan.response(model, whole, "a", points=1)
    told = plan.what_if(model, whole, {"up": {"a": "+50%"}})
    with refused(TaskError, 'no scenario "upp": did you mean "up"'):
        told.change("upp")
    with refused(TaskError, 'no target "sales"'):
        plan.what_if(model, whole, {"up": {"a": "+50%"}}, target="sales")
    best = plan.allocate(model, whole, 100.0, {"a": (0, 60)}, starts=2)
    with refused(TaskError, "this plan has the columns s · a, t · a; these controls give s · b, t · b"):
        plan.judge(model, whole, best, ["b"])
    with refused(TaskError, '"clicks" and "a" were above 0 together at 6 steps; 8 are needed to say how one follows the other'):
        fitted(panel.until(2), "clicks", "a", 2)
    ragged = replace(panel, values=panel.values.clone())
    ragged.values[1, 100:, 0] = torch.nan
    with refused(TaskError, "the series end at different steps, from .* to .*: say from which origin= to plan"):
        plan.what_if(model, ragged, {"up": {"a": "+50%"}})
