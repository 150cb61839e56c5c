"""Supervised training: a net follows the gradient of its loss, many members at once, each trained as if it were alone."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from . import optim
from .device import flushed, pick_device
from .errors import TaskError
from .loss import COUNTS, OF_GOALS, Goals, LossKind, observed, total
from .noise import Noise, key, noise_keys
from .optim import State, Tensors
from .schedule import rate_at
from .task import Batch
from .train import Course, Progress, Run, Trained, Training, descend, judged, views

LOOK = 16_384  # training windows whose goals are looked at in one go
ALL = "all"  # a pack's trained parameters lie in one buffer, [member, number]: one kernel steps them all


@runtime_checkable
class Data(Protocol):
    """Windows of the training part, by member and number, and batches of the stop part. A number of −1 is an empty slot, with `seen` False."""

    @property
    def counts(self) -> Int[Tensor, " member"]: ...
    def batch(self, member_at: Int[Tensor, " row"], numbers: Int[Tensor, "row example"]) -> Batch: ...
    def stop_batches(self, member_at: Int[Tensor, " row"]) -> Iterator[Batch]: ...


class _Net(nn.Module):
    """A net that is bound to other weights while some work is done with it: binding costs as much as a small step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, work: Callable[[], Any]) -> Any:
        return work()


class _Job(NamedTuple):
    """What an epoch works with."""

    course: Course
    net: _Net
    data: Data
    levels: tuple[float, ...]
    goals: Goals | None


@dataclass(frozen=True, eq=False)
class _Pack:
    """Some members of a run while they are trained: `leaves` are views of `weights`, `bound` is all that the net is called with."""

    rows: Int[Tensor, " row"]
    weights: Float[Tensor, "row number"]
    leaves: Tensors
    bound: Tensors


def train(
    net: nn.Module,
    data: Data,
    training: Training,
    *,
    names: Sequence[str],
    levels: tuple[float, ...] = (),
    lengths: Int[Tensor, " member"] | None = None,
    checkpoint: str | Path | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Trained:
    """Trains a net's members, named by `names`, and returns each one's best weights; `net` itself is left as it is.

    `checkpoint` is written as the run goes on, and taken up by the next run of the same training to the same result, bit for
    bit. `lengths` ends each member after so many epochs. Ctrl-C ends the run with the best weights so far. TaskError if no
    member has an epoch with a finite loss.
    """
    _check(net, data, names)
    with flushed():
        job, run = _begin(net, data, training, tuple(names), levels)
        job = job if lengths is None else job._replace(course=replace(job.course, lengths=lengths))
        look = _look(data) if checkpoint else ()
        return descend(job.course, run, partial(_epoch, job), checkpoint=checkpoint, look=(levels, *look), watch=watch)


def _look(data: Data) -> tuple[Tensor, Tensor]:
    """Each member's first and last window."""
    ends = torch.stack([torch.zeros_like(data.counts), data.counts - 1], 1)
    batch = data.batch(torch.arange(len(data.counts)), ends)
    return batch.past, batch.goal


def _check(net: nn.Module, data: Data, names: Sequence[str]) -> None:
    members = len(data.counts)
    twice = next((n for n in names if list(names).count(n) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise TaskError(f'two members are named "{twice}": each needs its own name, which its random numbers come from')
    if len(names) != members or any(len(p) != members for p in net.parameters()):
        raise TaskError(f"the data has {members} members, {len(names)} names, and a net of {sorted({len(p) for p in net.parameters()})} members")
    if not int(data.counts.sum()):
        raise TaskError("no training window: every series is too short for context + horizon after the stop and calibrate parts")


def _begin(net: nn.Module, data: Data, training: Training, names: tuple[str, ...], levels: tuple[float, ...]) -> tuple[_Job, Run]:
    device = pick_device(training.device)
    trained = {n: p.detach().to(device) for n, p in net.named_parameters() if p.requires_grad}
    if not trained:
        raise TaskError("this net has nothing to train")
    fixed = {n: t.detach().to(device) for n, t in (*net.named_parameters(), *net.named_buffers()) if n not in trained}
    endless = torch.full((len(names),), training.epochs)
    course = Course(training, names, {n: p.shape[1:] for n, p in trained.items()}, fixed, data.counts, endless, device)
    weights = torch.cat([p.flatten(1) for p in trained.values()], 1)
    return _Job(course, _Net(net), data, levels, goals_of(data, training.loss)), Run.first(course, weights, optim.start({ALL: weights}, training.optimizer))


def _epoch(job: _Job, run: Run) -> Run:
    """One pass of every live member over its own windows. Members that are through wait; when half are, the rest go on without them."""
    began = time.perf_counter()
    weights, state, pieces = run.weights.clone(), optim.rows_of(run.state, torch.arange(len(run.alive))), run.pieces
    steps = torch.where(run.alive, -(-job.data.counts // job.course.training.batch), 0)
    sums, done = torch.zeros(len(weights), 2, dtype=torch.float64, device=job.course.device), 0
    while len(rows := (steps > done).nonzero().flatten()):
        until = int(steps[rows].sort().values[(len(rows) - 1) // 2])
        pack, part = _bind(job, weights, rows), optim.rows_of(state, rows)
        work = partial(_stretch, job, pack, part, steps=range(done, until), epoch=len(run.seconds), pieces=pieces)
        part, found, pieces = functional_call(job.net, pack.bound, (work,))
        weights[rows.to(job.course.device)] = pack.weights
        optim.put_rows(state, rows, part)
        state.step[rows] = part.step
        sums[rows.to(job.course.device)] += found
        done = until
    train = torch.where(run.alive, (sums[:, 0] / sums[:, 1].clamp(min=1)).cpu(), torch.nan)
    stop = _stop_loss(job, weights, run.alive, pieces)
    return judged(job.course, replace(run, weights=weights, state=state, pieces=pieces), train, stop, began)


def _stretch(job: _Job, pack: _Pack, state: State, *, steps: range, epoch: int, pieces: int) -> tuple[State, Tensor, int]:
    """Trains a pack through these steps of an epoch, its weights in place; also sums of loss × observed goals and of observed goals."""
    size, spec = job.course.training.batch, job.course.training.optimizer
    order = _order(job, pack.rows, epoch)[:, steps.start * size : steps.stop * size]
    keys = noise_keys(job.course.training.seed, [job.course.names[m] for m in pack.rows.tolist()], epoch).to(job.course.device)
    sums = torch.zeros(len(pack.rows), 2, dtype=torch.float64, device=job.course.device)
    for step, numbers in zip(steps, torch.split(order, size, 1), strict=True):
        active = numbers[:, 0] >= 0
        batch = job.data.batch(pack.rows, numbers[:, : int((numbers >= 0).sum(1).max())])
        slope, found, pieces = _gradient(job, pack, batch, Noise(keys, step, pack.weights.dtype), pieces)
        if spec.clip:
            for part_of in views(job.course, slope).values() if spec.clip_each else (slope,):
                optim.clip({ALL: part_of}, spec.clip, active=active)
        state = optim.update({ALL: pack.weights}, {ALL: slope}, state, spec, rate=rate_at(spec, state.step), active=active)
        sums += found
    return state, sums, pieces


def _gradient(job: _Job, pack: _Pack, batch: Batch, noise: Noise, pieces: int) -> tuple[Tensor, Tensor, int]:
    """Gradient of a batch; when the card's memory is not enough, by smaller and smaller pieces of it."""
    while True:
        try:
            return *_summed(job, pack, batch, noise, pieces), pieces
        except torch.OutOfMemoryError:
            if pieces >= batch.past.shape[1]:
                raise TaskError(f"not enough memory on {job.course.device} for one window: use device=cpu, a smaller net or a shorter context") from None
            pieces *= 2


def _summed(job: _Job, pack: _Pack, batch: Batch, noise: Noise, pieces: int) -> tuple[Tensor, Tensor]:
    weight = observed(batch.seen).to(job.course.device)
    slope, error = torch.zeros((), device=job.course.device), torch.zeros((), device=job.course.device)
    parts = _cut(batch, pieces, job.course.device)
    for part in parts:
        errors = _errors(job, pack.rows, part, noise, weight)
        loss = (errors + job.net.net.penalty() / len(parts)).sum()
        found = torch.autograd.grad(loss, list(pack.leaves.values()), allow_unused=True, materialize_grads=True)
        flat = torch.cat([g.flatten(1) for g in found], 1)
        slope = flat if len(parts) == 1 else slope + flat
        error = error + errors.detach()
    return slope, torch.stack([error * weight, weight], 1)


@torch.no_grad()
def _stop_loss(job: _Job, weights: Tensor, alive: Tensor, pieces: int) -> Float[Tensor, " member"]:
    """Loss of the stop part without noise; −inf where a member has none, NaN where it was not asked."""
    rows = alive.nonzero().flatten()
    pack = _bind(job, weights, rows)
    sums = functional_call(job.net, pack.bound, (partial(_stopped, job, rows, pieces),))
    loss = torch.full(alive.shape, torch.nan, dtype=torch.float64)
    loss[rows] = torch.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], -math.inf).cpu()
    return loss


def _stopped(job: _Job, rows: Tensor, pieces: int) -> Float[Tensor, "row 2"]:
    """Sums of loss × observed goals of the stop part, and of its observed goals."""
    sums = torch.zeros(len(rows), 2, dtype=torch.float64, device=job.course.device)
    for batch in job.data.stop_batches(rows):
        for part in _cut(batch, pieces, job.course.device):
            weight = observed(part.seen)
            sums += torch.stack([_errors(job, rows, part, None, None) * weight, weight], 1)
    return sums


def _errors(job: _Job, rows: Tensor, part: Batch, noise: Noise | None, count: Tensor | None) -> Float[Tensor, " row"]:
    """Loss of what the net, bound to these members' weights, says of a batch."""
    output = job.net.net(part.past, part.observed, part.future, part.static, noise)
    goals = job.goals.rows(rows) if job.goals else None
    return total(output, part.goal, part.seen, levels=job.levels, kind=job.course.training.loss, count=count, goals=goals)


def goals_of(data: Data, kind: LossKind) -> Goals | None:
    """What a loss must know of the training goals, member by member; None if it needs nothing."""
    if kind not in (*OF_GOALS, *COUNTS):
        return None
    members, counts = torch.arange(len(data.counts)), data.counts
    sums, peak = torch.zeros(len(members), 3, dtype=torch.float64), torch.zeros(len(members))
    for part in torch.arange(int(counts.max())).split(max(1, LOOK // max(1, len(members)))):
        batch = data.batch(members, torch.where(part < counts[:, None], part, -1))
        goal = batch.goal.where(batch.seen, 0).double()
        if kind in COUNTS and bool((goal < 0).any()):
            raise TaskError(f'loss="{kind}" is for a target that is never negative; there is {float(goal.min()):g} in the training part')
        sums += torch.stack([batch.seen.sum((1, 2, 3)).double(), goal.sum((1, 2, 3)), goal.square().sum((1, 2, 3))], 1)
        peak = torch.maximum(peak, goal.abs().amax((1, 2, 3)).to(peak))
    mean = (sums[:, 1] / sums[:, 0].clamp(min=1)).clamp(min=1e-6)
    spread = sums[:, 2] / sums[:, 0].clamp(min=1) - mean.square()
    return Goals(peak, ((spread - mean) / mean.square()).clamp(min=1e-3))


def _bind(job: _Job, weights: Tensor, rows: Tensor) -> _Pack:
    at = rows.to(job.course.device)
    own = weights[at]
    leaves = {n: v.detach().requires_grad_() for n, v in views(job.course, own).items()}
    return _Pack(rows, own, leaves, {f"net.{n}": v for n, v in (leaves | {n: v[at] for n, v in job.course.fixed.items()}).items()})


def _order(job: _Job, rows: Tensor, epoch: int) -> Int[Tensor, "row number"]:
    """Each member's windows in its own order of this epoch, then −1 to the end of the longest's last batch."""
    counts, size = job.data.counts[rows].tolist(), job.course.training.batch
    numbers = np.full((len(rows), -(-max(counts) // size) * size), -1, dtype=np.int32)  # of all windows: as large as the panel, so half of it
    for row, (member, length) in enumerate(zip(rows.tolist(), counts, strict=True)):
        own = np.random.default_rng(key(job.course.training.seed, job.course.names[member], "order", epoch))
        line = numbers[row, :length]
        line[:] = 1
        line[:1] = 0
        np.cumsum(line, out=line)  # 0, 1, 2 … in place
        own.shuffle(line)
    return torch.from_numpy(numbers)


def _cut(batch: Batch, pieces: int, device: torch.device) -> list[Batch]:
    """A batch in pieces of its examples, on the device."""
    batch = Batch(*(value.to(device) for value in batch))
    return [batch] if pieces == 1 else [Batch(*parts) for parts in zip(*(v.chunk(pieces, 1) for v in batch), strict=True)]
