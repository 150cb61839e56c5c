"""Pictures of the values: a forecast with its past and bands, a backtest by time, by step ahead, by origin, at the peaks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from . import metrics
from .errors import TaskError, nearest
from .outcome import Forecast
from .panel import Panel, positions
from .scoreboard import Backtest
from .train import Curves
from .words import Words, percent, words

Figure = Any  # plotly.graph_objects.Figure; plotly is loaded when something is drawn, not before

INK, MUTED, GRID = "#1f2933", "#66717e", "#e9ecf0"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")  # told apart by every kind of sight, after Okabe and Ito
PLAIN = "#8a949e"  # the baseline
FONTS = '-apple-system, "Segoe UI", Roboto, "Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans CJK KR", sans-serif'
SHOWN = 6  # small multiples in one picture
POINTS = 2000  # of one line; more cannot be seen
ORIGINS = 150  # points of the error by origin
KINDS = ("actual", "step", "origin", "peaks")

Value = Forecast | Backtest | Curves | Mapping[str, Curves]


def plot(value: Value, kind: str = "actual", *, history: Panel | None = None, series: str | Sequence[str] | None = None, lang: str = "en") -> Figure:
    """A plotly figure of a value, to show, save or change.

    A forecast is drawn after the observed values of `history`. A backtest is drawn by `kind`: "actual" against
    predicted at the end of the test, error by "step" ahead, error by "origin", error at the "peaks". `series` chooses;
    left out, those with the highest values are shown, 6 at most. Learning curves may come as one, or by net's name.
    """
    chosen = (series,) if isinstance(series, str) else series
    if isinstance(value, Forecast):
        return draw_forecast(value, history, chosen, words(lang))
    if isinstance(value, Backtest):
        return draw_backtest(value, kind, chosen, words(lang))
    if isinstance(value, Curves):
        return draw_curves({"": value}, words(lang))
    if isinstance(value, Mapping) and value and all(isinstance(one, Curves) for one in value.values()):
        return draw_curves(value, words(lang))
    raise TaskError(
        f"what can be drawn is a Forecast, a Backtest, learning curves (by net's name, if several), or a value of foretell.plan; got {type(value).__name__}"
    )


@dataclass(frozen=True)
class Plot:
    """One small picture among several: its row and column, the series and target it shows."""

    row: int
    column: int
    series: int
    target: int


class Pen(NamedTuple):
    """How a line looks."""

    colour: str
    width: float = 1.8
    dash: str = "solid"
    dots: bool = False


def draw_forecast(forecast: Forecast, history: Panel | None, series: Sequence[str] | None, say: Words) -> Figure:
    """Observed values dark, the forecast in colour, its bands shaded; what was observed after the origin is shown too."""
    shown = largest(sizes(forecast), forecast.series, series)
    figure, plots = grid(forecast.series, forecast.targets, shown)
    for plot_ in plots:
        for depth, level in enumerate(reversed(forecast.levels)):
            _band(figure, forecast, plot_, level, depth, say)
        if history is not None:
            draw_past(figure, forecast, history, plot_, say)
        _line(figure, plot_, forecast.times()[plot_.series], _array(forecast.values[plot_.series, :, plot_.target]), say["line"], Pen(COLOURS[0]))
    return dressed(figure, say, legend=True)


def draw_backtest(backtest: Backtest, kind: str, series: Sequence[str] | None, say: Words) -> Figure:
    """One of the pictures of a backtest."""
    table: dict[str, Callable[[Backtest, Sequence[str] | None, Words], Figure]]
    table = {"actual": draw_actual, "step": draw_steps, "origin": draw_origins, "peaks": draw_peaks}
    if kind not in table:
        raise TaskError(f'no picture "{kind}" of a backtest: {nearest(kind, KINDS)}')
    return table[kind](backtest, series, say)


def draw_actual(backtest: Backtest, series: Sequence[str] | None, say: Words) -> Figure:
    """What happened, dark, and what each model had said, over the last week (or season) of the test."""
    shown = largest(sizes(backtest), backtest.series, series, 1)
    figure, plots = grid(backtest.series, backtest.targets, shown)
    for plot_ in plots:
        cuts = last_cuts(backtest, plot_.series)
        steps = (cutoffs(backtest)[cuts, plot_.series][:, None] + 1 + np.arange(backtest.truth.shape[2])).ravel()
        times, pick = backtest.clock.local(steps), (cuts, plot_.series, slice(None), plot_.target)
        for model, colour in zip(ordered(backtest), colours(backtest), strict=True):
            said = _broken(steps, times, _array(backtest.point[model][pick]).ravel())
            _line(figure, plot_, *said, say.named("model_", model), Pen(colour, dash="dot" if colour == PLAIN else "solid"))
        _line(figure, plot_, *_broken(steps, times, _array(backtest.truth[pick]).ravel()), say["actual"], Pen(INK, 2.2))
    return dressed(figure, say, legend=True)


def draw_steps(backtest: Backtest, series: Sequence[str] | None, say: Words) -> Figure:
    """Error by horizon step, a line a model."""
    figure, plots = grid(("",), ("",), [0])
    lines = errors_of(backtest, series, 0, 1, 3)
    for model, colour in zip(lines, colours(backtest), strict=True):
        steps = np.arange(1, len(lines[model]) + 1)
        _line(figure, plots[0], steps, lines[model], say.named("model_", model), Pen(colour, dots=len(steps) < 40))
    figure.update_xaxes(title_text=say["ahead_axis"].format(step=say.step(backtest.clock)), rangemode="tozero")
    return _labelled(dressed(figure, say), lines, _error_axis(backtest, say), backtest, say)


def draw_origins(backtest: Backtest, series: Sequence[str] | None, say: Words) -> Figure:
    """Error by origin over time, a line a model; many origins are averaged in a row."""
    figure, plots = grid(("",), ("",), [0])
    bins = np.arange(len(backtest.cutoff)) // per_point(backtest)
    first = np.flatnonzero(np.diff(bins, prepend=-1))
    times = backtest.clock.local(cutoffs(backtest).max(1)[first] + 1)
    lines = {m: _binned(e, bins) for m, e in errors_of(backtest, series, 1, 2, 3).items()}
    for model, colour in zip(lines, colours(backtest), strict=True):
        _line(figure, plots[0], times, lines[model], say.named("model_", model), Pen(colour, dots=len(times) < 40))
    return _labelled(dressed(figure, say), lines, _error_axis(backtest, say), backtest, say)


def draw_peaks(backtest: Backtest, series: Sequence[str] | None, say: Words) -> Figure:
    """WAPE over all values (hollow) and over the highest tenth (filled), a row a model."""
    figure, _ = grid(("",), ("",), [0])
    at = _rows(backtest, series)
    both: dict[str, list[float]] = {"all_values": [], "peak_values": []}
    truth = backtest.truth[:, at].double()
    for model in ordered(backtest):
        guess = backtest.point[model][:, at].double()
        both["all_values"].append(100 * float(metrics.wape(truth, guess)))
        both["peak_values"].append(100 * float(metrics.peak(truth, guess).wape))
    names = [escape(say.named("model_", m)) for m in ordered(backtest)]
    for name, *ends in zip(names, both["all_values"], both["peak_values"], strict=True):
        figure.add_scatter(x=ends, y=[name, name], mode="lines", line={"color": GRID, "width": 6}, showlegend=False, hoverinfo="skip")
    for key, symbol in (("all_values", "circle-open"), ("peak_values", "circle")):
        marker = {"symbol": symbol, "size": 12, "color": colours(backtest), "line": {"width": 2}}
        figure.add_scatter(x=both[key], y=names, mode="markers", name=say[key], marker=marker, hovertemplate="%{y}: %{x:.2f} %")
    dressed(figure, say, legend=True)
    figure.update_xaxes(title_text=say["wape_axis"], rangemode="tozero", ticksuffix=" %")
    return figure.update_yaxes(autorange="reversed", showgrid=False).update_layout(height=120 + 42 * len(names), hovermode="closest")


def draw_curves(curves: Mapping[str, Curves], say: Words) -> Figure:
    """Loss by epoch, the mean over members: thin where it learns, thick on the stop part, a dot at its lowest."""
    figure, plots = grid(("",), ("",), [0])
    for number, (name, one) in enumerate(curves.items()):
        colour, before = COLOURS[number % len(COLOURS)], f"{name}: " if name else ""
        learn, stop = (_array(losses.nanmean(0)) for losses in (one.train, one.stop))
        epochs = np.arange(1, len(stop) + 1)
        _line(figure, plots[0], epochs, learn, before + say["learn"], Pen(colour, 1.3, "dot"))
        _line(figure, plots[0], epochs, stop, before + say["stop_part"], Pen(colour, 2.4))
        if np.isfinite(stop).any():
            best = int(np.nanargmin(stop))
            figure.add_scatter(x=epochs[[best]], y=stop[[best]], mode="markers", marker={"size": 10, "color": colour}, showlegend=False, hoverinfo="skip")
    dressed(figure, say, legend=True)
    most = max((one.stop.shape[1] for one in curves.values()), default=1)
    figure.update_xaxes(title_text=say["epoch_axis"], tick0=1, dtick=max(1, -(-most // 10)))  # there is no epoch 1.5
    return figure.update_yaxes(title_text=say["loss_axis"], rangemode="tozero")


def grid(series: Sequence[str], targets: Sequence[str], shown: Sequence[int]) -> tuple[Figure, list[Plot]]:
    """An empty figure of small multiples, a plot for each series shown and target, titled where there are several."""
    from plotly.subplots import make_subplots

    cells = [(s, t) for s in shown for t in range(len(targets))]
    columns = 1 if len(cells) == 1 else 2 if len(cells) in (2, 4) else min(3, len(cells))
    rows = -(-len(cells) // columns)
    titles = [escape(_joined(series[s], targets[t] if len(targets) > 1 or len(cells) == 1 else "", len(cells) > 1)) for s, t in cells]
    figure = make_subplots(rows, columns, subplot_titles=titles if len(cells) > 1 else None, vertical_spacing=0.3 / rows, horizontal_spacing=0.21 / columns)
    for number, note in enumerate(figure.layout.annotations):
        note.update(x=figure.get_subplot(*_place(number, columns)).xaxis.domain[0], xanchor="left", font={"size": 13, "color": INK})
    if len(cells) == 1:
        figure.update_yaxes(title_text=titles[0])
    elif len(targets) == 1:
        figure.update_yaxes(title_text=escape(targets[0]), col=1)
    return figure.update_layout(height=400 if rows == 1 else 80 + 260 * rows), [Plot(*_place(n, columns), *cell) for n, cell in enumerate(cells)]


def dressed(figure: Figure, say: Words, *, legend: bool = False) -> Figure:
    """The look all pictures share: white, thin lines across, dates as the reader writes them."""
    figure.update_layout(template="none", paper_bgcolor="white", plot_bgcolor="white", font={"family": FONTS, "size": 13, "color": INK})
    figure.update_layout(margin={"l": 10, "r": 20, "t": 44, "b": 10}, hovermode="x unified", hoverlabel={"bgcolor": "white", "font": {"family": FONTS}})
    figure.update_layout(showlegend=legend, legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 0.995, "yanchor": "top", "yref": "container"})
    title = {"font": {"color": MUTED, "size": 12}, "standoff": 12}
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "tickfont": {"color": MUTED}, "title": title}
    figure.update_yaxes(**axis, tickformat=",", exponentformat="none", nticks=7 if figure.layout.height <= 400 else 5)
    dates = _dates(say.lang) if any(np.asarray(line.x).dtype.kind == "M" for line in figure.data) else ()
    return figure.update_xaxes(**{**axis, "showgrid": False}, linecolor="#c5ccd3", ticks="outside", tickcolor="#c5ccd3", tickformatstops=dates)


def largest(size: np.ndarray, names: Sequence[str], chosen: Sequence[str] | None, count: int = SHOWN) -> list[int]:
    """The series to draw: those chosen, else the `count` of greatest size, in their own order."""
    if chosen is not None:
        return positions(chosen, names, "series")
    return sorted(np.argsort(-size, kind="stable")[:count].tolist())


def sizes(value: Forecast | Backtest) -> np.ndarray:
    """Mean of each series, as forecast or as observed."""
    series_first = _array(value.values) if isinstance(value, Forecast) else _array(value.truth).swapaxes(0, 1)
    means: np.ndarray = np.nan_to_num(series_first).reshape(len(series_first), -1).mean(1)
    return means


def ordered(backtest: Backtest) -> list[str]:
    """Models as drawn: the baseline first, under all others."""
    return sorted(backtest.point, key=lambda model: model != backtest.baseline)


def colours(backtest: Backtest) -> list[str]:
    """A colour a model, in the order drawn; grey for the baseline."""
    others = iter(COLOURS * (1 + len(backtest.point) // len(COLOURS)))
    return [PLAIN if model == backtest.baseline else next(others) for model in ordered(backtest)]


def errors_of(backtest: Backtest, series: Sequence[str] | None, *over: int) -> dict[str, np.ndarray]:
    """Mean errors of the models in the order drawn, over these of the axes cut, series, horizon, target: MAE, or MASE of several series or targets."""
    at = _rows(backtest, series)
    truth, scale = backtest.truth[:, at].double(), backtest.scale[at][:, None].double()
    found = {}
    for model in ordered(backtest):
        guess = backtest.point[model][:, at].double()
        found[model] = _array(metrics.mase(truth, guess, scale, over=over) if scaled(backtest) else metrics.mae(truth, guess, over=over))
    return found


def scaled(backtest: Backtest) -> bool:
    """Whether errors need a common measure: there are several series or targets."""
    return len(backtest.series) * len(backtest.targets) > 1


def cutoffs(backtest: Backtest) -> np.ndarray:
    """Clock step of the last observed step [cut, series], whether the series share it or not."""
    cutoff = _array(backtest.cutoff)
    return np.broadcast_to(cutoff.reshape(len(cutoff), -1), (len(cutoff), len(backtest.series)))


def last_cuts(backtest: Backtest, series: int) -> list[int]:
    """The last cuts whose forecasts do not overlap, as many as fill a week of hours, four weeks of days, two years of months."""
    clock, cutoff, horizon = backtest.clock, cutoffs(backtest)[:, series], backtest.truth.shape[2]
    want = max(horizon, clock.season * (7 if clock.sub_daily else 4 if clock.unit == "D" else 2))
    kept: list[int] = []
    for cut in np.argsort(cutoff, kind="stable")[::-1]:
        if (not kept or cutoff[cut] <= cutoff[kept[-1]] - horizon) and (len(kept) + 1) * horizon <= want:
            kept.append(int(cut))
    return kept[::-1]


def per_point(backtest: Backtest) -> int:
    """Origins averaged into one point of the picture by origin."""
    return -(-len(backtest.cutoff) // ORIGINS)


def thin(values: np.ndarray, limit: int = POINTS) -> np.ndarray:
    """Rows that draw the same line with at most `limit` points: the lowest and highest of each stretch, and both ends."""
    if len(values) <= limit:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), limit // 2).astype(np.int64)
    low = [a + int(np.argmin(np.nan_to_num(values[a:b], nan=np.inf))) for a, b in pairwise(edges)]
    high = [a + int(np.argmax(np.nan_to_num(values[a:b], nan=-np.inf))) for a, b in pairwise(edges)]
    return np.unique([0, *low, *high, len(values) - 1])


def _line(figure: Figure, at: Plot, x: np.ndarray, y: np.ndarray, name: str, pen: Pen) -> None:
    keep = thin(y)
    mode = "lines+markers" if pen.dots or np.isfinite(y).sum() < 2 else "lines"
    name, first = escape(name), (at.row, at.column) == (1, 1)
    figure.add_scatter(
        x=x[keep], y=_rounded(y[keep]), mode=mode, name=name, legendgroup=name, showlegend=first, marker={"size": 5, "color": pen.colour},
        line={"color": pen.colour, "width": pen.width, "dash": pen.dash}, hovertemplate="%{y:,.4~g}", row=at.row, col=at.column,
    )  # fmt: skip


def _band(figure: Figure, forecast: Forecast, at: Plot, level: float, depth: int, say: Words) -> None:
    low, high = (_array(edge[at.series, :, at.target]) for edge in forecast.band(level))
    times, keep = forecast.times()[at.series], thin(high)
    name = say["level"].format(level=percent(level / 100, 0 if level % 1 == 0 else 1))
    # A horizon of one step has no area to shade: its band is two dashes.
    dash = {"symbol": "line-ew", "size": 14, "line": {"width": 2, "color": COLOURS[0]}}
    common = {"x": times[keep], "legendgroup": name, "row": at.row, "col": at.column, "hovertemplate": "%{y:,.4~g}"}
    common |= {"mode": "markers" if len(keep) == 1 else "lines", "line": {"width": 0}, "marker": dash}
    shade = f"rgba(0, 114, 178, {min(0.16 + 0.12 * depth, 0.4):.2f})"
    figure.add_scatter(y=_rounded(low[keep]), name=f"{name} −", showlegend=False, **common)
    figure.add_scatter(y=_rounded(high[keep]), name=name, showlegend=(at.row, at.column) == (1, 1), fill="tonexty", fillcolor=shade, **common)


def draw_past(figure: Figure, forecast: Forecast, history: Panel, at: Plot, say: Words) -> None:
    """The observed values before a forecast, and those after its origin where there are any."""
    clock, horizon, origin = forecast.clock, forecast.values.shape[1], int(forecast.origin[at.series])
    back = max(3 * horizon, clock.season * (7 if clock.sub_daily else 4 if clock.unit == "D" else 2))
    where = positions([forecast.series[at.series]], history.series, "series")
    row = _array(history.channel(forecast.targets[at.target])[where[0]])
    steps = np.arange(origin - back + 1, origin + horizon + 1)
    index = steps - int(history.start[where[0]])
    inside = (index >= 0) & (index < len(row))
    y = np.where(inside, row[np.clip(index, 0, len(row) - 1)], np.nan)
    held = np.flatnonzero(np.isfinite(y))
    if len(held):
        cut = slice(held[0], held[-1] + 1)
        _line(figure, at, forecast.clock.local(steps[cut]), y[cut], say["history"], Pen(INK))


def _labelled(figure: Figure, lines: dict[str, np.ndarray], title: str, backtest: Backtest, say: Words) -> Figure:
    """Names at the ends of the lines, moved apart where they would overlap, in place of a legend."""
    ends = {m: float(y[np.isfinite(y)][-1]) if np.isfinite(y).any() else 0.0 for m, y in lines.items()}
    top = 1.06 * max((float(np.nanmax(y)) for y in lines.values() if np.isfinite(y).any()), default=1.0) or 1.0
    places = apart(list(ends.values()), top / 16)
    for model, colour, y in zip(lines, colours(backtest), places, strict=True):
        font = {"color": "#5d6873" if colour == PLAIN else colour}
        text = escape(say.named("model_", model))
        figure.add_annotation(x=1, xref="paper", xanchor="left", xshift=8, y=y, yref="y", text=text, showarrow=False, font=font)
    longest = max(_width(say.named("model_", m)) for m in lines)
    figure.update_yaxes(title_text=title, range=[0, max(top, *(p + top / 32 for p in places))])
    return figure.update_layout(margin={"r": 24 + 8 * min(longest, 24), "t": 16})


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Heights at least `gap` from each other, from the lowest up, each as low as it can be.

    >>> apart([5.0, 1.0, 1.2], 1.0)
    [5.0, 1.0, 2.0]
    """
    moved = list(places)
    floor = -np.inf
    for n in sorted(range(len(moved)), key=moved.__getitem__):
        moved[n] = floor = max(moved[n], floor + gap)
    return moved


def _binned(errors: np.ndarray, bins: np.ndarray) -> np.ndarray:
    seen = np.isfinite(errors)
    total, count = np.bincount(bins, np.where(seen, errors, 0.0)), np.bincount(bins, seen)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _broken(steps: np.ndarray, times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line that is interrupted where steps are missing between two cuts."""
    jump = np.flatnonzero(np.diff(steps) > 1) + 1
    return np.insert(times, jump, times[jump - 1]), np.insert(values, jump, np.nan)


def _rows(backtest: Backtest, series: Sequence[str] | None) -> list[int]:
    return positions(series, backtest.series, "series") if series else list(range(len(backtest.series)))


def _error_axis(backtest: Backtest, say: Words) -> str:
    return say["mase_axis"] if scaled(backtest) else say["mae_axis"].format(target=escape(backtest.targets[0]))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Six figures are more than a picture shows, and make a smaller file."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place = 10.0 ** (5 - np.floor(np.log10(np.abs(values))))
    usable = np.isfinite(place) & np.isfinite(values)
    return np.where(usable, np.round(values * np.where(usable, place, 1.0)) / np.where(usable, place, 1.0), values)


def _array(values: torch.Tensor) -> np.ndarray:
    array = values.detach().cpu().numpy()
    return array if array.dtype.kind == "i" else array.astype(np.float64)


def _joined(series: str, target: str, several: bool) -> str:
    return f"{series} · {target}" if several and target else series if several else target or series


def _place(number: int, columns: int) -> tuple[int, int]:
    return number // columns + 1, number % columns + 1


def _width(text: str) -> int:
    return sum(2 if ord(c) > 0x1100 else 1 for c in text)


def _dates(lang: str) -> list[dict[str, Any]]:
    """Axis dates by how far one can see, in figures for Korean, as plotly names months in English."""
    hour, day, month, year = ("%H:%M", "%-m월 %-d일", "%Y년 %-m월", "%Y년") if lang == "ko" else ("%H:%M", "%-d %b", "%b %Y", "%Y")
    spans = ((None, 86_400_000 - 1, f"{hour}\n{day}"), (86_400_000, 27 * 86_400_000, f"{day}\n{year}"), ("M1", "M11", month), ("M12", None, year))
    return [{"dtickrange": [low, high], "value": form} for low, high, form in spans]
