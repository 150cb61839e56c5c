"""Explanations of fitted models: complete on every net, blind to the future, in units, against a baseline that is said."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import foretell as ft
from foretell import Task, TaskError, Training, forecast, from_array
from foretell.attribution.effects import importance
from foretell.attribution.types import Attribution
from foretell.explanation import components, explain, methods, sentences, worth
from foretell.explanation.asked import usual
from foretell.explanation.explain import METHODS
from foretell.explanation.inner import INNER
from foretell.explanation.parts import own_masks
from laws import FEW, NETS, PLAIN, TASK, after, every, fitted, plain, refused, rich, slow, standing, unknown

ORIGIN = 130


@pytest.mark.parametrize(("name", "of"), [(n, of) if (of == "step") == (n not in FEW) or n == FEW[1] else slow(n, of) for n in NETS for of in ("step", "band")])
def test_the_default_adds_up_for_every_net(name: str, of: str) -> None:
    panel, model = rich(), standing(name)
    why = explain(model, panel, origin=ORIGIN, of=of)
    assert why.kind == "contribution" and why.gap < 1e-4
    assert why.method == ("shapley" if methods(model)["deeplift"] else "deeplift")
    ahead = model.predict(panel, origin=ORIGIN, level=[80])
    told = ahead.values[..., 0] if of == "step" else (ahead.quantiles[..., 0, 1] - ahead.quantiles[..., 0, 0])
    torch.testing.assert_close(why.prediction, told)
    shares = torch.stack(list(components(why).values())).sum(0)
    torch.testing.assert_close(why.base + shares + why.residual, why.prediction)


@pytest.mark.parametrize("name", every(NETS))
def test_nothing_after_the_origin_gets_anything(name: str) -> None:
    panel, model = rich(), standing(name)
    bad = after(panel, ORIGIN, unknown(panel, TASK), 1e9)
    for method in [m for m in ("deeplift", "saliency") if not methods(model)[m]]:
        one, two = (explain(model, p, origin=ORIGIN, method=method, baseline="typical") for p in (panel, bad))
        for block, values in one.values.items():
            assert torch.equal(values, two.values[block])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_a_net_and_a_band(method: str) -> None:
    panel, model = rich(), standing("lstm on ridge")
    why = explain(model, panel.pick("b"), origin=ORIGIN, of="band", method=method)
    assert why.values["past"].shape == (1, 3, 12, 9) and why.values["past"].isfinite().all()
    clock = [why.channels("past").index(c) for c in ("hour_sin", "index_y")]
    if method not in ("saliency", "smooth_gradient", "lrp"):
        assert why.values["past"][..., clock].abs().max() == 0, "the clock is context"


@pytest.mark.parametrize("baseline", ["typical", "last_period", "normal"])
def test_the_baseline_is_what_it_says(baseline: str) -> None:
    panel = plain(steps=500)
    model = forecast.fit(panel, PLAIN)
    why = explain(model, panel, origin=450, baseline=baseline)
    assert why.gap < 1e-9 and why.baseline is not None and why.baseline.name == baseline
    value = why.baseline.values["past"]
    if baseline == "last_period":
        _, earlier = model.function(panel, 450 - 168)
        torch.testing.assert_close(value[0], earlier["past"])
    elif baseline == "typical":
        last = model.parts[0].last
        torch.testing.assert_close(value[0, 1, 3, 0], panel.values[1, : last + 1, 0].mean())
    else:
        assert len(value) > 1


def test_the_usual_value_is_off_for_a_flag_and_the_median_of_a_price() -> None:
    flag, price = torch.tensor([0.0, 1, 0, 1, 1, 1]), torch.tensor([5.0, 5, 5, 5, 5, 5, 9, 9, 1])
    assert usual(flag[None]) == 0 and usual(price[None]) == 5
    assert float(usual(torch.arange(7.0)[None])) == 3


@pytest.mark.parametrize(("of", "width"), [("total", 1), ("peak", 1), ("step", 3)])
def test_what_is_explained(of: str, width: int) -> None:
    panel = plain()
    model = fitted("lstm on ridge", panel, PLAIN)
    why = explain(model, panel, of=of)
    told = model.predict(panel).values[..., 0]
    expected = {"total": told.sum(1, keepdim=True), "peak": told.amax(1, keepdim=True), "step": told}[of]
    torch.testing.assert_close(why.prediction, expected)
    assert why.prediction.shape == (3, width) and why.labels.ahead is not None
    if of == "peak":
        assert why.labels.ahead[1, 0] == model.predict(panel).times()[1, int(told[1].argmax())]


def test_a_linear_model_is_explained_by_its_weights() -> None:
    """Ridge in float64: contribution = weight · (x − usual), the centring on the last value inside."""
    panel = plain()
    model = fitted("ridge", panel, PLAIN)
    why, f = explain(model, panel, method="deeplift"), model.function(panel)[0]
    slope = explain(model, panel, method="saliency")
    assert why.baseline is not None
    for block, values in why.values.items():
        torch.testing.assert_close(values, slope.values[block] * (f.blocks[block] - why.baseline.values[block][0])[:, None])


def test_a_planted_cause_is_found() -> None:
    """Sales fall by 2 for each unit of price above the usual one, and rise by 10 at events: the explanation says so, in units."""
    draw = np.random.default_rng(4)
    price, event = 5 + 0.5 * draw.normal(size=400), (draw.random(400) < 0.15).astype(float)
    sales = 50 - 2 * (price - 5) + 10 * event + 0.1 * draw.normal(size=400)
    panel = from_array(np.stack([sales, price, event], -1)[None], ("sales", "price", "event"), step="D")
    model = forecast.fit(panel.until(392), Task(target="sales", known=("price", "event"), context=14, horizon=7), training=Training(seed=1))
    why = explain(model, panel, origin=392)
    found = components(why)
    usual_price = float(np.median(price)) if np.mean(np.diff(price) == 0) > 0.7 else float(panel.values[0, : model.parts[0].last + 1, 1].mean())
    np.testing.assert_allclose(found["price"][0].numpy(), -2 * (price[393:400] - usual_price), atol=0.4)
    np.testing.assert_allclose(found["event"][0].numpy(), 10 * event[393:400], atol=0.6)
    said = sentences(why, 0, int(event[393:400].argmax()))
    assert "event +" in said[0] and said[1].startswith("left unexplained: ")


def test_parts_of_the_own_past_take_every_step_once() -> None:
    for outputs, steps, season in ((3, 50, 24), (7, 28, 7), (1, 5, 1), (24, 168, 24)):
        whole = torch.stack(list(own_masks(outputs, steps, season, "day").values())).sum(0)
        assert torch.equal(whole, torch.ones(outputs, steps, dtype=torch.float64))
    day = own_masks(24, 168, 24, "day")["same time 1 day before"]
    assert day[5, 168 - 24 + 5] == 1 and day[5, 168 - 24 + 8] == 0


def test_auto_says_how_far_two_methods_agree() -> None:
    panel = plain()
    why = explain(fitted("lstm alone", panel, PLAIN), panel)
    assert 0.5 < why.facts["agreement"] <= 1 and why.facts["ig_gap"] < 0.01


def test_units_of_the_target_scale_contributions() -> None:
    panel = plain()
    tenfold = replace(panel, values=panel.values * torch.tensor([10.0, 1.0], dtype=panel.values.dtype))
    one, ten = (explain(forecast.fit(p, PLAIN), p) for p in (panel, tenfold))
    for name, value in components(one).items():
        torch.testing.assert_close(components(ten)[name], 10 * value, rtol=1e-6, atol=1e-6)


def test_windows_of_several_origins_and_series() -> None:
    panel = plain()
    model = fitted("ridge", panel, PLAIN)
    both = explain(model, panel, origin=[100, 110])
    alone = explain(model, panel.pick("b"), origin=110)
    for block, values in both.values.items():
        torch.testing.assert_close(values[4:5], alone.values[block])
    torch.testing.assert_close(both.pick([4]).prediction, alone.prediction)


def test_a_frame_and_what_it_adds_up_to() -> None:
    panel = plain()
    frame = explain(fitted("ridge", panel, PLAIN), panel).frame()
    assert frame.columns == ["unique_id", "ds", "block", "channel", "at", "value"]
    sums = frame.group_by("unique_id", "ds").agg(pl.col("value").sum()).sort("unique_id", "ds")
    torch.testing.assert_close(torch.from_numpy(sums["value"].to_numpy().copy()), fitted("ridge", panel, PLAIN).predict(panel).values.flatten())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "deplift"}, 'no method "deplift": did you mean "deeplift"'),
        ({"of": "steps"}, 'of="steps" cannot be explained: did you mean "step"'),
        ({"baseline": "usual"}, 'no baseline "usual"'),
        ({"target": "z"}, 'no target "z"'),
        ({"baseline": "normal", "origin": 30}, "no earlier window of 12 steps in the training part"),
    ],
)
def test_wrong_questions_get_a_sentence(options: dict[str, object], words: str) -> None:
    panel = plain()
    model = fitted("ridge", panel, PLAIN)
    with refused(TaskError, words):
        explain(model, panel, **options)  # type: ignore[arg-type]  # wrong on purpose


def test_methods_say_what_works() -> None:
    model = fitted("ridge", plain(), PLAIN)
    others = {"permutation", "pdp", "ice", "ale", "counterfactual"}
    assert set(methods(model)) == {"auto", *METHODS, *INNER, *others} and not any(why for name, why in methods(model).items() if name not in INNER)
    assert not methods(model)["components"]


@pytest.mark.parametrize(("method", "where"), [("pdp", "effect"), ("ale", "effect"), ("counterfactual", "counterfactual")])
def test_what_is_about_one_channel_says_where_it_is_asked(method: str, where: str) -> None:
    panel = plain()
    with refused(TaskError, f'"{method}" asks about one channel .*foretell.explanation.{where}'):
        explain(fitted("ridge", panel, PLAIN), panel, method=method)


def test_permutation_is_what_the_error_gains() -> None:
    panel, origins = plain(), [100, 110, 120]
    model = fitted("ridge", panel, PLAIN)
    why, direct = explain(model, panel, origin=origins, method="permutation"), worth(model, panel, origin=origins)
    assert why.kind == "importance" and why.method == "permutation"
    for block, values in direct.values.items():
        assert torch.equal(values, why.values[block])
    f, blocks = model.function(panel, origins)
    truth = torch.cat([panel.values[:, o + 1 : o + 4, 0] for o in origins])
    own = importance(lambda x: f(x)[:, :, 0, 0], blocks, truth, together=[[("past", 0)], [("past", 1)]])
    assert torch.equal(own.values["past"], why.values["past"])
    with refused(TaskError, "step by step"):
        explain(model, panel, origin=origins, of="total", method="permutation")
    with refused(TaskError, "the truth is not known at every step"):
        explain(model, panel, method="permutation")


def test_temporal_lime_says_when() -> None:
    """Of a line each stretch gets what its cells get: all channels of a season together, the clock in none."""
    panel = plain()
    model = forecast.fit(panel, PLAIN.model_copy(update={"context": 96}))
    why, cells = (explain(model, panel, method=m) for m in ("temporal_lime", "deeplift"))
    assert why.method == "temporal_lime" and why.groups is not None
    assert why.groups.names == ("lag 73-96", "lag 49-72", "lag 25-48", "lag 1-24")
    spread = cells.values["past"].sum(-1).unflatten(-1, (4, 24)).sum(-1)
    torch.testing.assert_close(torch.stack(list(why.by_group().values()), -1), spread, rtol=1e-4, atol=1e-4)
    assert why.facts["R2"] > 0.999
    timed = rich()
    seen = explain(fitted("ridge", timed), timed, origin=ORIGIN, method="temporal_lime")
    assert seen.groups is not None and "future" in seen.groups.names
    assert bool((seen.groups.at["past"][:, seen.channels("past").index("hour_sin")] == -1).all())


@pytest.mark.parametrize("name", ["ridge", "lstm on ridge"])
def test_explaining_leaves_everything_as_it_was(name: str, digest: Callable[[object], str]) -> None:
    panel = plain()
    model = fitted(name, panel, PLAIN)
    before = digest(panel), digest(dict(model.weights))
    assert isinstance(explain(model, panel), Attribution)
    assert (digest(panel), digest(dict(model.weights))) == before


def test_it_is_exported() -> None:
    assert ft.explain is explain
