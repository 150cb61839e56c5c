"""Asked: from what was typed to a panel and a task; what was left out is filled in and said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..backtesting import told_ahead
from ..calendar import check_land
from ..clock import Clock
from ..errors import DataError, TaskError, nearest
from ..panel import Panel
from ..reading import Reading
from ..reading.panels import draft, m5_folder
from ..reading.same_step import giveaways
from ..reading.tables import Log
from ..task import PERIOD, Task, roles_of
from ..words import stamp, wall, words
from .flags import Ahead
from .screen import Screen

SHARE = 0.2  # of the data, tested on if nothing else is said


@dataclass(frozen=True, eq=False)
class Asked:
    """The data and the question, and how the file was read."""

    source: str
    reading: Reading
    panel: Panel
    task: Task
    notes: tuple[str, ...] = ()


def ask(data: Path, typed: Mapping[str, Any], reading: Mapping[str, Any], ahead: Ahead, screen: Screen) -> Asked:
    """Reads the file and completes the question."""
    how = Reading.model_validate(reading)
    panel, notes = opened(data, how)
    typed = {**(of_m5(panel) if m5_folder(data) else {}), **typed}
    task, panel = completed(panel, typed, ahead, screen, clocked=how.time is not None or how.start is not None)
    if ahead.future:
        measured = [k for k in task.known if k in panel.channels]
        panel = with_future(panel, ahead.future, how, measured)
    notes = (*notes, *giveaways(panel, task))
    for note in notes:
        screen.remark(f"note: {note}")
    return Asked(str(data), how, panel, task, tuple(notes))


def of_m5(panel: Panel) -> dict[str, Any]:
    """The competition's question: 28 days of sales ahead, never below zero; prices, snap and events are known."""
    known = tuple(c for c in panel.channels if c != "sales")
    return {"target": ("sales",), "horizon": 28, "known": known, "context": 56, "floor": 0.0}


def usual(data: Path) -> dict[str, Any]:
    """How nets are trained on M5 unless something else is said: for means, which add up, of series whose zero stays zero."""
    return {"scale": "mean", "loss": "mse"} if m5_folder(data) else {}


def opened(data: Path, how: Reading) -> tuple[Panel, Sequence[str]]:
    """The file as a panel, and what was noticed on the way."""
    log = Log()
    return draft(data, how, log).panel, log.notes


def completed(panel: Panel, typed: Mapping[str, Any], ahead: Ahead, screen: Screen, *, clocked: bool = True) -> tuple[Task, Panel]:
    """The task with target, horizon and calendar filled in, and the panel with that calendar."""
    target = typed["target"] if "target" in typed else _target(panel, screen)
    horizon = typed["horizon"] if "horizon" in typed else _horizon(panel.clock, screen)
    for land in ahead.holidays:
        check_land(land)
    kinds = () if ahead.no_calendar else suited(panel) if ahead.calendar is None and clocked else ahead.calendar or ()
    panel = panel.with_calendar(*kinds, holidays=ahead.holidays)
    known = (*typed.get("known", ()), *(c for c in panel.calendar_channels if c not in typed.get("known", ())))
    task = Task.model_validate({**typed, "target": target, "horizon": horizon, "known": known})
    roles_of(task, panel)
    if task.horizon != PERIOD:
        return task, panel
    task = told_ahead(panel, task, 1, None, SHARE)
    steps = sorted(set(task.each.values()))
    screen.remark(f"horizon: of each series its fundamental period, {steps[0]}" + (f" to {steps[-1]} steps" if len(steps) > 1 else " steps"))
    return task, panel


def _target(panel: Panel, screen: Screen) -> str:
    if len(panel.channels) > 1 and "y" not in panel.channels:
        listed = ", ".join(panel.channels[:12]) + (" …" if len(panel.channels) > 12 else "")
        raise TaskError(f"which column is to be forecast? Say --target and one of: {listed}")
    name = "y" if "y" in panel.channels else panel.channels[0]
    screen.remark(f'target: "{name}"' + (", the only column of numbers" if len(panel.channels) == 1 else "") + " (--target says another)")
    return name


def _horizon(clock: Clock, screen: Screen) -> int:
    screen.remark(f"horizon: {clock.season} steps, {words('en').length(clock, clock.season)} (--horizon says another)")
    return clock.season


def suited(panel: Panel) -> tuple[str, ...]:
    """Calendar channels that the step can make use of; the day of the year only where two years were seen."""
    clock, years = panel.clock, panel.values.shape[1] * panel.clock.seconds / 31_557_600
    if clock.monthly:
        return ("month",) if clock.season > 1 else ()
    if clock.seconds < 60:
        return ()
    yearly = ("dayofyear",) if years >= 2 else ()
    if clock.sub_daily:
        return ("hour", "weekday", "weekend", *yearly)
    return ("weekday", "weekend", *yearly) if clock.step == "D" else yearly


# ---------------------------------------------------------------- the future


def with_future(panel: Panel, path: Path, how: Reading, known: Sequence[str]) -> Panel:
    """The panel with the known channels of another file; of its other columns nothing is read."""
    if not known:
        raise TaskError(f"--future {path}: no column is known ahead, so nothing of it would be used: name them with --known")
    step = {} if how.resample else {"step": panel.clock.step}
    there = opened(path, how.model_copy(update={"derive": {}, "channels": None, **step}))[0]
    found = [k for k in known if k in there.channels]
    if not found:
        raise DataError(f'--future {path} has no column "{known[0]}"; {nearest(known[0], there.channels)}')
    if len(panel) == len(there) == 1:
        there = replace(there, series=panel.series)  # a file without a series column gets its name from the file
    own, common = (tuple(c for c in home if c in found) for home in (there.own, there.common))
    return panel.extend(replace(there, names=panel.names, labels={}).arranged(own, common).frame())


def check_future(panel: Panel, task: Task) -> None:
    """TaskError, before anything is trained, if a known column ends before the horizon does."""
    last = panel.last(*task.target)
    for name in (k for k in task.known if k in panel.channels):
        values, row = panel.channel(name), (last - panel.start)[:, None] + torch.arange(1, task.horizon + 1)
        there = values.gather(1, row.clamp(0, values.shape[1] - 1)).isfinite() & (row < values.shape[1])
        own = task.ahead_of(panel.series)
        there |= torch.arange(task.horizon) >= (task.horizon if own is None else own[:, None])
        if not there.all():
            one, step = (~there).nonzero()[0].tolist()
            when = stamp(wall(panel.clock, int(last[one]) + 1 + step), panel.clock)
            whose = f' of series "{panel.series[one]}"' if len(panel) > 1 else ""
            many = f"{panel.names.id}, " if len(panel) > 1 else ""
            raise TaskError(
                f'"{name}"{whose} has no value at {when}, which is to be forecast: give a file with {many}{panel.names.time} and {name} '
                f"by --future, or leave {name} out of --known"
            )
