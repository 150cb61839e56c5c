"""Training: the one loop, for one member or many at once, each trained as if it were alone."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call

from . import files, optim
from .device import flushed, pick_device
from .errors import TaskError
from .loss import LossKind, observed, total
from .noise import Noise, key, noise_keys
from .optim import Optimizer, State, Tensors
from .schedule import rate_at
from .spec import Spec
from .task import Batch, ScaleKind

ALL = "all"  # a pack's trained parameters lie in one buffer, [member, number]: one kernel steps them all
SAVING = 0.1  # most of the time that writing checkpoints may take


class Training(Spec):
    """How a net is trained. `stop` and `calibrate` are the shares of the data, at its end, kept for early stopping and for bands.

    Training ends when the loss on the stop part has not improved for `patience` epochs; the best epoch's weights are kept.
    With `retrain` the net is then trained anew, on train and stop together, for as many epochs as were best. `device` "auto"
    is a CUDA card if there is one. `scale` is fitted per series, or over all if `pooled`.
    """

    epochs: int = Field(default=60, ge=1)
    batch: int = Field(default=64, ge=1)
    optimizer: Optimizer = Optimizer()
    loss: LossKind = "mae"
    patience: int = Field(default=8, ge=1)
    stop: float = Field(default=0.1, ge=0, lt=1)
    calibrate: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    scale: ScaleKind = "standard"
    pooled: bool = False
    retrain: bool = True

    @model_validator(mode="after")
    def _something_left(self) -> "Training":
        if self.stop + self.calibrate >= 1:
            raise TaskError(f"Training: stop={self.stop:g} and calibrate={self.calibrate:g} leave nothing to train on; together they must be below 1")
        return self


@runtime_checkable
class Data(Protocol):
    """Windows of the training part, by member and number, and batches of the stop part. A number of −1 is an empty slot, with `seen` False."""

    @property
    def counts(self) -> Int[Tensor, " member"]: ...
    def batch(self, member_at: Int[Tensor, " row"], numbers: Int[Tensor, "row example"]) -> Batch: ...
    def stop_batches(self, member_at: Int[Tensor, " row"]) -> Iterator[Batch]: ...


class Progress(NamedTuple):
    """An epoch that has ended, the first being 1: members still training, mean losses over the members, seconds it took."""

    epoch: int
    epochs: int
    active: int
    train: float
    stop: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Curves:
    """Losses by epoch, without penalty; NaN after a member's end. `train` is measured on the way, with noise."""

    train: Float[Tensor, "member epoch"]
    stop: Float[Tensor, "member epoch"]
    seconds: Float[Tensor, " epoch"]


@dataclass(frozen=True, eq=False)
class Trained:
    """Each member's best weights, on the CPU, by parameter name; `best_epoch` counts from 0, −1 = none was finite."""

    weights: Tensors
    curves: Curves
    best_epoch: Int[Tensor, " member"]
    notes: tuple[str, ...]
    device: str
    interrupted: bool = False


class _Net(nn.Module):
    """A net and its penalty in one call, so that both see the weights bound to it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, batch: Batch, noise: Noise | None) -> tuple[Tensor, Tensor]:
        return self.net(batch.past, batch.observed, batch.future, batch.static, noise), self.net.penalty()


@dataclass(frozen=True, eq=False)
class _Job:
    """What stays the same through a run. `fixed` are the tensors of the net that are not trained."""

    net: _Net
    fixed: Tensors
    shapes: dict[str, torch.Size]
    data: Data
    training: Training
    names: tuple[str, ...]
    levels: tuple[float, ...]
    device: torch.device
    lengths: Int[Tensor, " member"]


@dataclass(frozen=True, eq=False)
class _Run:
    """Where a run stands after an epoch: a member's trained parameters are one row. `failed` is the epoch of its NaN, else −1."""

    weights: Float[Tensor, "member number"]
    best: Float[Tensor, "member number"]
    state: State
    least: Float[Tensor, " member"]
    best_epoch: Int[Tensor, " member"]
    alive: Bool[Tensor, " member"]
    failed: Int[Tensor, " member"]
    train: Float[Tensor, "member epoch"]
    stop: Float[Tensor, "member epoch"]
    seconds: Float[Tensor, " epoch"]
    pieces: int = 1  # parts a batch is cut into, so that it fits the card's memory

    def tensors(self) -> Tensors:
        """All but the state, by field."""
        big = {"weights": self.weights, "best": self.best, "least": self.least, "best_epoch": self.best_epoch}
        return big | {"alive": self.alive, "failed": self.failed, "train": self.train, "stop": self.stop, "seconds": self.seconds}


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
        job = job if lengths is None else replace(job, lengths=lengths)
        path = Path(checkpoint) if checkpoint else None
        mark = _fingerprint(job, run) if path else ""
        run, notes = _loop(job, _resumed(run, path, mark), path, mark, watch)
    return _trained(job, run, notes)


def _check(net: nn.Module, data: Data, names: Sequence[str]) -> None:
    members = len(data.counts)
    twice = next((n for n in names if list(names).count(n) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise TaskError(f'two members are named "{twice}": each needs its own name, which its random numbers come from')
    if len(names) != members or any(len(p) != members for p in net.parameters()):
        raise TaskError(f"the data has {members} members, {len(names)} names, and a net of {sorted({len(p) for p in net.parameters()})} members")
    if not int(data.counts.sum()):
        raise TaskError("no training window: every series is too short for context + horizon after the stop and calibrate parts")


def _begin(net: nn.Module, data: Data, training: Training, names: tuple[str, ...], levels: tuple[float, ...]) -> tuple[_Job, _Run]:
    device = pick_device(training.device)
    trained = {n: p.detach().to(device) for n, p in net.named_parameters() if p.requires_grad}
    if not trained:
        raise TaskError("this net has nothing to train")
    fixed = {n: t.detach().to(device) for n, t in (*net.named_parameters(), *net.named_buffers()) if n not in trained}
    job = _Job(
        _Net(net), fixed, {n: p.shape[1:] for n, p in trained.items()}, data, training, names, levels, device, torch.full((len(names),), training.epochs)
    )
    weights = torch.cat([p.flatten(1) for p in trained.values()], 1)
    none, blank = torch.full((len(names),), -1), torch.zeros(len(names), 0, dtype=torch.float64)
    state = optim.start({ALL: weights}, training.optimizer)
    endless = torch.full((len(names),), math.inf, dtype=torch.float64)
    return job, _Run(weights, weights, state, endless, none, data.counts > 0, none, blank, blank, blank[0])


def _loop(job: _Job, run: _Run, checkpoint: Path | None, mark: str, watch: Callable[[Progress], None] | None) -> tuple[_Run, tuple[str, ...]]:
    epochs, due = job.training.epochs, 0.0
    try:
        while len(run.seconds) < epochs and bool(run.alive.any()):
            run = _epoch(job, run)
            began = time.perf_counter()
            if checkpoint and (began >= due or len(run.seconds) == epochs or not bool(run.alive.any())):
                _save(run, checkpoint, mark)
                due = time.perf_counter() + (time.perf_counter() - began) / SAVING
            if watch:
                train, stop = (float(curve[:, -1].nanmean()) for curve in (run.train, run.stop))
                watch(Progress(len(run.seconds), epochs, int(run.alive.sum()), train, stop, float(run.seconds[-1])))
    except KeyboardInterrupt:
        if bool((run.best_epoch < 0).all()):
            raise
        return run, (f"stopped by hand after epoch {len(run.seconds)} of {epochs}: the best weights so far are kept",)
    return run, ()


def _epoch(job: _Job, run: _Run) -> _Run:
    """One pass of every live member over its own windows. Members that are through wait; when half are, the rest go on without them."""
    began = time.perf_counter()
    weights, state, pieces = run.weights.clone(), optim.rows_of(run.state, torch.arange(len(run.alive))), run.pieces
    steps = torch.where(run.alive, -(-job.data.counts // job.training.batch), 0)
    sums, done = torch.zeros(len(weights), 2, dtype=torch.float64, device=job.device), 0
    while len(rows := (steps > done).nonzero().flatten()):
        until = int(steps[rows].sort().values[(len(rows) - 1) // 2])
        pack, part = _bind(job, weights, rows), optim.rows_of(state, rows)
        part, found, pieces = _stretch(job, pack, part, steps=range(done, until), epoch=len(run.seconds), pieces=pieces)
        weights[rows.to(job.device)] = pack.weights
        optim.put_rows(state, rows, part)
        state.step[rows] = part.step
        sums[rows.to(job.device)] += found
        done = until
    train = torch.where(run.alive, (sums[:, 0] / sums[:, 1].clamp(min=1)).cpu(), torch.nan)
    stop = _stop_loss(job, weights, run.alive, pieces)
    return _judged(job, replace(run, weights=weights, state=state, pieces=pieces), train, stop, began)


def _judged(job: _Job, run: _Run, train: Tensor, stop: Tensor, began: float) -> _Run:
    """Keeps what has become better, ends what has not for long or is no longer finite. Without a stop part the latest is the best."""
    epoch, blind = run.train.shape[1], stop.isinf() & (stop < 0)
    finite = train.isfinite() & (stop.isfinite() | blind) & run.weights.isfinite().all(1).cpu()
    better = run.alive & finite & (blind | (stop < run.least))
    best_epoch = torch.where(better, epoch, run.best_epoch)
    late = ~blind & (epoch - best_epoch >= job.training.patience) | (epoch + 1 >= job.lengths)
    return replace(
        run,
        best=torch.where(better.to(job.device)[:, None], run.weights, run.best),
        least=torch.where(better & ~blind, stop, run.least),
        best_epoch=best_epoch,
        alive=run.alive & finite & ~late,
        failed=torch.where(run.alive & ~finite, epoch, run.failed),
        train=torch.cat([run.train, train[:, None]], 1),
        stop=torch.cat([run.stop, torch.where(blind, torch.nan, stop)[:, None]], 1),
        seconds=torch.cat([run.seconds, run.seconds.new_tensor([time.perf_counter() - began])]),
    )


def _stretch(job: _Job, pack: _Pack, state: State, *, steps: range, epoch: int, pieces: int) -> tuple[State, Tensor, int]:
    """Trains a pack through these steps of an epoch, its weights in place; also sums of loss × observed goals and of observed goals."""
    size, spec = job.training.batch, job.training.optimizer
    order = _order(job, pack.rows, epoch)[:, steps.start * size : steps.stop * size]
    keys = noise_keys(job.training.seed, [job.names[m] for m in pack.rows.tolist()], epoch).to(job.device)
    sums = torch.zeros(len(pack.rows), 2, dtype=torch.float64, device=job.device)
    for step, numbers in zip(steps, torch.split(order, size, 1), strict=True):
        active = numbers[:, 0] >= 0
        batch = job.data.batch(pack.rows, numbers[:, : int((numbers >= 0).sum(1).max())])
        slope, found, pieces = _gradient(job, pack, batch, Noise(keys, step, pack.weights.dtype), pieces)
        if spec.clip:
            optim.clip({ALL: slope}, spec.clip, active=active)
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
                raise TaskError(f"not enough memory on {job.device} for one window: use device=cpu, a smaller net or a shorter context") from None
            pieces *= 2


def _summed(job: _Job, pack: _Pack, batch: Batch, noise: Noise, pieces: int) -> tuple[Tensor, Tensor]:
    weight = observed(batch.seen).to(job.device)
    slope, error = torch.zeros((), device=job.device), torch.zeros((), device=job.device)
    parts = _cut(batch, pieces, job.device)
    for part in parts:
        output, penalty = functional_call(job.net, pack.bound, (part, noise))
        errors = total(output, part.goal, part.seen, levels=job.levels, kind=job.training.loss, count=weight)
        loss = (errors + penalty / len(parts)).sum()
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
    sums = torch.zeros(len(rows), 2, dtype=torch.float64, device=job.device)
    for batch in job.data.stop_batches(rows):
        for part in _cut(batch, pieces, job.device):
            output, _ = functional_call(job.net, pack.bound, (part, None))
            weight = observed(part.seen)
            sums += torch.stack([total(output, part.goal, part.seen, levels=job.levels, kind=job.training.loss) * weight, weight], 1)
    loss = torch.full(alive.shape, torch.nan, dtype=torch.float64)
    loss[rows] = torch.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], -math.inf).cpu()
    return loss


def _bind(job: _Job, weights: Tensor, rows: Tensor) -> _Pack:
    at = rows.to(job.device)
    own = weights[at]
    pieces = torch.split(own, [shape.numel() for shape in job.shapes.values()], 1)
    leaves = {n: p.view(len(rows), *s).detach().requires_grad_() for (n, s), p in zip(job.shapes.items(), pieces, strict=True)}
    return _Pack(rows, own, leaves, {f"net.{n}": v for n, v in (leaves | {n: v[at] for n, v in job.fixed.items()}).items()})


def _order(job: _Job, rows: Tensor, epoch: int) -> Int[Tensor, "row number"]:
    """Each member's windows in its own order of this epoch, then −1 to the end of the longest's last batch."""
    counts, size = job.data.counts[rows].tolist(), job.training.batch
    numbers = np.full((len(rows), -(-max(counts) // size) * size), -1)
    for row, (member, length) in enumerate(zip(rows.tolist(), counts, strict=True)):
        own = np.random.default_rng(key(job.training.seed, job.names[member], "order", epoch))
        numbers[row, :length] = own.permutation(length)
    return torch.from_numpy(numbers)


def _cut(batch: Batch, pieces: int, device: torch.device) -> list[Batch]:
    """A batch in pieces of its examples, on the device."""
    batch = Batch(*(value.to(device) for value in batch))
    return [batch] if pieces == 1 else [Batch(*parts) for parts in zip(*(v.chunk(pieces, 1) for v in batch), strict=True)]


def _fingerprint(job: _Job, run: _Run) -> str:
    """What must be equal for a checkpoint to be taken up: the options, the members, the first weights, and a look at the data."""
    told = (job.training.model_dump_json(), job.names, job.levels, list(job.shapes.items()), job.data.counts.tolist(), job.lengths.tolist())
    ends = torch.stack([torch.zeros_like(job.data.counts), job.data.counts - 1], 1)
    look = job.data.batch(torch.arange(len(job.names)), ends)
    digest = hashlib.sha256(repr(told).encode())
    for value in (run.weights, *job.fixed.values(), look.past, look.goal):
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(run: _Run, path: Path, mark: str) -> None:
    means = {f"mean/{k}": v for k, v in run.state.mean.items()} | {f"square/{k}": v for k, v in run.state.square.items()}
    kept = {name: value.cpu() for name, value in (run.tensors() | means | {"step": run.state.step}).items()}
    files.write(path, kept, {"kind": "checkpoint", "fingerprint": mark, "pieces": run.pieces})


def _resumed(run: _Run, path: Path | None, mark: str) -> _Run:
    """The run as the checkpoint has it, or as it is if there is none."""
    if path is None or not path.exists():
        return run
    header, tensors = files.read(path)
    if header.get("fingerprint") != mark:
        raise TaskError(f"{path} is the checkpoint of another training (its options, members or data differ): remove it, or give another checkpoint=")
    mean, square = ({k: tensors[f"{kind}/{k}"].to(v) for k, v in now.items()} for kind, now in (("mean", run.state.mean), ("square", run.state.square)))
    plain: dict[str, Any] = {name: tensors[name].to(now.device) for name, now in run.tensors().items()}
    return replace(run, **plain, state=State(mean, square, tensors["step"]), pieces=int(header["pieces"]))


def _trained(job: _Job, run: _Run, notes: tuple[str, ...]) -> Trained:
    if bool((run.best_epoch < 0).all()):
        where, spec = int(run.failed.max()) + 1, job.training.optimizer
        cure = f"try a lower rate (now {spec.rate:g}){'' if spec.clip else ' or clip=1.0'}, and look for extreme values in the data"
        raise TaskError(f"the loss became NaN or infinite in epoch {where}, before any epoch had ended well: {cure}")
    leaves = _bind(job, run.best, torch.arange(len(job.names))).leaves
    weights = {n: v.detach().cpu().clone(memory_format=torch.contiguous_format) for n, v in (leaves | job.fixed).items()}
    return Trained(weights, Curves(run.train, run.stop, run.seconds), run.best_epoch, notes + _notes(job, run), str(job.device), bool(notes))


def _notes(job: _Job, run: _Run) -> tuple[str, ...]:
    """What the user should know of single members."""
    failed = [i for i, epoch in enumerate(run.failed.tolist()) if epoch >= 0]
    empty = [job.names[i] for i, length in enumerate(job.data.counts.tolist()) if not length]
    notes = []
    for member in failed:
        best = int(run.best_epoch[member]) + 1
        kept = f"its weights of epoch {best} are kept" if best else "it keeps its first weights, untrained"
        notes.append(f"{job.names[member]}: the loss became NaN or infinite in epoch {int(run.failed[member]) + 1}; {kept}")
    if empty:
        notes.append(f"{len(empty)} without a training window, so left untrained: {', '.join(empty[:5])}{', ...' * (len(empty) > 5)}")
    if run.pieces > 1:
        notes.append(f"the memory of {job.device} was short: batches were computed in {run.pieces} pieces")
    return tuple(notes)
