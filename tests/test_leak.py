"""The leak law: what comes after a cut and is not known ahead changes nothing that is said at that cut, to the last bit."""

from dataclasses import replace
from functools import partial

import pytest
import torch

import foretell as ft
from conftest import fingerprint
from foretell import Backtest, Panel, Training, forecast
from laws import LEARNT, MODES, NETS, PLAIN, TASK, TRAINING, after, every, fitted, learnt, plain, rich, slow, told, unknown

CUT = 118
OTHERWISE = [1e9, float("nan")]


def same(one: tuple[torch.Tensor, ...], two: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a.nan_to_num(7e77), b.nan_to_num(7e77)) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("name", "alone"), MODES)
def test_the_future_reaches_neither_the_model_nor_the_forecast(name: str, alone: bool) -> None:
    panel = rich()
    model = fitted(name, panel.until(CUT), per_series=alone)
    known = learnt(model)
    expected = told(model, panel, CUT)
    assert expected[0].isfinite().all()
    for value in OTHERWISE:
        other = after(panel, CUT, unknown(panel, TASK), value)
        again = fitted(name, other.until(CUT), per_series=alone)
        assert fingerprint(learnt(again)) == fingerprint(known)
        assert same(told(again, other, CUT), expected)
        assert same(told(model, other, CUT), expected)


@pytest.mark.parametrize("name", NETS)
def test_the_present_reaches_the_forecast(name: str) -> None:
    """So that the law above is not true of a model that looks at nothing."""
    panel = rich()
    model = fitted(name, panel.until(CUT))
    assert not same(told(model, after(panel, CUT - 25, ("y",), 30.0), CUT), told(model, panel, CUT))


@pytest.mark.parametrize("name", LEARNT)
def test_what_is_known_ahead_counts_within_the_horizon_only(name: str) -> None:
    panel = rich()
    model = fitted(name, panel.until(CUT))
    for channel in ("price", "sun"):
        assert same(told(model, after(panel, CUT + 3, (channel,), 1e9), CUT), told(model, panel, CUT))
        assert not same(told(model, after(panel, CUT + 2, (channel,), 3.0), CUT), told(model, panel, CUT))


@pytest.mark.parametrize(
    ("name", "scale"), [(n, s) if s == "standard" or n in ("ridge", "lstm on ridge") else slow(n, s) for n in NETS for s in ("standard", "asinh", "quantile")]
)
def test_a_series_never_seen_is_scaled_by_its_past(name: str, scale: str) -> None:
    panel = rich()
    model = fitted(name, panel.until(CUT), training=TRAINING.model_copy(update={"scale": scale}))
    new = replace(panel, series=("d", "b", "e"))
    expected = told(model, new, CUT)
    for value in OTHERWISE:
        assert same(told(model, after(new, CUT, unknown(panel, TASK), value), CUT), expected)


def test_the_seasonal_index_is_of_the_training_part() -> None:
    panel = rich()
    model = fitted("ridge", panel.until(CUT))
    last = next(p for p in model.parts if p.name == "train").last
    other = after(panel, last, ("y",), 500.0)
    again = fitted("ridge", other.until(CUT))
    assert torch.equal(model.scaling.indices[0].table, again.scaling.indices[0].table)


@pytest.mark.parametrize("name", every(LEARNT, ("ridge", "lstm on ridge", "lstm alone")))
def test_each_part_teaches_only_what_it_is_for(name: str) -> None:
    """Scales come from train, weights from train and stop, and nothing but the bands from calibrate."""
    panel = plain(160)
    model = fitted(name, panel, PLAIN)
    train, stop, calibrate = model.parts
    for first, part, same_weights in ((train.last, stop, False), (stop.last, calibrate, True)):
        values = panel.values.clone()
        values[:, first + 1 : part.last + 1, 0] += 50 * torch.arange(part.last - first)
        again = fitted(name, replace(panel, values=values), PLAIN)
        assert fingerprint(again.scaling) == fingerprint(model.scaling)
        if name != "lstm alone" or same_weights:  # there the stop part only says when to stop
            assert (fingerprint(dict(again.weights)) == fingerprint(dict(model.weights))) is same_weights
        assert fingerprint(again.bands) != fingerprint(model.bands)


def at(result: Backtest, model: str, cuts: slice) -> tuple[torch.Tensor, ...]:
    return result.point[model][cuts], result.quantiles[model][cuts]


@pytest.mark.parametrize(
    ("name", "refit", "windows"),
    [("ridge", 1, 3), slow("lstm on ridge", 1, 3), slow("ridge", 0, 16), ("lstm alone", 0, 16), ("drift", 0, 16), slow("ridge", 4, 16)],
)
def test_a_backtest_sees_no_truth_before_its_time(name: str, refit: int, windows: int) -> None:
    panel = rich(("a", "b"), steps=170)
    models = {"own": partial(forecast.fit, task=TASK, net=NETS[name], training=TRAINING)}

    def run(panel: Panel) -> Backtest:
        return ft.backtest(models, panel, windows=windows, step=2, refit=refit, level=[50, 80])

    panel = even(panel)
    whole = run(panel)
    for place in (0, windows - 2):
        cut = int(whole.cutoff[place].max())
        changed = run(after(panel, cut, unknown(panel, TASK), 1e9))
        for model in whole.models:
            assert same(at(changed, model, slice(place + 1)), at(whole, model, slice(place + 1)))
        assert not same(at(changed, "own", slice(None)), at(whole, "own", slice(None)))
        assert torch.equal(changed.scale, whole.scale)


def test_bands_of_a_backtest_roll_on() -> None:
    """With one fit, later truths do change later bands: the law above is not true of bands that never move."""
    panel = plain(260)
    models = {"own": partial(forecast.fit, task=PLAIN, training=Training(calibrate=0.1))}
    one = ft.backtest(models, panel, windows=30, step=3, refit=0)
    other = after(panel, int(one.cutoff[0].max()), ["y"], 0.0)
    values = torch.where(other.values == 0.0, panel.values * 1.5, other.values)
    two = ft.backtest(models, replace(panel, values=values), windows=30, step=3, refit=0)
    width = [(r.band("own", 80)[1] - r.band("own", 80)[0])[-1].mean() for r in (one, two)]
    assert width[1] > 1.2 * width[0]


def even(panel: Panel) -> Panel:
    """All series to the same last step: then one clock step is a cut for all."""
    end = int(panel.start.min()) + panel.values.shape[1] - 1
    return panel.until(end)
