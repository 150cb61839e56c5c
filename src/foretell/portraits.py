"""Pictures of an explanation: the forecast and what made it, step by step; which lag acts on which step; which channel when."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .attribution.types import Attribution, Curve
from .errors import TaskError, nearest
from .explanation.parts import components
from .panel import Panel, positions
from .plotting import COLOURS, GRID, INK, MUTED, Value, dressed
from .plotting import plot as drawn
from .words import Words, decimals, number, words

Figure = Any  # plotly.graph_objects.Figure
KINDS = ("parts", "waterfall", "lags", "cells", "summary", "blocks")
SHOWN = 8  # components told apart; the others are summed
ELSE = "all else"
FEW = 10  # values of a channel up to which each is drawn
LEFT = "#c5ccd3"  # what is not explained, and the usual value
UP, DOWN = COLOURS[0], COLOURS[1]
PARTS = (*COLOURS, "#8a949e", "#6b4c9a", "#dfe3e8")
SCALE = [[0, DOWN], [0.5, "#ffffff"], [1, UP]]


def plot(
    value: Value | Attribution | Curve, kind: str | None = None, *, history: Panel | None = None, series: str | Sequence[str] | None = None, lang: str = "en"
) -> Figure:
    """A plotly figure of a value, to show, save or change.

    A forecast is drawn after the observed values of `history`. A backtest is drawn by `kind`: "actual" against predicted, error by
    "step" ahead, by "origin", at the "peaks". Learning curves may come as one, or by net's name. An explanation by `kind`: "parts",
    "waterfall", "lags", "cells", "summary" or "blocks" (`portrait`); contributions begin with their parts, slopes with their
    cells, what a net has inside with its blocks; a `Curve` is drawn over what was seen. `series` chooses; of an explanation one, left out its first window.
    """
    if isinstance(value, Curve):
        return draw_curve(value, value.labels.target, words(lang))
    if not isinstance(value, Attribution):
        return drawn(value, kind or "actual", history=history, series=series, lang=lang)
    names = value.labels.examples or tuple(str(i) for i in range(len(value.prediction)))
    chosen = [series] if isinstance(series, str) else list(series or names[:1])
    if len(chosen) != 1:
        raise TaskError(f"an explanation is drawn one series at a time; got {len(chosen)}: {', '.join(chosen[:5])}")
    own = not {"past", "components"} & set(value.values) or value.kind == "weight"
    return portrait(
        value, kind or ("blocks" if own else "parts" if value.kind == "contribution" else "cells"), example=positions(chosen, names, "series")[0], lang=lang
    )


def portrait(why: Attribution, kind: str = "parts", *, example: int = 0, lang: str = "en") -> Figure:
    """One picture of an explanation: "parts" stacked over the horizon, the "waterfall" of a step chosen by a slider, own "lags"
    against steps ahead, "cells" of every channel in time, a "summary" over all windows and steps, or its "blocks" as they are.
    `example` is the window."""
    table = {"parts": draw_parts, "waterfall": draw_waterfall, "lags": draw_lags, "cells": draw_cells, "summary": draw_summary, "blocks": draw_blocks}
    if kind not in table:
        raise TaskError(f'no picture "{kind}" of an explanation: {nearest(kind, KINDS)}')
    named = kind in ("parts", "waterfall", "summary") and why.kind == "contribution"
    if kind != "blocks" and not named and not {"past", "future"} <= set(why.values):
        raise TaskError(f'{why.method} has blocks of its own ({", ".join(why.values)}), not the past and the future: draw its "blocks"')
    return table[kind](why, example, words(lang))


def draw_blocks(why: Attribution, example: int, say: Words) -> Figure:
    """A heat map a block, each on colours of its own: channels upward, steps across, the mean over the outputs."""
    from plotly.subplots import make_subplots

    every = {**why.values, **why.beside}
    figure = make_subplots(rows=len(every), cols=1, subplot_titles=[escape(b) for b in every])
    for row, (block, x) in enumerate(every.items(), 1):
        seen = x[example].flatten(0, -3).mean(0).double()
        bound = float(seen.abs().max()) or 1.0
        names = [escape(c) for c in why.channels(block)]
        figure.add_heatmap(z=seen.T.numpy(), y=names, colorscale=SCALE, zmid=0, zmin=-bound, zmax=bound, showscale=False, row=row, col=1)
    return dressed(figure.update_layout(height=160 + 160 * len(every)), say).update_layout(hovermode="closest")


def draw_parts(why: Attribution, example: int, say: Words) -> Figure:
    """Bars from the usual forecast to this one: what each part adds at each step, what is left unexplained in grey; the line is the sum."""
    from plotly.graph_objects import Figure as New

    figure, times = New(), _times(why, example)
    for at, (name, value) in enumerate(largest(components(why), example).items()):
        colour = PARTS[min(at, len(PARTS) - 1)]
        figure.add_bar(x=times, y=_list(value[example]), name=escape(named(name, say)), marker={"color": colour})
    figure.add_bar(x=times, y=_list(why.residual[example]), name=say["why_residual"], marker={"color": LEFT, "pattern": {"shape": "/"}})
    change = why.prediction[example] - why.base[example]
    figure.add_scatter(x=times, y=_list(change), mode="lines+markers", name=say["why_change"], line={"color": INK, "width": 2}, marker={"size": 5})
    figure.update_layout(barmode="relative", bargap=0.15, height=460)
    return dressed(figure, say, legend=True).update_yaxes(title_text=say["why_axis"].format(target=escape(why.labels.target)))


def draw_waterfall(why: Attribution, example: int, say: Words) -> Figure:
    """From the usual value to the forecast of one step, part by part; the slider chooses the step."""
    from plotly.graph_objects import Figure as New

    figure, times = New(), _times(why, example)
    chosen = largest(components(why), example)
    top = int(why.prediction[example].argmax())
    first, last = (say["why_alarm_base"], say["alarm_score"]) if "rows" in why.values else (say["why_base"], say["why_forecast"])
    for output in range(len(times)):
        parts = sorted(((n, float(v[example, output])) for n, v in chosen.items()), key=lambda p: (p[0] == ELSE, -abs(p[1])))
        base, end, left = (float(x[example, output]) for x in (why.base, why.prediction, why.residual))
        steps = [*parts, (say["why_residual"], left)]
        digits = decimals([base, end, *(v for _, v in parts)])
        told = [number(v, digits) for v in (base, *(v for _, v in parts))]
        figure.add_waterfall(
            y=[first, *(escape(named(n, say)) for n, _ in steps), last], x=[base, *(v for _, v in steps), end], orientation="h",
            measure=["absolute", *(["relative"] * len(steps)), "total"], text=[*told, number(left, digits), number(end, digits)], textposition="outside",
            cliponaxis=False, increasing={"marker": {"color": UP}}, decreasing={"marker": {"color": DOWN}}, totals={"marker": {"color": INK}},
            connector={"line": {"color": GRID}}, visible=output == top, hoverinfo="y+text",
        )  # fmt: skip
    figure.update_layout(height=170 + 34 * (len(chosen) + 3), xaxis_range=_reach(why, example))
    if len(times) > 1:
        when = moments(np.array([times])) if why.labels.ahead is not None else [str(t) for t in times]
        marks = [{"label": t, "method": "update", "args": [{"visible": [o == n for o in range(len(times))]}]} for n, t in enumerate(when)]
        slider = {"active": top, "steps": marks, "pad": {"t": 50}, "currentvalue": {"prefix": say["why_step"] + " "}, "ticklen": 2, "font": {"color": MUTED}}
        figure.update_layout(sliders=[slider])
    dressed(figure, say).update_layout(showlegend=False, hovermode="closest", margin={"b": 40})
    return figure.update_yaxes(autorange="reversed", showgrid=False, dtick=1)


def _reach(why: Attribution, example: int) -> list[float]:
    """Room for every step's waterfall: from its lowest to its highest level; from 0 where that is not far below."""
    parts = torch.stack([*components(why).values()])[:, example]
    high = why.base[example] + parts.clamp(min=0).sum(0)
    low = why.base[example] + parts.clamp(max=0).sum(0)
    bottom, top = float(low.min()), float(high.max())
    return [0.0 if 0 <= bottom < 0.3 * top else bottom - 0.05 * (top - bottom), top + 0.12 * (top - bottom)]


def draw_lags(why: Attribution, example: int, say: Words) -> Figure:
    """The target's own past: steps before the origin across, steps ahead upward; whole seasons back show as diagonals."""
    from plotly.graph_objects import Figure as New

    own = why.values["past"][example, ..., _own(why)].flatten(0, -2)
    width = own.shape[-1]
    bound = ceiling(own)
    figure = New()
    figure.add_heatmap(
        z=own.double().numpy(), x=-np.arange(width, 0, -1) + 1, y=np.arange(1, len(own) + 1), colorscale=SCALE, zmid=0, zmin=-bound, zmax=bound,
        colorbar={"title": escape(why.labels.target), "thickness": 12}, hovertemplate="%{x}, +%{y}: %{z:,.4~g}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(height=420)
    dressed(figure, say).update_layout(hovermode="closest")
    return figure.update_xaxes(title_text=say["why_lag"]).update_yaxes(title_text=say["why_ahead"], showgrid=False)


def draw_cells(why: Attribution, example: int, say: Words) -> Figure:
    """Every channel in time, past then future: what it adds to the mean over the horizon; each row on the same colours."""
    from plotly.graph_objects import Figure as New

    names, rows = [], []
    past, future = (why.values[b][example].flatten(0, -3).mean(0) for b in ("past", "future"))
    clock = np.concatenate([why.labels.times[b][example] for b in ("past", "future")])
    times = clock.astype("datetime64[s]")
    for at, name in enumerate(why.channels("past")):
        known = why.channels("future").index(name) if name in why.channels("future") else None
        ahead = future[:, known] if known is not None else torch.full((future.shape[0],), torch.nan)
        line = torch.cat([past[:, at], ahead]).double().numpy()
        if np.nansum(np.abs(line)) > 0:
            names.append(escape(name))
            rows.append(line)
    table = np.array(rows) if rows else np.zeros((1, len(times)))
    bound = ceiling(torch.from_numpy(table).nan_to_num())
    figure = New()
    figure.add_heatmap(z=table, x=times, y=names or ["–"], colorscale=SCALE, zmid=0, zmin=-bound, zmax=bound, colorbar={"thickness": 12}, xgap=0, ygap=2)
    figure.update_layout(height=150 + 36 * max(1, len(rows)))
    dressed(figure, say).update_layout(hovermode="closest")
    figure.add_vline(x=str(why.labels.times["past"][example, -1]), line={"color": INK, "dash": "dot", "width": 1})
    return figure.update_yaxes(showgrid=False, autorange="reversed", tickmode="array", tickvals=names)


def ceiling(values: Tensor) -> float:
    """Where the colours of a map end: few cells beyond it, so that one strong cell, as the level a net is centred on, does not blank the others."""
    sizes = values[values != 0].double().abs()
    return max(float(sizes.quantile(0.98)), float(sizes.max()) / 4) if len(sizes) else 1.0


def draw_summary(why: Attribution, example: int, say: Words) -> Figure:
    """Every window and step as a dot, a row a part; the bar is the mean size: what the model uses, and which way it acts."""
    from plotly.graph_objects import Figure as New

    del example
    figure, random = New(), np.random.default_rng(0)
    found = largest(components(why), None)
    for row, (name, value) in enumerate(reversed(found.items())):
        flat = value.flatten().double().numpy()
        flat = flat if len(flat) <= 1500 else flat[np.linspace(0, len(flat) - 1, 1500).astype(int)]
        place = row + 0.32 * (random.random(len(flat)) - 0.5)
        marker = {"size": 5, "opacity": 0.45, "color": np.where(flat >= 0, UP, DOWN).tolist()}
        figure.add_scatter(x=flat, y=place, mode="markers", marker=marker, hovertemplate="%{x:,.4~g}<extra>" + escape(named(name, say)) + "</extra>")
        bar = {"color": LEFT, "opacity": 0.6}
        figure.add_bar(x=[float(value.abs().mean())], y=[row], orientation="h", width=0.72, marker=bar, hovertemplate="%{x:,.4~g}<extra></extra>")
    figure.update_layout(height=110 + 44 * len(found))
    dressed(figure, say).update_layout(hovermode="closest", showlegend=False)
    figure.update_yaxes(tickvals=list(range(len(found))), ticktext=[escape(named(n, say)) for n in reversed(found)], showgrid=False)
    return figure.update_xaxes(title_text=say["why_axis"].format(target=escape(why.labels.target)), zeroline=True, zerolinecolor=LEFT)


def draw_curve(curve: Curve, unit: str, say: Words, outputs: Sequence[int] = ()) -> Figure:
    """What changes against the first value: single windows thin, their mean thick; grey is how often a value was seen, as a hill, or as bars
    where there are few. Where nothing was seen the lines are guesses."""
    from plotly.graph_objects import Figure as New

    figure, grid, few = New(), curve.grid.double().numpy(), len(curve.grid) <= FEW
    every = curve.centred().ice if curve.method == "pdp" else curve.ice
    lines = every.flatten(2).mean(2) if not outputs else every.flatten(2)[..., list(outputs)].mean(2)
    mode, size = ("lines+markers" if few else "lines"), {"size": 5}
    some = np.linspace(0, lines.shape[1] - 1, min(40, lines.shape[1])).astype(int)
    for at in dict.fromkeys(some.tolist()):
        figure.add_scatter(x=grid, y=_list(lines[:, at]), mode=mode, line={"color": "#9ec9e2", "width": 1}, marker=size, showlegend=False, hoverinfo="skip")
    figure.add_scatter(x=grid, y=_list(lines.mean(1)), mode=mode, line={"color": COLOURS[0], "width": 3}, name=say["why_mean"])
    low, high = float(lines.min()), float(lines.max())
    # Against the size of the forecast itself: what hardly moves it is to look so.
    room = max(high - low, 0.02 * float(curve.ice.abs().mean()), 1e-12)
    low, high = (low + high - room) / 2, (low + high + room) / 2
    if curve.density is not None:
        hill = (0.18 * room * curve.density / curve.density.max().clamp(min=1e-12)).double().numpy()
        base, grey = low - 0.02 * room, {"color": LEFT}
        if few:
            width = 0.02 * float(np.ptp(grid)) or 0.1
            figure.add_bar(x=grid, y=hill, base=base, width=width, marker=grey, name=say["why_seen"], hoverinfo="skip")
        else:
            figure.add_scatter(x=grid, y=np.full(len(grid), base), mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
            figure.add_scatter(x=grid, y=base + hill, mode="lines", fill="tonexty", line={**grey, "width": 0.5}, name=say["why_seen"])
    dressed(figure.update_layout(height=340), say, legend=True)
    figure.update_yaxes(range=[low - 0.05 * room, high + 0.05 * room], title_text=say["why_moves"].format(target=escape(unit)))
    return figure.update_xaxes(title_text=escape(curve.channel), **({"tickmode": "array", "tickvals": grid.tolist()} if few else {}))


def largest(parts: Mapping[str, Tensor], example: int | None) -> dict[str, Tensor]:
    """The components of greatest mean size, the rest summed into one."""
    size = {name: float((value if example is None else value[example]).abs().mean()) for name, value in parts.items()}
    order = sorted(parts, key=lambda name: -size[name])
    kept, left = order[:SHOWN], order[SHOWN:]
    found = {name: parts[name] for name in kept}
    return found | ({ELSE: torch.stack([parts[n] for n in left]).sum(0)} if left else {})


def named(part: str, say: Words) -> str:
    """A component's name in the reader's language; a channel's own name stays."""
    pieces = part.split()
    if part.startswith("same time "):
        return say["why_same"].format(count=pieces[2], unit=say[f"why_{pieces[3].rstrip('s')}"] + (say["why_plural"] if pieces[3].endswith("s") else ""))
    fixed = {"recent level": "why_level", "rest of its own past": "why_rest", "all else": "why_else"}
    return say[fixed[part]] if part in fixed else say["why_before"].format(name=part.removesuffix(" before")) if part.endswith(" before") else part


def moments(times: np.ndarray) -> list[str]:
    """Wall times of a row as texts; days without the hour, minutes without the second."""
    texts = [str(t).replace("T", " ")[:19] for t in times[0].astype("datetime64[s]")]
    texts = [t[:16] for t in texts] if all(t.endswith(":00") for t in texts) else texts
    return [t[:10] for t in texts] if all(t.endswith(" 00:00") for t in texts) else texts


def _own(why: Attribution) -> int:
    names = why.channels("past")
    return names.index(why.labels.target) if why.labels.target in names else 0


def _times(why: Attribution, example: int) -> list[Any]:
    if why.labels.ahead is None:
        return list(range(why.prediction.shape[1]))
    return list(why.labels.ahead[example].astype("datetime64[s]"))


def _list(x: Tensor) -> list[float]:
    values: list[float] = x.double().tolist()
    return values
