"""Why a detector's score is what it is at a row: Shapley values of its sensors against the nearest normal windows.

A score is made of medians, largest values and the strongest sensors; it has no slopes that say much, so it is only called. What is
explained is the score itself, not what a method rebuilt: each sensor's part is what the score would lose, on average over all
orders, if that sensor had run as in a normal window like this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..attribution.groups import by_segment, even_cuts
from ..attribution.removal import lime, occlusion, shapley, temporal_lime
from ..attribution.types import Attribution, Baseline, Blocks, Groups, Labels
from ..clock import Clock
from ..detect.detector import Detector
from ..detect.runs import Run, rows_of
from ..errors import TaskError, nearest
from ..forecaster import When, step_of
from ..panel import Panel

CALLED = ("shapley", "lime", "temporal_lime", "occlusion")
NEAREST = 4  # normal windows that stand in for a sensor's own
SENSORS = 8  # told apart; all others are one
STRETCHES = 6  # of a window, for occlusion
FAR = 9.0  # squared deviations beyond which a sensor is no nearer or farther: a fault must not choose its own neighbours


@dataclass(frozen=True, eq=False)
class Watched:
    """The rows that a score depends on: raw values of the judged channels, what was observed of them, and where the scored row stands."""

    run: Run
    row: int  # of the (aggregated) rows of the run
    values: Float[Tensor, "step channel"]
    seen: Bool[Tensor, "step channel"]


def explain_score(
    guard: Detector, panel: Panel, origin: When | Sequence[When] | None, method: str, baseline: str | Baseline | Panel | None, groups: Groups | None
) -> Attribution:
    """[window, 1, step, sensor] parts of the score at each row of `origin` (left out: each run's highest), base + Σ + residual = score.

    The base is the score of the nearest normal windows: of `baseline`, a Panel of normal runs, or of the panel itself where no
    alarm is. TaskError for a row whose score is not known, or where there is no normal window.
    """
    if method not in ("auto", *CALLED):
        raise TaskError(f"{method} does not work for a detector: its score is only called; {nearest(method, ['auto', *CALLED])}")
    runs = rows_of(panel, guard.inputs)
    scored = [guard.judge(guard.kept(run.rows)).score for run in runs]
    some = [watched(guard, run, at) for run, at in chosen_rows(guard, panel, runs, scored, origin)]
    blocks = {"rows": torch.stack([w.values for w in some])}
    seen = torch.stack([w.seen for w in some])
    against = baseline if isinstance(baseline, Baseline) else nearest_normal(guard, some, panel, baseline)

    def f(given: Blocks) -> Tensor:
        rows = given["rows"].masked_fill(~seen.repeat(len(given["rows"]) // len(seen), 1, 1), torch.nan)
        return torch.stack([guard.judge(one).score[guard.memory] for one in rows])[:, None]

    told = groups or sensors(guard, blocks, some, STRETCHES if method == "occlusion" else 1)
    if method == "occlusion":
        found = occlusion(f, blocks, against, told)
    elif method == "temporal_lime":
        found = temporal_lime(f, blocks, against, {"rows": even_cuts(blocks["rows"].shape[1], STRETCHES)})
    else:
        found = lime(f, blocks, against, told) if method == "lime" else shapley(f, blocks, against, told)
    return replace(found, labels=labelled(guard, some), facts={**found.facts, "limit": guard.limit().value, "season": 1.0})


def chosen_rows(guard: Detector, panel: Panel, runs: Sequence[Run], scored: Sequence[Tensor], origin: When | Sequence[When] | None) -> list[tuple[Run, int]]:
    """(run, row) of what is explained: the moments asked for, or the highest score of each run."""
    if origin is None:
        return [(run, int(torch.nan_to_num(score, nan=-torch.inf).argmax())) for run, score in zip(runs, scored, strict=True)]
    every, found = guard.prepared.spec.aggregate, []
    for when in origin if isinstance(origin, Sequence) and not isinstance(origin, str) else [origin]:
        step = step_of(panel.clock, when)
        for run, score in zip(runs, scored, strict=True):
            at = (step - run.start) // every
            if not 0 <= at < len(score) or bool(score[at].isnan()):
                raise TaskError(f'the run "{run.name}" has no score at {panel.clock.local(np.array([step]))[0]}: too little is observed before or after it')
            found.append((run, at))
    return found


def observed(guard: Detector, panel: Panel, when: When) -> Float[Tensor, "step channel"]:
    """What the window of a row held, of a panel of one run; NaN where nothing was observed."""
    runs = rows_of(panel, guard.inputs)
    scored = [guard.judge(guard.kept(run.rows)).score for run in runs]
    (run, row), *_ = chosen_rows(guard, panel, runs, scored, when)
    one = watched(guard, run, row)
    return one.values.masked_fill(~one.seen, torch.nan)


def watched(guard: Detector, run: Run, row: int) -> Watched:
    """The window of a row; what lies beyond the run's ends, or was not observed, counts as not observed."""
    every = guard.prepared.spec.aggregate
    rows = guard.kept(run.rows)
    low, high = (row - guard.memory) * every, (row + guard.delay + 1) * every
    whole = torch.full((high - low, rows.shape[1]), torch.nan, dtype=rows.dtype)
    inside = rows[max(low, 0) : max(high, 0)]
    whole[max(-low, 0) : max(-low, 0) + len(inside)] = inside
    return Watched(run, row, torch.nan_to_num(whole), whole.isfinite())


def nearest_normal(guard: Detector, some: Sequence[Watched], panel: Panel, baseline: str | Panel | None) -> Baseline:
    """The windows of normal rows that are most like each of these, sensor by sensor."""
    if isinstance(baseline, str) and baseline not in ("typical", "normal"):
        raise TaskError(f'no baseline "{baseline}" of a detector: take "normal", or give a Panel of normal runs')
    own = not isinstance(baseline, Panel)
    normal = list(normal_windows(guard, panel if not isinstance(baseline, Panel) else baseline, own=own))
    if not normal:
        raise TaskError("no window without an alarm to compare with: give a Panel of normal runs as baseline=")
    every = torch.stack([w.values for w in normal])
    width = every.flatten(0, 1).std(0).clamp(min=1e-9)
    draws = []
    for one in some:
        apart = ((every - one.values) / width).square().mean(1).clamp(max=FAR).mean(1)
        near = apart.argsort(stable=True)[:NEAREST]
        draws.append(every[near.repeat(-(-NEAREST // len(near)))[:NEAREST]])
    return Baseline({"rows": torch.stack(draws, 1)}, "normal")


def normal_windows(guard: Detector, panel: Panel, *, own: bool) -> list[Watched]:
    """Windows at even distances of which half is observed, gaps bridged; `own`: of the panel that is explained, only those without an
    alarm, or, where all have one, the quarter with the lowest scores."""
    found, heights, width = [], [], guard.memory + guard.delay + 1
    for run in rows_of(panel, guard.inputs):
        score = torch.nan_to_num(guard.judge(guard.kept(run.rows)).score)
        for row in range(guard.memory, len(score) - guard.delay, max(1, width // 8)):
            one = watched(guard, run, row)
            if float(one.seen.double().mean(0).min()) >= 0.5:
                found.append(replace(one, values=bridged(one)))
                heights.append(float(score[row - guard.memory : row + guard.delay + 1].max()))
    if not own or not found:
        return found
    calm = guard.limit().value if min(heights) <= guard.limit().value else sorted(heights)[len(heights) // 4]
    return [one for one, height in zip(found, heights, strict=True) if height <= calm]


def bridged(one: Watched) -> Float[Tensor, "step channel"]:
    """Gaps filled with the value before, at the beginning with the first one seen."""
    step = torch.arange(len(one.seen))[:, None]
    last = torch.where(one.seen, step, -1).cummax(0).values
    first = torch.where(one.seen, step, len(one.seen)).amin(0)
    return one.values.gather(0, torch.where(last < 0, first, last))


def sensors(guard: Detector, blocks: Blocks, some: Sequence[Watched], stretches: int) -> Groups:
    """The sensors of the highest scores of their own, each a group (or one a stretch of time); the others together."""
    own = torch.stack([torch.nan_to_num(guard.judge(w.values.masked_fill(~w.seen, torch.nan)).channel[guard.memory]) for w in some]).mean(0)
    kept = own.argsort(descending=True, stable=True)[:SENSORS].tolist()
    names = [c if at in kept or len(own) <= SENSORS + 1 else "all others" for at, c in enumerate(guard.channels)]
    cuts = even_cuts(blocks["rows"].shape[1], stretches) if stretches > 1 else []
    return by_segment(blocks, {"rows": cuts} if cuts else {}, {"rows": names})


def labelled(guard: Detector, some: Sequence[Watched]) -> Labels:
    """Runs, times of the rows read and of the row scored."""
    every = guard.prepared.spec.aggregate
    clock: Clock = some[0].run.clock
    first = torch.tensor([w.run.start + (w.row - guard.memory) * every for w in some])
    steps = first[:, None] + torch.arange(some[0].values.shape[0])
    at = torch.tensor([[w.run.start + w.row * every] for w in some])
    return Labels(
        tuple(w.run.name for w in some), ("score",), {"rows": guard.channels}, {"rows": clock.local(steps.numpy())}, clock.local(at.numpy()), "score"
    )  # fmt: skip
