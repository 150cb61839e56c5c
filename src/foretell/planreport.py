"""The report of a plan: one HTML file with the plan, both nets' opinions of it, the curves it rests on, and what the data cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .page import Column, Section, page, paragraphs, table, write
from .panel import Panel
from .pictures import draw_plan, draw_promotion, draw_what_if, faint, strokes
from .plan import Curve, Plan, Promotion, WhatIf
from .plan.curves import Parameter
from .plan.plans import Band, share_of
from .plan.scenarios import AS_WRITTEN
from .plotting import COLOURS, GRID, PLAIN, dressed
from .reporting import backtest_html
from .scoreboard import Backtest
from .words import Words, decimals, number, percent, words

Figure = Any  # plotly.graph_objects.Figure


@dataclass(frozen=True, eq=False)
class Planned:
    """What a report of a plan shows. `plan` is the one to follow, `others` the plans of other nets by name; `opinions` says of each net
    (by name) what gain it expects of each plan (by name); `curves` are each net's, the one to follow first; `scenarios` are asked of it."""

    name: str
    plan: Plan
    others: Mapping[str, Plan]
    opinions: Mapping[str, Mapping[str, Band]]
    curves: Mapping[str, Sequence[Curve]]
    limits: Sequence[str]
    backtest: Backtest | None = None
    scenarios: WhatIf | None = None
    history: Panel | None = None


@dataclass(frozen=True, eq=False)
class Promoted:
    """What a report of a promotion shows: what each net expects of it, by name, the one to follow first."""

    name: str
    promotions: Mapping[str, Promotion]
    limits: Sequence[str]
    backtest: Backtest | None = None


def plan_report(path: str | Path, found: Planned, *, lang: str = "en", title: str | None = None) -> Path:
    """Writes one HTML file that opens without a network, and returns its path. The file appears whole or not at all."""
    say, plan = words(lang), found.plan
    curves, named = [curve for one in found.curves.values() for curve in one], partial(say.named, "model_")
    sections = [
        Section(say["plan_table"], (say["plan_table_text"],), draw_plan(plan, say), table(plan_columns(plan, say))),
        Section(say["plan_opinions"], (say["plan_opinions_text"],), body=table(opinion_columns(found, say))),
        Section(say["plan_limits"], (say["plan_limits_text"],), body=_listed(found.limits, lang)),
        *([scenario_section(found.scenarios, found.history, say)] if found.scenarios else ()),
        Section(say["plan_curves"], (say["plan_curves_text"],), draw_curves(found.curves, plan, say)),
        *([Section(say["plan_parameters"], (say["plan_parameters_text"],), body=table(columns))] if (columns := parameter_columns(curves, say)) else ()),
        *([Section(say["accuracy"], (say["plan_accuracy_text"],), body=backtest_html(found.backtest, lang))] if found.backtest else ()),
        *(Section(f"{say['plan_table']}: {named(name)}", (), draw_plan(one, say), table(plan_columns(one, say))) for name, one in found.others.items()),
        Section(say["notes"], () if plan.notes else (say["no_notes"],), body=_listed(plan.notes)),
    ]
    under = say["plan_under"].format(first=str(plan.times[0])[:10], last=str(plan.times[-1])[:10], name=named(found.name))
    top = f'<div class="head">{paragraphs(plan_lines(plan, say))}</div>\n'
    return write(Path(path), page(title or say["plan_title"].format(target=plan.target), under, top, sections, say))


def plan_lines(plan: Plan, say: Words) -> list[str]:
    """What a plan brings, costs and returns, and how sure that is, in sentences."""
    share = percent(abs(float(share_of(plan.gain.mean, plan.before.mean()))), 1)
    total, before, price = (float(value.mean()) for value in (plan.total, plan.before, plan.certificate.price))
    outside = float(plan.outside[:, plan.free].double().mean()) if bool(plan.free.any()) else 0.0
    return [
        say["plan_said"].format(target=plan.target, total=number(total), before=number(before), gain=plan.gain.told(), share=share),
        "" if plan.halved is None else say["plan_said_checked"].format(promise=plan.halved.told()),
        "" if plan.rehearsal is None else say["plan_said_rehearsed"].format(count=len(plan.rehearsal.promised), **_averages(plan), promise=plan.promise.told()),
        say["plan_said_spend"].format(
            spent=number(float(plan.spent)), budget=number(float(plan.budget.sum())), written=number(float(plan.written[:, plan.free].sum()))
        ),
        say["plan_said_roas"].format(roas=plan.roas.told(), before=plan.roas_written.told(), marginal=number(price)),
        say["plan_said_sure"].format(residual=f"{plan.certificate.residual:.1e}", outside=percent(outside)),
    ]


def _averages(plan: Plan) -> dict[str, str]:
    assert plan.rehearsal is not None
    return {name: number(float(values.mean())) for name, values in plan.rehearsal._asdict().items()}


def promotion_report(path: str | Path, found: Promoted, *, lang: str = "en", title: str | None = None) -> Path:
    """The same of a promotion."""
    say, one = words(lang), found.promotions[found.name]
    sections = [
        Section(say["promo_picture"], (say["promo_picture_text"],), draw_promotion(one, None, say)),
        Section(say["promo_table"], (say["promo_table_text"],), body=table(promotion_columns(one, say))),
        Section(say["plan_opinions"], (say["promo_opinions_text"],), body=table(promoted_columns(found, say))),
        Section(say["plan_limits"], (say["promo_limits_text"],), body=_listed(found.limits, lang)),
        *([Section(say["accuracy"], (say["plan_accuracy_text"],), body=backtest_html(found.backtest, lang))] if found.backtest else ()),
        Section(say["notes"], () if one.notes else (say["no_notes"],), body=_listed(one.notes)),
    ]
    first, last = one.times[one.first], one.times[one.first + one.days - 1]
    under = say["plan_under"].format(first=str(first)[:10], last=str(last)[:10], name=found.name)
    top = f'<div class="head">{paragraphs(promotion_lines(one, say))}</div>\n'
    name = title or say["promo_title"].format(share=percent(one.discount), target=one.target)
    return write(Path(path), page(name, under, top, sections, say))


def promotion_lines(one: Promotion, say: Words) -> list[str]:
    """What a promotion brings over all items, in sentences."""
    lift, even = one.lift(), float(one.break_even().mean)
    low, high = (float(end) for end in lift.ends())
    band = f" ({percent(low)} … {percent(high)})" if np.isfinite(low) else ""
    return [
        say["promo_said"].format(lift=f"{percent(float(lift.mean))}{band}", during=one.during().told(), after=one.after().told(), total=one.total().told()),
        say["promo_even"].format(margin=percent(even)) if np.isfinite(even) and even <= 1 else say["promo_loses"],
    ]


def promotion_columns(one: Promotion, say: Words) -> list[Column]:
    """One row an item and one for all: lift, extra during, after and in the long run, break-even margin."""
    items = [*one.series, *([None] if len(one.series) > 1 else [])]
    even = [_shares(one.break_even(item)) for item in items]
    return [
        Column(say["promo_item"], [item or say["promo_all"] for item in items], left=True),
        Column(say["promo_lift_of"], [_shares(one.lift(item)) for item in items]),
        Column(say["promo_during"], [_with_band(one.during(item)) for item in items]),
        Column(say["promo_after"], [_with_band(one.after(item)) for item in items]),
        Column(say["promo_total"], [_with_band(one.total(item)) for item in items]),
        Column(say["promo_margin"], even),
    ]


def promoted_columns(found: Promoted, say: Words) -> list[Column]:
    """One row a net: what it says of all items together."""
    every = list(found.promotions.values())
    return [
        Column(say["promo_net"], list(found.promotions), left=True),
        Column(say["promo_lift_of"], [_shares(one.lift()) for one in every]),
        Column(say["promo_during"], [_with_band(one.during()) for one in every]),
        Column(say["promo_after"], [_with_band(one.after()) for one in every]),
        Column(say["promo_total"], [_with_band(one.total()) for one in every]),
    ]


def scenario_section(told: WhatIf, history: Panel | None, say: Words) -> Section:
    """Scenarios over each other, what each changes, and how far it lies outside the data."""
    rows = told.rows()
    names = [say["plan_written"] if name == AS_WRITTEN else str(name) for name in rows["scenario"]]
    columns = [
        Column(say["plan_scenario"], names, left=True),
        Column(say["plan_total"], [number(float(v)) for v in rows["total"]]),
        Column(say["plan_difference"], [_with_band(told.change(str(name))) for name in rows["scenario"]]),
        Column(say["plan_outside"], [percent(float(v)) for v in rows["outside"]]),
    ]
    return Section(say["plan_scenarios"], (say["plan_scenarios_text"],), draw_what_if(told, history, None, say), table(columns) + _listed(told.notes))


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
    plans, made, named = list(next(iter(found.opinions.values()))), {found.name: found.plan, **found.others}, partial(say.named, "model_")
    return [
        Column(say["plan_of"], [named(name) for name in plans], left=True),
        *([Column(say["plan_rehearsed"], [_with_band(made[one].promise) for one in plans])] if found.plan.rehearsal else ()),
        *(Column(say["plan_according"].format(name=named(net)), [_with_band(gains[one]) for one in plans]) for net, gains in found.opinions.items()),
        Column(say["plan_checked"], [_with_band(half) if (half := made[one].halved) is not None else "–" for one in plans]),
    ]


def parameter_columns(curves: Sequence[Curve], say: Words) -> list[Column]:
    """One row a medium, one column a parameter of the response net; none if no net has any."""
    shown = [curve for curve in curves if curve.parameters]
    if not shown:
        return []
    names = [p.name for p in shown[0].parameters]
    cells = {name: [_parameter(next(p for p in curve.parameters if p.name == name)) for curve in shown] for name in names}
    return [Column(say["plan_control"], [c.channel for c in shown], left=True), *(Column(say.named("plan_parameter_", n), cells[n]) for n in names)]


def draw_curves(curves: Mapping[str, Sequence[Curve]], plan: Plan, say: Words) -> Figure:
    """Effect of each control by every net, with bands; small strokes where history lies, dots at the written and the planned mean."""
    from plotly.subplots import make_subplots

    shown = next(iter(curves.values()))
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    figure = make_subplots(down, across, subplot_titles=[escape(c.channel) for c in shown], vertical_spacing=0.3 / down, horizontal_spacing=0.16)
    for at, curve in enumerate(shown):
        place = {"row": at // across + 1, "col": at % across + 1}
        for net, colour in zip(curves, COLOURS, strict=False):
            _curve(figure, curves[net][at], say.named("model_", net), colour, place, named=at == 0)
        strokes(figure, curve, say, place, named=at == 0)
        _dots(figure, curve, plan, say, place, named=at == 0)
    figure.update_layout(height=100 + 280 * down)
    dressed(figure, say, legend=True)
    figure.update_layout(margin={"t": 70}).update_xaxes(tickformat=",", nticks=5)
    return figure.update_yaxes(title_text=escape(shown[0].target), col=1)


def _curve(figure: Figure, curve: Curve, net: str, colour: str, place: Mapping[str, int], *, named: bool) -> None:
    band, x, common = Band(curve.effect), curve.spend.numpy(), {"mode": "lines", "legendgroup": net, **place}
    low, high = (_array(end) for end in band.ends())
    if np.isfinite(low).all():
        edge = {"line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
        figure.add_scatter(x=x, y=low, **edge, **common)
        figure.add_scatter(x=x, y=high, fill="tonexty", fillcolor=faint(colour), **edge, **common)
    figure.add_scatter(x=x, y=_array(band.mean), line={"color": colour, "width": 2.2}, name=escape(net), showlegend=named, **common)


def _dots(figure: Figure, curve: Curve, plan: Plan, say: Words, place: Mapping[str, int], *, named: bool) -> None:
    columns = [at for at, name in enumerate(plan.columns) if name == curve.channel or name.endswith(f" · {curve.channel}")]
    for key, values, colour in (("plan_written", plan.written, PLAIN), ("plan_planned", plan.spend, COLOURS[0])):
        spot = float(values[:, columns].mean()) if columns else np.nan
        dot = {"size": 11, "color": colour, "line": {"color": GRID, "width": 1}}
        height = [float(np.interp(spot, curve.spend.numpy(), _array(Band(curve.effect).mean)))]
        figure.add_scatter(x=[spot], y=height, mode="markers", marker=dot, name=say[key], legendgroup=key, showlegend=named, **place)


def _with_band(band: Band) -> str:
    low, high = (float(end) for end in band.ends())
    mean = number(float(band.mean))
    return mean if np.isnan(low) else f"{mean} ({number(low)} … {number(high)})"


def _parameter(one: Parameter) -> str:
    low, high = one.ends()
    return number(one.value) if np.isnan(low) else f"{number(one.value)} ({number(low)} … {number(high)})"


def _shares(band: Band) -> str:
    """A share, with its band where both ends are finite."""
    low, high = (float(end) for end in band.ends())
    mean = percent(float(band.mean))
    return f"{mean} ({percent(low)} … {percent(high)})" if np.isfinite(low) and np.isfinite(high) else mean


def _listed(sentences: Sequence[str], lang: str = "en") -> str:
    lines = "".join(f"<li>{escape(one)}</li>\n" for one in sentences)
    return f'<ul lang="{lang}">\n{lines}</ul>\n' if sentences else ""


def _array(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.double().numpy()
    return found
