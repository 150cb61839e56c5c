"""select: leave out what a model makes no use of, and see in one table whether it was missed."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from . import forecast
from .attribution.types import Advice
from .backtesting import backtest
from .errors import TaskError
from .explanation.explain import explain
from .forecaster import Forecaster, Net
from .nets import PeriodKernel
from .panel import Panel
from .scoreboard import Backtest
from .task import Task
from .train import Training

EXPLAINED = 24  # training windows that are explained


@dataclass(frozen=True, eq=False)
class Selection:
    """What was found on the training part, the leaner task and net, and the test of both on later data; `dropped` are channels, and period
    kernels by their name."""

    advice: tuple[Advice, ...]
    dropped: tuple[str, ...]
    task: Task
    backtest: Backtest | None
    net: Net | None = None

    def table(self) -> Any:
        """Accuracy before and after, baselines first; None if nothing was left out."""
        return None if self.backtest is None else self.backtest.table()


def select(panel: Panel, task: Task, net: Net | None = None, training: Training | None = None, *, windows: int = 5, step: int | None = None) -> Selection:
    """Fits on what lies before the last `windows` origins, explains windows of that model's training part, leaves the weak and
    redundant channels out, and backtests the net with and without them over those origins. Of a PeriodKernel, kernels are judged
    the same way, and it is fitted again with as many fewer, the strongest periods first. What was chosen has not seen
    what judges it. TaskError where there is nothing beside the target to leave out."""
    reach = (windows - 1) * (step or task.horizon) + task.horizon
    cut = panel.last(*task.target) - reach
    model = forecast.fit(panel.until(cut), task, net, training)
    others = tuple(c for c in model.roles.past + model.roles.known if c in model.own + model.common)
    banked = isinstance(model.net, PeriodKernel) and model.net.kernels > 1
    if not others and not banked:
        raise TaskError("there is no measured channel beside the target to leave out: select has nothing to do")
    origins = _training_origins(model, panel)
    found = explain(model, panel, origin=origins).advice(keep=task.target) if others else ()
    idle = explain(model, panel, origin=origins, method="kernels").advice(keep=()) if banked else ()
    dropped = tuple(dict.fromkeys(a.channel for a in found if a.finding != "noisy" and a.channel in others))
    kernels = tuple(dict.fromkeys(a.channel for a in idle))
    leaner = fewer(model.net, len(kernels)) if kernels else net
    lean = task.model_copy(update={"known": tuple(c for c in task.known if c not in dropped), "past": tuple(c for c in model.roles.past if c not in dropped)})
    if not dropped and not kernels:
        return Selection((*found, *idle), (), task, None, net)
    fit = partial(forecast.fit, training=training)
    rows = {"all channels": partial(fit, task=task, net=net), "selected": partial(fit, task=lean, net=leaner)}
    return Selection((*found, *idle), (*dropped, *kernels), lean, backtest(rows, panel, task=task, windows=windows, step=step), leaner)


def fewer(net: Net, idle: int) -> PeriodKernel:
    """The same net with as many kernels less; one stays."""
    assert isinstance(net, PeriodKernel)
    return net.model_copy(update={"kernels": max(1, net.kernels - idle)})


def _training_origins(model: Forecaster, panel: Panel) -> list[int]:
    """Evenly spaced origins whose forecasts lie in the training part, at the same place in the season."""
    train = model.parts[0]
    last, first = train.last - model.task.horizon, max(train.first, int(panel.start.max()) + model.context)
    season = max(1, model.clock.season)
    steps = list(range(last, first, -season)) or [last]
    some = torch.linspace(0, len(steps) - 1, min(EXPLAINED, len(steps))).round().long().unique().tolist()
    return [steps[i] for i in some]
