"""LOESS in loops, one series and one step after another."""

import numpy as np


def loess(values: np.ndarray, share: float, rounds: int) -> np.ndarray:
    """[series, time], NaN outside; what was not observed counts for nothing."""
    line = np.full_like(values, np.nan)
    for one, out in zip(values, line, strict=True):
        (seen,) = np.nonzero(np.isfinite(one))
        if len(seen):
            part = slice(seen[0], seen[-1] + 1)
            out[part] = smooth(one[part], share, rounds)
    return line


def smooth(y: np.ndarray, share: float, rounds: int) -> np.ndarray:
    length, seen = len(y), np.isfinite(y)
    width = min(length, max(2, int(share * length + 1e-10)))
    trust = np.ones(length)
    nothing = float(np.sort(y[seen])[(seen.sum() - 1) // 2]) if rounds else float(y[seen].mean())
    for _ in range(rounds + 1):
        line = np.array([at(step, y, np.where(seen, trust, 0.0), width, nothing) for step in range(length)])
        away = np.abs(line - y)
        scale = 6 * np.median(away[seen])
        far = away / scale if scale > 0 else (away > 0).astype(float)
        trust = (1 - np.minimum(far, 1) ** 2) ** 2
    return line


def at(step: int, y: np.ndarray, share: np.ndarray, width: int, nothing: float) -> float:
    """The straight line through the nearest `width` steps; where those that count are one or none: the value itself, or that one, or `nothing`."""
    low = min(max(step - width // 2, 0), len(y) - width)
    near = np.arange(low, low + width)
    away = near - step
    weight = (1 - (np.abs(away) / max(1, np.abs(away).max())) ** 3) ** 3 * share[near]
    counts = weight > 0
    if counts.sum() >= 2:
        _, level = np.polyfit(away[counts], y[near][counts], 1, w=np.sqrt(weight[counts]))
        return float(level)
    if np.isfinite(y[step]):
        return float(y[step])
    return float(y[near][counts][0]) if counts.any() else nothing
