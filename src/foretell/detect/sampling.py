"""Sampling: windows of several members' normal runs by number, never stored, and the random numbers that belong to a member."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import TaskError
from ..noise import key
from ..task import Batch

MOST = 4096  # windows of the stop part that judge an epoch, at most, evenly spaced
PIECE = 1024  # of them rebuilt at once


class Normal(NamedTuple):
    """One member's normal runs, scaled and without gaps where a window stands: `starts` holds (run, first row) of every window to use."""

    runs: Sequence[Tensor]
    starts: Int[Tensor, "example 2"]


@dataclass(frozen=True, eq=False)
class Windows:
    """All members' runs, row after row, and for each member the rows where its windows begin: those to train on, and those that tell
    when to stop."""

    rows: Float[Tensor, "row channel"]
    window: int
    train: tuple[Tensor, ...]
    stop: tuple[Tensor, ...]

    @classmethod
    def of(cls, members: Sequence[Normal], window: int, stop: float, names: Sequence[str]) -> Self:
        """The last share `stop` of every run's windows is held out, and none of those trained on reaches into it. TaskError for
        windows that leave their run or hold a gap."""
        place, rows, total = dict[int, list[int]](), list[Tensor](), 0
        train, held = list[Tensor](), list[Tensor]()
        for name, (runs, starts) in zip(names, members, strict=True):
            if id(runs) not in place:
                ends = np.cumsum([total, *(len(run) for run in runs)]).tolist()
                place[id(runs)], total = ends, ends[-1]
                rows += runs
            first, last = _parted(_checked(name, runs, starts, window), window, stop)
            base = torch.tensor(place[id(runs)])
            train.append(base[first[:, 0]] + first[:, 1])
            held.append(base[last[:, 0]] + last[:, 1])
        return cls(_joined(rows), window, tuple(train), tuple(held))

    @property
    def counts(self) -> Int[Tensor, " member"]:
        """How many windows each member trains on."""
        return torch.tensor([len(one) for one in self.train])

    def at(self, begins: Int[Tensor, "*axes example"], time_first: bool = False) -> Float[Tensor, "..."]:
        """The windows that begin at these rows [..., example, time, channel]; with `time_first` [..., time, example, channel]."""
        steps = torch.arange(self.window)
        return self.rows[begins[..., None, :] + steps[:, None] if time_first else begins[..., None] + steps]

    def begins(self, member_at: Int[Tensor, " row"], numbers: Int[Tensor, "row *axes"]) -> Int[Tensor, "row *axes"]:
        """First rows of these members' windows by number; −1, an empty slot, is the first window."""
        return torch.stack([self.train[m][n.clamp(min=0)] for m, n in zip(member_at.tolist(), numbers, strict=True)])

    def stop_windows(self, member_at: Int[Tensor, " row"]) -> Iterator[tuple[Tensor, Bool[Tensor, "row example"]]]:
        """Windows [row, example, time, channel] of the stop part, and which of them are there, piece by piece."""
        chosen = [self.stop[m] for m in member_at.tolist()]
        chosen = [one[torch.linspace(0, len(one) - 1, MOST).round().long()] if len(one) > MOST else one for one in chosen]
        longest = max((len(one) for one in chosen), default=0)
        begins = torch.full((len(chosen), longest), -1)
        for row, one in enumerate(chosen):
            begins[row, : len(one)] = one
        for piece in begins.split(PIECE, 1) if longest else ():
            yield self.at(piece.clamp(min=0)), piece >= 0

    def batch(self, member_at: Int[Tensor, " row"], numbers: Int[Tensor, "row example"]) -> Batch:
        """The same windows as `supervised.train` asks for them: past and goal are one."""
        return _as_batch(self.at(self.begins(member_at, numbers)), numbers >= 0)

    def stop_batches(self, member_at: Int[Tensor, " row"]) -> Iterator[Batch]:
        """The stop part, likewise."""
        for windows, there in self.stop_windows(member_at):
            yield _as_batch(windows, there)


def _as_batch(windows: Float[Tensor, "row example time channel"], there: Bool[Tensor, "row example"]) -> Batch:
    none = windows.new_zeros(*windows.shape[:2], windows.shape[2], 0)
    seen = there[..., None, None].expand(windows.shape)
    return Batch(windows, torch.ones_like(windows, dtype=torch.bool), none, none[:, :, 0], windows, seen)


def _checked(name: str, runs: Sequence[Tensor], starts: Tensor, window: int) -> Tensor:
    if not len(starts):
        return starts
    lengths = torch.tensor([len(run) for run in runs])
    outside = (starts[:, 1] < 0) | (starts[:, 1] + window > lengths[starts[:, 0]])
    if bool(outside.any()):
        run, row = starts[outside][0].tolist()
        raise TaskError(f"{name}: the window of {window} rows that begins at row {row} leaves run {run}, which has {int(lengths[run])} rows")
    for number, run in enumerate(runs):
        own = starts[starts[:, 0] == number, 1]
        broken = (~run.isfinite().all(1)).long().cumsum(0)
        before = torch.cat([broken.new_zeros(1), broken])
        gap = before[own + window] > before[own]
        if bool(gap.any()):
            raise TaskError(f"{name}: the window that begins at row {int(own[gap][0])} of run {number} holds a gap: give only windows without one")
    return starts


def _parted(starts: Int[Tensor, "example 2"], window: int, stop: float) -> tuple[Tensor, Tensor]:
    """Windows to train on and windows held out, run by run: the last share, and before it a gap as long as a window."""
    train, held = [], []
    for run in starts[:, 0].unique().tolist():
        own = starts[starts[:, 0] == run]
        own = own[own[:, 1].argsort()]
        count = round(stop * len(own))
        last = own[len(own) - count :]
        first = own[own[:, 1] + window <= last[0, 1]] if count else own
        train.append(first if len(first) else own)
        held.append(last if len(first) else last[:0])
    blank = starts[:0]
    return torch.cat([blank, *train]), torch.cat([blank, *held])


def _joined(rows: Sequence[Tensor]) -> Tensor:
    widths = sorted({run.shape[1] for run in rows})
    if len(widths) > 1:
        raise TaskError(f"the normal runs have {widths[0]} and {widths[-1]} channels: all must have the same")
    if not rows:
        raise TaskError("no normal run was given: a detector learns from one or more runs known to be good")
    return torch.cat(list(rows)).contiguous()


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers of several members, drawn in blocks, each member's from a stream of its own (SFC64, C. Doty-Humphrey), keyed by
    seed, name and place in the training: the same in any company."""

    streams: tuple[np.random.Generator, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, seed: int, names: Sequence[str], place: Sequence[object], *, dtype: torch.dtype, device: torch.device) -> Self:
        """The streams of this place, as ("critic", epoch, step)."""
        return cls(tuple(np.random.Generator(np.random.SFC64(key(seed, name, *place))) for name in names), dtype, device)

    def keep(self, shape: tuple[int, ...], rate: float) -> Float[Tensor, "member ..."]:
        """A mask [member, *shape]: 0 with probability `rate` (to 2⁻¹⁶), else 1 / (1 − rate). A draw of 64 bits is cut into four numbers,
        or into eight where eight bits can tell the rate."""
        size = int(np.prod(shape))
        if rate == 0:
            return torch.ones(len(self.streams), *shape, dtype=self.dtype, device=self.device)
        kind = np.dtype(np.uint8 if (rate * 2**8).is_integer() else np.uint16)
        raw = np.stack([one.bit_generator.random_raw(-(-size * kind.itemsize // 8)) for one in self.streams])
        # numpy compares and converts short integers several times faster than torch does.
        kept = raw.view(kind)[:, :size] >= round(rate * 2 ** (8 * kind.itemsize))
        number = torch.from_numpy(kept.astype(np.float64 if self.dtype == torch.float64 else np.float32))
        return number.to(self.device, self.dtype).mul_(1 / (1 - rate)).view(-1, *shape)

    def normal(self, *shape: int) -> Float[Tensor, "member ..."]:
        """Standard normal numbers [member, *shape]."""
        return self._tensor([one.standard_normal(shape) for one in self.streams])

    def uniform(self, *shape: int) -> Float[Tensor, "member ..."]:
        """Numbers between 0 and 1 [member, *shape]."""
        return self._tensor([one.random(shape) for one in self.streams])

    def _tensor(self, values: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(values)).to(self.device, self.dtype)
