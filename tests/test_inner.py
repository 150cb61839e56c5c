"""What a net shows of itself: attention, weights, activation maps and kernels agree with the net; black boxes are sent elsewhere."""

from dataclasses import replace

import pytest
import torch

import foretell as ft
from foretell import TaskError, Training, forecast
from foretell.attribution.groups import by_channel
from foretell.explanation import components, explain, methods
from foretell.explanation.inner import INNER, core
from foretell.nets import PeriodKernel, Ridge
from foretell.nets.period_kernel import PeriodKernelNet
from laws import PLAIN, TRAINING, every, fitted, plain, refused, rich, standing

BARE = PeriodKernel(kernels=3, filters=2, heads=2, size=2, dense=6, ridge=None)


@pytest.mark.parametrize("name", ["lstm transformer", "period kernel"])
def test_attention_weights_are_shares(name: str) -> None:
    panel, model = rich(), standing(name)
    why = explain(model, panel, origin=130, method="attention")
    seen = why.values["attention"]
    assert why.kind == "weight" and bool((seen >= 0).all()) and bool(why.residual.isnan().all())
    whole = seen.sum(-2) if name == "lstm transformer" else seen.unflatten(-1, (-1, 2)).sum(-1).squeeze(-2)
    torch.testing.assert_close(whole, torch.ones_like(whole))
    assert why.frame().height and len(why.channels("attention")) == seen.shape[-1]


def test_the_written_out_attention_is_the_collapsed_one() -> None:
    """What the maps are put through is what the net computes without them, and its periods add up to them."""
    model = standing("period kernel")
    net = core(model.module)
    assert isinstance(net, PeriodKernelNet)
    past = torch.randn(len(model.members), 4, model.context, model.shape.features, generator=torch.Generator().manual_seed(2))
    inside = net.inside(past)
    tokens = past[..., 0] * inside[:, None], net.weighted(past, inside)
    own, others = (net.convolved(token, inside) for token in tokens)
    torch.testing.assert_close(net.attended(own, others), net.mixed(past, inside)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.apart(tokens[0], inside).sum(2), own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per_series", [False, True])
@pytest.mark.parametrize("of", ["step", "peak"])
def test_kernels_add_up_to_the_forecast(of: str, per_series: bool) -> None:
    panel, model = rich(), standing("period kernel", per_series)
    why = explain(model, panel, origin=130, of=of, method="kernels")
    assert why.kind == "contribution" and why.gap < 1e-3
    told = model.predict(panel, origin=130).values[..., 0]
    torch.testing.assert_close(why.prediction, told.amax(1, keepdim=True) if of == "peak" else told)
    assert len(why.channels("kernels")) == 3 and why.values["kernels"].shape[-2:] == (1, 3)


def test_the_base_of_kernels_is_the_net_without_any() -> None:
    """Out means out: kernel and bias."""
    panel = plain()
    model = forecast.fit(panel, PLAIN, BARE, TRAINING)
    bank = {n: w + 1 if n.startswith("biases") else w for n, w in model.weights.items()}
    bare = {n: torch.zeros_like(w) if n.startswith(("kernels", "biases")) else w for n, w in bank.items()}
    assert any(n.startswith("kernels") for n in bank)
    why = explain(replace(model, weights=bank), panel, method="kernels")
    torch.testing.assert_close(why.base, replace(model, weights=bare).predict(panel).values[..., 0])


def test_maps_by_filter_and_by_period_are_the_same_maps() -> None:
    panel = plain()
    model = forecast.fit(panel, PLAIN, BARE, TRAINING)
    why = explain(model, panel, method="cam")
    assert why.kind == "sensitivity" and why.values["filters"].shape == (3, 3, 12, 2) and float(why.values["filters"].abs().max()) > 0
    torch.testing.assert_close(why.values["filters"].sum(-1), why.values["periods"].sum(-1), rtol=1e-3, atol=1e-6)


def test_a_ridge_shows_the_weights_that_its_slopes_are() -> None:
    panel = plain()
    model = forecast.fit(panel, PLAIN, Ridge(), Training(scale="identity"))
    seen, slope = (explain(model, panel, method=m) for m in ("feature_weights", "saliency"))
    assert seen.kind == "weight"
    torch.testing.assert_close(seen.values["past"][..., :-1, :], slope.values["past"][..., :-1, :], check_dtype=False)


@pytest.mark.parametrize("name", ["ridge", "seasonal ridge", "lstm transformer", "period kernel"])
def test_feature_weights_of_every_net_that_has_some(name: str) -> None:
    panel = rich()
    why = explain(fitted(name, panel), panel, origin=130, method="feature_weights")
    assert all(len(why.channels(b)) == x.shape[-1] and bool(x.isfinite().all()) for b, x in why.values.items())
    if name == "period kernel":
        for block in ("share", "auxiliary"):
            torch.testing.assert_close(why.values[block].sum(-1), torch.ones_like(why.values[block][..., 0]))


@pytest.mark.parametrize("method", every(sorted(INNER), ("cam", "kernels")))
def test_what_a_net_has_inside_is_drawn(method: str) -> None:
    panel = plain()
    why = explain(fitted("period kernel", panel, PLAIN), panel, method=method)
    figure = ft.plot(why, "blocks", series="b")
    assert len(figure.data) == len(why.values) + len(why.beside) and len(figure.data[0].y) == next(iter(why.values.values())).shape[-1]
    if why.kind == "contribution":  # what adds up is also drawn as bars that do
        assert len(ft.plot(why, "parts", series="b").data) == len(components(why)) + 2
    else:
        assert len(ft.plot(why, series="b").data) == len(figure.data)
        with refused(TaskError, f"{method} has blocks of its own"):
            ft.plot(why, "parts")


def test_what_a_net_has_not_is_said() -> None:
    panel = plain()
    model = fitted("lstm alone", panel, PLAIN)
    assert [name for name in INNER if not methods(model)[name]] == ["feature_weights", "components"]
    with refused(TaskError, "attention does not work for StackedLSTM: StackedLSTM has no attention; use deeplift or occlusion"):
        explain(model, panel, method="attention")
    with refused(TaskError, "StackedLSTM has no convolutions"):
        explain(model, panel, method="cam")
    with refused(TaskError, "feature_weights does not work for Drift: Drift has no weights; use saliency"):
        explain(fitted("drift", panel, PLAIN), panel, method="feature_weights")


@pytest.mark.slow
def test_black_boxes_are_sent_to_methods_that_only_call_them() -> None:
    pytest.importorskip("mlforecast")
    pytest.importorskip("statsforecast")
    from foretell.neighbours import Boosting, Statistical

    panel = plain(100, ("a",))
    for net in (Boosting(kind="lightgbm", rounds=8, leaves=4, least=5, season=4), Statistical(kind="Theta", season=1, history=40)):
        model = forecast.fit(panel, PLAIN, net, Training(seed=1))
        told = methods(model)
        assert [m for m in told if not told[m]] == ["auto", "occlusion", "shapley", "lime", "temporal_lime", "permutation", "pdp", "ice", "ale"]
        assert "use shapley, lime or occlusion" in told["deeplift"] and "use shapley, lime or occlusion" in told["attention"]
        groups = by_channel(model.function(panel)[1])
        for method in ("auto", "lime", "occlusion"):
            why = explain(model, panel, method=method, groups=groups)
            assert why.method == ("shapley" if method == "auto" else method) and float(why.values["past"].abs().max()) > 0
            if method == "auto":
                assert why.gap < 1e-4
        with refused(TaskError, "deeplift does not work for"):
            explain(model, panel, method="deeplift")
