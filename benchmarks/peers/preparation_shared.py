"""Sales as M5 has them, made up: counts with a week in them, many zeros, items that start late. Needs numpy alone."""

import numpy as np


def made_up(series: int, days: int, seed: int = 0) -> np.ndarray:
    """[series, day] float32, NaN before the first sale."""
    draw = np.random.default_rng(seed)
    level = draw.gamma(0.6, 2.5, series).astype(np.float32)[:, None]
    week = 1 + 0.3 * np.sin(2 * np.pi * np.arange(days, dtype=np.float32) / 7)
    values = np.empty((series, days), np.float32)
    for at in range(0, series, 2000):  # some at a time: what is drawn is wider than what is kept
        part = slice(at, at + 2000)
        values[part] = draw.poisson(level[part] * week)
    late = draw.random(series) < 0.4
    start = np.where(late, draw.integers(0, days * 3 // 4, series), 0)
    values[np.arange(days) < start[:, None]] = np.nan
    return values


def prices(series: int, days: int, seed: int = 1) -> np.ndarray:
    """[series, day] float32, a new price now and then."""
    draw = np.random.default_rng(seed)
    changed = draw.random((series, -(-days // 7))) < 0.02
    level = np.exp(np.cumsum(np.where(changed, 0.1 * draw.standard_normal(changed.shape), 0.0), 1) + draw.normal(1.2, 0.6, (series, 1)))
    return np.repeat(level, 7, axis=1)[:, :days].astype(np.float32)
