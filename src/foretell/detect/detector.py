"""Detector: what `detect.fit` returns; a run in, scores out, whole or as rows arrive; scores in, alarms out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..clock import Clock
from ..device import flushed
from ..errors import DataError, TaskError
from ..forecaster import When, step_of
from ..frames import html_table, to_frame
from ..panel import NAMES, Names, Panel
from ..spec import Spec
from ..train import Curves, Training
from . import threshold
from .events import Alarms, Culprit, Event, Events, Found, find, find_dynamic, per_day, severity
from .preparation import Prepared
from .runs import Rows, Run, as_rows, check_step, rows_of
from .scoring import DetectorPart, Judged, Line, Scoring, judge, measure, together
from .threshold import Limit


class Judgement(NamedTuple):
    """Of one run: the score, that of each channel, and what was seen and expected (in units of the prepared channels)."""

    score: Line
    channel: Rows
    seen: Rows
    expected: Rows | None


class DetectorState(NamedTuple):
    """What a detector must remember between rows: the last ones, the (aggregated) row the first of them belongs to, the next row to
    score, and the clock step of the run's first row."""

    rows: Rows
    first: int = 0
    given: int = 0
    begin: int = 0


class Fresh(NamedTuple):
    """Scores that have become known: `first` is the (aggregated) row of the run that the first of them is of."""

    first: int
    score: Line
    channel: Rows


@dataclass(frozen=True, eq=False)
class Scores:
    """How strange each row is, higher is stranger; NaN where nothing was observed or too little came before.

    `channel` is each sensor's own score. `seen` and `expected` are in units of the prepared channels, group medians removed.
    """

    values: Float[Tensor, "series time"]
    channel: Float[Tensor, "series time channel"]
    seen: Float[Tensor, "series time channel"]
    expected: Float[Tensor, "series time channel"] | None
    start: tuple[int, ...]
    clock: Clock
    series: tuple[str, ...]
    channels: tuple[str, ...]
    names: Names = NAMES
    notes: tuple[str, ...] = ()

    def frame(self) -> Any:
        """One row a series and step: unique_id, ds, score, and a column a channel. In the kind of frame the user came with."""
        return to_frame(self.columns(), self.names.native)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `frame()` as arrays; rows that nothing is known of are left out."""
        series, row = (~self.values.isnan()).nonzero(as_tuple=True)
        step = torch.tensor(self.start, dtype=torch.long)[series] + row
        columns = {self.names.id: np.array(self.series, dtype=object)[series.numpy()], self.names.time: self.clock.local(step.numpy())}
        return {**columns, "score": self.values[series, row].numpy(), **{c: self.channel[series, row, at].numpy() for at, c in enumerate(self.channels)}}

    def _repr_html_(self) -> str:
        return html_table(self.columns())


@dataclass(frozen=True, eq=False)
class Detector:
    """A fitted guard. Nothing in it is ever fitted again: the same row in the same company has the same score, in a file or in a stream.

    `inputs` are the channels it reads; `normal` its scores on held-out parts of the normal runs, which thresholds come from;
    `beside` the neighbours of a report, fitted on the same runs.
    """

    net: Spec
    training: Training
    prepared: Prepared
    scoring: Scoring
    parts: tuple[DetectorPart, ...]
    alarms: Alarms
    inputs: tuple[str, ...]
    normal: tuple[Float[Tensor, " _"], ...]
    step_size: str
    zone: str | None = None
    curves: Curves | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    beside: Mapping[str, "Detector"] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """The sensors judged: the inputs without those constant in every normal run."""
        return self.prepared.channels

    @property
    def delay(self) -> int:
        """Rows (aggregated ones, if rows are) that must follow before a row's score is known."""
        return max(p.method.ahead for p in self.parts) + sum(ahead for _, ahead in self.scoring.spans)

    @property
    def memory(self) -> int:
        """Rows before a row that its score depends on."""
        return self.prepared.spec.back + max(p.method.back for p in self.parts) + sum(behind for behind, _ in self.scoring.spans)

    @property
    def clock(self) -> Clock | None:
        """The clock that a run's rows are counted on, if a score depends on when its row is."""
        return next((p.method.clock for p in self.parts if p.method.clock), None)

    @property
    def row_seconds(self) -> float:
        """Time from one scored row to the next."""
        return float(Clock(np.datetime64("2000-01-01"), self.step_size).seconds * self.prepared.spec.aggregate)

    def score(self, panel: Panel) -> Scores:
        """Every series of the panel as a run of its own. DataError for a missing channel or a run too short to judge any row."""
        if not isinstance(panel, Panel):
            raise TaskError(f"a detector scores a Panel, got {type(panel).__name__}: make one with ft.read(...)")
        check_step(self.step_size, panel.clock.step)
        found = rows_of(panel.on(self.clock) if self.clock else panel, self.inputs)
        if not found:
            raise DataError("nothing is observed in the data to score")
        judged = [self._whole(run) for run in found]
        extra = [c for c in panel.channels if c not in self.inputs]
        notes = [f"not in the normal runs, so not judged: {', '.join(extra[:5])}"] if extra else []
        for run in found:
            notes += [f"{run.name}: {said}" if len(found) > 1 else said for said in self._doubts(self.kept(run.rows))]
        return _scores(judged, found, self, panel.names, tuple(notes))

    def start(self, when: When | None = None) -> DetectorState:
        """Before the first row; a detector that reads the clock must know when it is."""
        if self.clock and when is None:
            raise TaskError('what is usual depends on the clock: say when the first row is, as guard.start("2024-01-31 13:00")')
        begin = step_of(self.clock, when) if self.clock and when is not None else 0
        return DetectorState(torch.empty(0, len(self.inputs), dtype=torch.float64), begin=begin)

    def step(self, state: DetectorState, rows: object) -> tuple[DetectorState, Fresh]:
        """Rows [time, channel] that have arrived, in the order of `inputs`; the scores that are known now: those of `score`."""
        raw, every = torch.cat([state.rows, as_rows(rows, len(self.inputs))]), self.prepared.spec.aggregate
        whole = len(raw) // every
        upto = max(state.given, state.first + whole - self.delay)
        fresh = self._fresh(raw[: whole * every], state, upto)
        first = max(state.first, upto - self.memory)
        return DetectorState(raw[(first - state.first) * every :], first, upto, state.begin), fresh

    def finish(self, state: DetectorState) -> Fresh:
        """The scores still owed when the run has ended."""
        return self._fresh(state.rows, state, state.first + -(-len(state.rows) // self.prepared.spec.aggregate))

    def limit(self, alarms: Alarms | None = None) -> Limit:
        """The score above which there is an alarm, from the normal scores alone; infinite for "dynamic", which has none of its own."""
        how = alarms or self.alarms
        every = torch.cat(self.normal)
        match how.threshold:
            case "calibrated":
                return threshold.calibrated(self.normal, per_day(how.false_alarms), self.row_seconds, self.delay + self.memory + 1)
            case "sigma":
                return Limit(threshold.sigma(every, how.k), "sigma")
            case "robust":
                return Limit(threshold.robust(every, how.k), "robust")
            case "spot":
                return Limit(threshold.spot(every, how.rate), "spot")
        return Limit(torch.nan, "dynamic")

    def events(self, scores: Scores, alarms: Alarms | None = None) -> Events:
        """The alarms in scores of this detector."""
        how = alarms or self.alarms
        limit = self.limit(how)
        rows = []
        for at, name in enumerate(scores.series):
            found = find_dynamic(scores.values[at], how) if how.threshold == "dynamic" else find(scores.values[at], limit.value, how)
            rows += self._events(found, scores, at, name, limit)
        notes = (*scores.notes, *((_stretched(limit, how),) if limit.extrapolated else ()))
        return Events(tuple(rows), limit, scores.clock, scores.names, notes)

    def kept(self, rows: Float[Tensor, "time input"]) -> Rows:
        """The judged channels of rows of all inputs."""
        return rows[:, [self.inputs.index(c) for c in self.channels]]

    def judge(self, rows: Rows, first: int = 0) -> Judgement:
        """Scores of one run of the judged channels, from nothing but its rows (from clock step `first` on) and the frozen constants."""
        return judge_run(self.prepared, self.parts, self.scoring, rows, first)

    def summary(self) -> str:
        """The detector in a few lines."""
        names = " + ".join(type(p.method).__name__.removesuffix("Fit") for p in self.parts)
        hours = sum(len(line) for line in self.normal) * self.row_seconds / 3600
        groups = ", ".join(f"{g.pattern} ({len(g.members)})" for g in self.prepared.groups) or "none"
        lines = [f"{type(self.net).__name__}: {names}; {len(self.channels)} channels, groups: {groups}"]
        lines += [f"normal hours seen: {hours:.3g}; a score comes {self.delay} rows late and depends on {self.memory} rows before it"]
        lines += [f"constant in the normal runs, so left out: {', '.join(self.prepared.dropped)}"] if self.prepared.dropped else []
        return "\n".join([*lines, *(f"{name}: {value}" for name, value in self.facts.items()), *self.notes])

    def __repr__(self) -> str:
        return f"Detector({self.summary().splitlines()[0]})"

    def _whole(self, run: Run) -> Judgement:
        found = self.judge(self.kept(run.rows), run.start)
        if bool(found.score.isnan().all()):
            shortest = min(p.method.back + p.method.ahead for p in self.parts) + 1
            needed = (self.prepared.spec.back - self.prepared.spec.fill + shortest) * self.prepared.spec.aggregate
            raise DataError(f'the run "{run.name}" has {len(run.rows)} rows; {needed} on end without a gap are needed to judge one')
        return found

    def _doubts(self, rows: Rows) -> list[str]:
        blank = rows.isnan().all(0).nonzero()[:, 0].tolist()
        said = [f"nothing observed of: {', '.join(self.channels[at] for at in blank[:5])}{' …' if len(blank) > 5 else ''}"] if blank else []
        holes = int(rows.isnan().any(1).sum())
        said += [f"{holes:,} of {len(rows):,} rows have missing values"] if holes and not blank else []
        return said + self.prepared.strange_units(rows)

    def _fresh(self, raw: Float[Tensor, "time input"], state: DetectorState, upto: int) -> Fresh:
        if upto <= state.given:
            return Fresh(state.given, torch.empty(0, dtype=torch.float64), torch.empty(0, len(self.channels), dtype=torch.float64))
        found = self.judge(self.kept(raw), state.begin + state.first)
        part = slice(state.given - state.first, upto - state.first)
        return Fresh(state.given, found.score[part], found.channel[part])

    def _events(self, found: Found, scores: Scores, at: int, name: str, limit: Limit) -> list[Event]:
        every = torch.cat(self.normal)
        seen = every[~every.isnan()]
        usual = float(seen.mean() + seen.std(correction=0))
        height = severity(found.peak, limit.value if np.isfinite(limit.value) else 0.0, usual)
        begin, rows = scores.start[at], []
        for (first, last), top, peak, severe in zip(found.ends.tolist(), found.at.tolist(), found.peak.tolist(), height.tolist(), strict=True):
            share = blamed(scores.channel[at, first : last + 1])
            order = share.argsort(descending=True, stable=True).tolist()
            culprits = tuple(Culprit(scores.channels[c], float(share[c])) for c in order)
            rows.append(Event(name, begin + first, begin + last, begin + top, peak, severe, culprits))
        return rows


def blamed(channel: Rows) -> Float[Tensor, " channel"]:
    """Each channel's share of an event: its mean score there, all of them adding up to 1."""
    mean = torch.nan_to_num(channel.nanmean(0))
    return mean / mean.sum().clamp(min=1e-12)


def judge_run(prepared: Prepared, parts: Sequence[DetectorPart], scoring: Scoring, rows: Rows, first: int = 0) -> Judgement:
    """The whole way from rows to scores."""
    with torch.no_grad(), flushed():
        ready = prepared.apply(rows, first)
        judged: list[Judged] = [judge(p, measure(p.method, prepared, ready, scoring), scoring, ready.observed) for p in parts]
    score, channel = together(parts, judged)
    width = len(prepared.channels)
    zero = torch.zeros(1, dtype=torch.long)
    seen = prepared.scale.invert(ready.features[None], zero)[0].masked_fill(ready.missing, torch.nan)[:, :width]
    said = next((j.expected for j in judged if j.expected is not None), None)
    expected = None if said is None else prepared.scale.invert(said[None], zero)[0][:, :width]
    return Judgement(score, channel, seen, expected)


def _scores(judged: Sequence[Judgement], runs: Sequence[Run], guard: Detector, names: Names, notes: tuple[str, ...]) -> Scores:
    length = max(len(j.score) for j in judged)

    def stacked(parts: Sequence[Tensor]) -> Tensor:
        out = torch.full((len(parts), length, *parts[0].shape[1:]), torch.nan, dtype=torch.float64)
        for at, part in enumerate(parts):
            out[at, : len(part)] = part
        return out

    every = guard.prepared.spec.aggregate
    clock = runs[0].clock
    starts = [run.start for run in runs]
    if every > 1:
        base = clock.times(np.array([starts[0]]))[0]
        clock = Clock(base, f"{clock.count * every}{clock.unit}", clock.zone)
        starts = [round((start - starts[0]) / every) for start in starts]
    given = [j.expected for j in judged if j.expected is not None]
    expected = stacked(given) if len(given) == len(judged) else None
    fields = stacked([j.score for j in judged]), stacked([j.channel for j in judged]), stacked([j.seen for j in judged])
    return Scores(*fields, expected, tuple(starts), clock, tuple(r.name for r in runs), guard.channels, names, notes)


def _stretched(limit: Limit, how: Alarms) -> str:
    hours = 24 * limit.days
    return f"the limit for {how.false_alarms} false alarms is extrapolated: the normal runs hold {hours:.3g} hours, too few to have shown that rate"
