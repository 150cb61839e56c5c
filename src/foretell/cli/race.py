"""Race: the models side by side, how they are fitted, and the test that compares them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import nan
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from .. import forecast
from ..backtesting import Fit, backtest, cuts_of
from ..baseline import SeasonalNaive
from ..errors import TaskError
from ..forecaster import Forecaster
from ..nets import PeriodKernel, Ridge, SeasonalRidge
from ..outcome import band_probs
from ..packs import Done, fit_each
from ..panel import Panel
from ..scoreboard import Backtest
from ..task import Task
from ..train import Progress, Training
from ..words import stamp, wall
from .asked import SHARE, Asked
from .flags import Nets, Test
from .networds import Contender, contenders, trained_by
from .screen import Bars, Screen

PACK = 128  # series with a net each that are trained in one computation
AUTO = "auto"
BESIDE = ("lightgbm", "xgboost", "autoets", "theta")
NOTHING: Mapping[str, Any] = MappingProxyType({})
BY_HAND = "stopped by hand"  # how train's note begins when Ctrl-C ended it


@dataclass(frozen=True, eq=False)
class Race:
    """The rows of a table and how they are fitted."""

    rows: tuple[Contender, ...]
    neighbours: tuple[Contender, ...]
    per_series: bool = False
    members: int = 1
    auto: bool = False

    def fitted(self, row: Contender, task: Task, watch: Callable[[Progress], None] | None) -> Fit:
        """The function that fits a row on a panel; members and nets a series only where there is something to learn."""
        if row.mixed:
            return partial(forecast.ensemble, task=task, nets=row.mixed, training=row.training)
        learns = row.trained or isinstance(row.net, Ridge | SeasonalRidge)
        if self.per_series and isinstance(row.net, PeriodKernel):
            return partial(each, task=task, net=row.net, training=row.training, watch=watch)
        return partial(
            forecast.fit, task=task, net=row.net, training=row.training, per_series=self.per_series and learns,
            members=self.members if row.trained else 1, watch=watch,
        )  # fmt: skip


def each(panel: Panel, *, task: Task, net: PeriodKernel, training: Training, watch: Callable[[Progress], None] | None) -> Forecaster:
    """A net for every series: in one computation, or, of many series, pack after pack in all processes at hand."""
    if len(panel) <= PACK:
        return forecast.fit(panel, task, net, training, per_series=True, watch=watch)

    def told(done: Done) -> None:
        share = round(training.epochs * done.series / done.of)
        if watch:
            watch(Progress(share, training.epochs, done.of - done.series, nan, nan, done.seconds))

    return fit_each(panel, task, net, training, size=PACK, watch=told)


def race(nets: Nets, training: Mapping[str, Any], usual: Mapping[str, Any] = NOTHING) -> Race:
    """The rows typed, and the neighbours that every table shows, trained by the same flags; `usual` is what the data suggest, below
    what a preset says."""
    words = [word for word in nets.net if word.strip() != AUTO]
    kinds = [re.split("[=:]", word)[0].strip().replace("-", "_") for word in words]
    words += [word for word in BESIDE if word not in kinds] if nets.neighbours else []
    rows = contenders(words, training, usual)
    auto = AUTO in [word.strip() for word in nets.net]
    if nets.members > 1 and not auto and not any(row.trained for row in rows):
        listed = ", ".join(row.name for row in rows)
        raise TaskError(f"--members {nets.members} averages nets of different seeds, and {listed} draws nothing at random: use it with --net lstm")
    names = [row.name for row in rows]
    # Of thousands of series a map of every step of the context would cost more than the nets: demand has its own ridge.
    shared, ridge = trained_by(usual, training), SeasonalRidge() if usual else Ridge()
    beside = (Contender("seasonal_naive", SeasonalNaive(), shared), Contender("ridge", ridge, shared))
    return Race(tuple(rows), tuple(one for one in beside if one.name not in names), nets.per_series, nets.members, auto)


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
    again = "" if len(cuts) == 1 else "; fitted once, at the first" if not refit else f"; fitted again at every {_nth(refit)}"
    return Plan(windows, step, where, refit, len(cuts), f"test: {often}{again}")


def _nth(number: int) -> str:
    return {1: "one", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _share(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def tested(asked: Asked, rows: Race, plan: Plan, level: Sequence[float], screen: Screen) -> tuple[Backtest, dict[str, Forecaster]]:
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


def best(result: Backtest, rows: Race) -> Contender:
    """The row asked for with the least error of the test."""
    metric = "MASE" if len(result.targets) > 1 else "MAE"
    found = result.scores()
    return min(rows.rows, key=lambda row: float(found[row.name][metric].nan_to_num(torch.inf)))
