"""Panel: many series on one clock, the only data that crosses a public boundary. NaN = not observed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .clock import Clock, utc_from_local
from .errors import DataError, TaskError, nearest
from .frames import Native, is_zoned, to_columns, to_frame

CYCLES = ("minute", "hour", "weekday", "day", "month", "dayofyear", "halfyear")
FLAGS = ("weekend",)


class Recipe(NamedTuple):
    """A channel computed from the clock, past its end too. `argument` is the country of a holiday,
    or the channel whose seasonal index is fitted on the training cut."""

    kind: str
    argument: str = ""

    @property
    def channels(self) -> tuple[str, ...]:
        if self.kind in CYCLES:
            return f"{self.kind}_sin", f"{self.kind}_cos"
        return (f"{self.kind}_{self.argument}",) if self.argument else (self.kind,)


class Names(NamedTuple):
    """How the user's own frame calls things, so that results come back in the same words."""

    id: str = "unique_id"
    time: str = "ds"
    native: Native = "polars"


NAMES = Names()


@dataclass(frozen=True, eq=False)
class Panel:
    """What differs by series in `values` (rows left-aligned, row 0 at clock step `start`), what all share in `shared`
    (row 0 at clock step `shared_start`), what the clock alone decides in `calendar`.

    `channels` names the channels of `values`, then those of `shared`. `labels` are static facts, one per series.
    """

    values: Float[Tensor, "series time channel"]
    shared: Float[Tensor, "clock shared"]
    start: Int[Tensor, " series"]
    clock: Clock
    series: tuple[str, ...]
    channels: tuple[str, ...]
    calendar: tuple[Recipe, ...] = ()
    labels: Mapping[str, tuple[str | float, ...]] = field(default_factory=dict)
    names: Names = NAMES
    shared_start: int = 0

    def __post_init__(self) -> None:
        count = self.values.shape[2] + self.shared.shape[1]
        if len(self.channels) != count:
            raise DataError(f"{count} channels of data but {len(self.channels)} names: {', '.join(self.channels)}")
        if not len(self.series) == len(self.values) == len(self.start):
            raise DataError(f"{len(self.values)} rows of data, {len(self.start)} starts, {len(self.series)} series names: these must agree")
        for what, names in (("series", self.series), ("channels", self.every_channel)):
            if len(set(names)) < len(names):
                twice = next(n for n in names if names.count(n) > 1)
                raise DataError(f'two {what} are called "{twice}"')
        for label, facts in self.labels.items():
            if len(facts) != len(self.series):
                raise DataError(f'label "{label}" has {len(facts)} values for {len(self.series)} series')

    @property
    def own(self) -> tuple[str, ...]:
        """Channels that differ by series."""
        return self.channels[: self.values.shape[2]]

    @property
    def common(self) -> tuple[str, ...]:
        """Channels that all series share."""
        return self.channels[self.values.shape[2] :]

    @property
    def calendar_channels(self) -> tuple[str, ...]:
        return tuple(name for recipe in self.calendar for name in recipe.channels)

    @property
    def every_channel(self) -> tuple[str, ...]:
        return self.channels + self.calendar_channels

    def __len__(self) -> int:
        return len(self.series)

    def __repr__(self) -> str:
        last = int(self.start.max()) + self.values.shape[1] - 1 if len(self) else 0
        span = f"{self.clock.local(0)} … {self.clock.local(last)}"
        return f"Panel({len(self)} series × {self.values.shape[1]} steps of {self.clock.step}, {span}, channels: {', '.join(self.every_channel)})"

    def pick(self, *series: str) -> Self:
        """Only these series."""
        at = positions(series, self.series, "series")
        labels = {k: tuple(v[i] for i in at) for k, v in self.labels.items()}
        return replace(self, values=self.values[at], start=self.start[at], series=tuple(series), labels=labels)

    def channel(self, name: str) -> Float[Tensor, "series time"]:
        """One measured channel, laid out as `values`; a shared one is repeated for each series."""
        at = positions([name], self.channels, "channel")[0]
        if at < len(self.own):
            return self.values[..., at]
        rows = self.start[:, None] - self.shared_start + torch.arange(self.values.shape[1])
        inside = (rows >= 0) & (rows < len(self.shared))
        if not inside.any():
            return self.values.new_full(rows.shape, torch.nan)
        return torch.where(inside, self.shared[rows.clamp(0, len(self.shared) - 1), at - len(self.own)], torch.nan)

    def until(self, step: int | Int[Tensor, " series"]) -> Self:
        """All that was observed up to and including this clock step (one for all, or one a series), and nothing after it."""
        row = torch.as_tensor(step) - self.start
        width = max(0, min(self.values.shape[1], int(row.max()) + 1)) if len(self) else 0
        values = self.values[:, :width]
        if width and int(row.min()) + 1 < width:
            values = values.masked_fill((torch.arange(width) > row[:, None])[..., None], torch.nan)
        return replace(self, values=values, shared=self.shared[: max(0, int(torch.as_tensor(step).max()) + 1 - self.shared_start)])

    def between(self, first: int, last: int) -> Self:
        """Only the clock steps first … last, as views; every series then starts at or before its first row in them."""
        width = self.values.shape[1]
        low = min(max(0, first - int(self.start.max())), width)
        high = min(max(low, last + 1 - int(self.start.min())), width)
        return replace(self, values=self.values[:, low:high], start=self.start + low)

    def arranged(self, own: tuple[str, ...], common: tuple[str, ...]) -> Self:
        """The same data with these channels per series and those shared, in this order."""
        if (own, common) == (self.own, self.common):
            return self
        positions(own + common, self.channels, "channel")
        values = torch.stack([self.channel(c) for c in own], -1) if own else self.values[..., :0]
        if not common:
            return replace(self, values=values, shared=self.values.new_zeros(0, 0), channels=own)
        base = min(int(self.start.min()), self.shared_start if self.common else int(self.start.min()))
        end = max(int(self.start.max()) + self.values.shape[1], self.shared_start + len(self.shared))
        shared = torch.stack([self._shared(c, base, end - base) for c in common], -1)
        return replace(self, values=values, shared=shared, channels=own + common, shared_start=base)

    def _shared(self, name: str, base: int, length: int) -> Float[Tensor, " clock"]:
        """One channel as all series share it, from clock step `base` on."""
        line = self.values.new_full((length,), torch.nan)
        if name in self.common:
            at = self.shared_start - base
            line[at : at + len(self.shared)] = self.shared[:, self.common.index(name)]
            return line
        for start, one in zip(self.start.tolist(), self.channel(name), strict=True):
            part = line[start - base : start - base + len(one)]
            part.copy_(torch.where(one.isfinite(), one, part))
        return line

    def on(self, clock: Clock) -> Self:
        """The same data counted from another clock's step 0."""
        if clock == self.clock:
            return self
        shift = int(clock.index(np.array([self.clock.start]))[0])
        return replace(self, clock=clock, start=self.start + shift, shared_start=self.shared_start + shift)

    def last(self, *channels: str) -> Int[Tensor, " series"]:
        """Clock step of each series' last row in which every one of these channels is observed; start − 1 if there is none."""
        row = torch.zeros(len(self), dtype=torch.long)
        for part, seen in self._seen(channels):
            row[part] = torch.where(seen, torch.arange(1, seen.shape[1] + 1, dtype=torch.int32), 0).amax(1).long()
        return self.start + row - 1

    def first(self, *channels: str) -> Int[Tensor, " series"]:
        """Clock step of each series' first row in which every one of these channels is observed; start if there is none."""
        row = torch.zeros(len(self), dtype=torch.long)
        for part, seen in self._seen(channels):
            row[part] = seen.to(torch.int8).argmax(1)
        return self.start + row

    def _seen(self, channels: Sequence[str]) -> Iterator[tuple[Int[Tensor, " n"], Bool[Tensor, "n time"]]]:
        """Where these channels are all observed, some series at a time: for all at once, flags and step numbers would weigh more than the panel."""
        lines = [self.channel(name) for name in channels]
        width = lines[0].shape[1]
        for part in torch.arange(len(self)).split(max(1, 2**20 // max(1, width))) if width else ():
            yield part, torch.stack([line[part].isfinite() for line in lines]).all(0)

    def with_calendar(self, *kinds: str, holidays: str | Sequence[str] = ()) -> Self:
        """Adds channels that the clock decides: "hour", "weekday", "weekend", "day", "month", "dayofyear", "halfyear", and the public
        holidays of a country or region ("MA", "DE-BY")."""
        for kind in kinds:
            if kind not in CYCLES + FLAGS:
                raise TaskError(f'no calendar channel "{kind}": {nearest(kind, CYCLES + FLAGS)}, and holidays="DE" for a country\'s')
        lands = (holidays,) if isinstance(holidays, str) else tuple(holidays)
        new = [Recipe(k) for k in kinds] + [Recipe("holiday", land) for land in lands]
        return replace(self, calendar=self.calendar + tuple(r for r in dict.fromkeys(new) if r not in self.calendar))

    def with_seasonal_index(self, channel: str) -> Self:
        """Adds `index_<channel>`: its usual ratio to the mean at each place in the season, fitted on the training cut by `fit`."""
        positions([channel], self.channels, "channel")
        recipe = Recipe("index", channel)
        return self if recipe in self.calendar else replace(self, calendar=(*self.calendar, recipe))

    def extend(self, frame: object) -> Self:
        """Later rows, or the missing channels of rows already there: known-ahead values for the future, new observations.

        The frame has the columns of the panel that are new (`unique_id` may be absent if there is one series). What is
        already observed is kept unless the frame says otherwise.
        """
        columns, _ = to_columns(frame)
        names = self.names
        if names.time not in columns:
            raise DataError(f'the frame to extend with has no column "{names.time}": {nearest(names.time, columns)}')
        fresh = [c for c in columns if c in self.channels]
        if not fresh:
            raise DataError(f"the frame to extend with has none of the panel's channels {', '.join(self.channels)}; it has {', '.join(columns)}")
        if names.id not in columns and len(self) > 1:
            raise DataError(f'the frame to extend with has no column "{names.id}" that says which of the {len(self)} series a row belongs to')
        ids = columns.get(names.id, np.full(len(columns[names.time]), self.series[0], dtype=object))
        at = torch.tensor(positions([text_of(i) for i in ids], self.series, "series"), dtype=torch.long)
        if not len(ids):
            return self
        times = as_times(columns[names.time])
        if self.clock.zone and self.clock.sub_daily and not is_zoned(frame, names.time):
            times = utc_from_local(times, self.clock.zone)
        return self._put(at, torch.from_numpy(self.clock.index(times)), {c: columns[c] for c in fresh})

    def _put(self, at: Tensor, step: Tensor, columns: Mapping[str, np.ndarray]) -> Self:
        row = step - self.start[at]
        if len(row) and int(row.min()) < 0:
            raise DataError(f"a row at {self.clock.local(int(step.min()))} lies before the start of its series")
        values = grown(self.values, int(row.max()) + 1, 1)
        shared = grown(self.shared, int(step.max()) + 1 - self.shared_start if self.common else len(self.shared), 0)
        for name, column in columns.items():
            new = torch.from_numpy(as_numbers(column, name)).to(values.dtype)
            keep = new.isfinite()
            if name in self.own:
                values[at[keep], row[keep], self.own.index(name)] = new[keep]
            else:
                shared[step[keep] - self.shared_start, self.common.index(name)] = new[keep]
        return replace(self, values=values, shared=shared)

    def frame(self) -> Any:
        """The long frame: one row a series and step, a column a channel; rows with nothing observed are left out."""
        seen = torch.stack([self.channel(c).isfinite() for c in self.channels]).any(0)
        series, row = seen.nonzero(as_tuple=True)
        columns: dict[str, Any] = {self.names.id: np.array(self.series, dtype=object)[series.numpy()]}
        columns[self.names.time] = self.clock.local((self.start[series] + row).numpy())
        for name in self.channels:
            columns[name] = self.channel(name)[series, row].numpy()
        return to_frame(columns, self.names.native)


def from_array(
    values: Any, channels: Sequence[str] = ("y",), series: Sequence[str] | None = None, *, start: Any = "2000-01-01", step: str = "D", zone: str | None = None
) -> Panel:
    """A Panel from an array: [time], [series, time] or [series, time, channel]; NaN where nothing was observed.

    >>> from_array([[1.0, 2.0, 3.0]], step="h")
    Panel(1 series × 3 steps of h, 2000-01-01T00:00:00 … 2000-01-01T02:00:00, channels: y)
    """
    array = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    array = array if array.dtype == torch.float64 else array.to(torch.float32)
    array = array[None, :, None] if array.ndim == 1 else array[..., None] if array.ndim == 2 else array
    ids = tuple(series) if series is not None else tuple(f"s{i}" for i in range(len(array)))
    blank = torch.empty(0, 0, dtype=array.dtype)
    return Panel(array, blank, torch.zeros(len(array), dtype=torch.long), Clock(np.datetime64(start), step, zone), ids, tuple(channels))


def calendar_of(panel: Panel) -> tuple[str, ...]:
    """Names of the channels that the clock decides: known ahead for ever."""
    return panel.calendar_channels


def positions(wanted: Sequence[str], valid: Sequence[str], what: str) -> list[int]:
    """Where each name stands; an unknown one gets its sentence."""
    place = {name: i for i, name in enumerate(valid)}
    for name in wanted:
        if name not in place:
            raise TaskError(f'no {what} "{name}": {nearest(name, valid)}')
    return [place[name] for name in wanted]


def text_of(value: object) -> str:
    """A series' name as text: 7.0, read from a number column, is series "7"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def as_times(column: np.ndarray) -> np.ndarray:
    """A column of times, or of texts in ISO form, as datetime64[s]."""
    try:
        return column.astype("datetime64[s]")
    except (ValueError, TypeError):
        raise DataError(f'"{column[0]}" is not a time like 2024-01-31 or 2024-01-31 13:00') from None


def as_numbers(column: np.ndarray, name: str) -> np.ndarray:
    """A column of numbers as float64; a text in it gets its sentence."""
    try:
        return column.astype(np.float64)
    except (ValueError, TypeError):
        wrong = next((v for v in column.tolist() if not isinstance(v, int | float | None)), column[0])
        raise DataError(f'channel "{name}" holds "{wrong}", which is not a number') from None


def grown(values: Tensor, size: int, axis: int) -> Tensor:
    """A copy, with NaN added at the end of an axis until it has `size` rows."""
    missing = max(0, size - values.shape[axis])
    shape = [*values.shape]
    shape[axis] = missing
    return torch.cat([values, values.new_full(shape, torch.nan)], axis)
