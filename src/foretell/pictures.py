"""Pictures of every value: those of planning (scenarios, curves, plans, promotions) here, the others in plotting."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from torch import Tensor

from .attribution.types import Attribution
from .attribution.types import Curve as Effect
from .graph import Graph
from .outcome import Forecast
from .panel import Panel, positions
from .plan import Curve, Plan, Promotion, WhatIf
from .plan.plans import Band
from .plan.scenarios import AS_WRITTEN
from .plotting import COLOURS, GRID, INK, PLAIN, Plot, Value, draw_past, dressed, largest
from .portraits import plot as drawn
from .words import Words, number, percent, words

Figure = Any  # plotly.graph_objects.Figure; plotly is loaded when something is drawn, not before
ACROSS = 3  # series side by side in a picture of two rows
HEIGHT = 620
EDGES = 80  # lines in the picture of a graph; more cannot be told apart
MARK = "rgba(184, 134, 11, 0.13)"  # promoted days


def plot(
    value: Value | Attribution | Effect | WhatIf | Curve | Plan | Promotion | Graph, kind: str | None = None, *, history: Panel | None = None,
    series: str | Sequence[str] | None = None, lang: str = "en",
) -> Figure:  # fmt: skip
    """A plotly figure of a value, to show, save or change.

    A forecast or scenario is drawn after the observed values of `history`. A backtest is drawn by `kind`: "actual" against predicted,
    error by "step" ahead, by "origin", at the "peaks". Learning curves may come as one, or by net's name. An explanation by `kind`:
    "parts", "waterfall", "lags", "cells" or "summary" (`portrait`). `series` chooses; left out, those with the highest values
    are shown, 6 at most; of an explanation its first window.
    Of planning: a `WhatIf` (scenarios over each other, and the difference each makes), a `Curve` (effect and marginal return),
    a `Plan` (spend written and planned), a `Promotion` (with and without, and the extra units cumulated), each with its bands.
    The `Graph` of a graph net: its strongest edges, the wider the stronger.
    """
    chosen, say = (series,) if isinstance(series, str) else series, words(lang)
    if isinstance(value, WhatIf):
        return draw_what_if(value, history, chosen, say)
    if isinstance(value, Promotion):
        return draw_promotion(value, chosen, say)
    if isinstance(value, Curve):
        return draw_curve(value, say)
    if isinstance(value, Plan):
        return draw_plan(value, say)
    if isinstance(value, Graph):
        return draw_graph(value, chosen, say)
    return drawn(value, kind, history=history, series=series, lang=lang)


def draw_what_if(told: WhatIf, history: Panel | None, series: Sequence[str] | None, say: Words) -> Figure:
    """Above, the forecast under each scenario; below, what each changes, paired by member; both with their bands."""
    first = told.forecasts[AS_WRITTEN]
    at = first.targets.index(told.target)
    shown = largest(_array(first.values[..., at]).mean(1), first.series, series, ACROSS)
    figure = _two_rows([first.series[s] if len(first.series) > 1 else "" for s in shown])
    for column, one in enumerate(shown, 1):
        if history is not None:
            draw_past(figure, first, history, Plot(1, column, one, at), say)
            times = first.times()[one]
            figure.update_xaxes(range=[times[0] - 2 * (times[-1] - times[0]), times[-1]], col=column)
    for number_, (name, forecast) in enumerate(told.forecasts.items()):
        written = name == AS_WRITTEN
        colour = PLAIN if written else COLOURS[(number_ - 1) % len(COLOURS)]
        label = say["plan_written"] if written else name
        for column, one in enumerate(shown, 1):
            place, times = {"row": 1, "col": column}, forecast.times()[one]
            _banded(figure, times, forecast.values[one, :, at], _ends(forecast, one, at), colour, label, place)
            if not written:
                band = Band(told.difference[name][:, one])
                _banded(figure, times, band.mean, band.ends(), colour, label, {"row": 2, "col": column}, named=False)
    figure = _finished(figure, say)
    return figure.update_yaxes(title_text=escape(told.target), row=1, col=1).update_yaxes(title_text=say["plan_difference"], row=2, col=1)


def draw_promotion(found: Promotion, series: Sequence[str] | None, say: Words) -> Figure:
    """Above, each step with the promotion and without; below, the extra units cumulated: what falls after the promoted days
    (shaded) was brought forward. Over each: lift, long-run effect and break-even margin. All items together come first."""
    if series is None:
        largest_first = largest(_array(found.bare).mean((0, 2)), found.series, None, ACROSS - 1)
        items: list[str | None] = [*([None] if len(found.series) > 1 else []), *(found.series[at] for at in largest_first)]
    else:
        items = [found.series[at] for at in positions(series, found.series, "series")]
    figure = _two_rows([_headline(found, item, say) for item in items])
    edge = (found.times[1] - found.times[0]) / 2 if len(found.times) > 1 else np.timedelta64(12, "h")
    for column, item in enumerate(items, 1):
        for key, band, colour in (("promo_without", found.without(item), PLAIN), ("promo_with", found.with_it(item), COLOURS[0])):
            _banded(figure, found.times, band.mean, band.ends(), colour, say[key], {"row": 1, "col": column})
        band = found.cumulative(item)
        _banded(figure, found.times, band.mean, band.ends(), COLOURS[1], say["promo_cumulative"], {"row": 2, "col": column})
        first, last = found.times[found.first], found.times[found.first + found.days - 1]
        for row in (1, 2):
            figure.add_vrect(x0=first - edge, x1=last + edge, fillcolor=MARK, line_width=0, layer="below", row=row, col=column)
    figure = _finished(figure, say)
    return figure.update_yaxes(title_text=escape(found.target), row=1, col=1).update_yaxes(title_text=say["promo_extra"], row=2, col=1)


def draw_curve(curve: Curve, say: Words) -> Figure:
    """Above, the effect of the control with its band, strokes where history lies, a dot where it stands now; below, its marginal return."""
    figure, x = _two_rows([""]), curve.spend.numpy()
    for row, members, key, colour in ((1, curve.effect, "plan_curve", COLOURS[0]), (2, curve.marginal, "plan_marginal", COLOURS[1])):
        band, place = Band(members), {"row": row, "col": 1}
        _banded(figure, x, band.mean, band.ends(), colour, say[key], place)
        height = [float(np.interp(curve.now, x, _array(band.mean)))]
        dot = {"size": 11, "color": PLAIN, "line": {"color": GRID, "width": 1}}
        figure.add_scatter(x=[curve.now], y=height, mode="markers", marker=dot, name=say["plan_written"], legendgroup="now", showlegend=row == 1, **place)
        strokes(figure, curve, say, place, named=row == 1)
    dressed(figure, say, legend=True)
    figure.update_xaxes(tickformat=",").update_xaxes(title_text=escape(curve.channel), row=2)
    return figure.update_yaxes(title_text=escape(curve.target), row=1).update_yaxes(title_text=say["plan_marginal"], row=2)


def strokes(figure: Figure, curve: Curve, say: Words, place: Mapping[str, int], *, named: bool) -> None:
    """Where the history of a control lies: the longer the stroke, the more steps."""
    here = curve.density.numpy() > 0
    marker = {"symbol": "line-ns-open", "size": 4 + 40 * curve.density.numpy()[here], "color": INK}
    figure.add_scatter(
        x=curve.spend.numpy()[here], y=np.zeros(here.sum()), mode="markers", marker=marker, name=say["plan_density"], legendgroup="data",
        showlegend=named, hoverinfo="skip", **place,
    )  # fmt: skip


def draw_plan(plan: Plan, say: Words) -> Figure:
    """Spend by control, written and planned."""
    from plotly.graph_objects import Figure as Empty

    figure, names = Empty(), [escape(name) for name in plan.columns]
    for key, values, colour in (("plan_written", plan.written, PLAIN), ("plan_planned", plan.spend, COLOURS[0])):
        figure.add_bar(y=names, x=values.sum(0).numpy(), name=say[key], orientation="h", marker={"color": colour}, hovertemplate="%{x:,.4~g}")
    figure.update_layout(height=140 + 46 * len(names), barmode="group")
    dressed(figure, say, legend=True)
    return figure.update_layout(hovermode="closest").update_yaxes(autorange="reversed", showgrid=False).update_xaxes(tickformat=",")


def draw_graph(graph: Graph, series: Sequence[str] | None, say: Words) -> Figure:
    """The series on a circle; a line from each neighbour to the series that follows it, whose end has the dot. Of more than `EDGES` edges the
    strongest; of chosen series those that lead to one of them."""
    from plotly.graph_objects import Figure as Empty

    told = graph.columns()
    positions(series or (), graph.series, "series")
    shown = [at for at, name in enumerate(told["unique_id"]) if not series or name in series][:EDGES]
    names = [name for name in graph.series if name in {*told["unique_id"][shown], *told["neighbour"][shown]}]
    angle = {name: 2 * np.pi * at / max(1, len(names)) for at, name in enumerate(names)}
    figure, most, named = Empty(), float(np.abs(told["weight"]).max(initial=1e-12)), set[bool]()
    for at in shown:
        ends = [told["neighbour"][at], told["unique_id"][at]]
        x, y = ([float(f(angle[name])) for name in ends] for f in (np.cos, np.sin))
        gives = bool(told["weight"][at] >= 0)
        key, colour = ("graph_adds", COLOURS[0]) if gives else ("graph_takes", COLOURS[1])
        line, marker = {"color": colour, "width": 0.5 + 4 * abs(told["weight"][at]) / most}, {"size": [0, 7], "color": colour}
        said = say["graph_edge"].format(source=escape(ends[0]), target=escape(ends[1]), lag=told["lag"][at], weight=number(float(told["weight"][at])))
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", line=line, marker=marker, opacity=0.75, name=say[key], legendgroup=key, showlegend=gives not in named,
            hovertemplate=said + "<extra></extra>",
        )  # fmt: skip
        named.add(gives)
    outside = [(1.12 * float(np.cos(angle[n])), 1.12 * float(np.sin(angle[n]))) for n in names]
    figure.add_scatter(
        x=[p[0] for p in outside], y=[p[1] for p in outside], mode="text", text=[escape(n) for n in names], textfont={"size": 10, "color": INK},
        showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    figure.update_layout(height=HEIGHT)
    dressed(figure, say, legend=True)
    return figure.update_layout(hovermode="closest").update_xaxes(visible=False).update_yaxes(visible=False, scaleanchor="x")


def _two_rows(titles: Sequence[str]) -> Figure:
    """A picture above and one below for each title, on one time axis."""
    from plotly.subplots import make_subplots

    heads = [*map(escape, titles), *("" for _ in titles)]
    figure = make_subplots(2, len(titles), shared_xaxes=True, subplot_titles=heads, vertical_spacing=0.1, horizontal_spacing=0.2 / len(titles))
    for note in figure.layout.annotations:
        note.update(font={"size": 12, "color": INK}, text=note.text.replace("\n", "<br>"))
    return figure.update_layout(height=HEIGHT)


def _finished(figure: Figure, say: Words) -> Figure:
    lines = max(note.text.count("<br>") for note in figure.layout.annotations) if figure.layout.annotations else 0
    return dressed(figure, say, legend=True).update_layout(margin={"t": 60 + 18 * lines})


def _banded(
    figure: Figure, x: np.ndarray, mean: Tensor, ends: tuple[Tensor, Tensor] | None, colour: str, name: str, place: Mapping[str, int], *, named: bool = True
) -> None:
    """A line, and its band shaded in its colour where there is one."""
    name, first = escape(name), named and (place["col"] == 1)
    common = {"x": x, "mode": "lines", "legendgroup": name, "hovertemplate": "%{y:,.4~g}", **place}
    if ends is not None and bool(ends[0].isfinite().all() and ends[1].isfinite().all()):
        edge = {"line": {"width": 0}, "showlegend": False}
        figure.add_scatter(y=_array(ends[0]), name=f"{name} −", **edge, **common)
        figure.add_scatter(y=_array(ends[1]), name=f"{name} +", **edge, fill="tonexty", fillcolor=faint(colour), **common)
    figure.add_scatter(y=_array(mean), name=name, line={"color": colour, "width": 2.2}, showlegend=first, **common)


def faint(colour: str) -> str:
    """A colour as the shade of a band."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.16)"


def _ends(forecast: Forecast, series: int, target: int) -> tuple[Tensor, Tensor] | None:
    """The 80 % band, else the narrowest the forecast has; None if it has none."""
    if not forecast.levels:
        return None
    low, high = forecast.band(80 if 80 in forecast.levels else min(forecast.levels))
    return low[series, :, target], high[series, :, target]


def _headline(found: Promotion, item: str | None, say: Words) -> str:
    """Item, lift, long-run effect, what was taken from later, and the margin from which it pays."""
    even = float(found.break_even(item).mean)
    pays = say["promo_pays"].format(margin=percent(even)) if np.isfinite(even) else say["promo_never"]
    lift = say["promo_lift"].format(lift=percent(float(found.lift(item).mean)), after=number(float(found.after(item).mean)))
    return "\n".join((item or say["promo_all"], lift, say["promo_long"].format(total=found.total(item).told()), pays))


def _array(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.detach().double().numpy()
    return found
