"""Forecaster: a fitted model. Nothing of a target or past channel after the origin can reach its forecast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.func import functional_call

from .baseline import Drift, MovingAverage, SeasonalNaive, steps_needed
from .clock import Clock, utc_from_local
from .device import flushed
from .errors import DataError, TaskError, nearest
from .function import Function, marks
from .graph import Graph
from .interval import Conformal, quantiles
from .label import Label
from .mixture import Mixture, blended
from .neighbours import Boosting, Statistical
from .nets import ON_RIDGE, GraphLSTM, LSTMTransformer, PeriodKernel, Response, Ridge, SeasonalRidge, Shape, StackedLSTM, assembled
from .outcome import Forecast, Part, probs_of
from .panel import Panel, Recipe, as_times, positions
from .periodic import own_context
from .task import Batch, Roles, ScaleKind, Scaling, Source, Task, fit_scaling
from .train import Curves, Training

Trained = StackedLSTM | LSTMTransformer | PeriodKernel | GraphLSTM | Response
Net = Ridge | SeasonalRidge | Trained | SeasonalNaive | Drift | MovingAverage | Boosting | Statistical | Mixture
When = str | int | datetime | np.datetime64
PIECE = 8192  # windows forecast at once: bounds the memory of a backtest over many series


@dataclass(frozen=True, eq=False)
class Forecaster:
    """What `forecast.fit` returns and a file holds: the question, the net, and all that was learned on the training cut.

    `anchor` is a clock step for each series: where it is given, the net was trained for origins that lie whole seasons from
    it, and others are left to the ridge it stands on.
    """

    task: Task
    net: Net
    training: Training
    context: int
    roles: Roles
    clock: Clock
    series: tuple[str, ...]
    own: tuple[str, ...]
    common: tuple[str, ...]
    calendar: tuple[Recipe, ...]
    scaling: Scaling
    weights: Mapping[str, Tensor]
    members: tuple[str, ...]
    per_series: bool
    bands: Conformal
    anchor: Int[Tensor, " series"] | None = None
    curves: Curves | None = None
    parts: tuple[Part, ...] = ()
    facts: Mapping[str, str | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()
    mixed: tuple["Forecaster", ...] = ()  # of a Mixture: its models; weights["shares"] are theirs
    graph: Graph | None = None  # of a graph net: which series follow which

    @property
    def differentiable(self) -> bool:
        """Whether `function` has gradients; trees, statistical methods and ensembles are explained by perturbation alone."""
        return not isinstance(self.net, Boosting | Statistical | Mixture)

    @property
    def refitted(self) -> bool:
        """Whether every origin costs a fit of its own."""
        return isinstance(self.net, Statistical) or any(one.refitted for one in self.mixed)

    @property
    def shape(self) -> Shape:
        """The sizes a net is built for."""
        known, targets = len(self.roles.known), len(self.roles.target)
        clocked = sum(c not in self.own + self.common for c in self.roles.known)
        static, kinds = len(self.labels), tuple(len(label.categories) for label in self.labels)
        return Shape(
            len(self.members), self.context, len(self.roles.features), self.task.horizon, known, targets, len(self.task.levels), static, clocked,
            self.task.levels, kinds, len(self.graph.channels) if self.graph else 0, self.graph.reach if self.graph else 0,
        )  # fmt: skip

    @property
    def back(self) -> int:
        """Steps before an origin that a forecast reads: the context, or all that a statistical method fits or trees look back to."""
        own = self.net.history if isinstance(self.net, Statistical | Boosting) else 1
        return max(self.context, own, *(one.back for one in self.mixed))

    @cached_property
    def module(self) -> nn.Module:
        """The net; its own initial weights are never used, `weights` take their place at every call."""
        if isinstance(self.net, Mixture):
            raise TaskError("an ensemble has no net of its own: its models are in .mixed")
        streams = [Generator().manual_seed(0) for _ in self.members]
        build = assembled(self.net, self.shape, streams) if isinstance(self.net, ON_RIDGE) else self.net.build(self.shape, streams)
        return build.requires_grad_(False)

    def predict(
        self, panel: Panel, *, origin: When | None = None, future: object | None = None, level: Sequence[int | float] | float | None = None
    ) -> Forecast:
        """The `horizon` steps after each series' last observed target, or after `origin` for all.

        `future` is a frame of known-ahead channels (unique_id, ds, one column a channel). `level` lists the central
        bands wanted in percent; None gives those of the task. A series with less than half its context observed
        gets NaN and a note.
        """
        panel = self.view(panel if future is None or not isinstance(panel, Panel) else panel.extend(future))
        last = panel.last(*self.roles.target) if origin is None else torch.full((len(panel),), step_of(panel.clock, origin))
        probs = self.task.levels if level is None else probs_of(level)
        source = self.source(panel, int(last.min()), int(last.max()))
        series, row = torch.arange(len(panel)), last - source.panel.start
        notes = self._too_short(source, row)
        self._check_future(source, row)
        output = self.outputs(source, row[:, None])[:, 0]
        point, bands = self.in_units(source, output, series, probs)
        for at, _ in notes:
            point[at], bands[at] = torch.nan, torch.nan
        told = tuple(n for _, n in notes) + self._absent(panel)
        return Forecast(point, bands, probs, last, panel.clock, panel.series, self.roles.target, panel.names, told, ahead=source.aheads)

    def function(
        self,
        panel: Panel,
        origin: When | Sequence[When] | None = None,
        *,
        future: object | None = None,
        level: Sequence[int | float] | float | None = None,
    ) -> tuple[Function, dict[str, Tensor]]:
        """This model as one differentiable map `f` and the raw values `blocks` of its windows: `f(blocks)` equals what
        `predict` says, floor and sorting of quantiles left out.

        One window a series, after its last observed target or after `origin`; several origins give all series at the first,
        then all at the second. TaskError where a series has too little history or a known channel no value.
        """
        panel = self.view(panel if future is None or not isinstance(panel, Panel) else panel.extend(future))
        origins = origin if isinstance(origin, Sequence) and not isinstance(origin, str) else [origin]
        last = panel.last(*self.roles.target)
        step = torch.stack([last if at is None else torch.full_like(last, step_of(panel.clock, at)) for at in origins])
        source = self.source(panel, int(step.min()), int(step.max()))
        for row in step - source.panel.start:
            short = self._too_short(source, row)
            if short:
                raise TaskError(short[0][1])
            self._check_future(source, row)
        series = torch.arange(len(panel)).repeat(len(step))
        bands = replace(self.bands, spread=self.spread_of(panel.series))
        probs = self.task.levels if level is None else probs_of(level)
        source = source if self.back == source.context else replace(source, context=self.back)
        mixed = [one.function(panel, origin)[0] for one in self.mixed]
        run = blended(mixed, self.weights["shares"][0]) if mixed else partial(self._run, panel.series)
        found = Function(source, series, step.flatten(), probs, bands, run, *marks(source, series, step.flatten()))
        return found, found.blocks

    def view(self, panel: Panel) -> Panel:
        """The panel with the channels, calendar and clock this model was fitted on; what is missing is named."""
        if not isinstance(panel, Panel):
            raise TaskError(f"a model forecasts a Panel, got {type(panel).__name__}: make one with ft.read(...)")
        if panel.clock.zone != self.clock.zone and self.clock.sub_daily:
            raise TaskError(f"the model's clock is in zone {self.clock.zone}, this data's in {panel.clock.zone}: read it with zone={self.clock.zone!r}")
        if panel.clock.step != self.clock.step:
            raise TaskError(f"the model steps by {self.clock.step}, this data by {panel.clock.step}: read it with resample={self.clock.step!r}")
        if self.per_series:
            strange = [s for s in panel.series if s not in self.series]
            if strange:
                raise TaskError(
                    f'series "{strange[0]}" has no net: this model has one for each of its {len(self.series)} series. '
                    "Fit again with it, use per_series=False, or panel.pick() the known ones"
                )
        wide = panel if self.graph is None else self.graph.widened(panel)
        seen = wide.arranged(self.own, self.common).on(self.clock)
        dtype = self.bands.spread.dtype
        return replace(seen, values=seen.values.to(dtype), shared=seen.shared.to(dtype), calendar=self.calendar)

    def source(self, panel: Panel, first: int, last: int) -> Source:
        """Windows of a view whose origins lie between two clock steps. Series the model has not seen are scaled by their own
        past up to the first origin."""
        scaling = self.scaling_of(panel, first)
        part = panel if self.mixed else panel.between(first - self.back + 1, last + self.task.horizon)
        reach = max(0, last + 1 - int(part.start.max()) - part.values.shape[1])
        spans, aheads = self.spans_of(panel.series), self.task.ahead_of(panel.series)
        return Source(part, self.roles, scaling, self.context, self.task.horizon, reach, self.labels, spans, aheads)

    def scaling_of(self, panel: Panel, origin: int | None = None) -> Scaling:
        """The scales of a view's series; one not seen in fit takes those of its own past up to `origin`, or all of it."""
        if panel.series == self.series:
            return self.scaling
        known = [self._place.get(s, -1) for s in panel.series]
        if -1 not in known:
            return self.scaling.rows(known)
        past = panel if origin is None else panel.until(origin)
        return self.scaling.rows_or(known, fit_scaling(past, self.roles.target, scale_of(self.net, self.training)), pooled=self.training.pooled)

    def pick(self, *series: str) -> Self:
        """The model of only these series: it forecasts, saves and loads by itself."""
        at = torch.tensor(positions(series, self.series, "series"), dtype=torch.long)
        rows = at.tolist()
        weights = {name: w[at.to(w.device)] for name, w in self.weights.items()} if self.per_series else self.weights
        curves = self.curves and Curves(self.curves.train[at], self.curves.stop[at], self.curves.seconds) if self.per_series else self.curves
        return replace(
            self, series=tuple(series), members=tuple(series) if self.per_series else self.members, scaling=self.scaling.rows(rows), weights=weights,
            bands=replace(self.bands, spread=self.bands.spread[at]), anchor=None if self.anchor is None else self.anchor[at], curves=curves,
        )  # fmt: skip

    def to(self, device: str | torch.device) -> Self:
        """The same model with its weights on another device; data come and go from the CPU."""
        return replace(self, weights={name: w.to(device) for name, w in self.weights.items()}, mixed=tuple(one.to(device) for one in self.mixed))

    def outputs(self, source: Source, origin: Int[Tensor, "series cut"]) -> Float[Tensor, "series cut horizon target slot"]:
        """Model-space forecasts from rows of the source; slot 0 the point, then the task's levels."""
        if self.mixed:
            parts = torch.stack([one.units(source.panel, origin) for one in self.mixed])
            whole: Tensor = torch.einsum("m,m...->...", self.weights["shares"][0].to(parts), parts)
            return whole
        size = max(1, PIECE // max(1, origin.shape[1]))
        place = torch.tensor([self._place.get(s, 0) for s in source.panel.series])
        with torch.no_grad(), flushed():
            pieces = [self._piece(source, torch.arange(a, min(a + size, len(origin))), origin, place) for a in range(0, len(origin), size)]
        return torch.cat(pieces)

    def units(self, panel: Panel, origin: Int[Tensor, "series cut"]) -> Float[Tensor, "series cut horizon target slot"]:
        """What the net itself says in the user's units, from rows of a view."""
        step = origin + panel.start[:, None]
        source = self.source(self.view(panel), int(step.min()), int(step.max()))
        output = self.outputs(source, step - source.panel.start[:, None])
        series = torch.arange(len(panel)).repeat_interleave(origin.shape[1])
        real: Tensor = source.unscaled(output.flatten(0, 1), series).unflatten(0, origin.shape)
        return real

    def in_units(
        self, source: Source, output: Float[Tensor, "n horizon target slot"], series: Int[Tensor, " n"], probs: Sequence[float], bands: Conformal | None = None
    ) -> tuple[Float[Tensor, "n horizon target"], Float[Tensor, "n horizon target prob"]]:
        """Point and quantiles in the user's units, not below the task's floor; NaN beyond the steps ahead that a series has."""
        at = self.spread_of(source.panel.series)
        fitted = replace(bands or self.bands, spread=at)
        both = torch.cat([output[..., :1], quantiles(output, fitted, series, probs)], -1)
        real = source.unscaled(both, series)
        real = source.within(real if self.task.floor is None else real.clamp(min=self.task.floor), series)
        return real[..., 0], real[..., 1:].cummax(-1).values

    def spread_of(self, series: tuple[str, ...]) -> Float[Tensor, "series target"]:
        """Usual relative error of these series; 1 for one never seen."""
        if series == self.series:
            return self.bands.spread
        one = torch.ones_like(self.bands.spread[0])
        return torch.stack([self.bands.spread[self._place[s]] if s in self._place else one for s in series])

    def spans_of(self, series: Sequence[str]) -> Int[Tensor, " series"] | None:
        """Steps back that each of these series reads, where every series has a context of its own."""
        if not (self.per_series and own_context(self.task, self.net)):
            return None
        span = self.weights["net.span" if "alpha" in self.weights else "span"].cpu()
        return span[[self._place[name] for name in series]].clamp(min=least_back(self.net))

    def summary(self) -> str:
        """The model in a few lines; of a net, also its layers with output shapes and parameters."""
        size = sum(w.numel() for w in self.weights.values() if w.is_floating_point())  # trees are text
        words = [f"{type(self.net).__name__}: {', '.join(self.roles.target)}, {self.context} steps back, {self.task.horizon} ahead"]
        words += [f"{len(self.series)} series, {len(self.members)} member(s), {size:,} weights, scale {self.training.scale}"]
        words += [f"{p.name}: {self.clock.local(p.first)} … {self.clock.local(p.last)}, {p.rows:,} windows" for p in self.parts]
        words += [f"{name}: {value}" for name, value in self.facts.items()]
        layers = [str(self.net.summary(self.shape))] if isinstance(self.net, ON_RIDGE) else []
        return "\n".join([*words, *self.notes, *layers])

    def __repr__(self) -> str:
        return f"Forecaster({self.summary().splitlines()[0]})"

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.series)}

    def _piece(self, source: Source, series: Int[Tensor, " n"], origin: Int[Tensor, "series cut"], place: Int[Tensor, " series"]) -> Tensor:
        size = (len(series), origin.shape[1])
        wide = source if self.back == self.context else replace(source, context=self.back)
        batch = wide.inputs(series.repeat_interleave(size[1]), origin[series].flatten())
        return self._forward(batch, place[series], origin[series] + source.panel.start[series, None]).to(origin.device)

    def _run(self, names: tuple[str, ...], batch: Batch, series: Int[Tensor, " example"], origin: Int[Tensor, " example"], copies: int) -> Tensor:
        """Model-space output [copies · example, ...] of so many copies of all windows; `names` are those that `series` counts."""
        place = torch.tensor([self._place.get(s, 0) for s in names])[series]
        shaped = Batch(*(x.unflatten(0, (copies, len(series))).transpose(0, 1).flatten(0, 1) for x in batch))
        return self._forward(shaped, place, origin[:, None].expand(-1, copies)).transpose(0, 1).flatten(0, 1)

    def _forward(self, batch: Batch, place: Int[Tensor, " n"], step: Int[Tensor, "n cut"]) -> Tensor:
        """Model-space output [n, cut, ...] of windows [n · cut, ...] whose series stand at `place` in this model."""
        size = (len(place), step.shape[1])
        weights = dict(self.weights)
        if self.per_series:
            shaped = Batch(*(x.unflatten(0, size) for x in batch))
            weights = {name: w[place] for name, w in weights.items()}
        else:
            shaped = Batch(*(x.expand(len(self.members), *x.shape) for x in batch))
        device = next((w.device for w in weights.values()), None)
        inputs = tuple(x.to(device) for x in (shaped.past, shaped.observed, shaped.future, shaped.static))
        output: Tensor = functional_call(self.module, weights, inputs)
        if self.anchor is not None:
            whole = (step - self.anchor[place, None]) % self.clock.season == 0
            if not whole.all():
                plain = functional_call(self.module, {**weights, "alpha": torch.zeros_like(weights["alpha"])}, inputs)
                whole = whole if self.per_series else whole.view(1, -1)
                output = torch.where(whole[..., None, None, None].to(device), output, plain)
        return output if self.per_series else output.mean(0).unflatten(0, size)

    def _too_short(self, source: Source, row: Int[Tensor, " series"]) -> list[tuple[int, str]]:
        seen, said = source.seen(row[:, None])[:, 0], 'series "{}" has {} of the {} steps before the origin; half are needed: no forecast'
        short = (2 * seen < source.backs).nonzero()[:, 0].tolist()
        found = [(at, said.format(source.panel.series[at], int(seen[at]), int(source.backs[at]))) for at in short]
        if len(found) == len(row):
            raise TaskError(found[0][1] + ("" if len(row) == 1 else f", nor for the other {len(row) - 1}"))
        return found

    def _absent(self, panel: Panel) -> tuple[str, ...]:
        absent = self.graph.absent(panel) if self.graph else ()
        told = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        return (f"neighbours that these data lack bring nothing: {told}",) if absent else ()

    def _check_future(self, source: Source, row: Tensor) -> None:
        for channel in self.roles.known:
            if channel not in source.panel.channels:
                continue
            values, steps = source.panel.channel(channel), row[:, None] + torch.arange(1, self.task.horizon + 1)
            inside = steps.clamp(0, max(0, values.shape[1] - 1))
            absent = ~values.gather(1, inside).isfinite() | (steps >= values.shape[1])
            if channel in source.panel.common:
                clock = steps + source.panel.start[:, None] - source.panel.shared_start
                table = source.panel.shared[:, source.panel.common.index(channel)]
                absent = ~table[clock.clamp(0, len(table) - 1)].isfinite() | (clock >= len(table))
            absent &= torch.arange(self.task.horizon) < (absent.shape[1] if source.aheads is None else source.aheads[:, None])
            if absent.any():
                self._say_missing(source, channel, absent, steps)

    def _say_missing(self, source: Source, channel: str, absent: Tensor, steps: Tensor) -> None:
        panel, one = source.panel, int(absent.any(1).nonzero()[0])
        times = panel.clock.local((steps[one][absent[one]] + panel.start[one]).numpy())
        when = f"{times[0]}" if len(times) == 1 else f"{times[0]} … {times[-1]} ({len(times)} steps)"
        more = int(absent.any(1).sum()) - 1
        others = f" and {more} more series" if more else ""
        raise TaskError(
            f'known channel "{channel}" has no value for series "{panel.series[one]}"{others} at {when}: '
            f"give future= a frame with the columns {panel.names.id}, {panel.names.time}, {channel}, or panel.extend() it"
        )


def least_back(net: Net) -> int:
    """Steps back that a net reads at least, whatever its periods: what the ridge under it needs."""
    return steps_needed(net.ridge) if isinstance(net, PeriodKernel) and isinstance(net.ridge, SeasonalRidge) else 1


def scale_of(net: Net, training: Training) -> ScaleKind:
    """Simple methods work in the user's units; nets and ridge in those of the training's scale."""
    counts = isinstance(net, Boosting) and net.counts and training.scale != "mean"  # by the mean, zero stays zero
    return "identity" if counts or isinstance(net, SeasonalNaive | Drift | MovingAverage | Statistical | Mixture) else training.scale


def step_of(clock: Clock, when: When) -> int:
    """A moment in the user's words (wall time, or a clock step) as a clock step."""
    if isinstance(when, int | np.integer):
        return int(when)
    try:
        time = as_times(np.array([when], dtype=object))
    except DataError as error:
        raise TaskError(f"origin: {error}") from None
    utc = utc_from_local(time, clock.zone, fold=0) if clock.zone and clock.sub_daily else time
    return int(clock.index(utc)[0])


def nearest_net(name: str, names: Sequence[str]) -> str:
    """The sentence for a net that does not exist."""
    return f'no net "{name}": {nearest(name, names)}'
