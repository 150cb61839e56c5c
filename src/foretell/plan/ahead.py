"""Ahead: what is written for the steps to plan, and what was usual before them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import TaskError, nearest
from ..forecaster import Forecaster, When, step_of
from ..nets import Response
from ..panel import Panel, grown

YEAR = 31_557_600


class Written(NamedTuple):
    """A panel in which the controls have a value at every step to plan, and the channels for which the usual value stands in."""

    panel: Panel
    origin: int
    made_up: tuple[str, ...]


def checked_controls(model: Forecaster, panel: Panel, names: Sequence[str]) -> None:
    """A control is a measured channel that the model knows ahead; what is not gets its sentence."""
    if not isinstance(panel, Panel):
        raise TaskError(f"a plan is made for a Panel, got {type(panel).__name__}: make one with ft.read(...)")
    usable = [c for c in model.roles.known if c in panel.channels]
    for name in names:
        if name in usable:
            continue
        if name in model.roles.past:
            raise TaskError(f'"{name}" is known to this model up to the origin only, so a plan cannot change it: fit with known=("{name}", …)')
        if name in model.roles.target:
            raise TaskError(f'"{name}" is what the model forecasts; a control is a channel known ahead. There are: {", ".join(usable) or "none"}')
        raise TaskError(f'no channel "{name}" to plan with: {nearest(name, usable)}')


def written(model: Forecaster, panel: Panel, controls: Sequence[str], origin: When | None) -> Written:
    """The panel with a plan for these channels, and all media of a response net, after the origin: what stands there, or the mean
    of the last year where nothing does.

    All series are planned from one origin, their last observed target; TaskError if they end at different steps and none was given.
    """
    last = panel.last(*model.roles.target)
    if origin is None and int(last.min()) != int(last.max()):
        ends = panel.clock.local(torch.stack([last.min(), last.max()]).numpy())
        raise TaskError(f"the series end at different steps, from {ends[0]} to {ends[1]}: say from which origin= to plan")
    step = step_of(panel.clock, origin) if origin is not None else int(last[0])
    media = model.net.media if isinstance(model.net, Response) else ()
    absent = tuple(name for name in dict.fromkeys((*controls, *media)) if not bool(ahead(panel, name, step, model.task.horizon).isfinite().all()))
    for name in absent:
        mean = usual(panel, name, step)
        old = ahead(panel, name, step, model.task.horizon)
        panel = with_ahead(panel, step, {name: torch.where(old.isfinite(), old, mean[:, None])})
    model.function(panel, origin=step)  # says now, by the user's own names, what else is missing
    return Written(panel, step, absent)


def usual(panel: Panel, channel: str, origin: int) -> Float[Tensor, " series"]:
    """Mean of the last year before the origin."""
    back = max(1, round(YEAR / panel.clock.seconds))
    values, observed = before(panel, channel, origin)
    values, observed = values[:, -back:], observed[:, -back:]
    return values.where(observed, 0).sum(1) / observed.sum(1).clamp(min=1)


def before(panel: Panel, channel: str, origin: int) -> tuple[Float[Tensor, "series time"], Bool[Tensor, "series time"]]:
    """Values up to the origin, and which of them were observed."""
    values = panel.channel(channel)
    past = (panel.start[:, None] + torch.arange(values.shape[1])) <= origin
    width = max(1, int((origin - panel.start).max()) + 1)
    return values[:, :width], (values.isfinite() & past)[:, :width]


def ahead(panel: Panel, channel: str, origin: int, horizon: int) -> Float[Tensor, "series horizon"]:
    """Values of the steps after the origin; NaN where nothing is written."""
    step = origin + torch.arange(1, horizon + 1)
    if channel in panel.common:
        row = step - panel.shared_start
        line = panel.shared[row.clamp(0, max(0, len(panel.shared) - 1)), panel.common.index(channel)]
        return line.where((row >= 0) & (row < len(panel.shared)), torch.nan).expand(len(panel), -1)
    row = step - panel.start[:, None]
    inside = (row >= 0) & (row < panel.values.shape[1])
    return panel.channel(channel).gather(1, row.clamp(0, panel.values.shape[1] - 1)).where(inside, torch.nan)


def with_ahead(panel: Panel, origin: int, plans: Mapping[str, Float[Tensor, "series horizon"]]) -> Panel:
    """The panel with these values after the origin; a channel that all series share takes the first row."""
    for name, plan in plans.items():
        if name in panel.common:
            row = origin + 1 - panel.shared_start
            shared = grown(panel.shared, row + plan.shape[1], 0).clone()
            shared[row : row + plan.shape[1], panel.common.index(name)] = plan[0].to(shared.dtype)
            panel = replace(panel, shared=shared)
            continue
        rows = origin + 1 - panel.start[:, None] + torch.arange(plan.shape[1])
        values = grown(panel.values, int(rows.max()) + 1, 1).clone()
        values[torch.arange(len(panel))[:, None], rows, panel.own.index(name)] = plan.to(values.dtype)
        panel = replace(panel, values=values)
    return panel
