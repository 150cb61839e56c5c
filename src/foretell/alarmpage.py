"""Alarms on a page: the score over time with alarms and labels, each alarm from near, sensors against time, in one self-contained report."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .detect import Detector, Events, Scores
from .detect.events import runs_of
from .detect.gan import TadGANFit
from .detect.rewriting import AutoencoderFit
from .page import Column, Section, page, pairs, table, write
from .plotting import COLOURS, INK, MUTED, dressed, plot, thin
from .train import Curves
from .words import Words, number, percent, stamp, wall, words

Figure = Any  # plotly.graph_objects.Figure

ZOOMED, SENSORS, ROWS, LISTED = 4, 40, 400, 50  # alarms from near; sensors and rows of the heat map; alarms in the table
RED, SHADE = "#d55e00", "rgba(0, 158, 115, 0.18)"


def alarm_report(
    path: str | Path,
    guard: Detector,
    scores: Scores,
    events: Events,
    *,
    label: Tensor | None = None,
    table: Mapping[str, Mapping[str, float]] | None = None,
    lang: str = "en",
    title: str | None = None,
) -> Path:
    """Writes one HTML file that opens without a network, and returns its path. `label` [series, time] marks true events, `table` is a row a detector."""
    say = words(lang)
    sections = [
        Section(
            say["alarm_timeline"],
            (say["alarm_timeline_text"], *(note[:1].upper() + note[1:] for note in events.notes)),
            timeline(scores, events, label, say),
            _listed(events, say),
        ),
        *([_compared(table, label is not None, say)] if table else ()),
        *(Section(say["alarm_near"].format(number=n + 1), (_sentence(events, at, say),), zoom(scores, events, at, say)) for n, at in enumerate(_worst(events))),
        Section(say["alarm_heat"], (say["alarm_heat_text"],), heat(scores, say)),
        built(guard, say),
        *(_curves(guard.curves, lang, say) if guard.curves else ()),
        _card(guard, say),
    ]
    heading = title or say["alarm_title"].format(series=", ".join(scores.series[:3]))
    under = say["alarm_under"].format(count=len(events), channels=len(scores.channels), step=say.step(scores.clock))
    return write(Path(path), page(heading, under, "", sections, say))


def timeline(scores: Scores, events: Events, label: Tensor | None, say: Words) -> Figure:
    """The score of the first run, the limit, alarms as red bars, true events shaded."""
    import plotly.graph_objects as go

    figure = go.Figure()
    times, line = _times(scores, 0), scores.values[0].numpy()
    keep = thin(line)
    figure.add_scatter(x=times[keep], y=line[keep], mode="lines", name=say["alarm_score"], line={"color": INK, "width": 1.4})
    if np.isfinite(events.limit.value):
        figure.add_hline(y=events.limit.value, line={"color": RED, "width": 1.2, "dash": "dash"})
    for a, b in runs_of(label[0]).tolist() if label is not None else ():
        figure.add_vrect(x0=times[a], x1=times[b], fillcolor=SHADE, line_width=0, layer="below")
    for event in events.rows:
        if event.series == scores.series[0]:
            a, b = event.start - scores.start[0], event.stop - scores.start[0]
            figure.add_scatter(x=times[[a, b]], y=[0, 0], mode="lines+markers", line={"color": RED, "width": 7}, showlegend=False, hoverinfo="skip")
    top = float(np.nanmax(np.nan_to_num(line)))
    dressed(figure.update_layout(height=360), say)
    scale = {"type": "log"} if top > 50 * max(events.limit.value, 1e-9) and np.isfinite(events.limit.value) else {"rangemode": "tozero"}
    return figure.update_yaxes(title_text=say["alarm_score"], **scale)


def zoom(scores: Scores, events: Events, at: int, say: Words) -> Figure:
    """The first culprits of one alarm, what was seen against what was expected."""
    from plotly.subplots import make_subplots

    event = events.rows[at]
    run = scores.series.index(event.series)
    a, b = event.start - scores.start[run], event.stop - scores.start[run]
    room = max(20, min(200, b - a))
    part = slice(max(0, a - room), min(scores.values.shape[1], b + room + 1))
    times, named = _times(scores, run), event.culprits[:3]
    figure = make_subplots(len(named), 1, shared_xaxes=True, subplot_titles=[escape(f"{c.channel} ({percent(c.share)})") for c in named], vertical_spacing=0.09)
    for row, culprit in enumerate(named, 1):
        channel = scores.channels.index(culprit.channel)
        lines = [(scores.seen, say["actual"], INK)] + ([(scores.expected, say["alarm_expected"], COLOURS[0])] if scores.expected is not None else [])
        for values, name, colour in lines:
            y = values[run, part, channel].numpy()
            keep = thin(y)
            figure.add_scatter(
                x=times[part][keep], y=y[keep], mode="lines", name=name, showlegend=row == 1, line={"color": colour, "width": 1.6}, row=row, col=1
            )
        figure.add_vrect(x0=times[a], x1=times[b], fillcolor="rgba(213, 94, 0, 0.12)", line_width=0, layer="below", row=row, col=1)
    return dressed(figure.update_layout(height=120 + 150 * len(named)), say, legend=True)


def heat(scores: Scores, say: Words) -> Figure:
    """Sensors against time, the strangest sensors on top; in units of each one's usual largest error."""
    import plotly.graph_objects as go

    values = torch.nan_to_num(scores.channel[0])
    order = values.amax(0).argsort(descending=True)[:SENSORS]
    width = max(1, -(-len(values) // ROWS))
    blocks = torch.nn.functional.max_pool1d(values[:, order].T[None], width, width, ceil_mode=True)[0]
    names = [escape(scores.channels[at]) for at in order.tolist()]
    colour = {"colorscale": [[0, "#ffffff"], [0.25, "#fbe3cf"], [1, RED]], "zmin": 0, "zmax": 4, "colorbar": {"title": {"text": "×"}}}
    figure = go.Figure(go.Heatmap(z=blocks.numpy().round(3), x=_times(scores, 0)[::width][: blocks.shape[1]], y=names, **colour))
    dressed(figure.update_layout(height=max(260, 140 + 15 * len(names))), say)
    return figure.update_yaxes(autorange="reversed", nticks=len(names), showgrid=False).update_layout(hovermode="closest")


def built(guard: Detector, say: Words) -> Section:
    """What the detector is made of, from the rows to the alarm; of a trained net also its layers."""
    layers = [part.method.net.summary() for part in guard.parts if isinstance(part.method, TadGANFit | AutoencoderFit)]
    rows = [[(row.layer, f"{' × '.join(map(str, row.output))} · {row.parameters:,}") for row in net.rows] for net in layers]
    tables = [pairs(one, say["layer"], say["layer_output"]) for one in rows]
    return Section(say["alarm_built"], (say["alarm_built_text"],), architecture(guard, say), "".join(tables))


def architecture(guard: Detector, say: Words) -> Figure:
    """Boxes from left to right, methods that work together one above the other."""
    import plotly.graph_objects as go

    columns = _stages(guard, say)
    most = max(len(boxes) for boxes in columns)
    figure = go.Figure()
    for x, boxes in enumerate(columns):
        for n, (title, lines) in enumerate(boxes):
            y = (most - 1) / 2 + (len(boxes) - 1) / 2 - n
            figure.add_shape(type="rect", x0=x - 0.4, x1=x + 0.4, y0=y - 0.42, y1=y + 0.42, line={"color": COLOURS[0], "width": 1.4}, fillcolor="#f3f8fb")
            told = "<br>".join(escape(line) for line in lines)
            figure.add_annotation(x=x, y=y, text=f"<b>{escape(title)}</b><br>{told}", showarrow=False, font={"size": 12, "color": INK})
            for before in range(len(columns[x - 1]) if x else 0):
                start = (most - 1) / 2 + (len(columns[x - 1]) - 1) / 2 - before
                arrow = {"showarrow": True, "arrowhead": 2, "arrowwidth": 1.2, "arrowcolor": MUTED, "axref": "x", "ayref": "y", "text": ""}
                figure.add_annotation(x=x - 0.4, y=y, ax=x - 0.6, ay=start, **arrow)
    dressed(figure.update_layout(height=60 + 130 * most), say)
    figure.update_xaxes(visible=False, range=[-0.5, len(columns) - 0.5])
    return figure.update_yaxes(visible=False, range=[-0.5, most - 0.5]).update_layout(hovermode=False)


def _stages(guard: Detector, say: Words) -> list[list[tuple[str, list[str]]]]:
    """Title and lines of every box, column by column."""
    spec, how, limit = guard.prepared.spec, guard.scoring, guard.limit()
    changed = [f"{name} {value}" for name, value in spec if name in ("aggregate", "lag", "order", "smooth", "lags", "components") and value not in (0, 1)]
    groups = [f"{g.pattern} ({len(g.members)})" for g in guard.prepared.groups][:2]
    score = [f"{how.error}, top {how.top}", f"reach {how.reach}, smooth {how.smooth}", f"delay {guard.delay}"]
    methods = [(type(part.method).__name__.removesuffix("Fit"), [f"{-part.method.back:+d} … {part.method.ahead:+d}".replace("-", "−")]) for part in guard.parts]
    return [
        [(say["alarm_box_rows"], [f"{len(guard.inputs)} · {guard.step_size}"])],
        [(say["alarm_box_prepared"], [*changed[:2], *groups, spec.scale])],
        methods,
        [(say["alarm_score"], score)],
        [(say["alarm_box_limit"], [limit.kind, number(limit.value), str(guard.alarms.false_alarms)])],
    ]


def _curves(curves: Curves, lang: str, say: Words) -> list[Section]:
    """How the losses fell; of adversaries, theirs too."""
    import plotly.graph_objects as go

    sections = [Section(say["curves"], (), plot(curves, lang=lang))]
    if curves.others:
        figure = go.Figure()
        for n, (name, losses) in enumerate(curves.others.items()):
            line = losses.nanmean(0).numpy()
            figure.add_scatter(x=np.arange(1, len(line) + 1), y=line, mode="lines", name=name.replace("_", " "), line={"color": COLOURS[n], "width": 1.8})
        dressed(figure.update_layout(height=360), say, legend=True)
        figure.update_xaxes(title_text=say["epoch_axis"]).update_yaxes(title_text=say["loss_axis"])
        sections.append(Section(say["alarm_losses"], (), figure))
    return sections


def _times(scores: Scores, run: int) -> np.ndarray:
    return scores.clock.local(scores.start[run] + np.arange(scores.values.shape[1]))


def _worst(events: Events) -> list[int]:
    return sorted(range(len(events)), key=lambda at: -events.rows[at].severity)[:ZOOMED]


def _sentence(events: Events, at: int, say: Words) -> str:
    event = events.rows[at]
    ends = [stamp(wall(events.clock, step), events.clock) for step in (event.start, event.stop)]
    return say["alarm_sentence"].format(start=ends[0], stop=ends[1], severity=number(event.severity), names=", ".join(c.channel for c in event.culprits[:3]))


def _listed(events: Events, say: Words) -> str:
    rows = events.rows[:LISTED]
    if not rows:
        return f"<p>{escape(say['alarm_none'])}</p>\n"
    ends = [[stamp(wall(events.clock, step), events.clock) for step in (e.start, e.stop)] for e in rows]
    return table([
        Column(say["series"], [e.series for e in rows], left=True), Column(say["from"], [a for a, _ in ends]), Column(say["to"], [b for _, b in ends]),
        Column(say["alarm_severity"], [number(e.severity) for e in rows]),
        Column(say["alarm_culprits"], [", ".join(f"{c.channel} {percent(c.share)}" for c in e.culprits[:3]) for e in rows], left=True),
    ])  # fmt: skip


def _compared(rows: Mapping[str, Mapping[str, float]], labelled: bool, say: Words) -> Section:
    metrics = list(dict.fromkeys(name for row in rows.values() for name in row))
    columns = [Column(say["model"], list(rows), left=True)]
    columns += [Column(name, [_measure(name, float(row.get(name, np.nan))) for row in rows.values()]) for name in metrics]
    return Section(say["alarm_table"], (say["alarm_table_text" if labelled else "alarm_count_text"],), body=table(columns))


def _measure(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "alarms" else percent(value) if name == "rows in alarm" else number(value, 3)


def _card(guard: Detector, say: Words) -> Section:
    limit = guard.limit()
    facts = [("detector", line) for line in guard.summary().splitlines()[:3]]
    facts += [("limit", f"{number(limit.value)} ({guard.alarms.threshold}, {guard.alarms.false_alarms}{', extrapolated' if limit.extrapolated else ''})")]
    facts += [(name, number(value) if isinstance(value, float) else str(value)) for name, value in list(guard.facts.items())[:8]]
    facts += [(f"method {n + 1}", repr(one)) for n, one in enumerate([guard.net])]
    return Section(say["card"], body=pairs(facts, say["fact"], say["value"]))
