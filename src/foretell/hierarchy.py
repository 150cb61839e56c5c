"""Hierarchy: forecasts of many series summed bottom-up by their labels, and a backtest's table by label."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .errors import TaskError, nearest
from .frames import to_frame
from .outcome import Forecast
from .panel import Panel
from .scoreboard import Backtest

CORRELATION = 0.1  # between the errors of two series of a sum, where nothing else is known


def sums(forecast: Forecast, panel: Panel, by: str | Sequence[str] = (), *, correlation: float = CORRELATION) -> Forecast:
    """The forecast of every sum over the series that share these labels; `by=()` sums all. Coherent: point forecasts of sums are sums of
    points, at every level the same, so ask the items for means (`Training(loss="mse")`), which add up as medians do not.

    Quantiles of a sum are no sums of quantiles: their distances from the point add as errors do in which any two series have
    this `correlation` (0: independent, 1: all miss together). A series without a forecast leaves its sum without one.
    """
    if not 0 <= correlation <= 1:
        raise TaskError(f"correlation={correlation:g} between the errors of two series must lie between 0 and 1")
    names, member = _groups(panel, forecast.series, (by,) if isinstance(by, str) else tuple(by))
    origin = torch.stack([forecast.origin[member == g][0] for g in range(len(names))])
    late = (forecast.origin != origin[member]).nonzero()[:, 0].tolist()
    if late:
        one = late[0]
        when = [forecast.clock.local(int(step)) for step in (forecast.origin[one], origin[member[one]])]
        raise TaskError(f'series "{forecast.series[one]}" is forecast from {when[0]}, others of its sum from {when[1]}: predict with origin= to sum them')
    point = _added(forecast.values, member, len(names))
    away = forecast.quantiles - forecast.values[..., None]
    size = _added(away.square(), member, len(names)) * (1 - correlation) + _added(away, member, len(names)).square() * correlation
    side = _added(away, member, len(names)).sign()
    quantiles = (point[..., None] + side * size.sqrt()).cummax(-1).values
    # The sum is above zero where every item is: the lower end cannot fall below the sum of the lower ends, nor the upper rise above theirs.
    ends = _added(forecast.quantiles, member, len(names))
    quantiles = torch.where(side < 0, torch.maximum(quantiles, ends), torch.minimum(quantiles, ends))
    return replace(forecast, values=point, quantiles=quantiles, origin=origin, series=names)


def table_by(backtest: Backtest, panel: Panel, by: str | Sequence[str]) -> Any:
    """One row a model and group of series: the backtest's metrics over the series that share these labels, worst group of the last model first."""
    return to_frame(columns_by(backtest, panel, by), backtest.names.native)


def columns_by(backtest: Backtest, panel: Panel, by: str | Sequence[str]) -> dict[str, np.ndarray]:
    """The columns of `table_by` as arrays."""
    names, member = _groups(panel, backtest.series, (by,) if isinstance(by, str) else tuple(by))
    found = {name: only(backtest, (member == g).nonzero()[:, 0]).scores() for g, name in enumerate(names)}
    order = sorted(names, key=lambda n: -float(found[n][backtest.models[-1]]["MASE"].nan_to_num(-1.0)))
    rows = [(name, model) for name in order for model in backtest.models]
    columns = {"group": np.array([n for n, _ in rows], object), "model": np.array([m for _, m in rows], object)}
    columns["series"] = np.array([int((member == names.index(n)).sum()) for n, _ in rows])
    metrics = list(found[names[0]][backtest.models[0]])
    return columns | {metric: np.array([float(found[n][m][metric]) for n, m in rows]) for metric in metrics}


def ranked(backtest: Backtest, model: str | None = None, metric: str = "MASE") -> list[tuple[str, float]]:
    """Every series with its error, the worst first; those without one are left out. `model` None is the last row."""
    name = model or backtest.models[-1]
    if name not in backtest.models:
        raise TaskError(f'no model "{name}" in this backtest: {nearest(name, backtest.models)}')
    scores = backtest.scores(by="series")[name]
    if metric not in scores:
        raise TaskError(f'no metric "{metric}": {nearest(metric, scores)}')
    found = [(series, value) for series, value in zip(backtest.series, scores[metric].tolist(), strict=True) if value == value]
    return sorted(found, key=lambda pair: -pair[1])


def _groups(panel: Panel, series: Sequence[str], by: tuple[str, ...]) -> tuple[tuple[str, ...], Int[Tensor, " series"]]:
    """Names of the groups in the order they are met, and the group of each series."""
    for label in by:
        if label not in panel.labels:
            raise TaskError(f'no label "{label}" in this panel: {nearest(label, panel.labels) if panel.labels else "it has none"}')
    place = {name: i for i, name in enumerate(panel.series)}
    strange = next((s for s in series if s not in place), None)
    if strange is not None:
        raise TaskError(f'series "{strange}" is not in this panel, whose labels say what it belongs to')
    told = ["/".join(str(panel.labels[label][place[s]]) for label in by) or "total" for s in series]
    names = tuple(dict.fromkeys(told))
    at: Mapping[str, int] = {name: i for i, name in enumerate(names)}
    return names, torch.tensor([at[name] for name in told])


def _added(values: Float[Tensor, "series *rest"], member: Int[Tensor, " series"], count: int) -> Float[Tensor, "group *rest"]:
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, member, values)


def only(backtest: Backtest, rows: Int[Tensor, " some"]) -> Backtest:
    """The backtest of these series alone."""
    point = {name: x[:, rows] for name, x in backtest.point.items()}
    quantiles = {name: x[:, rows] for name, x in backtest.quantiles.items()}
    series, truth, cutoff = tuple(backtest.series[i] for i in rows.tolist()), backtest.truth[:, rows], backtest.cutoff[:, rows]
    scale, square = backtest.scale[rows], backtest.square[rows]
    return replace(backtest, truth=truth, point=point, quantiles=quantiles, cutoff=cutoff, series=series, scale=scale, square=square)
