"""Flags: what may be typed after a command, generated from the fields of the specs, in groups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from ..errors import TaskError
from ..optim import Optimizer
from ..reading import Reading
from ..spec import Spec
from ..task import Task
from ..train import Training

Words = tuple[str, ...]

QUESTION = Group.create_ordered("The question")
AHEAD = Group.create_ordered("What is known ahead")
NETS = Group.create_ordered("The models")
TEST = Group.create_ordered("The test of accuracy")
OUTPUT = Group.create_ordered("What comes out")
READING = Group.create_ordered("How the file is read")
TRAINING = Group.create_ordered("How nets are trained")

# One line a field of the spec; a field without a line has no flag (tests/test_cli.py says which and why).
READS = {
    "id": 'column(s) that name the series; "none": one series',
    "time": 'column(s) of the time, several are joined; "none": rows are equal steps',
    "channels": "keep only these columns of numbers",
    "step": "time from one row to the next: 30min h D W MS",
    "start": "time of the first row, for a file without times",
    "zone": "time zone of the times: Europe/Oslo",
    "fold": "which of the two equal hours of an autumn night is meant",
    "resample": "bring the rows to this step: h D W MS",
    "how": "how resample joins rows: mean sum last max min, or a column each: sales=sum price=mean",
    "derive": 'new columns from others: "ctr=clicks / impressions"',
    "labels": "columns that are facts of a series",
    "wide": "one row a series, one column a step",
    "series": "keep only these series",
    "hierarchy": "level at which a folder of M5 is read: item-store state-item item dept-state … total",
    "sales": "file of sales in a folder of M5, if it has not Kaggle's name",
    "encoding": "of the text: utf-8, cp949",
    "dtype": "numbers in memory",
}
ASKS = {
    "target": "column(s) to forecast",
    "known": "columns whose future is known: their values must reach past the last target, in the file or by --future",
    "past": 'columns known up to now only; "none": use no other column',
    "context": "how many steps the models look back",
    "horizon": 'how many steps to forecast; "period": of each series its fundamental period',
    "floor": "least value the target can have, such as 0",
}
TRAINS = {
    "epochs": "most passes over the data",
    "batch": "windows a gradient step",
    "optimizer": "",
    "loss": "what the point forecast minimises",
    "patience": "epochs without progress before training ends",
    "stop": "share of the data kept for early stopping and choices",
    "calibrate": "share of the data kept for the bands",
    "seed": "of every random number",
    "device": "auto, cpu, cuda",
    "scale": "how the target is brought to scale, for all models",
    "pooled": "one scale for all series",
    "retrain": "once judged, train again on all but the calibration part",
    "halves": "each member learns from a random half of the steps: their spread says how sure the fit is",
}
STEPS = {
    "kind": "",
    "rate": "learning rate",
    "schedule": "of the rate",
    "clip": "bound of the gradient's norm",
    "clip_each": "of each variable apart",
    "weight_decay": "",
    "momentum": "",
    "betas": "",
    "eps": "",
    "alpha": "of rmsprop",
    "first_decay": "steps of the first cosine cycle",
    "t_mul": "each cycle so many times longer",
    "m_mul": "and so many times higher",
    "floor": "least share of the rate",
}
TYPED: dict[str, Any] = {
    "horizon": int | Literal["period"], "series": Words, "id": Words, "time": Words, "how": Words, "derive": Words, "past": Words, "known": Words,
    "target": Words,
}  # fmt: skip
RENAMED = {"step": "--row-step"}  # --step is how far the test's origins stand apart


def flags_of(spec: type[Spec], lines: Mapping[str, str]) -> type[Any]:
    """A class with a field for each line, all None: what was not typed changes nothing."""
    rows = [(name, Annotated[_typed(name, spec.model_fields[name]), _flag(spec, name, text)], field(default=None)) for name, text in lines.items()]
    return make_dataclass(f"{spec.__name__}Flags", rows, frozen=True, namespace={"__module__": __name__})


def _typed(name: str, told: FieldInfo) -> Any:
    if told.annotation is Optimizer:
        return OptimizerFlags | None
    kind: Any = TYPED.get(name, told.annotation)
    return kind | None


def _flag(spec: type[Spec], name: str, text: str) -> Parameter:
    told = spec.model_fields[name]
    default = "" if told.is_required() or told.default_factory else _written(told.default)
    flag = RENAMED.get(name) if spec is Reading else None
    return Parameter(name=flag, help=text, show_default=(lambda _: default) if default else False, negative=())


def _written(default: object) -> str:
    if default is None or default == () or isinstance(default, Spec | bool):
        return ""
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def given(flags: Any) -> dict[str, Any]:
    """What was typed, by field of the spec; pairs "name=value" made mappings, "none" made None or nothing."""
    if flags is None:
        return {}
    found = {name: value for name, value in vars(flags).items() if value is not None}
    return {name: MADE[name](value) if name in MADE else given(value) if isinstance(value, OptimizerFlags) else value for name, value in found.items()}


def _or_none(words: Words) -> str | Words | None:
    return None if words == ("none",) else words[0] if len(words) == 1 else words


def _pairs(words: Words) -> dict[str, str]:
    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise TaskError(f'"{word}" is no pair: write name=value, with quotes around it if there are spaces')
        found[name.strip()] = value.strip()
    return found


def _how(words: Words) -> str | dict[str, str]:
    return words[0] if len(words) == 1 and "=" not in words[0] else _pairs(words)


MADE: dict[str, Callable[[Words], Any]] = {
    "id": _or_none,
    "time": _or_none,
    "derive": _pairs,
    "how": _how,
    "past": lambda words: () if words == ("none",) else words,
}

OptimizerFlags = flags_of(Optimizer, STEPS)
if TYPE_CHECKING:
    ReadingFlags: TypeAlias = Any
    QuestionFlags: TypeAlias = Any
    TrainingFlags: TypeAlias = Any
else:
    ReadingFlags, QuestionFlags, TrainingFlags = flags_of(Reading, READS), flags_of(Task, ASKS), flags_of(Training, TRAINS)


# ---------------------------------------------------------------- not of a spec


def _help(text: str) -> Parameter:
    return Parameter(help=text, negative=(), show_default=lambda value: _written(value) or None)


@dataclass(frozen=True)
class Ahead:
    """Channels whose future is known."""

    calendar: Annotated[Words | None, _help("of minute hour weekday weekend day month dayofyear; left out: what suits the step")] = None
    no_calendar: Annotated[bool, _help("nothing from the calendar")] = False
    holidays: Annotated[Words, _help("public holidays of a country or region: MA, DE-BY")] = ()
    future: Annotated[Path | None, _help("file with the known columns after the last target")] = None


NET = (
    "auto: choose by a test on earlier data; or one or several of ridge seasonal-ridge seasonal-naive drift moving-average lstm lstm-transformer "
    "period-kernel lightgbm xgboost autoets autoarima theta "
    "notebook main main2 main3 plain advice; with options: "
    "lstm:hidden=128/64,rate=0.002; with a name for its row: big=lstm:hidden=128/64"
)


@dataclass(frozen=True)
class Nets:
    """What is fitted."""

    net: Annotated[Words, _help(NET)] = ("ridge",)
    per_series: Annotated[bool, _help("weights of its own for each series")] = False
    members: Annotated[int, _help("nets of different seeds, averaged")] = 1
    neighbours: Annotated[bool, _help("beside them lightgbm, xgboost, autoets and theta, as rows of the same test")] = False


@dataclass(frozen=True)
class Search:
    """What `tune` searches, and for how long."""

    net: Annotated[str, _help("lstm lstm-transformer period-kernel lightgbm xgboost")] = "lstm"
    budget: Annotated[str, _help('so many trials, or a time: "10 minutes"')] = "20"
    study: Annotated[Path | None, _help("SQLite file from which a search that was killed goes on")] = None


Level = Annotated[tuple[float, ...], _help("bands, in percent: 80 95")]


@dataclass(frozen=True)
class Test:
    """How accuracy is measured."""

    test: Annotated[str | None, _help('part of the data: 0.2, "180 days", or its first moment 2024-01-01; left out: 0.2')] = None
    windows: Annotated[int | None, _help("or so many origins, counted back from the end")] = None
    step: Annotated[int | None, _help("steps from one origin to the next; left out: a horizon")] = None
    refit: Annotated[int | None, _help("fit again at every k-th origin, 0: at the first only; left out: 0 with --test, 1 with --windows")] = None
    level: Level = ()


@dataclass(frozen=True)
class Guarding:
    """What a detector learns from, and what it watches."""

    train: Annotated[tuple[Path, ...], _help("files of normal runs to learn from")] = ()
    test: Annotated[Path | None, _help("file of a run to score")] = None
    labels: Annotated[Path | None, _help("true events of the test run: columns start and stop (and channels), or a column of 0 and 1")] = None
    model: Annotated[Path | None, _help("a detector trained before, or the run folder that holds one")] = None
    follow: Annotated[bool, _help("score CSV rows from standard input as they arrive")] = False
    net: Annotated[str, _help("auto spread pca forecast fill forest envelope autoencoder tadgan, or a forecaster's file")] = "auto"
    false_alarms: Annotated[str, _help("allowed on normal runs")] = "1/day"


@dataclass(frozen=True)
class Output:
    """Where results go, and in which words."""

    out: Annotated[Path | None, _help("run folder; left out: foretell-<file>, or the next free number after it")] = None
    force: Annotated[bool, _help("replace a run folder that is there, once all is done")] = False
    format: Annotated[Literal["csv", "parquet"], _help("of the tables")] = "csv"
    lang: Annotated[str, _help("of the report: en, ko")] = "en"
    title: Annotated[str | None, _help("of the report")] = None
    figures: Annotated[str | None, _help("pictures of label against prediction in the test: all, worst:12, or names of series with commas between")] = None
    json: Annotated[bool, _help("one JSON document on stdout, and nothing else there")] = False
    quiet: Annotated[bool, _help("say nothing but errors")] = False
