"""Work: what a command has made, written as a run folder, shown on the screen, and read again."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import reporting
from ..diagnosis import Diagnosis, diagnose
from ..errors import FileError
from ..examples import example
from ..forecaster import Forecaster
from ..hierarchy import columns_by
from ..outcome import Forecast
from ..panel import Recipe
from ..reading import Reading
from ..scoreboard import Backtest, By
from ..sketch import chosen, sketches
from ..standings import labels_of
from ..storage import load, save
from ..task import Task
from ..train import Curves
from ..weighing import weighing
from ..words import stamp, wall, words
from . import runs
from .asked import Asked, opened
from .flags import Output
from .screen import Screen, plain, rows

DEMO = "(demo)"  # the data of ft.example(), in place of a path
TABLES: tuple[By, ...] = ("series", "origin", "step", "target")


@dataclass(frozen=True, eq=False)
class Work:
    """A command's results: `kept` are the models of the test as first fitted, `model` the one fitted on all data, `name` its row."""

    asked: Asked
    forecast: Forecast | None = None
    backtest: Backtest | None = None
    kept: Mapping[str, Forecaster] = field(default_factory=dict)
    curves: Mapping[str, Curves] = field(default_factory=dict)
    model: Forecaster | None = None
    name: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    diagnosis: Diagnosis | None = None

    @property
    def results(self) -> runs.Results:
        """What the report shows; `curves` are those of the models kept, or of a run read again."""
        found = {name: model.curves for name, model in self.kept.items() if model.curves}
        test = self.backtest
        if test and not self.forecast:  # which would say it
            test = replace(test, notes=tuple(dict.fromkeys((*self.asked.notes, *test.notes))))
        return runs.Results(self.told, test, found or self.curves, self.diagnosis)

    @property
    def told(self) -> Forecast | None:
        """The forecast under the name of its row, and with what was noted on reading."""
        return replace(self.forecast, model=self.name, notes=(*self.asked.notes, *self.forecast.notes)) if self.forecast else None


def leave(work: Work, place: runs.Place, output: Output, screen: Screen) -> None:
    """Writes the run folder, and shows what is in it."""
    work = replace(work, diagnosis=diagnosed(work))
    facts = metrics(work)
    with runs.staged(place) as folder:
        _write(work, folder, output, facts)
        names = sorted(file.name for file in folder.iterdir())
    say = words(output.lang)
    for line in filter(None, reporting.headline(work.told, work.backtest, say)):
        screen.show(line)
    if work.backtest:
        screen.accuracy(work.backtest)
    screen.remark(_better(work))
    for line in work.diagnosis.sentences(output.lang) if work.diagnosis else ():
        screen.remark(line)
    screen.show(f"report: {place.path / runs.REPORT}")
    ahead = {"forecast": rows(work.forecast.columns())} if work.forecast else {}
    screen.document({**facts, "folder": str(place.path), "files": names, **ahead})


def diagnosed(work: Work) -> Diagnosis | None:
    """What the trained nets of the test made of their data, where there are any."""
    trained = {name: model for name, model in work.kept.items() if model.curves}
    return diagnose(trained, work.backtest, work.asked.panel) if work.backtest and trained else None


def _better(work: Work) -> str:
    """A remark where a row that every table shows did better than the one that forecast."""
    if not work.forecast or not work.backtest:
        return ""
    scores = {name: float(found["MASE" if len(work.forecast.targets) > 1 else "MAE"]) for name, found in work.backtest.scores().items()}
    first = min(scores, key=lambda name: scores[name])
    if not scores[first] < scores[work.name]:
        return ""
    return f"{first} was more accurate in this test than {work.name}: to forecast with it, add --net {first.replace('_', '-')}"


def _write(work: Work, folder: Path, output: Output, facts: Mapping[str, Any]) -> None:
    if work.model:
        save(work.model, folder / runs.MODEL)
    if work.forecast:
        runs.write_table(folder, "forecast", work.forecast.columns(), output.format)
    if work.backtest:
        runs.write_backtest(folder, work.backtest, output.format)
        runs.write_table(folder, "accuracy", work.backtest.table_columns(), output.format)
        for label in labels_of(work.backtest, work.asked.panel):
            runs.write_table(folder, f"accuracy_by_{_plain(label)}", columns_by(work.backtest, work.asked.panel, label), output.format)
        if output.figures:
            runs.write_sketches(folder, sketches(work.backtest, work.name, chosen(work.backtest, work.name, output.figures), words(output.lang)))
        for by in TABLES:
            if work.backtest.truth.shape[("origin", "series", "step", "target").index(by)] > 1:
                runs.write_table(folder, f"accuracy_by_{by}", work.backtest.table_columns(by), output.format)
    read = weighing(work.model, work.asked.panel, work.backtest, work.name) if work.model else {}
    for name, columns in {**work.tables, **({"weights": read} if read else {})}.items():
        runs.write_table(folder, name, columns, output.format)
    runs.write_results(folder / runs.RESULTS, work.results)
    (folder / runs.METRICS).write_text(json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")
    page(work, folder / runs.REPORT, output.lang, output.title)


def _plain(label: str) -> str:
    """A label as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", label)


def page(work: Work, path: Path, lang: str, title: str | None) -> Path:
    """The report."""
    told = work.results
    return reporting.report(
        path, panel=work.asked.panel, forecast=told.forecast, backtest=told.backtest, model=work.model, lang=lang, title=title, curves=told.curves or None,
        diagnosis=told.diagnosis,
    )  # fmt: skip


def metrics(work: Work) -> dict[str, Any]:
    """What metrics.json says: enough to know what was done, and to do it again."""
    asked, model, test = work.asked, work.model, work.backtest
    clock = asked.panel.clock
    facts: dict[str, Any] = {
        "command": " ".join(("foretell", *runs.TYPED.get())), "versions": runs.versions(), "data": asked.source,
        "reading": asked.reading.model_dump(mode="json", exclude_unset=True), "series": len(asked.panel), "step": clock.step, "zone": clock.zone,
        "calendar": [list(recipe) for recipe in asked.panel.calendar], "task": asked.task.model_dump(mode="json"), "model": work.name,
    }  # fmt: skip
    facts["nets"] = {name: _told(one) for name, one in {**work.kept, **({work.name: model} if model else {})}.items()}
    if work.diagnosis:
        facts["diagnosis"] = rows(work.diagnosis.columns())
    if test:
        facts["scores"] = {name: {metric: value.numpy()[0] for metric, value in found.items()} for name, found in test.scores().items()}
        facts["parts"] = [
            {"name": p.name, "first": stamp(wall(clock, p.first), clock), "last": stamp(wall(clock, p.last), clock), "windows": p.rows} for p in test.parts
        ]
    facts["seconds"] = {**{name: round(value, 3) for name, value in work.seconds.items()}, **({"test by model": test.seconds} if test else {})}
    notes = [*asked.notes, *(note for one in (work.forecast, test, model) if one is not None for note in one.notes)]
    return {**facts, "notes": list(dict.fromkeys(notes))}


def _told(model: Forecaster) -> dict[str, Any]:
    """A model's net and training as far as they are not the defaults of this version, and what it learned in short."""
    options, training = (spec.model_dump(mode="json", exclude_defaults=True) for spec in (model.net, model.training))
    return {"net": type(model.net).__name__, "options": options, "training": training, **model.facts}


# ---------------------------------------------------------------- read again


def fitted_model(path: Path) -> Forecaster:
    """The model of a file or a run folder."""
    file = path / runs.MODEL if path.is_dir() else path
    found = load(file)
    if not isinstance(found, Forecaster):
        raise FileError(f'"{file}" holds a {type(found).__name__}, not a fitted model')
    return found


def as_then(model: Path, typed: Mapping[str, Any]) -> Reading:
    """How the file of the model's run was read, with what is typed now; what is typed alone for a model outside a run folder."""
    beside = (model if model.is_dir() else model.parent) / runs.METRICS
    before = _facts(beside).get("reading", {}) if beside.is_file() else {}
    return Reading.model_validate({**before, **typed})


def again(folder: Path, data: Path | None, typed: Mapping[str, Any]) -> Work:
    """A run as it was, from its folder and the file it was made from."""
    if not (folder / runs.METRICS).is_file():
        raise FileError(f'"{folder}" is no run folder: there is no {runs.METRICS} in it')
    facts = _facts(folder / runs.METRICS)
    then = runs.read_results(folder / runs.RESULTS)
    how, source = Reading.model_validate({**facts["reading"], **typed}), data or Path(facts["data"])
    if facts["data"] == DEMO:
        panel = example()
    elif not source.exists():
        raise FileError(f'the file of this run, "{source}", is not there: say where it is now by --data')
    else:
        panel = opened(source, how)[0]
    model = fitted_model(folder) if (folder / runs.MODEL).is_file() else None
    panel = replace(panel, calendar=tuple(Recipe(*one) for one in facts["calendar"]))
    asked = Asked(str(source), how, panel, Task.model_validate(facts["task"]))
    return Work(asked, then.forecast, then.backtest, curves=then.curves, model=model, name=facts["model"], diagnosis=then.diagnosis)


def _facts(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f'"{path}" cannot be read: {error}') from None
    return found
