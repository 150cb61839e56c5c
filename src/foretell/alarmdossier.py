"""One self-contained page of an alarm explained: what each sensor adds to the score, when, beside normal windows like this one."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .attribution.types import Attribution
from .detect import Detector
from .errors import TaskError
from .explanation import components
from .explanation.guarded import explain_score, observed
from .page import Column, Section, page, pairs, paragraphs, table, write
from .panel import Panel
from .plotting import COLOURS, INK, dressed, thin
from .portraits import SCALE, moments, portrait
from .words import Words, decimals, number, percent, words

Figure = Any  # plotly.graph_objects.Figure
SHOWN = 4  # sensors drawn from near
ROOM = 400  # rows of the score shown before and after


def alarm_dossier(path: str | Path, why: Attribution, guard: Detector, panel: Panel, *, example: int = 0, lang: str = "en", title: str | None = None) -> Path:
    """Writes the page of a score that `explain(guard, panel, ...)` has explained, and returns its path; the file appears whole or not at
    all. TaskError for an explanation of a forecast."""
    if "rows" not in why.values:
        raise TaskError("alarm_dossier shows why a detector's score is what it is; of a forecast take dossier")
    say, one = words(lang), why.pick([example])
    run = one.labels.examples[0]
    assert one.labels.ahead is not None
    when = one.labels.ahead[0, 0]
    parts = {name: float(value[0, 0]) for name, value in components(one).items()}
    alone = panel.pick(run)
    lost = explain_score(guard, alone, when, "occlusion", one.baseline, None)
    sections = [
        Section(say["alarm_score"], (say["why_alarm_score_text"],), _score(guard, alone, one, say)),
        Section(say["why_alarm_parts"], (say["why_alarm_parts_text"],), portrait(one, "waterfall", lang=lang), _table(parts, one, say)),
        Section(say["why_alarm_near"], (say["why_alarm_near_text"],), _near(one, observed(guard, alone, when), parts, say)),
        Section(say["why_alarm_when"], (say["why_alarm_when_text"],), _cells(lost, parts, say)),
        _trust(one, lost, say),
    ]
    heading = title or say["why_alarm_title"].format(series=run, when=moments(one.labels.ahead)[0])
    under = say["why_alarm_under"].format(limit=number(one.facts["limit"]), false_alarms=str(guard.alarms.false_alarms))
    return write(
        Path(path),
        page(heading, under, f'<div class="head">{paragraphs([*alarm_headline(one, say), *one.warnings])}</div>\n', sections, say, foot=say["why_world"]),
    )


def alarm_headline(why: Attribution, say: Words, example: int = 0) -> list[str]:
    """The score in words: what normal windows would have, the sensors that add most, what is left."""
    parts = sorted(((n, float(v[example, 0])) for n, v in components(why).items()), key=lambda p: -abs(p[1]))
    score, base, left = (float(x[example, 0]) for x in (why.prediction, why.base, why.residual))
    digits = decimals([score, base])
    told = [f"{name} {_signed(value, digits)}" for name, value in parts[:4]]
    rest = sum(value for _, value in parts[4:])
    told += [f"{say['why_else']} {_signed(rest, digits)}"] if parts[4:] else []
    when = moments(why.labels.ahead[example : example + 1])[0] if why.labels.ahead is not None else ""
    said = say["why_alarm_head"].format(when=when, score=number(score, digits), base=number(base, digits), parts=", ".join(told))
    limit = say["why_alarm_above" if score > why.facts["limit"] else "why_alarm_below"].format(limit=number(why.facts["limit"], digits))
    return [f"{said} {limit}", say["why_alarm_left"].format(residual=number(left))]


def _signed(value: float, digits: int) -> str:
    return ("+" if value >= 0 else "") + number(value, digits)


def _score(guard: Detector, panel: Panel, why: Attribution, say: Words) -> Figure:
    """The score about the row explained, and the limit."""
    import plotly.graph_objects as go

    scores = guard.score(panel)
    line = scores.values[0].numpy()
    times = scores.clock.local(int(scores.start[0]) + np.arange(len(line))).astype("datetime64[s]")
    assert why.labels.ahead is not None
    at = int(np.searchsorted(times, why.labels.ahead[0, 0].astype("datetime64[s]")))
    part = slice(max(0, at - ROOM), at + ROOM + 1)
    keep = thin(line[part])
    figure = go.Figure()
    figure.add_scatter(x=times[part][keep], y=line[part][keep], mode="lines", name=say["alarm_score"], line={"color": INK, "width": 1.4})
    limit = why.facts["limit"]
    if np.isfinite(limit):
        figure.add_hline(y=limit, line={"color": COLOURS[1], "width": 1.2, "dash": "dash"})
    figure.add_vline(x=_moment(why), line={"color": COLOURS[0], "width": 1.5, "dash": "dot"})
    top = float(np.nanmax(np.nan_to_num(line[part])))
    scale = {"type": "log"} if np.isfinite(limit) and top > 50 * max(limit, 1e-9) else {"rangemode": "tozero"}
    return dressed(figure.update_layout(height=320), say).update_yaxes(title_text=say["alarm_score"], **scale)


def _table(parts: Mapping[str, float], why: Attribution, say: Words) -> str:
    score, base, left = (float(x[0, 0]) for x in (why.prediction, why.base, why.residual))
    rows = [(say["why_alarm_base"], base), *sorted(parts.items(), key=lambda p: -abs(p[1])), (say["why_residual"], left), (say["alarm_score"], score)]
    digits = decimals([abs(value) for _, value in rows])
    columns = [Column(say["why_alarm_sensor"], [name for name, _ in rows], left=True), Column(say["value"], [number(value, digits) for _, value in rows])]
    return table(columns)


def _near(why: Attribution, values: Tensor, parts: Mapping[str, float], say: Words) -> Figure:
    """What the sensors that add most showed, and what they show in the normal windows that this one is compared with."""
    from plotly.subplots import make_subplots

    assert why.baseline is not None
    names, times = _most(why, parts)[:SHOWN], why.labels.times["rows"][0].astype("datetime64[s]")
    figure = make_subplots(len(names), 1, shared_xaxes=True, subplot_titles=[escape(n) for n in names], vertical_spacing=0.09)
    for row, name in enumerate(names, 1):
        at = why.channels("rows").index(name)
        for draw, normal in enumerate(why.baseline.values["rows"][:, 0, :, at]):
            thin_grey, first = {"color": "#b9c2ca", "width": 1.2}, row == 1 and draw == 0
            figure.add_scatter(x=times, y=_list(normal), mode="lines", name=say["why_alarm_normal"], line=thin_grey, showlegend=first, row=row, col=1)
        real = {"color": COLOURS[1], "width": 2}
        figure.add_scatter(x=times, y=_list(values[:, at]), mode="lines", name=say["actual"], line=real, showlegend=row == 1, row=row, col=1)
        figure.add_vline(x=_moment(why), line={"color": COLOURS[0], "width": 1.2, "dash": "dot"}, row=row, col=1)
    return dressed(figure.update_layout(height=120 + 140 * len(names)), say, legend=True)


def _cells(lost: Attribution, parts: Mapping[str, float], say: Words) -> Figure:
    """Sensors against time: what the score would lose without that stretch."""
    import plotly.graph_objects as go

    names = _most(lost, parts)
    z = torch.stack([lost.values["rows"][0, 0, :, lost.channels("rows").index(name)] for name in names])
    bound = float(z.abs().max()) or 1.0
    times = lost.labels.times["rows"][0].astype("datetime64[s]")
    map_ = {"colorscale": SCALE, "zmid": 0, "zmin": -bound, "zmax": bound, "colorbar": {"thickness": 12}, "ygap": 2}
    figure = go.Figure(go.Heatmap(z=z.double().numpy(), x=times, y=[escape(n) for n in names], **map_))
    figure.add_vline(x=_moment(lost), line={"color": INK, "dash": "dot", "width": 1})
    dressed(figure.update_layout(height=150 + 36 * len(names)), say).update_layout(hovermode="closest")
    return figure.update_yaxes(showgrid=False, autorange="reversed", dtick=1)


def _trust(why: Attribution, lost: Attribution, say: Words) -> Section:
    """The explanation's own error, another method beside it, what it is compared with, and the limits of all of it."""
    names = _most(why, {name: float(value[0, 0]) for name, value in why.by_channel().items()})
    both = torch.stack([torch.tensor([float(one.by_channel()[n][0, 0]) for n in names]) for one in (why, lost)]).double()
    agreed = float(torch.corrcoef(both)[0, 1]) if len(names) > 2 else float("nan")
    gap = float(why.residual.abs().max()) / max(float((why.prediction - why.base).abs().max()), 1e-12)
    facts = [(say["why_method"], why.method), (say["why_gap"], percent(gap, 3))]
    facts += [(say["why_alarm_agreement"], f"{agreed:.2f}")] if agreed == agreed else []
    count = len(why.baseline.values["rows"]) if why.baseline else 0
    facts += [(say["why_baseline"], say["why_alarm_baseline"].format(count=count)), (say["why_seconds"], f"{why.cost.seconds:.2f}")]
    return Section(say["why_trust"], (say["why_alarm_trust_text"],), body=pairs(facts, say["fact"], say["value"]))


def _most(why: Attribution, parts: Mapping[str, float]) -> list[str]:
    """Sensors by what they add, those that add something."""
    return [n for n in sorted(parts, key=lambda n: -abs(parts[n])) if n in why.channels("rows") and parts[n]][:8] or list(why.channels("rows")[:1])


def _moment(why: Attribution) -> str:
    assert why.labels.ahead is not None
    return str(why.labels.ahead[0, 0].astype("datetime64[s]"))


def _list(x: Tensor) -> list[float]:
    values: list[float] = x.double().tolist()
    return values
