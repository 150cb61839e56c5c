"""Neighbours: boosted trees and statistical methods are rows like any other, keep the laws, and come back from a file."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
import naive_neighbours
from foretell import DataError, Panel, Task, TaskError, Training, forecast, from_array
from foretell.cli.networds import contenders, word_of
from foretell.neighbours import Boosting, Statistical
from foretell.neighbours.statistical import independent
from laws import PLAIN, TASK, after, plain, refused, rich, told, unknown

pytest.importorskip("mlforecast")
pytest.importorskip("statsforecast")

TREES = {kind: Boosting(kind=kind, rounds=15, leaves=7, least=5, season=4) for kind in ("lightgbm", "xgboost")}
RULES = {"AutoETS": Statistical(kind="AutoETS", season=1, history=60), "Theta": Statistical(kind="Theta", season=1, history=60)}
EVERY = TREES | RULES


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("change", [0, 4])
def test_trees_forecast_step_by_step_what_the_slow_twin_does(kind: str, change: int) -> None:
    panel = plain(140, ("a", "b"))
    panel = replace(panel, labels={"size": (3.0, 5.0), "kind": ("big", "small")})
    task = Task(target="y", known="x", context=20, horizon=3)
    net = TREES[kind].model_copy(update={"difference": change})
    model = forecast.fit(panel.until(136), task, net, Training(scale="identity", seed=1))
    ahead = model.predict(panel, origin=136)
    for one in range(2):
        np.testing.assert_allclose(ahead.values[one, :, 0].numpy(), naive_neighbours.boosted(model, panel, 136, one), rtol=1e-5)
    past_only = forecast.fit(panel, PLAIN, net, Training(scale="identity"))
    np.testing.assert_allclose(past_only.predict(panel).values[0, :, 0].numpy(), naive_neighbours.boosted(past_only, panel, 139, 0), rtol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_a_statistical_row_is_statsforecast_on_the_history(name: str) -> None:
    from statsforecast import models

    panel, net = plain(140, ("a", "b")), RULES[name]
    ahead = forecast.fit(panel, PLAIN, net).predict(panel, level=80.0)
    method = {"AutoETS": models.AutoETS, "Theta": models.AutoTheta}[name](season_length=1)
    line = naive_neighbours.continued(panel.values[1, -60:, 0])
    want = method.forecast(y=line, h=3, level=[80])
    np.testing.assert_allclose(ahead.values[1, :, 0].numpy(), want["mean"], rtol=1e-6)
    low, high = ahead.band(80)
    np.testing.assert_allclose(low[1, :, 0].numpy(), want["lo-80"], rtol=1e-3)
    np.testing.assert_allclose(high[1, :, 0].numpy(), want["hi-80"], rtol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_nothing_after_the_origin_matters(name: str) -> None:
    panel = rich(("a", "b"), steps=130)
    cut = 100
    model = forecast.fit(panel.until(cut), TASK, EVERY[name])
    again = forecast.fit(after(panel, cut, unknown(panel, TASK), 1e9).until(cut), TASK, EVERY[name])
    changed = after(panel, cut, unknown(panel, TASK), 1e9)
    for one, two in zip(told(model, panel, cut), told(again, changed, cut), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", EVERY)
def test_saved_and_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    panel = replace(plain(120, ("a", "b")), labels={"kind": ("big", "small")})
    model = forecast.fit(panel, PLAIN, EVERY[name])
    ft.save(model, tmp_path / "m")
    loaded = ft.load(tmp_path / "m")
    one, two = model.predict(panel), loaded.predict(panel)
    assert torch.equal(one.values, two.values) and torch.equal(one.quantiles, two.quantiles)
    assert loaded.net == model.net and loaded.facts == model.facts and loaded.labels == model.labels


@pytest.mark.parametrize("name", EVERY)
def test_gaps_late_starts_and_missing_parts_are_no_trouble(name: str) -> None:
    panel = plain(120, ("a", "b"))
    values = panel.values.clone()
    values[torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.2] = torch.nan
    values[1, :60] = torch.nan
    holes = replace(panel, values=values)
    for training in (Training(), Training(stop=0, calibrate=0), Training(retrain=False, calibrate=0)):
        ahead = forecast.fit(holes, PLAIN, EVERY[name], training).predict(holes)
        assert ahead.values.isfinite().all() and ahead.quantiles.isfinite().all()
        assert (ahead.quantiles.diff(dim=-1) >= 0).all()


def test_rows_of_the_same_backtest() -> None:
    panel = plain(130, ("a", "b"))
    models = {name: partial(forecast.fit, task=PLAIN, net=net) for name, net in EVERY.items()}
    result = ft.backtest(models, panel, windows=3, step=3, refit=0)
    assert result.models == ("seasonal_naive", "ridge", *EVERY)
    for name, net in EVERY.items():
        first = forecast.fit(panel.until(result.cutoff[0]), PLAIN, net)
        assert torch.allclose(result.point[name][0], first.predict(panel, origin=int(result.cutoff[0, 0])).values, atol=1e-5)
        assert result.point[name].isfinite().all()


def test_several_targets_each_have_trees_of_their_own() -> None:
    panel = plain(120, ("a",))
    task = Task(target=("y", "x"), context=16, horizon=3)
    ahead = forecast.fit(panel, task, TREES["lightgbm"]).predict(panel)
    assert ahead.values.shape == (1, 3, 2)
    alone = forecast.fit(panel, Task(target="x", past=(), context=16, horizon=3), TREES["lightgbm"]).predict(panel)
    assert torch.allclose(ahead.values[..., 1:], alone.values, atol=1e-6)


def test_tweedie_reads_sales_as_they_are() -> None:
    draw = np.random.default_rng(0)
    sales = draw.poisson(np.where(np.arange(200) % 7 == 5, 4.0, 0.5), size=(3, 200)).astype(float)
    panel = from_array(sales, step="D")
    task = Task(target="y", context=28, horizon=7, floor=0)
    for kind in TREES:
        model = forecast.fit(panel, task, Boosting(kind=kind, objective="tweedie", rounds=40, least=5), Training(stop=0))
        assert torch.equal(model.scaling.target.invert(torch.ones(1, 1, 1), torch.tensor([2])), torch.ones(1, 1, 1))  # unscaled
        ahead = model.predict(panel).values[..., 0]
        assert (ahead > 0).all() and float(ahead[:, 1].mean()) > 2 * float(ahead[:, 0].mean())  # the busy weekday
    negative = from_array(sales - 5, step="D")
    with refused(DataError, "tweedie is for values of at least 0, and y goes down to -5"):
        forecast.fit(negative, task, Boosting(objective="tweedie"))


def test_the_stop_part_chooses_the_difference_and_the_number_of_trees() -> None:
    step = np.arange(300.0)
    rising = from_array(5 * step + 3 * np.sin(step * np.pi / 3.5), step="D")
    facts = forecast.fit(rising, Task(target="y", context=28, horizon=7), Boosting(rounds=200, least=5, patience=5)).facts
    assert facts["difference"] == "7" and int(str(facts["trees"])) < 200


def test_a_short_stop_part_does_not_choose_the_difference() -> None:
    """Ninety days in which values of their own are the better guess, and too few forecasts of the stop part to know it."""
    few = from_array(np.random.default_rng(0).normal(size=(2, 91)), step="D")
    task = Task(target="y", context=14, horizon=7)
    assert forecast.fit(few, task, Boosting(rounds=5)).facts["difference"] == "7"
    assert forecast.fit(few, task, Boosting(rounds=5), Training(stop=0.3)).facts["difference"] == "0"
    assert forecast.fit(few, task.model_copy(update={"context": 8}), Boosting(rounds=5)).facts["difference"] == "0"  # no room for more
    assert Boosting(season=7).reach(14, 0) == (1, 2, 3, 4, 5, 6, 7, 8, 13) and Boosting(season=7).reach(14, 7) == (1, 2, 3, 4, 5, 6)


def test_arima_gets_known_channels_that_say_something() -> None:
    draw = np.random.default_rng(0).normal(size=(50, 2))
    columns = np.column_stack([draw[:, 0], np.ones(50), draw[:, 1], draw[:, 0] + draw[:, 1]])
    assert independent(columns) == [0, 2]
    price = np.random.default_rng(1).normal(size=80)
    values = np.stack([10 + 4 * price + 0.1 * np.random.default_rng(2).normal(size=80), price], -1)
    values[77:, 0] = np.nan
    panel = from_array(values[None], ("y", "price"), step="D")
    net = Statistical(kind="AutoARIMA", season=1, history=80)
    ahead = forecast.fit(panel, Task(target="y", known="price", context=7, horizon=3), net).predict(panel)
    assert np.allclose(ahead.values[0, :, 0], 10 + 4 * price[77:], atol=0.6)


def test_a_constant_series_stays_constant() -> None:
    panel = from_array(np.full((2, 80), 7.0), step="D")
    for name, net in EVERY.items():
        ahead = forecast.fit(panel, Task(target="y", context=12, horizon=3), net).predict(panel)
        assert torch.allclose(ahead.values, torch.tensor(7.0, dtype=torch.float64), atol=1e-5), name


def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    panel: Panel = plain(120, ("a", "b"))
    with refused(TaskError, "per_series=True: Boosting learns one model from all series"):
        forecast.fit(panel, PLAIN, TREES["lightgbm"], per_series=True)
    with refused(TaskError, "Boosting reads at least 20 steps back and a difference over 0: context 12 is too short, use 21 or more"):
        forecast.fit(panel, PLAIN, Boosting(lags=(20,)))
    with refused(TaskError, "members=2: an ensemble has at least 1 member"):
        forecast.fit(panel, PLAIN, TREES["lightgbm"], members=2)
    with refused(TaskError, "Boosting: kind must be .lightgbm. or .xgboost.; got \"?'?catboost"):
        Boosting.model_validate({"kind": "catboost"})
    labelled = replace(panel, labels={"kind": ("big", "small")})
    model = forecast.fit(labelled, PLAIN, TREES["lightgbm"])
    with refused(TaskError, 'the model knows the label "kind" of every series: there are none; give it'):
        model.predict(panel)
    monkeypatch.setitem(sys.modules, "mlforecast", None)
    with refused(TaskError, r'Boosting needs the package mlforecast: pip install "foretell\[baselines\]"'):
        forecast.fit(panel, PLAIN, TREES["lightgbm"])


def test_a_label_never_seen_is_read_as_such() -> None:
    panel = replace(plain(120, ("a", "b")), labels={"kind": ("big", "small"), "size": (1.0, 3.0)})
    model = forecast.fit(panel, PLAIN, TREES["lightgbm"])
    kind, size = model.labels
    assert kind.read(replace(panel, labels={"kind": ("small", "huge"), "size": (1.0, 3.0)})).tolist() == [2.0, 0.0]
    assert size.read(panel).tolist() == [-1.0, 1.0]


def test_on_the_command_line_by_their_names() -> None:
    rows = contenders(["lightgbm", "xgboost:rounds=50", "autoets", "theta:season=7", "autoarima"], {})
    assert [row.net for row in rows] == [
        Boosting(), Boosting(kind="xgboost", rounds=50), Statistical(), Statistical(kind="Theta", season=7), Statistical(kind="AutoARIMA")
    ]  # fmt: skip
    assert [word_of(row.net) for row in rows] == ["lightgbm", "xgboost", "autoets", "theta", "autoarima"]
    assert not any(row.trained for row in rows)


@pytest.mark.parametrize("name", EVERY)
def test_the_whole_model_is_a_function_without_gradients(name: str) -> None:
    """What explanations and plans ask: the same numbers as predict, for changed inputs too; and a sentence instead of slopes."""
    panel = plain(120, ("a", "b"))
    model = forecast.fit(panel, PLAIN, EVERY[name])
    function, blocks = model.function(panel)
    assert not model.differentiable
    torch.testing.assert_close(function(blocks)[..., 0], model.predict(panel).values, rtol=1e-5, atol=1e-5)
    moved = {**blocks, "past": blocks["past"] + 1.0}
    assert (function(moved)[..., 0] - function(blocks)[..., 0]).abs().max() > 0.1
    with refused(TaskError, "no gradients: explain (them|it) by a perturbation method"):
        function({**blocks, "past": blocks["past"].clone().requires_grad_()})
