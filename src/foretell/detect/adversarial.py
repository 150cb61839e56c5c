"""Adversarial training: a TadGAN's encoder and generator against its critics (WGAN-GP), several detectors side by side.

A round is `critic_steps` steps of both critics, each on a batch of its own, then one step of encoder and generator on the last of
these batches. Within a round encoder and generator stand still while the critics learn: all codes and all made windows of a
round come from one pass, and the critics' gradient is written out (`nets/critic.py`). The plain form is in tests/naive_gan.py.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call

from .. import optim
from ..device import flushed, pick_device
from ..errors import TaskError
from ..nets.critic import wasserstein
from ..nets.tadgan import TadGAN, TadGANNet
from ..noise import key, streams
from ..optim import State, Tensors
from ..schedule import rate_at
from ..train import Course, Curves, Progress, Run, Trained, Training, descend, judged, views
from .sampling import Draws, Normal, Windows

MAKERS, CRITIC_X, CRITIC_Z = "makers", "critic_x", "critic_z"  # three optimisers: encoder with generator, and each critic
LOSSES = (CRITIC_X, CRITIC_Z, "adversarial", "reconstruction")


@dataclass(frozen=True, eq=False)
class TrainedGAN:
    """A trained TadGAN of one or several members: weights by name, member axis first, on the CPU. `curves.train` is the squared
    error of what is rebuilt, `curves.stop` that of the held-out windows, `curves.others` the losses of LOSSES. `best_epoch`
    counts from 0."""

    spec: TadGAN
    channels: int
    weights: Tensors
    curves: Curves
    best_epoch: Int[Tensor, " member"]
    notes: tuple[str, ...]

    def net(self) -> TadGANNet:
        """The net with these weights."""
        weights = next(iter(self.weights.values()))
        module = self.spec.build(self.channels, [torch.Generator() for _ in range(len(weights))]).to(weights.dtype)
        module.load_state_dict(self.weights)
        return module.train(False).requires_grad_(False)

    def member(self, at: int) -> Self:
        """One member alone."""
        curves = Curves(self.curves.train[at : at + 1], self.curves.stop[at : at + 1], self.curves.seconds)
        curves = replace(curves, others={name: one[at : at + 1] for name, one in self.curves.others.items()})
        return replace(self, weights={n: w[at : at + 1] for n, w in self.weights.items()}, curves=curves, best_epoch=self.best_epoch[at : at + 1])


def train_gan(
    spec: TadGAN,
    runs: Sequence[Tensor],
    starts: Int[Tensor, "example 2"],
    training: Training,
    *,
    checkpoint: str | Path | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> TrainedGAN:
    """One TadGAN from scaled normal runs, each [time, channel]; `starts` holds (run, first row) of every window that may be used. See `train_gans`."""
    return train_gans(spec, [Normal(runs, starts)], training, names=("detector",), checkpoint=checkpoint, watch=watch)


def train_gans(
    spec: TadGAN,
    members: Sequence[Normal],
    training: Training,
    *,
    names: Sequence[str],
    checkpoint: str | Path | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> TrainedGAN:
    """A TadGAN for each member (entities, or seeds of one), each as if alone; random numbers come from the seed and its name.

    Of `training`: epochs, batch, optimizer, patience, stop (the last share of every run's windows, whose reconstruction tells
    when to stop), seed, device. `checkpoint` and Ctrl-C as in `train.descend`. TaskError if no member has a window, or if no
    epoch ended with finite losses.
    """
    if len(set(names)) < len(names) or len(names) != len(members):
        raise TaskError(f"{len(members)} members need as many names, all different; got {', '.join(names)}")
    windows = Windows.of(members, spec.window, training.stop, names)
    if not int(windows.counts.sum()):
        raise TaskError(f"no training window: every normal run is shorter than window={spec.window}, or its windows hold gaps")
    with flushed():
        job, run = _begin(spec, windows, training, tuple(names))
        look = (spec.model_dump_json(), windows.rows, *windows.train, *windows.stop) if checkpoint else ()
        trained = descend(job.course, run, partial(_epoch, job), checkpoint=checkpoint, look=look, watch=watch)
    return _result(spec, job.net.channels, trained)


def _result(spec: TadGAN, channels: int, trained: Trained) -> TrainedGAN:
    return TrainedGAN(spec, channels, trained.weights, trained.curves, trained.best_epoch, trained.notes)


class _Job(NamedTuple):
    """What an epoch works with; `parts` are the columns of each optimiser's numbers in a member's row."""

    course: Course
    net: TadGANNet
    windows: Windows
    parts: dict[str, slice]


class _Pack(NamedTuple):
    """Members in training: `own` is their rows of numbers, `nets` views of them by network and name, `states` what each
    optimiser remembers."""

    at: Int[Tensor, " row"]
    own: Float[Tensor, "row number"]
    nets: dict[str, Tensors]
    states: dict[str, State]


class _Round(NamedTuple):
    """Windows [row, step, time, example, channel] of a round and 1 / count of each step's examples (0: an empty slot)."""

    x: Float[Tensor, "row step time example channel"]
    share: Float[Tensor, "row step example"]

    @property
    def there(self) -> Bool[Tensor, "row step"]:
        """Which steps have an example at all."""
        return self.share.sum(2) > 0


def _begin(spec: TadGAN, windows: Windows, training: Training, names: tuple[str, ...]) -> tuple[_Job, Run]:
    device = pick_device(training.device)
    net = spec.build(windows.rows.shape[1], streams(training.seed, names)).to(device, windows.rows.dtype)
    params = {name: p.detach() for name, p in net.named_parameters()}
    shapes = {name: p.shape[1:] for name, p in params.items()}
    weights = torch.cat([p.reshape(len(p), -1) for p in params.values()], 1)
    course = Course(training, names, shapes, {}, windows.counts, torch.full((len(names),), training.epochs), device)
    job = _Job(course, net, windows, _parts(shapes))
    state = optim.start({part: weights[:, at] for part, at in job.parts.items()}, training.optimizer)
    return job, Run.first(course, weights, state)


def _parts(shapes: dict[str, torch.Size]) -> dict[str, slice]:
    """Encoder and generator stand first, then the critics, each in one piece."""
    sizes = {CRITIC_X: 0, CRITIC_Z: 0, MAKERS: 0}
    for name, shape in shapes.items():
        head = name.partition(".")[0]
        sizes[head if head in sizes else MAKERS] += shape.numel()
    first, second = sizes[MAKERS], sizes[MAKERS] + sizes[CRITIC_X]
    return {MAKERS: slice(0, first), CRITIC_X: slice(first, second), CRITIC_Z: slice(second, second + sizes[CRITIC_Z])}


def _epoch(job: _Job, run: Run) -> Run:
    """All rounds of every live member over its own windows; a member whose rounds are done waits for the rest."""
    began, epoch = time.perf_counter(), len(run.seconds)
    training, n = job.course.training, job.net.spec.critic_steps
    steps = torch.where(run.alive, -(-job.course.counts // training.batch), 0)
    rounds = -(-steps // n)
    weights, state = run.weights.clone(), optim.rows_of(run.state, torch.arange(len(run.alive)))
    sums = torch.zeros(len(weights), len(LOSSES), dtype=torch.float64)
    done = 0
    for until in sorted(set(rounds[rounds > 0].tolist())):
        taken = {MAKERS: epoch * rounds + done, CRITIC_X: epoch * steps + done * n, CRITIC_Z: epoch * steps + done * n}
        pack = _pack(job, weights, state, (rounds > done).nonzero().flatten(), taken)
        order = _order(job, pack.at, epoch)
        for turn in range(done, until):
            sums[pack.at] += _round(job, pack, _gather(job, pack.at, order[:, turn]), (epoch, turn)).cpu()
        weights[pack.at.to(weights.device)] = pack.own
        for one in pack.states.values():
            optim.put_rows(state, pack.at, one)
        done = until
    sums /= torch.stack([steps, steps, rounds, rounds], 1).clamp(min=1)
    sums[~run.alive] = torch.nan
    others = {name: torch.cat([run.others.get(name, sums[:, :0]), sums[:, [at]]], 1) for at, name in enumerate(LOSSES)}
    told = torch.where(sums.isfinite().all(1), sums[:, -1], torch.nan)
    return judged(job.course, replace(run, weights=weights, state=state, others=others), told, _stop_error(job, weights, run.alive), began)


def _pack(job: _Job, weights: Tensor, state: State, at: Tensor, taken: Mapping[str, Tensor]) -> _Pack:
    """Copies of these members' rows and states; `taken` are the steps each optimiser has done for every member."""
    own, rows = weights[at.to(weights.device)], optim.rows_of(state, at)
    nets: dict[str, Tensors] = {}
    for name, view in views(job.course, own).items():
        net, _, rest = name.partition(".")
        nets.setdefault(net, {})[rest] = view
    mean, square = ({part: {part: kept[part]} if kept else {} for part in job.parts} for kept in (rows.mean, rows.square))
    return _Pack(at, own, nets, {part: State(mean[part], square[part], taken[part][at]) for part in job.parts})


def _order(job: _Job, at: Tensor, epoch: int) -> Int[Tensor, "row round step example"]:
    """Numbers of each member's windows in its own order of this epoch, −1 where there is none left."""
    size, n = job.course.training.batch, job.net.spec.critic_steps
    counts = job.course.counts[at].tolist()
    numbers = np.full((len(at), -(-max(counts) // (size * n)) * size * n), -1)
    for row, (member, count) in enumerate(zip(at.tolist(), counts, strict=True)):
        own = np.random.default_rng(key(job.course.training.seed, job.course.names[member], "order", epoch))
        numbers[row, :count] = own.permutation(count)
    return torch.from_numpy(numbers).view(len(at), -1, n, size)


def _gather(job: _Job, at: Tensor, numbers: Int[Tensor, "row step example"]) -> _Round:
    there = (numbers >= 0).to(job.windows.rows.dtype)
    x = job.windows.at(job.windows.begins(at, numbers), time_first=True)
    return _Round(x.to(job.course.device), (there / there.sum(2, keepdim=True).clamp(min=1)).to(job.course.device))


def _round(job: _Job, pack: _Pack, given: _Round, place: tuple[int, int]) -> Float[Tensor, "row loss"]:
    """The critics' steps, then one of encoder and generator; weights and states in place. Losses in the order of LOSSES, a critic's
    summed over its steps."""
    net, (_, n, _, examples, _) = job.net, given.x.shape
    draws = _draws(job, pack, ("round", *place))
    z = draws.normal(n, examples, net.spec.latent)
    with torch.no_grad():
        made = functional_call(net.generator, pack.nets["generator"], (z.flatten(1, 2), draws)).unflatten(1, (n, examples)).transpose(2, 3)
        codes = functional_call(net.encoder, pack.nets["encoder"], (given.x.transpose(2, 3).flatten(1, 2),)).unflatten(1, (n, examples))
    found = torch.zeros(len(pack.at), len(LOSSES), dtype=torch.float64, device=given.x.device)
    for step in range(n):
        if not bool(given.there[:, step].any()):
            break
        own, share = _draws(job, pack, ("critic", *place, step)), given.share[:, step]
        for at, (part, real, fake) in enumerate(((CRITIC_X, given.x[:, step], made[:, step]), (CRITIC_Z, z[:, step, None], codes[:, step, None]))):
            critic = net.critic_x if part == CRITIC_X else net.critic_z
            mix, masks = own.uniform(examples), critic.masks(3 * examples, own)
            slopes, loss = wasserstein(pack.nets[part], real, fake, mix, masks, share, net.spec.penalty)
            _step(job, pack, part, [slopes[name] for name in pack.nets[part]], given.there[:, step])
            found[:, at] += loss
    last = given.there.sum(1) - 1
    rows = torch.arange(len(last), device=last.device)
    found[:, 2:] = _makers_step(job, pack, given.x[rows, last].transpose(1, 2), z[rows, last], given.share[rows, last], draws)
    return found


def _makers_step(job: _Job, pack: _Pack, x: Tensor, z: Tensor, share: Tensor, draws: Draws) -> Float[Tensor, "row loss"]:
    """What the critics say against, and squared errors of what is rebuilt: one step of encoder and generator down both."""
    net, nets = job.net, pack.nets
    leaves = {part: {name: one.detach().requires_grad_() for name, one in nets[part].items()} for part in ("encoder", "generator")}
    code = functional_call(net.encoder, leaves["encoder"], (x,))
    made, rebuilt = functional_call(net.generator, leaves["generator"], (torch.cat([z, code], 1), draws)).chunk(2, 1)
    scores = functional_call(net.critic_x, nets[CRITIC_X], (made, draws)) + functional_call(net.critic_z, nets[CRITIC_Z], (code[:, :, None], draws))
    adversarial = -(share * scores).sum(1)
    error = (share * (rebuilt - x).square().mean((2, 3))).sum(1)
    wanted = [*leaves["encoder"].values(), *leaves["generator"].values()]
    slopes = torch.autograd.grad((adversarial + net.spec.reconstruction * error).sum(), wanted)
    _step(job, pack, MAKERS, slopes, torch.ones(len(x), dtype=torch.bool))
    return torch.stack([adversarial, error], 1).detach()


def _step(job: _Job, pack: _Pack, part: str, slopes: Sequence[Tensor], active: Bool[Tensor, " row"]) -> None:
    """One optimiser's step down its slopes, which stand in the order of its numbers."""
    spec, active = job.course.training.optimizer, active.cpu()
    params, slope = {part: pack.own[:, job.parts[part]]}, {part: torch.cat([one.reshape(len(one), -1) for one in slopes], 1)}
    if spec.clip:
        optim.clip(slope, spec.clip, active=active)
    pack.states[part] = optim.update(params, slope, pack.states[part], spec, rate=rate_at(spec, pack.states[part].step), active=active)


def _draws(job: _Job, pack: _Pack, place: tuple[object, ...]) -> Draws:
    names = [job.course.names[at] for at in pack.at.tolist()]
    return Draws.of(job.course.training.seed, names, place, dtype=pack.own.dtype, device=job.course.device)


@torch.no_grad()
def _stop_error(job: _Job, weights: Tensor, alive: Bool[Tensor, " member"]) -> Float[Tensor, " member"]:
    """Mean squared error of the held-out windows rebuilt; −inf where there is none, NaN where it was not asked."""
    at = alive.nonzero().flatten()
    bound = views(job.course, weights[at.to(weights.device)])
    sums = torch.zeros(len(at), 2, dtype=torch.float64)
    for windows, there in job.windows.stop_windows(at):
        x = windows.to(job.course.device)
        error = (functional_call(job.net, bound, (x,)) - x).square().mean((2, 3)).cpu().double()
        sums += torch.stack([torch.where(there, error, 0).sum(1), there.sum(1).double()], 1)
    found = torch.full(alive.shape, torch.nan, dtype=torch.float64)
    found[at] = torch.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], -torch.inf)
    return found
