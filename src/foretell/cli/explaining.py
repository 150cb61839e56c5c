"""The command `explain`: why a fitted model forecasts what it does, as one page and a tidy table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..dossier import dossier, headline, parts_of_forecast
from ..errors import FileError, TaskError
from ..explanation import explain as explained
from ..frames import to_frame
from ..panel import positions
from ..words import words
from . import flags
from .asked import opened, with_future
from .flags import ReadingFlags, given
from .screen import Screen
from .work import as_then, fitted_model

Model = Annotated[Path, Parameter(help="a model.foretell, or the run folder that holds one")]
Data = Annotated[Path, Parameter(help="file of one or many series: csv, parquet, tsf, packed or not")]


@dataclass(frozen=True)
class Why:
    """What is explained, how, and against what."""

    origin: Annotated[str | None, Parameter(help="last observed step: 2017-12-15 23:00; left out: the end of the data")] = None
    of: Annotated[Literal["step", "total", "peak", "band"], Parameter(help="each step, their total, the highest, or the width of the band")] = "step"
    method: Annotated[str, Parameter(help="auto, deeplift, integrated_gradients, shapley, lime, occlusion …")] = "auto"
    baseline: Annotated[str, Parameter(help="compared with: typical, last_period, normal")] = "typical"
    series: Annotated[str | None, Parameter(help="which series; left out: the first")] = None
    future: Annotated[Path | None, Parameter(help="file with the known columns after the last target")] = None


def explain(
    model: Model, data: Data, /, *, why: Annotated[Why | None, Parameter(name="*")] = None,
    out: Annotated[Path | None, Parameter(help="HTML file to write; left out: why.html. The table lies beside it, as csv")] = None,
    lang: Annotated[str, Parameter(help="en, ko")] = "en", title: Annotated[str | None, Parameter(help="of the page")] = None,
    reading: Annotated[ReadingFlags | None, Parameter(name="*", group=flags.READING)] = None,
) -> None:  # fmt: skip
    """Say why a model forecasts what it does: what each input adds, in units, and how much is left unexplained."""
    asked, shown, say = why or Why(), Screen(), words(lang)
    fitted, how = fitted_model(model), as_then(model, given(reading))
    panel, _ = opened(data, how)
    known = [k for k in fitted.roles.known if k in fitted.own + fitted.common]
    panel = with_future(panel, asked.future, how, known) if asked.future else panel
    name = panel.series[positions([asked.series], panel.series, "series")[0]] if asked.series else panel.series[0]
    found = explained(fitted, panel.pick(name), origin=asked.origin, of=asked.of, method=asked.method, baseline=asked.baseline)
    rows = (out or Path("why.html")).with_suffix(".csv")
    if rows == out:
        raise TaskError(f'--out names the page: give it a name that ends in .html, not "{rows.name}"')
    whole = parts_of_forecast(found)
    page = dossier(out or Path("why.html"), found, fitted, panel, lang=lang, title=title) if whole else None
    _write(rows, found.columns())
    for line in headline(found, say) if whole else ():
        shown.show(line)
    for line in found.warnings:
        shown.remark(line)
    shown.show(f"page: {page}, table: {rows}" if page else f"{found.method} gives {found.kind} values, which are no parts of the forecast: table alone: {rows}")


def _write(path: Path, columns: dict[str, Any]) -> None:
    try:
        to_frame(columns, "polars").write_csv(path)
    except OSError as error:
        raise FileError(f'"{path}" cannot be written: {error.strerror or error}') from None
