"""Components: of every net with slopes a forecast as named sums that add up, and beside them the net's own weights and gates."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import foretell as ft
from foretell import Forecaster, Panel, Task, TaskError, Training, forecast, from_array
from foretell.explanation import components, explain, methods
from foretell.explanation.asked import Of
from foretell.explanation.inner import INNER
from foretell.explanation.look import core
from foretell.nets import PeriodKernel, Response, StackedLSTM
from foretell.nets.period_kernel import PeriodKernelNet
from laws import NETS, PLAIN, TRAINING, fitted, plain, refused, rich, slow

ORIGIN = 100
BARE = PeriodKernel(kernels=3, filters=4, heads=2, size=2, dense=6, ridge=None)


@cache
def lively(seed: int = 0) -> tuple[Forecaster, Panel]:
    """A period-kernel net whose every part says something: a target of period 4, a price that is known ahead, a flag that is not."""
    draw = torch.Generator().manual_seed(seed)
    price, flag = torch.randn(120, generator=draw).double(), (torch.rand(120, generator=draw) < 0.4).double()
    wave = torch.arange(120).remainder(4).double()
    panel = from_array(torch.stack([3 * wave - price + 2 * flag + 20, price, flag], -1)[None].numpy(), ("sales", "price", "flag"), step="D")
    task = Task(target="sales", known=("price",), past=("flag",), context=12, horizon=3)
    return forecast.fit(panel, task, BARE, Training(epochs=3, seed=2, batch=16)), panel


@cache
def known(name: str) -> Forecaster:
    """One fit for the tests that only ask."""
    return fitted(name, rich())


@pytest.mark.parametrize(
    ("name", "of"),
    [("ridge", "step"), slow("ridge", "band"), ("lstm alone", "total"), slow("lstm alone", "step"), ("period kernel", "peak"), slow("drift", "step")],
)
def test_components_add_up_in_units(name: str, of: Of) -> None:
    panel, model = rich(), known(name)
    why = explain(model, panel, origin=130, of=of, method="components")
    assert why.kind == "contribution" and why.method == "components" and why.gap < 1e-4
    torch.testing.assert_close(why.base + sum(components(why).values()) + why.residual, why.prediction)
    if of != "band":
        told = model.predict(panel, origin=130).values[..., 0]
        whole = {"step": told, "total": told.sum(1, keepdim=True), "peak": told.amax(1, keepdim=True)}[of]
        torch.testing.assert_close(why.prediction, whole)


def test_components_are_the_default_explanation_by_name() -> None:
    """What the engine gives to cells, summed: a channel's past and future are one, the clock has none; in time the past again."""
    panel, model = rich(), known("lstm alone")
    why, cells = (explain(model, panel, origin=130, method=m) for m in ("components", "deeplift"))
    for name in ("price", "sun", "x", "wind"):
        torch.testing.assert_close(why.named("components")[name][..., 0], cells.by_channel()[name])
    own = sum(value for name, value in components(why).items() if name not in model.roles.features)
    torch.testing.assert_close(own, cells.by_channel()["y"])
    torch.testing.assert_close(why.beside["in time"][..., 0], cells.values["past"].sum(-1))
    assert not {"hour_sin", "weekend"} & set(why.channels("components"))


def test_a_total_is_the_sum_of_its_steps_and_a_peak_one_of_them() -> None:
    panel = plain()
    model = forecast.fit(panel, PLAIN.model_copy(update={"context": 30}))
    steps, total, peak = (explain(model, panel, of=of, method="components") for of in ("step", "total", "peak"))
    assert "same time 1 day before" in components(steps)
    top = steps.prediction.argmax(1, keepdim=True)
    for name, value in components(steps).items():
        torch.testing.assert_close(components(total)[name], value.sum(1, keepdim=True))
        torch.testing.assert_close(components(peak)[name], value.gather(1, top))
    torch.testing.assert_close(peak.beside["in time"][..., 0], torch.stack([steps.beside["in time"][e, int(top[e])].mT for e in range(3)]))


def test_the_parts_of_a_peak_know_which_step_it_is() -> None:
    """Yesterday's same hour lies a season before the highest step, not before the first."""
    panel = plain()
    model = forecast.fit(panel, PLAIN.model_copy(update={"context": 30}))
    steps, peak = (explain(model, panel, of=of, method="deeplift") for of in ("step", "peak"))
    top = steps.prediction.argmax(1, keepdim=True)
    assert bool((top > 0).any())
    for name, value in components(steps).items():
        torch.testing.assert_close(components(peak)[name], value.gather(1, top))
    assert set(components(explain(model, panel, of="total", method="deeplift"))) <= {"recent level", "rest of its own past", "x"}


def test_the_record_of_a_period_kernel() -> None:
    """Strengths and shares are the net's own, the channel's weight in this window stands beside what it adds, filters follow their maps."""
    model, panel = lively()
    why, maps = (explain(model, panel, origin=ORIGIN, method=m) for m in ("components", "cam"))
    net = core(model.module)
    assert isinstance(net, PeriodKernelNet)
    assert set(why.beside) == {"in time", "strength", "share", "auxiliary", "filters"}
    torch.testing.assert_close(why.beside["strength"][0, 0, 0], model.weights["strength"][0])
    periods = [f"period {n}" for n in model.weights["length"][0].tolist() if n]
    assert list(why.channels("strength"))[: len(periods)] == periods == list(why.channels("share"))[: len(periods)]
    torch.testing.assert_close(why.beside["share"][0, 0, 0], model.weights["strength"][0].masked_fill(model.weights["length"][0] == 0, -torch.inf).softmax(0))
    _, blocks = model.function(panel, ORIGIN)
    lit = (blocks["past"][0, :, 1:] != 0).double().mean(0)
    torch.testing.assert_close(why.beside["auxiliary"][0, 0, 0], (model.weights["auxiliary"][0] * lit).softmax(0), check_dtype=False)
    assert why.channels("auxiliary") == ("flag", "price")
    for name in ("flag", "price"):
        assert float(why.named("components")[name].abs().max()) > 0, "a weight alone says nothing of the sign"
    torch.testing.assert_close(why.beside["filters"], maps.values["filters"].sum(-2, keepdim=True))
    assert why.channels("filters") == tuple(f"filter {n}" for n in range(1, 5)) and float(why.beside["filters"].abs().max()) > 0


def test_what_is_beside_travels_with_the_values() -> None:
    model, panel = lively()
    why = explain(model, panel, origin=[90, 100, 110], method="components")
    one = why.pick([1])
    assert all(torch.equal(x[1:2], one.beside[b]) for b, x in why.beside.items())
    frame = one.frame()
    assert set(frame["block"].unique()) == {"components", "base", "residual", *why.beside}
    told = frame.filter(block="components")["value"].sum() + frame.filter(block="base")["value"].sum() + frame.filter(block="residual")["value"].sum()
    assert told == pytest.approx(float(one.prediction.sum()), rel=1e-5)
    with refused(TaskError, 'no block "strenght"'):
        why.named("strenght")


def test_components_are_drawn() -> None:
    model, panel = lively()
    why = explain(model, panel, origin=ORIGIN, method="components")
    assert len(ft.plot(why, "parts").data) == len(components(why)) + 2 and len(ft.plot(why).data) == len(ft.plot(why, "parts").data)
    assert len(ft.plot(why, "waterfall").data) == 3
    assert len(ft.plot(why, "blocks").data) == 1 + len(why.beside)
    with refused(TaskError, "components has blocks of its own"):
        ft.plot(why, "lags")


def test_components_have_a_page(tmp_path: Path) -> None:
    model, panel = lively()
    why = explain(model, panel, origin=ORIGIN, method="components")
    text = ft.dossier(tmp_path / "why.html", why, model, panel).read_text()
    for name in ("strength", "auxiliary", "filter 1", "price", "What the net itself weighs", "What each period kernel adds"):
        assert name in text


def test_gates_are_those_that_the_net_was_run_with() -> None:
    """One unit a layer, so that the mean over units is the gate: the cell's own formulas on the gates give the state."""
    panel = plain()
    model = forecast.fit(panel, PLAIN, StackedLSTM(hidden=(1, 1), ridge=False, segment=1), TRAINING)
    why = explain(model, panel, method="feature_weights")
    assert set(why.values) == {"reads", "gates of layer 1", "gates of layer 2"}
    f, blocks = model.function(panel)
    x = f._scaled(blocks["past"], model.roles.features, f.series)[None]
    x = torch.cat([x[..., :1] - x[:, :, -1:, :1], x[..., 1:]], -1)
    layer = core(model.module).layers[0]
    weight, recurrent, bias = (model.weights[f"layers.0.{n}"][0] for n in ("weight", "recurrent", "bias"))
    state = cell = x.new_zeros(3, 1)
    for t in range(12):
        fresh = (x[0, :, t] @ weight[2:3].mT + state @ recurrent[2:3].mT + bias[2:3]).tanh()
        take, keep, show = (gate[:, None] for gate in why.values["gates of layer 1"][:, 0, t].unbind(-1))
        cell = keep * cell + take * fresh
        state = show * cell.tanh()
    assert layer.hidden == 1
    held = {n.removeprefix("layers.0."): w for n, w in model.weights.items() if n.startswith("layers.0.")}
    told = torch.func.functional_call(layer, held, (x,))
    torch.testing.assert_close(told[0, :, -1], state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(why.values["reads"][0, 0, 0], weight.square().sum(0).sqrt())


def test_gates_of_ridges_ensembles_and_media() -> None:
    panel, model = rich(), known("lstm on ridge")
    why = explain(model, panel, origin=130, method="feature_weights")
    torch.testing.assert_close(why.values["gate"][0, 0, 0, 0], model.weights["alpha"][0], check_dtype=False)
    assert {"reads", "gates of layer 1", "past", "future"} <= set(why.values)
    mixed = forecast.ensemble(plain(), PLAIN, {"ridge": NETS["ridge"], "drift": NETS["drift"]}, TRAINING)
    shares = explain(mixed, plain(), method="feature_weights").values["shares"]
    torch.testing.assert_close(shares[0, 0, 0], mixed.weights["shares"][0])
    assert "slopes, which it does not have" in methods(mixed)["components"]
    paid = plain(100, ("a",))
    paid = replace(paid, values=paid.values.abs())
    media = forecast.fit(paid, Task(target="y", known=("x",), context=12, horizon=3), Response(media=("x",)), TRAINING)
    seen = explain(media, paid, origin=90, method="feature_weights")
    raw = media.weights["raw"][0, :, 0]
    carry, ceiling = 0.95 * raw[0].sigmoid(), 0.5 * raw[3].exp()
    torch.testing.assert_close(torch.stack([seen.values[n][0, 0, 0, 0] for n in ("carry", "ceiling")]), torch.stack([carry, ceiling]), check_dtype=False)
    assert seen.channels("carry") == ("x",) == seen.channels("base")


def test_every_net_shows_its_components_or_says_why_not() -> None:
    panel = plain()
    for name in ("ridge", "drift"):
        assert not methods(fitted(name, panel, PLAIN))["components"]
    assert "components" in INNER
    assert methods(fitted("drift", panel, PLAIN))["feature_weights"] == "Drift has no weights; use saliency"
