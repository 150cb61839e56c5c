"""The command `explain`: why a model forecasts what it does, or a detector's score is what it is, as one page and a tidy table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter

from ..alarmdossier import alarm_dossier, alarm_headline
from ..attribution.types import Attribution
from ..detect import Detector
from ..dossier import dossier, headline, parts_of_forecast
from ..errors import FileError, TaskError
from ..explanation import explain as explained
from ..forecaster import Forecaster
from ..frames import to_frame
from ..panel import Panel, positions
from ..reading import Reading
from ..storage import load
from ..words import Words, words
from . import flags, runs
from .asked import opened, with_future
from .detecting import opened as opened_run
from .flags import ReadingFlags, given
from .screen import Screen
from .work import as_then

Model = Annotated[Path, Parameter(help="a model.foretell, a detector.foretell, or the run folder that holds one")]
Data = Annotated[Path, Parameter(help="file of one or many series: csv, parquet, tsf, packed or not")]


@dataclass(frozen=True)
class Why:
    """What is explained, how, and against what."""

    origin: Annotated[str | None, Parameter(help="last observed step: 2017-12-15 23:00; left out: the end of the data; of a detector: the highest score")] = (
        None
    )
    of: Annotated[Literal["step", "total", "peak", "band"], Parameter(help="each step, their total, the highest, or the width of the band")] = "step"
    method: Annotated[str, Parameter(help="auto, deeplift, integrated_gradients, shapley, lime, occlusion, components …")] = "auto"
    baseline: Annotated[str, Parameter(help="compared with: typical, last_period, normal")] = "typical"
    series: Annotated[str | None, Parameter(help="which series; left out: the first")] = None
    future: Annotated[Path | None, Parameter(help="file with the known columns after the last target")] = None
    normal: Annotated[Path | None, Parameter(help="of a detector: a file of normal runs to compare with; left out: the calm windows of the data")] = None


def explain(
    model: Model, data: Data, /, *, why: Annotated[Why | None, Parameter(name="*")] = None,
    out: Annotated[Path | None, Parameter(help="HTML file to write; left out: why.html. The table lies beside it, as csv")] = None,
    lang: Annotated[str, Parameter(help="en, ko")] = "en", title: Annotated[str | None, Parameter(help="of the page")] = None,
    reading: Annotated[ReadingFlags | None, Parameter(name="*", group=flags.READING)] = None,
) -> None:  # fmt: skip
    """Say why a model forecasts what it does, or why a detector's score is what it is: what each input adds, and how much is left unexplained."""
    asked, file = why or Why(), out or Path("why.html")
    if file.suffix == ".csv":
        raise TaskError(f'--out names the page: give it a name that ends in .html, not "{file.name}"')
    held, how = load(model / runs.MODEL if model.is_dir() else model), as_then(model, given(reading))
    page = Page(file, words(lang), title)
    if isinstance(held, Detector):
        _of_score(held, data, how, asked, page)
    elif isinstance(held, Forecaster):
        _of_forecast(held, data, how, asked, page)
    else:
        raise FileError(f'"{model}" holds a {type(held).__name__}, neither a model nor a detector')


class Page(NamedTuple):
    """Where the page goes, in which language, under which title."""

    file: Path
    say: Words
    title: str | None


def _of_forecast(fitted: Forecaster, data: Path, how: Reading, asked: Why, page: Page) -> None:
    if asked.normal:
        raise TaskError("--normal is for detectors: a forecast is compared by --baseline typical, last_period or normal")
    panel, _ = opened(data, how)
    known = [k for k in fitted.roles.known if k in fitted.own + fitted.common]
    panel = with_future(panel, asked.future, how, known) if asked.future else panel
    name = _series(panel, asked)
    found = explained(fitted, panel.pick(name), origin=asked.origin, of=asked.of, method=asked.method, baseline=asked.baseline)
    whole = parts_of_forecast(found)
    made = dossier(page.file, found, fitted, panel, lang=page.say.lang, title=page.title) if whole else None
    _leave(found, headline(found, page.say) if whole else (), made, page.file.with_suffix(".csv"))


def _of_score(guard: Detector, data: Path, how: Reading, asked: Why, page: Page) -> None:
    if asked.future or asked.of != "step":
        raise TaskError(f"{'--future' if asked.future else '--of'} is for forecasts: a detector's score has one value a row")
    panel, _ = opened_run(data, how)
    against = opened_run(asked.normal, how)[0] if asked.normal else asked.baseline
    found = explained(guard, panel.pick(_series(panel, asked)), origin=asked.origin, method=asked.method, baseline=against)
    made = alarm_dossier(page.file, found, guard, panel, lang=page.say.lang, title=page.title)
    _leave(found, alarm_headline(found, page.say), made, page.file.with_suffix(".csv"))


def _series(panel: Panel, asked: Why) -> str:
    return panel.series[positions([asked.series], panel.series, "series")[0]] if asked.series else panel.series[0]


def _leave(found: Attribution, lines: Sequence[str], made: Path | None, rows: Path) -> None:
    """The table beside the page, and what there is to say."""
    shown = Screen()
    _write(rows, found.columns())
    for line in lines:
        shown.show(line)
    for line in found.warnings:
        shown.remark(line)
    shown.show(f"page: {made}, table: {rows}" if made else f"{found.method} gives {found.kind} values, which are no parts of the forecast: table alone: {rows}")


def _write(path: Path, columns: dict[str, Any]) -> None:
    try:
        to_frame(columns, "polars").write_csv(path)
    except OSError as error:
        raise FileError(f'"{path}" cannot be written: {error.strerror or error}') from None
