"""What the laws of forecasters run on: the nets, small panels with everything in them, and ways to change a panel."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from _pytest.mark.structures import ParameterSet
from jaxtyping import TypeCheckError
from torch import Tensor

from foretell import Drift, Forecaster, MovingAverage, Panel, SeasonalNaive, Task, Training, forecast, from_array
from foretell.clock import Clock
from foretell.forecaster import Net
from foretell.nets import GraphLSTM, LSTMTransformer, PeriodKernel, Ridge, SeasonalRidge, StackedLSTM
from foretell.optim import Optimizer

NETS: dict[str, Net] = {
    "ridge": Ridge(),
    "seasonal ridge": SeasonalRidge(season=4, seasons=3, every=2),
    "lstm on ridge": StackedLSTM(hidden=(4,)),
    "lstm alone": StackedLSTM(hidden=(4, 3), dropout=0.1, ridge=False, mask=True, centre="last", recent=True),
    "lstm transformer": LSTMTransformer(hidden=4, heads=2, feedforward=6, ahead=4),
    "period kernel": PeriodKernel(kernels=3, filters=2, heads=2, size=2, dense=6, ahead=4),
    "graph lstm": GraphLSTM(neighbours=2, reach=4, chance=1.0, hidden=(4,), dropout=0.1, ahead=4),  # chance: finds edges in noise
    "seasonal_naive": SeasonalNaive(),
    "drift": Drift(),
    "moving_average": MovingAverage(window=5),
}
LEARNT = ("ridge", "seasonal ridge", "lstm on ridge", "lstm alone", "lstm transformer", "period kernel", "graph lstm")
TOGETHER = ("graph lstm",)  # of series that act on each other: one net for all
DRAWN = ("lstm on ridge", "lstm alone", "lstm transformer", "period kernel", "graph lstm")  # their first weights come from a seed and a name
TRAINING = Training(epochs=2, batch=128, seed=3, device="cpu", optimizer=Optimizer(rate=0.02))
TASK = Task(target="y", known=("price", "sun", "hour_sin", "hour_cos", "weekend", "index_y"), context=12, horizon=3)
PLAIN = Task(target="y", context=12, horizon=3)


def rich(series: Sequence[str] = ("a", "b", "c"), *, seed: int = 0, steps: int = 150) -> Panel:
    """Everything a panel can hold: gaps, a late start, own and shared channels, known ahead or not, calendar and index."""
    draw = np.random.default_rng(seed)
    count, start = len(series), torch.arange(len(series)) * 7
    shared = draw.normal(size=(steps + int(start[-1]), 2))
    values = draw.normal(size=(count, steps, 3))
    for s in range(count):
        hour = np.arange(int(start[s]), int(start[s]) + steps)
        wave = 2 * np.sin(2 * np.pi * hour / 24)
        values[s, :, 0] = 20 * (s + 1) + wave + 0.5 * values[s, :, 1] + shared[hour, 0] + 0.3 * values[s, :, 0]
    values[0, 40:44, 0] = values[0, 60:90:7, 2] = values[-1, :9, 2] = np.nan
    values[1 % count, 100:101, 0] = np.nan
    clock = Clock(np.datetime64("2024-03-28"), "h", "Europe/Berlin")
    channels = ("y", "price", "x", "sun", "wind")
    panel = Panel(torch.tensor(values), torch.tensor(shared), start, clock, tuple(series), channels)
    return panel.with_calendar("hour", "weekend").with_seasonal_index("y")


def plain(steps: int = 140, series: Sequence[str] = ("a", "b", "c"), *, seed: int = 1) -> Panel:
    """A target and a past-only channel, no gaps, all of one length."""
    draw = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * np.arange(steps) / 24)[:, None]
    values = draw.normal(size=(len(series), steps, 2)) * (0.3, 1.0)
    values[..., :1] += 5 + np.arange(len(series))[:, None, None] + 2 * wave
    values[:, 1:, 0] += 0.4 * values[:, :-1, 1]
    return from_array(values, ("y", "x"), series, step="h")


def fitted(name: str, panel: Panel, task: Task = TASK, *, per_series: bool = False, training: Training = TRAINING) -> Forecaster:
    return forecast.fit(panel, task, NETS[name], training, per_series=per_series)


@cache
def standing(name: str, alone: bool = False) -> Forecaster:
    """Fitted once on `rich()`, for the tests that only ask: a model is a value that nothing changes, which is a law of its own."""
    return fitted(name, rich(), per_series=alone)


def learnt(model: Forecaster) -> tuple[object, ...]:
    """Everything that fit took from the data, for a digest: all but the time it took."""
    facts = {name: value for name, value in model.facts.items() if name != "seconds"}
    curves = () if model.curves is None else (model.curves.train, model.curves.stop)
    return dict(model.weights), model.scaling, model.bands, facts, curves, model.parts, model.notes


def told(model: Forecaster, panel: Panel, origin: int, levels: Sequence[float] = (50, 80, 95)) -> tuple[Tensor, Tensor]:
    ahead = model.predict(panel, origin=origin, level=levels)
    return ahead.values, ahead.quantiles


def after(panel: Panel, cut: int, channels: Sequence[str], value: float) -> Panel:
    """A copy in which every observed cell of these channels after a clock step has this value."""
    values, shared = panel.values.clone(), panel.shared.clone()
    step = panel.start[:, None] + torch.arange(values.shape[1])
    for channel in channels:
        if channel in panel.own:
            at = panel.own.index(channel)
            values[..., at] = values[..., at].masked_fill((step > cut) & values[..., at].isfinite(), value)
        else:
            shared[cut + 1 :, panel.common.index(channel)] = value
    return replace(panel, values=values, shared=shared)


def unknown(panel: Panel, task: Task) -> tuple[str, ...]:
    """Channels of a panel that the task does not know ahead."""
    return tuple(c for c in panel.channels if c not in task.known)


@contextmanager
def refused(error: type[Exception], words: str) -> Iterator[None]:
    """One sentence of ours. Where annotations are checked at every call, a value of a wrong type does not get that far."""
    with pytest.raises((error, TypeCheckError)) as caught:
        yield
    if not isinstance(caught.value, TypeCheckError):
        assert caught.match(words)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def slow(*values: object) -> ParameterSet:
    """One case of many for `make check` only: its siblings show the same in less time."""
    return pytest.param(*values, marks=pytest.mark.slow)


FEW = ("ridge", "lstm on ridge", "period kernel", "drift")  # one of each kind: in closed form, trained on it, packed, by rule


def every(names: Iterable[str], quick: Sequence[str] = FEW) -> list[ParameterSet]:
    """All of them, of which `make test` tries the quick ones."""
    return [pytest.param(name) if name in quick else slow(name) for name in names]


LATER = ("lstm alone", "lstm transformer")  # per series as the LSTM on a ridge is: with `make check`
MODES = [
    pytest.param(name, alone, id=f"{name}{', per series' if alone else ''}", marks=[pytest.mark.slow] if alone and name in LATER else [])
    for name in NETS
    for alone in ((False,) if name in TOGETHER else (False, True))
]
SPARE = [case if case.values[0] in FEW or case.marks else slow(*case.values) for case in MODES]  # of what costs several fits
