"""What the guidebook's loops and ours are both given: a run of three components, and errors to be scored. Needs numpy alone."""

import numpy as np

WINDOW, CHANNELS, LATENT, BATCH, CRITIC_STEPS, RATE = 10, 3, 20, 64, 5, 5e-4
ROWS = 4584  # of the guidebook's test run
SPAN = 10  # rows that are warped around every row: 2 · (SPAN // 2) + 1


def run(windows: int) -> np.ndarray:
    """[time, channel] float32 within −1 … 1, with so many windows: three waves and noise."""
    time, noise = np.arange(windows + WINDOW - 1), np.random.default_rng(0).standard_normal((windows + WINDOW - 1, CHANNELS))
    waves = np.stack([np.sin(time / period) for period in (20, 33, 7)], 1)
    return np.clip(0.8 * waves + 0.02 * noise, -1, 1).astype(np.float32)


def courses() -> tuple[np.ndarray, np.ndarray]:
    """What was seen and what was expected, [time] float64."""
    random = np.random.default_rng(1)
    seen = np.sin(np.arange(ROWS) / 20) + 0.05 * random.standard_normal(ROWS)
    return seen, np.sin(np.arange(ROWS) / 20) + 0.05 * random.standard_normal(ROWS)


def errors() -> np.ndarray:
    """An error series [time] float64 with two faults."""
    found = np.abs(np.random.default_rng(2).standard_normal(ROWS))
    found[1200:1240] += 8.0
    found[3000:3005] += 5.0
    return found
