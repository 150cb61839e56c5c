"""Forecast: what a fitted model says of the future, in the user's units; and the bands' levels as percents and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .clock import Clock
from .errors import TaskError
from .frames import html_table, to_frame
from .panel import NAMES, Names


class Part(NamedTuple):
    """A part of the data in words: the clock steps its goals lie on, and how many windows it gave."""

    name: str
    first: int
    last: int
    rows: int


@dataclass(frozen=True, eq=False)
class Forecast:
    """Point forecast and quantiles in the user's units; `origin` is the clock step of each series' last observed step.

    NaN where a series had too little history; `notes` says so. `ahead` has the steps of each series, if they differ: beyond them it is
    NaN too, and tables have no row.
    """

    values: Float[Tensor, "series horizon target"]
    quantiles: Float[Tensor, "series horizon target prob"]
    probs: tuple[float, ...]
    origin: Int[Tensor, " series"]
    clock: Clock
    series: tuple[str, ...]
    targets: tuple[str, ...]
    names: Names = NAMES
    notes: tuple[str, ...] = ()
    model: str = "foretell"
    ahead: Int[Tensor, " series"] | None = None

    def times(self) -> np.ndarray:
        """Wall time of every forecast step, datetime64[s] [series, horizon]."""
        return self.clock.local((self.origin[:, None] + torch.arange(1, self.values.shape[1] + 1)).numpy())

    def band(self, level: int | float) -> tuple[Float[Tensor, "series horizon target"], Float[Tensor, "series horizon target"]]:
        """Lower and upper end of the central band that holds `level` percent."""
        low, high = band_probs(level)
        return self.quantiles[..., self._at(low)], self.quantiles[..., self._at(high)]

    @property
    def levels(self) -> tuple[float, ...]:
        """Bands, in percent, that this forecast can show."""
        return band_levels(self.probs)

    def frame(self) -> Any:
        """One row a series and step: unique_id, ds, foretell, foretell-lo-80, foretell-hi-80; with several targets a group of
        columns each, `foretell` then `foretell:<target>`. In the kind of frame the user came with."""
        return to_frame(self.columns(), self.names.native)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `frame()` as arrays."""
        horizon = self.values.shape[1]
        columns: dict[str, np.ndarray] = {
            self.names.id: np.repeat(np.array(self.series, dtype=object), horizon),
            self.names.time: self.times().reshape(-1),
        }
        for at, target in enumerate(self.targets):
            name = self.model if len(self.targets) == 1 else f"{self.model}:{target}"
            columns[name] = self.values[:, :, at].reshape(-1).numpy()
            for level in self.levels:
                low, high = self.band(level)
                columns[f"{name}-lo-{level:g}"] = low[:, :, at].reshape(-1).numpy()
                columns[f"{name}-hi-{level:g}"] = high[:, :, at].reshape(-1).numpy()
        if self.ahead is None:
            return columns
        inside = (torch.arange(horizon) < self.ahead[:, None]).reshape(-1).numpy()
        return {name: column[inside] for name, column in columns.items()}

    def _at(self, prob: float) -> int:
        found = [i for i, p in enumerate(self.probs) if abs(p - prob) < 1e-9]
        if not found:
            raise TaskError(f"no {abs(1 - 2 * prob):.0%} band here; this forecast has {', '.join(f'{x:g}' for x in self.levels)}: ask predict for level=")
        return found[0]

    def _repr_html_(self) -> str:
        return html_table(self.columns())


def band_probs(level: int | float) -> tuple[float, float]:
    """80 → (0.1, 0.9)."""
    if not 0 < level < 100:
        raise TaskError(f"a band's level is a percentage between 0 and 100, like 80; got {level:g}")
    return round(0.5 - level / 200, 9), round(0.5 + level / 200, 9)


def probs_of(level: Sequence[int | float] | float) -> tuple[float, ...]:
    """80 or [80, 95] → the probabilities of the bands' ends, ascending."""
    every = (level,) if isinstance(level, int | float) else tuple(level)
    return tuple(sorted({p for one in every for p in band_probs(one)}))


def band_levels(probs: tuple[float, ...]) -> tuple[float, ...]:
    """(0.1, 0.5, 0.9) → (80,): every pair that stands the same way off the median."""
    return tuple(sorted(round(100 - 200 * p, 6) for p in probs if p < 0.5 and any(abs(1 - p - q) < 1e-9 for q in probs)))
