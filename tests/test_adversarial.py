"""Adversarial training: the fast round against the plain one, members as if alone, windows, early stop, resuming, NaN."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import naive_gan
from foretell.detect import adversarial
from foretell.detect.adversarial import TrainedGAN, train_gan, train_gans
from foretell.detect.sampling import Draws, Normal, Windows
from foretell.errors import TaskError
from foretell.nets import TadGAN
from foretell.train import Progress, Training

TINY = TadGAN(window=6, latent=3, encoder=4, generator=5, critic=(6, 7), critic_steps=2)
PLAIN = Training(epochs=3, batch=8, optimizer={"rate": 2e-3, "clip": None}, stop=0.0, seed=4)
NAMES = ("bread", "milk", "eggs")
LENGTHS = ((60, 41), (30,), (9,))  # rows of each member's runs


def wave(rows: int, phase: float, dtype: torch.dtype = torch.float64) -> Tensor:
    time = torch.arange(rows, dtype=torch.float64)
    return torch.stack([torch.sin(time / 3 + phase), torch.cos(time / 5 + 2 * phase)], 1).to(dtype) * 0.8


def normal(at: int, dtype: torch.dtype = torch.float64) -> Normal:
    runs = [wave(rows, at + 0.1 * number, dtype) for number, rows in enumerate(LENGTHS[at])]
    starts = [(number, row) for number, run in enumerate(runs) for row in range(len(run) - TINY.window + 1)]
    return Normal(runs, torch.tensor(starts))


def fit(*members: int, training: Training = PLAIN, spec: TadGAN = TINY, **more) -> TrainedGAN:
    return train_gans(spec, [normal(at) for at in members], training, names=[NAMES[at] for at in members], **more)


def same(one: TrainedGAN, other: TrainedGAN, tolerance: float = 0.0) -> None:
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], rtol=tolerance, atol=tolerance)
    assert torch.equal(one.best_epoch, other.best_epoch)


def test_a_round_is_what_one_would_write() -> None:
    """Three optimisers of torch, second derivatives, one pass a step; the draws are taken in the same order."""
    member, training = normal(1), PLAIN.model_copy(update={"epochs": 2})
    starts, batch, n = member.starts[:, 1], training.batch, TINY.critic_steps
    net = TINY.build(2, adversarial.streams(training.seed, ["bread"])).double()
    makers = [*net.encoder.parameters(), *net.generator.parameters()]
    optimisers = [torch.optim.Adam(list(p), lr=2e-3) for p in (net.critic_x.parameters(), net.critic_z.parameters(), makers)]
    for epoch in range(training.epochs):
        order = torch.from_numpy(adversarial.np.random.default_rng(adversarial.key(4, "bread", "order", epoch)).permutation(len(starts)))
        batches = order.split(batch)
        for turn, first in enumerate(range(0, len(batches), n)):
            draws = Draws.of(4, ["bread"], ("round", epoch, turn), dtype=torch.float64, device=torch.device("cpu"))
            z = draws.normal(n, batch, TINY.latent)[0]
            hidden = [draws.keep((n * batch, TINY.window, 10), 0.2)[0].unflatten(0, (n, batch)) for _ in range(2)]
            for step, numbers in enumerate(batches[first : first + n]):
                x = member.runs[0][starts[numbers][:, None] + torch.arange(TINY.window)]
                own, count = Draws.of(4, ["bread"], ("critic", epoch, turn, step), dtype=torch.float64, device=torch.device("cpu")), len(x)
                made = net.generator(z[None, step, :count], naive_gan.Written([mask[None, step, :count] for mask in hidden])).detach()
                code = net.encoder(x[None])[:, :, None].detach()
                for critic, optimiser, real, fake in (
                    (net.critic_x, optimisers[0], x[None], made),
                    (net.critic_z, optimisers[1], z[None, step, :count, None], code),
                ):
                    mix, masks = own.uniform(batch)[:, :count], critic.masks(3 * batch, own)
                    kept = [torch.cat([part[:, :, :count] for part in mask.chunk(3, 2)], 2) for mask in masks]
                    loss = naive_gan.critic_loss(critic, real, fake, mix, kept, torch.full((1, count), 1 / count, dtype=torch.float64), TINY.penalty)
                    optimiser.zero_grad()
                    loss.sum().backward()
                    optimiser.step()
            masks = [draws.keep((2 * batch, TINY.window, 10), 0.2) for _ in range(2)] + net.critic_x.masks(batch, draws) + net.critic_z.masks(batch, draws)
            kept = [torch.cat([part[:, :count] for part in mask.chunk(2, 1)], 1) for mask in masks[:2]] + [mask[:, :, :count] for mask in masks[2:]]
            against, error = naive_gan.maker_loss(net, x[None], z[None, step, :count], kept)
            optimisers[2].zero_grad()
            (against + TINY.reconstruction * error).sum().backward()
            optimisers[2].step()
    found = train_gans(TINY, [member], training, names=["bread"])
    for name, value in net.named_parameters():
        torch.testing.assert_close(found.weights[name], value.detach(), rtol=1e-7, atol=1e-9)


def test_members_train_as_alone() -> None:
    together = fit(0, 1, 2)
    for at in range(3):
        same(together.member(at), fit(at), 1e-6)
    assert together.curves.others["critic_x"].shape == (3, PLAIN.epochs)


@pytest.mark.slow
def test_the_order_of_members_only_orders() -> None:
    same(fit(2, 0).member(1), fit(0, 2).member(0), 1e-6)


@pytest.mark.slow
def test_one_detector_is_a_member_and_its_net_rebuilds() -> None:
    runs, starts = normal(0)
    found = train_gan(TINY, runs, starts, PLAIN)
    net = found.net()
    x = wave(6, 0.0)[None]
    assert net.reconstruct(x).shape == x.shape
    assert net.critic(x).shape == (1,)
    same(found, train_gan(TINY, runs, starts, PLAIN))
    other = train_gan(TINY, runs, starts, PLAIN.model_copy(update={"seed": 5}))
    assert not torch.equal(found.weights["encoder.dense.weight"], other.weights["encoder.dense.weight"])


def test_every_window_is_used_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()
    plain = Windows.begins

    def noted(self: Windows, member_at: Tensor, numbers: Tensor) -> Tensor:
        found = plain(self, member_at, numbers)
        seen.extend(found[numbers >= 0].tolist())
        return found

    monkeypatch.setattr(Windows, "begins", noted)
    fit(0, training=PLAIN.model_copy(update={"epochs": 1}))
    assert sorted(seen) == [*range(55), *range(60, 96)]  # none spans the two runs of 60 and 41 rows


def test_fewer_windows_than_a_round_still_train() -> None:
    short = fit(2)  # four windows, rounds of 16
    fresh = TINY.build(2, adversarial.streams(PLAIN.seed, [NAMES[2]])).double()
    for name, value in fresh.named_parameters():
        assert not torch.equal(short.weights[name][:1], value.detach()) or name.endswith("shift")


@pytest.mark.slow
def test_it_learns_to_rebuild() -> None:
    spec = TINY.model_copy(update={"dropout": (0.0, 0.0, 0.0), "critic_steps": 1, "reconstruction": 50.0})
    changes = {"epochs": 25, "batch": 16, "stop": 0.2, "patience": 25, "optimizer": PLAIN.optimizer.model_copy(update={"rate": 0.02})}
    found = fit(0, training=PLAIN.model_copy(update=changes), spec=spec)
    assert float(found.curves.stop[0].min()) < 0.6 * float(found.curves.stop[0, 0])


def test_held_out_windows_lie_behind_and_tell_when_to_stop() -> None:
    windows = Windows.of([normal(0)], TINY.window, 0.2, ["bread"])
    train, stop = windows.train[0].tolist(), windows.stop[0].tolist()
    assert stop == [*range(44, 55), *range(60 + 29, 60 + 36)]
    assert train == [*range(44 - TINY.window + 1), *range(60, 60 + 29 - TINY.window + 1)]
    training = PLAIN.model_copy(update={"epochs": 20, "stop": 0.2, "patience": 2, "optimizer": PLAIN.optimizer.model_copy(update={"rate": 0.05})})
    found = fit(0, training=training)
    curve = found.curves.stop[0]
    assert len(curve) == int(found.best_epoch) + 1 + 2 < 20
    assert float(curve.min()) == float(curve[found.best_epoch])


def test_a_resumed_run_ends_the_same(tmp_path: Path) -> None:
    whole = fit(0, 1)

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(0, 1, checkpoint=tmp_path / "gan", watch=stop)
    again = fit(0, 1, checkpoint=tmp_path / "gan")
    same(whole, again)
    for name, curve in whole.curves.others.items():
        assert torch.equal(curve, again.curves.others[name])
    with pytest.raises(TaskError, match="is the checkpoint of another training"):
        fit(0, 1, checkpoint=tmp_path / "gan", spec=TINY.model_copy(update={"penalty": 3.0}))


def test_ctrl_c_keeps_the_best_so_far() -> None:
    def stop(progress: Progress) -> None:
        if progress.epoch == 1:
            raise KeyboardInterrupt

    assert fit(0, watch=stop).notes == ("stopped by hand after epoch 1 of 3: the best weights so far are kept",)


def test_nan_stops_with_a_sentence() -> None:
    wild = Training(epochs=3, batch=8, optimizer={"kind": "sgd", "rate": 1e300, "clip": None}, stop=0.0)
    with pytest.raises(TaskError, match=r"the loss became NaN or infinite in epoch 1, before any epoch had ended well: try a lower rate \(now 1e\+300\)"):
        fit(1, training=wild)


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (Normal([wave(5, 0.0)], torch.zeros(0, 2, dtype=torch.long)), "no training window: every normal run is shorter than window=6"),
        (Normal([wave(8, 0.0)], torch.tensor([[0, 3]])), "one: the window of 6 rows that begins at row 3 leaves run 0, which has 8 rows"),
        (Normal([wave(8, 0.0).index_fill(0, torch.tensor(4), torch.nan)], torch.tensor([[0, 1]])), "the window that begins at row 1 of run 0 holds a gap"),
        (Normal([wave(8, 0.0), wave(8, 0.0)[:, :1]], torch.tensor([[0, 1]])), "the normal runs have 1 and 2 channels: all must have the same"),
        (Normal([], torch.zeros(0, 2, dtype=torch.long)), "no normal run was given"),
    ],
)
def test_wrong_windows_get_a_sentence(member: Normal, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        train_gans(TINY, [member], PLAIN, names=["one"])


def test_names_must_tell_members_apart() -> None:
    with pytest.raises(TaskError, match="2 members need as many names, all different; got one, one"):
        train_gans(TINY, [normal(0), normal(1)], PLAIN, names=["one", "one"])


def test_draws_are_a_members_own_and_even() -> None:
    place = {"dtype": torch.float64, "device": torch.device("cpu")}
    alone, both = (Draws.of(1, names, ("x", 2), **place) for names in (["b"], ["a", "b"]))
    for _ in range(2):
        assert torch.equal(alone.keep((3, 5), 0.2)[0], both.keep((3, 5), 0.2)[1])
        assert torch.equal(alone.normal(7)[0], both.normal(7)[1])
        assert torch.equal(alone.uniform(7)[0], both.uniform(7)[1])
    mask = Draws.of(1, ["c"], ("y",), **place).keep((200_000,), 0.25)
    assert mask.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float((mask == 0).double().mean()) == pytest.approx(0.25, abs=0.005)
