"""The made-up item every per-item script is given. Needs numpy alone."""

import argparse

import numpy as np

CHANNELS = ("y", "price", "weekend", "cultural", "national", "religious", "sporting")
CONTEXT, BATCH = 92, 64
KERNELS = [round(k) for k in np.linspace(2, 92, 20).tolist()]  # as the notebook's item: 20 periods, the longest its context


def made_up(item: int, rows: int) -> np.ndarray:
    """[time, channel] float32: scaled sales with a weekly wave, log-differenced prices, a weekend flag, four kinds of rare events."""
    time, draw = np.arange(rows), np.random.default_rng(item)
    sales = np.sin(2 * np.pi * time / 7) + 0.5 * np.sin(2 * np.pi * time / 30) + 0.5 * draw.standard_normal(rows)
    price = np.where(draw.random(rows) < 0.05, 0.1 * draw.standard_normal(rows), 0.0)
    events = (draw.random((rows, 4)) < 0.02).astype(float)
    return np.column_stack([sales, price, time % 7 >= 5, events]).astype(np.float32)


def windows_asked(about: str | None) -> int:
    """--windows: how many an epoch trains on, a whole number of batches."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--windows", type=int, required=True)
    return int(parser.parse_args().windows) // BATCH * BATCH
