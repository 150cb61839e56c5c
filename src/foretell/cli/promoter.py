"""The promotion part of the plan command: from a file of items and discounts to what a promotion brings, by two nets, with a report."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from .. import plan as planning
from ..backtesting import backtest
from ..errors import TaskError
from ..forecaster import Forecaster
from ..panel import Panel, calendar_of
from ..plan import Promotion
from ..planreport import Promoted, promotion_lines, promotion_report
from ..reading import Reading
from ..storage import save
from ..task import Task, roles_of
from ..words import words
from . import runs
from .asked import check_future, opened, suited, with_future
from .flags import Output
from .screen import Screen, cell, plain
from .wish import Wish

LSTM, BOTH = "LSTM", "LSTM + Transformer"
AFTER, MEMBERS, EPOCHS = 14, 4, 25  # steps watched after the promotion; nets of an ensemble, and passes over the data, at most


def promote(data: Path, wish: Wish, typed: Mapping[str, Any], place: runs.Place, output: Output, shown: Screen) -> None:
    """What the promotion brings, and the run folder that says so."""
    began = perf_counter()
    if wish.controls:
        raise TaskError("--discount plans a promotion and --controls a budget: ask for one of them")
    panel, task, how = _question(data, wish, typed)
    shown.remark(f"fitting {LSTM} and {BOTH} on {len(panel)} series, for {task.horizon} steps ahead")
    fits = _fits(task, wish)
    models = {name: fit(panel) for name, fit in fits.items()}
    found = {name: _promotion(model, panel, wish) for name, model in models.items()}
    shown.remark("testing both nets on the last steps")
    tested = backtest(fits, panel, task=task, windows=1, step=task.horizon)
    origin = int(panel.last(wish.target).min())
    limits, told_limits = (
        planning.promotion_limits(panel, wish.channel, wish.discount or 0.0, origin, price=wish.price, lang=lang) for lang in ("en", output.lang)
    )
    told = Promoted(LSTM, found, told_limits, tested)
    facts = {
        "command": " ".join(("foretell", *runs.TYPED.get())), "versions": runs.versions(), "data": str(data),
        "reading": how.model_dump(mode="json", exclude_unset=True), "task": task.model_dump(mode="json"), "model": LSTM,
        "discount": wish.discount, "first": wish.first, "days": wish.days, **{name: _facts(one) for name, one in found.items()},
        "limits": list(limits), "notes": list(found[LSTM].notes), "seconds": round(perf_counter() - began, 3),
    }  # fmt: skip
    _leave(told, limits, models[LSTM], facts, place, output, shown)


def _question(data: Path, wish: Wish, typed: Mapping[str, Any]) -> tuple[Panel, Task, Reading]:
    """The panel with its calendar, and a task that looks past the promotion."""
    wanted = tuple(dict.fromkeys((wish.target, wish.channel, *wish.known)))
    how = Reading.model_validate({**({} if "derive" in typed else {"channels": wanted}), **typed})
    panel, _ = opened(data, how)
    panel = with_future(panel, wish.future, how, [c for c in (wish.channel, *wish.known) if c in panel.channels]) if wish.future else panel
    panel = panel.with_calendar(*suited(panel))
    horizon = wish.horizon or wish.first - 1 + wish.days + AFTER
    known = (wish.channel, *wish.known, *calendar_of(panel))
    task = Task(target=(wish.target,), known=known, past=(), context=wish.context or 2 * AFTER, horizon=horizon, levels=(), floor=0)
    roles_of(task, panel)
    check_future(panel, task.model_copy(update={"known": wish.known}))  # what the promotion itself changes is written by it
    return panel, task, how


def _fits(task: Task, wish: Wish) -> dict[str, Callable[[Panel], Forecaster]]:
    one = partial(planning.fit_promotion, task=task, members=min(MEMBERS, wish.members), epochs=min(EPOCHS, wish.epochs), seed=wish.seed)
    return {LSTM: one, BOTH: partial(one, transformer=True)}


def _promotion(model: Forecaster, panel: Panel, wish: Wish) -> Promotion:
    return planning.promotion(model, panel, wish.discount or 0.0, channel=wish.channel, price=wish.price, first=wish.first, days=wish.days)


def _facts(one: Promotion) -> dict[str, Any]:
    """Of all items together."""
    bands = {"lift": one.lift(), "during": one.during(), "after": one.after(), "total": one.total(), "break_even": one.break_even()}
    return {name: {"mean": float(band.mean), "80": [float(end) for end in band.ends()]} for name, band in bands.items()}


def _leave(told: Promoted, limits: Sequence[str], model: Forecaster, facts: dict[str, Any], place: runs.Place, output: Output, shown: Screen) -> None:
    one = told.promotions[told.name]
    with runs.staged(place) as folder:
        save(model, folder / runs.MODEL)
        runs.write_table(folder, "promotion", one.cells(), output.format)
        runs.write_table(folder, "items", one.rows(), output.format)
        (folder / runs.METRICS).write_text(json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")
        promotion_report(folder / runs.REPORT, told, lang=output.lang, title=output.title)
        names = sorted(file.name for file in folder.iterdir())
    for name, other in told.promotions.items():
        for line in promotion_lines(other, words("en")):
            shown.show(f"{name}: {line}")
    shown.table({name: [cell(v) for v in values] for name, values in one.rows().items() if name in (one.names.id, "lift", "during", "after", "total")})
    shown.show("What these data cannot tell:")
    for sentence in (*limits, *one.notes):
        shown.show(f"  - {sentence}")
    shown.show(f"report: {place.path / runs.REPORT}")
    shown.document({**facts, "folder": str(place.path), "files": names})
