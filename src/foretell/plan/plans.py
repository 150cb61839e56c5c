"""Goal and Plan: what a plan is to reach, and the plan that was found, with what it promises and how far to trust it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from ..forecaster import When
from ..frames import html_table, to_frame
from ..panel import NAMES, Names
from ..spec import Spec
from ..words import number, percent
from .ascent import Certificate
from .bounds import Bounds, Budget


def share_of(part: Float[Tensor, "*n"], whole: Float[Tensor, "*#n"]) -> Float[Tensor, "*n"]:
    """part / whole; NaN, told as "–", where there is no whole above 0 to take a share of."""
    return part / torch.where(whole > 0, whole, torch.nan)


class Goal(Spec):
    """What a plan is to make large.

    `kind` "revenue": the target's total; "profit": `margin` × it − spend; "roas": revenue, as long as what the controls bring in is
    at least `roas` times what they cost. `risk` 0 plans for the mean of the ensemble; 0.1 for the gain over the written plan
    that nine of ten members exceed; `spread` takes so many deviations of the members' gain off their mean.
    """

    kind: Literal["revenue", "profit", "roas"] = "revenue"
    margin: float = Field(default=1.0, gt=0)
    roas: float | None = Field(default=None, gt=0)
    risk: float = Field(default=0.0, ge=0, lt=0.5)
    spread: float = Field(default=0.0, ge=0)


@dataclass(frozen=True, eq=False)
class Band:
    """A number for each member of an ensemble: their mean, and the range that holds so many percent of them, none of it below `least`."""

    members: Float[Tensor, "member *rest"]
    predicts: bool = False
    least: float = -math.inf

    @property
    def mean(self) -> Float[Tensor, "*rest"]:
        return self.members.mean(0)

    def ends(self, level: int | float = 80) -> tuple[Float[Tensor, "*rest"], Float[Tensor, "*rest"]]:
        """Lower and upper end; NaN for a single member, which says nothing of its own error.

        Mean ± the normal quantile × the members' deviation: with half-samples the deviation estimates the standard error. If the members are
        a sample of cases of which the next is asked for (`predicts`), Student's quantile × √(1 + 1/n) takes its place.
        """
        if len(self.members) == 1:
            nothing = torch.full_like(self.members[0], torch.nan)
            return nothing, nothing
        z = float(torch.special.ndtri(torch.tensor(0.5 + level / 200, dtype=torch.float64)))
        if self.predicts:
            from scipy.special import stdtrit

            z = float(stdtrit(len(self.members) - 1, 0.5 + level / 200)) * (1 + 1 / len(self.members)) ** 0.5
        away = z * self.members.std(0)
        return (self.mean - away).clamp(min=self.least), self.mean + away

    def told(self, level: int | float = 80) -> str:
        """'1,200 (900 … 1,500)'."""
        low, high = self.ends(level)
        inside = "" if bool(low.isnan().any()) else f" ({number(float(low))} … {number(float(high))})"
        return f"{number(float(self.mean))}{inside}"


class Asked(NamedTuple):
    """What `allocate` was asked for, so that it can be asked again."""

    budget: Budget
    controls: Mapping[str, Bounds]
    follows: Mapping[str, str]
    least_change: float
    origin: When | None


class Rehearsal(NamedTuple):
    """Gains promised and achieved in worlds whose answer is known, by plans made as this one was."""

    promised: Float[Tensor, " trial"]
    achieved: Float[Tensor, " trial"]

    def corrected(self, gain: Band) -> Band:
        """A gain less what such promises had too much; its band is that of the differences, for one more of them."""
        return Band(gain.mean + self.achieved - self.promised, predicts=True)


@dataclass(frozen=True, eq=False)
class Ratio(Band):
    """A ratio for each member, infinite where a member divides by nothing: `middle` is the ratio of the members' means, and the range is
    that of the members themselves, since neither their mean nor their deviation need be finite."""

    middle: Float[Tensor, "*rest"] = field(kw_only=True)

    @property
    def mean(self) -> Float[Tensor, "*rest"]:
        return self.middle

    def ends(self, level: int | float = 80) -> tuple[Float[Tensor, "*rest"], Float[Tensor, "*rest"]]:
        """Lower and upper end: quantiles of the members; NaN for a single one."""
        if len(self.members) == 1:
            return super().ends(level)
        low, high = (self.members.quantile(0.5 + side * level / 200, dim=0, interpolation="nearest") for side in (-1, 1))
        return low, high


@dataclass(frozen=True, eq=False)
class Plan:
    """The best plan found, beside the written one. Money and target are in the user's units; bands are over the ensemble.

    `total`, `before` and `bare` are the target's sum under the plan, under the written plan, and with every control that may
    move at 0; attributable = total − bare. `marginal` is what one more unit of a column, spread evenly over its steps, brings in.
    `checked` is the gain of a member's own best plan by the member that learned from the other half of the steps.
    """

    spend: Float[Tensor, "step column"]
    written: Float[Tensor, "step column"]
    columns: tuple[str, ...]
    times: np.ndarray
    goal: Goal
    budget: Float[Tensor, " period"]
    total: Float[Tensor, " member"]
    before: Float[Tensor, " member"]
    bare: Float[Tensor, " member"]
    bare_before: Float[Tensor, " member"]
    marginal: Float[Tensor, "member column"]
    free: Bool[Tensor, " column"]
    certificate: Certificate
    outside: Bool[Tensor, "step column"]
    seen: Float[Tensor, "end column"]
    target: str
    names: Names = NAMES
    notes: tuple[str, ...] = ()
    reached: Float[Tensor, " plan"] | None = None
    checked: Float[Tensor, " member"] | None = None
    asked: Asked | None = None
    rehearsal: Rehearsal | None = None

    @property
    def gain(self) -> Band:
        """The target under the plan less that under the written one, paired by member."""
        return Band(self.total - self.before)

    @property
    def promise(self) -> Band:
        """The gain to be counted on: after `plan.rehearse`, less what such promises had too much where the answer is known. Else that of plans
        which one half of the data chose, valued by the other half; without members that learned from halves it is `gain`."""
        if self.rehearsal is not None:
            return self.rehearsal.corrected(self.gain)
        return self.gain if self.checked is None else Band(self.checked)

    @property
    def halved(self) -> Band | None:
        """The gain of plans that one half of the data chose by the other half; None if no members learned from halves."""
        return None if self.checked is None else Band(self.checked)

    @property
    def attributable(self) -> Band:
        """The target that is there because of the controls."""
        return Band(self.total - self.bare)

    @property
    def roas(self) -> Band:
        """Average return: attributable target over spend of the columns that may move."""
        return Band(share_of(self.total - self.bare, self.spent))

    @property
    def roas_written(self) -> Band:
        """The same for the written plan."""
        return Band(share_of(self.before - self.bare_before, self.written[:, self.free].sum()))

    @property
    def spent(self) -> Float[Tensor, ""]:
        """Spend of the columns that may move."""
        return self.spend[:, self.free].sum()

    def frame(self) -> Any:
        """One row a step and column: time, control, written, plan, change, outside the history."""
        return to_frame(self.cells(), self.names.native)

    def cells(self) -> dict[str, np.ndarray]:
        """The columns of `frame()`."""
        steps, columns = self.spend.shape
        return {
            self.names.time: np.repeat(self.times, columns),
            "control": np.tile(np.array(self.columns, dtype=object), steps),
            "written": self.written.numpy().ravel(),
            "plan": self.spend.numpy().ravel(),
            "change": (self.spend - self.written).numpy().ravel(),
            "outside": self.outside.numpy().ravel(),
        }

    def table(self, level: int | float = 80) -> Any:
        """One row a column, in totals over the steps; see `rows`."""
        return to_frame(self.rows(level), self.names.native)

    def rows(self, level: int | float = 80) -> dict[str, np.ndarray]:
        """The columns of `table()`: written, plan, change, marginal return with its band, share of steps outside the history."""
        band = Band(self.marginal)
        low, high = band.ends(level)
        return {
            "control": np.array(self.columns, dtype=object),
            "written": self.written.sum(0).numpy(),
            "plan": self.spend.sum(0).numpy(),
            "change": (self.spend - self.written).sum(0).numpy(),
            "marginal": band.mean.numpy(),
            f"marginal-lo-{level:g}": low.numpy(),
            f"marginal-hi-{level:g}": high.numpy(),
            "outside": self.outside.double().mean(0).numpy(),
        }

    def summary(self, level: int | float = 80) -> str:
        """The plan in sentences."""
        gain, share = float(self.gain.mean), abs(float(share_of(self.gain.mean, self.before.mean())))
        bands = f"{level:g} % bands over {len(self.total)} members" if len(self.total) > 1 else "one member: no bands; fit with members="
        one = number(float(self.certificate.price.mean()))
        return "\n".join((
            f"{self.target}: {number(float(self.total.mean()))} under the plan, {number(float(self.before.mean()))} as written: "
            f"{'gain' if gain >= 0 else 'loss'} {self.gain.told(level)}, {percent(share, 1)} ({bands})",
            *([] if self.halved is None else [f"checked: plans that one half of the data chose gain {self.halved.told(level)} by the other half"]),
            *([] if self.rehearsal is None else [self._rehearsed(level)]),
            f"spend {number(float(self.spent))} of {number(float(self.budget.sum()))}; written {number(float(self.written[:, self.free].sum()))}",
            f"ROAS = (target − target with these controls at 0) / their spend: average {self.roas.told(level)}, written {self.roas_written.told(level)}; "
            f"marginal {one} a unit of budget",
            f"certificate: KKT residual {self.certificate.residual:.1e} of the marginal return; "
            f"{percent(float(self.outside[:, self.free].double().mean()) if bool(self.free.any()) else 0.0)} of the planned cells outside the history",
            *self.notes,
        ))  # fmt: skip

    def _rehearsed(self, level: int | float) -> str:
        assert self.rehearsal is not None
        promised, achieved = (number(float(of.mean())) for of in self.rehearsal)
        return (
            f"rehearsed in {len(self.rehearsal.promised)} worlds with a known answer: plans made like this one promised {promised} and achieved {achieved} "
            f"on average; count on {self.promise.told(level)}"
        )

    def _repr_html_(self) -> str:
        return html_table(self.rows())
