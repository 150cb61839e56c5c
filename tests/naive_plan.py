"""Slow, obvious twins of what planning does fast."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def project(plan: np.ndarray, low: np.ndarray, high: np.ndarray, budget: float) -> np.ndarray:
    """The nearest allowed plan, by looking at every λ at which a cell meets a bound, and solving between two of them."""
    if np.clip(plan, low, high).sum() <= budget:
        return np.clip(plan, low, high)
    knots = sorted({0.0, *(plan - low).ravel(), *(plan - high).ravel()})
    knots = [k for k in knots if k >= 0]
    for left, right in itertools.pairwise(knots):
        a, b = (np.clip(plan - k, low, high).sum() for k in (left, right))
        if a >= budget >= b:
            share = 0.0 if a == b else (a - budget) / (a - b)
            return np.clip(plan - left - share * (right - left), low, high)
    return low


def best(worth: Callable[[Tensor], Tensor], low: np.ndarray, high: np.ndarray, budget: float, starts: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The best plan by scipy's SLSQP, one start after the other."""
    from scipy.optimize import Bounds, LinearConstraint, minimize

    unit = high.max()

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.from_numpy(x.reshape(low.shape) * unit)[None].requires_grad_()
        value = worth(at)[0]
        (slope,) = torch.autograd.grad(value, at)
        return -float(value.detach()), -slope.numpy().ravel() * unit

    room = LinearConstraint(np.ones((1, low.size)), -np.inf, budget / unit)
    every = [
        minimize(loss, s.ravel() / unit, jac=True, bounds=Bounds(low.ravel() / unit, high.ravel() / unit), constraints=[room], method="SLSQP",
                 options={"ftol": 1e-12, "maxiter": 500})
        for s in starts
    ]  # fmt: skip
    one = min(every, key=lambda found: found.fun)
    return one.x.reshape(low.shape) * unit, -float(one.fun)


def media_effect(spend: Sequence[float], carry: float, half: float, shape: float, ceiling: float, tiny: float = 1e-4) -> list[float]:
    """Hill of geometric adstock, step by step; before the first step all was as at the first."""

    def hill(x: float) -> float:
        return x**shape / (x**shape + half**shape)

    level, effects = spend[0] + tiny, []
    for x in spend:
        level = carry * level + (1 - carry) * (x + tiny)
        effects.append(ceiling * (hill(level) - hill(tiny)))
    return effects


def random_effects(found: Sequence[float], error: Sequence[float]) -> tuple[list[float], list[float], float]:
    """Posterior means and deviations of items, and the deviation between them, item by item (DerSimonian & Laird)."""
    known = [(x, e**2) for x, e in zip(found, error, strict=True) if e < float("inf")]
    total = sum(1 / v for _, v in known)
    middle = sum(x / v for x, v in known) / total
    excess = sum((x - middle) ** 2 / v for x, v in known) - (len(known) - 1)
    between = max(0.0, excess / (total - sum(1 / v**2 for _, v in known) / total))
    total = sum(1 / (v + between) for _, v in known)
    middle = sum(x / (v + between) for x, v in known) / total
    means, deviations = [], []
    for x, e in zip(found, error, strict=True):
        trust = between / (between + e**2)
        means.append(middle + trust * (x - middle) if trust else middle)
        own = trust * e**2 if trust else 0.0 if e < float("inf") else between
        deviations.append((own + (1 - trust) ** 2 / total) ** 0.5)
    return means, deviations, between**0.5
