"""Standings: of a test of many series, the errors by label (department, state), and the best and the worst series with pictures."""

import numpy as np

from .hierarchy import columns_by, ranked
from .page import Column, Section, table
from .panel import Panel
from .plotting import plot
from .scoreboard import Backtest
from .words import Words, number, percent

FEW = 8  # series from which there is a best and a worst to look for
GROUPS = 200  # groups of a label, at most: one of more is no table
SHOWN = 3  # pictures of the best, and of the worst
LISTED = 10  # series named at either end


def labels_of(backtest: Backtest, panel: Panel) -> list[str]:
    """The labels that sort the tested series into groups."""
    place = {name: i for i, name in enumerate(panel.series)}
    rows = [place[name] for name in backtest.series if name in place]
    groups = {label: len({str(facts[i]) for i in rows}) for label, facts in panel.labels.items()}
    return [label for label, count in groups.items() if 1 < count <= min(GROUPS, len(rows) - 1)] if len(rows) == len(backtest.series) else []


def standings(backtest: Backtest, panel: Panel, model: str, say: Words) -> list[Section]:
    """A table for each label, the two ends of the ranking with the test's errors, and pictures of both ends."""
    found = [_by(backtest, panel, label, model, say) for label in labels_of(backtest, panel)]
    order = ranked(backtest, model) if len(backtest.series) >= FEW else []
    return found + (_ends(backtest, order, model, say) if len(order) >= FEW else [])


def _by(backtest: Backtest, panel: Panel, label: str, model: str, say: Words) -> Section:
    """The model beside the baseline, group by group, the worst first."""
    columns = columns_by(backtest, panel, label)
    mine, base = (columns["model"] == name for name in (model, backtest.baseline))
    other = base if base.any() else mine
    digits = [number(float(v), 3) for v in columns["RMSSE"][mine]]
    told = [
        Column(label, [str(name) for name in columns["group"][mine]], left=True),
        Column(say["series_row"], [f"{int(n):,}" for n in columns["series"][mine]]),
        Column("WAPE", [percent(float(v), 1) for v in columns["WAPE"][mine]]),
        Column(f"WAPE, {say.named('model_', backtest.baseline)}", [percent(float(v), 1) for v in columns["WAPE"][other]]),
        Column("RMSSE", digits),
        Column(say.named("", "bias"), [number(float(v)) for v in columns["bias"][mine]]),
    ]
    return Section(say["by_label"].format(label=label), (say["by_label_text"].format(model=say.named("model_", model)),), body=table(told))


def _ends(backtest: Backtest, order: list[tuple[str, float]], model: str, say: Words) -> list[Section]:
    """Worst and best: who they are, and how they look."""
    scores = backtest.scores("series")[model]
    found = []
    for heading, some in ((say["worst_series"], order[:LISTED]), (say["best_series"], order[::-1][:LISTED])):
        rows = [backtest.series.index(name) for name, _ in some]
        told = [Column(say["series"], [name for name, _ in some], left=True)]
        told += [Column(metric, [_told(metric, float(scores[metric][row])) for row in rows]) for metric in ("MAE", "RMSE", "WAPE", "MASE", "bias")]
        picture = plot(backtest, "actual", series=[name for name, _ in some[:SHOWN]], lang=say.lang)
        found.append(Section(heading, (say["ends_text"].format(model=say.named("model_", model)),), picture, table(told)))
    return found


def _told(metric: str, value: float) -> str:
    return "–" if not np.isfinite(value) else percent(value, 1) if metric == "WAPE" else number(value, 3)
