"""Counterfactual: the smallest change of chosen cells, within bounds, that brings the outputs into a band.

Wachter, Mittelstadt, Russell (2018), arXiv 1711.00399, §III, with bounds and the band as constraints instead of a penalty: first the
way into the band (or as near as the bounds let), then from there the least squares of the change, in deviations of each channel.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import TaskError
from .probe import Probe
from .types import Blocks, Counterfactual, Map

MOST_CELLS = 600  # free cells of one window; the solver's matrices grow with their square
CLOSE = 1e-3  # of the way from the forecast to the band: outside by less counts as inside


class Reach(NamedTuple):
    """What may be changed: cells `free` [step, channel] of each block, from `low` to `high`, and one deviation of each, `width`;
    all [example, step, channel]."""

    free: Mapping[str, Bool[Tensor, "step channel"]]
    low: Blocks
    high: Blocks
    width: Blocks


def counterfactual(f: Map, blocks: Blocks, band: tuple[Tensor, Tensor], reach: Reach, *, steps: int = 200) -> Counterfactual:
    """The nearest blocks whose outputs [example, output] lie from band[0] to band[1] (−inf, inf: open), window by window."""
    probe = Probe(f, blocks)
    before = probe.here()
    count = sum(int(mark.sum()) for mark in reach.free.values())
    if not 0 < count <= MOST_CELLS:
        raise TaskError(f"a counterfactual changes from 1 to {MOST_CELLS} cells of a window; got {count}: name fewer channels or fewer steps")
    low, high = (x.expand_as(before) for x in band)
    if bool((low > high).any()):
        raise TaskError(f"the band must rise from its low end to its high one; got {float(low.max()):g} … {float(high.min()):g}")
    new = {name: x.clone() for name, x in blocks.items()}
    moved = torch.zeros(len(before), count, dtype=torch.float64)
    for at in range(len(before)):
        problem = _Problem(probe, blocks, at, low[at], high[at], reach)
        moved[at] = torch.from_numpy(problem.solved(steps))
        for name, x in problem.placed(moved[at].numpy()).items():
            new[name][at] = x[at].detach()
    after = probe.values({name: x[None] for name, x in new.items()})[0]
    slack = CLOSE * (low - before).clamp(min=0).maximum((before - high).clamp(min=0))
    inside = ((after >= low - slack) & (after <= high + slack)).to(before.dtype).mean(1)
    shape = probe.shape()
    size, some = moved.square().mean(1).sqrt(), (moved.abs() > 1e-6).double().mean(1)
    return Counterfactual(blocks, new, before.unflatten(1, shape), after.unflatten(1, shape), inside, size, some)


class _Problem:
    """One window: the change u of its free cells in deviations, as numbers for the solver."""

    def __init__(self, probe: Probe, blocks: Blocks, at: int, low: Tensor, high: Tensor, reach: Reach) -> None:
        self.probe, self.blocks, self.at, self.free = probe, blocks, at, reach.free
        self.low, self.high = low.double().numpy(), high.double().numpy()

        def picked(of: Blocks) -> np.ndarray:
            return torch.cat([of[name][at][mark] for name, mark in reach.free.items()]).double().numpy()

        here, self.width = picked(blocks), picked(reach.width)
        # A value already beyond the range may stay where it is.
        self.bounds = list(zip(np.minimum((picked(reach.low) - here) / self.width, 0), np.maximum((picked(reach.high) - here) / self.width, 0), strict=True))
        start, _ = self.said(np.zeros_like(here))
        self.size = max(float(self.outside(start).max()), 1e-12)

    def placed(self, u: np.ndarray) -> dict[str, Tensor]:
        """All windows, this one changed."""
        left, found = torch.from_numpy(u * self.width), {}
        for name, x in self.blocks.items():
            found[name] = x
            if name in self.free:
                mine, left = left[: int(self.free[name].sum())], left[int(self.free[name].sum()) :]
                moved = x[self.at].clone()
                moved[self.free[name]] += mine.to(x.dtype)
                found[name] = torch.cat([x[: self.at], moved[None], x[self.at + 1 :]])
        return found

    def said(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs, and their slopes by u [output, cell]."""
        leaves = {name: x.detach().requires_grad_() for name, x in self.placed(u).items()}
        with torch.enable_grad():
            output = self.probe.call(leaves)[self.at]
        rows = []
        for one in output:
            slopes = torch.autograd.grad(one, list(leaves.values()), retain_graph=True, allow_unused=True)
            by = {name: torch.zeros_like(x) if s is None else s for (name, x), s in zip(leaves.items(), slopes, strict=True)}
            rows.append(torch.cat([by[name][self.at][mark] for name, mark in self.free.items()]).double())
        return output.detach().double().numpy(), torch.stack(rows).numpy() * self.width

    def outside(self, output: np.ndarray) -> np.ndarray:
        """How far each output lies outside the band."""
        far: np.ndarray = np.maximum(self.low - output, 0) + np.maximum(output - self.high, 0)
        return far

    def solved(self, steps: int) -> np.ndarray:
        """The smallest change that reaches the band; else the one that comes nearest to it."""
        from scipy.optimize import minimize

        zero = np.zeros(len(self.width))
        if not self.outside(self.said(zero)[0]).any():
            return zero

        def missed(u: np.ndarray) -> tuple[float, np.ndarray]:
            output, slope = self.said(u)
            signed = (np.maximum(output - self.high, 0) - np.maximum(self.low - output, 0)) / self.size
            return float((signed**2).sum() + 1e-8 * (u**2).sum()), 2 * signed @ slope / self.size + 2e-8 * u

        near: np.ndarray = minimize(missed, zero, jac=True, method="L-BFGS-B", bounds=self.bounds, options={"maxiter": steps}).x
        rules = [self._rule(self.low, 1.0), self._rule(self.high, -1.0)]
        least = minimize(
            lambda u: (float(u @ u) / 2, u), near, jac=True, method="SLSQP", bounds=self.bounds,
            constraints=[rule for rule in rules if rule is not None], options={"maxiter": steps, "ftol": 1e-9},
        )  # fmt: skip
        found: np.ndarray = np.clip(least.x, *np.array(self.bounds).T)
        reached = bool((self.outside(self.said(found)[0]) <= CLOSE * self.size).all())
        return found if reached else near

    def _rule(self, edge: np.ndarray, sign: float) -> dict[str, object] | None:
        """The outputs' distance inside an edge, for the solver; None if it is open everywhere."""
        closed = np.isfinite(edge)
        inside: Callable[[np.ndarray], np.ndarray] = lambda u: sign * (self.said(u)[0] - edge)[closed] / self.size  # noqa: E731
        slope: Callable[[np.ndarray], np.ndarray] = lambda u: sign * self.said(u)[1][closed] / self.size  # noqa: E731
        return {"type": "ineq", "fun": inside, "jac": slope} if closed.any() else None
