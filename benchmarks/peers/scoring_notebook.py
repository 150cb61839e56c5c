"""Seconds of the guidebook's scoring loops, as JSON: warping row by row with pyts, the threshold by fmin; run by benchmarks/tadgan_speed.py."""

import json
import time
from importlib import metadata

import numpy as np
import pandas as pd
from guidebook import SPAN, courses, errors
from pyts.metrics import dtw
from scipy.optimize import fmin


def warped(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Every row's warping distance, one call of pyts a row."""
    half = SPAN // 2
    y, p = np.pad(seen, half), np.pad(expected, half)
    return np.array([dtw(y[row : row + 2 * half + 1], p[row : row + 2 * half + 1]) for row in range(len(seen))])


def cost(z: float, found: np.ndarray, mean: float, std: float) -> float:
    """Of a threshold z deviations above the mean; pandas counts the runs above it, as in the guidebook."""
    level = mean + float(np.ravel(z)[0]) * std
    below = found[found <= level]
    by_mean, by_std = (mean - below.mean(), std - below.std()) if len(below) else (0.0, 0.0)
    above = pd.Series(found > level)
    runs = int((above & (above != above.shift(1))).sum())
    weight = int(above.sum()) + runs**2
    return -(by_mean / mean + by_std / std) / weight if weight else np.inf


def threshold(found: np.ndarray) -> float:
    """The best of ten searches, begun at 0 … 9 deviations."""
    mean, std = found.mean(), found.std()
    best = min((fmin(cost, z, args=(found, mean, std), full_output=True, disp=False)[:2] for z in range(10)), key=lambda one: one[1])
    return float(mean + best[0][0] * std)


def main() -> None:
    """Each once; the first call of pyts, which compiles, is not counted."""
    seen, expected = courses()
    warped(seen[:50], expected[:50])
    began = time.perf_counter()
    distance = warped(seen, expected)
    middle = time.perf_counter()
    level = threshold(errors())
    end = time.perf_counter()
    versions = f"pyts {metadata.version('pyts')}, scipy {metadata.version('scipy')}, pandas {pd.__version__}"
    told = {"warping": middle - began, "threshold": end - middle, "distance": float(distance.sum()), "level": level, "versions": versions}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
