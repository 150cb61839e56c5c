"""what_if: the forecast under named scenarios of channels known ahead, the difference each makes, and how far it is outside the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError, nearest
from ..forecaster import Forecaster, When
from ..frames import html_table, to_frame
from ..outcome import Forecast
from ..panel import Panel, positions
from .ahead import ahead, before, checked_controls, with_ahead, written
from .follow import Follow, followers
from .plans import Band
from .surface import surface

Value = float | int | str | Sequence[float | int] | np.ndarray | Tensor
AS_WRITTEN = "as written"


@dataclass(frozen=True, eq=False)
class WhatIf:
    """A forecast a scenario, the written one first, and what each changes. `difference` is paired by member of the ensemble, so that
    what they share falls out; `outside` is the share of a scenario's changed steps beyond anything the history has seen."""

    forecasts: Mapping[str, Forecast]
    difference: Mapping[str, Float[Tensor, "member series step"]]
    outside: Mapping[str, float]
    target: str
    notes: tuple[str, ...] = ()

    def change(self, scenario: str) -> Band:
        """Of the target's total over all series and steps, against the written values."""
        return Band(self.difference[_named(scenario, self.difference)].sum((1, 2)))

    def frame(self) -> Any:
        """One row a scenario, series and step: the forecast with its bands, the difference with its 80 % band."""
        return to_frame(self.cells(), next(iter(self.forecasts.values())).names.native)

    def cells(self) -> dict[str, np.ndarray]:
        """The columns of `frame()`."""
        parts = [self._columns(name) for name in self.forecasts]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def table(self, level: int | float = 80) -> Any:
        """One row a scenario: total, change with its band, share of steps outside the history."""
        first = next(iter(self.forecasts.values()))
        return to_frame(self.rows(level), first.names.native)

    def rows(self, level: int | float = 80) -> dict[str, np.ndarray]:
        """The columns of `table()`."""
        bands = [self.change(name) for name in self.difference]
        ends = [band.ends(level) for band in bands]
        at = next(iter(self.forecasts.values())).targets.index(self.target)
        return {
            "scenario": np.array(list(self.difference), dtype=object),
            "total": np.array([float(self.forecasts[name].values[..., at].sum()) for name in self.difference]),
            "change": np.array([float(band.mean) for band in bands]),
            f"change-lo-{level:g}": np.array([float(low) for low, _ in ends]),
            f"change-hi-{level:g}": np.array([float(high) for _, high in ends]),
            "outside": np.array([self.outside[name] for name in self.difference]),
        }

    def _columns(self, name: str) -> dict[str, np.ndarray]:
        told = self.forecasts[name]
        columns = told.columns()
        band = Band(self.difference[name])
        low, high = band.ends()
        size = len(columns[told.names.id])
        extra = {"difference": band.mean, "difference-lo-80": low, "difference-hi-80": high}
        return {"scenario": np.full(size, name, dtype=object), **columns, **{key: value.numpy().ravel() for key, value in extra.items()}}

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def what_if(
    model: Forecaster,
    panel: Panel,
    scenarios: Mapping[str, Mapping[str, Value]],
    *,
    follows: Mapping[str, str] | None = None,
    target: str | None = None,
    origin: When | None = None,
    level: Sequence[int | float] | float | None = None,
) -> WhatIf:
    """The forecast under each scenario: {"more tv": {"tv": "+20%"}}. A value is a number for every step, one number a step, or
    a text: "+20%", "-500", "x1.5" changes what is written. Where nothing is written the mean of the last year is, and a note says so.

    `follows` as in `allocate`. TaskError for a scenario that sets a channel the model does not know ahead, or a follower.
    """
    if not scenarios:
        raise TaskError('no scenario: scenarios= maps a name to channels and values, as in {"more tv": {"tv": "+20%"}}')
    if AS_WRITTEN in scenarios:
        raise TaskError(f'"{AS_WRITTEN}" is what the scenarios are compared with; give this one another name')
    controls = tuple(dict.fromkeys(channel for changes in scenarios.values() for channel in changes))
    checked_controls(model, panel, controls)
    told = written(model, panel, controls, origin)
    follow = followers(model, panel, controls, follows or {}, told.origin)
    base = with_ahead(told.panel, told.origin, _followed(told.panel, told.origin, model.task.horizon, follow))
    panels, outside = {AS_WRITTEN: base}, {AS_WRITTEN: 0.0}
    for name, changes in scenarios.items():
        plans = {c: _changed(c, value, ahead(base, c, told.origin, model.task.horizon)) for c, value in changes.items()}
        outside[name] = _outside(base, plans, told.origin)
        moved = with_ahead(base, told.origin, plans)
        panels[name] = with_ahead(moved, told.origin, _followed(moved, told.origin, model.task.horizon, follow))
    aim = model.roles.target[positions([target], model.roles.target, "target")[0] if target else 0]
    paths = {name: _paths(model, one, told.origin, aim) for name, one in panels.items()}
    forecasts = {name: replace(model.predict(one, origin=told.origin, level=level), model="foretell") for name, one in panels.items()}
    notes = [f"nothing was written ahead for {', '.join(told.made_up)}: its mean of the last year stands there"] if told.made_up else []
    notes += [str(f) for f in follow]
    if len(paths[AS_WRITTEN]) == 1:
        notes.append("one member: differences have no band; fit with members= and Training(halves=True)")
    notes += [f'"{n}": {share:.0%} of the steps it changes lie outside what the history has seen' for n, share in outside.items() if share]
    return WhatIf(forecasts, {name: path - paths[AS_WRITTEN] for name, path in paths.items()}, outside, aim, tuple(notes))


def _paths(model: Forecaster, panel: Panel, origin: int, target: str) -> Float[Tensor, "member series step"]:
    """The point forecast of every member, with all that is written in the panel."""
    seen = surface(model, panel, (), origin=origin, target=target)
    with torch.no_grad():
        return seen.outcome(torch.zeros(1, seen.steps, 0))[0]


def _followed(panel: Panel, origin: int, horizon: int, follow: Sequence[Follow]) -> dict[str, Float[Tensor, "series horizon"]]:
    return {f.channel: f(ahead(panel, f.control, origin, horizon)) for f in follow}


def _changed(channel: str, value: Value, now: Float[Tensor, "series horizon"]) -> Float[Tensor, "series horizon"]:
    """The channel's values under a change."""
    if isinstance(value, str):
        return _by_text(channel, value.replace(" ", ""), now)
    if not isinstance(value, float | int | Sequence | np.ndarray | Tensor):
        raise TaskError(f'"{channel}": a change is a number, one number a step, or text like "+20%"; got {value!r}')
    line = torch.as_tensor(value, dtype=now.dtype)
    if line.ndim and tuple(line.shape) not in ((now.shape[1],), tuple(now.shape)):
        given = " by ".join(str(n) for n in line.shape)
        raise TaskError(f'"{channel}": {given} values for {now.shape[1]} steps ahead; give one number, or one a step')
    if not bool(line.isfinite().all()):
        raise TaskError(f'"{channel}": a scenario says a finite number for every step; {int((~line.isfinite()).sum())} are not')
    return line.expand(now.shape).clone()


def _by_text(channel: str, text: str, now: Float[Tensor, "series horizon"]) -> Float[Tensor, "series horizon"]:
    share, times = text.endswith("%"), text[:1] in ("x", "×", "*")
    try:
        size = float(text.removesuffix("%") if share else text[1:] if times else text)
    except ValueError:
        size = float("nan")
    if not isfinite(size):
        raise TaskError(f'"{channel}": the change "{text}" is not understood; write a number, or "+20%", "-500", "x1.5"')
    return now * (1 + size / 100) if share else now * size if times else now + size


def _outside(panel: Panel, plans: Mapping[str, Float[Tensor, "series horizon"]], origin: int) -> float:
    """Share of the changed cells beyond the least and the most of their series' history."""
    cells = []
    for channel, plan in plans.items():
        values, observed = before(panel, channel, origin)
        low, high = (values.where(observed, end).double() for end in (torch.inf, -torch.inf))
        room = 1e-6 * (high.amax(1) - low.amin(1)).clamp(min=1e-9)
        cells.append((plan < (low.amin(1) - room)[:, None]) | (plan > (high.amax(1) + room)[:, None]))
    return float(torch.stack([c.double().mean() for c in cells]).mean()) if cells else 0.0


def _named(name: str, valid: Mapping[str, object]) -> str:
    if name not in valid:
        raise TaskError(f'no scenario "{name}": {nearest(name, valid)}')
    return name
