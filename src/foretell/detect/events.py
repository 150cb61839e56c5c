"""Events: runs of high scores as alarms with start, stop, peak, severity and the channels to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn.functional import max_pool1d

from ..clock import Clock
from ..errors import TaskError
from ..frames import html_table, to_frame
from ..panel import NAMES, Names
from ..spec import Spec
from . import threshold
from .threshold import Limit

SPANS = {"hour": 24.0, "day": 1.0, "week": 1 / 7, "month": 1 / 30.44, "year": 1 / 365.25}
NAMED = 5  # channels listed with an event

Line = Float[Tensor, " time"]
Ends = Int[Tensor, "event 2"]


class Alarms(Spec):
    """What is an alarm. `threshold`: "calibrated" to `false_alarms` ("1/day", "2/week") on normal runs, "sigma" (mean and k deviations),
    "robust" (median and k), "spot" (a share `rate` of normal rows, by their tail), all from normal scores alone;
    "dynamic" from the scored run itself, at its lowest cost within `z_range`.

    `window` and `step` roll the dynamic threshold over the run (rows; None: the whole run at once). `release`: an alarm lasts until
    the score falls below this share of the limit. `prune`: least relative drop from an alarm's peak to the next lower one (0: all stay).
    `padding` widens alarms on both sides, `merge` joins those with at most so many rows between them, then those shorter
    than `shortest` rows are dropped.
    """

    threshold: Literal["calibrated", "sigma", "robust", "spot", "dynamic"] = "calibrated"
    false_alarms: str | float = "1/day"
    k: float = Field(default=4.0, gt=0)
    rate: float = Field(default=1e-4, gt=0, lt=0.5)
    z_range: tuple[float, float] = (0.0, 10.0)
    window: int | None = Field(default=None, ge=2)
    step: int | None = Field(default=None, ge=1)
    release: float = Field(default=1.0, gt=0, le=1)
    prune: float = Field(default=0.0, ge=0, lt=1)
    padding: int = Field(default=0, ge=0)
    merge: int = Field(default=0, ge=0)
    shortest: int = Field(default=1, ge=1)

    @field_validator("false_alarms")
    @classmethod
    def _a_rate(cls, value: str | float) -> str | float:
        per_day(value)
        return value

    @model_validator(mode="after")
    def _at_odds(self) -> Self:
        if self.z_range[0] >= self.z_range[1]:
            raise TaskError(f"Alarms: z_range must rise, as (0, 10); got {self.z_range}")
        if self.step and not self.window:
            raise TaskError(f"Alarms: step={self.step} moves a window, and no window= is given")
        if self.window and self.threshold != "dynamic":
            raise TaskError(f'Alarms: window={self.window} rolls the "dynamic" threshold; the "{self.threshold}" one comes from normal runs')
        return self


def per_day(rate: str | float) -> float:
    """ "1/day" → 1.0, "2/week" → 0.29; a number is alarms a day.

    >>> per_day("1/day"), per_day("3/hour")
    (1.0, 72.0)
    """
    number, _, span = str(rate).partition("/")
    span = span.strip().removesuffix("s") or "day"
    try:
        value = float(number) * SPANS[span]
    except (ValueError, KeyError):
        raise TaskError(f'false alarms are a number a {", ".join(SPANS)}, as "1/day"; got "{rate}"') from None
    if not 0 < value < float("inf"):
        raise TaskError(f'a rate of false alarms must be above 0, as "1/day"; got "{rate}"')
    return value


def widened(above: Bool[Tensor, " time"], rows: int) -> Bool[Tensor, " time"]:
    """True within so many rows of a True."""
    return above if not rows or not len(above) else max_pool1d(above[None, None].float(), 2 * rows + 1, 1, rows)[0, 0] > 0


def held(above: Bool[Tensor, " time"], still: Bool[Tensor, " time"]) -> Bool[Tensor, " time"]:
    """Each run of `still` (which holds wherever `above` does) from its first row above on."""
    row = torch.arange(len(above))
    broken = torch.where(still, -1, row).cummax(0).values if len(row) else row
    began = torch.where(above, row, -1).cummax(0).values if len(row) else row
    return still & (began > broken)


def runs_of(mask: Bool[Tensor, " time"]) -> Ends:
    """First and last row of every run of True."""
    edge = torch.diff(mask.int(), prepend=torch.zeros(1, dtype=torch.int32), append=torch.zeros(1, dtype=torch.int32))
    return torch.stack([(edge == 1).nonzero()[:, 0], (edge == -1).nonzero()[:, 0] - 1], 1)


def largest_outside(errors: Line, mask: Bool[Tensor, " time"]) -> float:
    """The largest error that is in no run; 0 if all are."""
    left = errors[~mask & ~errors.isnan()]
    return float(left.max()) if len(left) else 0.0


def peaks(errors: Line, ends: Ends) -> Float[Tensor, " event"]:
    """The largest error of each run."""
    found = [torch.where(part.isnan(), -torch.inf, part).max() for part in (errors[a : b + 1] for a, b in ends.tolist())]
    return torch.stack(found) if found else errors.new_zeros(0)


def pruned(ends: Ends, peak: Float[Tensor, " event"], below: float, least: float) -> Int[Tensor, " kept"]:
    """Which events stay, highest first: all down to the last one whose peak is at least a share `least` above the next lower
    one, `below` being the lowest. Hundman et al. (2018), section 3.4."""
    order = peak.argsort(descending=True, stable=True)
    high = peak[order]
    follow = torch.cat([high[1:], high.new_tensor([below])])
    enough = ((high - follow) / high >= least).nonzero()[:, 0]
    return order[: int(enough[-1]) + 1] if len(enough) else order[:0]


def severity(peak: Float[Tensor, " event"], limit: float, usual: float) -> Float[Tensor, " event"]:
    """How far a peak lies above the limit, in units of `usual`: mean plus standard deviation of the normal scores."""
    return (peak - limit) / usual


class Found(NamedTuple):
    """Alarms of one run: first and last row, the row of the peak, its score."""

    ends: Ends
    at: Int[Tensor, " event"]
    peak: Float[Tensor, " event"]


def find(score: Line, limit: float, how: Alarms) -> Found:
    """The alarms of one run of scores under a given limit; rows without a score are never in one by themselves."""
    known = torch.where(score.isnan(), -torch.inf, score.double())
    above = known > limit
    above = held(above, known > how.release * limit) if how.release < 1 else above
    mask = widened(above, how.padding)
    ends = runs_of(mask)
    if how.prune and len(ends):
        ends = ends[pruned(ends, peaks(known, ends), largest_outside(known, mask | ~known.isfinite()), how.prune).sort().values]
    ends = joined(ends, how.merge)
    ends = ends[ends[:, 1] - ends[:, 0] + 1 >= how.shortest]
    at = torch.tensor([a + int(known[a : b + 1].argmax()) for a, b in ends.tolist()], dtype=torch.long)
    return Found(ends, at, known[at])


def find_dynamic(score: Line, how: Alarms) -> Found:
    """Alarms under the dynamic threshold of each window of the run, brought together where they touch."""
    width = min(how.window or len(score), len(score))
    step = how.step or width
    mask = torch.zeros(len(score), dtype=torch.bool)
    for first in range(0, max(1, len(score) - width + step), step):
        part = score[first : first + width]
        for a, b in find(part, threshold.dynamic(part, how.z_range), how).ends.tolist():
            mask[first + a : first + b + 1] = True
    known = torch.where(score.isnan(), -torch.inf, score.double())
    ends = joined(runs_of(mask), how.merge)
    at = torch.tensor([a + int(known[a : b + 1].argmax()) for a, b in ends.tolist()], dtype=torch.long)
    return Found(ends, at, known[at])


def joined(ends: Ends, gap: int) -> Int[Tensor, "joined 2"]:
    """Events with at most `gap` rows between them are one."""
    if len(ends) < 2 or not gap:
        return ends
    apart = ends[1:, 0] - ends[:-1, 1] - 1 > gap
    yes = torch.ones(1, dtype=torch.bool)
    return torch.stack([ends[torch.cat([yes, apart]), 0], ends[torch.cat([apart, yes]), 1]], 1)


class Culprit(NamedTuple):
    """A channel and its share of an event, all channels' shares adding up to 1."""

    channel: str
    share: float


class Event(NamedTuple):
    """One alarm: clock steps of its first, last and highest row, its peak score and how severe it is."""

    series: str
    start: int
    stop: int
    at: int
    peak: float
    severity: float
    culprits: tuple[Culprit, ...]


@dataclass(frozen=True, eq=False)
class Events:
    """The alarms of scored runs, in order of time within each run; `limit` is the score above which there is one (NaN: it moves)."""

    rows: tuple[Event, ...]
    limit: Limit
    clock: Clock
    names: Names = NAMES
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self) -> Any:
        """One row an alarm: unique_id, start, stop, peak, score, severity, culprits. In the kind of frame the user came with."""
        return to_frame(self.columns(), self.names.native)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `frame()` as arrays."""
        rows = self.rows
        times = {name: self.clock.local(np.array(list(steps), dtype=np.int64)) for name, steps in self._steps().items()}
        listed = [", ".join(f"{c.channel} ({c.share:.0%})" for c in e.culprits[:NAMED]) for e in rows]
        return {
            self.names.id: np.array([e.series for e in rows], dtype=object),
            **times,
            "score": np.array([e.peak for e in rows], dtype=np.float64),
            "severity": np.array([e.severity for e in rows], dtype=np.float64),
            "culprits": np.array(listed, dtype=object),
        }

    def _steps(self) -> dict[str, Sequence[int]]:
        return {"start": [e.start for e in self.rows], "stop": [e.stop for e in self.rows], "peak": [e.at for e in self.rows]}

    def __repr__(self) -> str:
        first = f"; the highest names {', '.join(c.channel for c in max(self.rows, key=lambda e: e.peak).culprits[:3])}" if self.rows else ""
        return f"Events({len(self.rows)} above {self.limit.value:.4g}{first})"

    def _repr_html_(self) -> str:
        return html_table(self.columns())
