"""The report of a plan: one HTML file with the plan, both nets' opinions of it, the curves it rests on, and what the data cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .page import Column, Section, page, paragraphs, table, write
from .pictures import draw_plan, strokes
from .plan import Curve, Plan
from .plan.plans import Band
from .plotting import COLOURS, GRID, PLAIN, dressed
from .reporting import backtest_html
from .scoreboard import Backtest
from .words import Words, decimals, number, percent, words

Figure = Any  # plotly.graph_objects.Figure


@dataclass(frozen=True, eq=False)
class Planned:
    """What a report of a plan shows. `plan` is the one to follow, `others` the plans of other nets by name; `opinions` says of each net
    (by name) what gain it expects of each plan (by name)."""

    name: str
    plan: Plan
    others: Mapping[str, Plan]
    opinions: Mapping[str, Mapping[str, Band]]
    curves: Sequence[Curve]
    limits: Sequence[str]
    backtest: Backtest | None = None


def plan_report(path: str | Path, found: Planned, *, lang: str = "en", title: str | None = None) -> Path:
    """Writes one HTML file that opens without a network, and returns its path. The file appears whole or not at all."""
    say, plan = words(lang), found.plan
    sections = [
        Section(say["plan_table"], (say["plan_table_text"],), draw_plan(plan, say), table(plan_columns(plan, say))),
        Section(say["plan_opinions"], (say["plan_opinions_text"],), body=table(opinion_columns(found, say))),
        Section(say["plan_limits"], (say["plan_limits_text"],), body=_listed(found.limits)),
        *([Section(say["plan_curves"], (say["plan_curves_text"],), draw_curves(found.curves, plan, say))] if found.curves else ()),
        *([Section(say["plan_parameters"], (say["plan_parameters_text"],), body=table(columns))] if (columns := parameter_columns(found.curves, say)) else ()),
        *([Section(say["accuracy"], (say["plan_accuracy_text"],), body=backtest_html(found.backtest, lang))] if found.backtest else ()),
        *(Section(f"{say['plan_table']}: {name}", (), draw_plan(one, say), table(plan_columns(one, say))) for name, one in found.others.items()),
        Section(say["notes"], () if plan.notes else (say["no_notes"],), body=_listed(plan.notes)),
    ]
    under = say["plan_under"].format(first=str(plan.times[0])[:10], last=str(plan.times[-1])[:10], name=found.name)
    top = f'<div class="head">{paragraphs(plan.summary().splitlines()[:4])}</div>\n'
    return write(Path(path), page(title or say["plan_title"].format(target=plan.target), under, top, sections, say))


def plan_columns(plan: Plan, say: Words) -> list[Column]:
    """One row a control: written, plan, change, marginal return, outside."""
    rows = plan.rows()
    money = decimals([float(v) for v in (*rows["written"], *rows["plan"])])
    band = Band(plan.marginal)
    return [
        Column(say["plan_control"], [str(name) for name in rows["control"]], left=True),
        Column(say["plan_written"], [number(float(v), money) for v in rows["written"]]),
        Column(say["plan_planned"], [number(float(v), money) for v in rows["plan"]]),
        Column(say["plan_change"], [number(float(v), money) for v in rows["change"]]),
        Column(say["plan_marginal"], [_with_band(Band(band.members[:, at])) for at in range(len(plan.columns))]),
        Column(say["plan_outside"], [percent(float(v)) for v in rows["outside"]]),
    ]


def opinion_columns(found: Planned, say: Words) -> list[Column]:
    """One row a plan, one column a net: the gain over the written plan it expects, with its band."""
    plans = list(next(iter(found.opinions.values())))
    return [
        Column(say["plan_of"], plans, left=True),
        *(Column(say["plan_according"].format(name=net), [_with_band(gains[one]) for one in plans]) for net, gains in found.opinions.items()),
    ]


def parameter_columns(curves: Sequence[Curve], say: Words) -> list[Column]:
    """One row a medium, one column a parameter of the response net; none if no net has any."""
    shown = [curve for curve in curves if curve.parameters]
    if not shown:
        return []
    names = [p.name for p in shown[0].parameters]
    cells = {name: [_with_band(Band(next(p.members for p in curve.parameters if p.name == name))) for curve in shown] for name in names}
    return [Column(say["plan_control"], [c.channel for c in shown], left=True), *(Column(name, cells[name]) for name in names)]


def draw_curves(curves: Sequence[Curve], plan: Plan, say: Words) -> Figure:
    """Effect of each control with its band; small strokes where history lies, dots at the written and the planned mean."""
    from plotly.subplots import make_subplots

    across = min(2, len(curves))
    down = -(-len(curves) // across)
    figure = make_subplots(down, across, subplot_titles=[escape(c.channel) for c in curves], vertical_spacing=0.3 / down, horizontal_spacing=0.16)
    for at, curve in enumerate(curves):
        _curve(figure, curve, plan, say, row=at // across + 1, col=at % across + 1)
    figure.update_layout(height=100 + 280 * down)
    dressed(figure, say, legend=True)
    figure.update_xaxes(tickformat=",", nticks=5)
    return figure.update_yaxes(title_text=escape(curves[0].target), col=1)


def _curve(figure: Figure, curve: Curve, plan: Plan, say: Words, *, row: int, col: int) -> None:
    band, x, first = Band(curve.effect), curve.spend.numpy(), (row, col) == (1, 1)
    low, high = (_array(end) for end in band.ends())
    place = {"row": row, "col": col}
    if np.isfinite(low).all():
        figure.add_scatter(x=x, y=low, mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip", **place)
        figure.add_scatter(
            x=x, y=high, mode="lines", line={"width": 0}, fill="tonexty", fillcolor="rgba(0, 114, 178, 0.16)", name=say["plan_band"], legendgroup="band",
            showlegend=first, hoverinfo="skip", **place,
        )  # fmt: skip
    mean = _array(band.mean)
    figure.add_scatter(
        x=x, y=mean, mode="lines", line={"color": COLOURS[0], "width": 2.2}, name=say["plan_curve"], legendgroup="curve", showlegend=first, **place
    )
    strokes(figure, curve, say, place, named=first)
    columns = [at for at, name in enumerate(plan.columns) if name == curve.channel or name.endswith(f" · {curve.channel}")]
    for key, values, colour in (("plan_written", plan.written, PLAIN), ("plan_planned", plan.spend, COLOURS[1])):
        spot = float(values[:, columns].mean()) if columns else np.nan
        dot = {"size": 11, "color": colour, "line": {"color": GRID, "width": 1}}
        height = [float(np.interp(spot, x, mean))]
        figure.add_scatter(x=[spot], y=height, mode="markers", marker=dot, name=say[key], legendgroup=key, showlegend=first, **place)


def _with_band(band: Band) -> str:
    low, high = (float(end) for end in band.ends())
    mean = number(float(band.mean))
    return mean if np.isnan(low) else f"{mean} ({number(low)} … {number(high)})"


def _listed(sentences: Sequence[str]) -> str:
    lines = "".join(f"<li>{escape(one)}</li>\n" for one in sentences)
    return f'<ul lang="en">\n{lines}</ul>\n' if sentences else ""


def _array(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.double().numpy()
    return found
