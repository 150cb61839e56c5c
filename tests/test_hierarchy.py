"""Sums that agree at every level, bands of sums that mean what they say, and tables by label."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import Forecast, Panel, Task, TaskError, forecast, from_array
from foretell.clock import Clock
from foretell.nets import Ridge
from laws import refused

LABELS = {"state": ("CA", "CA", "TX", "TX"), "dept": ("F", "H", "F", "H")}


def shop() -> Panel:
    draw = np.random.default_rng(0)
    panel = from_array(draw.poisson(5, size=(4, 90)).astype(float), series=("a", "b", "c", "d"), step="D")
    return replace(panel, labels=LABELS)


def normal(sigma: list[float], probs: tuple[float, ...] = (0.1, 0.9)) -> Forecast:
    """Four forecasts of 10, 20, 30, 40 with normal errors of these deviations."""
    score = torch.special.ndtri(torch.tensor(probs, dtype=torch.float64))
    point = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64)[:, None, None].expand(4, 2, 1)
    bands = point[..., None] + torch.tensor(sigma, dtype=torch.float64)[:, None, None, None] * score
    clock = Clock(np.datetime64("2024-01-01"), "D", None)
    return Forecast(point, bands, probs, torch.full((4,), 89), clock, ("a", "b", "c", "d"), ("y",))


def test_every_level_says_the_same() -> None:
    panel = shop()
    ahead = forecast.fit(panel, Task(target="y", context=14, horizon=5, floor=0), Ridge()).predict(panel)
    total = ft.sums(ahead, panel)
    assert total.series == ("total",)
    for by in ("state", "dept", ("state", "dept")):
        part = ft.sums(ahead, panel, by)
        assert torch.allclose(part.values.sum(0), total.values[0]) and torch.allclose(ahead.values.sum(0), total.values[0])
    states = ft.sums(ahead, panel, "state")
    assert states.series == ("CA", "TX") and torch.allclose(states.values[1], ahead.values[2:].sum(0))
    assert (total.quantiles >= 0).all() and (total.quantiles.diff(dim=-1) >= 0).all()
    assert {"foretell", "foretell-lo-80"} <= set(total.columns())


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_bands_of_normal_errors_are_those_of_their_sum(correlation: float) -> None:
    sigma = [1.0, 2.0, 3.0, 0.5]
    total = ft.sums(normal(sigma), shop(), correlation=correlation)
    s = np.array(sigma)
    whole = np.sqrt((1 - correlation) * (s**2).sum() + correlation * s.sum() ** 2)
    assert total.values[0, 0, 0] == 100
    assert total.quantiles[0, 0, 0].tolist() == pytest.approx([100 - 1.2815515655 * whole, 100 + 1.2815515655 * whole])


def test_a_group_has_its_own_errors() -> None:
    panel = shop()
    task = Task(target="y", context=14, horizon=5)
    result = ft.backtest({"own": partial(forecast.fit, task=task, net=Ridge())}, panel, windows=2)
    columns = ft.hierarchy.columns_by(result, panel, "state")
    for group, rows in (("CA", [0, 1]), ("TX", [2, 3])):
        at = next(i for i, (g, m) in enumerate(zip(columns["group"], columns["model"], strict=True)) if (g, m) == (group, "own"))
        error = (result.truth - result.point["own"]).abs()[:, rows].mean()
        assert columns["MAE"][at] == pytest.approx(float(error), rel=1e-5) and columns["series"][at] == 2
    assert len(ft.table_by(result, panel, ("state", "dept"))) == 4 * len(result.models)
    worst = ft.hierarchy.ranked(result)
    assert [v for _, v in worst] == sorted((v for _, v in worst), reverse=True) and {s for s, _ in worst} == set("abcd")


def test_what_cannot_be_summed_gets_a_sentence() -> None:
    panel, ahead = shop(), normal([1.0, 1.0, 1.0, 1.0])
    with refused(TaskError, 'no label "stat" in this panel: did you mean "state"'):
        ft.sums(ahead, panel, "stat")
    with refused(TaskError, "correlation=2 between the errors of two series must lie between 0 and 1"):
        ft.sums(ahead, panel, correlation=2)
    with refused(TaskError, 'series "c" is forecast from 2024-03-25.*, others of its sum from 2024-03-30'):
        ft.sums(replace(ahead, origin=torch.tensor([89, 89, 84, 89])), panel)
    with refused(TaskError, 'series "a" is not in this panel'):
        ft.sums(ahead, panel.pick("b", "c", "d"))
    result = ft.backtest({"own": partial(forecast.fit, task=Task(target="y", context=14, horizon=5), net=Ridge())}, panel, windows=1)
    with refused(TaskError, 'no model "mine" in this backtest'):
        ft.hierarchy.ranked(result, "mine")
    with refused(TaskError, 'no metric "RMSS": did you mean "RMSE|no metric "RMSS"'):
        ft.hierarchy.ranked(result, metric="RMSS")
