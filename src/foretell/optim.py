"""Gradient steps of many members at once, each as if alone: SGD, momentum, RMSprop, Adam, AdamW, and clipping."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from .spec import Spec

Tensors = dict[str, Tensor]  # each [member, ...]
STRETCH = 2**16  # numbers of a step in one go: a quarter of a megabyte each of four tensors
Share = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Spec):
    """How weights follow their gradient. PyTorch's names and defaults; `None` means the kind's own default.

    `momentum`: .9 for kind "momentum", else 0. `weight_decay`: .01 for "adamw" (decoupled), else 0. `clip` bounds each member's
    gradient norm, with `clip_each` that of each of its variables apart (Keras' `clipnorm`). The "cosine" schedule restarts after
    `first_decay` steps; every cycle is `t_mul` times as long and starts at `m_mul` times the rate; `floor` is the least share of `rate`.
    """

    kind: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adam"
    rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float | None = Field(default=1.0, gt=0)
    clip_each: bool = False
    weight_decay: float | None = Field(default=None, ge=0)
    momentum: Share | None = None
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    alpha: Share = 0.99
    first_decay: int = Field(default=1000, ge=1)
    t_mul: float = Field(default=2.0, ge=1)
    m_mul: float = Field(default=1.0, gt=0)
    floor: float = Field(default=0.0, ge=0, le=1)

    @property
    def inertia(self) -> float:
        """`momentum`, the kind's default put in."""
        return self.momentum if self.momentum is not None else 0.9 if self.kind == "momentum" else 0.0

    @property
    def decay(self) -> float:
        """`weight_decay`, the kind's default put in."""
        return self.weight_decay if self.weight_decay is not None else 0.01 if self.kind == "adamw" else 0.0


@dataclass(frozen=True, eq=False)
class State:
    """What a kind remembers: running means of the gradient and of its square (empty if unused), and steps taken."""

    mean: Tensors
    square: Tensors
    step: Int[Tensor, " member"]


def start(params: Tensors, spec: Optimizer) -> State:
    """Nothing remembered yet. The step counter stays on the CPU."""
    adaptive = spec.kind in ("adam", "adamw")
    mean = params if adaptive or spec.inertia else {}
    square = params if adaptive or spec.kind == "rmsprop" else {}
    members = len(next(iter(params.values())))
    return State(_zeros(mean), _zeros(square), torch.zeros(members, dtype=torch.long))


def clip(grads: Tensors, limit: float, *, active: Bool[Tensor, " member"]) -> Float[Tensor, " member"]:
    """Scales each active member's gradient, in place, to a norm of at most `limit` over all its entries; returns the norms before."""
    norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads.values()]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms, 1), dim=1)
    share = (limit / (norm + 1e-6)).clamp(max=1.0).masked_fill(~active.to(norm.device), 1.0)
    for grad in grads.values():
        grad.mul_(_column(share, grad))
    return norm


def update(params: Tensors, grads: Tensors, state: State, spec: Optimizer, *, rate: Float[Tensor, " member"], active: Bool[Tensor, " member"]) -> State:
    """One step of every active member; all that belongs to the others stays as it is.

    `params`, `grads` and the state's means are written in place; the state returned counts the step.
    """
    if bool(active.all()):
        _advance(params, grads, state, spec, rate)
        return State(state.mean, state.square, state.step + 1)
    rows = active.nonzero().flatten()
    part = rows_of(state, rows)
    moved, slopes = _rows(params, rows), _rows(grads, rows)
    _advance(moved, slopes, part, spec, rate[rows])
    put_rows(state, rows, part)
    for name, value in moved.items():
        params[name].index_copy_(0, rows.to(value.device), value)
    return State(state.mean, state.square, state.step + active.long())


def rows_of(state: State, rows: Int[Tensor, " row"]) -> State:
    """A copy of these members' state."""
    return State(_rows(state.mean, rows), _rows(state.square, rows), state.step[rows])


def put_rows(state: State, rows: Int[Tensor, " row"], part: State) -> None:
    """Writes these members' means back, in place; the step counter is not touched."""
    for whole, piece in ((state.mean, part.mean), (state.square, part.square)):
        for name, value in piece.items():
            whole[name].index_copy_(0, rows.to(value.device), value)


def _advance(params: Tensors, grads: Tensors, state: State, spec: Optimizer, rate: Tensor) -> None:
    for name, param in params.items():
        grad, pace = grads[name], _column(rate, param)
        if spec.decay and spec.kind == "adamw":
            param.mul_(1 - pace * spec.decay)
        elif spec.decay:
            grad.add_(param, alpha=spec.decay)
        if spec.kind in ("adam", "adamw"):
            _adam(param, grad, state.mean[name], state.square[name], spec, rate, state.step + 1)
        elif spec.kind == "rmsprop":
            square = state.square[name].mul_(spec.alpha).addcmul_(grad, grad, value=1 - spec.alpha)
            _roll(param, grad.div_(square.sqrt().add_(spec.eps)), state.mean.get(name), spec.inertia, pace)
        else:
            _roll(param, grad, state.mean.get(name), spec.inertia, pace)


def _roll(param: Tensor, push: Tensor, mean: Tensor | None, inertia: float, pace: Tensor) -> None:
    move = push if mean is None else mean.mul_(inertia).add_(push)
    param.sub_(pace * move)


def _adam(param: Tensor, grad: Tensor, mean: Tensor, square: Tensor, spec: Optimizer, rate: Tensor, step: Tensor) -> None:
    """Kingma & Ba, arXiv 1412.6980, algorithm 1; the bias corrections are in float64, so that late steps keep theirs."""
    first, second = spec.betas
    taken = step.double()
    size = _column(rate.double() / (1 - first**taken), param)
    root = _column((1 - second**taken).rsqrt(), param)
    # A stretch at a time, so that what one line leaves the next one finds in the processor's cache.
    width = max(1, STRETCH // max(1, len(param)))
    whole, apart = (param, grad, mean, square), param.dim() == 2 and param.device.type == "cpu"
    for one, slope, first_of, second_of in zip(*(x.split(width, 1) if apart else (x,) for x in whole), strict=True):
        first_of.lerp_(slope, 1 - first)
        second_of.mul_(second).addcmul_(slope, slope, value=1 - second)
        one.sub_(torch.div(first_of, second_of.sqrt().mul_(root).add_(spec.eps)).mul_(size))


def _column(values: Tensor, like: Tensor) -> Tensor:
    """[member] → [member, 1, ...], of the dtype and device of `like`."""
    return values.to(like).reshape(-1, *[1] * (like.dim() - 1))


def _zeros(params: Tensors) -> Tensors:
    return {name: torch.zeros_like(value, requires_grad=False) for name, value in params.items()}


def _rows(tensors: Tensors, rows: Tensor) -> Tensors:
    return {name: value[rows.to(value.device)] for name, value in tensors.items()}
