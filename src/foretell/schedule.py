"""The learning rate of every member at its own step."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .optim import Optimizer


def rate_at(spec: Optimizer, step: Int[Tensor, " member"]) -> Float[Tensor, " member"]:
    """Rate of the step that follows `step` steps already taken, in float64.

    "cosine": half a cosine from the rate to its floor, begun anew with a longer cycle each time
    (Loshchilov & Hutter, arXiv 1608.03983, section 3).
    """
    if spec.schedule == "constant":
        return torch.full(step.shape, spec.rate, dtype=torch.float64, device=step.device)
    cycle, share = _place(step.double() / spec.first_decay, spec.t_mul)
    height = spec.m_mul**cycle * (1 + torch.cos(math.pi * share)) / 2
    return spec.rate * (spec.floor + (1 - spec.floor) * height)


def _place(time: Tensor, growth: float) -> tuple[Tensor, Tensor]:
    """Time in first cycles → the cycle it falls in and how much of that cycle has passed, 0 ≤ share < 1."""
    if growth == 1:
        return time.floor(), time.frac()
    # Cycle c begins at (growthᶜ − 1) / (growth − 1). The tiny addend keeps a beginning from being rounded into the cycle before.
    cycle = (torch.log1p(time * (growth - 1)) / math.log(growth) + 1e-9).floor()
    begin = (growth**cycle - 1) / (growth - 1)
    return cycle, ((time - begin) / growth**cycle).clamp(min=0)
