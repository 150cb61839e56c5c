"""Layer-wise relevance propagation by the same engine: gradient × input with other local rules on the way back.

Relevance of the forecast itself, not of a change from a baseline: biases keep their share, so it does not add up, and the
residual says by how much. LRP is patented by others (US 12,061,966 B2, EP 3271863 B1, KR 102130162 B1 and more): it
never runs unless named, and whether you may use it commercially is yours to find out.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .engine import Engine, moves, told
from .gradients import finished, zeros
from .probe import Probe
from .types import Attribution, Blocks, Map

NOTICE = "LRP is patented by others; find out whether you may use it commercially"


class Relevance(Engine):
    """Elementwise functions pass their relevance on as it is, of a gate and a signal the signal takes all, of two factors each half,
    attention weights and norms count as fixed. Arras et al. (2019), arXiv 1909.12114, §3; Ali et al. (2022), arXiv 2202.07304, §3."""

    def __init__(self) -> None:
        super().__init__([])

    def before(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """There is no baseline; nothing is compared."""
        return inputs

    def secant(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """All relevance to x: f(x) / x in place of the slope."""
        y = function(x.detach())
        far = x.detach().abs() > 1e-9
        return told(y, x * torch.where(far, y / torch.where(far, x.detach(), 1.0), 0.0)) if x.requires_grad else y

    def product(self, function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
        """Half to each factor that moves."""
        if not (moves(a) and moves(b)):
            return function(a, b)
        value = function(a.detach(), b.detach())
        return told(value, (function(a, b.detach()) + function(a.detach(), b)) / 2)

    def gate(self, x: Tensor) -> Tensor:
        """A gate takes nothing."""
        return torch.sigmoid(x.detach())

    def integral(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """An operation without a rule keeps its slope."""
        return function(*inputs)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if name == "sigmoid":
            return torch.sigmoid(args[0].detach())
        if name in ("softmax", "log_softmax"):
            return func(args[0].detach(), *args[1:], **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def lrp(f: Map, blocks: Blocks) -> Attribution:
    """Relevance of every cell for every output; base value 0."""
    probe = Probe(f, blocks)
    total = zeros(probe)
    outputs = probe.here().shape[1]
    rows = {name: x.repeat(outputs, 1, 1).requires_grad_() for name, x in blocks.items()}
    with torch.enable_grad(), Relevance():
        output = probe.call(rows)
    probe.spent["backwards"] += len(output)
    picked = output.gather(1, torch.arange(outputs).repeat_interleave(probe.examples)[:, None])
    moving = picked.requires_grad
    slope = torch.autograd.grad(picked.sum(), list(rows.values()), allow_unused=True) if moving else [None] * len(rows)
    for (name, x), each in zip(rows.items(), slope, strict=True):
        relevance = torch.zeros_like(x) if each is None else (each * x).detach()
        total[name] = relevance.detach().unflatten(0, (outputs, probe.examples)).transpose(0, 1)
    found = finished(probe, total, "lrp")
    return replace(found, base=torch.zeros_like(found.prediction), warnings=(NOTICE,))
