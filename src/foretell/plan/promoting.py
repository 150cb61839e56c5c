"""promotion: what a discount brings over the same days without it, during and after, and the margin from which it pays."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError
from ..forecaster import Forecaster, When, step_of
from ..frames import html_table, to_frame
from ..panel import NAMES, Names, Panel, positions
from .ahead import ahead, checked_controls, usual, with_ahead, written
from .bounds import outside, seen_range
from .plans import Band, Ratio, share_of
from .record import Record, record
from .surface import Surface, surface

ALL = "(all)"


@dataclass(frozen=True, eq=False)
class Promotion:
    """The target with the promotion and without it, in its units; bands are over the members, paired: nets of the ensemble, or where items had
    promotions before, draws of these nets' word corrected by each item's own past ones (`level`: of all its steps alike).

    `first` and `days` say which of the steps ahead are promoted, counted from 0; steps before that are no part of any number. `least` is 0
    where the target has never been below it: then no band says that it will be."""

    promoted: Float[Tensor, "member series step"]
    bare: Float[Tensor, "member series step"]
    level: Float[Tensor, "member series"]
    first: int
    days: int
    discount: float
    series: tuple[str, ...]
    times: np.ndarray
    target: str
    names: Names = NAMES
    notes: tuple[str, ...] = ()
    least: float = -math.inf

    def lift(self, item: str | None = None) -> Band:
        """Extra units on the promoted days as a share of what the ensemble expects there without the promotion; 0.5 is half as much
        again. None: all items. NaN where nothing is expected to be sold without it."""
        at = slice(self.first, self.first + self.days)
        still = (self.bare / self.level[..., None]).mean(0) * self.level[..., None]  # what the level is uncertain by is no part of a lift
        return Band(share_of(self._difference(item)[:, at].sum(1), self._of(still, item)[:, at].sum(1)), least=self.least - 1)

    def during(self, item: str | None = None) -> Band:
        """Extra units on the promoted days."""
        return Band(self._difference(item)[:, self.first : self.first + self.days].sum(1))

    def after(self, item: str | None = None) -> Band:
        """Extra units after the promotion, up to the end of the horizon: below 0, later demand was brought forward."""
        return Band(self._difference(item)[:, self.first + self.days :].sum(1))

    def total(self, item: str | None = None) -> Band:
        """The cumulative long-run effect: during and after."""
        return Band(self._difference(item)[:, self.first :].sum(1))

    def path(self, item: str | None = None) -> Band:
        """Extra units day by day."""
        return Band(self._difference(item))

    def cumulative(self, item: str | None = None) -> Band:
        """Extra units since the first promoted step, added up step by step."""
        return Band(self._run(item, self.first))

    def with_it(self, item: str | None = None) -> Band:
        """The target at every step with the promotion."""
        return Band(self._of(self.promoted, item), least=self.least)

    def without(self, item: str | None = None) -> Band:
        """The counterfactual: the target at every step without it."""
        return Band(self._of(self.bare, item), least=self.least)

    def break_even(self, item: str | None = None) -> Ratio:
        """The margin at full price, as a share of it, from which the promotion pays: discount × units sold on it / extra units in
        the long run. Above 1, or infinite where the long run brings nothing extra: it pays at no margin."""
        even = self._even(item)
        return Ratio(even.members[:, -1], middle=even.middle[-1])

    def profit(self, margin: float, item: str | None = None) -> Band:
        """Gain in profit at this margin (share of the full price), in units of the full price."""
        given = self.discount * self._of(self.promoted, item)[:, self.first : self.first + self.days].sum(1)
        return Band(margin * self._difference(item)[:, self.first :].sum(1) - given)

    def frame(self) -> Any:
        """One row an item and step, and where there are several items one for all: with and without, the difference, cumulated from the
        first promoted step, cumulated from the end of the promotion on (`after`: below 0, later demand was brought forward), each
        with its 80 % band; and the break-even margin if that step were the last one counted."""
        return to_frame(self.cells(), self.names.native)

    def cells(self) -> dict[str, np.ndarray]:
        """The columns of `frame()`."""
        items = self._items()
        parts = [self._columns(item) for item in items]
        names = np.array([item or ALL for item in items], dtype=object)
        columns = {self.names.id: np.repeat(names, len(self.times)), self.names.time: np.tile(self.times, len(items))}
        return columns | {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def table(self, level: int | float = 80) -> Any:
        """One row an item and one for all: lift, extra during, after and in total, break-even margin, each with its band."""
        return to_frame(self.rows(level), self.names.native)

    def rows(self, level: int | float = 80) -> dict[str, np.ndarray]:
        """The columns of `table()`."""
        items = self._items()
        columns: dict[str, np.ndarray] = {self.names.id: np.array([item or ALL for item in items], dtype=object)}
        for name, of in (("lift", self.lift), ("during", self.during), ("after", self.after), ("total", self.total), ("break_even", self.break_even)):
            bands = [of(item) for item in items]
            ends = [band.ends(level) for band in bands]
            columns[name] = np.array([float(band.mean) for band in bands])
            columns[f"{name}-lo-{level:g}"] = np.array([float(low) for low, _ in ends])
            columns[f"{name}-hi-{level:g}"] = np.array([float(high) for _, high in ends])
        return columns

    def _items(self) -> list[str | None]:
        return [*self.series, *([None] if len(self.series) > 1 else [])]

    def _columns(self, item: str | None) -> dict[str, np.ndarray]:
        told = {"promoted": self.with_it(item).mean, "bare": self.without(item).mean}
        for name, band in (("difference", self.path(item)), ("cumulative", self.cumulative(item)), ("after", Band(self._run(item, self.first + self.days)))):
            low, high = band.ends()
            told |= {name: band.mean, f"{name}-lo-80": low, f"{name}-hi-80": high}
        told["break_even"] = self._even(item).mean
        return {name: value.double().numpy() for name, value in told.items()}

    def _run(self, item: str | None, first: int) -> Float[Tensor, "member step"]:
        """Extra units from this step on, added up."""
        extra = self._difference(item).clone()
        extra[:, :first] = 0
        return extra.cumsum(1)

    def _even(self, item: str | None) -> Ratio:
        """The break-even margin counted up to each step; NaN before the promotion, where nothing was given."""
        sold, extra = self._of(self.promoted, item).clone(), self._run(item, self.first)
        sold[:, : self.first], sold[:, self.first + self.days :] = 0, 0
        given = self.discount * sold.cumsum(1)
        every, middle = (torch.where(e > 0, g / e.clamp(min=1e-12), torch.inf) for g, e in ((given, extra), (given.mean(0), extra.mean(0))))
        every[:, : self.first], middle[: self.first] = torch.nan, torch.nan
        return Ratio(every, middle=middle)

    def _of(self, values: Float[Tensor, "member series step"], item: str | None) -> Float[Tensor, "member step"]:
        if item is None:
            return values.sum(1)
        return values[:, positions([item], self.series, "series")[0]]

    def _difference(self, item: str | None) -> Float[Tensor, "member step"]:
        return self._of(self.promoted - self.bare, item)

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def promotion(
    model: Forecaster,
    panel: Panel,
    discount: float,
    *,
    channel: str = "discount",
    price: bool = False,
    first: int = 1,
    days: int = 7,
    target: str | None = None,
    origin: When | None = None,
) -> Promotion:
    """What a promotion of `days` steps, beginning at step `first` ahead, brings over the same steps without it, for every series.

    `channel` is known ahead and holds the discount as a share (0 without one), or with `price` the price itself, which is then lowered by
    that share of its usual value. The horizon must reach past the promotion to show what follows it. What the model says is corrected by
    how each item sold on its own past promotions against what the model says of those, drawn towards what the items share (see `Record`);
    an item without any takes the mean of the others, and a band as wide as they differ. TaskError where it does not fit.
    """
    checked_controls(model, panel, [channel])
    horizon = model.task.horizon
    if not 0 < discount < 1:
        raise TaskError(f"a discount is a share between 0 and 1, like 0.2; got {discount:g}")
    if first < 1 or days < 1 or first - 1 + days > horizon:
        raise TaskError(f"a promotion of {days} steps from step {first} on does not fit into the model's horizon of {horizon} steps")
    told = written(model, _usual_price(model, panel, channel, price, origin), [channel], origin)
    bare = ahead(told.panel, channel, told.origin, horizon) if price else torch.zeros(len(panel), horizon, dtype=panel.values.dtype)
    at = slice(first - 1, first - 1 + days)
    seen = surface(model, told.panel, [channel], origin=told.origin, target=target)
    plans = _plans(seen, bare, bare[:, at] * (1 - discount) if price else discount, at)
    with torch.no_grad():
        out = seen.outcome(plans).double()
    name = seen.function.targets[seen.target]
    past = record(model, panel, channel, name, told.origin, price=price)
    out, level = (out, torch.ones_like(out[0, ..., 0])) if past is None else past.moved(out, discount, at)
    low, high = seen_range(panel, seen, told.origin)
    beyond = outside(plans[0, at], low, high).double().mean()
    times = panel.clock.local((told.origin + torch.arange(1, horizon + 1)).numpy())
    return Promotion(
        out[0], out[1], level, first - 1, days, discount, panel.series, times, name, panel.names,
        _notes(float(beyond), seen.members, horizon - first + 1 - days, past),
        0.0 if bool((panel.channel(name).nan_to_num() >= 0).all()) else -math.inf,
    )  # fmt: skip


def _plans(seen: Surface, bare: Float[Tensor, "series step"], promoted: Float[Tensor, "series day"] | float, at: slice) -> Float[Tensor, "plan step column"]:
    """The channel's path with the promotion, and without it, in the columns of the surface."""
    lowered = bare.clone()
    lowered[:, at] = promoted
    plans = torch.zeros(2, bare.shape[1], len(seen.columns), dtype=torch.float64)
    plans[:, :, seen.column[:, 0]] = torch.stack([lowered, bare]).double().mT
    return plans


def _usual_price(model: Forecaster, panel: Panel, channel: str, price: bool, origin: When | None) -> Panel:
    """A discount that is not written is none; a price that is not is the last one seen."""
    last = panel.last(*model.roles.target)
    step = int(last[0]) if origin is None else step_of(panel.clock, origin)
    now = ahead(panel, channel, step, model.task.horizon)
    if bool(now.isfinite().all()):
        return panel
    stand_in = usual(panel, channel, step) if price else torch.zeros(len(panel), dtype=panel.values.dtype)
    return with_ahead(panel, step, {channel: torch.where(now.isfinite(), now, stand_in[:, None].to(now.dtype))})


def _notes(beyond: float, members: int, left: int, past: Record | None) -> tuple[str, ...]:
    notes = []
    if past is not None:
        none = int((past.times == 0).sum())
        rest = f"; {none} of {len(past.times)} items had none and take the mean of the others" if none else ""
        notes.append(f"each item's own {float(past.times.mean()):.3g} past promotions, on average, correct what the model says of it and make its band{rest}")
    if beyond:
        notes.append(f"{beyond:.0%} of the promoted values lie outside what their series' history has seen")
    if members == 1 and past is None:
        notes.append("one member and no past promotion: no bands; fit with members= and Training(halves=True)")
    if left < 1:
        notes.append("the horizon ends with the promotion: what it takes from later days is not in these numbers")
    return tuple(notes)
