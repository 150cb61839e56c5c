"""The one training loop: epochs, early stopping, checkpoints, Ctrl-C, for one member or many, whatever an epoch does."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from . import files
from .errors import TaskError
from .loss import COUNTS, LossKind
from .optim import Optimizer, State, Tensors
from .spec import Spec
from .task import ScaleKind

SAVING = 0.1  # most of the time that writing checkpoints may take


class Training(Spec):
    """How a net is trained. `stop` and `calibrate` are the shares of the data, at its end, kept for early stopping and for bands.

    Training ends when the loss on the stop part has not improved for `patience` epochs; the best epoch's weights are kept.
    With `retrain` the net is then trained anew, on train and stop together, for as many epochs as were best. `device` "auto"
    is a CUDA card if there is one. `scale` is fitted per series, or over all if `pooled`. With `halves` each member of an ensemble
    learns from a random half of the steps, so that their spread says how sure the fit is.
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
    halves: bool = False

    @model_validator(mode="after")
    def _something_left(self) -> "Training":
        if self.stop + self.calibrate >= 1:
            raise TaskError(f"Training: stop={self.stop:g} and calibrate={self.calibrate:g} leave nothing to train on; together they must be below 1")
        steady = ("identity", "mean") if self.loss == "tweedie" else ("identity",)
        if self.loss in COUNTS and self.scale not in steady:
            raise TaskError(f'Training: loss="{self.loss}" counts from zero and needs scale="{steady[-1]}"; got scale="{self.scale}"')
        return self


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
    """Losses by epoch, without penalty; NaN after a member's end. `train` is measured on the way, with noise. `others` are
    those of a training that has several losses, [member, epoch] by name."""

    train: Float[Tensor, "member epoch"]
    stop: Float[Tensor, "member epoch"]
    seconds: Float[Tensor, " epoch"]
    others: Tensors = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trained:
    """Each member's best weights, on the CPU, by parameter name; `best_epoch` counts from 0, −1 = none was finite."""

    weights: Tensors
    curves: Curves
    best_epoch: Int[Tensor, " member"]
    notes: tuple[str, ...]
    device: str
    interrupted: bool = False


@dataclass(frozen=True, eq=False)
class Course:
    """What stays the same through a run, whatever an epoch does. `shapes`: a member's trained tensors, in the order of its row;
    `fixed`: the net's tensors that are not trained; `counts`: each member's training windows; `lengths`: its most epochs."""

    training: Training
    names: tuple[str, ...]
    shapes: dict[str, torch.Size]
    fixed: Tensors
    counts: Int[Tensor, " member"]
    lengths: Int[Tensor, " member"]
    device: torch.device


@dataclass(frozen=True, eq=False)
class Run:
    """Where a run stands after an epoch: a member's trained parameters are one row. `failed` is the epoch of its NaN, else −1.
    `others` are further losses by name that an epoch wants kept."""

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
    others: Tensors = field(default_factory=dict)

    @classmethod
    def first(cls, course: Course, weights: Float[Tensor, "member number"], state: State) -> Self:
        """Before any epoch."""
        none, blank = torch.full((len(course.names),), -1), torch.zeros(len(course.names), 0, dtype=torch.float64)
        endless = torch.full((len(course.names),), math.inf, dtype=torch.float64)
        return cls(weights, weights, state, endless, none, course.counts > 0, none, blank, blank, blank[0])

    def tensors(self) -> Tensors:
        """All but the state and `others`, by field."""
        big = {"weights": self.weights, "best": self.best, "least": self.least, "best_epoch": self.best_epoch}
        return big | {"alive": self.alive, "failed": self.failed, "train": self.train, "stop": self.stop, "seconds": self.seconds}


def descend(
    course: Course,
    run: Run,
    epoch: Callable[[Run], Run],
    *,
    checkpoint: str | Path | None = None,
    look: Sequence[object] = (),
    watch: Callable[[Progress], None] | None = None,
) -> Trained:
    """Epoch after epoch until every member is through; returns each one's best weights.

    `checkpoint` is written as the run goes on, and taken up by the next run of the same training to the same result, bit for
    bit: the same as far as `look` shows, tensors and texts that tell one training's data and options from another's.
    Ctrl-C ends the run with the best weights so far. TaskError if no member has an epoch with a finite loss.
    """
    path = Path(checkpoint) if checkpoint else None
    mark = _fingerprint(course, run, look) if path else ""
    run, notes = _loop(course, _resumed(run, path, mark), epoch, path, mark, watch)
    return _trained(course, run, notes)


def judged(course: Course, run: Run, train: Float[Tensor, " member"], stop: Float[Tensor, " member"], began: float) -> Run:
    """Keeps what has become better, ends what has not for long or is no longer finite. Without a stop part (−inf) the latest is
    the best. `began` is when the epoch did, by `time.perf_counter`."""
    epoch, blind = run.train.shape[1], stop.isinf() & (stop < 0)
    finite = train.isfinite() & (stop.isfinite() | blind) & run.weights.isfinite().all(1).cpu()
    better = run.alive & finite & (blind | (stop < run.least))
    best_epoch = torch.where(better, epoch, run.best_epoch)
    late = ~blind & (epoch - best_epoch >= course.training.patience) | (epoch + 1 >= course.lengths)
    return replace(
        run,
        best=torch.where(better.to(course.device)[:, None], run.weights, run.best),
        least=torch.where(better & ~blind, stop, run.least),
        best_epoch=best_epoch,
        alive=run.alive & finite & ~late,
        failed=torch.where(run.alive & ~finite, epoch, run.failed),
        train=torch.cat([run.train, train[:, None]], 1),
        stop=torch.cat([run.stop, torch.where(blind, torch.nan, stop)[:, None]], 1),
        seconds=torch.cat([run.seconds, run.seconds.new_tensor([time.perf_counter() - began])]),
    )


def views(course: Course, weights: Float[Tensor, "row number"]) -> Tensors:
    """Rows of trained numbers as the net's tensors, by name, without a copy."""
    pieces = torch.split(weights, [shape.numel() for shape in course.shapes.values()], 1)
    return {n: p.view(len(weights), *shape) for (n, shape), p in zip(course.shapes.items(), pieces, strict=True)}


def _loop(
    course: Course, run: Run, epoch: Callable[[Run], Run], checkpoint: Path | None, mark: str, watch: Callable[[Progress], None] | None
) -> tuple[Run, tuple[str, ...]]:
    epochs, due = course.training.epochs, 0.0
    try:
        while len(run.seconds) < epochs and bool(run.alive.any()):
            run = epoch(run)
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


def _fingerprint(course: Course, run: Run, look: Sequence[object]) -> str:
    """What must be equal for a checkpoint to be taken up: the options, the members, the first weights, and what the caller shows."""
    texts = [one for one in look if not isinstance(one, Tensor)]
    told = (course.training.model_dump_json(), course.names, list(course.shapes.items()), course.counts.tolist(), course.lengths.tolist(), texts)
    digest = hashlib.sha256(repr(told).encode())
    for value in (run.weights, *course.fixed.values(), *(one for one in look if isinstance(one, Tensor))):
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(run: Run, path: Path, mark: str) -> None:
    means = {f"mean/{k}": v for k, v in run.state.mean.items()} | {f"square/{k}": v for k, v in run.state.square.items()}
    others = {f"others/{k}": v for k, v in run.others.items()}
    kept = {name: value.cpu() for name, value in (run.tensors() | means | others | {"step": run.state.step}).items()}
    files.write(path, kept, {"kind": "checkpoint", "fingerprint": mark, "pieces": run.pieces})


def _resumed(run: Run, path: Path | None, mark: str) -> Run:
    """The run as the checkpoint has it, or as it is if there is none."""
    if path is None or not path.exists():
        return run
    header, tensors = files.read(path)
    if header.get("fingerprint") != mark:
        raise TaskError(f"{path} is the checkpoint of another training (its options, members or data differ): remove it, or give another checkpoint=")
    mean, square = ({k: tensors[f"{kind}/{k}"].to(v) for k, v in now.items()} for kind, now in (("mean", run.state.mean), ("square", run.state.square)))
    plain: dict[str, Any] = {name: tensors[name].to(now.device) for name, now in run.tensors().items()}
    others = {name.removeprefix("others/"): value for name, value in tensors.items() if name.startswith("others/")}
    return replace(run, **plain, state=State(mean, square, tensors["step"]), pieces=int(header["pieces"]), others=others)


def _trained(course: Course, run: Run, notes: tuple[str, ...]) -> Trained:
    if bool((run.best_epoch < 0).all()):
        where, spec = int(run.failed.max()) + 1, course.training.optimizer
        cure = f"try a lower rate (now {spec.rate:g}){'' if spec.clip else ' or clip=1.0'}, and look for extreme values in the data"
        raise TaskError(f"the loss became NaN or infinite in epoch {where}, before any epoch had ended well: {cure}")
    kept = views(course, run.best) | course.fixed
    weights = {n: v.detach().cpu().clone(memory_format=torch.contiguous_format) for n, v in kept.items()}
    return Trained(weights, Curves(run.train, run.stop, run.seconds, run.others), run.best_epoch, notes + _notes(course, run), str(course.device), bool(notes))


def _notes(course: Course, run: Run) -> tuple[str, ...]:
    """What the user should know of single members."""
    failed = [i for i, epoch in enumerate(run.failed.tolist()) if epoch >= 0]
    empty = [course.names[i] for i, length in enumerate(course.counts.tolist()) if not length]
    notes = []
    for member in failed:
        best = int(run.best_epoch[member]) + 1
        kept = f"its weights of epoch {best} are kept" if best else "it keeps its first weights, untrained"
        notes.append(f"{course.names[member]}: the loss became NaN or infinite in epoch {int(run.failed[member]) + 1}; {kept}")
    if empty:
        notes.append(f"{len(empty)} without a training window, so left untrained: {', '.join(empty[:5])}{', ...' * (len(empty) > 5)}")
    if run.pieces > 1:
        notes.append(f"the memory of {course.device} was short: batches were computed in {run.pieces} pieces")
    return tuple(notes)
