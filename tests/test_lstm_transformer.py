"""LSTMTransformer: the document's net weight for weight in both readings, torch's own layers, the laws of a net, labels, several targets."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

import foretell as ft
from foretell import Panel, Task, TaskError, Training, forecast
from foretell.nets import LSTMTransformer
from foretell.nets.labels import Embedding
from foretell.nets.layers import Shape
from foretell.nets.lstm_transformer import LSTMTransformerNet
from foretell.noise import Noise, noise_keys
from foretell.optim import Optimizer
from laws import plain, refused

SHAPE = Shape(members=3, context=10, features=4, horizon=3, known=2, targets=2, levels=2, static=2, kinds=(3, 0))
EXAMPLES = 5
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
SPECS = {
    "usual": LSTMTransformer(hidden=6, heads=2, feedforward=8),
    "deep, folded, sees all": LSTMTransformer(hidden=4, layers=2, encoders=2, heads=4, feedforward=5, causal=False, segment=4, ahead=0, ridge=False),
}


def streams(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def build(spec: LSTMTransformer, members: int = 3) -> LSTMTransformerNet:
    net = spec.build(replace(SHAPE, members=members), streams(*range(1, members + 1))).double()
    with torch.no_grad():  # norms that start as the identity would hide a mistake in them
        for weights in net.parameters():
            weights += 0.1 * torch.randn(weights.shape, generator=Generator().manual_seed(weights[0].numel()), dtype=torch.float64)[:1]
    return net


def inputs(members: int = 3, seed: int = 0) -> Inputs:
    draw = Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(members, EXAMPLES, *size, generator=draw, dtype=torch.float64)

    past = normal(SHAPE.context, SHAPE.features)
    static = torch.stack([torch.randint(0, 4, (members, EXAMPLES), generator=draw).double(), normal()], -1)
    return past.requires_grad_(), torch.rand(past.shape, generator=draw) < 0.8, normal(SHAPE.horizon, SHAPE.known).requires_grad_(), static


def gradients(out: Tensor, *of: Tensor) -> list[Tensor]:
    weights = torch.arange(1.0, out[0].numel() + 1, dtype=out.dtype).sin().view(out.shape[1:])
    return list(torch.autograd.grad((out * weights).sum(), of))


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


# ---- parity ----


def documents(golden: Path) -> tuple[LSTMTransformerNet, Tensor, dict[str, np.ndarray]]:
    """The document's net with its weights, and its input."""
    z = dict(np.load(golden / "lstm_transformer.npz", allow_pickle=False))
    spec = LSTMTransformer(
        hidden=64, layers=2, heads=4, encoders=2, feedforward=2048, causal=False, segment=1, ahead=0, centre="none", ridge=False
    )  # fmt: skip
    shape = Shape(members=1, context=30, features=10, horizon=1, known=0, targets=1, levels=0, static=0)
    weights = {"head.weight": z["w/fc.weight"], "head.bias": z["w/fc.bias"]}
    for i in range(2):
        weights |= {f"layers.{i}.weight": z[f"w/lstm.weight_ih_l{i}"], f"layers.{i}.recurrent": z[f"w/lstm.weight_hh_l{i}"]}
        weights |= {f"layers.{i}.bias": z[f"w/lstm.bias_ih_l{i}"] + z[f"w/lstm.bias_hh_l{i}"]}
        theirs, mine = f"w/transformer.layers.{i}", f"encoders.{i}"
        names = {"attention.out": "self_attn.out_proj", "wide": "linear1", "narrow": "linear2", "norm1": "norm1", "norm2": "norm2"}
        for part in ("weight", "bias"):
            weights |= {f"{mine}.attention.project.{part}": z[f"{theirs}.self_attn.in_proj_{part}"]}
            weights |= {f"{mine}.{name}.{part}": z[f"{theirs}.{their}.{part}"] for name, their in names.items()}
    net = spec.build(shape, streams(0))
    net.load_state_dict({name: torch.from_numpy(value)[None] for name, value in weights.items()})
    return net, torch.from_numpy(z["x"])[None], z


def test_the_documents_net_weight_for_weight(golden: Path) -> None:
    net, x, z = documents(golden)
    out = net(x, torch.ones_like(x, dtype=torch.bool), x.new_zeros(1, 5, 1, 0), x.new_zeros(1, 5, 0))
    np.testing.assert_allclose(out[0, :, :, 0, 0].detach(), z["out_batch_first"], rtol=0, atol=1e-5)


def test_as_written_the_document_attends_over_the_batch(golden: Path) -> None:
    """The same weights with examples and steps exchanged before the encoder give the document's own numbers: its forecasts depend on who
    stands beside an example, and ours do not."""
    net, x, z = documents(golden)
    for layer in net.layers:
        x = layer(x)
    x = x.transpose(1, 2)
    for encoder in net.encoders:
        x = encoder(x, None)
    np.testing.assert_allclose(net.head(x.transpose(1, 2)[:, :, -1])[0].detach(), z["out_seed"], rtol=0, atol=1e-5)
    assert np.abs(z["out_seed"] - z["out_batch_first"]).max() > 0.01


@pytest.mark.parametrize("name", SPECS)
def test_the_layers_are_torchs_own(name: str) -> None:
    """nn.LSTM and nn.TransformerEncoderLayer with each member's weights."""
    net, spec = build(SPECS[name]), SPECS[name]
    x = torch.randn(3, EXAMPLES, net.steps, SHAPE.features * net.segment, generator=streams(1)[0], dtype=torch.float64)
    found = net.states(x)
    later = torch.ones(net.steps, net.steps, dtype=torch.bool).triu(1) if spec.causal else None
    for m in range(3):
        state = x[m]
        for layer in net.layers:
            recurrent = nn.LSTM(state.shape[-1], spec.hidden, batch_first=True).double()
            own = [layer.weight[m], layer.recurrent[m], layer.bias[m], torch.zeros_like(layer.bias[m])]
            recurrent.load_state_dict(dict(zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), own, strict=True)))
            state = recurrent(state)[0]
        for mine in net.encoders:
            encoder = nn.TransformerEncoderLayer(spec.hidden, spec.heads, spec.feedforward, dropout=0.0, batch_first=True).double()
            names = {"self_attn.out_proj": mine.attention.out, "linear1": mine.wide, "linear2": mine.narrow, "norm1": mine.norm1, "norm2": mine.norm2}
            told = {f"{theirs}.{part}": dict(layer.named_parameters())[part][m] for theirs, layer in names.items() for part in ("weight", "bias")}
            told |= {"self_attn.in_proj_weight": mine.attention.project.weight[m], "self_attn.in_proj_bias": mine.attention.project.bias[m]}
            encoder.load_state_dict(told)
            state = encoder(state, src_mask=later)
        same(found[m], state)


# ---- the laws of a net ----


@pytest.mark.parametrize("name", SPECS)
def test_members_in_company_are_members_alone(name: str) -> None:
    net, batch = build(SPECS[name]), inputs()
    out = net(*batch)
    assert out.shape == (3, EXAMPLES, 3, 2, 3)
    found = gradients(out, batch[0], batch[2], *net.parameters())
    fresh = SPECS[name].build(replace(SHAPE, members=3), streams(1, 2, 3))
    for m in range(3):
        drawn = SPECS[name].build(replace(SHAPE, members=1), streams(m + 1))
        assert all(torch.equal(a[0], b[m]) for a, b in zip(drawn.parameters(), fresh.parameters(), strict=True))
        alone = drawn.double()
        alone.load_state_dict({key: value[m : m + 1] for key, value in net.state_dict().items()})
        own = tuple(part[m : m + 1] for part in batch)
        answer = alone(*own)
        same(answer, out[m : m + 1])
        for mine, theirs in zip(gradients(answer, own[0], own[2], *alone.parameters()), found, strict=True):
            same(mine, theirs[m : m + 1])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", SPECS)
def test_an_example_is_forecast_alike_in_any_company_and_order(name: str, members: int) -> None:
    net, batch = build(SPECS[name], members), inputs(members)
    out = net(*batch)
    same(net(*(part[:, 2:3] for part in batch)), out[:, 2:3])
    same(net(*(part.flip(1) for part in batch)), out.flip(1))


@pytest.mark.parametrize("name", SPECS)
def test_no_step_reads_a_later_one_if_causal(name: str) -> None:
    net = build(SPECS[name])
    x = torch.randn(3, EXAMPLES, net.steps, SHAPE.features * net.segment, generator=streams(1)[0], dtype=torch.float64)
    changed = x.clone()
    changed[:, :, -1] += 1
    moved = (net.states(x) - net.states(changed)).abs().amax((0, 1, 3))
    assert moved[-1] > 1e-3
    assert bool((moved[:-1] == 0).all()) == SPECS[name].causal


def test_every_input_matters_and_gets_a_gradient() -> None:
    net, batch = build(SPECS["usual"]), inputs()
    past, future, *weights = gradients(net(*batch), batch[0], batch[2], *net.parameters())
    assert (past.abs().amax((0, 1, 2)) > 0).all() and (future.abs().amax((0, 1, 2)) > 0).all()
    assert all(bool((w != 0).any()) for w in weights)


def test_noise_belongs_to_the_member() -> None:
    net, batch = build(SPECS["usual"]), inputs()

    def noisy(net: LSTMTransformerNet, batch: Inputs, *names: str) -> Tensor:
        return net(*batch, Noise(noise_keys(0, names, epoch=0), step=0, dtype=torch.float64))

    out = noisy(net, batch, "a", "b", "c")
    assert (out - net(*batch)).abs().max() > 1e-3
    alone = SPECS["usual"].build(replace(SHAPE, members=1), streams(2)).double()
    alone.load_state_dict({key: value[1:2] for key, value in net.state_dict().items()})
    same(noisy(alone, tuple(part[1:2] for part in batch), "b"), out[1:2])


# ---- labels ----


def test_a_category_is_a_row_of_its_own_and_a_stranger_is_zeros() -> None:
    layer = Embedding(streams(1, 2), 3, 2)
    told = layer(torch.tensor([[1.0, 3, 0], [2, 2, 1]]))
    assert torch.equal(told[0], torch.stack([layer.weight[0, 0], layer.weight[0, 2], torch.zeros(2)]))
    assert torch.equal(told[1], layer.weight[1, [1, 1, 0]])


def labelled(seed: int = 0) -> Panel:
    """Eight series that go up or down at the same rare events, by a label that nothing else tells."""
    draw = np.random.default_rng(seed)
    side = np.where(np.arange(8) % 2, 1.0, -1.0)
    event = (draw.random(size=(8, 200)) < 0.2) * draw.normal(size=(8, 200))
    y = side[:, None] * event + 0.02 * draw.normal(size=(8, 200))
    panel = ft.from_array(np.stack([y, event], -1).astype(np.float32), ("y", "event"), step="D")
    return replace(panel, labels={"side": tuple("plus" if s > 0 else "minus" for s in side)})


@pytest.mark.slow
def test_labels_are_learned() -> None:
    panel, task = labelled(), Task(target="y", known="event", context=1, horizon=1, levels=())
    net = LSTMTransformer(hidden=4, heads=2, feedforward=4, ahead=16, dropout=0.0)
    training = Training(epochs=10, batch=64, seed=1, device="cpu", optimizer=Optimizer(rate=0.03), retrain=False, scale="identity")
    errors = {}
    for name, one in {"with": panel, "without": replace(panel, labels={})}.items():
        models = {"net": partial(forecast.fit, task=task, net=net, training=training)}
        errors[name] = float(ft.backtest(models, one, windows=20, step=1, refit=0).scores()["net"]["MAE"])
    assert errors["with"] < 0.5 * errors["without"], errors


def test_labels_travel_in_the_file(tmp_path: Path) -> None:
    panel = replace(plain(80), labels={"kind": ("a", "b", "a"), "size": (1.0, 2.0, 4.0)})
    model = forecast.fit(panel, Task(target="y", context=12, horizon=3), LSTMTransformer(hidden=4, heads=2), Training(epochs=1, device="cpu"))
    ft.save(model, tmp_path / "m")
    assert torch.equal(ft.load(tmp_path / "m").predict(panel).values, model.predict(panel).values)
    function, blocks = model.function(panel)
    torch.testing.assert_close(function(blocks)[..., 0], model.predict(panel).values)
    other = replace(panel, labels={**panel.labels, "kind": ("b", "b", "new")})
    assert model.predict(other).values.isfinite().all()
    with refused(TaskError, 'the model knows the label "kind" of every series: did you mean "kinds"'):
        model.predict(replace(panel, labels={"kinds": ("a", "b", "a"), "size": (1.0, 2.0, 4.0)}))


# ---- several targets, options ----


def test_several_targets_each_have_bands_and_scores_of_their_own() -> None:
    panel = plain(160)
    task = Task(target=("y", "x"), context=24, horizon=3)
    net = LSTMTransformer(hidden=4, heads=2, feedforward=8)
    result = ft.backtest({"net": lambda p: forecast.fit(p, task, net, Training(epochs=2, device="cpu"))}, panel, task=task, windows=3, refit=0)
    scores = result.scores("target")["net"]
    assert scores["MAE"].shape == (2,) and scores["coverage-80"].shape == (2,)
    by_hand = (result.point["net"] - result.truth).abs().mean((0, 1, 2))
    torch.testing.assert_close(scores["MAE"].double(), by_hand.double())
    ahead = forecast.fit(panel, task, net, Training(epochs=1, device="cpu")).predict(panel)
    assert ahead.values.shape == (3, 3, 2) and ahead.quantiles.shape == (3, 3, 2, 3)
    assert {"foretell:x", "foretell:x-lo-80"} <= set(ahead.columns())


def test_wrong_options_get_their_sentence() -> None:
    with refused(TaskError, "heads must divide hidden=64: 1, 2, 4, 8, 16, 32, 64; got heads=5"):
        LSTMTransformer(heads=5)
    with refused(TaskError, "segment=11 is longer than the context of 10 steps"):
        LSTMTransformer(segment=11).build(SHAPE, streams(0, 1, 2))
    with refused(TaskError, "3 members but 1 random streams"):
        LSTMTransformer().build(SHAPE, streams(0))


def test_summary_counts_what_is_learned() -> None:
    net = build(SPECS["usual"], 1)
    assert SPECS["usual"].summary(replace(SHAPE, members=1)).parameters == sum(p.numel() for p in net.parameters())
