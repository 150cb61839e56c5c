"""Slow, obvious twins of what a graph net does fast."""

from collections.abc import Sequence

import numpy as np


def mixed(past: np.ndarray, observed: np.ndarray, edge: np.ndarray, horizon: int) -> np.ndarray:
    """What neighbours bring to each step [context + horizon] of one window: past and observed [context, slot], edge [slot, lag]."""
    context, slots = past.shape
    total = np.zeros(context + horizon)
    for slot in range(slots):
        seen = [past[t, slot] for t in range(context) if observed[t, slot]]
        mean = sum(seen) / len(seen) if seen else 0.0
        for step in range(context + horizon):
            for lag in range(1, edge.shape[1] + 1):
                at = step - lag
                if 0 <= at < context and observed[at, slot]:
                    total[step] += edge[slot, lag - 1] * (past[at, slot] - mean)
    return total


def correlated(one: Sequence[float], other: Sequence[float], reach: int) -> list[float]:
    """Size of the correlation of one line with another 1 … `reach` steps before, in standard errors."""
    size = (sum(x * x for x in one) / len(one)) ** 0.5
    return [abs(sum(one[t] * other[t - lag] for t in range(lag, len(one)))) / size / len(one) ** 0.5 for lag in range(1, reach + 1)]


def auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """The chance that a true pair scores above a false one."""
    pairs = [(a > b) + 0.5 * (a == b) for a in score[truth] for b in score[~truth]]
    return float(np.mean(pairs))
