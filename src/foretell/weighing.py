"""weighing: what a PeriodKernel makes of each series: its periods and how they count, how its other channels count, its test loss."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .forecaster import Forecaster
from .nets import PeriodKernel
from .panel import Panel
from .scoreboard import Backtest

LOSSES = ("MAE", "RMSE")


def weighing(model: Forecaster, panel: Panel, backtest: Backtest | None = None, name: str = "") -> dict[str, np.ndarray]:
    """A row a series: `period_1`, `share_1` … (steps, strongest at the start first; shares add up to 1; NaN for none), `α`, a
    column `weight <channel>` for each other channel, which add up to 1 over the last window of the panel, and the test's losses
    of the row `name`. Empty for any other net, and for an ensemble of members.

    A channel's weight is the net's own: a softmax of what it learned, times the share of steps at which the channel is not zero.
    """
    if not isinstance(model.net, PeriodKernel) or (len(model.members) > 1 and not model.per_series):
        return {}
    panel = model.view(panel)
    rows = torch.tensor([model.series.index(s) for s in panel.series]) if model.per_series else torch.zeros(len(panel), dtype=torch.long)
    inner = "net." if "alpha" in model.weights else ""
    own = {part: model.weights[f"{inner}{part}"].cpu()[rows] for part in ("length", "strength", "auxiliary", "span", "zero")}
    none = own["length"] == 0
    share = own["strength"].masked_fill(none, -torch.inf).softmax(-1).masked_fill(none, torch.nan)
    period = own["length"].double().masked_fill(none | share.isnan(), torch.nan)
    columns = {panel.names.id: np.array(panel.series, dtype=object)}
    for at in range(share.shape[1]):
        columns |= {f"period_{at + 1}": period[:, at].numpy(), f"share_{at + 1}": share[:, at].numpy()}
    if inner:
        columns["α"] = model.weights["alpha"].cpu()[rows].numpy()
    weight = _weights(model, panel, own)
    columns |= {f"weight {channel}": weight[:, at].numpy() for at, channel in enumerate(model.roles.features[1:])}
    if backtest and name in backtest.models and backtest.series == panel.series:
        found = backtest.scores("series")[name]
        columns |= {f"test {loss}": found[loss].numpy() for loss in LOSSES}
    return columns


def _weights(model: Forecaster, panel: Panel, own: dict[str, Tensor]) -> Float[Tensor, "series channel"]:
    """How each channel beside the target counts in the window that ends with the last observed target."""
    last = panel.last(*model.roles.target)
    source = model.source(panel, int(last.min()), int(last.max()))
    past = source.inputs(torch.arange(len(panel)), last - source.panel.start).past[..., 1:]
    inside = torch.arange(past.shape[1], 0, -1) <= own["span"][:, None]
    ratio = ((past != own["zero"][:, None]) & inside[..., None]).sum(1) / own["span"][:, None]
    return (own["auxiliary"] * ratio).softmax(-1)
