"""The world of drivers (simulated): sales of which it is known, day by day and in units, what price, event, an earlier campaign and the week add."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from ..clock import Clock
from ..errors import TaskError
from ..panel import Panel


@dataclass(frozen=True, eq=False)
class DriversWorld:
    """Sales = level + `effect["week"]` + `effect["price"]` + `effect["event"]` + `effect["reach"]` + noise, each effect [series, time] in units
    and 0 at the usual value of its channel. A price above the usual costs less and less the higher it is (tanh); an event adds
    a fixed number; the reach of a campaign acts `lag` days later, and is never known ahead."""

    panel: Panel  # sales, price, event, reach
    effect: Mapping[str, Float[torch.Tensor, "series time"]]
    usual: Mapping[str, float]
    level: Float[torch.Tensor, " series"]
    lag: int
    simulated: bool = True


def drivers(seed: int = 0, *, series: int = 4, days: int = 500, lag: int = 7, noise: float = 1.0) -> DriversWorld:
    """A world drawn by its seed. With a horizon no longer than `lag`, all that acts on a forecast can be known at its origin; `noise` is the
    deviation of a day's sales in units. TaskError for sizes it is not made for."""
    for name, value, least, most in (("series", series, 1, 1000), ("days", days, 60, 5000), ("lag", lag, 1, 28)):
        if not least <= value <= most:
            raise TaskError(f"worlds.drivers: {name} must be from {least} to {most}; got {value}")
    draw = np.random.default_rng([seed, 11])
    level = draw.uniform(80, 120, (series, 1))
    price = 5 + draw.normal(0, 0.6, (series, days))
    event = (draw.random((series, days)) < 0.12).astype(float)
    reach = draw.normal(10, 3, (series, lag + days))
    effect = {
        "week": 6 * np.sin(2 * np.pi * (np.arange(days) % 7) / 7) * np.ones((series, 1)),
        "price": -12 * np.tanh((price - 5) / 0.8),
        "event": 18 * event,
        "reach": 2.5 * (reach[:, :days] - 10),
    }
    sales = level + sum(effect.values()) + noise * draw.normal(size=(series, days))
    values = torch.from_numpy(np.stack([sales, price, event, reach[:, lag:]], -1)).float()
    names = tuple(f"simulated {k}" for k in range(series))
    clock = Clock(np.datetime64("2023-01-02"), "D")
    panel = Panel(values, torch.zeros(0, 0), torch.zeros(series, dtype=torch.long), clock, names, ("sales", "price", "event", "reach"))
    told = {name: torch.from_numpy(value) for name, value in effect.items()}
    return DriversWorld(panel, told, {"price": 5.0, "event": 0.0, "reach": 10.0}, torch.from_numpy(level[:, 0]), lag)
