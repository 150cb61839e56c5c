"""The world of a network (simulated): daily demand of customers of whom some follow others, with known edges, delays and strengths."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..clock import Clock
from ..errors import TaskError
from ..frames import to_frame
from ..panel import Panel

BEFORE = 100  # days simulated before the first one shown, so that all that follows has begun
OWN: Final = 0.3  # of a customer's deviation, what is left of it a day later
AGAINST = 0.2  # of the edges, those that take demand away


@dataclass(frozen=True, eq=False)
class NetworkWorld:
    """Demand = level × weekday + size × d, with d_i(t) = 0.3 d_i(t − 1) + Σ weight_ij · d_j(t − lag_ij) + news_i(t).

    Row i, column j: what customer i takes over from customer j; a weight of 0 is no edge. Nobody's deviation can be foreseen but
    by its own last one and those of whom the customer follows, `lag` days before.
    """

    panel: Panel  # units; one series a customer
    weight: Float[Tensor, "customer source"]
    lag: Int[Tensor, "customer source"]
    level: Float[Tensor, " customer"]
    size: Float[Tensor, " customer"]
    week: Float[Tensor, "customer 7"]
    simulated: bool = True

    @property
    def edges(self) -> Any:
        """The true edges as a frame: unique_id, neighbour (whom it follows), lag in days, weight."""
        at, source = self.weight.nonzero(as_tuple=True)
        names = np.array(self.panel.series, dtype=object)
        weight, lag = self.weight[at, source].numpy(), self.lag[at, source].numpy()
        return to_frame({"unique_id": names[at.numpy()], "neighbour": names[source.numpy()], "lag": lag, "weight": weight}, "polars")

    def expected(self, day: int, horizon: int) -> Float[Tensor, "customer step"]:
        """The best forecast there can be of the days after this one: the truth without the news that are still to come."""
        back = int(self.lag.max())
        usual = self.level[:, None] * self.week[:, torch.arange(day + 1 + horizon) % 7]
        known = ((self.panel.values[..., : day + 1, 0].double() - usual[:, : day + 1]) / self.size[:, None])[:, -back:]
        every = _followed(known, torch.zeros(len(known), horizon, dtype=known.dtype), self.weight, self.lag)
        return usual[:, day + 1 :] + self.size[:, None] * every[:, -horizon:]


def _followed(
    known: Float[Tensor, "customer past"], news: Float[Tensor, "customer step"], weight: Float[Tensor, "customer source"], lag: Int[Tensor, "customer source"]
) -> Float[Tensor, "customer time"]:
    """Deviations known so far, and after them those that follow from them and from the news, day by day."""
    past = known.shape[1]
    every = torch.cat([known, torch.zeros_like(news)], 1)
    source = torch.arange(len(known)).expand_as(lag)
    for step in range(news.shape[1]):
        now = past + step
        every[:, now] = OWN * every[:, now - 1] + (weight * every[source, now - lag]).sum(1) + news[:, step]
    return every


def network(seed: int = 0, *, customers: int = 40, days: int = 600, followers: float = 0.75, strength: float = 0.65) -> NetworkWorld:
    """A simulated network drawn by its seed: a share `followers` of the customers follow one to three others each, 3 to 10 days later, with
    weights that add up to `strength` in size; one edge in five takes demand away. TaskError for sizes it is not made for."""
    for name, value, least, most in (("customers", customers, 2, 5000), ("days", days, 60, 5000)):
        if not least <= value <= most:
            raise TaskError(f"worlds.network: {name} must be from {least} to {most}; got {value}")
    if not 0 <= followers <= 1 or not 0 <= strength < 1 - OWN:
        raise TaskError(f"worlds.network: followers is a share from 0 to 1, strength from 0 to below {1 - OWN:g}; got {followers:g} and {strength:g}")
    draw = np.random.default_rng([seed, 12])
    weight, lag = np.zeros((customers, customers)), np.ones((customers, customers), dtype=int)
    for one in draw.permutation(customers)[: round(followers * customers)]:
        others = draw.choice(np.delete(np.arange(customers), one), min(int(draw.integers(1, 4)), customers - 1), replace=False)
        share = draw.dirichlet(np.full(len(others), 8.0)) * strength
        weight[one, others] = share * np.where(draw.random(len(others)) < AGAINST, -1, 1)
        lag[one, others] = draw.integers(3, 11, len(others))
    level, size = np.exp(draw.normal(4, 0.5, customers)), draw.uniform(0.1, 0.2, customers)
    # Who follows has fewer news of its own, or nobody's demand would hang on another's.
    news = draw.normal(size=(customers, BEFORE + days)) * np.where((weight != 0).any(1), 0.3, 1.0)[:, None]
    week = 1 + draw.uniform(0.05, 0.2, (customers, 1)) * np.sin(2 * np.pi * (np.arange(7) + draw.uniform(0, 7, (customers, 1))) / 7)
    truth = tuple(torch.from_numpy(x) for x in (weight, lag, level, size * level, week))
    start = torch.zeros(customers, 10, dtype=torch.float64)
    deviation = _followed(start, torch.from_numpy(news), truth[0], truth[1])[:, 10 + BEFORE :]
    units = truth[2][:, None] * truth[4][:, torch.arange(days) % 7] + truth[3][:, None] * deviation
    names = tuple(f"simulated {k}" for k in range(customers))
    clock = Clock(np.datetime64("2023-01-02"), "D")
    panel = Panel(units.float()[..., None], torch.zeros(0, 0), torch.zeros(customers, dtype=torch.long), clock, names, ("units",))
    return NetworkWorld(panel, truth[0], truth[1], truth[2], truth[3], truth[4])
