"""Asked: from what was typed to a panel, a task and a test; what was left out is filled in and said."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import forecast
from ..backtesting import Fit, backtest, cuts_of
from ..baseline import SeasonalNaive
from ..calendar import check_land
from ..clock import Clock
from ..errors import DataError, TaskError, nearest
from ..forecaster import Forecaster
from ..nets import Ridge
from ..outcome import band_probs
from ..panel import Panel
from ..reading import Reading
from ..reading.panels import draft
from ..reading.tables import Log
from ..task import Task, roles_of
from ..train import Progress
from ..words import stamp, wall, words
from .flags import Ahead, Nets, Test, given
from .networds import NEIGHBOURS, Contender, contenders, trained_by
from .screen import Bars, Screen

SHARE = 0.2  # of the data, tested on if nothing else is said
BY_HAND = "stopped by hand"  # how train's note begins when Ctrl-C ended it


@dataclass(frozen=True, eq=False)
class Asked:
    """The data and the question, and how the file was read."""

    source: str
    reading: Reading
    panel: Panel
    task: Task
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The file's name without its endings."""
        return Path(self.source).name.split(".")[0] or "data"


def ask(data: Path, typed: Mapping[str, Any], reading: Mapping[str, Any], ahead: Ahead, screen: Screen) -> Asked:
    """Reads the file and completes the question."""
    how = Reading.model_validate(reading)
    panel, notes = opened(data, how)
    task, panel = completed(panel, typed, ahead, screen, clocked=how.time is not None or how.start is not None)
    if ahead.future:
        measured = [k for k in task.known if k in panel.channels]
        panel = with_future(panel, ahead.future, how, measured)
    for note in notes:
        screen.remark(f"note: {note}")
    return Asked(str(data), how, panel, task, tuple(notes))


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
    frame = replace(there, names=panel.names, labels={}).arranged(tuple(c for c in there.own if c in found), tuple(c for c in there.common if c in found)).frame()
    return panel.extend(frame)


def check_future(asked: Asked) -> None:
    """TaskError, before anything is trained, if a known column ends before the horizon does."""
    panel, task = asked.panel, asked.task
    last = panel.last(*task.target)
    for name in (k for k in task.known if k in panel.channels):
        values, row = panel.channel(name), (last - panel.start)[:, None] + torch.arange(1, task.horizon + 1)
        there = values.gather(1, row.clamp(0, values.shape[1] - 1)).isfinite() & (row < values.shape[1])
        if not there.all():
            one, step = (~there).nonzero()[0].tolist()
            when = stamp(wall(panel.clock, int(last[one]) + 1 + step), panel.clock)
            whose = f' of series "{panel.series[one]}"' if len(panel) > 1 else ""
            many = f"{panel.names.id}, " if len(panel) > 1 else ""
            raise TaskError(
                f'"{name}"{whose} has no value at {when}, which is to be forecast: give a file with {many}{panel.names.time} and {name} '
                f"by --future, or leave {name} out of --known"
            )


# ---------------------------------------------------------------- models and test


@dataclass(frozen=True, eq=False)
class Race:
    """The rows of a table and how they are fitted."""

    rows: tuple[Contender, ...]
    neighbours: tuple[Contender, ...]
    per_series: bool = False
    members: int = 1

    def fitted(self, row: Contender, task: Task, watch: Callable[[Progress], None] | None) -> Fit:
        """The function that fits a row on a panel; members and nets a series only where there is something to learn."""
        plain = isinstance(row.net, SeasonalNaive) or not (row.trained or isinstance(row.net, Ridge))
        return partial(
            forecast.fit, task=task, net=row.net, training=row.training, per_series=self.per_series and not plain,
            members=self.members if row.trained else 1, watch=watch,
        )  # fmt: skip


def race(nets: Nets, training: Mapping[str, Any]) -> Race:
    """The rows typed, and the neighbours that every table shows, trained by the same flags."""
    rows = contenders(nets.net, training)
    if nets.members > 1 and not any(row.trained for row in rows):
        raise TaskError(f"--members {nets.members} averages nets of different seeds, and {', '.join(r.name for r in rows)} draws nothing at random: use it with --net lstm")
    names = [row.name for row in rows]
    shared = trained_by(training)
    beside = [Contender(name, net, shared) for name, net in zip(NEIGHBOURS, (SeasonalNaive(), Ridge()), strict=True) if name not in names]
    return Race(tuple(rows), tuple(beside), nets.per_series, nets.members)


class Plan(NamedTuple):
    """When the forecasts of the test are made."""

    windows: int
    step: int
    test: float | str | None
    refit: int
    cuts: int
    told: str

    @property
    def fits(self) -> int:
        """How often each model is fitted."""
        return -(-self.cuts // self.refit) if self.refit else 1


def planned(asked: Asked, test: Test) -> Plan:
    """The test asked for: a fifth of the data if nothing was said, one horizon where that is too short."""
    if test.test is not None and test.windows is not None:
        raise TaskError("--test and --windows both say where the origins lie: give one")
    for flag, value, least in (("windows", test.windows, 1), ("step", test.step, 1), ("refit", test.refit, 0)):
        if value is not None and value < least:
            raise TaskError(f"--{flag} must be at least {least}; got {value}")
    for level in test.level:
        band_probs(level)
    panel, task, step = asked.panel, asked.task, test.step or asked.task.horizon
    span = int(panel.last(*task.target).max()) + 1 - int(panel.start.min())
    where, windows, usual = None, test.windows or 1, 1
    if test.test is not None:
        where, usual = _share(test.test), 0
    elif test.windows is None:  # counted back from the end, the origins stand where the forecast's own does: at the same hour
        windows, usual = max(1, (round(SHARE * span) - task.horizon) // step + 1), 0
    refit = usual if test.refit is None else test.refit
    cuts = cuts_of(panel, task, windows, step, where)
    first, last = (stamp(wall(panel.clock, int(c)), panel.clock) for c in (cuts.min(), cuts.max()))
    often = f"{len(cuts)} forecasts, made from {first} to {last}" if len(cuts) > 1 else f"one forecast, made at {first}"
    again = "" if len(cuts) == 1 else "; fitted once, at the first" if not refit else f"; fitted again at every {f'{refit}th' if refit > 1 else 'one'}"
    return Plan(windows, step, where, refit, len(cuts), f"test: {often}{again}")


def _share(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def tested(asked: Asked, rows: Race, plan: Plan, level: Sequence[float], screen: Screen) -> tuple[Any, dict[str, Forecaster]]:
    """The backtest of every row, and each row's model as first fitted."""

    kept: dict[str, Forecaster] = {}
    with screen.progress() as bars:
        models = {row.name: _kept(row, asked, rows, kept, (bars, plan.fits)) for row in (*rows.neighbours, *rows.rows)}
        result = backtest(models, asked.panel, task=asked.task, windows=plan.windows, step=plan.step, test=plan.test, refit=plan.refit, level=level or None)
    return result, kept


def _kept(row: Contender, asked: Asked, rows: Race, kept: dict[str, Forecaster], drawn: tuple[Bars, int]) -> Fit:
    """A fit that moves its bar and puts its first model aside."""
    done, epochs = count(), row.training.epochs if row.trained else 1
    bar = drawn[0].add(f"testing {row.name}", drawn[1], epochs)

    def fit(panel: Panel) -> Forecaster:
        at = next(done)
        bar.begin()
        model = rows.fitted(row, asked.task, lambda p: bar.epoch(at, p.epoch))(panel)
        if any(note.startswith(BY_HAND) for note in model.notes):
            raise KeyboardInterrupt  # a table of half-trained nets would mislead
        bar.epoch(at, epochs)
        kept.setdefault(row.name, model)
        return model

    return fit


def final(asked: Asked, rows: Race, row: Contender, screen: Screen) -> Forecaster:
    """One row fitted on all data."""
    epochs = row.training.epochs if row.trained else 1
    with screen.progress() as bars:
        bar = bars.add(f"fitting {row.name} on all data", 1, epochs)
        bar.begin()
        return rows.fitted(row, asked.task, lambda p: bar.epoch(0, p.epoch))(asked.panel)


def best(result: Any, rows: Race) -> Contender:
    """The row asked for with the least error of the test."""
    metric = "MASE" if len(result.targets) > 1 else "MAE"
    found = result.scores()
    return min(rows.rows, key=lambda row: float(found[row.name][metric].nan_to_num(torch.inf)))
