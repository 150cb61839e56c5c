"""One self-contained report.html, in English or Korean: what to expect, how good it was, what was seen and what was not."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch

from .clock import Clock
from .diagnosis import Diagnosis
from .forecaster import Forecaster
from .outcome import Forecast, Part
from .page import Column, Section, folded, maker, page, pairs, paragraphs, table, write
from .panel import Panel
from .plotting import SHOWN, cutoffs, largest, last_cuts, per_point, plot, scaled, sizes
from .scoreboard import Backtest
from .spec import Spec
from .standings import standings
from .train import Curves
from .weighing import weighing
from .words import Words, decimals, number, percent, stamp, wall, words

FEW, MANY, LISTED = 12, 2000, 12  # forecast rows shown at once and folded away; series described one by one
SHARES = {"MAPE": 0.01, "sMAPE": 0.01, "WAPE": 1.0, "coverage": 1.0, "peak_WAPE": 1.0, "skill": 1.0}  # shown in percent; the table's own unit
CLOSE = 0.03  # a band within this of what it states is as stated


def report(
    path: str | Path,
    *,
    panel: Panel,
    forecast: Forecast | None = None,
    backtest: Backtest | None = None,
    model: Forecaster | None = None,
    lang: str = "en",
    title: str | None = None,
    curves: Mapping[str, Curves] | None = None,
    diagnosis: Diagnosis | None = None,
) -> Path:
    """Writes one HTML file that opens without a network, and returns its path; what is not given is left out.

    A `diagnosis` puts the nets side by side, with the picture of their `curves`. The same values give the same bytes. The file appears whole or not at all.
    """
    say = words(lang)
    targets = forecast.targets if forecast else backtest.targets if backtest else panel.channels[:1]
    sections = [
        *(_forecast(forecast, panel, say) if forecast else ()),
        *(_backtest(backtest, say) if backtest else ()),
        *(standings(backtest, panel, _hero(forecast, backtest), say) if backtest else ()),
        *([_parts(model.parts, model.clock, say)] if model and not backtest else ()),
        _data(panel, targets, say),
        *_learned(diagnosis, curves or (model.curves if model else None), say),
        *(_weighed(model, panel, backtest, forecast.model if forecast else "", say) if model else ()),
        *([_card(model, say)] if model else ()),
        _notes(forecast, backtest, model, say),
    ]
    heading = title or say["title"].format(target=", ".join(targets))
    clock, last = panel.clock, max(int(panel.last(t).max()) for t in targets)
    under = say["subtitle"].format(count=say.count(len(panel)), step=say.step(clock), last=say.moment(wall(clock, last), clock))
    top = f'<div class="head">{paragraphs(headline(forecast, backtest, say))}</div>\n' if forecast or backtest else ""
    return write(Path(path), page(heading, under, top + _tiles(forecast, backtest, say), sections, say))


def headline(forecast: Forecast | None, backtest: Backtest | None, say: Words) -> list[str]:
    """In plain words: what to expect, and how far to trust it."""
    ahead = [_expected(forecast, at, say) for at in range(min(3, len(forecast.targets)))] if forecast else []
    return [*ahead, *(_earned(forecast, backtest, say) if backtest else ())]


def forecast_html(forecast: Forecast, lang: str = "en") -> str:
    """The forecast's rows as an HTML table, the first ones open and the rest folded."""
    say = words(lang)
    columns, total = _forecast_columns(forecast, say)
    first = table([c._replace(cells=c.cells[:FEW]) for c in columns])
    cut = paragraphs([say["cut_rows"].format(shown=f"{MANY:,}", count=f"{total:,}")]) if total > MANY else ""
    return first if total <= FEW else first + folded(say["all_rows"].format(count=f"{total:,}"), table(columns) + cut)


def backtest_html(backtest: Backtest, lang: str = "en") -> str:
    """The accuracy table as HTML: baselines first, the best of each column bold."""
    say = words(lang)
    columns = [Column(say["model"], [say.named("model_", m) for m in backtest.models], left=True)]
    for name, values in backtest.table_columns().items():
        if values.dtype.kind == "f" and np.isfinite(values).any():
            columns.append(Column(_titled(name, say), _written(name, values), best=_best(name, values)))
    return table(columns, quiet=[i for i, m in enumerate(backtest.models) if m == backtest.baseline])


def _forecast(forecast: Forecast, panel: Panel, say: Words) -> list[Section]:
    levels = say["or"].join(percent(x / 100) for x in forecast.levels)
    texts = [say["forecast_text"].format(levels=levels) if levels else say["forecast_text_bare"]]
    if len(forecast.series) > SHOWN:
        texts.append(say["forecast_some"].format(shown=SHOWN, count=f"{len(forecast.series):,}"))
    picture = plot(forecast, history=panel, lang=say.lang)
    return [Section(say["forecast"], tuple(texts), picture, forecast_html(forecast, say.lang))]


def _backtest(backtest: Backtest, say: Words) -> list[Section]:
    clock, horizon = backtest.clock, backtest.truth.shape[2]
    shown = largest(sizes(backtest), backtest.series, None, 1)[0]
    week = say.length(clock, horizon * len(last_cuts(backtest, shown)))
    mean = say["origins_text_mean"].format(count=per_point(backtest)) if per_point(backtest) > 1 else ""
    pictures = (
        ("actual", "week", (say["week_text"].format(series=backtest.series[shown], span=week, ahead=say.length(clock, horizon)),)),
        ("step", "steps", (say["steps_text_many" if scaled(backtest) else "steps_text"],)),
        ("origin", "origins", (say["origins_text"], mean)),
        ("peaks", "peaks", (say["peaks_text"],)),
    )
    # One origin, or one step ahead, would make a picture of one point.
    points = {"step": horizon, "origin": len(backtest.cutoff)}
    drawn = [Section(say[title], texts, plot(backtest, kind, lang=say.lang)) for kind, title, texts in pictures if points.get(kind, 2) > 1]
    return [_accuracy(backtest, say), _bands(backtest, say), *drawn, _parts(backtest.parts, clock, say)]


def _accuracy(backtest: Backtest, say: Words) -> Section:
    cuts, span = f"{len(backtest.cutoff):,}", say.length(backtest.clock, backtest.truth.shape[2])
    texts = [say["accuracy_text"].format(cuts=cuts, span=span), say["accuracy_pick"] if len(backtest.point) > 2 else ""]
    if backtest.levels:
        texts[0] += " " + say["accuracy_text_coverage"].format(level=percent(backtest.levels[-1] / 100))
    return Section(say["accuracy"], tuple(texts), body=backtest_html(backtest, say.lang))


def _bands(backtest: Backtest, say: Words) -> Section:
    """Stated and measured coverage of each model's bands, on the values of the test."""
    rows = [(model, level, *_measured(backtest, model, level)) for model in backtest.models for level in backtest.levels]
    rows = [row for row in rows if np.isfinite(row[2])]
    if not rows:
        return Section(say["bands"], (say["no_bands"],))
    digits = decimals([width for *_, width in rows])
    gaps = [cover - level / 100 for _, level, cover, _ in rows]
    verdicts = [say["band_honest" if abs(gap) <= CLOSE else "band_narrow" if gap < 0 else "band_wide"] for gap in gaps]
    columns = [
        Column(say["model"], [say.named("model_", model) for model, *_ in rows], left=True),
        Column(say["stated"], [percent(level / 100) for _, level, *_ in rows]),
        Column(say["measured"], [percent(cover, 1) for _, _, cover, _ in rows]),
        Column(say["width"], [number(width, digits) for *_, width in rows]),
        Column(say["verdict"], verdicts, left=True),
    ]
    return Section(say["bands"], (say["bands_text"],), body=table(columns))


def _parts(parts: Sequence[Part], clock: Clock, say: Words) -> Section:
    columns = [
        Column(say["part"], [say.named("part_", p.name) for p in parts], left=True),
        Column(say["from"], [stamp(wall(clock, p.first), clock) for p in parts]),
        Column(say["to"], [stamp(wall(clock, p.last), clock) for p in parts]),
        Column(say["rows"], [f"{p.rows:,}" for p in parts]),
    ]
    tested = any(p.name == "test" for p in parts)
    title, known = (say["parts"], say["parts_text"]) if tested else (say["parts_fit"], say["parts_text_fit"])
    return Section(title, (known,), body=table(columns))


def _data(panel: Panel, targets: Sequence[str], say: Words) -> Section:
    """What the panel holds, as a whole and of each target of each series."""
    clock, stop = panel.clock, max(int(panel.last(t).max()) for t in targets)
    first = int(panel.start.min())
    facts = [
        (say["series_row"], f"{len(panel):,}"),
        (say["step"], say.length(clock, 1)),
        (say["span"], f"{stamp(wall(clock, first), clock)} – {stamp(wall(clock, stop), clock)} ({say.length(clock, stop - first + 1)})"),
        (say["channels"], ", ".join(panel.channels)),
        (say["calendar"], ", ".join(panel.calendar_channels) or "–"),
        (say["zone"], clock.zone or say["zone_none"]),
    ]
    some = say["data_some"].format(shown=LISTED, count=f"{len(panel):,}") if len(panel) > LISTED else ""
    found = [_found(panel, series, target, len(targets) > 1, say) for series in range(min(LISTED, len(panel))) for target in targets]
    titles = [say[key] for key in ("series", "first", "last", "values", "gaps", "lowest", "mean", "highest")]
    columns = [Column(title, cells, left=n == 0) for n, (title, cells) in enumerate(zip(titles, zip(*found, strict=True), strict=True))]
    return Section(say["data"], (say["data_text"],), body=pairs(facts, say["fact"], say["value"]) + paragraphs([some], "text") + table(columns))


def _found(panel: Panel, series: int, target: str, several: bool, say: Words) -> list[str]:
    """A row of the table of series."""
    values = panel.channel(target)[series].double().numpy()
    rows = np.flatnonzero(np.isfinite(values))
    name = f"{panel.series[series]} · {target}" if several else panel.series[series]
    if not len(rows):
        return [name, "–", "–", "0", "–", "–", "–", "–"]
    held, start = values[rows], int(panel.start[series])
    ends = [stamp(wall(panel.clock, start + int(row)), panel.clock) for row in (rows[0], rows[-1])]
    name = f"{name} ({say['constant']})" if held.min() == held.max() else name
    return [name, *ends, f"{len(rows):,}", f"{rows[-1] - rows[0] + 1 - len(rows):,}", *(number(float(v)) for v in (held.min(), held.mean(), held.max()))]


def _learned(diagnosis: Diagnosis | None, curves: Curves | Mapping[str, Curves] | None, say: Words) -> list[Section]:
    """How the losses fell; with a diagnosis also what it found of each net, and what to try next."""
    figure, known = (plot(curves, lang=say.lang), say["curves_text"]) if curves else (None, "")
    if diagnosis is None:
        return [Section(say["curves"], (known,), figure)] if curves else []
    texts = (*diagnosis.sentences(say.lang), say["against_text"], known)
    columns = [Column(title, cells, left=at in (0, 7, 8)) for at, (title, cells) in enumerate(diagnosis.cells(say.lang).items())]
    return [Section(say["against"], texts, figure, table(columns))]


def _weighed(model: Forecaster, panel: Panel, backtest: Backtest | None, name: str, say: Words) -> list[Section]:
    """Of a net made of periods: those of each series, how they count, and how the other channels do; the first series, if there are many."""
    found = weighing(model, panel, backtest, name)
    if not found:
        return []
    some = say["data_some"].format(shown=LISTED, count=f"{len(panel):,}") if len(panel) > LISTED else ""
    columns = [
        Column(title, [str(cell) if at == 0 else number(float(cell)) if np.isfinite(cell) else "–" for cell in cells[:LISTED]], left=at == 0)
        for at, (title, cells) in enumerate(found.items())
    ]
    return [Section(say["weighing"], (say["weighing_text"], some), body=table(columns))]


def _card(model: Forecaster, say: Words) -> Section:
    """What the model is, and what it takes to make it again."""
    clock = model.clock
    facts: list[tuple[str, object]] = [
        ("target", ", ".join(model.roles.target)),
        ("context", say.length(clock, model.context)),
        ("horizon", say.length(clock, model.task.horizon)),
        ("known", ", ".join(model.roles.known) or "–"),
        ("past", ", ".join(model.roles.past) or "–"),
        ("levels", ", ".join(f"{level:g}" for level in model.task.levels) or "–"),
        ("net", f"{type(model.net).__name__}({_options(model.net)})"),
        ("training", _options(model.training)),
        ("scale", model.training.scale),
        ("seed", model.training.seed),
        ("members", f"{len(model.members):,}"),
        ("parameters", f"{sum(w.numel() for w in model.weights.values()):,}"),
        *model.facts.items(),
        ("versions", f"{maker()}, torch {torch.__version__}, numpy {np.__version__}"),
    ]
    rows = [(say.named("card_", name), number(value) if isinstance(value, float) else say.named("fact_", str(value))) for name, value in facts]
    return Section(say["card"], body=pairs(rows, say["fact"], say["value"]))


def _options(spec: Spec) -> str:
    """The options that are not the usual ones, as they would be written."""
    usual = type(spec).model_fields
    return ", ".join(f"{name}={value!r}" for name, value in spec if value != usual[name].get_default(call_default_factory=True))


def _notes(forecast: Forecast | None, backtest: Backtest | None, model: Forecaster | None, say: Words) -> Section:
    notes = dict.fromkeys(note for value in (forecast, backtest, model) if value is not None for note in value.notes)
    lines = "".join(f"<li>{escape(note)}</li>\n" for note in notes)
    return Section(say["notes"], () if notes else (say["no_notes"],), body=f'<ul lang="en">\n{lines}</ul>\n' if notes else "")


def _expected(forecast: Forecast, target: int, say: Words) -> str:
    """One sentence on what is to come of one target."""
    values, times, clock = forecast.values[:, :, target].double().numpy(), forecast.times(), forecast.clock
    if not np.isfinite(values).any():
        return ""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    digits = decimals([low, high])
    facts = {
        "target": forecast.targets[target],
        "span": say.length(clock, values.shape[1]),
        "first": say.moment(times.min(), clock),
        "period": say.period(times.min(), times.max(), clock),
        "low": number(low, digits),
        "high": number(high, digits),
    }
    level = percent(_main_level(forecast.levels) / 100) if forecast.levels else ""
    if len(values) > 1:
        mean = np.nan_to_num(values).mean(1)
        top = int(mean.argmax())
        text = say["head_many"].format(**facts, count=say.count(len(values)), name=forecast.series[top], mean=number(float(mean[top]), digits))
        return f"{text} {say['head_band_many'].format(level=level)}" if level else text
    text = say["head_one"].format(**facts, peak=say.moment(times[0, np.nanargmax(values[0])], clock)) if values.size > 1 else say["head_step"].format(**facts)
    if not level:
        return text
    ends = [edge[:, :, target].double().numpy() for edge in forecast.band(_main_level(forecast.levels))]
    return f"{text} {say['head_band'].format(level=level, low=number(float(np.nanmin(ends[0])), digits), high=number(float(np.nanmax(ends[1])), digits))}"


def _earned(forecast: Forecast | None, backtest: Backtest, say: Words) -> list[str]:
    """How the model of the forecast (or the best one) did beside the baseline, and whether its bands held."""
    scores, metric, hero = _scores(backtest), _metric_of(backtest), _hero(forecast, backtest)
    best = min(scores, key=lambda m: scores[m][metric])
    first, last = _tested(backtest)
    gain = _gain(scores, metric, hero, backtest.baseline)
    key = "head_alone" if not np.isfinite(gain) else "head_better" if gain > 0 else "head_worse" if gain < 0 else "head_equal"
    errors = {m: _written(metric, np.array([found[metric]]))[0] for m, found in scores.items()}
    facts = {"span": say.length(backtest.clock, last - first + 1), "metric": metric, "error": errors[hero], "other": errors.get(backtest.baseline, "")}
    ends = {"period": say.period(wall(backtest.clock, first), wall(backtest.clock, last), backtest.clock)}
    named = {"model": say.named("model_", hero), "baseline": say.named("model_", backtest.baseline), "skill": percent(abs(gain), 0 if abs(gain) >= 0.1 else 1)}
    lines = [say[key].format(**facts, **ends, **named)]
    if best != hero:
        lines.append(say["head_best"].format(model=say.named("model_", best), metric=metric, error=errors[best]))
    cover = _measured(backtest, hero, _main_level(backtest.levels))[0] if backtest.levels else np.nan
    return [*lines, say["head_cover"].format(cover=percent(cover, 1), level=percent(_main_level(backtest.levels) / 100))] if np.isfinite(cover) else lines


def _tiles(forecast: Forecast | None, backtest: Backtest | None, say: Words) -> str:
    """The four numbers asked for first, of the model the headline speaks of."""
    if backtest is None:
        return ""
    scores, metric, hero = _scores(backtest), _metric_of(backtest), _hero(forecast, backtest)
    facts = [(_written(metric, np.array([scores[hero][metric]]))[0], f"{metric}, {say.named('model_', hero)}")]
    facts += [(percent(scores[hero]["WAPE"], 2), "WAPE")] if metric == "MAE" else []
    facts.append((percent(_gain(scores, metric, hero, backtest.baseline), 1), say["skill_tile"].format(baseline=say.named("model_", backtest.baseline))))
    if backtest.levels:
        level = _main_level(backtest.levels)
        facts.append((percent(_measured(backtest, hero, level)[0], 1), say["coverage_tile"].format(level=percent(level / 100))))
    facts = [(value, name) for value, name in facts if value != "–"]
    tiles = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>\n' for value, name in facts)
    return f'<div class="tiles">\n{tiles}</div>\n'


def _forecast_columns(forecast: Forecast, say: Words) -> tuple[list[Column], int]:
    """The forecast's rows, `MANY` at most, and how many there are."""
    count, horizon, targets = forecast.values.shape
    rows = min(MANY, count * horizon)
    times = forecast.times().reshape(-1)[:rows]
    columns = [Column(say["time"], [stamp(t, forecast.clock) for t in times], left=True)]
    if count > 1:
        columns.insert(0, Column(say["series"], np.repeat(np.array(forecast.series, dtype=object), horizon)[:rows].tolist(), left=True))
    for target in range(targets):
        point = forecast.values[:, :, target].reshape(-1)[:rows].tolist()
        digits = decimals(point)
        name = forecast.targets[target] if targets > 1 else say["predicted"]
        columns.append(Column(name, [number(v, digits) for v in point]))
        for level in forecast.levels:
            for sign, edge in zip(("\u2193", "\u2191"), forecast.band(level), strict=True):
                cells = [number(v, digits) for v in edge[:, :, target].reshape(-1)[:rows].tolist()]
                columns.append(Column(f"{say['level'].format(level=percent(level / 100))} {sign}", cells))
    return columns, count * horizon


def _scores(backtest: Backtest) -> dict[str, dict[str, float]]:
    """The accuracy table as model → metric → number."""
    return {model: {name: float(value[0]) for name, value in found.items()} for model, found in backtest.scores().items()}


def _gain(scores: dict[str, dict[str, float]], metric: str, hero: str, baseline: str) -> float:
    """Share of the baseline's error that is gone; NaN for the baseline itself."""
    if hero == baseline or baseline not in scores or not scores[baseline][metric] > 0:
        return np.nan
    return 1 - scores[hero][metric] / scores[baseline][metric]


def _hero(forecast: Forecast | None, backtest: Backtest) -> str:
    """The model the headline speaks of: the forecast's own if it was tested, else the best one beside the baseline."""
    if forecast is not None and forecast.model in backtest.models:
        return forecast.model
    scores, metric = _scores(backtest), _metric_of(backtest)
    return min((m for m in backtest.models if m != backtest.baseline), key=lambda m: scores[m][metric], default=backtest.baseline)


def _metric_of(backtest: Backtest) -> str:
    """The error to speak of: in units for one series, in percent for several, without a unit for several targets."""
    return "MASE" if len(backtest.targets) > 1 else "WAPE" if len(backtest.series) > 1 else "MAE"


def _titled(name: str, say: Words) -> str:
    """A metric's title; "coverage-80" names its band."""
    base, _, level = name.partition("-")
    return f"{say.named('', base)} {percent(float(level) / 100)}" if level else say.named("", base)


def _written(name: str, values: np.ndarray) -> list[str]:
    """A column of the accuracy table, written."""
    base, numbers = name.partition("-")[0], values.tolist()
    if base in SHARES:
        return [percent(v * SHARES[base], 1 if base in ("coverage", "skill") else 2) for v in numbers]
    digits = 3 if base in ("MASE", "RMSSE") else decimals(numbers)
    return [number(v, digits) for v in numbers]


def _best(name: str, values: np.ndarray) -> list[int]:
    """Rows with the best value of a column."""
    base, _, level = name.partition("-")
    loss = -values if base == "skill" else np.abs(values - float(level) / 100) if level else np.abs(values)
    return np.flatnonzero(loss == np.nanmin(loss)).tolist()


def _measured(backtest: Backtest, model: str, level: float) -> tuple[float, float]:
    """Share of the observed values inside a model's band, and the band's mean width; NaN if it gave none."""
    low, high = (edge.double().numpy() for edge in backtest.band(model, level))
    truth = backtest.truth.double().numpy()
    seen = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
    if not seen.any():
        return np.nan, np.nan
    return float(((truth >= low) & (truth <= high))[seen].mean()), float((high - low)[seen].mean())


def _tested(backtest: Backtest) -> tuple[int, int]:
    """First and last clock step of the test."""
    return int(cutoffs(backtest).min()) + 1, int(cutoffs(backtest).max()) + backtest.truth.shape[2]


def _main_level(levels: Sequence[float]) -> float:
    """The band to speak of: the one nearest to 80 %."""
    return min(levels, key=lambda level: abs(level - 80))
