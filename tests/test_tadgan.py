"""TadGAN's networks: equal to the guidebook's, to themselves with members, and the critics' gradient to a second derivative."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import naive_gan
from foretell.detect.sampling import Draws
from foretell.errors import TaskError
from foretell.nets import TadGAN
from foretell.nets.critic import Critic, wasserstein
from foretell.nets.tadgan import TadGANNet
from foretell.noise import streams

Recorded = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def recorded(golden: Path) -> Recorded:
    files = ("encoder", "generator", "critic_x", "critic_z", "losses")
    return {name: {k: torch.from_numpy(v) for k, v in np.load(golden / f"mtadgan_{name}.npz").items()} for name in files}


@pytest.fixture(scope="module")
def guidebook(recorded: Recorded) -> TadGANNet:
    """The guidebook's net with the recorded weights."""
    net = TadGAN.guidebook().net.build(3, streams(0, ["one"]))
    state: dict[str, Tensor] = {}
    _lstm(state, "encoder.lstm", recorded["encoder"], "bidirectional/")
    _lstm(state, "generator.first", recorded["generator"], "bidirectional_1/")
    _lstm(state, "generator.second", recorded["generator"], "bidirectional_2/")
    dense = (("encoder.dense", "encoder", "dense_4"), ("generator.dense", "generator", "dense_5"), ("generator.head", "generator", "time_distributed/dense_6"))
    for ours, file, theirs in dense:
        state[f"{ours}.weight"] = recorded[file][f"w/{theirs}/kernel"].T[None]
        state[f"{ours}.bias"] = recorded[file][f"w/{theirs}/bias"][None]
    _critic(state, "critic_x", recorded["critic_x"], [f"conv1d_{i}" for i in (11, 12, 13, 14)], "dense_7")
    _critic(state, "critic_z", recorded["critic_z"], ["dense_8", "dense_9"], "dense_10")
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    net.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
    return net.requires_grad_(False)


def _lstm(state: dict[str, Tensor], ours: str, theirs: Mapping[str, Tensor], layer: str) -> None:
    for name, keras in (("weight", "cell/kernel"), ("recurrent", "recurrent_kernel"), ("bias", "cell/bias")):
        found = [next(v for k, v in theirs.items() if f"w/{layer}{way}" in k and k.endswith(keras)) for way in ("forward", "backward")]
        state[f"{ours}.{name}"] = torch.stack([one.T if one.ndim == 2 else one for one in found])[None]


def _critic(state: dict[str, Tensor], ours: str, theirs: Mapping[str, Tensor], layers: list[str], head: str) -> None:
    for place, layer in enumerate(layers):
        state[f"{ours}.weights.{place}"] = theirs[f"w/{layer}/kernel"]
        state[f"{ours}.biases.{place}"] = theirs[f"w/{layer}/bias"]
    state[f"{ours}.head"], state[f"{ours}.shift"] = theirs[f"w/{head}/kernel"], theirs[f"w/{head}/bias"]


def test_networks_are_the_guidebooks(guidebook: TadGANNet, recorded: Recorded) -> None:
    near = {"rtol": 0.0, "atol": 1e-4}
    x, z = recorded["encoder"]["in"], recorded["generator"]["in"][..., 0]
    torch.testing.assert_close(guidebook.encoder(x[None])[0], recorded["encoder"]["out"][..., 0], **near)
    torch.testing.assert_close(guidebook.generator(z[None])[0], recorded["generator"]["out"], **near)
    torch.testing.assert_close(guidebook.critic(recorded["critic_x"]["in"]), recorded["critic_x"]["out"][:, 0], **near)
    torch.testing.assert_close(guidebook.critic_z(recorded["critic_z"]["in"][None, :, None, :, 0])[0], recorded["critic_z"]["out"][:, 0], **near)
    torch.testing.assert_close(guidebook.reconstruct(recorded["losses"]["x"]), recorded["losses"]["reconstruction"], **near)


@pytest.mark.parametrize("which", ["x", "z"])
def test_losses_and_penalties_are_the_guidebooks(which: str, guidebook: TadGANNet, recorded: Recorded) -> None:
    """The penalty over every sample; `_penalty_seed` is what the cell computes, which takes the first sample alone."""
    losses = recorded["losses"]
    critic = guidebook.critic_x if which == "x" else guidebook.critic_z
    x, z, mix = losses["x"], losses["z"][..., 0], losses["alpha"][None, :, 0, 0]
    real, fake = (x, guidebook.generator(z[None])[0]) if which == "x" else (z[:, None], guidebook.encoder(x[None])[0][:, None])
    inside = [part.transpose(0, 1)[None] for part in (real, fake)]
    masks = [torch.ones(1, left, 18, width) for left, width in zip(critic.left, critic.widths, strict=True)]
    share = torch.full((1, 6), 1 / 6)
    values = [float(wasserstein(dict(critic.named_parameters()), *inside, mix, masks, share, penalty)[1]) for penalty in (0.0, 1.0)]
    assert values[0] == pytest.approx(float(losses[f"critic_{which}_wasserstein"]), abs=1e-4)
    assert values[1] - values[0] == pytest.approx(float(losses[f"critic_{which}_penalty"]), rel=1e-5, abs=1e-4)
    mixed = (mix[0, :, None, None] * real + (1 - mix[0, :, None, None]) * fake)[None].requires_grad_()
    first = torch.autograd.grad(critic(mixed).sum(), mixed)[0][0, 0]
    steps = (first if which == "x" else first.T).square().sum(1)
    assert float(((steps + 1e-8).sqrt() - 1).square().mean()) == pytest.approx(float(losses[f"critic_{which}_penalty_seed"]), abs=1e-4)


def test_what_the_makers_go_down_is_the_guidebooks(guidebook: TadGANNet, recorded: Recorded) -> None:
    losses = recorded["losses"]
    ones = [torch.ones(1, 12, 10, 128)] * 2
    ones += [
        torch.ones(1, left, 6, width) for critic in (guidebook.critic_x, guidebook.critic_z) for left, width in zip(critic.left, critic.widths, strict=True)
    ]
    against, error = naive_gan.maker_loss(guidebook, losses["x"][None], losses["z"][None, ..., 0], ones)
    assert float(against) == pytest.approx(float(losses["generator_adversarial"]), abs=1e-4)
    assert float(error) == pytest.approx(float(losses["generator_mse"]), abs=1e-4)


@pytest.mark.parametrize(("steps", "kernel", "widths"), [(9, 3, (2, 5, 4)), (7, 1, (3, 4)), (1, 1, (6, 8, 8)), (12, 2, (3, 6, 6, 6, 6))])
@pytest.mark.parametrize("members", [1, 3])
def test_the_written_gradient_is_the_second_derivatives(steps: int, kernel: int, widths: tuple[int, ...], members: int) -> None:
    names = ["bread", "milk", "salt"][:members]
    critic = Critic(streams(1, names), steps, widths, kernel, 0.3).double()
    draws = Draws.of(2, names, ("test",), dtype=torch.float64, device=torch.device("cpu"))
    real, fake, mix = draws.normal(5, steps, widths[0]), draws.normal(5, steps, widths[0]), draws.uniform(5)
    masks, share = critic.masks(15, draws), torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0], dtype=torch.float64).expand(members, -1)
    loss = naive_gan.critic_loss(critic, real, fake, mix, masks, share, 7.0)
    wanted = dict(zip(dict(critic.named_parameters()), torch.autograd.grad(loss.sum(), list(critic.parameters()), allow_unused=True), strict=True))
    weights = {name: p.detach() for name, p in critic.named_parameters()}
    found, value = wasserstein(weights, real.transpose(1, 2), fake.transpose(1, 2), mix, masks, share, 7.0)
    torch.testing.assert_close(value, loss.detach(), rtol=1e-10, atol=1e-12)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("spec", [TadGAN(window=12, generator=5, upsample=5), TadGAN(window=33, encoder=4, generator=6, latent=3, critic=(7, 8))])
def test_members_are_as_alone_and_shapes_as_promised(spec: TadGAN) -> None:
    names = ["bread", "milk"]
    both = spec.build(4, streams(3, names)).double()
    x = torch.randn(2, 5, spec.window, 4, dtype=torch.float64)
    for at, name in enumerate(names):
        alone = spec.build(4, streams(3, [name])).double()
        torch.testing.assert_close(both(x)[at], alone.reconstruct(x[at]), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(both.critic_x(x)[at], alone.critic(x[at]), rtol=1e-9, atol=1e-12)
        assert both(x).shape == x.shape


def test_the_guidebooks_choice_and_its_summary() -> None:
    """132,755 + 450 parameters of the generator as the seed prints them, 25,601 of the critic of windows."""
    net, components, training = TadGAN.guidebook()
    assert (net.window, net.latent, net.critic_steps, net.taps, components) == (10, 20, 5, 2, 3)
    assert (training["epochs"], training["batch"], training["optimizer"]["rate"]) == (30, 64, 5e-4)
    told = net.summary(3)
    sizes = {name: sum(row.parameters for row in told.rows if row.layer.startswith(name)) for name in ("generator", "critic of windows")}
    assert sizes == {"generator": 133_205, "critic of windows": 25_601}
    assert "encoder lstm, both ways" in str(told)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TadGAN(window=4), "TadGAN: window=4 is too short: 4 convolutions of 2 steps need at least 5"),
        (lambda: TadGAN(window=30, kernel=9), "TadGAN: window=30 is too short: 4 convolutions of 9 steps need at least 33"),
        (lambda: TadGAN(dropout=(0.2, 1.0, 0.2)), "dropout.1 must be at least 0 and below 1: it is the share of units switched off in training; got 1.0"),
        (lambda: TadGAN(latent=0), "latent must be greater than or equal to 1; got 0"),
        (lambda: TadGAN(windows=10), 'no option "windows": did you mean "window"?'),
        (lambda: TadGAN().build(0, streams(0, ["one"])), "TadGAN needs at least one channel to rebuild; got 0"),
    ],
)
def test_wrong_options_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(TaskError) as error:
        make()
    assert sentence in str(error.value)
