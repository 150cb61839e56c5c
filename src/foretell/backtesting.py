"""backtest: what the forecasts would have been, made again at past origins with nothing but what was known there."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import forecast
from .baseline import SeasonalNaive
from .clock import step_seconds
from .errors import ForetellError, TaskError
from .forecaster import Forecaster, step_of
from .interval import Conformal, kept, scores_of
from .nets import Ridge
from .outcome import Part, probs_of
from .panel import Panel
from .periodic import resolved
from .scoreboard import Backtest, naive_errors
from .task import PERIOD, Source, Task, split
from .train import Training

Fit = Callable[[Panel], Forecaster]
CUTBACKS = 5  # times that periods are sought again in less, when the first origin lies before what they were found in
LEAST = 10  # known cuts from which bands can roll; before that they are the model's own
SPAN = 14  # cuts in the running mean of the errors' size
RECENT = 100  # past cuts whose errors set the bands: enough for a steady quantile, few enough to follow a drift


class Progress(NamedTuple):
    """A cut of one model done, for whoever watches."""

    model: str
    cut: int
    cuts: int
    seconds: float


Watch = Callable[[Progress], None]


class Run(NamedTuple):
    """One model through all cuts, in the user's units."""

    point: Float[Tensor, "cut series horizon target"]
    quantiles: Float[Tensor, "cut series horizon target prob"]
    first: Forecaster
    seconds: float


def backtest(
    models: Mapping[str, Fit],
    panel: Panel,
    *,
    task: Task | None = None,
    windows: int = 5,
    step: int | None = None,
    test: float | str | None = None,
    refit: int | None = None,
    level: Sequence[int | float] | float | None = None,
    watch: Watch | None = None,
) -> Backtest:
    """Forecasts at rolling origins beside what came. Rows `seasonal_naive` and `ridge` are added.

    `windows` origins, `step` apart (None: a horizon), counted back from each series' end; or every `step` over the part
    that `test` names: a share (0.2), a length ("180 days") or its first moment ("2024-01-01"). A model is a function of
    a panel that holds nothing after the cut, called at every `refit`-th cut (0: at the first only; None: at each of
    `windows`, only at the first of `test`). `task` may be left out if a model is functools.partial(forecast.fit, task=...);
    the added rows then take its training, too.
    """
    asked = task or _task_in(models)
    task = told_ahead(panel, asked, windows, step, test)
    models = models if task == asked else {name: _asking(fit, asked, task) for name, fit in models.items()}
    alike = {name: value for name, value in _words(models).items() if name in ("training", "per_series")}
    cuts = cuts_of(panel, task, windows, task.horizon if step is None else step, test)
    every = refit if refit is not None else 0 if test is not None else 1
    if every < 0:
        raise TaskError(f"refit={refit}: fit again at every 1st, 2nd, 3rd … cut, or 0 for the first only")
    probs = task.levels if level is None else probs_of(level)
    runs = {name: _run(name, fit, panel, cuts, every, probs, watch) for name, fit in with_neighbours(models, task, **alike).items()}
    return _collected(panel, task, cuts, probs, runs)


def told_ahead(panel: Panel, task: Task, windows: int, step: int | None, test: float | str | None) -> Task:
    """horizon="period" told in steps, from nothing but what lies before the first origin."""
    if task.horizon != PERIOD:
        return task
    last, first = panel.last(*task.target), panel.first(*task.target)
    before = first + (last - first) * 2 // 3
    for _ in range(CUTBACKS):
        told = resolved(panel.until(before), task)
        cut = cuts_of(panel, told, windows, told.horizon if step is None else step, test)[0]
        if bool((cut >= before).all()):
            return told
        before = torch.minimum(cut, before)
    raise TaskError("the periods of these series are too long for this test: use fewer windows, or a horizon in steps")


def _asking(fit: Fit, asked: Task, told: Task) -> Fit:
    """A row that asks the task as it was told."""
    if isinstance(fit, partial) and fit.keywords.get("task") == asked:
        return partial(fit.func, *fit.args, **{**fit.keywords, "task": told})
    return fit


def alone(name: str, fit: Fit, panel: Panel, task: Task, windows: int) -> Backtest:
    """One model fitted once and judged at origins a horizon apart, without the rows that a table shows: what a search asks."""
    cuts = cuts_of(panel, task, windows, task.horizon, None)
    return _collected(panel, task, cuts, task.levels, {name: _run(name, fit, panel, cuts, 0, task.levels, None)})


def with_neighbours(models: Mapping[str, Fit], task: Task, training: Training | None = None, per_series: bool = False) -> dict[str, Fit]:
    """The models, after the two that every table shows; a model of the user's by the same name takes its place."""
    naive = partial(forecast.fit, task=task, net=SeasonalNaive(), training=training)
    ridge = partial(forecast.fit, task=task, net=Ridge(), training=training, per_series=per_series)
    return {"seasonal_naive": naive, "ridge": ridge, **models}


def cuts_of(panel: Panel, task: Task, windows: int, step: int, test: float | str | None) -> Int[Tensor, "cut series"]:
    """Clock step of the last observed step at each cut and series, ascending; every horizon ends within the data."""
    last = panel.last(*task.target)
    if windows < 1 or step < 1:
        raise TaskError(f"windows={windows}, step={step}: both must be at least 1")
    if test is None:
        cuts = last - task.horizon - step * torch.arange(windows - 1, -1, -1)[:, None]
    else:
        first, end = _test_start(panel, int(last.max()), test) - 1, int(last.max()) - task.horizon
        if first > end:
            raise TaskError(f"test={test!r} starts at {panel.clock.local(first + 1)}: less than a horizon of {task.horizon} steps before the end of the data")
        cuts = torch.arange(first, end + 1, step)[:, None].expand(-1, len(panel))
    left = int((cuts[0] - panel.start).max()) + 1
    if left < task.steps_back(panel.clock) + task.horizon:
        raise TaskError(
            f"the first cut, {panel.clock.local(int(cuts[0].max()))}, leaves {max(left, 0)} steps to learn from; context + horizon = "
            f"{task.steps_back(panel.clock) + task.horizon} are needed: use fewer windows, a smaller test part or a shorter context"
        )
    return cuts


def _test_start(panel: Panel, last: int, test: float | str) -> int:
    """First clock step of the test part."""
    begin = int(panel.start.min())
    if isinstance(test, int | float):
        if not 0 < test < 1:
            raise TaskError(f"test={test} must be a share between 0 and 1, a length like '180 days', or a moment like '2024-01-01'")
        return last + 1 - round(test * (last + 1 - begin))
    if found := re.fullmatch(r"\s*(\d+)\s*([A-Za-z]+?)s?\s*", test):
        words = {"day": "D", "hour": "h", "week": "W", "month": "MS", "year": "YS", "minute": "min", "step": panel.clock.step}
        return last + 1 - round(int(found[1]) * step_seconds(words.get(found[2].lower(), found[2])) / panel.clock.seconds)
    try:
        return step_of(panel.clock, test)
    except ForetellError:
        raise TaskError(f'test="{test}" must be a share like 0.2, a length like "180 days", or a moment of the data like "2024-01-01"') from None


def _words(models: Mapping[str, Fit]) -> dict[str, Any]:
    """What the first model given as functools.partial says of its task and training: its neighbours are fitted alike."""
    return next((dict(fit.keywords) for fit in models.values() if isinstance(fit, partial)), {})


def _task_in(models: Mapping[str, Fit]) -> Task:
    task = _words(models).get("task")
    if not isinstance(task, Task):
        raise TaskError("backtest cannot tell the task: give task=, or a model as functools.partial(forecast.fit, task=task, ...)")
    return task


def _run(name: str, fit: Fit, panel: Panel, cuts: Int[Tensor, "cut series"], every: int, probs: Sequence[float], watch: Watch | None) -> Run:
    started, points, bands, seen = perf_counter(), [], [], History()
    first: Forecaster | None = None
    size = every or len(cuts)
    for at in range(0, len(cuts), size):
        model = fit(panel.until(cuts[at]))
        first = first or model
        look = _looked(model, panel, cuts[at : at + size], int(cuts.diff(dim=0).min()) if len(cuts) > 1 else model.task.horizon)
        past = seen.after(look.before)
        for cut, output, truth in zip(cuts[at : at + size], look.output, look.truth, strict=True):
            fitted = past.bands(model, int(cut.max()))
            point, quantiles = model.in_units(look.source, output, torch.arange(len(panel)), probs, fitted)
            points.append(point)
            bands.append(quantiles)
            item = Item(int(cut.max()) + model.task.horizon, scores_of(output, truth, model.spread_of(panel.series)))
            past, seen = past.with_item(item), seen.with_item(item)
        if watch:
            watch(Progress(name, min(at + size, len(cuts)), len(cuts), perf_counter() - started))
    assert first is not None  # cuts_of gives at least one
    return Run(torch.stack(points), torch.stack(bands), first, perf_counter() - started)


class Item(NamedTuple):
    """Scores of one cut, and the clock step at which the last of its truths is known."""

    known: int
    scores: Float[Tensor, "horizon target series"]


@dataclass(frozen=True, eq=False)
class History:
    """Cuts gone by, oldest first: at a new cut the bands come from those whose truth is known there, and from no other.

    Scores are divided by a running mean of their size before they are pooled, and the bands multiplied by its latest
    value: a restless month widens the bands of the next one.
    """

    items: tuple[Item, ...] = ()

    def with_item(self, item: Item) -> "History":
        """One cut more."""
        return History((*self.items, item))

    def after(self, before: "History") -> "History":
        """With cuts from before the oldest one here: what a model fitted again sees a second time counts once."""
        oldest = self.items[0].known if self.items else math.inf
        return History((*(i for i in before.items if i.known < oldest), *self.items))

    def bands(self, model: Forecaster, cut: int) -> Conformal | None:
        """What the model's bands become at this cut; None, its own, while less than ten cuts are known."""
        known = [i.scores for i in self.items if i.known <= cut][-RECENT:]
        if len(known) < LEAST:
            return None
        size = torch.stack([s.abs().nanmean() for s in known])
        running = _running(size.nan_to_num(float(size.nanmean()))).clamp(min=1e-9)
        scores = torch.cat([s / r for s, r in zip(known, running[:-1], strict=True)], -1) * running[-1]
        return Conformal(kept(scores), model.bands.spread)


def _running(size: Float[Tensor, " cut"]) -> Float[Tensor, " cut+1"]:
    """Exponentially weighted mean of the sizes before each cut, and after the last; it starts from the first week's."""
    value = size[:7].mean()
    line = [value]
    for one in size:
        value = value + (one - value) * 2 / (SPAN + 1)
        line.append(value)
    return torch.stack(line)


class Look(NamedTuple):
    """A model's forecasts in model space at some cuts, the truth there, and earlier cuts that it was not trained on."""

    source: Source
    output: Float[Tensor, "cut series horizon target slot"]
    truth: Float[Tensor, "cut series horizon target"]
    before: History


def _looked(model: Forecaster, panel: Panel, cuts: Int[Tensor, "cut series"], step: int) -> Look:
    horizon, how = model.task.horizon, model.training
    calibrate = split(panel.until(cuts[0]), model.task, stop=how.stop, calibrate=how.calibrate, apart=model.per_series).calibrate
    begin = panel.start + calibrate.first
    # Every origin of a statistical method is a fit of its own; its bands are its own until cuts have gone by.
    room = int((cuts[0] - horizon - begin).max()) // step + 1 if how.calibrate and not model.refitted else 0
    count = min(RECENT, max(0, room))
    # The newest cut before the first whose truth is known there, then back by whole steps.
    lead = -(-horizon // step)
    early = cuts[0] - step * torch.arange(lead + count - 1, lead - 1, -1)[:, None]
    every = torch.cat([early, cuts])
    source = model.source(model.view(panel), int(every.min()), int(every.max()))
    row = every - source.panel.start
    output = model.outputs(source, row.T).movedim(0, 1)
    output = output.masked_fill((2 * source.seen(row.T) < source.backs[:, None]).T[..., None, None, None], torch.nan)
    series = torch.arange(len(panel)).repeat(len(every))
    truth = source.goals(series, row.flatten()).unflatten(0, row.shape)
    # A series whose calibrate part began later has learned from the goals of the earliest of these cuts.
    truth = truth.masked_fill((every < begin)[..., None, None], torch.nan)
    spread = model.spread_of(panel.series)
    before = tuple(Item(int(c.max()) + horizon, scores_of(o, t, spread)) for c, o, t in zip(early, output, truth, strict=False))
    return Look(source, output[count:], truth[count:], History(before))


def _collected(panel: Panel, task: Task, cuts: Int[Tensor, "cut series"], probs: Sequence[float], runs: Mapping[str, Run]) -> Backtest:
    horizon = task.horizon
    truth = torch.stack([panel.channel(t) for t in task.target], -1)
    row = (cuts - panel.start)[..., None] + torch.arange(1, horizon + 1)
    inside = (row >= 0) & (row < truth.shape[1])
    met = truth[torch.arange(len(panel))[:, None], row.clamp(0, truth.shape[1] - 1)].masked_fill(~inside[..., None], torch.nan)
    # What one model cannot forecast for want of history counts for none of them.
    met = met.masked_fill(torch.stack([r.point.isnan() for r in runs.values()]).any(0), torch.nan)
    before = truth.masked_fill(torch.arange(truth.shape[1])[:, None] > (cuts[0] - panel.start)[:, None, None], torch.nan)
    scale, square = naive_errors(before, panel.clock.season)
    notes = (note for r in runs.values() for note in r.first.notes)
    last = list(runs.values())[-1].first
    test = Part("test", int(cuts[0].min()) + 1, int(cuts[-1].max()) + horizon, int(met.isfinite().any(-1).any(-1).sum()))
    return Backtest(
        truth=met, point={n: r.point for n, r in runs.items()}, quantiles={n: r.quantiles for n, r in runs.items()}, probs=tuple(probs), cutoff=cuts,
        clock=panel.clock, series=panel.series, targets=task.target, names=panel.names, parts=(*last.parts, test), scale=scale, square=square,
        seconds={n: round(r.seconds, 3) for n, r in runs.items()}, notes=tuple(dict.fromkeys((*notes, *_gaps_ahead(panel, task, cuts)))),
    )  # fmt: skip


def _gaps_ahead(panel: Panel, task: Task, cuts: Int[Tensor, "cut series"]) -> list[str]:
    """Known channels that the data lack where a forecast of the test needed them: predict refuses such a future."""
    row = (cuts - panel.start)[..., None] + torch.arange(1, task.horizon + 1)
    found = []
    for name in (c for c in task.known if c in panel.channels):
        values = panel.channel(name)
        at = row.clamp(0, values.shape[1] - 1)
        absent = (row >= 0) & (row < values.shape[1]) & ~values[torch.arange(len(panel))[:, None], at].isfinite()
        if absent.any():
            cut, series, step = absent.nonzero()[0].tolist()
            when = panel.clock.local(int(cuts[cut, series]) + 1 + step)
            found.append(
                f'known channel "{name}" lacks {int(absent.sum())} of the values that these forecasts needed, first of "{panel.series[series]}" at {when}: '
                f"the last one before was taken in their place; predict would ask for them"
            )
    return found
