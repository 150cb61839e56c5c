"""Statistical: exponential smoothing, ARIMA and Theta of statsforecast, fitted anew on each window's own history."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Generator, Tensor, nn

from ..errors import TaskError
from ..nets.layers import Shape
from ..spec import Spec
from .extras import needed

Kind = Literal["AutoETS", "AutoARIMA", "Theta"]


class Statistical(Spec):
    """One model a series and origin, chosen and fitted by statsforecast on the last `history` steps before the origin.

    `season` in steps; None takes the clock's. AutoARIMA reads the known channels, the others the target alone. Nothing is
    learned before a forecast is asked for: a file holds the recipe. The bands are the method's own.
    """

    kind: Kind = "AutoETS"
    season: int | None = Field(default=None, ge=1)
    history: int = Field(default=1500, ge=4)

    def build(self, shape: Shape, streams: Sequence[Generator]) -> nn.Module:
        """A net without weights."""
        return StatisticalNet(self, shape)


class StatisticalNet(nn.Module):
    """Each window's target fitted and continued; the steps before the first observed one are left out."""

    def __init__(self, spec: Statistical, shape: Shape) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: None = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """[1, example, horizon, target, 1 + level]: the mean, then the quantiles at the task's levels. TaskError if a gradient is asked for."""
        if past.requires_grad or future.requires_grad:
            raise TaskError(f"{self.spec.kind} has no gradients: explain it by a perturbation method")
        flat = past.flatten(0, 1).double().numpy(), observed.flatten(0, 1).numpy(), future.flatten(0, 1).double().numpy()
        found = np.stack([np.stack([self.one(*line, at) for at in range(self.shape.targets)], 1) for line in zip(*flat, strict=True)])
        return torch.from_numpy(found).to(past.dtype).view(*past.shape[:2], *found.shape[1:])

    def one(self, past: np.ndarray, observed: np.ndarray, future: np.ndarray, target: int) -> np.ndarray:
        """One target of one window: [horizon, slot]."""
        seen = observed[:, target].nonzero()[0]
        horizon, levels = self.shape.horizon, self.shape.probs
        if len(seen) < 2:
            return np.full((horizon, 1 + len(levels)), past[-1, target])
        line = past[seen[0] :, target]
        if np.ptp(line) == 0:  # what smoothing cannot start from, and what needs none
            return np.full((horizon, 1 + len(levels)), line[-1])
        bands = sorted({round(abs(1 - 2 * p) * 100, 6) for p in levels if p != 0.5})
        told = self._model(len(line)).forecast(y=line, h=horizon, level=bands or None, **self._beside(past[seen[0] :], future))
        return np.stack([_slot(told, p) for p in (0.5, *levels)], 1)

    def _model(self, length: int) -> Any:
        models = needed("statsforecast.models", self.spec.kind)
        # With less than two seasons of history there is no season to fit.
        season = self.spec.season or 1
        kinds = {"AutoETS": models.AutoETS, "AutoARIMA": models.AutoARIMA, "Theta": models.AutoTheta}
        return kinds[self.spec.kind](season_length=season if length >= 2 * season + 2 else 1)

    def _beside(self, past: np.ndarray, future: np.ndarray) -> dict[str, np.ndarray]:
        """Known channels for AutoARIMA, without those that the others and a constant already tell."""
        known = past[:, past.shape[1] - future.shape[1] :]
        if self.spec.kind != "AutoARIMA" or not known.shape[1]:
            return {}
        keep = independent(known)
        return {"X": known[:, keep], "X_future": future[:, keep]} if keep else {}


def independent(columns: np.ndarray) -> list[int]:
    """Columns that add something to a constant and the columns before them, as least squares needs it."""
    kept: list[int] = []
    for at in range(columns.shape[1]):
        basis = np.column_stack([np.ones(len(columns)), columns[:, [*kept, at]]])
        if np.linalg.matrix_rank(basis) == basis.shape[1]:
            kept.append(at)
    return kept


def _slot(told: dict[str, Any], prob: float) -> np.ndarray:
    """The mean as the median: what these methods' own bands are centred on."""
    level = round(abs(1 - 2 * prob) * 100, 6)
    return np.asarray(told["mean"] if prob == 0.5 else told[f"{'lo' if prob < 0.5 else 'hi'}-{_named(told, level)}"], dtype=float)


def _named(told: dict[str, Any], level: float) -> str:
    """How this method spells a level: 80, 80.0 …"""
    spelt = {name.partition("-")[2] for name in told if name.startswith("lo-")}
    return min(spelt, key=lambda text: abs(float(text) - level))
