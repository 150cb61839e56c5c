"""The made-up series every peer is given, and the options every peer's script takes. Needs numpy alone."""

import argparse

import numpy as np

CONTEXT, HORIZON, FEATURES, BATCH = 168, 24, 6, 64


def rows_for(windows: int) -> int:
    """So many steps have so many windows."""
    return windows + CONTEXT + HORIZON - 1


def made_up(rows: int) -> np.ndarray:
    """[time, feature] float32: a daily and a weekly wave with noise, then features that follow it loosely."""
    time, noise = np.arange(rows), np.random.default_rng(0).standard_normal((rows, FEATURES))
    target = np.sin(time * 2 * np.pi / 24) + 0.5 * np.sin(time * 2 * np.pi / 168) + 0.2 * noise[:, 0]
    others = [0.5 * np.roll(target, lag) + 0.3 * noise[:, lag] for lag in range(1, FEATURES)]
    return np.stack([target, *others], 1).astype(np.float32)


def windows_asked(about: str | None) -> int:
    """--windows: how many are trained on in the epoch that is timed, a whole number of batches."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--windows", type=int, required=True)
    return int(parser.parse_args().windows) // BATCH * BATCH


PAST, FUTURE, YEAR = ("temperature", "humidity", "wind"), 5, 8736


def year() -> tuple[np.ndarray, str]:
    """[time, y and PAST] of a year of hours, the size of a city's load with its weather; and when it starts."""
    return made_up(YEAR)[:, : 1 + len(PAST)], "2017-01-01"
