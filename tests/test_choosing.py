"""choose: what the table says is what is chosen, and data too small for a net are told so."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import Drift, Panel, SeasonalNaive, Task, TaskError, Training, forecast, from_array
from foretell.choosing import ENSEMBLE, TELLING, Choice, _least, choose, training_windows
from foretell.forecast import Member
from foretell.nets import Ridge, StackedLSTM
from laws import PLAIN, plain, refused

NETS = {"ridge": Ridge(), "drift": Drift(), "net": Member(StackedLSTM(hidden=(4,)), Training(epochs=2, device="cpu"))}


def chosen(panel: Panel) -> Choice:
    return choose(panel, PLAIN, Training(seed=1, device="cpu"), nets=NETS, windows=4)


def test_the_row_with_the_least_error_is_chosen_and_its_fit_is_that_row() -> None:
    panel = plain(200)
    found = chosen(panel)
    scores = {name: float(values["MASE"]) for name, values in found.table.scores().items()}
    assert set(scores) == {"seasonal_naive", "ridge", "drift", "net", ENSEMBLE}
    assert scores[found.name] == min(scores[name] for name in (*NETS, ENSEMBLE))
    assert found.name in found.reason() and f"{scores[found.name]:.4g}" in found.reason()
    result = ft.backtest({"again": found.fit}, panel, task=PLAIN, windows=4, refit=0)
    assert float(result.scores()["again"]["MASE"]) == pytest.approx(scores[found.name], rel=1e-4)


def test_the_ensemble_of_the_table_is_the_ensemble_fitted_anew() -> None:
    panel = plain(200)
    found = chosen(panel)
    anew = ft.backtest({"anew": partial(forecast.ensemble, task=PLAIN, nets=NETS, training=found.training)}, panel, windows=4, refit=0)
    np.testing.assert_allclose(anew.point["anew"], found.table.point[ENSEMBLE], rtol=1e-5)


@pytest.mark.parametrize(("origins", "better", "taken"), [(40, 0.1, "net"), (40, 0.02, ENSEMBLE), (TELLING, 0.02, ENSEMBLE), (TELLING - 1, 0.02, "net")])
def test_the_ensemble_wins_a_tie_when_there_are_origins_enough_to_call_it_one(origins: int, better: float, taken: str) -> None:
    panel = plain(200, ("a",))
    table = ft.backtest({"net": partial(forecast.fit, task=PLAIN), ENSEMBLE: partial(forecast.fit, task=PLAIN)}, panel, windows=origins, refit=0)
    truth = table.truth
    error = torch.ones_like(truth)
    other = error - better - 0.2 * (-1.0) ** torch.arange(len(truth))[:, None, None, None]
    table = replace(table, point=dict.fromkeys(table.models, truth + 5) | {"net": truth + other, ENSEMBLE: truth + error})
    assert _least(table, ("net", ENSEMBLE), "MAE") == taken
    found = Choice(taken, {"net": Member(Ridge())}, PLAIN, Training(), table, "MAE")
    assert ("less by no more than chance explains: net" in found.reason()) is (taken == ENSEMBLE)


@pytest.mark.slow
def test_nothing_outside_the_data_given_is_used() -> None:
    panel = plain(220)
    values = panel.values.clone()
    values[:, 200:] = 1e9
    one, two = (chosen(p.until(199)) for p in (panel, from_array(values, ("y", "x"), panel.series, step="h")))
    assert one.name == two.name and np.array_equal(one.table.point[one.name], two.table.point[two.name])


def test_windows_to_learn_from_are_counted_as_they_are_trained_on() -> None:
    panel = plain(140)
    model = forecast.fit(panel, PLAIN, Ridge())
    assert training_windows(panel, PLAIN, Training())[0] == next(p.rows for p in model.parts if p.name == "train")


def test_too_little_for_a_net_is_said_and_a_simple_model_chosen() -> None:
    """91 days, as the file of real advertising has them."""
    draw = np.random.default_rng(0)
    panel = from_array(100 + 20 * np.sin(np.arange(91) * 2 * np.pi / 7) + draw.normal(size=91), step="D")
    found = choose(panel, Task(target="y", context=14, horizon=7))
    assert not {"lstm", "lstm_transformer", "period_kernel", "lightgbm", "xgboost"} & set(found.rows)
    (note,) = [n for n in found.notes if "too little data" in n]
    assert note.startswith("too little data for lstm, lstm_transformer, period_kernel, lightgbm, xgboost: 91 steps give 53 training windows; a net needs 300")
    assert note in repr(found)


def test_real_advertising_of_91_days_gets_a_simple_model(data: Path) -> None:
    panel = ft.read(data / "ads/online_advertising/daily_total.csv.gz")
    found = choose(panel, Task(target="sales", context=14, horizon=7))
    assert any("too little data for lstm" in note for note in found.notes)
    assert found.name in ("seasonal_naive", "moving_average", "ridge", "autoets", "theta", ENSEMBLE)


def test_without_the_extra_its_rows_are_missing_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from foretell import choosing

    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    rows, notes = choosing._candidates(plain(200), PLAIN, Training())
    assert "lightgbm" not in rows and "autoets" not in rows and "lstm" in rows and "ridge, one a series" in rows
    assert notes == ('not installed, so not asked: lightgbm, xgboost (pip install "foretell[baselines]")',)
    assert "foretell.choosing" in sys.modules


def test_demand_is_asked_of_a_seasonal_ridge_too() -> None:
    from foretell import choosing

    days = from_array(np.random.default_rng(0).poisson(3.0, (2, 200, 1)).astype(np.float32), step="D")
    daily = Task(target="y", context=14, horizon=7)
    assert "seasonal ridge, one a series" in choosing._candidates(days, daily.model_copy(update={"floor": 0.0}), Training())[0]
    assert "seasonal ridge, one a series" not in choosing._candidates(days, daily, Training())[0]


def test_what_is_asked_wrongly_is_said() -> None:
    panel = plain(120)
    with refused(TaskError, "nothing to choose from"):
        choose(panel, PLAIN, nets={})
    with refused(TaskError, 'nets: "ensemble" is the name of the row that mixes all others'):
        choose(panel, PLAIN, nets={"ensemble": Ridge()})
    assert choose(panel, PLAIN, nets={"a": SeasonalNaive()}, windows=2).name == "a"


def test_a_choice_stopped_by_hand_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends Ctrl-C with the best weights so far; a table of such rows would mislead."""
    true_fit = forecast.learnt

    def interrupted(*given: object) -> forecast.Learnt:
        found = true_fit(*given)  # type: ignore[arg-type]  # as they came
        return found._replace(model=replace(found.model, notes=("stopped by hand after 2 epochs",)))

    monkeypatch.setattr(forecast, "learnt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose(plain(150), PLAIN, nets={"ridge": Ridge()}, windows=2)
