"""Seasonal naive, drift and moving average: equal to their loops, with the clock's season, gaps and several targets."""

import numpy as np
import pytest
import torch

import naive
from foretell import Drift, MovingAverage, SeasonalNaive, Task, TaskError, Training, forecast, from_array
from foretell.baseline import Simple, steps_needed, with_season

RULES: list[tuple[Simple, str]] = [
    (SeasonalNaive(season=5), "seasonal_naive"),
    (SeasonalNaive(), "seasonal_naive"),
    (Drift(), "drift"),
    (MovingAverage(window=4), "moving"),
    (MovingAverage(), "moving"),
]


@pytest.mark.parametrize(("rule", "kind"), RULES, ids=repr)
@pytest.mark.parametrize("horizon", [1, 7, 17])
def test_rules_are_their_loops(rule: Simple, kind: str, horizon: int) -> None:
    values = np.random.default_rng(horizon).normal(size=(2, 90, 2))
    panel = from_array(values, ("y", "z"), step="D")
    model = forecast.fit(panel, Task(target=("z", "y"), context=9, horizon=horizon), rule)
    ahead = model.predict(panel).values
    for s in range(2):
        for t, channel in enumerate((1, 0)):
            past = values[s, :, channel].tolist()
            expected = {
                "seasonal_naive": lambda past=past: naive.seasonal_naive(past, horizon, getattr(rule, "season", None) or 7),
                "drift": lambda past=past: naive.drift(past[-model.context :], horizon),
                "moving": lambda past=past: naive.moving_average(past, horizon, getattr(rule, "window", None) or 7),
            }[kind]()
            assert ahead[s, :, t].tolist() == pytest.approx(expected, abs=1e-12)


def test_the_season_is_the_clocks_unless_said() -> None:
    assert with_season(SeasonalNaive(), 24) == SeasonalNaive(season=24)
    assert with_season(SeasonalNaive(season=7), 24) == SeasonalNaive(season=7)
    assert with_season(MovingAverage(), 24) == MovingAverage(window=24)
    assert with_season(Drift(), 24) == Drift()
    assert [steps_needed(r) for r in (SeasonalNaive(season=24), MovingAverage(window=3), Drift())] == [24, 3, 2]


def test_a_context_shorter_than_the_season_is_made_longer() -> None:
    panel = from_array(np.arange(24.0 * 9), step="h")
    model = forecast.fit(panel, Task(target="y", context=3, horizon=2), SeasonalNaive())
    assert model.context == 24
    assert model.predict(panel).values.flatten().tolist() == [192.0, 193.0]


def test_a_gap_takes_the_value_before_it() -> None:
    values = np.arange(60.0)
    values[-7] = np.nan
    panel = from_array(values, step="D")
    ahead = forecast.fit(panel, Task(target="y", context=14, horizon=2), SeasonalNaive()).predict(panel)
    assert ahead.values.flatten().tolist() == [52.0, 54.0]


@pytest.mark.parametrize("rule", [r for r, _ in RULES], ids=repr)
def test_forecasts_are_in_the_users_units_whatever_the_scale(rule: Simple) -> None:
    panel = from_array(np.random.default_rng(0).gamma(2.0, size=80), step="D")
    task = Task(target="y", context=9, horizon=3)
    plain, bent = (forecast.fit(panel, task, rule, Training(scale=s)).predict(panel) for s in ("standard", "asinh"))
    assert torch.equal(plain.values, bent.values) and torch.equal(plain.quantiles, bent.quantiles)


@pytest.mark.parametrize("spec", [SeasonalNaive, MovingAverage])
def test_a_length_of_nothing_gets_its_sentence(spec: type[SeasonalNaive] | type[MovingAverage]) -> None:
    with pytest.raises(TaskError, match=r"(season|window).*1.*got 0"):
        spec.model_validate({"season" if spec is SeasonalNaive else "window": 0})
