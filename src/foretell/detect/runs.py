"""Runs: panels and what comes one by one, as rows [time, channel] of the channels a detector knows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..clock import Clock
from ..errors import DataError, TaskError, nearest
from ..panel import Panel

Rows = Float[Tensor, "time channel"]
Piece = Float[Tensor, "_ channel"]  # one of several, each of its own length


class Run(NamedTuple):
    """One run: its rows from clock step `start` on, from the first to the last in which anything was observed."""

    name: str
    rows: Rows
    start: int
    clock: Clock


def runs_of(panels: Panel | Sequence[Panel]) -> list[Run]:
    """Every series of every panel as a run, all with the channels of the first; a sentence for one that does not fit."""
    every = [panels] if isinstance(panels, Panel) else list(panels)
    for one in every:
        if not isinstance(one, Panel):
            raise TaskError(f"normal runs are Panels, one or several; got {type(one).__name__}: make one with ft.read(...)")
    if not every:
        raise TaskError("no normal run was given: a detector learns from one or more runs known to be good")
    first = every[0]
    found = []
    for one in every:
        check_step(first.clock.step, one.clock.step)
        missing = [c for c in first.channels if c not in one.channels]
        extra = [c for c in one.channels if c not in first.channels]
        if missing or extra:
            what = f'lacks "{missing[0]}"' if missing else f'has "{extra[0]}" too'
            raise DataError(f'the normal run "{one.series[0]}" {what}: all normal runs must have the channels {", ".join(first.channels[:6])} …')
        found += rows_of(one, first.channels)
    if not found:
        raise DataError("nothing is observed in the normal runs")
    return found


def rows_of(panel: Panel, channels: Sequence[str]) -> list[Run]:
    """A panel's series as runs of these channels; DataError for a channel that is not there."""
    for name in channels:
        if name not in panel.channels:
            raise DataError(f'the data lack the channel "{name}", which the detector was trained on: {nearest(name, panel.channels)}')
    values = torch.stack([panel.channel(c) for c in channels], -1).double()
    found = []
    for at, name in enumerate(panel.series):
        seen = values[at].isfinite().any(1).nonzero()[:, 0]
        if len(seen):
            low, high = int(seen[0]), int(seen[-1])
            rows = values[at, low : high + 1]
            found.append(Run(name, torch.where(rows.isfinite(), rows, torch.nan), int(panel.start[at]) + low, panel.clock))
    return found


def check_step(trained: str, given: str) -> None:
    """TaskError where rows do not follow each other as in training."""
    if trained != given:
        raise TaskError(f"the detector's rows are {trained} apart, these {given}: read them with resample={trained!r}")


def as_rows(rows: object, width: int) -> Rows:
    """Rows that have just arrived: an array [time, channel], or one row [channel]."""
    try:
        array = rows.double() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows, dtype=np.float64))
    except (TypeError, ValueError):
        raise DataError(f"rows to score are numbers [time, channel]; got {type(rows).__name__}") from None
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != width:
        raise DataError(f"rows to score have {width} channels, in the order of guard.inputs; got an array {list(array.shape)}")
    return torch.where(array.isfinite(), array, torch.nan)
