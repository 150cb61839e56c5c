"""Layers: fused = side by side = vmap of one member (values and gradients), and equal to torch's own."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.func import vmap

import naive
from foretell.nets.layers import LSTM, Attention, Conv, LayerNorm, Linear, Row, Summary, attend, dropout, learned, lstm_steps
from foretell.noise import Noise, noise_keys

MEMBERS, EXAMPLES, TIME, FEATURES = 3, 4, 7, 6


def streams(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def inputs(members: int = MEMBERS, seed: int = 0) -> Tensor:
    return torch.randn(members, EXAMPLES, TIME, FEATURES, generator=Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)


def noise(*names: str, seed: int = 0) -> Noise:
    return Noise(noise_keys(seed, names, epoch=0), step=0, dtype=torch.float64)


def gradients(out: Tensor, *of: Tensor) -> list[Tensor]:
    """Of a sum in which every output counts differently."""
    weights = torch.arange(1.0, out[0].numel() + 1, dtype=out.dtype).sin().view(out.shape[1:])
    return list(torch.autograd.grad((out * weights).sum(), of))


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def _attention(causal: bool) -> Callable[..., Tensor]:
    return lambda x, w, b, ow, ob: naive.attention(x, (w, b), (ow, ob), 2, causal)


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * weight + bias


LAYERS: dict[str, tuple[Callable[[list[Generator]], nn.Module], Callable[..., Tensor]]] = {
    "linear": (lambda s: Linear(s, FEATURES, 5), lambda x, w, b: x @ w.T + b),
    "layer norm": (lambda s: LayerNorm(s, FEATURES), _layer_norm),
    "conv odd": (lambda s: Conv(s, FEATURES, 5, 3), lambda x, w, b: naive.conv(x, w, b, True)),
    "conv even": (lambda s: Conv(s, FEATURES, 5, 4), lambda x, w, b: naive.conv(x, w, b, True)),
    "conv valid": (lambda s: Conv(s, FEATURES, 5, 4, same=False), lambda x, w, b: naive.conv(x, w, b, False)),
    "attention": (lambda s: Attention(s, FEATURES, 2), _attention(False)),
    "lstm": (lambda s: LSTM(s, FEATURES, 5), naive.lstm),
}


@pytest.mark.parametrize("name", LAYERS)
def test_fused_is_side_by_side_is_vmap(name: str) -> None:
    """One by one on the fused kernels, together as batched products, and vmap of the plain formula: to 1e-12, gradients too."""
    build, plain = LAYERS[name]
    company, x = build(streams(1, 2, 3)).double(), inputs()
    with torch.no_grad():
        for weights in company.parameters():
            weights += torch.randn(weights.shape, generator=Generator().manual_seed(9), dtype=torch.float64)
    out = company(x)
    found = gradients(out, x, *company.parameters())
    twin = vmap(plain)(x, *company.parameters())
    same(out, twin)
    for mine, theirs in zip(found, gradients(twin, x, *company.parameters()), strict=True):
        same(mine, theirs)
    for m in range(MEMBERS):
        alone = build(streams(0)).double()
        alone.load_state_dict({key: value[m : m + 1] for key, value in company.state_dict().items()})
        single = alone(x[m : m + 1])
        same(single, out[m : m + 1])
        for mine, theirs in zip(gradients(single, x, *alone.parameters()), found, strict=True):
            same(mine[m : m + 1] if len(mine) == MEMBERS else mine, theirs[m : m + 1])


@pytest.mark.parametrize("name", LAYERS)
def test_a_member_draws_the_same_weights_alone_and_in_company(name: str) -> None:
    build, _ = LAYERS[name]
    company, alone = build(streams(1, 2, 3)), build(streams(2))
    for mine, theirs in zip(alone.parameters(), company.parameters(), strict=True):
        assert torch.equal(mine[0], theirs[1])


def test_weights_start_within_one_over_the_root_of_what_they_sum() -> None:
    layer = Linear(streams(0), 16, 500)
    assert 0.24 < float(layer.weight.detach().abs().max()) <= 0.25
    assert abs(float(layer.weight.detach().mean())) < 0.01


def test_the_forget_gate_starts_open() -> None:
    bias = LSTM(streams(0, 1), 3, 400).bias.detach().unflatten(1, (4, 400)).mean(2)
    torch.testing.assert_close(bias, torch.tensor([[0.0, 1, 0, 0]] * 2), rtol=0, atol=0.01)


def test_lstm_is_torchs() -> None:
    theirs = nn.LSTM(FEATURES, 5, batch_first=True).double()
    mine, x = LSTM(streams(0), FEATURES, 5).double(), inputs(1)
    weight, recurrent, first, second = (p.detach()[None] for p in theirs.parameters())
    mine.load_state_dict({"weight": weight, "recurrent": recurrent, "bias": first + second})
    same(mine(x)[0], theirs(x[0])[0])


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(causal: bool) -> None:
    theirs = nn.MultiheadAttention(FEATURES, 2, batch_first=True).double()
    mine, x = Attention(streams(0), FEATURES, 2).double(), inputs(1)
    with torch.no_grad():
        theirs.in_proj_bias.uniform_(-1, 1)
        theirs.out_proj.bias.uniform_(-1, 1)
    names = {"project.weight": "in_proj_weight", "project.bias": "in_proj_bias", "out.weight": "out_proj.weight", "out.bias": "out_proj.bias"}
    mine.load_state_dict({key: theirs.state_dict()[name][None] for key, name in names.items()})
    later = torch.ones(TIME, TIME, dtype=torch.bool).triu(1)
    same(mine(x, causal=causal)[0], theirs(x[0], x[0], x[0], attn_mask=later if causal else None)[0])


def test_causal_attention_is_the_plain_one_and_does_not_look_ahead() -> None:
    layer, x = Attention(streams(1, 2, 3), FEATURES, 2).double(), inputs()
    same(layer(x, causal=True), vmap(_attention(True))(x, *layer.parameters()))
    other = x.detach().clone()
    other[:, :, 4:] += 1
    assert torch.equal(layer(x, causal=True)[:, :, :4], layer(other, causal=True)[:, :, :4])
    assert not torch.equal(layer(x)[:, :, :4], layer(other)[:, :, :4])


def test_attention_may_read_another_sequence() -> None:
    x, source = inputs(), inputs(seed=1)[:, :, :3]
    out = attend(x, source, source[..., :4], 2)
    assert out.shape == (MEMBERS, EXAMPLES, TIME, 4)
    same(attend(x, source, torch.ones_like(source), 2), torch.ones_like(x))


@pytest.mark.parametrize("same_steps", [True, False])
def test_convolution_is_torchs(same_steps: bool) -> None:
    theirs = nn.Conv1d(FEATURES, 5, 3, padding="same" if same_steps else 0).double()
    mine, x = Conv(streams(0), FEATURES, 5, 3, same=same_steps).double(), inputs(1)
    mine.load_state_dict({key: value[None] for key, value in theirs.state_dict().items()})
    same(mine(x)[0], theirs(x[0].mT).mT)


@pytest.mark.parametrize("members", [1, 3])
def test_recurrent_dropout_is_one_mask_a_sequence(members: int) -> None:
    """Values and gradients as of the plain loop with the same mask on the state at every step."""
    layer, x = LSTM(streams(*range(members)), FEATURES, 5).double(), inputs(members)
    keep = noise(*"abc"[:members]).keep((EXAMPLES, 5), 0.4)
    assert (keep == 0).any()
    out, twin = layer(x, keep), vmap(naive.lstm)(x, *layer.parameters(), keep)
    same(out, twin)
    for mine, theirs in zip(gradients(out, x, *layer.parameters()), gradients(twin, x, *layer.parameters()), strict=True):
        same(mine, theirs)
    assert not torch.allclose(out, layer(x))


def test_steps_pass_gradcheck() -> None:
    layer = LSTM(streams(0, 1), 2, 3).double()
    x = inputs(2)[:, :2, :3, :2].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *w: lstm_steps(x, *w), (x, *layer.parameters()))


def test_steps_refuse_a_second_derivative() -> None:
    layer, x = LSTM(streams(0, 1), FEATURES, 3).double(), inputs(2)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


def test_backward_twice_through_the_same_graph() -> None:
    """Backward leaves what it saved as it was."""
    layer, x = LSTM(streams(0, 1), FEATURES, 3).double(), inputs(2)
    out = layer(x).square().sum()
    first = torch.autograd.grad(out, x, retain_graph=True)[0].clone()
    assert torch.equal(first, torch.autograd.grad(out, x)[0])


def test_dropout_keeps_expectations_and_is_off_at_prediction() -> None:
    x = torch.ones(2, 50, 40, 5, dtype=torch.float64)
    out = dropout(x, 0.3, noise("a", "b"))
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1.0, dtype=torch.float64) / 0.7)}
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.ones(2, dtype=torch.float64), rtol=0, atol=0.02)
    assert dropout(x, 0.3, None) is x
    assert dropout(x, 0.0, noise("a", "b")) is x


def test_each_member_has_its_own_dropout_wherever_it_stands() -> None:
    x = torch.ones(2, 5, 4, 3, dtype=torch.float64)
    ab, ba = dropout(x, 0.5, noise("a", "b")), dropout(x, 0.5, noise("b", "a"))
    assert torch.equal(ab, ba.flip(0))
    assert not torch.equal(ab[0], ab[1])
    assert torch.equal(ab[:1], dropout(x[:1], 0.5, noise("a")))


def test_attention_dropout_falls_on_the_weights() -> None:
    layer, x = Attention(streams(1, 2, 3), FEATURES, 2).double().requires_grad_(False), inputs().detach()
    assert torch.equal(layer(x, rate=0.5), layer(x))
    draws = torch.stack([layer(x, rate=0.5, noise=noise(*"abc", seed=seed)) for seed in range(200)])
    assert float((draws.mean(0) - layer(x)).abs().max()) < 0.15
    assert float(draws.std(0).min()) > 0


def test_summary_is_a_readable_table() -> None:
    table = Summary((Row("lstm 1", (7, 64), 53504), Row("head", (24,), 6240)))
    assert table.parameters == 59744
    assert str(table).splitlines() == [
        "layer   output  parameters",
        "lstm 1  7 × 64      53,504",
        "head    24           6,240",
        "total               59,744",
    ]
    assert learned(LSTM(streams(0, 1), 6, 64)) == (6 + 64 + 1) * 256
