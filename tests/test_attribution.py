"""The axioms of explanations: every method on every kind of net, against closed forms, slow twins, captum and shap."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import foretell as ft
import naive_attribution as naive
from foretell.attribution.deeplift import deeplift
from foretell.attribution.effects import dependence, importance, local_effects
from foretell.attribution.gradients import gradient_input, integrated_gradients, saliency, smooth_gradient, temporal_gradients, timing
from foretell.attribution.groups import by_channel, by_segment, change_cuts, even_cuts, lag_cuts
from foretell.attribution.lrp import lrp
from foretell.attribution.removal import exact, lime, occlusion, shapley, sliding
from foretell.attribution.types import Attribution, Blocks, Map, baseline
from laws import every
from zoo import Additive, C, H, T, nets

DRAW = torch.Generator().manual_seed(3)
X = {"x": torch.randn(2, T, C, generator=DRAW, dtype=torch.float64)}
B = baseline({"x": torch.randn(2, T, C, generator=DRAW, dtype=torch.float64) * 0.3})
SEVERAL = baseline({"x": torch.randn(3, 2, T, C, generator=DRAW, dtype=torch.float64) * 0.3})
W = torch.randn(T, C, H, generator=DRAW, dtype=torch.float64)
ZOO = nets()
SEGMENTS = by_segment(X, {"x": [4, 9]})

CONTRIBUTIONS: dict[str, Callable[[Map, Blocks], Attribution]] = {
    "gradient_input": lambda f, x: gradient_input(f, x, B),
    "integrated_gradients": lambda f, x: integrated_gradients(f, x, B),
    "expected_gradients": lambda f, x: integrated_gradients(f, x, SEVERAL),
    "temporal_gradients": lambda f, x: temporal_gradients(f, x, B, stairs=T),
    "timing": lambda f, x: timing(f, x, B),
    "deeplift": lambda f, x: deeplift(f, x, B),
    "deepshap": lambda f, x: deeplift(f, x, SEVERAL),
    "occlusion": lambda f, x: occlusion(f, x, B),
    "shapley": lambda f, x: shapley(f, x, B, SEGMENTS),
    "lime": lambda f, x: lime(f, x, B, SEGMENTS),
}
COMPLETE = {"integrated_gradients": 0.01, "expected_gradients": 0.01, "deeplift": 1e-9, "deepshap": 1e-9, "shapley": 1e-9}
CELLWISE = {"gradient_input", "integrated_gradients", "expected_gradients", "temporal_gradients", "timing", "deeplift", "deepshap", "occlusion"}


def of(net: nn.Module | Callable[[Tensor], Tensor]) -> Map:
    return lambda blocks: net(blocks["x"])


def linear(blocks: Blocks) -> Tensor:
    return torch.einsum("btc,tch->bh", blocks["x"], W) + 2


def against(name: str) -> Tensor:
    return (SEVERAL if name in ("expected_gradients", "deepshap") else B).mean()["x"]


@pytest.mark.parametrize("name", CONTRIBUTIONS)
def test_of_a_linear_map_every_method_says_weight_times_change(name: str) -> None:
    found = CONTRIBUTIONS[name](linear, X)
    truth = torch.einsum("btc,tch->bhtc", X["x"] - against(name), W)
    if name in CELLWISE:
        torch.testing.assert_close(found.values["x"], truth)
    else:
        for number, value in enumerate(found.by_group().values()):
            torch.testing.assert_close(value, (truth * (SEGMENTS.at["x"] == number)).sum((-1, -2)), rtol=0, atol=1e-6)
    assert found.gap < 1e-6
    torch.testing.assert_close(found.prediction, linear(X))


@pytest.mark.parametrize("net", ZOO)
@pytest.mark.parametrize("name", COMPLETE)
def test_contributions_add_up(name: str, net: str) -> None:
    found = CONTRIBUTIONS[name](of(ZOO[net]), X)
    assert found.gap < COMPLETE[name] and not found.warnings
    torch.testing.assert_close(found.base + found.total() + found.residual, ZOO[net](X["x"]))


@pytest.mark.parametrize("name", CONTRIBUTIONS)
def test_of_a_sum_each_cell_gets_its_own_term(name: str) -> None:
    if name in ("gradient_input", "timing", "shapley", "lime", "expected_gradients", "deepshap"):
        pytest.skip("first order, not complete, by group, or against another baseline")
    x, b = X["x"], B.mean()["x"]
    found = CONTRIBUTIONS[name](of(Additive()), X).values["x"]
    torch.testing.assert_close(found[:, 0, -1, 0], x[:, -1, 0].sin() - b[:, -1, 0].sin())
    torch.testing.assert_close(found[:, 0, 0, 1], x[:, 0, 1] ** 2 - b[:, 0, 1] ** 2)
    assert found[..., 2].abs().max() == 0, "a channel that is never read"


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift", "shapley"])
def test_a_product_is_shared_in_halves(name: str) -> None:
    zero = baseline({"x": torch.zeros_like(X["x"])})
    f = of(lambda x: (x[:, 0, 0] * x[:, 0, 1])[:, None])
    how = {"integrated_gradients": integrated_gradients, "deeplift": deeplift, "shapley": lambda f, x, b: shapley(f, x, b, by_channel(x))}[name]
    found = how(f, X, zero).by_channel()
    torch.testing.assert_close(found["x[0]"], found["x[1]"])
    torch.testing.assert_close(found["x[0]"][:, 0], X["x"][:, 0, 0] * X["x"][:, 0, 1] / 2)


@pytest.mark.parametrize("net", ZOO)
@pytest.mark.parametrize("name", ["deeplift", "integrated_gradients", "occlusion", "saliency"])
def test_a_window_alone_and_one_output_alone_say_the_same(name: str, net: str) -> None:
    f, one = of(ZOO[net]), of(lambda x: ZOO[net](x)[:, 2:3])
    how: Any = {"deeplift": deeplift, "integrated_gradients": lambda f, x, b: integrated_gradients(f, x, b, nodes=8), "occlusion": occlusion}.get(name)
    whole = saliency(f, X) if how is None else how(f, X, B)
    alone, first = {"x": X["x"][1:]}, baseline({"x": B.values["x"][:, 1:]})
    part = saliency(f, alone) if how is None else how(f, alone, first)
    torch.testing.assert_close(part.values["x"][0], whole.values["x"][1])
    torch.testing.assert_close((saliency(one, X) if how is None else how(one, X, B)).values["x"][:, 0], whole.values["x"][:, 2])


@pytest.mark.parametrize("net", ["conv", "transformer", "odd"])
def test_units_do_not_matter_to_contributions(net: str) -> None:
    plain = deeplift(of(ZOO[net]), X, B).values["x"]
    rescaled = deeplift(of(lambda x: ZOO[net](x / 10)), {"x": X["x"] * 10}, baseline({"x": B.values["x"] * 10}))
    torch.testing.assert_close(rescaled.values["x"], plain)


def test_the_same_function_written_otherwise_is_explained_the_same() -> None:
    act = nn.ReLU()
    line = nn.Linear(C, C).double()
    for other in (lambda x: torch.relu(line(act(line(x)))), lambda x: line(line(x).clamp(min=0)).relu(), lambda x: act(line(act(line(x))))):
        found = deeplift(of(lambda x, other=other: other(x).sum(1)), X, B).values["x"]
        torch.testing.assert_close(found, deeplift(of(lambda x: act(line(act(line(x)))).sum(1)), X, B).values["x"])


@pytest.mark.parametrize("net", every(ZOO, ("lstm", "conv")))
def test_the_net_is_as_it_was(net: str, digest: Callable[[object], str]) -> None:
    before = digest(ZOO[net])
    for how in CONTRIBUTIONS.values():
        how(of(ZOO[net]), X)
    assert digest(ZOO[net]) == before and not any(m._forward_hooks for m in ZOO[net].modules())


def test_other_weights_are_another_explanation() -> None:
    torch.manual_seed(9)
    one, two = (deeplift(of(net), X, B).values["x"].flatten() for net in (ZOO["conv"], nets()["gru"]))
    assert abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 0.5


def test_the_engine_is_shapley_of_small_pieces() -> None:
    """A product of a secant and a sum: by hand."""
    f = of(lambda x: (torch.tanh(x[:, 0, 0]) * x[:, 1, 0])[:, None])
    x, b = X["x"], B.mean()["x"]
    found = deeplift(f, X, B).values["x"][:, 0]
    torch.testing.assert_close(found[:, 0, 0], (x[:, 0, 0].tanh() - b[:, 0, 0].tanh()) * (x[:, 1, 0] + b[:, 1, 0]) / 2)


def test_what_has_no_rule_is_named_and_the_residual_shows_it() -> None:
    def sorted_(x: Tensor) -> Tensor:
        return torch.sort(x[:, :, 0], 1).values[:, -2:] ** 2

    found = deeplift(of(sorted_), X, B)
    assert found.warnings == ("sort: has no rule in the engine, so its plain slope was used; the residual shows what is missed",)
    assert found.gap > 1e-3


@pytest.mark.parametrize("groups", [2, 4])
def test_shapley_is_the_mean_over_all_orders(groups: int) -> None:
    values = torch.randn(2**groups, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(exact(values), naive.shapley_by_orders(values))


@pytest.mark.slow
def test_sampled_shapley_finds_the_exact_one_and_says_how_near() -> None:
    many = by_segment(X, {"x": [2, 6, 9]})  # 12 groups: one more than is tried whole
    f = of(ZOO["odd"])
    sampled = shapley(f, X, B, many, budget=400)
    truth = naive.shapley_of(f, X, B, many)
    for name, value in sampled.by_group().items():
        torch.testing.assert_close(value, truth[name], rtol=0, atol=0.01 * float(sampled.prediction.std()))
    assert sampled.gap < 1e-9 and float(sampled.error["x"].max()) > 0


@pytest.mark.slow
def test_shapley_is_that_of_shap() -> None:
    shap = pytest.importorskip("shap")
    f, one, background = of(ZOO["conv"]), {"x": X["x"][:1]}, torch.randn(5, 1, T, C, generator=DRAW, dtype=torch.float64)
    found = shapley(f, one, baseline({"x": background}), SEGMENTS).by_group()

    def marked(z: np.ndarray) -> np.ndarray:
        real = torch.from_numpy(z).bool()[:, SEGMENTS.at["x"].clamp(min=0)]
        said = [f({"x": torch.where(real, one["x"], draw)}) for draw in background]
        return np.asarray(torch.stack(said).mean(0))

    told = shap.explainers.Exact(marked, np.zeros((1, len(SEGMENTS))))(np.ones((1, len(SEGMENTS)))).values[0]
    ours = torch.stack([value[0] for value in found.values()])
    torch.testing.assert_close(ours, torch.from_numpy(told).to(ours), rtol=0, atol=1e-6)


@pytest.mark.parametrize("net", ["lstm", "conv"])
def test_gradients_and_occlusion_are_those_of_captum(net: str) -> None:
    attr = pytest.importorskip("captum.attr")
    f, x, b = of(ZOO[net]), X["x"], B.mean()["x"]
    slope, ig = saliency(f, X).values["x"], integrated_gradients(f, X, B, nodes=32).values["x"]
    lost = sliding(f, X, B, 3, 1).values["x"]
    for h in range(H):
        torch.testing.assert_close(slope[:, h], attr.Saliency(ZOO[net]).attribute(x.clone().requires_grad_(), target=h, abs=False))
        torch.testing.assert_close(ig[:, h], attr.IntegratedGradients(ZOO[net]).attribute(x, b, h, n_steps=32, method="gausslegendre"), rtol=0, atol=1e-5)
        told = attr.Occlusion(ZOO[net]).attribute(x, (3, 1), strides=(1, 1), baselines=b, target=h)
        torch.testing.assert_close(lost[:, h], told.double() / 3, rtol=0, atol=1e-6)  # captum adds up in float32


def test_temporal_gradients_reveal_time_step_by_step() -> None:
    """The change between two steps of the staircase is exactly what those steps get."""
    f = of(ZOO["lstm"])
    found = temporal_gradients(f, X, B, nodes=8, stairs=T).values["x"].sum((-1, -2))
    torch.testing.assert_close(found, f(X) - f(B.mean()), rtol=0, atol=1e-4)


def test_smoothed_gradients_are_the_mean_and_know_their_error() -> None:
    f = of(lambda x: (x**2).sum((1, 2))[:, None])
    found = smooth_gradient(f, X, draws=256)
    assert ((found.values["x"][:, 0] - 2 * X["x"]).abs() < 5 * found.error["x"][:, 0] + 1e-12).double().mean() > 0.99
    assert found.residual.isnan().all(), "a sensitivity adds up to nothing"


def test_relevance_of_a_net_without_biases_is_conserved() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(C, 8, bias=False), nn.ReLU(), nn.Linear(8, H, bias=False)).double()
    found = lrp(of(lambda x: net(x).sum(1)), X)
    assert found.gap < 1e-9 and "patented" in found.warnings[0]


@pytest.mark.parametrize("net", ZOO)
def test_relevance_runs_everywhere(net: str) -> None:
    assert lrp(of(ZOO[net]), X).values["x"].isfinite().all()


def test_partial_dependence_of_a_product() -> None:
    f = of(lambda x: torch.stack([x[:, :, 0].mean(1) * x[:, :, 1].mean(1), x[:, -1, 0]], 1))
    curve = dependence(f, X, [("x", 0)], torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(curve.ice[..., 0], curve.grid[:, None] * X["x"][:, :, 1].mean(1))
    torch.testing.assert_close(curve.mean[:, 1], curve.grid)
    ramp = dependence(f, X, [("x", 0)], torch.tensor([0.0, 1.0], dtype=torch.float64), change="shift").centred()
    torch.testing.assert_close(ramp.ice[1, :, 0], X["x"][:, :, 1].mean(1))
    far = dependence(f, X, [("x", 0)], torch.tensor([1.0, 99.0], dtype=torch.float64), change="scale")
    assert far.outside is not None and far.outside.tolist() == [0.0, 1.0]


def test_a_rare_flag_is_drawn_at_both_its_values() -> None:
    flag = {"x": torch.zeros(5, 12, 1, dtype=torch.float64)}
    flag["x"][2, 3] = 1
    assert dependence(of(lambda x: x.sum((1, 2))[:, None]), flag, [("x", 0)]).grid.tolist() == [0, 1]


def test_local_effects_of_a_line_are_its_slope() -> None:
    many = {"x": torch.randn(40, T, C, generator=DRAW, dtype=torch.float64) + torch.randn(40, 1, C, generator=DRAW, dtype=torch.float64)}
    curve = local_effects(of(lambda x: 3 * x[:, :, 0].mean(1, keepdim=True) + x[:, :, 1].mean(1, keepdim=True) ** 2), many, [("x", 0)])
    torch.testing.assert_close(curve.mean.diff(dim=0)[:, 0] / curve.grid.diff(), torch.full((len(curve.grid) - 1,), 3.0, dtype=torch.float64))


def test_importance_is_the_error_gained() -> None:
    many = {"x": torch.randn(60, T, C, generator=DRAW, dtype=torch.float64)}
    f = of(lambda x: torch.stack([2 * x[:, 0, 0], x[:, -1, 1]], 1))
    found = importance(f, many, f(many))
    by = found.by_channel()
    assert float(by["x[0]"][0, 0]) == pytest.approx(2 * 2 / np.sqrt(np.pi), rel=0.2)
    assert float(by["x[2]"].abs().max()) == 0
    with pytest.raises(ft.TaskError, match="swaps windows with one another"):
        importance(f, {"x": many["x"][:1]}, f(many)[:1])


def test_where_the_past_is_cut() -> None:
    assert even_cuts(12, 3) == [4, 8]
    assert change_cuts(torch.tensor([0.0] * 5 + [4.0] * 3 + [1.0] * 4), 3) == [5, 8]
    assert lag_cuts(168, 24)[-1] == 162 and lag_cuts(168, 24) == sorted(set(lag_cuts(168, 24)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: saliency(linear, {}), "blocks must hold at least one tensor"),
        (lambda: saliency(linear, {"x": X["x"][0]}), "must be \\[row, step, channel\\], got 2 axes"),
        (lambda: saliency(linear, {"x": X["x"] * torch.nan}), "not finite: fill gaps"),
        (lambda: lime(linear, X, B, SEGMENTS, draws=9), "9 draws for 9 groups say nothing: at least 5 a group, 45"),
        (lambda: by_segment(X, {"x": [4, 4]}), "must rise strictly between 0 and 12"),
        (lambda: shapley(linear, X, B, by_channel({"x": X["x"][:, :3]})), 'groups must say for block "x"'),
        (lambda: sliding(linear, X, B, 2, 3), "stride must be between 1 and the window of 2"),
        (lambda: dependence(linear, X, [("y", 0)]), 'no block "y"'),
        (lambda: saliency(linear, X).by_group(), "used no groups"),
    ],
)
def test_wrong_questions_get_a_sentence(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ft.TaskError, match=words):
        call()


def test_the_table_is_tidy() -> None:
    found = deeplift(of(ZOO["conv"]), X, B)
    frame = found.frame()
    assert frame.columns == ["unique_id", "ds", "block", "channel", "at", "value"]
    one = frame.filter((frame["unique_id"] == "1") & (frame["ds"] == "2"))
    assert one["value"].sum() == pytest.approx(float(found.prediction[1, 2]))
