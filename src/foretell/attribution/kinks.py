"""Kinks: integrated gradients through what bends at points (scales with knots, ReLU) and through comparisons written as numbers.

A path is cut into stretches. On each, a function that bends or jumps counts with its mean slope over the stretch, the secant
between its ends, in place of the slope at the nodes. For an input that moves evenly the secant *is* the integral of the slope, so
what is left to the quadrature is what lies between the bends. The finer the stretches, the nearer all of it is to the integral.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .types import Blocks, Map

BENT = frozenset(("relu", "leaky_relu", "hardtanh", "hardsigmoid", "hardswish", "relu6", "clamp", "clamp_min", "clamp_max", "abs"))
COMPARISONS = frozenset(("ne", "eq", "gt", "ge", "lt", "le"))


class Met(NamedTuple):
    """What entered a bent function, and what came out."""

    x: Tensor
    y: Tensor


class Noting(TorchFunctionMode):
    """Keeps what every bent function met, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[Met] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        bent = bent_function(func, args, kwargs or {})
        if bent is None:
            return func(*args, **(kwargs or {}))
        function, x = bent
        self.met.append(Met(x.detach(), function(x.detach())))
        return self.met[-1].y


class Secants(TorchFunctionMode):
    """Lets bent functions say what they say, but gives them on the way back their mean slope between what they met at `low` and at `high`."""

    def __init__(self, low: Sequence[Met], high: Sequence[Met]) -> None:
        super().__init__()
        self.ends = iter(list(zip(low, high, strict=True)))

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func.__name__ == "detach":
            return args[0].clone()  # what a net keeps from its training still moves its forecast
        bent = bent_function(func, args, kwargs or {})
        if bent is None:
            return func(*args, **(kwargs or {}))
        (function, x), (low, high) = bent, next(self.ends)
        if not x.requires_grad:
            return function(x)
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            y = function(leaf)
            slope = torch.autograd.grad(y.sum(), leaf)[0] if y.requires_grad else torch.zeros_like(x)
        way = high.x - low.x
        far = way.abs() > 1e-9 * (high.x.abs() + low.x.abs()).clamp(min=1e-30)
        carrier = torch.where(far, (high.y - low.y) / torch.where(far, way, 1.0), slope) * x
        return carrier + (y - carrier).detach()


def bent_function(func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> tuple[Callable[[Tensor], Tensor], Tensor] | None:
    """(function of one tensor, the tensor) of what is told as elementwise, bends, or compares and writes numbers; None for all else."""
    if func.__name__ == "elementwise":
        return args[0], args[1]
    if func.__name__ in BENT and not any(isinstance(x, Tensor) for x in (*args[1:], *given.values())) and not given.get("inplace"):
        return lambda x: func(x, *args[1:], **given), args[0]
    out = given.get("out")
    if func.__name__ in COMPARISONS and isinstance(out, Tensor) and out.is_floating_point() and isinstance(args[0], Tensor):
        return lambda x: func(x.detach(), *args[1:]).to(out.dtype), args[0]
    return None


def bends(f: Map, blocks: Blocks) -> bool:
    """Whether a map tells of a bent function at all."""
    noting = Noting()
    with torch.no_grad(), noting:
        f(blocks)
    return bool(noting.met)
