"""The world of a shop (simulated): daily units of items under discounts, with known lift, stocking up and the dip that follows."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..clock import Clock
from ..errors import TaskError
from ..panel import Panel

DEPTHS: Final = (0.1, 0.2, 0.3)
BEFORE = 60  # days simulated before the first one shown


@dataclass(frozen=True, eq=False)
class ShopWorld:
    """A simulated shop. Expected units of a day = base × weekday × e^(elasticity × discount) × e^(−pantry): what was bought on
    discount beyond the usual stays in the pantry, of which a share `keep` is left a day later, and lowers later demand."""

    panel: Panel  # units and discount; one series an item
    base: Float[Tensor, " item"]
    elasticity: Float[Tensor, " item"]
    store: Float[Tensor, " item"]  # of a day's extra units over the usual, what goes into the pantry
    keep: Float[Tensor, " item"]
    week: Float[Tensor, "item 7"]
    simulated: bool = True

    @property
    def days(self) -> int:
        """Days of history."""
        return self.panel.values.shape[1]

    def units(self, discount: Float[Tensor, "item step"]) -> Float[Tensor, "item step"]:
        """Expected units of the days after the history under these discounts; the pantry is as history left it."""
        past = self.panel.channel("discount").double()
        every = torch.cat([torch.zeros(len(past), BEFORE, dtype=past.dtype), past, discount.double()], 1)
        return _units(self, every, first=-BEFORE)[:, BEFORE + self.days :]


def _units(world: ShopWorld, discount: Float[Tensor, "item step"], first: int) -> Float[Tensor, "item step"]:
    """Day by day, from day `first` of the clock on."""
    pantry, days = torch.zeros_like(world.base), []
    for at, depth in enumerate(discount.unbind(1)):
        lift = torch.exp(world.elasticity * depth)
        days.append(world.base * world.week[:, (first + at) % 7] * lift * torch.exp(-pantry))
        pantry = world.keep * pantry + world.store * (lift - 1)
    return torch.stack(days, 1)


def shop(seed: int = 0, *, items: int = 20, days: int = 420, noise: float = 0.15) -> ShopWorld:
    """A simulated shop of so many items, drawn by its seed. Discounts of 10, 20 or 30 % run three to seven days every few weeks; `noise`
    is the deviation of a day's units as a share of what is expected."""
    for name, value, least, most in (("items", items, 1, 10_000), ("days", days, 60, 5000)):
        if not least <= value <= most:
            raise TaskError(f"worlds.shop: {name} must be from {least} to {most}; got {value}")
    draw = np.random.default_rng([seed, 9])
    base, elasticity = np.exp(draw.normal(3.5, 0.6, items)), draw.uniform(1.8, 3.6, items)
    store, keep = draw.uniform(0.05, 0.14, items), draw.uniform(0.6, 0.85, items)
    week = 1 + draw.uniform(0.1, 0.4, (items, 1)) * np.sin(2 * np.pi * (np.arange(7) + draw.uniform(0, 7, (items, 1))) / 7)
    discount = _discounts(draw, items, BEFORE + days)
    discount[:, :BEFORE] = 0
    blank = _panel(np.zeros((items, days)), discount[:, BEFORE:])
    truth = [torch.from_numpy(value) for value in (base, elasticity, store, keep, week)]
    silent = ShopWorld(blank, truth[0], truth[1], truth[2], truth[3], truth[4])
    clean = _units(silent, torch.from_numpy(discount), first=-BEFORE)[:, BEFORE:].numpy()
    heard = clean * np.exp(noise * draw.normal(size=clean.shape) - noise**2 / 2)
    return ShopWorld(_panel(heard, discount[:, BEFORE:]), truth[0], truth[1], truth[2], truth[3], truth[4])


def _discounts(draw: np.random.Generator, items: int, days: int) -> np.ndarray:
    found = np.zeros((items, days))
    for item in range(items):
        day = int(draw.integers(0, 25))
        while day < days:
            length = int(draw.integers(3, 8))
            found[item, day : day + length] = draw.choice(DEPTHS)
            day += length + int(draw.integers(10, 35))
    return found


def _panel(units: np.ndarray, discount: np.ndarray) -> Panel:
    values = torch.from_numpy(np.stack([units, discount], -1)).float()
    names = tuple(f"simulated {k}" for k in range(len(units)))
    clock = Clock(np.datetime64("2023-01-02"), "D")
    return Panel(values, torch.zeros(0, 0), torch.zeros(len(units), dtype=torch.long), clock, names, ("units", "discount"))
