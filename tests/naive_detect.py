"""Slow, obvious twins of what detection does fast."""

import numpy as np


def aggregate(x: np.ndarray, interval: int, names: tuple[str, ...]) -> np.ndarray:
    """A loop over intervals, statistics and channels."""
    of = {"mean": np.mean, "min": np.min, "max": np.max, "median": np.median}
    of |= {"std": lambda v: np.std(v, ddof=1) if len(v) > 1 else np.nan, "last": lambda v: v[-1]}
    out = []
    for first in range(0, len(x), interval):
        part = x[first : first + interval]
        row = []
        for name in names:
            for channel in range(x.shape[1]):
                seen = part[~np.isnan(part[:, channel]), channel]
                row.append(of[name](seen) if len(seen) else np.nan)
        out.append(row)
    return np.array(out)


def window_starts(invalid: np.ndarray, window: int, ahead: int, stride: int) -> list[int]:
    """Walks along: past an invalid row a new start is tried right behind it."""
    start, found = 0, []
    while start <= len(invalid) - window - ahead:
        bad = np.flatnonzero(invalid[start : start + window + ahead])
        if len(bad):
            start += int(bad[-1]) + 1
            continue
        found.append(start)
        start += stride
    return found


def filled(x: np.ndarray, reach: int) -> np.ndarray:
    """Value by value."""
    out = x.copy()
    for channel in range(x.shape[1]):
        for row in range(len(x)):
            if np.isnan(x[row, channel]):
                for back in range(1, reach + 1):
                    if row - back >= 0 and not np.isnan(x[row - back, channel]):
                        out[row, channel] = x[row - back, channel]
                        break
    return out


def cost(epsilon: float, errors: np.ndarray) -> float:
    """Hundman et al. (2018), section 3.3: the cost of a threshold, smaller is better."""
    mean, std = errors.mean(), errors.std()
    above = errors > epsilon
    runs = sum(bool(above[i] and (i == 0 or not above[i - 1])) for i in range(len(errors)))
    if not above.any():
        return float("inf")
    below = errors[~above]
    if not len(below):
        return 0.0
    return float(-((mean - below.mean()) / mean + (std - below.std()) / std) / (above.sum() + runs**2))


def dynamic(errors: np.ndarray, low: float, high: float) -> float:
    """Every threshold that makes a difference, tried one after the other."""
    mean, std = errors.mean(), errors.std()
    floor, roof = mean + low * std, mean + high * std
    tried = sorted({floor, *(e for e in errors if floor <= e <= roof)})
    return min(tried, key=lambda epsilon: (cost(epsilon, errors), epsilon))


def sequences(above: np.ndarray, padding: int) -> list[tuple[int, int]]:
    """Every hit widened, then the runs of True, ends included."""
    wide = np.zeros(len(above), dtype=bool)
    for i in np.flatnonzero(above):
        wide[max(0, i - padding) : i + padding + 1] = True
    found, start = [], None
    for i, on in enumerate([*wide, False]):
        if on and start is None:
            start = i
        if not on and start is not None:
            found.append((start, i - 1))
            start = None
    return found


def rolled(x: np.ndarray, behind: int, ahead: int) -> np.ndarray:
    """Mean of what is there from `behind` rows before to `ahead` rows after."""
    out = np.full(len(x), np.nan)
    for t in range(len(x)):
        part = x[max(0, t - behind) : t + ahead + 1]
        if (~np.isnan(part)).any():
            out[t] = np.nanmean(part)
    return out


def unrolled(windows: np.ndarray, starts: list[int], length: int, how: str) -> np.ndarray:
    """[example, window, channel] → [time, channel]: all that windows say of a row, brought together."""
    out = np.full((length, windows.shape[2]), np.nan)
    for t in range(length):
        said = [w[t - s] for s, w in zip(starts, windows, strict=True) if s <= t < s + windows.shape[1]]
        if said:
            ends = [w[-1] for s, w in zip(starts, windows, strict=True) if s + windows.shape[1] - 1 == t]
            out[t] = {"median": np.median, "mean": np.mean}[how](said, axis=0) if how != "last" else ends[0] if ends else np.nan
    return out
