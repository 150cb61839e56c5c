"""Rehearsals: worlds drawn from a fitted response net, and a promise corrected by what came of others like it."""

from dataclasses import replace
from functools import cache

import pytest
import torch

import foretell as ft
from foretell import Forecaster, Panel, Task, Training, forecast, plan
from foretell.errors import TaskError
from foretell.nets import Response, Ridge
from foretell.plan.curves import loaded
from foretell.plan.plans import Band, Rehearsal
from foretell.plan.rehearsing import fitted_means, histories
from foretell.task import Source
from foretell.worlds import ads
from foretell.worlds.ads import AdsWorld
from laws import refused

BOUNDS = {"tv": (0.0, 60_000.0), "search": (0.0, 60_000.0)}


@cache
def small() -> tuple[AdsWorld, Panel, Forecaster]:
    world = ads(101, weeks=80, horizon=5, media=2)
    panel = world.panel.with_calendar("dayofyear")
    task = Task(target="revenue", known=(*world.media, "holiday", *ft.calendar_of(panel)), context=6, horizon=5, levels=())
    training = Training(epochs=3, batch=64, stop=0.0, calibrate=0.0, loss="mse", halves=True, device="cpu")
    return world, panel, forecast.fit(panel, task, Response(media=world.media), training, members=4)


def test_a_drawn_history_is_the_members_word_and_its_own_residuals_in_blocks() -> None:
    _, panel, worlds = small()
    source = Source(worlds.view(panel), worlds.roles, worlds.scaling_of(worlds.view(panel)), worlds.context, 5)
    means = fitted_means(worlds, source, 80)
    known = source.read(worlds.roles.known, torch.tensor([0]), torch.arange(65, 76)[None])
    plain = loaded(worlds).expected(known[None].expand(4, -1, -1, -1))[:, 0]
    torch.testing.assert_close(means[:, 71:75], plain[:, 6:10])  # a window of its own for each run of a horizon
    one, two = histories(worlds, panel, [1, 3], 79, seed=0)
    true, drawn = (source.scaling.target.apply(p.channel("revenue")[:, :80, None].float(), torch.tensor([0]))[0, :, 0] for p in (panel, one))
    rest, own = drawn - means[1], true - means[1]
    assert all(float((own - r).abs().min()) < 1e-4 for r in rest)
    steps = (rest[:, None] - own).abs().argmin(1)
    assert all((steps[at + 1] - steps[at]) % 80 == 1 for at in range(80) if at % 5 < 4)
    assert not torch.equal(one.channel("revenue")[:, :80], two.channel("revenue")[:, :80])
    assert torch.equal(one.channel("tv").nan_to_num(), panel.channel("tv").nan_to_num())
    assert torch.equal(one.channel("revenue").nan_to_num(), histories(worlds, panel, [1], 79, seed=0)[0].channel("revenue").nan_to_num())
    early = histories(worlds, panel, [1], 60, seed=0)[0].channel("revenue")
    assert bool(early[0, 61:].isnan().all()) and bool(early[0, :61].isfinite().all())


def test_a_gap_of_the_history_stays_a_gap() -> None:
    _, panel, worlds = small()
    gappy = replace(panel, values=panel.values.clone())
    gappy.values[0, 20:24, 0] = torch.nan
    drawn = histories(worlds, gappy, [0], 79, seed=0)[0].channel("revenue")[0, :80]
    assert bool(drawn[20:24].isnan().all()) and int(drawn.isnan().sum()) == 4


def test_a_promise_is_the_gain_less_what_such_promises_had_too_much() -> None:
    gain = Band(torch.tensor([10.0, 12.0, 14.0]).double())
    rehearsal = Rehearsal(torch.tensor([9.0, 11.0, 10.0, 10.0]).double(), torch.tensor([4.0, 5.0, 4.0, 7.0]).double())
    told = rehearsal.corrected(gain)
    assert float(told.mean) == pytest.approx(12 - 5)
    low, high = told.ends(80)
    away = 1.637744 * (1 + 1 / 4) ** 0.5 * float(torch.tensor([-5.0, -6.0, -6.0, -3.0]).std())  # Student's quantile, 3 degrees of freedom
    assert (float(low), float(high)) == pytest.approx((7 - away, 7 + away), rel=1e-6)


def test_a_plan_is_rehearsed_as_it_was_made() -> None:
    world, panel, worlds = small()
    made = plan.allocate(worlds, panel, 60_000.0, BOUNDS, starts=2)
    told = plan.rehearse(made, worlds, panel, worlds, trials=3, members=2)
    assert told.rehearsal is not None and torch.equal(told.spend, made.spend) and made.rehearsal is None
    assert told.rehearsal.promised.shape == (3,) and bool(told.rehearsal.achieved.isfinite().all())
    expected = made.gain.mean + (told.rehearsal.achieved - told.rehearsal.promised).mean()
    torch.testing.assert_close(told.promise.mean, expected)
    assert "rehearsed in 3 worlds with a known answer: plans made like this one promised " in told.summary()
    again = plan.rehearse(made, worlds, panel, worlds, trials=3, members=2)
    assert again.rehearsal is not None and torch.equal(again.rehearsal.achieved, told.rehearsal.achieved)
    assert world.media == ("tv", "search")


def test_a_rehearsal_that_cannot_be_gets_its_sentence() -> None:
    _, panel, worlds = small()
    ridge = forecast.fit(panel, worlds.task, Ridge(), Training())
    made = plan.allocate(worlds, panel, 60_000.0, BOUNDS, starts=1)
    with refused(TaskError, "worlds to rehearse in are the members of a response net: give plan.fit_media.*; got Ridge of 1 member"):
        plan.rehearse(made, worlds, panel, ridge)
    with refused(TaskError, "trials=9: a rehearsal has from 3 worlds to as many as the response net has members, 4"):
        plan.rehearse(made, worlds, panel, worlds, trials=9)
    with refused(TaskError, "this plan does not say what was asked for it: rehearse a plan as plan.allocate"):
        plan.rehearse(replace(made, asked=None), worlds, panel, worlds)
    with refused(TaskError, 'the worlds are of "revenue", the plan is for "holiday"'):
        other = forecast.fit(panel, Task(target="holiday", known=("tv",), context=6, horizon=5), Ridge(), Training())
        plan.rehearse(made, other, panel, worlds, trials=3)
