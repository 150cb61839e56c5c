"""A Forecaster as the inside of a detector: what it expects of a row, one step before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, final

import torch

from ..clock import Clock
from ..errors import TaskError
from ..forecaster import Forecaster
from ..panel import Panel
from ..task import Scaling
from ..transform.scale import Affine
from .detector import Detector
from .events import Alarms
from .method import Method, Said, X
from .preparation import Preparation, Ready, fit_preparation
from .runs import Run, check_step, runs_of
from .scoring import TOP, DetectorPart, Judged, Scoring, judge, levelled, measure, together, widths

CUTS = 2048  # origins forecast at once


@final
@dataclass(frozen=True, eq=False)
class ForecasterFit(Method):
    """Errors of the first step ahead, of the targets alone. `scale` leads from what a method sees to the user's units; `first` is the
    clock step of a run's first row."""

    model: Forecaster
    scale: Affine
    first: int = 0

    @property
    def back(self) -> int:
        return self.model.back

    @property
    def ahead(self) -> int:
        """A net may read all that is known ahead for its first step too."""
        return self.model.task.horizon - 1 if any(c in self.model.own + self.model.common for c in self.model.roles.known) else 0

    @property
    def clock(self) -> Clock | None:
        model = self.model
        return model.clock if set(model.roles.known) - set(model.own + model.common) else None

    def at(self, first: int) -> Self:
        return replace(self, first=first)

    @cached_property
    def exact(self) -> Forecaster:
        """The model in float64, so that a row in a stream is the row of the file."""
        return _doubled(self.model)

    def say(self, x: X) -> Said:
        model, expected = self.exact, torch.full_like(x, torch.nan)
        rows = self.scale.invert(x[None], torch.zeros(1, dtype=torch.long))
        panel = Panel(rows, rows.new_zeros(0, 0), torch.tensor([self.first]), model.clock, model.series[:1], model.own + model.common)
        targets = [panel.channels.index(c) for c in model.roles.target]
        seen = (~x[:, targets].isnan()).all(1).long().cumsum(0)
        for origin in torch.arange(len(x) - 1).split(CUTS):
            known = seen[origin] - torch.where(origin >= model.context, seen[(origin - model.context).clamp(min=0)], 0)
            said = model.units(panel, origin[None])[0, :, 0, :, 0].to(x)
            expected[origin[:, None] + 1, torch.tensor(targets)] = said.masked_fill((2 * known < model.context)[:, None], torch.nan)
        expected = self.scale.apply(expected[None], torch.zeros(1, dtype=torch.long))[0]
        return Said(x - expected, expected)


def from_forecaster(model: Forecaster, runs: Panel | Sequence[Panel], *, scoring: Scoring | None = None, alarms: Alarms | None = None) -> Detector:
    """A detector from a fitted forecaster: its errors one step ahead, counted, scored and calibrated as any detector's are.

    `runs` are normal ones that it was not fitted on, or its errors look smaller than they are. A model of several series, each in a scale of
    its own, guards one of them: pick it first. One that reads the clock needs to know when a stream begins: `guard.start("2024-01-31 13:00")`.
    """
    _check(model)
    model = model.pick(model.series[0])
    ran, how = _runs(model, runs), scoring or Scoring()
    inputs = model.own + model.common
    spec = Preparation(groups=(), fill=0, gaps="keep")
    prepared = fit_preparation(spec, [run.rows for run in ran], inputs, constant=True)
    how = how if how.top else how.model_copy(update={"top": min(TOP, len(model.roles.target))})
    ready: list[Ready] = [prepared.apply(run.rows, run.start) for run in ran]
    method = ForecasterFit(model, prepared.scale)
    found = [measure(method, prepared, one, how) for one in ready]
    if all(bool(one.variable.isnan().all()) for one in found):
        raise TaskError(
            f"no row of the normal runs could be forecast: the longest has {max(len(run.rows) for run in ran)} rows, the context is {model.context}"
        )
    part = DetectorPart(method, *widths(found, prepared))
    judged: list[Judged] = [judge(part, one, how, r.observed) for one, r in zip(found, ready, strict=True)]
    part = levelled(part, [one.row for one in judged])
    normal = tuple(together((part,), [one])[0] for one in judged)
    return Detector(model.net, model.training, prepared, how, (part,), alarms or Alarms(), inputs, normal, model.clock.step, model.clock.zone, model.curves)


def _check(model: Forecaster) -> None:
    if not isinstance(model, Forecaster):
        raise TaskError(f"from_forecaster takes a model that forecast.fit returned; got {type(model).__name__}")
    if len(model.series) > 1 and not model.training.pooled:
        raise TaskError(
            f'the model has {len(model.series)} series, each in a scale of its own: model.pick("{model.series[0]}") guards one of them; '
            "Training(pooled=True) fits one scale for all"
        )
    if model.labels:
        raise TaskError(
            f'the model reads the label "{model.labels[0].name}" of each series, which rows that arrive do not carry: fit it on a panel without labels'
        )


def _runs(model: Forecaster, runs: Panel | Sequence[Panel]) -> list[Run]:
    """The runs in the model's channels, counted from its clock."""
    panels = [runs] if isinstance(runs, Panel) else list(runs)
    for one in panels:
        if isinstance(one, Panel):
            check_step(model.clock.step, one.clock.step)
    return runs_of([one.arranged(model.own + model.common, ()).on(model.clock) if isinstance(one, Panel) else one for one in panels])


def _doubled(model: Forecaster) -> Forecaster:
    weights = {name: w.double() if w.dtype == torch.float32 else w for name, w in model.weights.items()}
    target, own, common = (part.to(torch.float64) for part in (model.scaling.target, model.scaling.own, model.scaling.common))
    scaling = Scaling(target, own, common, tuple(replace(one, table=one.table.double()) for one in model.scaling.indices))
    bands = replace(model.bands, scores=model.bands.scores.double(), spread=model.bands.spread.double())
    return replace(model, weights=weights, scaling=scaling, bands=bands, mixed=tuple(_doubled(one) for one in model.mixed))
