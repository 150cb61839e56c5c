"""Task: the question asked of a panel; windows of it as indices; batches gathered from views."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BeforeValidator, Field, field_serializer, model_validator
from torch import Tensor

from .calendar import evaluate
from .clock import Clock
from .errors import TaskError
from .label import Label
from .panel import Panel, positions
from .spec import Spec
from .transform.saturating import fit_saturating
from .transform.scale import Scale, fit_scale
from .transform.season import SeasonIndex, fit_index

CELLS = 2**18  # cells of a panel looked at in one go: two megabytes for each step of the arithmetic on them
SATURATING = "saturating"
BENT = ("asinh", "quantile", SATURATING)
PERIOD = 0  # what horizon="period" is until the periods are known
ScaleKind = Literal["identity", "mean", "minmax", "standard", "robust", "asinh", "quantile", "saturating"]


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _ascending(value: object) -> object:
    return tuple(sorted(value)) if isinstance(value, list | tuple) else value


def _steps_or_period(value: object) -> object:
    if isinstance(value, int) and value < 1:
        raise ValueError('must be at least 1 step, or "period": of each series its own')
    return PERIOD if value == "period" else value


OneOrMany = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Level = Annotated[float, Field(gt=0, lt=1)]


class Task(Spec):
    """What is forecast (`target`), what is known ahead (`known`), how many steps back (`context`) and ahead (`horizon`).

    `past=None` takes every other channel as observed-only input. `levels` are the quantiles a net learns; `floor` is
    the least value the target can have (0 for sales). `context="auto"` is a week of hours, four weeks of days, two
    years of months; for a PeriodKernel each series' own longest period. `horizon="period"` is each series' own fundamental
    period, found when a model is fitted; `each` has the steps ahead of single series, where they are fewer than the `horizon`.
    """

    target: OneOrMany = Field(min_length=1)
    known: OneOrMany = ()
    past: OneOrMany | None = None
    context: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    horizon: Annotated[int, BeforeValidator(_steps_or_period)]
    each: Mapping[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    levels: Annotated[tuple[Level, ...], BeforeValidator(_ascending)] = (0.1, 0.5, 0.9)
    floor: float | None = None

    @model_validator(mode="after")
    def _one_role_each(self) -> Self:
        roles = [*self.target, *self.known, *(self.past or ())]
        twice = next((c for c in roles if roles.count(c) > 1), None)
        if twice:
            raise ValueError(f'channel "{twice}" is named twice; each channel is target, known or past')
        return self

    @field_serializer("horizon")
    def _told(self, value: int) -> int | str:
        return value or "period"

    def ahead_of(self, series: Sequence[str]) -> Int[Tensor, " series"] | None:
        """Steps ahead of each of these series; None if all have the whole horizon."""
        return torch.tensor([min(self.each.get(name, self.horizon), self.horizon) for name in series]) if self.each else None

    def steps_back(self, clock: Clock) -> int:
        """`context` in steps, "auto" resolved by the clock."""
        if self.context != "auto":
            return self.context
        cycles = 7 if clock.sub_daily else 4 if clock.unit == "D" else 2
        return max(cycles * clock.season, self.horizon)


class Roles(NamedTuple):
    """Every channel's part in a task, names checked against a panel. A net's features come in this order; of the known
    channels, those the clock decides come last."""

    target: tuple[str, ...]
    past: tuple[str, ...]
    known: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        return self.target + self.past + self.known


def roles_of(task: Task, panel: Panel) -> Roles:
    """The task's channels, looked up in the panel; what it names and the panel lacks gets its sentence."""
    positions(task.target, panel.channels, "target channel")
    positions(task.known, panel.every_channel, "known channel")
    rest = tuple(c for c in panel.channels if c not in task.target + task.known)
    if task.past is not None:
        positions(task.past, panel.channels, "past channel")
    measured = tuple(c for c in task.known if c in panel.channels)
    clocked = tuple(c for c in task.known if c not in panel.channels)
    return Roles(task.target, rest if task.past is None else task.past, measured + clocked)


class Batch(NamedTuple):
    """Windows as a net sees them: scaled, gaps filled, member axis first. `seen` marks the goals that were observed."""

    past: Float[Tensor, "*member example context feature"]
    observed: Bool[Tensor, "*member example context feature"]
    future: Float[Tensor, "*member example horizon known"]
    static: Float[Tensor, "*member example label"]
    goal: Float[Tensor, "*member example horizon target"]
    seen: Bool[Tensor, "*member example horizon target"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Everything a model learned of the channels on its training cut: their scales, and their seasonal indices.

    A bent scale (asinh, quantile) is for the target alone: inputs beside it are told in standard deviations, since what
    acts on the target linearly would not after bending. So is "mean", which is for what is counted.
    """

    target: Scale
    own: Scale
    common: Scale
    indices: tuple[SeasonIndex, ...] = ()

    def rows(self, series: list[int]) -> "Scaling":
        """Of these series only."""
        at = torch.tensor(series, dtype=torch.long)
        return Scaling(self.target.rows(at), self.own.rows(at), self.common.rows(at), tuple(i.rows(at) for i in self.indices))

    def rows_or(self, series: list[int], other: "Scaling", *, pooled: bool) -> "Scaling":
        """Of these series, and where one is −1, the other's row at that place; pooled scales already serve every series."""
        at, new = torch.tensor(series, dtype=torch.long), torch.tensor(series) < 0
        indices = tuple(mine.rows_or(at, new, theirs) for mine, theirs in zip(self.indices, other.indices, strict=True))
        target = self.target if pooled else rows_or(self.target, at, new, other.target)
        own = self.own if pooled else rows_or(self.own, at, new, other.own)
        return Scaling(target, own, self.common, indices)


def fit_scaling(panel: Panel, targets: Sequence[str], kind: ScaleKind, *, pooled: bool = False) -> Scaling:
    """Fitted on all that the panel holds: hand it the training cut."""
    missing = [c for c in targets if c not in panel.own]
    if missing:
        raise TaskError(f'target "{missing[0]}" has the same values in every series: pick one series, or name another target')
    at = [panel.own.index(c) for c in targets]
    plain: ScaleKind = "standard" if kind in (*BENT, "mean") else kind
    indices = tuple(fit_index(panel, r.argument) for r in panel.calendar if r.kind == "index")
    shared = panel.shared if len(panel.shared) else panel.shared.new_full((1, panel.shared.shape[1]), torch.nan)
    if kind == SATURATING and pooled:
        raise TaskError('scale="saturating" is the notebook\'s, of one item: leave pooled out')
    values = panel.values[..., at]
    target = fit_saturating(values) if kind == SATURATING else fit_scale(kind, values, pooled=pooled)
    return Scaling(target, fit_scale(plain, panel.values, pooled=pooled), fit_scale(plain, shared[None]), indices)


def rows_or(mine: Scale, at: Int[Tensor, " series"], new: Bool[Tensor, " series"], theirs: Scale) -> Scale:
    """One scale whose rows are mine where known and theirs where new."""
    facts = vars(mine)
    pick = torch.where(new, torch.arange(len(at)) + len(next(iter(facts.values()))), at)
    return type(mine)(**{name: torch.cat(same_width(fact, vars(theirs)[name]))[pick] for name, fact in facts.items()})


def same_width(*facts: Tensor) -> list[Tensor]:
    """A scale fitted on a short series has fewer knots; repeating the last one changes nothing."""
    width = max(f.shape[-1] for f in facts)
    return [torch.cat([f, f[..., -1:].expand(*f.shape[:-1], width - f.shape[-1])], -1) for f in facts]


class Place(NamedTuple):
    """Where a list of channels is found, and how to put the found parts in order."""

    target: list[int]
    own: list[int]
    common: list[int]
    clocked: list[int]
    fitted: list[int]
    order: list[int]


def _place(panel: Panel, targets: tuple[str, ...], wanted: tuple[str, ...]) -> Place:
    clocked = tuple(c for r in panel.calendar if r.kind != "index" for c in r.channels)
    index = tuple(c for r in panel.calendar if r.kind == "index" for c in r.channels)
    homes = (targets, panel.own, panel.common, clocked, index)
    lives = {c: next(n for n, home in enumerate(homes) if c in home) for c in wanted}
    target, own, common, clocked_at, index_at = ([home.index(c) for c in wanted if lives[c] == n] for n, home in enumerate(homes))
    found = [c for n in range(len(homes)) for c in wanted if lives[c] == n]
    return Place(target, own, common, clocked_at, index_at, [found.index(c) for c in wanted])


@dataclass(frozen=True, eq=False)
class Source:
    """A panel with its roles and scales, from which windows are gathered by (series, origin); none is ever stored.

    An origin is a series' row of the last observed step: the past ends there, and of what follows only known
    channels are read into a net's input.
    """

    panel: Panel
    roles: Roles
    scaling: Scaling
    context: int
    horizon: int
    reach: int = 0  # steps past the panel's last row at which an origin may lie
    labels: tuple[Label, ...] = ()
    spans: Int[Tensor, " series"] | None = None  # steps back that each series reads, where that is not the whole context
    aheads: Int[Tensor, " series"] | None = None  # steps ahead of each series, where they are fewer than the horizon

    @cached_property
    def backs(self) -> Int[Tensor, " series"]:
        """Steps back that each series reads."""
        return torch.full((len(self.panel),), self.context) if self.spans is None else self.spans

    def own(self, past: Float[Tensor, "n context feature"], series: Int[Tensor, " n"]) -> Float[Tensor, "n context feature"]:
        """Pasts in which nothing is observed before the steps that a series reads."""
        if self.spans is None:
            return past
        return past.masked_fill((torch.arange(self.context, 0, -1) > self.spans[series, None])[..., None], torch.nan)

    @cached_property
    def clocked(self) -> tuple[int, Float[Tensor, "step channel"]]:
        """What the clock decides, for every step a window can touch; and the clock step of its first row."""
        start, width = self.panel.start, self.panel.values.shape[1]
        first = int(start.min()) - self.context if len(start) else 0
        last = int(start.max()) + width + self.horizon + self.reach if len(start) else 0
        recipes = [r for r in self.panel.calendar if r.kind != "index"]
        return first, evaluate(recipes, self.panel.clock, torch.arange(first, last), dtype=self.panel.values.dtype)

    @cached_property
    def static(self) -> Float[Tensor, "series label"]:
        """Each series' facts, for nets that read them."""
        facts = [label.read(self.panel) for label in self.labels]
        return torch.stack(facts, 1) if facts else self.panel.values.new_zeros(len(self.panel), 0)

    @cached_property
    def ends(self) -> Int[Tensor, " series"]:
        """Each series' row of its last observed target."""
        return self.panel.last(*self.roles.target) - self.panel.start

    @cached_property
    def places(self) -> dict[tuple[str, ...], Place]:
        """Where the channels of every part that is read are found."""
        roles = self.roles
        return {wanted: _place(self.panel, roles.target, wanted) for wanted in {roles.features, roles.known, roles.target}}

    def inputs(self, series: Int[Tensor, " n"], origin: Int[Tensor, " n"]) -> Batch:
        """What a net may see of these windows; no goal, nothing of a target or past channel after the origin."""
        back = origin[:, None] + torch.arange(1 - self.context, 1)
        past = self.own(self.read(self.roles.features, series, back), series)
        observed = past.isfinite()
        ahead = origin[:, None] + torch.arange(1, self.horizon + 1)
        future = self.read(self.roles.known, series, ahead)
        blank = past.new_zeros(len(series), self.horizon, 0)
        return Batch(filled(past, observed), observed, filled(future, future.isfinite()), self.static[series], blank, blank.bool())

    def batch(self, series: Int[Tensor, " n"], origin: Int[Tensor, " n"]) -> Batch:
        """Inputs and goals of training windows."""
        goal = self.goals(series, origin)
        return self.inputs(series, origin)._replace(goal=goal.nan_to_num(0.0), seen=goal.isfinite())

    def goals(self, series: Int[Tensor, " n"], origin: Int[Tensor, " n"]) -> Float[Tensor, "n horizon target"]:
        """What the targets turned out to be, scaled; NaN where not observed."""
        return self.within(self.read(self.roles.target, series, origin[:, None] + torch.arange(1, self.horizon + 1)), series)

    def within(self, goals: Float[Tensor, "n horizon *rest"], series: Int[Tensor, " n"]) -> Float[Tensor, "n horizon *rest"]:
        """NaN beyond the steps ahead that each series has."""
        if self.aheads is None:
            return goals
        beyond = torch.arange(goals.shape[1]) >= self.aheads[series, None]
        return goals.masked_fill(beyond.view(*beyond.shape, *[1] * (goals.ndim - 2)), torch.nan)

    def seen(self, origin: Int[Tensor, "series cut"]) -> Int[Tensor, "series cut"]:
        """How many steps of the context before an origin are observed; with less than half there is no forecast."""
        values = self.panel.values[..., [self.panel.own.index(c) for c in self.roles.target]]
        total = torch.cat([torch.zeros(len(values), 1, dtype=torch.long), values.isfinite().all(-1).cumsum(1)], 1)
        end, begin = (row.clamp(0, values.shape[1]) for row in (origin + 1, origin + 1 - self.backs[:, None]))
        return total.gather(1, end) - total.gather(1, begin)

    def unscaled(self, values: Float[Tensor, "n horizon target *slot"], series: Int[Tensor, " n"]) -> Tensor:
        """Model space → the user's units."""
        flat = values.movedim(2, -1)
        return self.scaling.target.invert(flat, series).movedim(-1, 2)

    def read(self, channels: tuple[str, ...], series: Int[Tensor, " n"], rows: Int[Tensor, "n step"]) -> Float[Tensor, "n step channel"]:
        """Scaled values of some channels at these rows of these series; NaN where not observed or outside the data."""
        place = self.places[channels]
        inside = (rows >= 0) & (rows < self.panel.values.shape[1])
        at = rows.clamp(0, max(0, self.panel.values.shape[1] - 1))
        parts = []
        targets = [self.panel.own.index(self.roles.target[i]) for i in place.target]
        for columns, scale in ((targets, self.scaling.target.pick(place.target)), (place.own, self.scaling.own.pick(place.own))):
            if columns:
                raw = self.panel.values[series[:, None, None], at[..., None], torch.tensor(columns)]
                raw = raw if inside.all() else raw.masked_fill(~inside[..., None], torch.nan)
                parts.append(scale.apply(raw, series))
        step = rows + self.panel.start[series][:, None]
        if place.common:
            row = step - self.panel.shared_start
            known = (row >= 0) & (row < len(self.panel.shared))
            raw = self.panel.shared[row.clamp(0, len(self.panel.shared) - 1)][..., place.common]
            parts.append(self.scaling.common.pick(place.common).apply(raw.masked_fill(~known[..., None], torch.nan), series))
        if place.clocked:
            first, table = self.clocked
            parts.append(table[step - first][..., place.clocked])
        parts += [self.scaling.indices[i].value(step, series)[..., None] for i in place.fitted]
        if not parts:
            return self.panel.values.new_zeros(*rows.shape, 0)
        joined = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
        return joined if place.order == sorted(place.order) else joined[..., place.order]


def filled(values: Float[Tensor, "n step channel"], observed: Bool[Tensor, "n step channel"]) -> Float[Tensor, "n step channel"]:
    """Gaps take the last value seen in the window, and 0 before the first."""
    if observed.all():
        return values
    step = torch.arange(values.shape[1])[:, None].expand_as(values)
    last = torch.where(observed, step, -1).cummax(1).values
    return torch.where(last >= 0, values.gather(1, last.clamp(min=0)), 0.0)


@dataclass(frozen=True, eq=False)
class Windows:
    """Origins of many series, series after series, told as runs of origins `stride` rows apart: a list of them all would be
    as large as the panel. A run of series s starts at the origin `flat − s·width`; `counts` are each member's windows."""

    flat: Int[Tensor, " run"]
    lengths: Int[Tensor, " run"]
    counts: Int[Tensor, " member"]
    width: int
    stride: int = 1

    def __len__(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def begin(self) -> Int[Tensor, " run"]:
        """The number of each run's first window."""
        return self.lengths.cumsum(0) - self.lengths

    def at(self, numbers: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Window numbers → (series, origin)."""
        run = torch.searchsorted(self.begin, numbers.long(), right=True) - 1
        flat = self.flat[run] + (numbers - self.begin[run]) * self.stride
        return flat // self.width, flat % self.width

    def each(self, season: int, phase: Int[Tensor, " run"]) -> "Windows":
        """Of every run the windows that lie `phase` rows after its first, and whole seasons after those."""
        lengths = ((self.lengths - phase + season - 1) // season).clamp(min=0)
        owner = torch.searchsorted(self.counts.cumsum(0), self.begin, right=True)
        counts = torch.zeros_like(self.counts).index_add(0, owner, lengths)
        kept = lengths > 0
        return Windows((self.flat + phase)[kept], lengths[kept], counts, self.width, season)


class Span(NamedTuple):
    """Rows of each series between which a part's goals lie: first < goal ≤ last. Parts never share a goal."""

    first: Int[Tensor, " series"]
    last: Int[Tensor, " series"]


class Split(NamedTuple):
    """Chronological parts, counted back from each series' last observed target."""

    train: Span
    stop: Span
    calibrate: Span


def split(panel: Panel, task: Task, *, stop: float, calibrate: float, apart: bool = False) -> Split:
    """Cuts the last `calibrate` share of the usual length off for calibration, before it `stop` for early stopping;
    each at least one horizon if its share is not 0. `apart` takes each series' own length."""
    last = panel.last(*task.target) - panel.start
    length = (last + 1).double() if apart or not len(panel) else (last + 1).double().quantile(0.5).expand(len(last))
    steps = [(share * length).round().long().clamp(min=task.horizon) if share else torch.zeros_like(last) for share in (stop, calibrate)]
    after_stop = last - steps[1]
    after_train = after_stop - steps[0]
    return Split(Span(torch.full_like(last, -1), after_train), Span(after_train, after_stop), Span(after_stop, last))


def usable(source: Source, span: Span, series: Int[Tensor, " n"]) -> Bool[Tensor, "n row"]:
    """Rows that can be an origin: goals within the span, the whole context in the series, at least half of it observed,
    and something to learn ahead."""
    back, ahead, at = source.backs[series, None], source.horizon, [source.panel.own.index(c) for c in source.roles.target]
    values = source.panel.values[series][..., at]
    seen = torch.cat([torch.zeros(len(series), 1, dtype=torch.int32), values.isfinite().all(-1).cumsum(1, dtype=torch.int32)], 1)
    row = torch.arange(values.shape[1])
    inside = (row >= span.first[series, None].maximum(back - 1)) & (row <= span.last[series, None] - ahead)
    past = seen.gather(1, (row + 1).expand(len(series), -1)) - seen.gather(1, (row + 1 - back).clamp(min=0).expand(len(series), -1))
    goal = seen.gather(1, (row + 1 + ahead).clamp(max=values.shape[1]).expand(len(series), -1)) - seen[:, 1:]
    return inside & (2 * past >= back) & (goal > 0)


def count(source: Source, span: Span) -> int:
    """How many usable origins the span has."""
    return sum(int(usable(source, span, series).sum()) for series in _groups(source))


def _groups(source: Source) -> Iterator[Int[Tensor, " n"]]:
    """The series, so many at a time that their cells are looked at in one go."""
    every: Tensor = torch.arange(len(source.panel))
    yield from every.split(max(1, CELLS // max(1, source.panel.values.shape[1])))


def windows(source: Source, span: Span, *, by_series: bool = False) -> Windows:
    """Every usable origin in the span, series after series."""
    width = source.panel.values.shape[1]
    flat, lengths, counts = [], [], []
    for series in _groups(source):
        fair = usable(source, span, series)
        edge = torch.zeros(len(series), 1, dtype=torch.int8)
        turn = torch.cat([edge, fair.to(torch.int8), edge], 1).diff(dim=1)
        one, row = (turn == 1).nonzero(as_tuple=True)
        flat.append(series[one] * width + row)
        lengths.append((turn == -1).nonzero(as_tuple=True)[1] - row)
        counts.append(fair.sum(1))
    each = torch.cat(counts)
    return Windows(torch.cat(flat), torch.cat(lengths), each if by_series else each.sum()[None], width)
