"""Backtest: every forecast made at past origins beside what came, and the tables that compare the models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import metrics
from .clock import Clock
from .errors import TaskError, nearest
from .frames import html_table, to_frame
from .outcome import Part, band_levels, band_probs
from .panel import Names

Values = Float[Tensor, "cut series horizon target"]
By = Literal["origin", "series", "step", "target"]
AXIS = {"origin": 0, "series": 1, "step": 2, "target": 3}


@dataclass(frozen=True, eq=False)
class Backtest:
    """`truth` is NaN where nothing was observed; `point` and `quantiles` hold each model's forecasts in the user's units;
    `cutoff` is the clock step of the last step each forecast could see. `scale` and `square` are the seasonal naive's
    mean absolute and squared error before the first cut (the denominators of MASE and RMSSE)."""

    truth: Values
    point: Mapping[str, Values]
    quantiles: Mapping[str, Float[Tensor, "cut series horizon target prob"]]
    probs: tuple[float, ...]
    cutoff: Int[Tensor, "cut series"]
    clock: Clock
    series: tuple[str, ...]
    targets: tuple[str, ...]
    names: Names
    parts: tuple[Part, ...]
    scale: Float[Tensor, "series target"]
    square: Float[Tensor, "series target"]
    baseline: str = "seasonal_naive"
    seconds: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the rows, simple methods first."""
        return tuple(self.point)

    @property
    def levels(self) -> tuple[float, ...]:
        """Bands, in percent, that were forecast."""
        return band_levels(self.probs)

    def times(self) -> np.ndarray:
        """Wall time of every forecast step, datetime64[s] [cut, series, horizon]."""
        return self.clock.local((self.cutoff[..., None] + torch.arange(1, self.truth.shape[2] + 1)).numpy())

    def frame(self) -> Any:
        """One row a forecast: unique_id, ds, cutoff, y, a column a model with -lo-80 and -hi-80, as utilsforecast.evaluate
        takes it. With several targets each is a series of its own, named series/target."""
        return to_frame(self.columns(), self.names.native)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `frame()` as arrays; steps where nothing was observed are left out."""
        seen = self.truth.isfinite()
        cut, series, step, target = seen.nonzero(as_tuple=True)
        names = np.array([[s if len(self.targets) == 1 else f"{s}/{t}" for t in self.targets] for s in self.series], dtype=object)
        origin = self.cutoff[cut, series]
        columns: dict[str, np.ndarray] = {
            self.names.id: names[series.numpy(), target.numpy()],
            self.names.time: self.clock.local((origin + step + 1).numpy()),
            "cutoff": self.clock.local(origin.numpy()),
            "y": self.truth[seen].numpy(),
        }
        for model in self.models:
            columns[model] = self.point[model][seen].numpy()
            for level in self.levels:
                for side, values in zip(("lo", "hi"), self.band(model, level), strict=True):
                    columns[f"{model}-{side}-{level:g}"] = values[seen].numpy()
        return columns

    def band(self, model: str, level: int | float) -> tuple[Values, Values]:
        """Lower and upper end of a model's central band that holds `level` percent."""
        low, high = ([i for i, p in enumerate(self.probs) if abs(p - want) < 1e-9] for want in band_probs(level))
        if not low or not high:
            raise TaskError(f"no {level:g} % band in this backtest; it has {', '.join(f'{x:g}' for x in self.levels)}: ask backtest for level=")
        return self.quantiles[model][..., low[0]], self.quantiles[model][..., high[0]]

    def scores(self, by: By | None = None) -> dict[str, dict[str, Float[Tensor, " group"]]]:
        """model → metric → value, or one value a group if `by` is given."""
        if by is not None and by not in AXIS:
            raise TaskError(f'no table by "{by}": {nearest(by, AXIS)}')
        over = tuple(a for a in range(4) if by is None or a != AXIS[by])
        every = {model: self._scores_of(model, over) for model in self.models}
        base = every.get(self.baseline)
        for found in every.values():
            found["skill"] = 1 - found["MAE"] / base["MAE"] if base else torch.full_like(found["MAE"], torch.nan)
        return {model: {name: value.reshape(-1) for name, value in found.items()} for model, found in every.items()}

    def table(self, by: By | None = None) -> Any:
        """One row a model (and group), simple methods first; skill is the share of the baseline's MAE that is gone.

        MAE, RMSE, pinball and bias are in units, MAPE and sMAPE (0 … 200) in percent, WAPE, coverage and skill shares of 1,
        MASE and RMSSE in errors of the seasonal naive before the first cut; peaks are the highest tenth of each series.
        """
        return to_frame(self.table_columns(by), self.names.native)

    def table_columns(self, by: By | None = None) -> dict[str, np.ndarray]:
        """The columns of `table()` as arrays."""
        scores = self.scores(by)
        size = len(next(iter(scores.values()))["MAE"])
        columns: dict[str, np.ndarray] = {"model": np.repeat(np.array(self.models, dtype=object), size)}
        if by is not None:
            columns[by] = np.tile(self._groups(by), len(scores))
        for metric in next(iter(scores.values())):
            columns[metric] = torch.cat([scores[model][metric] for model in self.models]).numpy()
        return columns

    def _groups(self, by: By) -> np.ndarray:
        if by == "origin":
            return self.clock.local(self.cutoff.amax(1).numpy())
        named = self.series if by == "series" else self.targets if by == "target" else range(1, self.truth.shape[2] + 1)
        return np.array(named, dtype=int if by == "step" else object)

    def _scores_of(self, model: str, over: tuple[int, ...]) -> dict[str, Tensor]:
        truth, guess = self.truth, self.point[model]
        high = metrics.peak(truth, guess, over=over, each=(1, 3))
        found = {
            "MAE": metrics.mae(truth, guess, over=over),
            "RMSE": metrics.rmse(truth, guess, over=over),
            "MAPE": metrics.mape(truth, guess, over=over),
            "sMAPE": metrics.smape(truth, guess, over=over),
            "MASE": metrics.mase(truth, guess, self.scale[:, None], over=over, each=(1, 3)),
            "RMSSE": metrics.rmsse(truth, guess, self.square[:, None], over=over, each=(1, 3)),
            "WAPE": metrics.wape(truth, guess, over=over),
        }
        if self.probs:
            losses = [metrics.pinball(truth, self.quantiles[model][..., i], p, over=over) for i, p in enumerate(self.probs)]
            found["pinball"] = torch.stack(losses).mean(0)
        if self.levels:
            found[f"coverage-{self.levels[-1]:g}"] = metrics.coverage(truth, *self.band(model, self.levels[-1]), over=over)
        return found | {"bias": metrics.bias(truth, guess, over=over), "peak_WAPE": high.wape, "peak_bias": high.bias}

    def __repr__(self) -> str:
        return f"Backtest({len(self.cutoff)} cuts × {len(self.series)} series × {self.truth.shape[2]} steps, models: {', '.join(self.models)})"

    def _repr_html_(self) -> str:
        return html_table(self.table_columns())


def naive_errors(values: Float[Tensor, "series time target"], season: int) -> tuple[Float[Tensor, "series target"], Float[Tensor, "series target"]]:
    """Mean absolute and mean squared difference to the step one season before; NaN where a series is too short for one."""
    gap = values[:, season:] - values[:, :-season]
    return gap.abs().nanmean(1), gap.square().nanmean(1)
