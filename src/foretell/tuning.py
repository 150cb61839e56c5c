"""tune: options of a net searched by backtest on the data it is given, in a study that can be killed and gone on with."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from . import forecast
from .backtesting import alone
from .errors import TaskError, nearest
from .forecaster import Forecaster, Net
from .frames import html_table, to_frame
from .neighbours.extras import needed
from .optim import Optimizer
from .panel import Panel
from .periodic import resolved
from .task import Task
from .train import Progress, Training

Value = int | float | str | None
STARTING = 6  # trials drawn at random before the search learns from them
WARM = 3  # epochs before which no trial is called hopeless
BY_HAND = "stopped by hand"  # how training's note begins when Ctrl-C ended it


class Range(NamedTuple):
    """Numbers from `low` to `high`; whole ones if both are; `log` counts in factors."""

    low: int | float
    high: int | float
    log: bool = False


Space = Mapping[str, Range | tuple[Value, ...]]

# What may be searched, by the name of a spec's field; a net's own fields decide which of them apply.
USUAL: Space = {
    "hidden": (16, 32, 64, 128),
    "layers": Range(1, 3),
    "dropout": Range(0.0, 0.5),
    "heads": (1, 2, 4, 8),
    "encoders": Range(1, 3),
    "feedforward": (32, 64, 128, 256),
    "filters": (2, 4, 8, 16),
    "dense": (8, 16, 32),
    "leaves": Range(7, 127, log=True),
    "least": Range(5, 100, log=True),
    "share": Range(0.5, 1.0),
}
RATES: Mapping[str, Range] = {"optimizer": Range(1e-4, 1e-3, log=True), "rate": Range(0.01, 0.2, log=True)}


@dataclass(frozen=True)
class Trial:
    """One set of options: its backtest error, or why it has none."""

    number: int
    options: Mapping[str, Value]
    error: float
    state: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Study:
    """Every trial, and the net, training and task that the best of them stands for. `metric` is what was made small."""

    net: Net
    training: Training
    task: Task
    trials: tuple[Trial, ...]
    metric: str

    @property
    def best(self) -> Trial:
        """The finished trial with the least error."""
        return min((t for t in self.trials if t.state == "complete"), key=lambda t: t.error)

    def frame(self) -> Any:
        """One row a trial: number, state, error, seconds, then a column an option."""
        return to_frame(self.columns(), "polars")

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `frame()` as arrays."""
        names = tuple(dict.fromkeys(name for t in self.trials for name in t.options))
        found: dict[str, np.ndarray] = {
            "trial": np.array([t.number for t in self.trials]), "state": np.array([t.state for t in self.trials], dtype=object),
            self.metric: np.array([t.error for t in self.trials]), "seconds": np.array([t.seconds for t in self.trials]),
        }  # fmt: skip
        return found | {name: np.array([_told(t.options.get(name)) for t in self.trials], dtype=object) for name in names}

    def _repr_html_(self) -> str:
        return html_table(self.columns())


def _told(value: Value) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, eq=False)
class _Search:
    """What stays the same through a study."""

    panel: Panel
    task: Task
    net: Net
    training: Training
    space: Space
    windows: int

    @property
    def metric(self) -> str:
        return "MASE" if len(self.task.target) > 1 or len(self.panel) > 1 else "MAE"

    @property
    def name(self) -> str:
        """The same for the same question of the same data, so that a study is never gone on with by another."""
        specs = "".join(one.model_dump_json() for one in (self.task, self.net, self.training))
        values = self.panel.values.numpy().tobytes() + self.panel.shared.numpy().tobytes()
        told = f"{type(self.net).__name__}{specs}{sorted(self.space.items())}{self.windows}"
        return sha256(values + told.encode()).hexdigest()[:16]


def tune(
    panel: Panel,
    task: Task,
    net: Net,
    training: Training | None = None,
    *,
    budget: int | str = 20,
    windows: int | None = None,
    space: Mapping[str, Sequence[Value] | Range] | None = None,
    path: str | Path | None = None,
    watch: Callable[[Trial], None] | None = None,
) -> Study:
    """Searches the net's options and the learning rate: each trial is fitted once and judged by `windows` forecasts made at
    origins counted back from the end of `panel` (None: over a tenth of it), so hand it the data before your own test. The first trial is the net as it
    is; one whose epochs go worse than those before it is ended early.

    `budget` is so many trials, those of a killed run counted in, or a time: "10 minutes". `path` names an SQLite file: a search killed there
    goes on where it was, to the same result as one never killed. `space` replaces what is searched: {"hidden": (32, 64)}.
    Akiba et al. 2019, Optuna, doi:10.1145/3292500.3330701.
    """
    optuna = needed("optuna", "tune", "tune")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    training = training or Training()
    most, seconds = _budget(budget)
    task = resolved(panel, task)
    search = _Search(panel, task, net, training, space_of(net, task) if space is None else _given(net, space), windows or windows_of(panel, task))
    if not search.space:
        raise TaskError(f"{type(net).__name__} has nothing to search: it has no option among {', '.join((*USUAL, *RATES))}; give space=")
    study = _opened(optuna, search, path)
    began = perf_counter()
    while len(_done(study)) < most and perf_counter() - began < seconds:
        _turn(optuna, study, search)
        if watch:
            watch(_trial(study.trials[-1]))
    found = tuple(_trial(t) for t in _done(study))
    if not any(t.state == "complete" for t in found):
        raise TaskError(f"none of {len(found)} trials could be finished: {found[-1].state if found else 'no time was given'}")
    best = min((t for t in found if t.state == "complete"), key=lambda t: t.error)
    return Study(*_made(search, best.options), found, search.metric)


def _budget(budget: int | str) -> tuple[float, float]:
    """Trials and seconds, one of them without end."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|trial)?s?\s*", str(budget))
    if not found or float(found[1]) <= 0:
        raise TaskError(f"budget={budget!r}: so many trials, as 20, or a time, as '30 seconds', '10 minutes', '2 hours'")
    unit = found[2] or "trial"
    return (float(found[1]), math.inf) if unit == "trial" else (math.inf, float(found[1]) * {"second": 1, "minute": 60, "hour": 3600}[unit])


def windows_of(panel: Panel, task: Task) -> int:
    """Origins, a horizon apart, that a tenth of the usual series holds, at most 100 and at least 3 where that leaves enough to learn from."""
    length = int((panel.last(*task.target) - panel.start + 1).median())
    room = (length - 2 * (task.steps_back(panel.clock) + 2 * task.horizon)) // task.horizon
    return max(1, min(100, max(3, round(0.1 * length / task.horizon)), room))


def space_of(net: Net, task: Task) -> Space:
    """What is usually searched of a net: those of its fields that change what it can learn, the learning rate, and the context."""
    fields = type(net).model_fields
    found: dict[str, Range | tuple[Value, ...]] = {
        name: _with_own(net, name, values) for name, values in USUAL.items() if name in fields or (name == "layers" and "hidden" in fields)
    }
    if "segment" in fields:
        found["segment"] = (None, 1)
    trees = "leaves" in fields
    if found:
        found["rate"] = RATES["rate" if trees else "optimizer"]
    if isinstance(task.context, int) and found:
        found["context"] = tuple(dict.fromkeys(max(task.horizon, round(task.context * factor)) for factor in (0.5, 1, 2)))
    return found


def _with_own(net: Net, name: str, values: Range | tuple[Value, ...]) -> Range | tuple[Value, ...]:
    """The values to try and, first, the net's own: the first trial is the net as it is."""
    own = net.model_dump().get(name)
    own = own[0] if isinstance(own, tuple) else own
    return values if isinstance(values, Range) or own is None or own in values else (own, *values)


def _given(net: Net, space: Mapping[str, Sequence[Value] | Range]) -> Space:
    valid = [*type(net).model_fields, "layers", "rate", "context"]
    for name, values in space.items():
        if name not in valid:
            raise TaskError(f'space: {type(net).__name__} has no option "{name}": {nearest(name, valid, limit=20)}')
        if not len(values):
            raise TaskError(f'space: "{name}" has no value to try')
    return {name: values if isinstance(values, Range) else tuple(values) for name, values in space.items()}


def _opened(optuna: Any, search: _Search, path: str | Path | None) -> Any:
    """The study of this search, with what a killed run has left; its unfinished trial counts as none."""
    storage = None if path is None else f"sqlite:///{Path(path)}"
    study = optuna.create_study(storage=storage, study_name=search.name, load_if_exists=True)
    states = optuna.trial.TrialState
    for one in study.get_trials(deepcopy=False, states=(states.RUNNING, states.WAITING)):
        study.tell(one.number, state=states.FAIL)
    return study


def _done(study: Any) -> list[Any]:
    """Trials that say something: finished, pruned, or refused by the data."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.name in ("COMPLETE", "PRUNED") or "refused" in t.user_attrs]


def _turn(optuna: Any, study: Any, search: _Search) -> None:
    """One trial. Its random numbers come from how many were done before it, so that a search gone on with draws the same."""
    seed = search.training.seed * 10_007 + len(_done(study))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTING)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTING - 2, n_warmup_steps=WARM)
    usual = not _done(study)
    trial = study.ask() if not usual else None
    if trial is None:
        study.enqueue_trial(_as_it_is(search))
        trial = study.ask()
    options = {name: _drawn(trial, name, values) for name, values in search.space.items()}
    began = perf_counter()
    try:
        error = _error(optuna, trial, search, options)
    except optuna.TrialPruned:
        trial.set_user_attr("seconds", perf_counter() - began)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    except TaskError as refusal:  # options that do not fit the data, such as a context that is too long
        trial.set_user_attr("refused", str(refusal))
        trial.set_user_attr("seconds", perf_counter() - began)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    trial.set_user_attr("seconds", perf_counter() - began)
    study.tell(trial, error)


def _drawn(trial: Any, name: str, values: Range | tuple[Value, ...]) -> Value:
    if not isinstance(values, Range):
        chosen: Value = trial.suggest_categorical(name, list(values))
        return chosen
    ask = trial.suggest_int if isinstance(values.low, int) and isinstance(values.high, int) else trial.suggest_float
    number: int | float = ask(name, values.low, values.high, log=values.log)
    return number


def _as_it_is(search: _Search) -> dict[str, Value]:
    """The options that the net and the training have before any search, where they lie in the space."""
    net, how = search.net.model_dump(), search.training.optimizer
    hidden = net.get("hidden")
    now: dict[str, Any] = {**net, "rate": net.get("rate", how.rate), "context": search.task.context}
    if isinstance(hidden, tuple):
        now |= {"hidden": hidden[0], "layers": len(hidden), "dropout": net["dropout"][0] if isinstance(net["dropout"], tuple) else net["dropout"]}
    inside: dict[str, Value] = {}
    for name, values in search.space.items():
        value = now.get(name)
        fits = values.low <= value <= values.high if isinstance(values, Range) and isinstance(value, int | float) else value in tuple(values)
        inside |= {name: value} if fits else {}
    return inside


def _made(search: _Search, options: Mapping[str, Value]) -> tuple[Net, Training, Task]:
    """The specs with these options in their places: the net's, the optimizer's rate, the task's context."""
    net, training, task = search.net, search.training, search.task
    fields, before = type(net).model_fields, net.model_dump()
    own: dict[str, Any] = {name: value for name, value in options.items() if name in fields}
    if isinstance(before.get("hidden"), tuple) and {"hidden", "layers", "dropout"} & options.keys():
        # A stack of layers, each half as wide as the one before it, with the same dropout after each.
        first, count = options.get("hidden", before["hidden"][0]), options.get("layers", len(before["hidden"]))
        usual = before["dropout"][0] if isinstance(before["dropout"], tuple) else before["dropout"]
        own |= {"hidden": tuple(max(4, int(str(first)) >> at) for at in range(int(str(count)))), "dropout": options.get("dropout", usual)}
    if "rate" in options and "rate" not in fields:
        optimizer = Optimizer.model_validate({**training.optimizer.model_dump(exclude_defaults=True), "rate": options["rate"]})
        training = training.model_copy(update={"optimizer": optimizer})
    task = task.model_copy(update={"context": options["context"]}) if "context" in options else task
    return type(net).model_validate({**net.model_dump(exclude_defaults=True), **own}), training, task


def _error(optuna: Any, trial: Any, search: _Search, options: Mapping[str, Value]) -> float:
    net, training, task = _made(search, options)
    seen = 0

    def watch(progress: Progress) -> None:
        nonlocal seen
        if progress.epoch <= seen or not np.isfinite(progress.stop):
            return  # the second training, on train and stop, is not judged
        seen = progress.epoch
        trial.report(progress.stop, seen)
        if trial.should_prune():
            raise optuna.TrialPruned

    def fit(panel: Panel) -> Forecaster:
        model = forecast.fit(panel, task, net, training, watch=watch)
        if any(note.startswith(BY_HAND) for note in model.notes):
            raise KeyboardInterrupt
        return model

    result = alone("trial", fit, search.panel, task, search.windows)
    return float(result.scores()["trial"][search.metric])


def _trial(one: Any) -> Trial:
    state = one.state.name.lower() if "refused" not in one.user_attrs else f"refused: {one.user_attrs['refused']}"
    error = float(one.value) if one.state.name == "COMPLETE" and one.value is not None else float("nan")
    return Trial(one.number, dict(one.params), error, state, float(one.user_attrs.get("seconds", 0.0)))
