"""One self-contained why.html: the forecast, what made it, how far the explanation itself can be trusted."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import torch

from .alarmdossier import alarm_dossier
from .attribution.effects import dependence
from .attribution.types import Attribution
from .detect import Detector
from .errors import TaskError
from .explanation.asked import Asked, ask, calendar
from .explanation.explain import METHODS, agreement
from .explanation.inner import why_not
from .explanation.look import periods
from .explanation.maps import kernels
from .explanation.parts import components
from .forecaster import Forecaster, When
from .page import Column, Section, folded, page, pairs, paragraphs, table, write
from .panel import Panel
from .plotting import plot
from .portraits import Figure, draw_curve, largest, moments, named, portrait
from .words import Words, decimals, number, percent, words

CURVES = 4  # channels whose curves are drawn
HEARD = 0.02  # share of all contributions from which a channel's curve says something
WINDOWS = 40  # of the summary and the curves


def dossier(
    path: str | Path, why: Attribution, model: Forecaster | Detector, panel: Panel, *, example: int = 0, lang: str = "en", title: str | None = None
) -> Path:
    """Writes the page of an explanation that `explain` gave, of a forecast or of a detector's score, and returns its path. `example` is
    the window shown; the summary and the curves use earlier windows of the same series. The file appears whole or not at all. TaskError
    for slopes and weights, which are no parts of a forecast."""
    if isinstance(model, Detector):
        return alarm_dossier(path, why, model, panel, example=example, lang=lang, title=title)
    if not parts_of_forecast(why):
        raise TaskError(f"a page shows what adds up to the forecast; {why.method} gives {why.kind} values of their own: draw them by ft.plot(why)")
    say = words(lang)
    series = why.labels.examples[example]
    one = why.pick([example])
    sections = [
        Section(say["forecast"], (say["why_forecast_text"],), _forecast(model, panel, one, series, say)),
        *([Section(say["why_parts"], (say["why_parts_text"],), portrait(one, "parts", lang=lang))] if one.prediction.shape[1] > 1 else []),
        Section(say["why_waterfall"], (say["why_waterfall_text"],), portrait(one, "waterfall", lang=lang), _table(one, say)),
        *(_cells(one, say) if "past" in one.values else _beside(one, say)),
        *_kernels(model, panel.pick(series), one, say),
        *_global(model, panel.pick(series), one, say),
        *_items(model, panel, one, say),
        _trust(model, panel.pick(series), one, say),
    ]
    heading = title or say["why_title"].format(target=why.labels.target, series=series)
    ahead = one.labels.ahead
    under = say["why_under"].format(net=type(model.net).__name__, first=moments(ahead)[0]) if ahead is not None else ""
    return write(Path(path), page(heading, under, _top(one, say), sections, say, foot=say["why_world"]))


def parts_of_forecast(why: Attribution) -> bool:
    """Whether an explanation says what each input adds, in units."""
    return why.kind == "contribution" and ({"past", "future"} <= set(why.values) or "components" in why.values)


def _cells(why: Attribution, say: Words) -> list[Section]:
    return [
        Section(say["why_lags"], (say["why_lags_text"],), portrait(why, "lags", lang=say.lang)),
        Section(say["why_cells"], (say["why_cells_text"],), portrait(why, "cells", lang=say.lang)),
    ]


def _beside(why: Attribution, say: Words) -> list[Section]:
    """What the net itself holds, channel by channel, the mean over the steps explained."""
    rows = [(block, name, float(x[0].mean())) for block in why.beside if block != "in time" for name, x in why.named(block).items()]
    if not rows:
        return []
    columns = [Column(say["why_block"], [r[0] for r in rows], left=True), Column(say["why_of"], [r[1] for r in rows], left=True)]
    columns.append(Column(say["value"], [number(r[2], decimals([abs(r[2])])) for r in rows]))
    return [Section(say["why_beside"], (say["why_beside_text"],), body=table(columns))]


def headline(why: Attribution, say: Words, example: int = 0) -> list[str]:
    """The highest step in words, and what all parts do over the horizon."""
    top = int(why.prediction[example].argmax())
    said = _sentence(why, example, top, say)
    whole = why.prediction[example].double()
    left = float(why.residual[example].abs().max())
    share = left / max(float(whole.abs().mean()), 1e-12)
    return [said, say["why_left"].format(residual=number(left), share=percent(share, 3))]


def _sentence(why: Attribution, example: int, output: int, say: Words) -> str:
    parts = sorted(((n, float(v[example, output])) for n, v in components(why).items()), key=lambda p: -abs(p[1]))
    digits = decimals([float(why.prediction[example, output])])
    told = ", ".join(f"{named(n, say)} {_signed(v, digits)}" for n, v in parts[:4])
    rest = sum(v for _, v in parts[4:])
    told += f", {say['why_else']} {_signed(rest, digits)}" if parts[4:] else ""
    when = "" if why.labels.ahead is None else moments(why.labels.ahead[example : example + 1])[output]
    if _total(why):
        last = moments(why.labels.times["future"][example : example + 1])[-1]
        when = say["why_whole"].format(first=when, last=last)
    facts = {"target": why.labels.target, "when": when, "value": number(float(why.prediction[example, output]), digits)}
    return say["why_head"].format(**facts, base=number(float(why.base[example, output]), digits), parts=told)


def _total(why: Attribution) -> bool:
    """Whether the steps of the horizon are explained together."""
    return why.labels.outputs == ("total",) and "future" in why.labels.times


def _signed(value: float, digits: int) -> str:
    return ("+" if value >= 0 else "") + number(value, digits)


def _top(why: Attribution, say: Words) -> str:
    facts = [
        (number(float(why.prediction.max())), say["why_sum" if _total(why) else "why_highest"]),
        (number(float(why.residual.abs().max())), say["why_residual_tile"]),
    ]
    facts.append((why.method.replace("_", " "), say["why_method"]))
    if "agreement" in why.facts:
        facts.append((f"{why.facts['agreement']:.2f}", say["why_agreement_tile"]))
    tiles = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>\n' for value, name in facts)
    warned = paragraphs(why.warnings)
    return f'<div class="head">{paragraphs(headline(why, say))}{warned}</div>\n<div class="tiles">\n{tiles}</div>\n'


def _forecast(model: Forecaster, panel: Panel, why: Attribution, series: str, say: Words) -> Figure:
    last = why.labels.times["past"][0, -1]
    return plot(model.predict(panel.pick(series), origin=last), history=panel.pick(series), lang=say.lang)


def _table(why: Attribution, say: Words) -> str:
    """Every step: usual, each part, residual, forecast."""
    parts = largest(components(why), 0)
    ahead = why.labels.ahead
    times = moments(ahead) if ahead is not None else [str(i) for i in range(why.prediction.shape[1])]
    rows = {say["why_base"]: why.base[0], **{named(n, say): v[0] for n, v in parts.items()}, say["why_residual"]: why.residual[0]}
    rows[say["why_forecast"]] = why.prediction[0]
    columns = [Column(say["time"], times, left=True)]
    columns += [Column(name, [number(float(v), decimals(value.abs().tolist())) for v in value]) for name, value in rows.items()]
    return folded(say["why_table"], table(columns))


def _global(model: Forecaster, panel: Panel, why: Attribution, say: Words) -> list[Section]:
    """What the model uses over many windows; and how the forecast moves with each measured channel known ahead."""
    origins = _origins(model, panel, why)
    if len(origins) < 3:
        return []
    asked = _asked(model, panel, origins, why)
    every = _every(asked, why)
    found = [Section(say["why_summary"], (say["why_summary_text"].format(count=len(origins)),), portrait(every, "summary", lang=say.lang))]
    moving = [c for c in model.roles.features if c not in calendar(model) and c not in model.roles.target]
    size = {c: float(every.by_channel()[c].abs().mean()) for c in moving}
    whole = sum(float(value.abs().mean()) for value in every.by_channel().values())
    for name in sorted((c for c in moving if size[c] > HEARD * whole), key=lambda c: -size[c])[:CURVES]:
        # Of what is known ahead, the path to come: a model that compares a price with its past says nothing of one that was always so.
        block = "future" if name in asked.labels.channels["future"] else "past"
        curve = dependence(asked.f, asked.blocks, [(block, asked.labels.channels[block].index(name))], change="set", name=name)
        found.append(Section(say["why_curve"].format(name=name), (say["why_curve_text"],), draw_curve(curve, why.labels.target, say)))
    return found


def _kernels(model: Forecaster, panel: Panel, why: Attribution, say: Words) -> list[Section]:
    """What each period kernel of a net that has some adds to every step."""
    if why_not(model, "kernels"):
        return []
    asked = _asked(model, panel, [why.labels.times["past"][0, -1]], why)
    bars = replace(kernels(asked), labels=replace(asked.labels, channels={"kernels": periods(asked)}))
    return [Section(say["why_kernels"], (say["why_kernels_text"],), portrait(bars, "parts", lang=say.lang))]


def _items(model: Forecaster, panel: Panel, why: Attribution, say: Words) -> list[Section]:
    """The same step of time for many series, evenly chosen among those with a forecast there."""
    when = why.labels.times["past"][0, -1]
    some = [panel.series[i] for i in np.unique(np.linspace(0, len(panel) - 1, WINDOWS).round().astype(int))]
    told = [name for name in some if _forecast_there(model, panel.pick(name), when)]
    if len(told) < 3:
        return []
    every = _every(_asked(model, panel.pick(*told), [when], why), why)
    return [Section(say["why_items"], (say["why_items_text"].format(count=len(told)),), portrait(every, "summary", lang=say.lang))]


def _forecast_there(model: Forecaster, panel: Panel, when: np.datetime64) -> bool:
    """Whether a series has a net, enough history and what must be known ahead."""
    try:
        model.function(panel, when)
    except TaskError:
        return False
    return True


def _asked(model: Forecaster, panel: Panel, origins: Sequence[When], why: Attribution) -> Asked:
    return ask(model, panel, origins, "step", "typical", None, why.labels.target or None, 80.0)


def _every(asked: Asked, why: Attribution) -> Attribution:
    """All windows of a question, by the method of the page where it is Shapley's, else by the engine."""
    found = METHODS["deeplift" if why.method != "shapley" else "shapley"](asked)
    return replace(found, labels=asked.labels, facts={"season": float(asked.season)})


def _origins(model: Forecaster, panel: Panel, why: Attribution) -> list[int]:
    """Clock steps at the same place in the season as the window's own, the latest that the data hold; a series that begins late, or was not
    observed for long, has none where half a context is missing."""
    f, _ = model.function(panel, why.labels.times["past"][0, -1])
    last, season = int(f.origin[0]), max(1, panel.clock.season)
    first = int(panel.start.max()) + model.context
    seen = torch.stack([panel.channel(name)[0].isfinite() for name in model.roles.target]).all(0).cumsum(0)
    row = torch.arange(last, first, -season) - int(panel.start[0])
    steps = (row + int(panel.start[0]))[2 * (seen[row] - seen[row - model.context]) >= model.context].tolist()
    return list(steps[: WINDOWS * max(1, len(steps) // WINDOWS) : max(1, len(steps) // WINDOWS)][:WINDOWS])


def _trust(model: Forecaster, panel: Panel, why: Attribution, say: Words) -> Section:
    """The explanation's own error, other methods beside it, what it is relative to, and the limits of all of it."""
    asked = _asked(model, panel, [why.labels.times["past"][0, -1]], why)
    body = ""
    same = "past" in why.values and why.prediction.shape == (1, model.task.horizon)
    if same and why.baseline is not None and why.baseline.name == "typical":
        rows = []
        for name in ("deeplift", "integrated_gradients", "occlusion" if asked.blocks["past"][0].numel() <= 800 else "gradient_input", "shapley"):
            other = why if name == why.method else METHODS[name](asked)
            rows.append((name, agreement(why, other) if name != "shapley" else _grouped(why, other), other.gap, other.cost.seconds))
        columns = [
            Column(say["why_method"], [r[0].replace("_", " ") for r in rows], left=True),
            Column(say["why_agreement"], [f"{r[1]:.3f}" for r in rows]),
            Column(say["why_gap"], [percent(r[2], 3) for r in rows]),
            Column(say["why_seconds"], [f"{r[3]:.2f}" for r in rows]),
        ]
        body = table(columns)
    facts = [(say["why_baseline"], say.named("why_baseline_", why.baseline.name if why.baseline else "–"))]
    facts += [(say["why_context"], ", ".join(asked.fixed) or "–")]
    return Section(say["why_trust"], (say["why_trust_text"],), body=body + pairs(facts, say["fact"], say["value"]))


def _grouped(one: Attribution, two: Attribution) -> float:
    """Correlation of both methods' sums over the groups."""
    a, b = (torch.stack(list(replace(w, groups=two.groups).by_group().values())).flatten().double() for w in (one, two))
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1]) if len(a) > 1 else 1.0
