"""The laws of forecasters, every net under every law (the leak law has its own file)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from conftest import fingerprint
from foretell import Forecaster, Panel, Task, Training, forecast, from_array
from foretell.learning import _whole
from foretell.nets import Ridge, StackedLSTM
from foretell.optim import Optimizer
from laws import DRAWN, FEW, LEARNT, MODES, NETS, PLAIN, SPARE, TASK, TOGETHER, TRAINING, every, fitted, learnt, plain, rich, slow, standing, told

every_mode = pytest.mark.parametrize(("name", "alone"), MODES)


def close(one: tuple[torch.Tensor, ...], two: tuple[torch.Tensor, ...], within: float = 1e-9) -> bool:
    return all(torch.allclose(a, b, rtol=within, atol=within, equal_nan=True) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("name", "alone", "scale"),
    [pytest.param(*case.values, "standard", marks=case.marks) for case in SPARE]
    + [(n, False, s) if n in ("ridge", "lstm on ridge") else slow(n, False, s) for n in LEARNT for s in ("minmax", "robust")],
)
def test_refit_on_other_units_is_the_same_forecast_in_those_units(name: str, alone: bool, scale: str) -> None:
    panel, training = plain(), TRAINING.model_copy(update={"scale": scale})
    a, b = 250.0, -40.0
    values = panel.values.clone()
    values[..., 0] = a * values[..., 0] + b
    one = told(fitted(name, panel, PLAIN, per_series=alone, training=training), panel, 139)
    other = replace(panel, values=values)
    two = told(fitted(name, other, PLAIN, per_series=alone, training=training), other, 139)
    assert close(tuple(a * x + b for x in one), two, 1e-7)


@pytest.mark.parametrize(("name", "alone"), [case for case in SPARE if case.values[0] not in DRAWN or not case.values[1]])
def test_renamed_series_are_only_renamed(name: str, alone: bool) -> None:
    """All but a net of a series, which draws its first weights by the series' name."""
    panel = rich()
    renamed = replace(panel, series=("z", "ä", "m"))
    one, two = (model.predict(p, origin=140) for model, p in ((standing(name, alone), panel), (fitted(name, renamed, per_series=alone), renamed)))
    assert two.series == ("z", "ä", "m")
    assert torch.equal(one.values, two.values) and torch.equal(one.quantiles, two.quantiles)


@every_mode
def test_reordered_series_are_only_reordered(name: str, alone: bool) -> None:
    panel, order = rich(), [2, 0, 1]
    moved = panel.pick("c", "a", "b")
    model = standing(name, alone)
    one, two = told(model, panel, 140), told(model, moved, 140)
    assert close(tuple(x[order] for x in one), two, 1e-12)
    if name in DRAWN and not alone:
        return  # one net for all meets the windows of an epoch in another order
    again = told(fitted(name, moved, per_series=alone), moved, 140)
    assert close(tuple(x[order] for x in one), again, 1e-7)


@every_mode
def test_some_series_alone_are_forecast_as_among_all(name: str, alone: bool) -> None:
    panel = rich()
    model = standing(name, alone)
    whole = told(model, panel, 140)
    panel = model.view(panel) if name in TOGETHER else panel  # neighbours come along
    assert close(tuple(x[[1]] for x in whole), told(model, panel.pick("b"), 140), 1e-12)
    assert close(tuple(x[[2, 0]] for x in whole), told(model, panel.pick("c", "a"), 140), 1e-12)


LEVELS = [("standard", (0.1, 0.5, 0.9)), ("standard", (0.4, 0.45)), ("standard", ()), ("standard", (0.7,)), ("asinh", (0.1, 0.9)), ("quantile", (0.2, 0.8))]


@pytest.mark.parametrize(
    ("name", "scale", "levels"),
    [(n, *how) if n in ("ridge", "lstm on ridge") or how == LEVELS[0] else slow(n, *how) for how in LEVELS for n in NETS],
)
def test_quantiles_do_not_cross(name: str, scale: str, levels: tuple[float, ...]) -> None:
    task = Task(target="y", context=12, horizon=3, levels=levels)
    panel = plain(120, ("a",))
    model = fitted(name, panel, task, training=TRAINING.model_copy(update={"scale": scale}))
    for asked in ([80], [99.9, 1, 50, 80], list(range(1, 100, 7)), [33.3, 33.4]):
        ahead = model.predict(panel, level=asked)
        assert len(ahead.probs) == 2 * len(asked)
        assert (ahead.quantiles.diff(dim=-1) >= 0).all()
        low, high = ahead.band(asked[0])
        assert (low <= high).all()
    assert (model.predict(panel).quantiles.diff(dim=-1) >= 0).all()


LONG = Training(epochs=6, batch=32, patience=1, seed=1, device="cpu", optimizer=Optimizer(rate=0.05))


@pytest.mark.parametrize("name", every(name for name in NETS if name not in TOGETHER))
def test_members_ignore_their_neighbours(name: str) -> None:
    panel = plain(130, seed=5)
    among = fitted(name, panel, PLAIN, per_series=True, training=LONG)
    if name in DRAWN:
        ends = among.curves.stop.isfinite().sum(1)
        assert len(ends.unique()) > 1, "members are to stop at different epochs here"
    for series in panel.series:
        alone = fitted(name, panel.pick(series), PLAIN, per_series=True, training=LONG)
        assert close((alone.predict(panel.pick(series)).values,), (among.predict(panel.pick(series)).values,), 1e-6)


@pytest.mark.parametrize("name", ["ridge", "lstm on ridge"])
@pytest.mark.parametrize("late", [True, False], ids=["began late", "ended early"])
@pytest.mark.parametrize("other", [slow(60), 30, 8])
def test_members_ignore_a_neighbour_of_another_length(name: str, other: int, late: bool) -> None:
    """The shortest has no stop window, then no window at all."""
    panel = plain(130, ("a", "b"))
    values = panel.values.clone()
    values[1, slice(None, -other) if late else slice(other, None)] = torch.nan
    short = replace(panel, values=values)
    among = fitted(name, short, PLAIN, per_series=True)
    alone = fitted(name, short.pick("a"), PLAIN, per_series=True)
    assert close((alone.predict(short.pick("a")).values,), (among.predict(short.pick("a")).values,), 1e-6)


def test_members_ignore_how_many_windows_their_neighbours_have() -> None:
    """`most` thins the windows of a net; nets side by side are thinned as if alone."""
    panel = plain(300)
    net = Ridge(most=60)
    among = forecast.fit(panel, PLAIN, net, per_series=True)
    alone = forecast.fit(panel.pick("b"), PLAIN, net, per_series=True)
    assert close((alone.predict(panel.pick("b")).values,), (among.predict(panel.pick("b")).values,), 1e-6)


@every_mode
def test_a_saved_model_is_the_same_to_the_last_bit(name: str, alone: bool, tmp_path: Path) -> None:
    panel = rich()
    model = standing(name, alone)
    ft.save(model, tmp_path / "m.foretell")
    again = ft.load(tmp_path / "m.foretell")
    assert isinstance(again, Forecaster)
    assert fingerprint(learnt(again)) == fingerprint(learnt(model))
    assert (again.task, again.net, again.training, again.roles) == (model.task, model.net, model.training, model.roles)
    for one, two in zip(told(model, panel, 140), told(again, panel, 140), strict=True):
        assert torch.equal(one, two)
    new = replace(panel, series=("new", "b", "c"))
    if not alone:
        assert torch.equal(model.predict(new, origin=140).quantiles, again.predict(new, origin=140).quantiles)


SIGNAL = {
    "ridge": (Ridge(), Training(device="cpu")),
    "lstm on ridge": (StackedLSTM(hidden=(4,)), Training(epochs=3, device="cpu")),
    "lstm alone": (
        StackedLSTM(hidden=(8,), ridge=False, dropout=0.0),
        Training(epochs=40, batch=64, patience=40, device="cpu", optimizer=Optimizer(rate=0.03)),
    ),
}


@pytest.mark.parametrize("name", every(SIGNAL))
def test_a_known_signal_beats_the_seasonal_naive(name: str) -> None:
    draw = np.random.default_rng(2)
    price = draw.normal(size=400)
    panel = from_array(np.stack([10 + 3 * price + 0.3 * draw.normal(size=400), price], -1)[None].astype(np.float32), ("y", "price"), step="D")
    task = Task(target="y", known="price", context=7, horizon=3)
    net, training = SIGNAL[name]
    result = ft.backtest({"own": partial(forecast.fit, task=task, net=net, training=training)}, panel, test=0.2)
    assert float(result.scores()["own"]["skill"]) > 0.7
    assert list(result.table_columns()["model"]) == ["seasonal_naive", "ridge", "own"]


@pytest.mark.parametrize("name", every(SIGNAL))
def test_pure_noise_is_not_beaten(name: str) -> None:
    """Of a random walk by the year the naive forecast, its last value, is the best there is."""
    walk = np.random.default_rng(4).normal(size=400).cumsum().astype(np.float32)
    panel = from_array(walk, start="1600-01-01", step="YS")
    task = Task(target="y", context=7, horizon=3)
    net, training = SIGNAL[name]
    result = ft.backtest({"own": partial(forecast.fit, task=task, net=net, training=training)}, panel, test=0.3)
    assert float(result.scores()["own"]["skill"]) < 0.03


@pytest.mark.parametrize(("name", "refit"), [(name, 0) if name not in DRAWN[1:] else slow(name, 0) for name in NETS] + [slow("ridge", 7)])
def test_an_80_percent_band_holds_80_percent(name: str, refit: int) -> None:
    draw = np.random.default_rng(6)
    steps = np.arange(420)
    noise = draw.gamma(2.0, size=(2, 420))  # skewed: the two sides of a band differ
    panel = from_array((3 * np.sin(2 * np.pi * steps / 24) + noise).astype(np.float32), step="h")
    task = Task(target="y", context=24, horizon=4)
    result = ft.backtest({"own": partial(forecast.fit, task=task, net=NETS[name], training=TRAINING)}, panel, test=0.4, step=4, refit=refit)
    assert 0.74 < float(result.scores()["own"]["coverage-80"]) < 0.86


@pytest.mark.parametrize(
    ("name", "alone"), [(n, a) if n in FEW and a == (n in DRAWN) else slow(n, a) for n in NETS for a in (False, True) if not (a and n in TOGETHER)]
)
def test_inputs_are_left_as_they_were(name: str, alone: bool, tmp_path: Path) -> None:
    panel, training = rich(), TRAINING
    frame = panel.frame()
    before = fingerprint((panel, TASK, NETS[name], training, frame))
    model = fitted(name, panel, per_series=alone)
    state = fingerprint(model)
    held = panel.until(140)
    cut = fingerprint(held)
    ahead = model.predict(held.extend(frame), origin=140, level=[50])
    model.predict(held, future=frame, origin=140)
    model.predict(panel, origin=140)
    shown = fingerprint(ahead)
    ahead.frame(), ahead.times(), ahead.band(50), model.summary(), ft.save(model, tmp_path / "m.foretell")
    assert (fingerprint(held), fingerprint(model), fingerprint(ahead)) == (cut, state, shown)
    result = ft.backtest({"own": partial(forecast.fit, task=TASK, net=NETS[name], training=training, per_series=alone)}, panel, windows=1)
    tested = fingerprint(result)
    result.frame(), result.table(), result.table("step"), result.scores("series")
    assert fingerprint(result) == tested
    assert fingerprint((panel, TASK, NETS[name], training, frame)) == before


@pytest.mark.parametrize(("name", "alone"), SPARE)
def test_the_same_seed_gives_the_same_bits(name: str, alone: bool) -> None:
    panel = plain(100)
    one, two = (fitted(name, panel, PLAIN, per_series=alone) for _ in range(2))
    assert fingerprint(learnt(one)) == fingerprint(learnt(two))
    other = fitted(name, panel, PLAIN, per_series=alone, training=TRAINING.model_copy(update={"seed": 4}))
    assert (fingerprint(learnt(other)) != fingerprint(learnt(one))) is (name in DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_an_ensemble_is_the_mean_of_its_members(name: str) -> None:
    panel = plain(120)
    model = forecast.fit(panel, PLAIN, NETS[name], TRAINING, members=3)
    model = replace(model, weights={k: torch.ones_like(w) if k == "alpha" else w for k, w in model.weights.items()})
    each = [replace(model, members=(m,), weights={k: w[[i]] for k, w in model.weights.items()}) for i, m in enumerate(model.members)]
    values = torch.stack([one.predict(panel).values for one in each])
    assert values.std(0).max() > 1e-6
    assert torch.allclose(values.mean(0), model.predict(panel).values, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "alone"), [("lstm on ridge", False), ("lstm on ridge", True), ("lstm alone", False)])
def test_training_goes_on_from_a_model(name: str, alone: bool) -> None:
    panel = plain(150)
    old = fitted(name, panel.until(120), PLAIN, per_series=alone)
    assert torch.equal(_restated(old).predict(panel).values, _restated(old).predict(panel).values)
    assert close((_restated(old).predict(panel).values,), (old.predict(panel).values,), 1e-12)
    still = Training(epochs=1, stop=0.0, device="cpu", optimizer=Optimizer(kind="sgd", rate=1e-30))
    same = forecast.fit(panel, PLAIN, NETS[name], still, per_series=alone, start=old)
    assert close((same.predict(panel).values,), (old.predict(panel).values,), 1e-12)
    on = forecast.fit(panel, PLAIN, NETS[name], TRAINING, per_series=alone, start=old)
    assert not close((on.predict(panel).values,), (old.predict(panel).values,), 1e-6)
    assert fingerprint(on.scaling) == fingerprint(old.scaling)


def _restated(model: Forecaster) -> Forecaster:
    """With α taken into the head."""
    return replace(model, weights=_whole(model.weights))


def test_an_ensemble_goes_on_as_an_ensemble() -> None:
    panel = plain(150)
    old = forecast.fit(panel.until(120), PLAIN, NETS["lstm alone"], TRAINING, members=2)
    on = forecast.fit(panel, PLAIN, NETS["lstm alone"], TRAINING, members=2, start=old)
    assert on.members == old.members
    with pytest.raises(ft.TaskError, match="member"):
        forecast.fit(panel, PLAIN, NETS["lstm alone"], TRAINING, start=old)


def refused(start: Callable[[Panel], Forecaster], again: Callable[[Panel, Forecaster], object], words: str) -> None:
    panel = plain(120)
    with pytest.raises(ft.TaskError, match=words):
        again(panel, start(panel))


def test_what_cannot_go_on_says_why() -> None:
    lstm = NETS["lstm alone"]

    def net(panel: Panel, *, per_series: bool = False) -> Forecaster:
        return forecast.fit(panel, PLAIN, lstm, TRAINING, per_series=per_series)

    other = Task(target="y", context=10, horizon=3)
    refused(lambda p: forecast.fit(p, PLAIN), lambda p, m: forecast.fit(p, PLAIN, start=m), "Ridge is solved anew")
    refused(net, lambda p, m: forecast.fit(p, other, lstm, TRAINING, start=m), "same task, net and per_series")
    refused(net, lambda p, m: forecast.fit(p, PLAIN, StackedLSTM(hidden=(5,)), TRAINING, start=m), "same task, net and per_series")
    refused(net, lambda p, m: forecast.fit(p, PLAIN, lstm, TRAINING, start=m, per_series=True), "same task, net and per_series")
    refused(partial(net, per_series=True), lambda p, m: forecast.fit(p.pick("a", "b"), PLAIN, lstm, TRAINING, start=m, per_series=True), "3 series.*2")
