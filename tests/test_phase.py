"""A net trained for one place in the season: there it forecasts, from every other origin its ridge does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell import Task, Training, calendar_of, forecast, from_array
from foretell.feed import Feed, Table, in_phase
from foretell.forecaster import Forecaster
from foretell.nets import Ridge, StackedLSTM
from foretell.panel import Panel
from foretell.task import Source, fit_scaling, roles_of, split, windows
from laws import slow

SMALL = StackedLSTM(hidden=(4,), dropout=0.0, ahead=4, in_phase=True)


def hourly(days: int = 30, series: int = 1, gaps: bool = False) -> Panel:
    step = np.arange(24 * days)
    noise = np.random.default_rng(5).normal(size=(series, len(step)))
    values = 10 + 3 * np.sin(2 * np.pi * step / 24) * (1 + (step // 24 % 7 > 4)) + noise
    if gaps:
        values[:, 100:110] = np.nan
    return from_array(values, step="h").with_calendar("hour", "weekend")


def fitted(panel: Panel, net: StackedLSTM = SMALL, **options: bool) -> Forecaster:
    task = Task(target="y", known=calendar_of(panel), context=24, horizon=6, levels=(0.1, 0.9))
    return forecast.fit(panel, task, net, Training(epochs=2, seed=1), **options)


def ridge_of(model: Forecaster) -> Forecaster:
    return replace(model, weights={**model.weights, "alpha": torch.zeros_like(model.weights["alpha"])})


@pytest.mark.parametrize("per_series", [slow(False), True])
def test_off_its_phase_the_ridge_forecasts(per_series: bool) -> None:
    panel = hourly(series=2)
    model = fitted(panel, per_series=per_series)
    model = replace(model, weights={**model.weights, "alpha": torch.ones_like(model.weights["alpha"])})
    last = 24 * 30 - 1
    for origin in range(last - 30, last - 6):
        same = torch.equal(model.predict(panel, origin=origin).values, ridge_of(model).predict(panel, origin=origin).values)
        assert same == ((last - origin) % 24 != 0), origin


def test_the_phase_follows_the_clock_of_other_data() -> None:
    panel = hourly()
    model = fitted(panel)
    model = replace(model, weights={**model.weights, "alpha": torch.ones_like(model.weights["alpha"])})
    later = from_array(panel.values[:, 48:].clone(), step="h", start="2000-01-03").with_calendar("hour", "weekend")
    for origin in ("2000-01-29T23:00", "2000-01-29T20:00"):
        assert torch.equal(model.predict(panel, origin=origin).values, model.predict(later, origin=origin).values)


@pytest.mark.slow
def test_few_seasons_daily_steps_and_refusal_leave_the_phase_open() -> None:
    usual = SMALL.model_copy(update={"in_phase": None})
    assert fitted(hourly(30), usual).anchor is None, "30 days are too few"
    assert fitted(hourly(230), usual).anchor is not None
    assert fitted(hourly(230), SMALL.model_copy(update={"in_phase": False})).anchor is None
    daily = from_array(np.random.default_rng(1).normal(size=1600), step="D").with_calendar("weekday")
    assert forecast.fit(daily, Task(target="y", context=14, horizon=7), usual, Training(epochs=1)).anchor is None


def test_windows_in_phase_end_whole_seasons_before_the_end() -> None:
    panel = hourly(20, series=3, gaps=True)
    task = Task(target="y", known=calendar_of(panel), context=24, horizon=6)
    source = Source(panel, roles_of(task, panel), fit_scaling(panel, ("y",), "standard"), 24, 6)
    every = windows(source, split(panel, task, stop=0.2, calibrate=0.1).train, by_series=True)
    kept = in_phase(source, every, 24)
    series, origin = every.at(torch.arange(len(every)))
    wanted = [(s, o) for s, o in zip(series.tolist(), origin.tolist(), strict=True) if (24 * 20 - 1 - o) % 24 == 0]
    assert list(zip(*(x.tolist() for x in kept.at(torch.arange(len(kept)))), strict=True)) == wanted
    assert kept.counts.tolist() == [sum(s == one for s, _ in wanted) for one in range(3)]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_a_joined_table_gives_what_cells_do(gaps: bool, apart: bool) -> None:
    panel = hourly(12, series=3, gaps=gaps)
    task = Task(target="y", known=calendar_of(panel), context=24, horizon=6)
    source = Source(panel, roles_of(task, panel), fit_scaling(panel, ("y",), "minmax"), 24, 6)
    feed = Feed.of(source, split(panel, task, stop=0.2, calibrate=0.1), 3 if apart else 2, apart=apart)
    assert isinstance(feed.table, Table) and (feed.table.past.age is None) != gaps
    member, numbers = torch.tensor([1, 0]), torch.tensor([[0, 5, -1], [100, 7, 30]])
    for fast, plain in zip(feed.batch(member, numbers), replace(feed, table=None).batch(member, numbers), strict=True):
        assert torch.equal(fast, plain)
    assert not feed.batch(member, numbers).seen[0, 2].any(), "an empty slot is seen nowhere"


def test_a_net_for_every_origin_stands_on_a_ridge_for_every_origin() -> None:
    panel = hourly(30)
    task = Task(target="y", known=calendar_of(panel), context=24, horizon=6, levels=(0.1, 0.9))
    for in_phase_, phase in ((True, 0.25), (False, 0.0)):
        net = fitted(panel, SMALL.model_copy(update={"in_phase": in_phase_}))
        ridge = forecast.fit(panel, task, Ridge(phase=phase), Training(seed=1))
        assert torch.equal(net.weights["ridge.weight"], ridge.weights["weight"])
