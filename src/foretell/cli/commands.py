"""The commands: each reads what was typed, calls the verbs, and leaves one run folder."""

from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from ..clock import MONTHS, Clock, parse_step
from ..errors import TaskError
from ..examples import example
from ..reading import Check, Reading
from ..reading import check as checked
from ..task import Task
from . import flags, runs
from .asked import Asked, ask, check_future, completed, opened, usual, with_future
from .automatic import tuned, with_choice
from .flags import Ahead, Level, Nets, Output, QuestionFlags, ReadingFlags, Search, Test, TrainingFlags, given
from .networds import word_of
from .race import Race, best, final, planned, race, tested
from .screen import Screen
from .work import DEMO, Work, again, as_then, fitted_model, leave, page

Data = Annotated[Path, Parameter(help="file of one or many series: csv, parquet, tsf, packed or not; or the folder of M5")]
Model = Annotated[Path, Parameter(help="a model.foretell, or the run folder that holds one")]
JSON = Annotated[bool, Parameter(help="one JSON document on stdout", group=flags.OUTPUT)]
Asks = Annotated[QuestionFlags | None, Parameter(name="*", group=flags.QUESTION)]
Aheads = Annotated[Ahead | None, Parameter(name="*", group=flags.AHEAD)]
Reads = Annotated[ReadingFlags | None, Parameter(name="*", group=flags.READING)]
Trains = Annotated[TrainingFlags | None, Parameter(name="*", group=flags.TRAINING)]
Models = Annotated[Nets | None, Parameter(name="*", group=flags.NETS)]
Searches = Annotated[Search | None, Parameter(name="*", group=flags.NETS)]
Tests = Annotated[Test | None, Parameter(name="*", group=flags.TEST)]
Outputs = Annotated[Output | None, Parameter(name="*", group=flags.OUTPUT)]


def forecast(
    data: Data, /, *, question: Asks = None, ahead: Aheads = None, nets: Models = None, test: Tests = None,
    output: Outputs = None, reading: Reads = None, training: Trains = None,
) -> None:  # fmt: skip
    """Test the models, fit on all data, forecast, and write a report.

    Typing the file, --target and --horizon is enough. Of several --net, the most accurate one of the test forecasts.
    """
    shown, output, test = _screen(output), output or Output(), test or Test()
    ahead, nets = ahead or Ahead(), nets or Nets()
    rows = race(nets, given(training), usual(data))
    place = runs.place(output, f"foretell-{_stem(data)}")
    asked = ask(data, given(question), given(reading), ahead, shown)
    check_future(asked.panel, asked.task)
    leave(_forecast(asked, rows, test, shown), place, output, shown)


def tune(
    data: Data, /, *, search: Searches = None,
    question: Asks = None, ahead: Aheads = None, test: Tests = None, output: Outputs = None, reading: Reads = None, training: Trains = None,
) -> None:  # fmt: skip
    """Search a net's options on the data before the test, then test it as it was and as it was found.

    Needs pip install "foretell[tune]".
    """
    shown, output, test = _screen(output), output or Output(), test or Test()
    search = search or Search()
    rows = race(Nets(net=(search.net,)), given(training), usual(data))
    place = runs.place(output, f"foretell-{_stem(data)}-tune")
    asked = ask(data, given(question), given(reading), ahead or Ahead(), shown)
    began, plan = perf_counter(), planned(asked, test)
    found, trials_of = tuned(asked, rows.rows[0], plan, search, shown)
    searched = perf_counter() - began
    rows = replace(rows, rows=(*rows.rows, found))
    shown.remark(plan.told)
    result, kept = tested(asked, rows, plan, test.level, shown)
    seconds = {"search": searched, "test": perf_counter() - began - searched}
    work = Work(asked, backtest=result, kept=kept, name=best(result, rows).name, seconds=seconds, tables={"trials": trials_of.columns()})
    leave(work, place, output, shown)


def backtest(
    data: Data, /, *, question: Asks = None, ahead: Aheads = None, nets: Models = None, test: Tests = None,
    output: Outputs = None, reading: Reads = None, training: Trains = None,
) -> None:  # fmt: skip
    """Compare models on forecasts made at past origins, with nothing but what was known there.

    Several --net stand side by side in one table, beside seasonal naive and ridge.
    """
    shown, output, test = _screen(output), output or Output(), test or Test()
    ahead, nets = ahead or Ahead(), nets or Nets()
    rows = race(nets, given(training), usual(data))
    place = runs.place(output, f"foretell-{_stem(data)}-backtest")
    asked = ask(data, given(question), given(reading), ahead, shown)
    began, plan = perf_counter(), planned(asked, test)
    asked, rows, tables = with_choice(asked, rows, plan, shown)
    shown.remark(plan.told)
    result, kept = tested(asked, rows, plan, test.level, shown)
    work = Work(asked, backtest=result, kept=kept, name=best(result, rows).name, seconds={"test": perf_counter() - began}, tables=tables)
    leave(work, place, output, shown)


def predict(
    data: Data, /, *, model: Model, origin: Annotated[str | None, Parameter(help="last observed step, for all series: 2024-01-31")] = None,
    future: Annotated[Path | None, Parameter(help="file with the known columns after the last target")] = None, level: Level = (),
    output: Outputs = None, reading: Reads = None,
) -> None:  # fmt: skip
    """Forecast with a model that was fitted before.

    With a run folder as --model, the file is read as it was read there.
    """
    shown, output, began = _screen(output), output or Output(), perf_counter()
    fitted, how = fitted_model(model), as_then(model, given(reading))
    place = runs.place(output, f"foretell-{_stem(data)}-predict")
    panel, notes = opened(data, how)
    known = [k for k in fitted.roles.known if k in fitted.own + fitted.common]
    panel = with_future(panel, future, how, known) if future else panel
    asked = Asked(str(data), how, panel, fitted.task, tuple(notes))
    if origin is None and set(known) | set(fitted.roles.target) <= set(panel.channels):
        check_future(asked.panel, asked.task)
    made = fitted.predict(panel, origin=origin, level=level or None)
    leave(Work(asked, made, model=fitted, name=word_of(fitted.net), seconds={"predict": perf_counter() - began}), place, output, shown)


def check(
    data: Data, /, *, question: Asks = None, reading: Reads = None, json: JSON = False
) -> int:  # fmt: skip
    """Say what a file holds, what is wrong with it, and what a task would lack. Writes nothing.

    The exit code is 0 if nothing is wrong, 1 if something is.
    """
    shown, typed, how = Screen(json=json), given(question), Reading.model_validate(given(reading))
    if typed and "target" not in typed:
        raise TaskError(f"--{next(iter(typed))} belongs to a question: say its --target too")
    if typed and "horizon" not in typed:
        step = checked(data, reading=how).step
        typed["horizon"] = Clock(np.datetime64("2000-01-01"), step).season if step and parse_step(step)[1] not in MONTHS else 12
    found = checked(data, Task.model_validate(typed) if typed else None, reading=how)
    shown.show(str(found))
    shown.document({**{one.name: vars(found)[one.name] for one in fields(Check)}, "ok": found.ok})
    return 0 if found.ok else 1


def report(
    run: Annotated[Path, Parameter(name="RUN_DIR", help="a run folder; with --model, the file to forecast")], /, *, model: Model | None = None,
    data: Annotated[Path | None, Parameter(help="where the run's file is now, if it was moved")] = None,
    out: Annotated[Path | None, Parameter(help="HTML file to write; left out: report.html in the run folder, or foretell-<file>.html")] = None,
    lang: Annotated[str, Parameter(help="en, ko")] = "en", title: Annotated[str | None, Parameter(help="of the report")] = None, reading: Reads = None,
) -> None:  # fmt: skip
    """Write report.html again from a run folder, in another language or under another title; nothing is trained.

    With --model, report what that model forecasts from a file.
    """
    from . import detecting

    shown = Screen()
    if not model and detecting.left(run):
        shown.show(f"report: {detecting.again(run, data, given(reading), out, lang, title)}")
        return
    work = _of_model(run, model, given(reading)) if model else again(run, data, given(reading))
    usual = Path(f"foretell-{_stem(run)}.html") if model else run / runs.REPORT
    shown.show(f"report: {page(work, out or usual, lang, title)}")


def detect(*, guarding: Annotated[flags.Guarding | None, Parameter(name="*", group=flags.QUESTION)] = None, output: Outputs = None,
    reading: Reads = None, training: Trains = None,
) -> None:  # fmt: skip
    """Learn from normal runs, then raise alarms that name the sensors to look at.

    --train a.csv b.csv --out guard.foretell; --model guard.foretell --test c.csv; --model guard.foretell --follow < rows.csv
    """
    from . import detecting

    asked = guarding or flags.Guarding()
    train, test, model = asked.train, asked.test, asked.model
    if bool(train) == (model is not None):
        raise TaskError("give either --train with files of normal runs, or --model with a detector that was trained before")
    if model and not (test or asked.follow):
        raise TaskError("give the run to score by --test, or --follow for rows on standard input")
    if asked.labels and not test:
        raise TaskError("--labels belong to a test run: give it by --test")
    shown, output, began, how = _screen(output), output or Output(), perf_counter(), Reading.model_validate(given(reading))
    alone = train and not test  # then --out is the detector's file
    place = None if alone or asked.follow else runs.place(output, f"foretell-{_stem(test or train[0])}-detect")
    guard = detecting.trained(train, how, asked.net, asked.false_alarms, given(training), shown) if train else detecting.fitted(model or Path())
    if asked.follow:
        detecting.watch(guard)
    elif place is None:
        detecting.kept(guard, output.out or Path("guard.foretell"), shown)
    elif test:
        panel, notes = detecting.opened(test, how)
        for note in notes:
            shown.remark(f"note: {note}")
        made = detecting.Made(test, asked.labels, Reading.model_validate(given(reading)))
        detecting.leave(guard, detecting.tested(guard, panel, asked.labels, how), made, place, output, shown, began)


def demo(*, output: Outputs = None) -> None:
    """The main job on real data that need no file: half-hourly electricity demand of England and Wales, a day ahead.

    The data come with the demo extra: pip install "foretell[demo]".
    """
    shown, output = _screen(output), output or Output()
    place = runs.place(output, "foretell-demo")
    typed = {"target": ("demand",), "horizon": 48, "context": 336}
    task, panel = completed(example(), typed, Ahead(calendar=("hour", "weekday", "weekend")), shown)
    note = f"the data carry no dates; they are taken to start at midnight of Monday, 5 June 2000, local time ({len(panel.values[0]):,} half hours)"
    shown.remark(f"England and Wales, electricity demand in MW; {note}")
    asked = Asked(DEMO, Reading(), panel, task, (note,))
    leave(_forecast(asked, race(Nets(net=("ridge", "lstm")), {}), Test(test="4 weeks"), shown), place, output, shown)


# ---------------------------------------------------------------- what they share


def _screen(output: Output | None) -> Screen:
    return Screen(output.quiet, output.json) if output else Screen()


def _stem(data: Path) -> str:
    return data.name.split(".")[0] or "data"


def _forecast(asked: Asked, rows: Race, test: Test, shown: Screen) -> Work:
    """The main job: test, choose, fit, predict."""
    began, plan = perf_counter(), planned(asked, test)
    asked, rows, tables = with_choice(asked, rows, plan, shown)
    shown.remark(plan.told)
    result, kept = tested(asked, rows, plan, test.level, shown)
    halfway, row = perf_counter(), best(result, rows)
    model = final(asked, rows, row, shown)
    ahead = model.predict(asked.panel, level=test.level or None)
    seconds = {"test": halfway - began, "fit": perf_counter() - halfway}
    return Work(asked, ahead, result, kept, model=model, name=row.name, seconds=seconds, tables=tables)


def _of_model(data: Path, model: Path, typed: dict[str, object]) -> Work:
    fitted, how = fitted_model(model), as_then(model, typed)
    panel, notes = opened(data, how)
    asked = Asked(str(data), how, panel, fitted.task, tuple(notes))
    check_future(asked.panel, asked.task)
    return Work(asked, fitted.predict(panel), model=fitted, name=word_of(fitted.net))
