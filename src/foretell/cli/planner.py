"""The plan command: from a file of spend and revenue to the budget that pays, with both nets' opinions and a report."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Group, Parameter

from .. import plan as planning
from ..backtesting import Fit, backtest
from ..errors import TaskError
from ..forecaster import Forecaster
from ..panel import Panel, calendar_of
from ..plan import Goal, Plan
from ..plan.bounds import Bounds
from ..planreport import Planned, plan_report
from ..reading import Reading
from ..scoreboard import Backtest
from ..storage import save
from ..task import Task, roles_of
from . import flags, runs
from .asked import opened, suited, with_future
from .flags import Output, ReadingFlags, Words, given
from .screen import Screen, plain

PLAN = Group.create_ordered("The plan")
RESPONSE, FLEXIBLE = "response net", "flexible net"
AHEAD = {"W": 13, "D": 28, "MS": 3, "ME": 3}  # steps planned if nothing is said: a quarter, four weeks
SHORT = 7  # a horizon is at most this part of the history


def _help(text: str) -> Parameter:
    return Parameter(help=text, negative=())


@dataclass(frozen=True)
class Wish:
    """What is to be planned."""

    target: Annotated[str, _help("column of revenue or sales")]
    controls: Annotated[
        Words, _help("columns of spend with their bounds a step: tv:0..50000,search:0..20000; a name alone: 0 to the most it ever was; tv:900 fixed")
    ]
    budget: Annotated[float | None, _help("most to spend over all steps; left out: the mean spend of the last year, every step")] = None
    goal: Annotated[Literal["revenue", "profit", "roas"], _help("what is made large")] = "revenue"
    margin: Annotated[float, _help("profit a unit of the target brings, for --goal profit")] = 1.0
    roas: Annotated[float | None, _help("least attributable target per unit spent, for --goal roas")] = None
    risk: Annotated[float, _help("0: plan for the mean; 0.1: for the gain that nine of ten members exceed")] = 0.0
    least_change: Annotated[float, _help("a control whose total would change by less stays as written")] = 0.0
    follows: Annotated[Words, _help("columns that a control causes: clicks=search")] = ()
    known: Annotated[Words, _help("other columns known ahead, such as holidays or prices")] = ()
    future: Annotated[Path | None, _help("file with the known columns after the last target; spend written there is the plan to compare with")] = None
    horizon: Annotated[int | None, _help("steps to plan; left out: 13 weeks, 28 days, 3 months")] = None
    context: Annotated[int | None, _help("steps the nets look back; left out: as many as are planned")] = None
    use: Annotated[Literal["response", "flexible"], _help("the net to plan with; the other one gives its opinion")] = "response"
    members: Annotated[int, _help("nets of an ensemble")] = 12
    epochs: Annotated[int, _help("passes of the response net over the data")] = 120
    seed: Annotated[int, _help("of every random number")] = 0


@dataclass(frozen=True, eq=False)
class Job:
    """What was read, and what is asked of it."""

    source: str
    how: Reading
    panel: Panel
    task: Task
    bounds: Mapping[str, Bounds]
    follows: Mapping[str, str]
    budget: float
    notes: tuple[str, ...]


def plan(
    data: Annotated[Path, Parameter(help="file of one series: csv, parquet, packed or not")], /, *,
    wish: Annotated[Wish, Parameter(name="*", group=PLAN)],
    output: Annotated[Output | None, Parameter(name="*", group=flags.OUTPUT)] = None,
    reading: Annotated[ReadingFlags | None, Parameter(name="*", group=flags.READING)] = None,
) -> None:  # fmt: skip
    """Find the budget that pays: fit a media-mix net and a flexible net, plan with one, let the other judge, and write a report.

    Typing the file, --target, --controls and --budget is enough.
    """
    began, output = perf_counter(), output or Output()
    shown = Screen(output.quiet, output.json)
    place = runs.place(output, f"foretell-{data.name.split('.')[0] or 'data'}-plan")
    job = _job(data, wish, given(reading), shown)
    fits = _fits(job, wish)
    shown.remark(f"fitting the {RESPONSE} and the {FLEXIBLE}, {wish.members} members each")
    models = {name: fit(job.panel) for name, fit in fits.items()}
    goal = Goal(kind=wish.goal, margin=wish.margin, roas=wish.roas, risk=wish.risk)
    made = {name: _made(model, job, goal, wish) for name, model in models.items()}
    used = RESPONSE if wish.use == "response" else FLEXIBLE
    opinions = {
        net: {name: planning.judge(model, job.panel, one, tuple(job.bounds), follows=job.follows) for name, one in made.items()}
        for net, model in models.items()
    }
    shown.remark("testing both nets on the last steps")
    origin = int(job.panel.last(wish.target)[0])
    found = Planned(
        used, made[used], {name: one for name, one in made.items() if name != used}, opinions,
        tuple(planning.response(models[used], job.panel, name) for name in job.bounds),
        planning.limits(job.panel, wish.target, tuple(job.bounds), origin), _tested(job, wish),
    )  # fmt: skip
    _leave(found, job, models[used], place, output, shown, perf_counter() - began)


def _job(data: Path, wish: Wish, typed: Mapping[str, Any], shown: Screen) -> Job:
    bounds, follows = _bounds(wish.controls), _follows(wish.follows)
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
    return Job(str(data), how, panel, task, full, follows, budget, tuple(notes))


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
        raise TaskError("--controls names no column: write tv:0..50000,search:0..20000")
    return found


def _follows(words: Words) -> dict[str, str]:
    found = {}
    for word in (part for text in words for part in text.split(",") if part):
        name, sign, control = word.partition("=")
        if not sign or not control:
            raise TaskError(f"--follows {word}: write column=control, as in clicks=search")
        found[name] = control
    return found


def _fits(job: Job, wish: Wish, members: int | None = None) -> dict[str, Fit]:
    count = members or wish.members
    media = tuple(job.bounds)
    constrained: Callable[[Panel], Forecaster] = partial(planning.fit_media, task=job.task, media=media, members=count, epochs=wish.epochs, seed=wish.seed)
    flexible: Callable[[Panel], Forecaster] = partial(planning.fit_flexible, task=job.task, members=count, epochs=min(60, wish.epochs), seed=wish.seed)
    return {RESPONSE: constrained, FLEXIBLE: flexible}


def _made(model: Forecaster, job: Job, goal: Goal, wish: Wish) -> Plan:
    return planning.allocate(model, job.panel, job.budget, job.bounds, goal=goal, follows=job.follows, least_change=wish.least_change)


def _tested(job: Job, wish: Wish) -> Backtest | None:
    """Both nets on the last horizon of the history, which they have not seen; None where it is too short for that."""
    steps = int(job.panel.last(wish.target)[0] - job.panel.start[0]) + 1
    if steps < 6 * (job.task.horizon + (job.task.context if isinstance(job.task.context, int) else 0)) // 2:
        return None
    return backtest(_fits(job, wish, members=min(4, wish.members)), job.panel, task=job.task, windows=1, step=job.task.horizon)


def _leave(found: Planned, job: Job, model: Forecaster, place: runs.Place, output: Output, shown: Screen, seconds: float) -> None:
    one = found.plan
    facts = _facts(found, job, seconds)
    with runs.staged(place) as folder:
        save(model, folder / runs.MODEL)
        runs.write_table(folder, "plan", one.cells(), output.format)
        runs.write_table(folder, "controls", one.rows(), output.format)
        for curve in found.curves:
            runs.write_table(folder, f"curve-{_file(curve.channel)}", curve.rows(), output.format)
        (folder / runs.METRICS).write_text(json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")
        plan_report(folder / runs.REPORT, found, lang=output.lang, title=output.title)
        names = sorted(file.name for file in folder.iterdir())
    for line in one.summary().splitlines():
        shown.show(line)
    shown.table({name: [_cell(v) for v in values] for name, values in one.rows().items()})
    for net, gains in found.opinions.items():
        shown.show(f"according to the {net}: " + "; ".join(f"plan of the {name} gains {band.told()}" for name, band in gains.items()))
    shown.show("What these data cannot tell:")
    for sentence in found.limits:
        shown.show(f"  - {sentence}")
    shown.show(f"report: {place.path / runs.REPORT}")
    shown.document({**facts, "folder": str(place.path), "files": names})


def _facts(found: Planned, job: Job, seconds: float) -> dict[str, Any]:
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
        "opinions": {net: {name: float(band.mean) for name, band in gains.items()} for net, gains in found.opinions.items()},
        "scores": {name: {k: float(v) for k, v in s.items()} for name, s in found.backtest.scores().items()} if found.backtest else {},
        "limits": list(found.limits), "notes": [*job.notes, *one.notes], "seconds": round(seconds, 3),
    }  # fmt: skip


def _cell(value: object) -> str:
    return str(value) if isinstance(value, str) else f"{float(np.float64(str(value))):,.4g}" if abs(float(str(value))) < 1000 else f"{float(str(value)):,.0f}"


def _file(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
