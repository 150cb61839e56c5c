"""StackedLSTM: the lesson's nets weight for weight, the laws of a net, and every option."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.func import vmap

import naive
from foretell.errors import TaskError
from foretell.nets.layers import Shape
from foretell.nets.stacked_lstm import StackedLSTM, StackedLSTMNet, presets
from foretell.nets.window import fold, level_of, window
from foretell.noise import Noise, noise_keys
from laws import refused, slow

SHAPE = Shape(members=3, context=10, features=4, horizon=3, known=2, targets=2, levels=2, static=1)
EXAMPLES = 5
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]

SPECS = {
    "usual": StackedLSTM(hidden=(6, 5)),
    "folded, padded, three layers": StackedLSTM(hidden=(6, 5, 4), segment=4, ahead=0, ridge=False),
    "one layer, last": StackedLSTM(hidden=(6,), centre="last", mask=True, ridge=False),
    "mean, mask, folded": StackedLSTM(hidden=(6, 5), centre="mean", mask=True, segment=5, ahead=7, ridge=False, l2=0.1, l2_on="both"),
    "recent fold beside what is known": StackedLSTM(hidden=(6,), mask=True, segment=4, ahead=7, recent=True, ridge=False),
}


def streams(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def build(spec: StackedLSTM, members: int = 3, shape: Shape = SHAPE) -> StackedLSTMNet:
    return spec.build(sized(shape, members), streams(*range(1, members + 1))).double()


def sized(shape: Shape, members: int) -> Shape:
    return Shape(members, shape.context, shape.features, shape.horizon, shape.known, shape.targets, shape.levels, shape.static)


def inputs(members: int = 3, shape: Shape = SHAPE, seed: int = 0) -> Inputs:
    draw = Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(members, EXAMPLES, *size, generator=draw, dtype=torch.float64)

    past = normal(shape.context, shape.features)
    observed = torch.rand(past.shape, generator=draw) < 0.8
    return past.requires_grad_(), observed, normal(shape.horizon, shape.known).requires_grad_(), normal(shape.static).requires_grad_()


def noise(*names: str, seed: int = 0) -> Noise:
    return Noise(noise_keys(seed, names, epoch=0), step=0, dtype=torch.float64)


def member(batch: Inputs, m: int) -> Inputs:
    return tuple(part[m : m + 1] for part in batch)  # type: ignore[return-value]  # four parts in, four out


def gradients(out: Tensor, *of: Tensor) -> list[Tensor]:
    weights = torch.arange(1.0, out[0].numel() + 1, dtype=out.dtype).sin().view(out.shape[1:])
    return list(torch.autograd.grad((out * weights).sum(), of))


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def load(net: StackedLSTMNet, weights: dict[str, np.ndarray]) -> StackedLSTMNet:
    net.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value))[None] for name, value in weights.items()})
    return net


def lesson(features: int, context: int) -> Shape:
    return Shape(members=1, context=context, features=features, horizon=1, known=0, targets=1, levels=0, static=0)


def alone(x: np.ndarray) -> Inputs:
    """A window of a file as the one member's inputs, with nothing known ahead."""
    past = torch.from_numpy(x)[None]
    return past, torch.ones_like(past, dtype=torch.bool), past.new_zeros(1, len(x), 1, 0), past.new_zeros(1, len(x), 0)


# ---- parity ----


def test_the_lessons_net_weight_for_weight(golden: Path) -> None:
    z = np.load(golden / "stacked_lstm.npz", allow_pickle=False)
    spec = presets()["main"].net
    weights = {"head.weight": z["w2/dense_11/kernel"].T, "head.bias": z["w2/dense_11/bias"]}
    for layer, cell in enumerate(("w0/lstm_3/lstm_cell", "w1/lstm_4/lstm_cell")):
        weights |= {f"layers.{layer}.weight": z[f"{cell}/kernel"].T, f"layers.{layer}.recurrent": z[f"{cell}/recurrent_kernel"].T}
        weights |= {f"layers.{layer}.bias": z[f"{cell}/bias"]}
    net = load(spec.build(lesson(6, 24), streams(0)), weights)
    np.testing.assert_allclose(net(*alone(z["x"]))[0, :, 0, 0].detach(), z["out"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(net.penalty().detach(), z["l2_penalty"], rtol=1e-5)


def test_a_torch_net_weight_for_weight(golden: Path) -> None:
    """torch's two biases act as their sum."""
    z = np.load(golden / "lstm_model.npz", allow_pickle=False)
    weights = {"head.weight": z["w/fc.weight"], "head.bias": z["w/fc.bias"]}
    for layer in range(2):
        weights |= {f"layers.{layer}.weight": z[f"w/lstm.weight_ih_l{layer}"], f"layers.{layer}.recurrent": z[f"w/lstm.weight_hh_l{layer}"]}
        weights |= {f"layers.{layer}.bias": z[f"w/lstm.bias_ih_l{layer}"] + z[f"w/lstm.bias_hh_l{layer}"]}
    net = load(StackedLSTM(hidden=(64, 64), segment=1, centre="none", ridge=False).build(lesson(3, 30), streams(0)), weights)
    np.testing.assert_allclose(net(*alone(z["x"]))[0, :, 0, 0].detach(), z["out"], rtol=0, atol=1e-5)


# ---- the laws of a net ----


@pytest.mark.parametrize("name", SPECS)
def test_fused_is_batched_is_vmap(name: str) -> None:
    """Members one by one, together, and vmap of the plain formula: values and gradients to 1e-12."""
    net, batch = build(SPECS[name]), inputs()
    past, _, future, static = batch
    leaves = (past, future, static, *net.parameters())
    out = net(*batch)
    assert out.shape == (3, EXAMPLES, 3, 2, 3)
    found = gradients(out, *leaves)

    def plain(weights: dict[str, Tensor], *parts: Tensor) -> Tensor:
        return naive.stacked_lstm(net, weights, *parts)

    twin = vmap(plain)(dict(net.named_parameters()), *batch)
    same(out, twin)
    for mine, theirs in zip(found, gradients(twin, *leaves), strict=True):
        same(mine, theirs)
    for m in range(3):
        single = SPECS[name].build(sized(SHAPE, 1), streams(m + 1)).double()
        for mine, theirs in zip(single.parameters(), net.parameters(), strict=True):
            assert torch.equal(mine[0], theirs[m])
        own = member(batch, m)
        answer = single(*own)
        same(answer, out[m : m + 1])
        for mine, theirs in zip(gradients(answer, own[0], own[2], own[3], *single.parameters()), found, strict=True):
            same(mine, theirs[m : m + 1])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", SPECS)
def test_an_example_is_forecast_alike_in_any_company_and_order(name: str, members: int) -> None:
    net, batch = build(SPECS[name], members), inputs(members)
    out = net(*batch)
    same(net(*(part[:, 2:3] for part in batch)), out[:, 2:3])
    same(net(*(part.flip(1) for part in batch)), out.flip(1))


def test_a_member_ignores_the_others() -> None:
    net, batch = build(SPECS["mean, mask, folded"]), inputs()
    changed = [part.detach().clone() for part in batch]
    for part in (changed[0], changed[2], changed[3]):
        part[1] += 5
    before, after = net(*batch), net(*changed)
    assert torch.equal(before[::2], after[::2])
    assert not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("name", [name for name in SPECS if SPECS[name].mask])
def test_values_under_an_unobserved_mark_have_no_influence(name: str) -> None:
    net, (past, observed, future, static) = build(SPECS[name]), inputs()
    other = torch.where(observed, past, past + 100)
    assert torch.equal(net(past, observed, future, static), net(other, observed, future, static))
    assert not torch.allclose(net(past, observed, future, static), net(past, torch.ones_like(observed), future, static))


@pytest.mark.parametrize("name", SPECS)
def test_every_input_channel_receives_a_gradient(name: str) -> None:
    net, (past, observed, future, static) = build(SPECS[name]), inputs()
    of_past, of_future, of_static = torch.autograd.grad(net(past, observed, future, static).square().sum(), (past, future, static))
    for found in (of_past, of_future, of_static):
        assert (found.abs().amax(tuple(range(1, found.ndim - 1))) > 0).all()


@pytest.mark.parametrize("members", [1, slow(2)])
@pytest.mark.parametrize("name", SPECS)
def test_learns_one_window_by_heart(name: str, members: int) -> None:
    net, batch = build(SPECS[name], members), inputs(members)
    goal = torch.randn(net(*batch).shape, generator=Generator().manual_seed(5), dtype=torch.float64)
    one = [part[:, :1].detach() for part in batch]
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (net(*one) - goal[:, :1]).square().mean() / goal.square().mean()
        if loss < 1e-3:
            return
        loss.backward()
        optimizer.step()
    pytest.fail(f"after 200 steps {float(loss):.3f} of the square remains")


def test_float32_stays_float32() -> None:
    net = SPECS["mean, mask, folded"].build(SHAPE, streams(1, 2, 3))
    past, observed, future, static = (part.detach() for part in inputs())
    assert net(past.float(), observed, future.float(), static.float()).dtype == torch.float32


# ---- options ----


def test_with_a_ridge_the_net_begins_with_next_to_nothing() -> None:
    with_ridge, without = (build(StackedLSTM(hidden=(6, 5), centre="none", ridge=ridge)) for ridge in (True, False))
    batch = inputs()
    torch.testing.assert_close(with_ridge(*batch), without(*batch) * 0.01, rtol=1e-4, atol=1e-7)
    assert float(with_ridge(*batch).detach().abs().max()) < 0.05


@pytest.mark.parametrize("centre", ["last", "mean"])
def test_centring_lets_the_forecast_follow_the_level(centre: str) -> None:
    spec = StackedLSTM.model_validate({"hidden": (6,), "centre": centre, "ridge": False})
    net, (past, observed, future, static) = build(spec), inputs()
    higher = past + torch.tensor([7.0, -3.0, 0, 0], dtype=torch.float64)
    level = torch.tensor([7.0, -3.0], dtype=torch.float64)[:, None]
    seen = torch.ones_like(observed)
    same(net(higher, seen, future, static), net(past, seen, future, static) + level)
    nothing = torch.zeros_like(observed)
    assert level_of(past, nothing, 2, net.spec.centre).abs().max() == 0


def test_with_a_ridge_the_level_is_not_added_a_second_time() -> None:
    net, (past, observed, future, static) = build(StackedLSTM(hidden=(6,), centre="last")), inputs()
    seen = torch.ones_like(observed)
    same(net(past + torch.tensor([7.0, -3.0, 0, 0]), seen, future, static), net(past, seen, future, static))


def test_the_last_observed_level_is_taken() -> None:
    net, (past, observed, _, _) = build(StackedLSTM(hidden=(6,), centre="last")), inputs()
    observed = torch.ones_like(observed)
    observed[:, 0, 6:, 1] = False
    same(level_of(past, observed, 2, net.spec.centre)[:, 0], torch.stack([past[:, 0, 9, 0], past[:, 0, 6 - 1, 1]], -1))


def test_dropout_only_in_training_and_each_member_from_its_own_stream() -> None:
    net, batch = build(StackedLSTM(hidden=(6, 5), dropout=0.5)), inputs()
    assert torch.equal(net(*batch), net(*batch))
    trained = net(*batch, noise("a", "b", "c"))
    assert not torch.allclose(trained, net(*batch))
    single = StackedLSTM(hidden=(6, 5), dropout=0.5).build(sized(SHAPE, 1), streams(2)).double()
    same(single(*member(batch, 1), noise("b")), trained[1:2])


@pytest.mark.parametrize(("rates", "acts"), [((0.0, 0.0), False), ((0.5, 0.0), True), ((0.0, 0.5), True)])
def test_dropout_acts_after_each_layer_at_its_own_rate(rates: tuple[float, ...], acts: bool) -> None:
    net, batch = build(StackedLSTM(hidden=(6, 5), dropout=rates)), inputs()
    assert torch.equal(net(*batch), net(*batch, noise("a", "b", "c"))) is not acts


def test_recurrent_dropout_acts_only_in_training() -> None:
    spec = StackedLSTM(hidden=(6, 5), dropout=0.0, recurrent_dropout=0.5)
    net, batch = build(spec), inputs()
    plain = build(StackedLSTM(hidden=(6, 5), dropout=0.0))
    assert torch.equal(net(*batch), plain(*batch))
    trained = net(*batch, noise("a", "b", "c"))
    assert not torch.allclose(trained, net(*batch))
    single = spec.build(sized(SHAPE, 1), streams(2)).double()
    same(single(*member(batch, 1), noise("b")), trained[1:2])


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_after_the_last_layer_keeps_the_expectation(rate: float) -> None:
    """One layer and a straight head: the mean over many masks is the forecast without any."""
    net, batch = build(StackedLSTM(hidden=(6,), dropout=rate, ahead=0, ridge=False)), inputs()
    with torch.no_grad():
        draws = torch.stack([net(*batch, noise("a", "b", "c", seed=seed)) for seed in range(150)])
        assert float((draws.mean(0) - net(*batch)).abs().max()) < 5 * float(draws.std(0).max()) / 150**0.5


@pytest.mark.parametrize(("on", "names"), [("input", ["weight"]), ("recurrent", ["recurrent"]), ("both", ["weight", "recurrent"])])
def test_penalty_is_the_sum_of_squares_of_the_chosen_kernels(on: str, names: list[str]) -> None:
    net = build(StackedLSTM.model_validate({"hidden": (6, 5), "l2": 0.01, "l2_on": on}))
    weights = dict(net.named_parameters())
    for m in range(3):
        wanted = sum(float(weights[f"layers.{layer}.{name}"][m].detach().square().sum()) for layer in range(2) for name in names)
        assert float(net.penalty()[m].detach()) == pytest.approx(0.01 * wanted, rel=1e-12)
    assert build(StackedLSTM()).penalty().tolist() == [0, 0, 0]


def test_penalty_follows_the_weights_it_is_called_with() -> None:
    """Members that stopped are dropped from the weights, not from the net."""
    net = build(StackedLSTM(hidden=(6,), l2=0.1))
    kept = {name: weights[1:] for name, weights in net.named_parameters()}
    held = torch.nn.Module()
    held.net = net
    held.forward = net.penalty  # type: ignore[method-assign,assignment]  # a module whose call is the penalty
    found = torch.func.functional_call(held, {f"net.{name}": weights for name, weights in kept.items()}, ())
    assert torch.equal(found, net.penalty()[1:])


@pytest.mark.parametrize(
    ("context", "horizon", "steps"),
    [(24, 24, 1), (32, 4, 1), (168, 24, 24), (168, 1, 6), (168, 100, 6), (336, 24, 24), (96, 96, 3), (97, 24, 4), (720, 336, 24), (64, 2, 2), (1000, 1, 40)],
)
def test_the_fold_that_is_chosen(context: int, horizon: int, steps: int) -> None:
    assert fold(context, horizon) == steps


def test_a_context_that_is_no_multiple_is_padded_at_the_front() -> None:
    net, (past, observed, _, _) = build(StackedLSTM(hidden=(6,), segment=4, centre="none", ridge=False)), inputs()
    x = window(past, observed, level_of(past, observed, 2, net.spec.centre), net.segment, mask=net.spec.mask)
    assert x.shape == (3, EXAMPLES, 3, 16)
    assert x[:, :, 0, :8].abs().max() == 0
    same(x[:, :, 0, 8:].unflatten(-1, (2, 4)), past[:, :, :2])


def test_summary_counts_every_number() -> None:
    net = build(StackedLSTM(hidden=(6, 5), segment=5, mask=True))
    table = net.summary()
    assert table.parameters * 3 == sum(weights.numel() for weights in net.parameters())
    assert [(row.layer, row.output) for row in table.rows] == [
        ("window", (2, 40)),
        ("lstm 1", (2, 6)),
        ("lstm 2", (5,)),
        ("ahead", (128,)),
        ("head", (3, 2, 3)),
    ]
    assert StackedLSTM(hidden=(6, 5), segment=5, mask=True).summary(SHAPE) == table


def test_the_lessons_parameters_are_counted_as_keras_does() -> None:
    table = presets()["main"].net.summary(lesson(6, 168))
    assert [row.parameters for row in table.rows] == [0, 18176, 12416, 33]
    assert "168 × 64" in str(table) and "30,625" in str(table)


def test_presets_are_the_lessons() -> None:
    told = {
        name: (p.net.hidden, p.net.l2, p.net.rates, p.training["batch"], p.training["optimizer"]["rate"], p.training["patience"])
        for name, p in presets().items()
    }
    assert told == {
        "main": ((64, 32), 1e-4, (0.2, 0.1), 64, 1e-3, 7),
        "main2": ((64, 32), 1e-3, (0.2, 0.2), 32, 1e-3, 7),
        "main3": ((128, 64), 1e-4, (0.2, 0.1), 32, 1e-3, 7),
        "plain": ((64, 32), 0.0, (0.0, 0.0), 64, 1e-3, 7),
        "advice": ((128, 64, 32), 1e-5, (0.1, 0.1, 0.1), 32, 2e-3, 12),
    }
    for preset in presets().values():
        assert (preset.net.segment, preset.net.ridge, preset.net.centre, preset.net.l2_on) == (1, False, "none", "input")


# ---- specs ----


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hidden": ()}, r"StackedLSTM: hidden needs at least one layer, as in hidden=\(64, 32\); got \(\)"),
        ({"hidden": (64, 0)}, r"hidden\.1 must be greater than or equal to 1; got 0"),
        ({"hidden": "wide"}, "hidden must be a valid tuple; got 'wide'"),
        ({"dropout": (0.1,)}, r"dropout must be one rate for all layers or one a layer: hidden has 2 layers; got \(0\.1,\)"),
        ({"hidden": (8,), "dropout": (0.1, 0.2)}, r"one a layer: hidden has 1 layers"),
        ({"dropout": (0.1, 1.0)}, r"dropout\.1 must be at least 0 and below 1: .* got 1\.0"),
        ({"dropout": -0.1}, r"dropout\.0 must be at least 0 and below 1: .* got -0\.1"),
        ({"recurrent_dropout": 1.5}, "recurrent_dropout must be at least 0 and below 1: it is the share of units switched off in training; got 1.5"),
        ({"l2": -1e-4}, "l2 must be greater than or equal to 0; got -0.0001"),
        ({"l2": float("nan")}, "l2 must be a finite number; got nan"),
        ({"l2_on": "kernel"}, "l2_on must be 'input', 'recurrent' or 'both'; got 'kernel'"),
        ({"hidden": "abc"}, "hidden must be a valid tuple; got 'abc'"),
        ({"segment": 0}, "segment must be greater than or equal to 1; got 0"),
        ({"center": "mean"}, 'no option "center": did you mean "centre"?'),
    ],
)
def test_a_wrong_option_gets_its_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        StackedLSTM.model_validate(options)


def test_one_layer_and_one_rate_may_be_given_plainly() -> None:
    assert StackedLSTM.model_validate({"hidden": 16, "dropout": 0.3}) == StackedLSTM(hidden=(16,), dropout=(0.3,))
    assert StackedLSTM(hidden=(8, 8, 8)).rates == (0.3, 0.3, 0.3)
    assert StackedLSTM(hidden=(8,)).rates == (0.3,)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_survives_json(name: str) -> None:
    assert StackedLSTM.model_validate_json(SPECS[name].model_dump_json()) == SPECS[name]


def test_a_segment_longer_than_the_context_and_missing_streams_are_refused() -> None:
    with pytest.raises(TaskError, match="segment=11 is longer than the context of 10 steps"):
        build(StackedLSTM(segment=11))
    with pytest.raises(TaskError, match="3 members but 2 random streams"):
        StackedLSTM().build(SHAPE, streams(0, 1))


def test_a_recent_fold_that_nobody_reads_is_refused() -> None:
    with refused(TaskError, "StackedLSTM: recent=True is what the `ahead` units see: with ahead=0 there are none"):
        StackedLSTM(ahead=0, recent=True)
