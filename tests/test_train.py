"""Training: members as if alone, early stopping, checkpoints, Ctrl-C, NaN, noise; with a tiny net and data held in memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import naive
from foretell.device import flushed, pick_device
from foretell.errors import TaskError
from foretell.loss import total
from foretell.noise import Noise, noise_keys, streams
from foretell.optim import Optimizer
from foretell.supervised import train
from foretell.task import Batch
from foretell.train import Progress, Trained, Training
from laws import slow

CONTEXT, HORIZON, LEVELS = 6, 2, (0.1, 0.9)
NAMES = ("bread", "milk", "eggs", "salt", "rice")
COUNTS = (37, 64, 5, 20, 150)


class Tiny(nn.Module):
    """A straight line from the past to every output, with dropout on the past and a penalty; `limit` is its memory in examples."""

    def __init__(self, members: list[torch.Generator], dtype: torch.dtype, l2: float = 0.0, drop: float = 0.0, limit: int = 10**6) -> None:
        super().__init__()
        first = [torch.randn(CONTEXT, HORIZON * (1 + len(LEVELS)), generator=m, dtype=dtype) for m in members]
        self.weight = nn.Parameter(torch.stack(first) * 0.1)
        self.bias = nn.Parameter(torch.zeros(len(members), 1, HORIZON * (1 + len(LEVELS)), dtype=dtype))
        self.register_buffer("shift", torch.arange(len(members), dtype=dtype)[:, None, None] * 0)
        self.l2, self.drop, self.limit = l2, drop, limit

    def forward(self, past: Tensor, observed: Tensor, future: Tensor, static: Tensor, noise: Noise | None = None) -> Tensor:
        if past.shape[1] > self.limit:
            raise torch.OutOfMemoryError
        x = past[..., 0] + self.shift
        if noise is not None and self.drop:
            x = x * noise.keep(tuple(x.shape[1:]), self.drop)
        return (x @ self.weight + self.bias).unflatten(-1, (HORIZON, 1, -1))

    def penalty(self) -> Tensor:
        return self.l2 * self.weight.square().sum((1, 2))


@dataclass(frozen=True)
class Memory:
    """Noisy sine waves, a phase a member; `broken` puts an infinite goal there, `hook` is called with every batch."""

    names: tuple[str, ...]
    counts: Tensor
    dtype: torch.dtype = torch.float64
    stops: int = 9
    broken: str = ""
    hook: object = None

    def batch(self, member_at: Tensor, numbers: Tensor) -> Batch:
        if self.hook:
            self.hook(numbers)
        return self._windows(member_at, numbers.clamp(min=0), numbers >= 0)

    def stop_batches(self, member_at: Tensor) -> Iterator[Batch]:
        for first in range(0, self.stops, 4):
            numbers = torch.arange(first, min(first + 4, self.stops)) + 1000
            yield self._windows(member_at, numbers.expand(len(member_at), -1), torch.ones(len(member_at), len(numbers), dtype=torch.bool))

    def _windows(self, member_at: Tensor, numbers: Tensor, real: Tensor) -> Batch:
        steps = torch.arange(CONTEXT + HORIZON)
        keys = torch.tensor([sum(self.names[m].encode()) for m in member_at.tolist()])[:, None, None]
        time = (numbers[..., None] + steps).double()
        wave = torch.sin(time * (0.3 + 0.01 * (keys % 7)) + keys) + 0.5 * torch.sin(time * time * 12.9898 + keys)
        past, goal = wave[..., :CONTEXT, None].to(self.dtype), wave[..., CONTEXT:, None].to(self.dtype)
        for row, member in enumerate(member_at.tolist()):
            if self.names[member] == self.broken:
                goal[row] = torch.inf
        seen = real[..., None, None].expand(goal.shape)
        none = past.new_zeros(*past.shape[:2], HORIZON, 0)
        return Batch(past, torch.ones_like(past, dtype=torch.bool), none, past.new_zeros(*past.shape[:2], 0), goal, seen)


def fit(
    training: Training, names: tuple[str, ...] = NAMES, *, dtype: torch.dtype = torch.float64, net: dict | None = None, data: dict | None = None, **more
) -> Trained:
    counts = torch.tensor([dict(zip(NAMES, COUNTS, strict=True))[n] for n in names])
    tiny = Tiny(streams(training.seed, names), dtype, **(net or {}))
    return train(tiny, Memory(names, counts, dtype, **(data or {})), training, names=names, levels=LEVELS, **more)


def close(one: Trained, row: int, other: Trained, at: int, tolerance: float) -> None:
    for name, value in one.weights.items():
        torch.testing.assert_close(value[row], other.weights[name][at], rtol=tolerance, atol=tolerance)


def same(one: Trained, other: Trained) -> None:
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name])
    assert torch.equal(one.best_epoch, other.best_epoch)
    assert torch.equal(one.curves.train.nan_to_num(-1), other.curves.train.nan_to_num(-1))
    assert torch.equal(one.curves.stop.nan_to_num(-1), other.curves.stop.nan_to_num(-1))


EARLY = Training(loss="mse", epochs=40, batch=16, patience=3, optimizer={"rate": 0.03})


@pytest.mark.parametrize("kind", [slow("momentum"), slow("rmsprop"), "adam", slow("adamw")])
def test_members_train_as_alone_to_their_own_end(kind) -> None:
    training = EARLY.model_copy(update={"optimizer": EARLY.optimizer.model_copy(update={"kind": kind, "schedule": "cosine", "first_decay": 30})})
    options = {"l2": 1e-3, "drop": 0.2}
    together = fit(training, net=options)
    ends = []
    for row, name in enumerate(NAMES):
        alone = fit(training, (name,), net=options)
        epochs = alone.curves.train.shape[1]
        assert alone.best_epoch[0] == together.best_epoch[row]
        close(together, row, alone, 0, 1e-6)
        torch.testing.assert_close(together.curves.stop[row, :epochs], alone.curves.stop[0], rtol=1e-9, atol=0)
        torch.testing.assert_close(together.curves.train[row, :epochs], alone.curves.train[0], rtol=1e-9, atol=0)
        assert together.curves.stop[row, epochs:].isnan().all()
        ends.append(epochs)
    assert len(set(ends)) > 1, "every member stopped together: the test shows nothing"


@pytest.mark.slow
def test_members_are_as_alone_in_float32_over_100_steps() -> None:
    training = EARLY.model_copy(update={"epochs": 10, "patience": 50})
    together = fit(training, dtype=torch.float32, net={"drop": 0.1})
    for row, name in enumerate(NAMES):
        close(together, row, fit(training, (name,), dtype=torch.float32, net={"drop": 0.1}), 0, 1e-5)


def test_the_order_of_members_only_orders() -> None:
    order = [3, 0, 4, 2, 1]
    plain, mixed = fit(EARLY, net={"drop": 0.2}), fit(EARLY, tuple(NAMES[i] for i in order), net={"drop": 0.2})
    for at, row in enumerate(order):
        close(plain, row, mixed, at, 1e-9)
        assert plain.best_epoch[row] == mixed.best_epoch[at]


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    short = EARLY.model_copy(update={"epochs": 3})
    same(fit(short, net={"drop": 0.2}), fit(short, net={"drop": 0.2}))
    other = fit(short.model_copy(update={"seed": 1}), net={"drop": 0.2})
    assert not torch.equal(fit(short, net={"drop": 0.2}).weights["weight"], other.weights["weight"])


def test_it_is_the_loop_one_would_write_with_torch() -> None:
    training = Training(loss="mse", epochs=4, batch=200, optimizer={"clip": 0.05, "rate": 0.01}, stop=0.1)
    ours = fit(training, ("milk",), net={"l2": 0.01})
    net = Tiny(streams(0, ("milk",)), torch.float64, l2=0.01)
    data = Memory(("milk",), torch.tensor([64]))
    steps = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(4):
        batch = data.batch(torch.tensor([0]), torch.arange(64)[None])
        output = net(*batch[:4])
        error = batch.goal[..., None] - output
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        pinball = torch.where(error[..., 1:] > 0, levels * error[..., 1:], (levels - 1) * error[..., 1:])
        steps.zero_grad()
        (error[..., 0].square().mean() + pinball.mean() + net.penalty().sum()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        steps.step()
    for name, value in net.named_parameters():
        torch.testing.assert_close(ours.weights[name], value.detach(), rtol=1e-9, atol=1e-12)


def test_the_stop_loss_is_measured_without_noise_or_penalty() -> None:
    options = {"l2": 1.0, "drop": 0.5}
    result = fit(EARLY.model_copy(update={"epochs": 1}), ("milk",), net=options)
    net = Tiny(streams(0, ("milk",)), torch.float64, **options)
    net.load_state_dict(result.weights)
    parts = list(Memory(("milk",), torch.tensor([64])).stop_batches(torch.tensor([0])))
    losses = torch.cat([total(net(*b[:4]), b.goal, b.seen, levels=LEVELS, kind="mse") * b.goal.shape[1] for b in parts])
    torch.testing.assert_close(result.curves.stop[0, 0], losses.sum().detach() / 9, rtol=1e-12, atol=0)


def test_the_best_epoch_is_restored() -> None:
    result = fit(EARLY, ("bread",))
    curve = result.curves.stop[0]
    assert result.best_epoch[0] == curve.argmin() and len(curve) == result.best_epoch[0] + 1 + EARLY.patience < EARLY.epochs
    upto = fit(EARLY.model_copy(update={"epochs": int(result.best_epoch[0]) + 1}), ("bread",))
    assert torch.equal(result.weights["weight"], upto.weights["weight"])


def test_without_a_stop_part_every_epoch_is_run_and_the_last_is_kept() -> None:
    result = fit(EARLY.model_copy(update={"epochs": 6}), data={"stops": 0})
    assert result.best_epoch.tolist() == [5] * 5 and result.curves.stop.isnan().all()


def test_each_member_sees_each_of_its_windows_once_an_epoch_in_a_new_order() -> None:
    seen: list[Tensor] = []
    fit(EARLY.model_copy(update={"epochs": 2}), ("rice",), data={"hook": seen.append})
    first, second = torch.cat([n.flatten() for n in seen]).view(2, -1).tolist()
    assert sorted(first) == sorted(second) == list(range(150))
    assert list(range(150)) != first != second


def test_the_net_and_the_global_state_are_left_as_they_were(digest) -> None:
    net, data = Tiny(streams(0, NAMES), torch.float64), Memory(NAMES, torch.tensor(COUNTS))
    before, random = digest(net), torch.get_rng_state()
    train(net, data, EARLY.model_copy(update={"epochs": 2}), names=NAMES, levels=LEVELS)
    assert digest(net) == before and torch.equal(torch.get_rng_state(), random)


def test_weights_load_into_the_net() -> None:
    result = fit(EARLY.model_copy(update={"epochs": 1}))
    Tiny(streams(1, NAMES), torch.float64).load_state_dict(result.weights)


def test_watch_is_told_once_an_epoch() -> None:
    told: list[Progress] = []
    result = fit(EARLY, watch=told.append)
    assert [p.epoch for p in told] == list(range(1, result.curves.train.shape[1] + 1))
    assert told[0].active == 5 and told[-1].active == 0 and told[0].epochs == 40
    assert told[0].stop == pytest.approx(float(result.curves.stop[:, 0].mean()))


def interrupt(at: int):
    def watch(progress: Progress) -> None:
        if progress.epoch == at:
            raise KeyboardInterrupt

    return watch


def test_ctrl_c_keeps_the_best_so_far() -> None:
    result = fit(EARLY, watch=interrupt(3))
    assert "stopped by hand after epoch 3 of 40" in result.notes[0]
    same(replace(result, notes=()), fit(EARLY.model_copy(update={"epochs": 3})))


def test_ctrl_c_within_the_first_epoch_is_passed_on() -> None:
    def hook(numbers: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(EARLY, data={"hook": hook})


def test_a_broken_member_ends_alone_and_is_named() -> None:
    result, whole = fit(EARLY, data={"broken": "eggs"}), fit(EARLY)
    assert result.notes == ("eggs: the loss became NaN or infinite in epoch 1; it keeps its first weights, untrained",)
    assert result.best_epoch[2] == -1 and result.weights["weight"].isfinite().all()
    for row in (0, 1, 3, 4):
        close(result, row, whole, row, 1e-9)


def test_a_member_that_breaks_later_keeps_its_best() -> None:
    training = Training(loss="mse", epochs=400, batch=16, patience=400, optimizer={"kind": "sgd", "rate": 3.0, "clip": None})
    result = fit(training, ("rice", "bread"), data={"stops": 9})
    assert "rice: the loss became NaN or infinite in epoch" in result.notes[0] and "weights of epoch" in result.notes[0]
    assert result.weights["weight"].isfinite().all()


def test_nothing_but_nan_gets_a_sentence() -> None:
    with pytest.raises(TaskError, match=r"NaN or infinite in epoch 1, before any epoch had ended well: try a lower rate \(now 0.03\)"):
        fit(EARLY, ("eggs",), data={"broken": "eggs"})


def test_a_last_step_out_of_range_is_noticed_without_a_stop_part() -> None:
    training = Training(loss="mse", epochs=1, batch=200, optimizer={"kind": "sgd", "rate": 1e40})
    with pytest.raises(TaskError, match="NaN or infinite in epoch 1"):
        fit(training, ("milk",), dtype=torch.float32, data={"stops": 0})


def test_a_member_without_windows_is_left_and_named() -> None:
    data = Memory(("bread", "milk"), torch.tensor([20, 0]))
    net = Tiny(streams(0, data.names), torch.float64)
    result = train(net, data, EARLY, names=data.names, levels=LEVELS)
    assert "without a training window, so left untrained: milk" in result.notes[0]
    assert torch.equal(result.weights["weight"][1], net.weight[1])


def test_short_memory_gets_smaller_pieces_to_the_same_result() -> None:
    training = EARLY.model_copy(update={"epochs": 3})
    whole, cut = fit(training, net={"l2": 1e-2}), fit(training, net={"l2": 1e-2, "limit": 5})
    assert "computed in 4 pieces" in cut.notes[0]
    for row in range(5):
        close(whole, row, cut, row, 1e-9)
    with pytest.raises(TaskError, match="not enough memory on cpu for one window"):
        fit(training, net={"limit": 0})


@pytest.mark.parametrize("kind", ["sgd", slow("rmsprop"), slow("adam")])
def test_a_checkpoint_goes_on_to_the_same_bits(tmp_path, kind) -> None:
    training = EARLY.model_copy(update={"epochs": 8, "optimizer": EARLY.optimizer.model_copy(update={"kind": kind})})
    path = tmp_path / "run.checkpoint"
    fit(training, net={"drop": 0.2}, checkpoint=path, watch=interrupt(1))  # the first epoch is always written
    same(fit(training, net={"drop": 0.2}, checkpoint=path), fit(training, net={"drop": 0.2}))
    told: list[Progress] = []
    same(fit(training, net={"drop": 0.2}, checkpoint=path, watch=told.append), fit(training, net={"drop": 0.2}))
    assert not told, "a finished run was run again"


def test_a_checkpoint_of_another_training_is_refused(tmp_path) -> None:
    path = tmp_path / "run.checkpoint"
    fit(EARLY, checkpoint=path, watch=interrupt(1))
    for other in ({"seed": 1}, {"batch": 8}):
        with pytest.raises(TaskError, match="checkpoint of another training"):
            fit(EARLY.model_copy(update=other), checkpoint=path)
    with pytest.raises(TaskError, match="checkpoint of another training"):
        fit(EARLY, NAMES[:3], checkpoint=path)
    with pytest.raises(TaskError, match="checkpoint of another training"):
        fit(EARLY, data={"broken": "rice"}, checkpoint=path)


KILLED = """
import os, signal, sys, time
import test_train as t
batches = []
def hook(numbers):
    batches.append(1)
    if len(batches) == 47:
        os.kill(os.getpid(), signal.SIGKILL)
t.torch.set_num_threads(1)
t.fit(t.EARLY, net={"drop": 0.2}, data={"hook": hook}, checkpoint=sys.argv[1], watch=lambda p: time.sleep(0.1))
"""


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path) -> None:
    path = tmp_path / "run.checkpoint"
    known = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=os.environ | {"PYTHONPATH": known}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL and path.exists(), ended.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    told: list[Progress] = []
    try:
        resumed, whole = fit(EARLY, net={"drop": 0.2}, checkpoint=path, watch=told.append), fit(EARLY, net={"drop": 0.2})
    finally:
        torch.set_num_threads(threads)
    assert told[0].epoch > 1, "nothing was resumed"
    same(resumed, whole)


def test_noise_is_the_plain_hash() -> None:
    keys = noise_keys(3, NAMES, epoch=2)
    noise = Noise(keys, step=5, dtype=torch.float64)
    for call, rate in enumerate((0.5, 0.1)):
        ours = noise.keep((4, 3), rate)
        for member, own in enumerate(keys.tolist()):
            assert ours[member].flatten().tolist() == naive.kept(own, 5, call, 12, rate)


def test_noise_is_fair_fresh_and_a_members_own() -> None:
    keys = noise_keys(0, [f"s{i}" for i in range(20)], epoch=0)
    first, second = Noise(keys, step=0), Noise(keys, step=1)
    masks = torch.stack([first.keep((400, 10), 0.3), first.keep((400, 10), 0.3), second.keep((400, 10), 0.3)]).flatten(0, 1).flatten(1)
    shares = (masks > 0).double().mean(1)
    assert (shares - 0.7).abs().max() < 4 * (0.21 / 4000) ** 0.5
    assert masks.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.corrcoef(masks.double()).fill_diagonal_(0).abs().max() < 5 / 4000**0.5
    neighbours = torch.stack([masks[0, lag : lag + 3900] for lag in (0, 1, 2, 10, 64)])
    assert torch.corrcoef(neighbours.double()).fill_diagonal_(0).abs().max() < 5 / 3900**0.5
    assert not (keys == noise_keys(0, [f"s{i}" for i in range(20)], epoch=1)).any()
    fewer = Noise(keys[3:4], step=0).keep((7, 10), 0.3)
    assert torch.equal(fewer[0], Noise(keys, step=0).keep((400, 10), 0.3)[3, :7])


def test_streams_depend_on_seed_and_name_alone() -> None:
    def draw(seed: int, *names: str) -> list[float]:
        return [float(torch.rand(1, generator=g)) for g in streams(seed, names)]

    assert draw(0, "a", "b") == [*draw(0, "a"), *draw(0, "b")] == draw(0, "b", "a")[::-1]
    assert len({*draw(0, "a", "b"), *draw(1, "a", "b")}) == 4


def test_flushed_flushes_and_restores() -> None:
    def flushing() -> bool:
        return float(torch.tensor(2.0**-126) / 2) == 0

    assert not flushing()
    with flushed():
        assert flushing()
        with flushed():
            pass
        assert flushing(), "the inner one took the outer one's setting away"
    assert not flushing()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": 0}, "epochs"),
        ({"stop": 0.5, "calibrate": 0.5}, "leave nothing to train on"),
        ({"loss": "mape"}, "loss"),
        ({"optimizer": {"kind": "sdg"}}, "kind"),
        ({"learning_rate": 0.1}, 'no option "learning_rate"'),
    ],
)
def test_wrong_options_get_a_sentence(options, told) -> None:
    with pytest.raises(TaskError, match=told):
        Training(**options)


def test_wrong_members_get_a_sentence() -> None:
    net, data = Tiny(streams(0, NAMES), torch.float64), Memory(NAMES, torch.tensor(COUNTS))
    with pytest.raises(TaskError, match='two members are named "bread"'):
        train(net, data, EARLY, names=("bread", *NAMES[:4]), levels=LEVELS)
    with pytest.raises(TaskError, match="5 members, 4 names"):
        train(net, data, EARLY, names=NAMES[:4], levels=LEVELS)
    with pytest.raises(TaskError, match="no training window"):
        train(net, replace(data, counts=torch.zeros(5, dtype=torch.long)), EARLY, names=NAMES, levels=LEVELS)


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(TaskError, match='no device "gpu" on this machine'):
        pick_device("gpu")


@pytest.mark.parametrize("loss", ["peak", "mse"])
def test_every_variable_is_clipped_apart_and_the_peak_is_a_members_own(loss: str) -> None:
    """As alone; and another result than one bound for all."""
    training = Training(epochs=3, batch=16, loss=loss, optimizer=Optimizer(rate=0.05, kind="sgd", clip=0.02, clip_each=True))
    together, alone = fit(training), fit(training, ("milk",))
    close(together, 1, alone, 0, 1e-9)
    whole = fit(training.model_copy(update={"optimizer": training.optimizer.model_copy(update={"clip_each": False})}))
    assert not torch.allclose(whole.weights["bias"], together.weights["bias"])


def test_clipped_apart_is_torchs_norm_of_each_variable() -> None:
    """One step of plain SGD from a gradient far too long: every variable moves by exactly rate · clip."""
    training = Training(epochs=1, batch=1000, loss="mse", optimizer=Optimizer(rate=1.0, kind="sgd", clip=1e-3, clip_each=True))
    before = dict(Tiny(streams(0, NAMES), torch.float64).named_parameters())
    after = fit(training, data={"stops": 0}).weights
    for name, value in before.items():
        moved = (after[name] - value).flatten(1).norm(dim=1)
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=1e-2, atol=0)


def test_a_loss_of_counts_refuses_negative_goals_and_shifted_scales() -> None:
    with pytest.raises(TaskError, match='loss="tweedie" is for a target that is never negative; there is -'):
        fit(Training(epochs=1, loss="tweedie", scale="mean"))
    with pytest.raises(TaskError, match='loss="tweedie" counts from zero and needs scale="mean"; got scale="standard"'):
        Training(loss="tweedie")
    with pytest.raises(TaskError, match='loss="negative_binomial" counts from zero and needs scale="identity"; got scale="mean"'):
        Training(loss="negative_binomial", scale="mean")
