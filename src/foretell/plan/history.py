"""History: what a model would have said of past steps, promoted and not, by members that did not learn from them."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..forecaster import Forecaster
from ..halves import Halves
from ..panel import Panel
from ..task import Source
from .ahead import ahead, before
from .surface import surface

AROUND = 14 * 86_400  # seconds to each side within which the highest price counts as the full one


class Past(NamedTuple):
    """Steps of the history, forecast from origins before them: what was, what was told, what was told had there been no discount, and the
    discount. NaN where there is nothing to compare."""

    true: Float[Tensor, "series window step"]
    told: Float[Tensor, "series window step"]
    bare: Float[Tensor, "series window step"]
    depth: Float[Tensor, "series window step"]


def past_forecasts(model: Forecaster, panel: Panel, channel: str, target: str, origin: int, *, price: bool) -> Past | None:
    """A horizon after another, back from the origin, as far as there is a context; None where there is none."""
    horizon, context, windows = model.task.horizon, model.back, []
    depth, full = depths(panel, channel, origin, price=price)
    halves = _halves(model, panel)
    for at in range(origin - horizon, int(panel.start.min()) + context - 2, -horizon):
        rows = _complete(model, panel, at, context).nonzero()[:, 0]
        if len(rows):
            told = _told(model, panel, channel, target, at, rows, cut(full, panel, at, horizon)[rows], halves)
            windows.append(torch.cat([told, cut(depth, panel, at, horizon)[None]]))
    return Past(*torch.stack(windows, 2)) if windows else None


def depths(panel: Panel, channel: str, origin: int, *, price: bool) -> tuple[Float[Tensor, "series time"], Float[Tensor, "series time"]]:
    """The discount of every step up to the origin as a share, NaN where not observed, and what the channel would hold without it: 0, or of a
    price the highest of the four weeks around."""
    values, observed = before(panel, channel, origin)
    seen = values.where(observed, torch.nan).double()
    if not price:
        return seen, torch.zeros_like(seen)
    reach = max(1, round(AROUND / panel.clock.seconds))
    least = torch.finfo(seen.dtype).min
    top = torch.nn.functional.max_pool1d(seen.nan_to_num(nan=least)[:, None], 2 * reach + 1, 1, reach)[:, 0]
    return 1 - seen / top, top


def cut(values: Float[Tensor, "series time"], panel: Panel, at: int, horizon: int) -> Float[Tensor, "series step"]:
    """The steps after an origin; NaN outside the data."""
    row = at + torch.arange(1, horizon + 1) - panel.start[:, None]
    inside = (row >= 0) & (row < values.shape[1])
    return values.gather(1, row.clamp(0, values.shape[1] - 1)).where(inside, torch.nan)


def _complete(model: Forecaster, panel: Panel, at: int, context: int) -> Bool[Tensor, " series"]:
    """Series that can be forecast from this origin: what is known ahead is there, and half of the context was observed."""
    whole = panel.start <= at - context + 1
    for name in model.roles.known:
        if name in panel.channels:
            whole = whole & ahead(panel, name, at, model.task.horizon).isfinite().all(1)
    for name in model.roles.target:
        _, observed = before(panel, name, at)
        whole = whole & (observed[:, -context:].sum(1) >= context / 2)
    return whole


def _told(
    model: Forecaster, panel: Panel, channel: str, target: str, at: int, rows: Int[Tensor, " row"], full: Float[Tensor, "row step"], halves: Halves | None
) -> Float[Tensor, "kind series step"]:
    """True, told, and told without any discount; NaN for series that cannot be forecast from here."""
    horizon, some = model.task.horizon, panel.pick(*(panel.series[k] for k in rows.tolist()))
    seen = surface(model, some, [channel], origin=at, target=target)
    plans = torch.zeros(2, horizon, len(seen.columns), dtype=torch.float64)
    for line, values in zip(plans, (ahead(some, channel, at, horizon), full), strict=True):
        line[:, seen.column[:, 0]] = values.double().T
    with torch.no_grad():
        out = seen.outcome(plans).double()  # [plan, member, series, step]
    found = torch.full((3, len(panel), horizon), torch.nan, dtype=torch.float64)
    found[0, rows] = ahead(some, target, at, horizon).double()
    found[1:, rows] = (out * _fair(halves, seen.members, at + torch.arange(1, horizon + 1) - int(panel.start.min()))).sum(1)
    return found


def _fair(halves: Halves | None, members: int, step: Int[Tensor, " step"]) -> Float[Tensor, "member 1 step"]:
    """Each member's share in what is told of a step: those that learned from other steps, alike; all where no member did."""
    fair = torch.ones(members, len(step), dtype=torch.float64)
    if halves is not None and members == len(halves.kept):
        fair = (~halves.kept[:, step // halves.size]).double()
        fair = torch.where(fair.sum(0) > 0, fair, 1.0)
    return (fair / fair.sum(0))[:, None]


def _halves(model: Forecaster, panel: Panel) -> Halves | None:
    """What each member of a net for all items learned from."""
    if not model.training.halves or model.per_series:
        return None
    view = model.view(panel)
    source = Source(view, model.roles, model.scaling_of(view), model.context, model.task.horizon)
    return Halves.of(source, model.training.seed, model.members, paired=True)
