"""Check: what a file holds, what is wrong with it, and what a task would lack, before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..clock import Clock
from ..errors import ForetellError, nearest
from ..frames import Columns, Native, to_frame
from ..panel import Panel
from ..periods import dominant
from ..task import Task
from .options import Reading, combined
from .panels import draft
from .same_step import giveaways
from .tables import Log, Source

TARGETS = (
    "y",
    "target",
    "usage",
    "load",
    "demand",
    "sales",
    "units",
    "quantity",
    "consumption",
    "power",
    "value",
    "revenue",
    "price",
    "ot",
    "사용량",
    "판매량",
    "수요",
    "전력사용량",
    "매출",
)
LISTED = 5
SAMPLE, RECENT = 64, 20_000  # series and steps in which a period is sought


@dataclass(frozen=True, eq=False)
class Check:
    """What `check` found. `rows`: steps of all series at which the target is observed; `gaps`: those between at which it is not; `worst`: the
    series with most of them, and how many. `problems` keep the source from being read, or tell a model nothing; `lacks` keep the task from
    being answered; `notes` say what was taken for granted."""

    name: str
    series: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    step: str = ""
    zone: str | None = None
    first: str = ""
    last: str = ""
    rows: int = 0
    gaps: int = 0
    worst: tuple[str, int] = ("", 0)
    target: str = ""
    guessed: bool = True
    period: int = 1
    strength: float = 0.0
    encoding: str = ""
    facts: Columns = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    native: Native = "polars"

    @property
    def ok(self) -> bool:
        """True if nothing keeps the source from being read and the task from being answered."""
        return not self.problems and not self.lacks

    def frame(self) -> Any:
        """One row a channel: how often observed, missing, zero, negative; least, mean, most; in how many series constant."""
        return to_frame(self.facts, self.native)

    def __str__(self) -> str:
        parts = [f"{self.name}: {_summary(self)}" if self.series else f"{self.name} could not be read"]
        if self.series:
            parts += [_lines(self), _grid(self.facts)]
        parts += [_listed(title, lines) for title, lines in (("Problems", self.problems), ("The task lacks", self.lacks), ("Notes", self.notes)) if lines]
        parts += ["Nothing wrong found."] if self.ok else []
        return "\n\n".join(parts)


def check(
    source: Source,
    task: Task | None = None,
    *,
    reading: Reading | None = None,
    id: str | Sequence[str] | None = "auto",
    time: str | Sequence[str] | None = "auto",
    channels: Sequence[str] | None = None,
    step: str | None = None,
    resample: str | None = None,
) -> Check:
    """Reads as `read` would, or takes a Panel, but goes on after a problem, to name them all; raises nothing it can describe."""
    log = Log(strict=False)
    name = (
        "panel"
        if isinstance(source, Panel)
        else str(getattr(source, "name", source)).rsplit("/", 1)[-1]
        if isinstance(source, str) or _is_path(source)
        else "data"
    )
    try:
        if isinstance(source, Panel):
            return _checked(source, task, log, name, "")
        whole = combined(reading, {"id": id, "time": time, "channels": channels, "step": step, "resample": resample})
        read = draft(source, whole, log)
    except ForetellError as error:
        return Check(name, problems=(*log.problems, str(error)), notes=tuple(log.notes))
    return _checked(read.panel, task, log, name, read.encoding)


def _is_path(source: object) -> bool:
    import os

    return isinstance(source, os.PathLike)


def _checked(panel: Panel, task: Task | None, log: Log, name: str, encoding: str) -> Check:
    seen = torch.stack([panel.channel(c).isfinite() for c in panel.channels]).any(0)
    first, last = _ends(panel, seen)
    asked = [t for t in task.target if t in panel.channels] if task else []
    target, guessed = (asked or [suggested_target(panel)])[0], not asked
    period, strength = suggested_period(panel, target)
    known = panel.channel(target).isfinite()
    gaps = _gaps(known)
    worst = int(gaps.argmax())
    return Check(
        name, panel.series, panel.channels, panel.common, tuple(panel.labels), panel.clock.step, panel.clock.zone, first, last,
        int(known.sum()), int(gaps.sum()), (panel.series[worst], int(gaps[worst])), target, guessed, period, strength, encoding, _facts(panel),
        (*log.problems, *_silent(panel)), lacks_of(panel, task) if task else (), (*log.notes, *(giveaways(panel, task) if task else ())), panel.names.native,
    )  # fmt: skip


def _gaps(seen: Tensor) -> Tensor:
    """Unobserved steps between the first and the last observed one [series]."""
    count = seen.shape[1]
    at = torch.arange(count)
    first = torch.where(seen, at, count).amin(1)
    last = torch.where(seen, at, -1).amax(1)
    return (last - first + 1 - seen.sum(1)).clamp(min=0)


def _ends(panel: Panel, seen: Tensor) -> tuple[str, str]:
    if not seen.any():
        return "", ""
    series, row = seen.nonzero(as_tuple=True)
    step = panel.start[series] + row
    return _time(panel.clock, int(step.min())), _time(panel.clock, int(step.max()))


def _time(clock: Clock, step: int) -> str:
    return str(clock.local(step)).replace("T", " ").removesuffix(":00") if clock.sub_daily else str(clock.local(step))[:10]


# ---------------------------------------------------------------- channels


def _facts(panel: Panel) -> Columns:
    rows = [_fact(panel, name) for name in panel.channels]
    return {key: np.array([row[key] for row in rows], dtype=object if key == "channel" else None) for key in rows[0]}


def _fact(panel: Panel, name: str) -> dict[str, str | int | float]:
    values = panel.channel(name)
    seen = values.isfinite()
    known = values[seen].double()
    constant = int((_spread(values) == 0).sum())
    low, mean, high = (float(known.min()), float(known.mean()), float(known.max())) if len(known) else (np.nan,) * 3
    inside = int(_gaps(seen).sum()) if len(known) else int(seen.numel())
    return {
        "channel": name, "observed": int(seen.sum()), "missing": inside, "zeros": int((known == 0).sum()), "negative": int((known < 0).sum()),
        "min": low, "mean": mean, "max": high, "constant in": constant,
    }  # fmt: skip


def _spread(values: Float[Tensor, "series time"]) -> Float[Tensor, " series"]:
    """Largest minus least observed value; NaN where nothing is observed."""
    seen = values.isfinite()
    high, low = values.masked_fill(~seen, -torch.inf).amax(1), values.masked_fill(~seen, torch.inf).amin(1)
    return torch.where(seen.any(1), high - low, torch.nan)


def _silent(panel: Panel) -> tuple[str, ...]:
    """Sentences on what never changes or is never observed."""
    spread = torch.stack([_spread(panel.channel(c)) for c in panel.channels], 1)
    found = []
    for state, mark in (("is never observed", spread.isnan()), ("never changes", spread == 0)):
        whole = [c for c, all_of in zip(panel.channels, mark.all(0).tolist(), strict=True) if all_of]
        if whole:
            found.append(f"{_names('channel', whole)} {_plural(state, len(whole))}: a model learns nothing from {'it' if len(whole) == 1 else 'them'}")
        partly = mark & ~mark.all(0)
        for at in partly.any(0).nonzero().flatten().tolist():
            series = [panel.series[i] for i in partly[:, at].nonzero().flatten().tolist()]
            found.append(f'channel "{panel.channels[at]}" {state} in {_names("series", series)}')
    return tuple(found)


def _plural(state: str, count: int) -> str:
    return state if count == 1 else state.replace("is ", "are ").replace("changes", "change")


def _names(what: str, names: Sequence[str]) -> str:
    listed = ", ".join(f'"{n}"' for n in names[:LISTED]) + (", …" if len(names) > LISTED else "")
    plural = what if what.endswith("s") else what + "s"
    return f"{what} {listed}" if len(names) == 1 else f"{len(names)} {plural} ({listed})"


def suggested_target(panel: Panel) -> str:
    """The channel most likely asked for: a usual name, else the last that differs by series and changes."""
    moving = [c for c in panel.channels if (_spread(panel.channel(c)) > 0).any()]
    exact = sorted((c for c in moving if c.lower() in TARGETS), key=lambda c: TARGETS.index(c.lower()))
    part = [c for c in moving if any(len(word) > 3 and word in c.lower() for word in TARGETS)]
    own = [c for c in moving if c in panel.own]
    return (exact or part or own[-1:] or list(panel.channels))[0]


def suggested_period(panel: Panel, channel: str) -> tuple[int, float]:
    """The period that most series have as their strongest, and the share of variance it explains in the middle one of them; (1, 0) if none."""
    found = dominant(panel.channel(channel)[:SAMPLE, -RECENT:], 1)
    length, strength = found.length[:, 0], found.strength[:, 0]
    if not (length > 1).any():
        return 1, 0.0
    period = int(length[length > 1].mode().values)
    return period, float(strength[length == period].median())


# ---------------------------------------------------------------- the task


def lacks_of(panel: Panel, task: Task) -> tuple[str, ...]:
    """What keeps the task from being answered by the panel, one sentence each."""
    roles = (("target", task.target, panel.channels), ("known", task.known, panel.every_channel), ("past", task.past or (), panel.channels))
    missing = [f'{role} channel "{n}" is not there; {nearest(n, valid)}' for role, names, valid in roles for n in names if n not in valid]
    targets = [t for t in task.target if t in panel.channels]
    if not targets:
        return tuple(missing)
    known = [k for k in task.known if k in panel.channels]
    future = [s for k in known if (s := _future(panel, task, targets, k))]
    return (*missing, *_short(panel, task, targets), *future)


def _short(panel: Panel, task: Task, targets: Sequence[str]) -> list[str]:
    context = task.steps_back(panel.clock)
    seen = torch.stack([panel.channel(t).isfinite() for t in targets]).all(0)
    first = torch.where(seen, torch.arange(seen.shape[1]), seen.shape[1]).amin(1)
    length = (panel.last(*targets) - panel.start - first + 1).clamp(min=0)
    short = (length < context + task.horizon).nonzero().flatten().tolist()
    if not short:
        return []
    told = ", ".join(f'"{panel.series[i]}" has {int(length[i])}' for i in short[:LISTED]) + (", …" if len(short) > LISTED else "")
    return [f"{len(short)} of {len(panel)} series are shorter than context + horizon ({context} + {task.horizon} = {context + task.horizon} steps): {told}"]


def _future(panel: Panel, task: Task, targets: Sequence[str], name: str) -> str:
    values = panel.channel(name)
    last = panel.last(*targets) - panel.start
    rows = last[:, None] + torch.arange(1, task.horizon + 1)
    there = (rows < values.shape[1]) & values.gather(1, rows.clamp(max=values.shape[1] - 1)).isfinite()
    lacking = (~there).any(1).nonzero().flatten().tolist()
    if not lacking:
        return ""
    one = lacking[0]
    step = int(panel.start[one] + rows[one][~there[one]][0])
    whose = f' for {len(lacking)} of {len(panel)} series, first "{panel.series[one]}"' if len(panel) > 1 else ""
    return (
        f'known channel "{name}" lacks {int((~there[one]).sum())} of the {task.horizon} steps ahead{whose}, from {_time(panel.clock, step)}: '
        f"give them in a file by --future (in Python panel.extend(frame) or predict(future=frame)), or leave it out of known"
    )


# ---------------------------------------------------------------- as text


def _summary(found: Check) -> str:
    series = f"{len(found.series)} series" if len(found.series) != 1 else "one series"
    return f"{series}, {found.first} … {found.last}, one step is {found.step}{f' ({found.zone})' if found.zone else ''}"


def _lines(found: Check) -> str:
    total = found.rows + found.gaps
    share = f", {found.gaps} steps missing ({found.gaps / total:.2%})" if found.gaps else ", no gaps"
    worst = f'; most in "{found.worst[0]}": {found.worst[1]}' if found.gaps and len(found.series) > 1 else ""
    lines = [f"rows     {found.rows}{share}{worst}"]
    lines += [f"target   {found.target}{' (a guess)' if found.guessed else ''}"]
    lines += [f"period   {found.period} steps (explains {found.strength:.0%} of the variance)" if found.period > 1 else "period   none found"]
    lines += [f"shared   {', '.join(found.common)} (the same for all series)"] if found.common else []
    lines += [f"labels   {', '.join(found.labels)}"] if found.labels else []
    return "\n".join(line for line in lines if line)


def _grid(facts: Columns, limit: int = 30) -> str:
    """The facts as an aligned table of at most `limit` channels."""
    names = list(facts)
    rows = [names] + [[_cell(facts[n][i]) for n in names] for i in range(min(limit, len(facts["channel"])))]
    widths = [max(len(r[at]) for r in rows) for at in range(len(names))]
    lines = ["  ".join(c.ljust(w) if at == 0 else c.rjust(w) for at, (c, w) in enumerate(zip(r, widths, strict=True))) for r in rows]
    more = len(facts["channel"]) - limit
    return "\n".join(lines + ([f"… and {more} more channels"] if more > 0 else []))


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _listed(title: str, lines: Sequence[str]) -> str:
    return f"{title}:\n" + "\n".join(f"  - {line}" for line in lines)
