"""diagnose: whether each net learned too much, too little or enough, told from its errors and its losses, and what to try next."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd, isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from . import metrics
from .errors import TaskError, nearest
from .forecaster import Forecaster
from .frames import to_frame
from .loss import total
from .nets import Ridge, SeasonalRidge, StackedLSTM
from .nets.stacked_lstm import presets
from .panel import Names, Panel
from .scoreboard import Backtest
from .solve import solve
from .task import Source, Span, Split, split, usable
from .train import Training
from .words import Words, number, percent, words

Verdict = Literal["overfit", "underfit", "balanced", "stopped too early", ""]

STILL, LATE = 0.02, 5  # loss gained in the last fifth of the epochs
GAP, RISE = 0.15, 0.10  # more of a gap than ridge has; stop loss that stays above its best
HIGH, FLAT = 0.10, 0.02  # training error above ridge's; training peaks lower than ridge's, as a share of them
LOOK, LEAST = 1000, 8  # windows of a part that are forecast again, and the least of a series
NONE = float("nan")


class Errors(NamedTuple):
    """Of a fitted model on the data before the test: mean absolute errors, and the share by which training peaks are forecast too low."""

    train: float
    stop: float
    low: float

    @property
    def gap(self) -> float:
        """How much larger the error is on the stop part."""
        return self.stop / self.train - 1


class Course(NamedTuple):
    """How the losses went, the median over members. `fall` is the share by which the training loss fell after the best epoch,
    `rise` that by which the stop loss stayed above its best in the later half of them, `late` that which it gained in the
    last fifth of all."""

    best: float  # epoch, counted from 1
    epochs: float
    fall: float
    rise: float
    late: float
    train_first: float
    train_best: float
    train_last: float
    stop_first: float
    stop_best: float
    stop_last: float


class Advice(NamedTuple):
    """Options as they are typed after --net, and the lesson's script that goes the same way; empty where there is nothing to try."""

    change: str = ""
    preset: str = ""


NOTHING = Advice()


@dataclass(frozen=True)
class Finding:
    """What was found of one model. `line` are the errors of a ridge on the very same windows; `low` is that of the test peaks."""

    model: str
    own: Errors
    line: Errors
    test: float
    low: float
    course: Course | None
    verdict: Verdict = ""
    advice: Advice = NOTHING


@dataclass(frozen=True)
class Diagnosis:
    """A row a model. Errors are in seasonal naive errors, as MASE is: 1 is the mean error of the seasonal naive before the test."""

    rows: tuple[Finding, ...]
    names: Names

    def frame(self) -> Any:
        """One row a model, in the kind of frame the user came with; losses at the first, best and last epoch, as trained."""
        return to_frame(self.columns(), self.names.native)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `frame()` as arrays; NaN or empty where a model has none."""
        listed = [_facts(row) for row in self.rows]
        return {
            name: np.array([one[name] for one in listed], dtype=object if isinstance(first, str) else float) for name, first in _facts(self.rows[0]).items()
        }

    def cells(self, lang: str = "en") -> dict[str, list[str]]:
        """The table as readers see it: column title → what is written in each row."""
        say = words(lang)
        told = [_written(row, say) for row in self.rows]
        titles = ("model", "train_error", "stop_error", "test_error", "gap", "peaks_low", "best_epoch", "verdict", "try_next")
        return {say[title]: [row[at] for row in told] for at, title in enumerate(titles)}

    def sentences(self, lang: str = "en") -> list[str]:
        """The verdict on each net, the numbers it rests on, and what to try next."""
        say = words(lang)
        return [line for row in self.rows if (line := _said(row, say))]

    def __str__(self) -> str:
        table = [[title, *cells] for title, cells in self.cells().items()]
        wide = [max(map(len, column)) for column in table]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, wide, strict=True)).rstrip() for line in zip(*table, strict=True)]
        return "\n".join([*lines, "", *self.sentences()])


def diagnose(models: Mapping[str, Forecaster], result: Backtest, panel: Panel) -> Diagnosis:
    """What the models of a backtest made of their data. `models` were fitted on what `panel` holds before the first cut, or on
    all of it; test errors are the backtest's.

    Training and stop errors are measured again, by the weights kept and without dropout, on windows from the places in the
    season where the test has its origins: so the three errors and ridge's differ in nothing but the data. A ridge, or the
    ridge under a net, is taken as the stop part judged it, before it was solved on that part as well. A net that was retrained
    on the stop part (`Training.retrain`) has no such weights left: its stop error is ridge's times the ratio of their stop
    losses when the net was judged (of the roots, for mse).
    TaskError if a model is not in the backtest or was fitted on other data.
    """
    if panel.series != result.series:
        raise TaskError(f"the panel has the series {', '.join(panel.series[:3])}, the backtest {', '.join(result.series[:3])}: give the panel it was made on")
    for name in models:
        if name not in result.models:
            raise TaskError(f'no model "{name}" in this backtest: {nearest(name, result.models)}')
    if not models:
        raise TaskError("no model to diagnose: give fitted models by the names they have in the backtest")
    scores = result.scores()
    found = []
    for name, model in models.items():
        course = _course(model)
        own, line = _measured(model, course, result, panel)
        test = result.truth.isfinite() & result.point[name].isfinite()
        low = _low(result.truth.masked_fill(~test, torch.nan), result.point[name], (1, 3))
        found.append(_judged(Finding(name, own, line, float(scores[name]["MASE"]), low, course), model))
    return Diagnosis(tuple(found), panel.names)


def judge(own: Errors, line: Errors, course: Course, patience: int) -> Verdict:
    """The rule, first match wins. `line` are ridge's errors on the same windows: the same data, solved in closed form.

    - *stopped too early*: the epochs ran out (or a hand stopped them) before patience did, and their last fifth still gained
      2 % of the stop loss, about 1 % of the error: less is lost in the noise from epoch to epoch.
    - *underfit*: on the windows it learned from and on the stop part the net errs 10 % more than ridge: a linear map
      shows what was there to be learned. Or it is no better than ridge in training and forecasts the peaks there more than
      2 points lower: they are flattened. (Peaks chosen by their height are forecast somewhat low by every model.)
    - *overfit*: after the best epoch the training loss fell on, and either the stop loss came no nearer than 10 % to its best
      in the later half of those epochs (single epochs of a curve are noisier than that, the lowest of several are not), or
      the weights kept, better than ridge in training, lose 15 % more than ridge does from there to the stop part. What ridge
      loses is what the later season explains. Early stopping has kept the best epoch; a stronger hand may go further.
    - *balanced*: none of these.

    The test error is shown, and decides nothing: what is chosen by the test looks better than it is.
    """
    if not all(map(isfinite, (*own, *line))):
        return ""
    if course.epochs - course.best < patience and course.late > STILL:
        return "stopped too early"
    above = own.train / line.train - 1
    if (above > HIGH and own.stop / line.stop - 1 > HIGH) or (above >= 0 and own.low - line.low > FLAT):
        return "underfit"
    if course.fall > 0 and (course.rise > RISE or (above < 0 and (1 + own.gap) / (1 + line.gap) - 1 > GAP)):
        return "overfit"
    return "balanced"


def advise(verdict: Verdict, net: StackedLSTM, training: Training) -> Advice:
    """The lesson's steps in its order, and of them the first that this net leaves room for. Underfit: weaker regularisation;
    nothing to weaken: more units, then a third layer; large enough: a higher rate and more patience; all of that: the
    ridge under the net. Stopped too early: more epochs. Overfit: the same ways back."""
    preset = next((name for name, one in presets().items() if one.net == net), "")
    path = {"underfit": {"main2": "main3", "main": "advice", "main3": "advice", "plain": "advice"}, "overfit": {"plain": "main", "advice": "main3"}}
    change: dict[str, str] = {}
    if verdict == "stopped too early":
        change = {"epochs": str(2 * training.epochs)} | _faster(net, training)
    elif verdict == "overfit":
        change = _stronger(net)
    elif verdict == "underfit":
        change = _weaker(net) or _larger(net) or _longer(training) or ({} if net.ridge else {"ridge": "true"})
    return Advice(", ".join(f"{name}={value}" for name, value in change.items()), path.get(verdict, {}).get(preset, ""))


def _weaker(net: StackedLSTM) -> dict[str, str]:
    found = {"l2": "1e-05"} if net.l2 > 1e-5 else {}
    return found | ({"dropout": "0.1"} if max(net.rates) > 0.1 else {})


def _stronger(net: StackedLSTM) -> dict[str, str]:
    found = {"l2": "0.0001"} if net.l2 < 1e-4 else {}
    found |= {"dropout": "0.2"} if max(net.rates) < 0.2 else {}
    return found or {"hidden": "/".join(str(max(1, units // 2)) for units in net.hidden)}


def _larger(net: StackedLSTM) -> dict[str, str]:
    if net.hidden[0] < 128:
        return {"hidden": "/".join(str(2 * units) for units in net.hidden)}
    return {"hidden": "/".join(map(str, (*net.hidden, max(1, net.hidden[-1] // 2))))} if len(net.hidden) < 3 else {}


def _longer(training: Training) -> dict[str, str]:
    rate = next((r for r in (0.002, 0.005) if training.optimizer.rate < r), None)
    return ({"rate": str(rate)} if rate else {}) | ({"patience": "12"} if training.patience < 10 else {})


def _faster(net: StackedLSTM, training: Training) -> dict[str, str]:
    """Regularisation slows learning down: twice the usual rate makes up for it."""
    return {"rate": "0.002"} if training.optimizer.rate < 0.002 and (net.l2 >= 1e-4 or max(net.rates) >= 0.2) else {}


def _judged(found: Finding, model: Forecaster) -> Finding:
    if found.course is None:
        return found
    verdict = judge(found.own, found.line, found.course, model.training.patience)
    return replace(found, verdict=verdict, advice=advise(verdict, model.net, model.training) if isinstance(model.net, StackedLSTM) else NOTHING)


def _course(model: Forecaster) -> Course | None:
    """None for a model without curves, or without a stop part to judge by."""
    if model.curves is None:
        return None
    pairs = zip(model.curves.train.double().numpy(), model.curves.stop.double().numpy(), strict=True)
    every = [course_of(train[np.isfinite(train)], stop[np.isfinite(stop)]) for train, stop in pairs if np.isfinite(stop).any()]
    return Course(*np.median(np.array(every), 0).tolist()) if every else None


def course_of(train: np.ndarray, stop: np.ndarray) -> Course:
    """Of one member's losses by epoch, all of them finite."""
    size = min(len(train), len(stop))
    train, stop = train[:size], stop[:size]
    best = int(stop.argmin())
    before, after = stop[: size - -(-size // LATE)], stop[best + 1 :]
    late = 1 - stop[best] / before.min() if len(before) else 1.0
    rise = float(after[len(after) // 2 :].min()) / stop[best] - 1 if len(after) > 1 else 0.0
    spots = [float(loss[at]) for loss in (train, stop) for at in (0, best, -1)]
    return Course(best + 1, size, 1 - float(train[-1] / train[best]), rise, float(late), *spots)


def _measured(model: Forecaster, course: Course | None, result: Backtest, panel: Panel) -> tuple[Errors, Errors]:
    """The model's errors before the test, and ridge's on the same windows."""
    seen = _learned_from(model, result, panel)
    source = Source(seen, model.roles, model.scaling, model.context, model.task.horizon, spans=model.spans_of(seen.series))
    parts = split(seen, model.task, stop=model.training.stop, calibrate=model.training.calibrate)
    judged, line = _as_judged(model, source, parts)
    own, beside = (_errors(one, source, parts, result) for one in (judged, line))
    alpha = model.weights.get("alpha")
    if course is None or not model.training.retrain:
        return own, beside
    if alpha is not None and not alpha.any():
        return own._replace(stop=beside.stop), beside
    ratio = course.stop_best / _loss(line, model.anchor is not None, source, parts.stop, result)
    return own._replace(stop=beside.stop * (ratio**0.5 if model.training.loss == "mse" else ratio)), beside


def _learned_from(model: Forecaster, result: Backtest, panel: Panel) -> Panel:
    """What a model was fitted on: the panel before the first cut, or all of it."""
    end = max((part.last for part in model.parts), default=-1)
    for seen in (panel.until(result.cutoff[0]), panel):
        if int(seen.last(*model.roles.target).max()) == end:
            return model.view(seen)
    raise TaskError(
        f"a model was fitted on data until {model.clock.local(end)}, which is neither the first cut of this backtest nor the end of the panel: "
        "give the models as the backtest fitted them first, or fitted on all data"
    )


def _as_judged(model: Forecaster, source: Source, parts: Split) -> tuple[Forecaster, Forecaster]:
    """The model on a ridge that has not seen the stop part, and such a ridge alone."""
    phase = isinstance(model.net, StackedLSTM) and model.net.in_phase is False
    spec = model.net if isinstance(model.net, Ridge | SeasonalRidge) else Ridge(phase=0.0) if phase else Ridge()
    solved = solve(spec, replace(model.shape, members=1), source, parts, model.task.levels, by_series=model.per_series)
    line = replace(model, net=spec, weights=solved.judged, members=model.members if model.per_series else ("all",), anchor=None)
    if isinstance(model.net, Ridge | SeasonalRidge):
        return line, line
    held = model.weights.get("ridge.weight")
    # A model that went on from another keeps that one's ridge, which has seen none of these parts; one retrained belongs to its last.
    if held is None or model.training.retrain or not torch.allclose(held.cpu(), solved.weights["weight"].expand_as(held), rtol=1e-3, atol=1e-5):
        return model, line
    under = {f"ridge.{name}": w.expand(len(model.members), *w.shape[1:]).contiguous().to(held.device) for name, w in solved.judged.items()}
    return replace(model, weights={**model.weights, **under}), line


def _loss(line: Forecaster, in_phase: bool, source: Source, span: Span, result: Backtest) -> float:
    """Ridge's loss on the stop part, counted as the net's was while it was trained."""
    origin = _origins(source, span, result, source.panel.clock.season if in_phase else 1)
    fair, series, output = _outputs(line, source, span, origin)
    goal = source.goals(series, origin.flatten()).masked_fill(~fair[:, None, None], torch.nan)
    return float(total(output[None], goal.nan_to_num(0.0)[None], goal.isfinite()[None], levels=line.task.levels, kind=line.training.loss))


def _errors(model: Forecaster, source: Source, parts: Split, result: Backtest) -> Errors:
    train, stop = (_again(model, source, span, result) for span in (parts.train, parts.stop))
    scale = result.scale[:, None, None]
    return Errors(float(metrics.mase(*train, scale, each=(0, 3))), float(metrics.mase(*stop, scale, each=(0, 3))), _low(*train, (0, 3)))


def _again(
    model: Forecaster, source: Source, span: Span, result: Backtest
) -> tuple[Float[Tensor, "series cut horizon target"], Float[Tensor, "series cut horizon target"]]:
    """Truth and forecast of a part in units, at the test's place in the season if all its origins share it; NaN where a window is none of it."""
    season, cutoff = source.panel.clock.season, result.cutoff
    origin = _origins(source, span, result, season if bool(((cutoff - cutoff[0]) % season == 0).all()) else 1)
    fair, series, output = _outputs(model, source, span, origin)
    guess, truth = (source.unscaled(values, series) for values in (output[..., 0], source.goals(series, origin.flatten())))
    guess = guess if model.task.floor is None else guess.clamp(min=model.task.floor)
    return truth.masked_fill(~fair[:, None, None], torch.nan).unflatten(0, origin.shape), guess.unflatten(0, origin.shape)


def _outputs(
    model: Forecaster, source: Source, span: Span, origin: Int[Tensor, "series cut"]
) -> tuple[Bool[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, "n horizon target slot"]]:
    """Of each window: whether it lies in the part, its series, and what the model says of it."""
    every, rows = torch.arange(len(origin)), origin.clamp(min=0)
    fair = usable(source, span, every).gather(1, rows) & (origin >= 0)
    return fair.flatten(), every.repeat_interleave(origin.shape[1]), model.outputs(source, rows).flatten(0, 1)


def _origins(source: Source, span: Span, result: Backtest, unit: int) -> Int[Tensor, "series cut"]:
    """Rows evenly spread over a part, the newest first, whole `unit`s before the first cut."""
    newest = span.last - source.horizon
    newest = newest - (newest - (result.cutoff[0] - source.panel.start)) % unit
    room = max(1, int((newest - span.first).max()) // unit)
    count, season = max(LEAST, LOOK // len(newest)), source.panel.clock.season
    # A stride that shares a factor with the season, or with the week, would see some hours or weekdays only.
    stride = next(k for k in range(max(1, -(-room // count)), room + 8 * season) if gcd(k, 7 * season) == 1)
    return newest[:, None] - unit * stride * torch.arange(room // stride + 1)


def _low(truth: Tensor, guess: Tensor, each: tuple[int, ...]) -> float:
    """Share of their size by which the highest tenth of each series is forecast too low."""
    high = truth.masked_fill(~metrics.top(truth.abs(), each), torch.nan)
    return -float(metrics.bias(high, guess)) / float(high.abs().nanmean())


def _facts(row: Finding) -> dict[str, str | float]:
    course = row.course or Course(*[NONE] * len(Course._fields))
    losses = {f"loss_{name}": value for name, value in course._asdict().items() if name.startswith(("train_", "stop_"))}
    return {
        "model": row.model, "train": row.own.train, "stop": row.own.stop, "test": row.test, "gap": row.own.gap, "peaks_low": row.low,
        "ridge_train": row.line.train, "ridge_stop": row.line.stop, "train_peaks_low": row.own.low, "ridge_train_peaks_low": row.line.low,
        "best_epoch": course.best, "epochs": course.epochs, **losses, "verdict": row.verdict, "try": row.advice.change, "preset": row.advice.preset,
    }  # fmt: skip


def _written(row: Finding, say: Words) -> list[str]:
    """A row of the table, as readers see it."""
    errors = [number(value, 3) for value in (row.own.train, row.own.stop, row.test)]
    epochs = say["epoch_of"].format(best=number(row.course.best), epochs=number(row.course.epochs)) if row.course else "–"
    verdict = say[NAMED[row.verdict]] if row.verdict else "–"
    return [say.named("model_", row.model), *errors, percent(row.own.gap), percent(row.low, 1), epochs, verdict, _next(row.advice, say) or "–"]


def _next(advice: Advice, say: Words) -> str:
    preset = say["preset"].format(name=advice.preset) if advice.preset else ""
    return say["or"].join(filter(None, (advice.change, preset)))


def _said(row: Finding, say: Words) -> str:
    """The verdict on a net, and the numbers it rests on."""
    own, line, course = row.own, row.line, row.course
    if course is None or not row.verdict:
        return ""
    text = say[SAYS[row.verdict]].format(
        model=say.named("model_", row.model), train=number(own.train, 3), stop=number(own.stop, 3), gap=_by(own.gap, say), line_gap=_by(line.gap, say),
        line=number(line.train, 3), epochs=number(course.epochs), late=percent(course.late),
        rise=percent(course.rise), fall=percent(course.fall),
    )  # fmt: skip
    flat = say["says_flat"].format(low=percent(own.low, 1), line_low=percent(line.low, 1)) if row.verdict == "underfit" and own.low > line.low else ""
    advice = _next(row.advice, say)
    return " ".join(filter(None, (text, flat, say["says_try"].format(change=advice) if advice else "")))


def _by(share: float, say: Words) -> str:
    return say["more_by" if share >= 0 else "less_by"].format(share=percent(abs(share)))


NAMED = {"overfit": "verdict_overfit", "underfit": "verdict_underfit", "balanced": "verdict_balanced", "stopped too early": "verdict_early"}
SAYS = {"overfit": "says_overfit", "underfit": "says_underfit", "balanced": "says_balanced", "stopped too early": "says_early"}
