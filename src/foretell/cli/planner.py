"""The plan command: from a file of spend and revenue to the budget that pays, with both nets' opinions and a report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from cyclopts import Group, Parameter

from .. import plan as planning
from ..backtesting import Fit, backtest
from ..errors import TaskError
from ..forecaster import Forecaster
from ..panel import Panel, calendar_of
from ..plan import Curve, Goal, Plan, WhatIf
from ..plan.ahead import written
from ..plan.bounds import Bounds
from ..plan.limits import accuracy_limit
from ..plan.rehearsing import LEAST_TRIALS
from ..planreport import Planned, plan_report
from ..reading import Reading
from ..scoreboard import Backtest
from ..storage import save
from ..task import Task, roles_of
from . import flags, runs
from .asked import opened, suited, with_future
from .flags import Output, ReadingFlags, Words, given
from .promoter import promote
from .screen import Screen, cell, plain
from .wish import Wish

PLAN = Group.create_ordered("The plan")
RESPONSE, FLEXIBLE = "response net", "flexible net"
AHEAD = {"W": 13, "D": 28, "MS": 3, "ME": 3}  # steps planned if nothing is said: a quarter, four weeks
SHORT = 7  # a horizon is at most this part of the history


@dataclass(frozen=True, eq=False)
class Job:
    """What was read, and what is asked of it."""

    source: str
    how: Reading
    panel: Panel
    task: Task
    bounds: Mapping[str, Bounds]
    follows: Mapping[str, str]
    scenarios: Mapping[str, Mapping[str, str]]
    budget: float
    notes: tuple[str, ...]


def plan(
    data: Annotated[Path, Parameter(help="file of one series: csv, parquet, packed or not")], /, *,
    wish: Annotated[Wish, Parameter(name="*", group=PLAN)],
    output: Annotated[Output | None, Parameter(name="*", group=flags.OUTPUT)] = None,
    reading: Annotated[ReadingFlags | None, Parameter(name="*", group=flags.READING)] = None,
) -> None:  # fmt: skip
    """Find the budget that pays: fit a media-mix net and a flexible net, plan with one, let the other judge, and write a report.

    Typing the file, --target, --controls and --budget is enough; with --discount, what a promotion brings instead, item by item.
    """
    began, output = perf_counter(), output or Output()
    shown = Screen(output.quiet, output.json)
    place = runs.place(output, f"foretell-{data.name.split('.')[0] or 'data'}-plan")
    if wish.discount is not None:
        promote(data, wish, given(reading), place, output, shown)
        return
    job = _job(data, wish, given(reading), shown)
    fits = _fits(job, wish)
    shown.remark(f"fitting the {RESPONSE} and the {FLEXIBLE}, {wish.members} members each")
    models = {name: fit(job.panel) for name, fit in fits.items()}
    goal = Goal(kind=wish.goal, margin=wish.margin, roas=wish.roas, risk=wish.risk)
    made = _rehearsed({name: _made(model, job, goal, wish) for name, model in models.items()}, models, job, wish, shown)
    used = RESPONSE if wish.use == "response" else FLEXIBLE
    opinions = {
        net: {name: planning.judge(model, job.panel, one, tuple(job.bounds), follows=job.follows) for name, one in made.items()}
        for net, model in models.items()
    }
    shown.remark("testing both nets on the last steps")
    tested = _tested(job, wish)
    usual = written(models[used], job.panel, tuple(job.bounds), None).panel  # where no spend is written ahead, the usual one
    found = Planned(
        used, made[used], {name: one for name, one in made.items() if name != used}, opinions,
        {net: tuple(planning.response(models[net], usual, name) for name in job.bounds) for net in (used, *(n for n in models if n != used))},
        _limits(job, wish.target, used, tested, output.lang), tested, _asked(models[used], usual, job), job.panel,
    )  # fmt: skip
    english = _limits(job, wish.target, used, tested, "en")  # the report speaks another language if asked, screen and metrics.json do not
    _leave(found, english, job, models[used], place, output, shown, perf_counter() - began)


def _job(data: Path, wish: Wish, typed: Mapping[str, Any], shown: Screen) -> Job:
    bounds, follows, scenarios = _bounds(wish.controls), _follows(wish.follows), _scenarios(wish.scenario)
    wanted = tuple(dict.fromkeys((wish.target, *bounds, *follows, *wish.known)))
    how = Reading.model_validate({**({} if "derive" in typed else {"channels": wanted}), **typed})
    panel, notes = opened(data, how)
    if len(panel) > 1:
        raise TaskError(f"a plan is made for one series; the file holds {len(panel)}: {', '.join(panel.series[:4])} …; keep the rows of one")
    panel = with_future(panel, wish.future, how, [c for c in (*bounds, *wish.known) if c in panel.channels]) if wish.future else panel
    panel = panel.with_calendar(*suited(panel))
    steps = int(panel.last(wish.target)[0] - panel.start[0]) + 1 if wish.target in panel.channels else 0
    usual = min(AHEAD.get(panel.clock.unit, panel.clock.season), max(1, steps // SHORT))
    horizon = wish.horizon or usual
    known = (*bounds, *wish.known, *calendar_of(panel))
    task = Task(target=(wish.target,), known=known, past=tuple(follows), context=wish.context or horizon, horizon=horizon)
    roles_of(task, panel)
    full = {name: ends if ends is not _OPEN else (0.0, float(panel.channel(name).nan_to_num(0.0).max())) for name, ends in bounds.items()}
    origin = int(panel.last(wish.target)[0])
    budget = wish.budget if wish.budget is not None else sum(float(planning.usual(panel, name, origin)[0]) * horizon for name in bounds)
    if wish.horizon is None:
        shown.remark(f"horizon: {horizon} steps (--horizon says another)")
    if wish.budget is None:
        shown.remark(f"budget: {budget:,.0f}, the mean spend of the last year over {horizon} steps (--budget says another)")
    return Job(str(data), how, panel, task, full, follows, scenarios, budget, tuple(notes))


_OPEN: tuple[float, float] = (0.0, float("inf"))  # bounds to be taken from the history


def _bounds(words: Words) -> dict[str, Bounds]:
    """tv:0..50000 → {"tv": (0.0, 50000.0)}; a name alone is left open."""
    found: dict[str, Bounds] = {}
    for word in (part for text in words for part in text.split(",") if part):
        name, sign, ends = word.partition(":")
        low, dots, high = ends.partition("..")
        try:
            found[name] = _OPEN if not sign else (float(low or 0), float(high)) if dots else float(low)
        except ValueError:
            raise TaskError(f'--controls {word}: bounds are written name:least..most, as in tv:0..50000, or name:value; got "{ends}"') from None
    if not found:
        raise TaskError("--controls names no column: write tv:0..50000,search:0..20000, or plan a promotion with --discount 0.2")
    return found


def _follows(words: Words) -> dict[str, str]:
    found = {}
    for word in (part for text in words for part in text.split(",") if part):
        name, sign, control = word.partition("=")
        if not sign or not control:
            raise TaskError(f"--follows {word}: write column=control, as in clicks=search")
        found[name] = control
    return found


def _scenarios(words: Words) -> dict[str, dict[str, str]]:
    """ "more tv: tv=+20%, search=0" → {"more tv": {"tv": "+20%", "search": "x0"}}; a bare number is the value itself."""
    found: dict[str, dict[str, str]] = {}
    for word in words:
        name, sign, changes = word.partition(":")
        pairs = [part.partition("=") for part in changes.split(",")]
        if not sign or not name.strip() or not all(channel.strip() and value.strip() for channel, _, value in pairs):
            raise TaskError(f'--scenario {word}: write a name and what changes, as in "more tv: tv=+20%, search=0"')
        found[name.strip()] = {channel.strip(): value.strip() for channel, _, value in pairs}
    return found


def _asked(model: Forecaster, panel: Panel, job: Job) -> WhatIf | None:
    """The scenarios; a number without a sign is the value itself, others change what is written."""
    told = {name: {channel: _value(text) for channel, text in changes.items()} for name, changes in job.scenarios.items()}
    return planning.what_if(model, panel, told, follows=job.follows) if told else None


def _value(text: str) -> float | str:
    return float(text) if text.replace(".", "", 1).isdecimal() else text


def _fits(job: Job, wish: Wish, members: int | None = None) -> dict[str, Fit]:
    count = members or wish.members
    media = tuple(job.bounds)
    constrained: Callable[[Panel], Forecaster] = partial(planning.fit_media, task=job.task, media=media, members=count, epochs=wish.epochs, seed=wish.seed)
    flexible: Callable[[Panel], Forecaster] = partial(planning.fit_flexible, task=job.task, members=count, epochs=min(60, wish.epochs), seed=wish.seed)
    return {RESPONSE: constrained, FLEXIBLE: flexible}


def _made(model: Forecaster, job: Job, goal: Goal, wish: Wish) -> Plan:
    return planning.allocate(model, job.panel, job.budget, job.bounds, goal=goal, follows=job.follows, least_change=wish.least_change)


def _rehearsed(made: Mapping[str, Plan], models: Mapping[str, Forecaster], job: Job, wish: Wish, shown: Screen) -> dict[str, Plan]:
    """The same plans, with what promises like theirs came to in worlds drawn from the response net; as they are where it has too few members."""
    trials = min(wish.rehearse, wish.members)
    if trials < LEAST_TRIALS:
        return dict(made)
    shown.remark(f"rehearsing both nets' plans in {trials} worlds with a known answer (--rehearse 0 leaves it out)")
    return {name: planning.rehearse(one, models[name], job.panel, models[RESPONSE], trials=trials, seed=wish.seed) for name, one in made.items()}


def _limits(job: Job, target: str, used: str, tested: Backtest | None, lang: str) -> tuple[str, ...]:
    """What the history cannot tell; first, if it is so, that the net of the plan does not even forecast well."""
    worse = accuracy_limit(tested, used, lang=lang) if tested else ""
    origin = int(job.panel.last(target)[0])
    return (*([worse] if worse else []), *planning.limits(job.panel, target, tuple(job.bounds), origin, lang=lang))


def _tested(job: Job, wish: Wish) -> Backtest | None:
    """Both nets on the last horizon of the history, which they have not seen; None where it is too short for that."""
    steps = int(job.panel.last(wish.target)[0] - job.panel.start[0]) + 1
    if steps < 6 * (job.task.horizon + (job.task.context if isinstance(job.task.context, int) else 0)) // 2:
        return None
    return backtest(_fits(job, wish, members=min(4, wish.members)), job.panel, task=job.task, windows=1, step=job.task.horizon)


def _leave(found: Planned, limits: Sequence[str], job: Job, model: Forecaster, place: runs.Place, output: Output, shown: Screen, seconds: float) -> None:
    one = found.plan
    facts = _facts(found, limits, job, seconds)
    with runs.staged(place) as folder:
        save(model, folder / runs.MODEL)
        runs.write_table(folder, "plan", one.cells(), output.format)
        runs.write_table(folder, "controls", one.rows(), output.format)
        for curves in zip(*found.curves.values(), strict=True):
            runs.write_table(folder, f"curve-{_file(curves[0].channel)}", _by_net(dict(zip(found.curves, curves, strict=True))), output.format)
        if found.scenarios:
            runs.write_table(folder, "scenarios", found.scenarios.cells(), output.format)
        (folder / runs.METRICS).write_text(json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")
        plan_report(folder / runs.REPORT, found, lang=output.lang, title=output.title)
        names = sorted(file.name for file in folder.iterdir())
    for line in one.summary().splitlines():
        shown.show(line)
    shown.table({name: [cell(v) for v in values] for name, values in one.rows().items()})
    for net, gains in found.opinions.items():
        shown.show(f"according to the {net}: " + "; ".join(f"plan of the {name} gains {band.told()}" for name, band in gains.items()))
    if found.scenarios:
        shown.table({name: [cell(v) for v in values] for name, values in found.scenarios.rows().items()})
    shown.show("What these data cannot tell:")
    for sentence in limits:
        shown.show(f"  - {sentence}")
    shown.show(f"report: {place.path / runs.REPORT}")
    shown.document({**facts, "folder": str(place.path), "files": names})


def _facts(found: Planned, limits: Sequence[str], job: Job, seconds: float) -> dict[str, Any]:
    one = found.plan
    low, high = one.gain.ends()
    return {
        "command": " ".join(("foretell", *runs.TYPED.get())), "versions": runs.versions(), "data": job.source,
        "reading": job.how.model_dump(mode="json", exclude_unset=True), "task": job.task.model_dump(mode="json"), "model": found.name,
        "budget": job.budget, "bounds": job.bounds, "goal": one.goal.model_dump(mode="json"), "gain": float(one.gain.mean),
        "gain_80": [float(low), float(high)],
        "roas": float(one.roas.mean), "roas_written": float(one.roas_written.mean), "marginal": float(one.certificate.price.mean()),
        "kkt_residual": one.certificate.residual, "plan": {name: float(v) for name, v in zip(one.columns, one.spend.sum(0), strict=True)},
        "written": {name: float(v) for name, v in zip(one.columns, one.written.sum(0), strict=True)},
        "checked": float(one.halved.mean) if one.halved is not None else None,
        "promise": float(one.promise.mean), "promise_80": [float(end) for end in one.promise.ends()],
        "rehearsal": {k: v.tolist() for k, v in one.rehearsal._asdict().items()} if one.rehearsal else None,
        "scenarios": {str(n): float(c) for n, c in zip(*(found.scenarios.rows()[k] for k in ("scenario", "change")), strict=True)} if found.scenarios else {},
        "opinions": {net: {name: float(band.mean) for name, band in gains.items()} for net, gains in found.opinions.items()},
        "scores": {name: {k: float(v) for k, v in s.items()} for name, s in found.backtest.scores().items()} if found.backtest else {},
        "limits": list(limits), "notes": [*job.notes, *one.notes], "seconds": round(seconds, 3),
    }  # fmt: skip


def _by_net(curves: Mapping[str, Curve]) -> dict[str, np.ndarray]:
    """The curves of one control by every net, one under the other."""
    rows = {net: curve.rows() for net, curve in curves.items()}
    nets = np.concatenate([np.full(len(next(iter(one.values()))), net, dtype=object) for net, one in rows.items()])
    return {"net": nets, **{key: np.concatenate([one[key] for one in rows.values()]) for key in next(iter(rows.values()))}}


def _file(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
