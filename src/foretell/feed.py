"""Feed: the windows of a source, handed to the training loop by member and number."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from .halves import Halves
from .task import Batch, Source, Split, Windows, windows

PIECE = 1024  # windows of the stop part forecast at once
ROOM = 2**24  # numbers that may be joined ahead: 64 MB; a larger panel is gathered cell by cell, at no cost in memory
LONG = 2**15 - 1  # steps since a value was seen, at most: longer than any context that is read
MOST = 20_000  # windows of the stop part that judge an epoch, at most, evenly spaced


class Column(NamedTuple):
    """Values with gaps filled by the last one seen before, 0 before the first; and the steps since it was seen, if there are gaps at all."""

    values: Float[Tensor, "row channel"]
    age: Int[Tensor, "row channel"] | None

    @classmethod
    def of(cls, values: Float[Tensor, "series step channel"], lead: int = 0) -> Self:
        """Of every series, one after another, behind `lead` rows of nothing."""
        seen = values.isfinite()
        if not lead and bool(seen.all()):
            return cls(values.flatten(0, 1), None)
        step = torch.arange(values.shape[1])[:, None].expand_as(values)
        last = torch.where(seen, step, -1).cummax(1).values
        full = torch.where(last >= 0, values.gather(1, last.clamp(min=0)), 0.0).flatten(0, 1)
        age = torch.where(last >= 0, (step - last).clamp(max=LONG), LONG).to(torch.int16).flatten(0, 1)
        return cls(F.pad(full, (0, 0, lead, 0)), F.pad(age, (0, 0, lead, 0), value=LONG))

    def runs(self, first: Int[Tensor, " n"], length: int, blank: Int[Tensor, " n"] | None = None) -> tuple[Tensor, Tensor]:
        """Windows [n, length, channel] as `filled` gives them, and what was observed; the first `blank` steps of each count as never seen."""
        values = _runs(self.values, first, length)
        if self.age is None:
            return values, torch.ones_like(values, dtype=torch.bool)
        age, step = _runs(self.age, first, length), torch.arange(length, dtype=torch.int16)[None, :, None]
        within = step if blank is None else step - blank.to(torch.int16)[:, None, None]
        seen = age == 0 if blank is None else (age == 0) & (within >= 0)
        return values.mul_(age <= within), seen


@dataclass(frozen=True, eq=False)
class Table:
    """Every step of every series, scaled, filled and joined once, so that a window is one run of memory. Rows of series s start at s·width,
    those of `past` as many later as it has more than the others."""

    past: Column
    known: Column
    target: Float[Tensor, "row target"]

    @classmethod
    def of(cls, source: Source) -> Self:
        """Of a source that is small enough; see ROOM."""
        count, width = source.panel.values.shape[:2]
        row = torch.arange(width).expand(count, -1)
        past, known, target = (source.read(c, torch.arange(count), row) for c in (source.roles.features, source.roles.known, source.roles.target))
        # The first series may have origins before a whole context: its runs begin among rows of nothing.
        return cls(Column.of(past, 0 if source.spans is None else source.context), Column.of(known), target.flatten(0, 1))

    def batch(self, source: Source, series: Int[Tensor, " n"], origin: Int[Tensor, " n"]) -> Batch:
        """What `source.batch` gives, by copies of whole windows instead of cell by cell."""
        at = series * source.panel.values.shape[1] + origin
        lead = len(self.past.values) - len(self.target)
        blank = None if source.spans is None else source.context - source.spans[series]
        past, observed = self.past.runs(lead + at - source.context + 1, source.context, blank)
        future, _ = self.known.runs(at + 1, source.horizon)
        goal = source.within(_runs(self.target, at + 1, source.horizon), series)
        return Batch(past, observed, future, source.static[series], goal.nan_to_num(0.0), goal.isfinite())


def _runs(table: Shaped[Tensor, "row channel"], first: Int[Tensor, " n"], length: int) -> Shaped[Tensor, "n length channel"]:
    channels = table.shape[1]
    if not channels:
        return table.new_zeros(len(first), length, 0)
    runs: Tensor = table.flatten().unfold(0, length * channels, channels)[first]
    return runs.view(len(first), length, channels)


def in_phase(source: Source, found: Windows, season: int) -> Windows:
    """Those whose origin lies whole seasons before the series' last observed target."""
    if season == 1:
        return found
    series, origin = found.at(found.begin)
    last = source.panel.last(*source.roles.target) - source.panel.start
    return found.each(season, (last[series] - origin) % season)


@dataclass(frozen=True, eq=False)
class Feed:
    """Member m trains on its own series' windows (`apart`), or every member on all of them, each in its own order.

    With `halves` a member learns only from the goals that are its own.
    """

    source: Source
    train: Windows
    stop: Windows
    members: int
    apart: bool
    table: Table | None = None
    halves: Halves | None = None

    @classmethod
    def of(cls, source: Source, parts: Split, members: int, *, apart: bool, season: int = 1) -> Self:
        """Of a split: windows of train to learn from, of stop to judge by; only those that end whole seasons before the series' end."""
        train, stop = (in_phase(source, windows(source, span, by_series=apart), season) for span in (parts.train, parts.stop))
        small = source.panel.values[..., 0].numel() * (len(source.roles.features) + len(source.roles.known)) <= ROOM
        return cls(source, train, stop, members, apart, Table.of(source) if small else None)

    @property
    def counts(self) -> Int[Tensor, " member"]:
        """Training windows of each member."""
        return self.train.counts if self.apart else self.train.counts.expand(self.members)

    def batch(self, member_at: Int[Tensor, " row"], numbers: Int[Tensor, "row example"]) -> Batch:
        """Training windows by number; a number of −1 is an empty slot, in which nothing is seen."""
        return self._gather(self.train, member_at, numbers)

    def stop_batches(self, member_at: Int[Tensor, " row"]) -> Iterator[Batch]:
        """All windows of the stop part, those of each member side by side."""
        if not len(self.stop):
            return
        if self.apart:
            counts = self.stop.counts[member_at]
            every = torch.arange(int(counts.max()) if len(counts) else 0)
            for piece in every.split(max(1, PIECE // max(1, len(member_at)))):
                yield self._gather(self.stop, member_at, torch.where(piece < counts[:, None], piece, -1))
        else:
            chosen = torch.arange(0, len(self.stop), max(1, -(-len(self.stop) // MOST)))
            for piece in chosen.split(PIECE):
                one = self._gather(self.stop, member_at[:1], piece[None])
                yield Batch(*(x.expand(len(member_at), *x.shape[1:]) for x in one))

    def _gather(self, of: Windows, member_at: Tensor, numbers: Tensor) -> Batch:
        first = (of.counts.cumsum(0) - of.counts)[member_at] if self.apart else torch.zeros_like(member_at)
        series, origin = of.at((first[:, None] + numbers.clamp(min=0)).clamp(max=len(of) - 1).flatten())
        gathered = self.table.batch(self.source, series, origin) if self.table else self.source.batch(series, origin)
        batch = Batch(*(x.unflatten(0, numbers.shape) for x in gathered))
        if self.halves is not None and of is self.train:
            mine = self.halves.mine(self.source, member_at.repeat_interleave(numbers.shape[1]), series, origin)
            batch = batch._replace(seen=batch.seen & mine.unflatten(0, numbers.shape)[..., None])
        full = numbers >= 0
        return batch if full.all() else batch._replace(seen=batch.seen & full[..., None, None])
