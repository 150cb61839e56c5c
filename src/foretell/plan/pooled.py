"""Pooled: numbers of many items, each known with an error, drawn towards what they share."""

from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Generator, Tensor

LEAST = 1e-9


class Pooled(NamedTuple):
    """A number of every item: its posterior mean, the deviation of what is the item's own and of what all share."""

    mean: Float[Tensor, " series"]
    own: Float[Tensor, " series"]
    shared: Float[Tensor, " series"]
    between: float  # deviation between items

    @classmethod
    def of(cls, found: Float[Tensor, " series"], error: Float[Tensor, " series"], *, pool: bool = True) -> Self:
        """Estimates with their standard errors (infinity: nothing known) drawn towards their mean as far as the items differ less than
        their errors would make them: random effects of DerSimonian & Laird (1986), doi 10.1016/0197-2456(86)90046-2. An item that
        nothing is known of has the mean, and the spread between items. Without `pool`, or from a single item, each keeps its own.
        """
        known = error.isfinite()
        if not pool or int(known.sum()) < 2:
            return cls(found.where(known, 0.0), error.where(known, 0.0), torch.zeros_like(found), 0.0)
        x, v = found[known], error[known].square().clamp(min=LEAST**2)
        w = 1 / v
        excess = (w * (x - (w * x).sum() / w.sum()).square()).sum() - (len(x) - 1)
        between = (excess / (w.sum() - w.square().sum() / w.sum())).clamp(min=0)
        w = 1 / (v + between)
        middle, shared = (w * x).sum() / w.sum(), 1 / w.sum()
        trust = torch.where(known, between / (between + error.square().clamp(min=LEAST**2)), 0.0)
        own = torch.where(known, trust * error.where(known, 0.0).square(), between)
        mean = middle + trust * (found.where(known, middle) - middle)
        return cls(mean, own.sqrt(), (1 - trust) * shared.sqrt(), float(between.sqrt()))

    @classmethod
    def around(cls, deviation: Float[Tensor, " series"]) -> Self:
        """Zero for every item, with these deviations of its own."""
        none = torch.zeros_like(deviation)
        return cls(none, deviation, none, 0.0)

    def widened(self, each: float) -> Self:
        """With a deviation added that one case has from the item's others."""
        return self._replace(own=(self.own.square() + each**2).sqrt())

    def drawn(self, count: int, draw: Generator) -> Float[Tensor, "draw series"]:
        """Normal draws, half of them the mirror of the others and each item's of its exact deviation, so that few of them do."""
        own = torch.randn(count // 2, len(self.mean), generator=draw, dtype=torch.float64)
        shared = torch.randn(count // 2, 1, generator=draw, dtype=torch.float64)
        own, shared = (z / z.square().mean(0).sqrt().clamp(min=LEAST) for z in (own, shared))
        away = self.own * own + self.shared * shared
        return self.mean + torch.cat([away, -away])
