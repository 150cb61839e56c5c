"""Function: a fitted model as one differentiable map from raw values to the forecast, both in the user's units.

Scaling, centring, the net, its conformal bands and the way back to units are inside; left out are only the floor and the
sorting of the quantiles, which are not smooth. It is what explanations and plans work on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from .errors import TaskError
from .interval import Conformal, quantiles
from .task import Batch, Scaling, Source, filled
from .transform.scale import Affine, Scale

Blocks = Mapping[str, Tensor]
Forward = Callable[[Batch, Int[Tensor, " example"], Int[Tensor, " example"], int], Tensor]  # of a batch of whole copies of the windows


@dataclass(frozen=True, eq=False)
class Function:
    """`f(blocks)` → [row, horizon, target, slot] in the target's units; slot 0 is the point, then one a probability of `probs`.

    `blocks` holds raw values: "past" [row, context, feature], "future" [row, horizon, known]. With E windows there may be any
    multiple of E rows: row r belongs to window r mod E, so `x.repeat(copies, 1, 1)` is how copies are made. Which steps were
    observed is part of the function: a value at a gap has no influence, the last one before it stands in.
    """

    source: Source
    series: Int[Tensor, " example"]
    origin: Int[Tensor, " example"]  # clock step of the last observed step
    probs: tuple[float, ...]
    bands: Conformal
    forward: Forward
    observed: Bool[Tensor, "example context feature"]
    told: Bool[Tensor, "example horizon known"]

    def __call__(self, blocks: Blocks) -> Float[Tensor, "row horizon target slot"]:
        output = self.output(blocks)
        series = self.series.repeat(len(output) // len(self.series))
        both = torch.cat([output[..., :1], quantiles(output, self.bands, series, self.probs)], -1)
        return elementwise(lambda x: self.source.unscaled(x, series), both)

    def output(self, blocks: Blocks) -> Float[Tensor, "row horizon target slot"]:
        """What the net itself says, in model space: the point and its own levels."""
        past, future = blocks["past"], blocks["future"]
        copies = self._copies(past)
        series = self.series.repeat(copies)
        observed, told = self.observed.repeat(copies, 1, 1), self.told.repeat(copies, 1, 1)
        roles = self.source.roles
        past = filled(self._scaled(past, roles.features, series), observed)
        future = filled(self._scaled(future, roles.known, series), told)
        blank = past.new_zeros(len(past), self.source.horizon, 0)
        return self.forward(Batch(past, observed, future, self.source.static[series], blank, blank.bool()), self.series, self.origin, copies)

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.series)

    @cached_property
    def blocks(self) -> dict[str, Tensor]:
        """The raw values of the windows themselves; what was not observed shows the value that stands in for it."""
        return raw(self.source, self.series, self.origin)

    @property
    def channels(self) -> dict[str, tuple[str, ...]]:
        """Names of the last axis of each block."""
        return {"past": self.source.roles.features, "future": self.source.roles.known}

    @property
    def targets(self) -> tuple[str, ...]:
        return self.source.roles.target

    @property
    def names(self) -> tuple[str, ...]:
        """The series of each window."""
        return tuple(self.source.panel.series[i] for i in self.series.tolist())

    def times(self) -> dict[str, np.ndarray]:
        """Wall times [example, step] of each block's steps; those of "future" are the forecast's too."""
        back, ahead = torch.arange(1 - self.source.context, 1), torch.arange(1, self.source.horizon + 1)
        clock = self.source.panel.clock
        return {"past": clock.local((self.origin[:, None] + back).numpy()), "future": clock.local((self.origin[:, None] + ahead).numpy())}

    def pick(self, windows: Sequence[int]) -> "Function":
        """The same map for only these windows."""
        at = list(windows)
        return replace(self, series=self.series[at], origin=self.origin[at], observed=self.observed[at], told=self.told[at])

    def _copies(self, past: Tensor) -> int:
        if len(past) % len(self.series) or not len(past):
            raise TaskError(f"{len(past)} rows for {len(self.series)} windows: rows must be whole copies of all windows, window after window")
        return len(past) // len(self.series)

    def _scaled(self, x: Float[Tensor, "row step channel"], channels: tuple[str, ...], series: Int[Tensor, " row"]) -> Float[Tensor, "row step channel"]:
        """Raw values as the net sees them, as `Source.read` would have read them."""
        place, scaling = self.source.places[channels], self.source.scaling
        if not channels:
            return x
        back = torch.tensor(place.order).argsort().tolist()
        sizes = [len(place.target), len(place.own), len(place.common), len(place.clocked) + len(place.fitted)]
        target, own, common, rest = x[..., back].split(sizes, -1)
        parts = [
            _applied(scaling.target.pick(place.target), target, series) if place.target else target,
            _applied(scaling.own.pick(place.own), own, series) if place.own else own,
            _applied(scaling.common.pick(place.common), common, series) if place.common else common,
            rest,
        ]
        return torch.cat(parts, -1)[..., place.order]


def raw(source: Source, series: Int[Tensor, " example"], origin: Int[Tensor, " example"]) -> dict[str, Tensor]:
    """Windows of a source in the user's units, gaps filled; `origin` in clock steps."""
    plain = replace(source, scaling=_none(source.scaling))
    batch = plain.inputs(series, origin - source.panel.start[series])
    return {"past": batch.past, "future": batch.future}


def marks(source: Source, series: Int[Tensor, " example"], origin: Int[Tensor, " example"]) -> tuple[Tensor, Tensor]:
    """Which steps of the past were observed, and which of the future are told."""
    row = origin - source.panel.start[series]
    ahead = source.read(source.roles.known, series, row[:, None] + torch.arange(1, source.horizon + 1))
    return source.inputs(series, row).observed, ahead.isfinite()


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), number by number; told as one step to who traces the arithmetic, since inside it may look things up."""
    if has_torch_function((x,)):
        told: Tensor = handle_torch_function(elementwise, (x,), function, x)
        return told
    return function(x)


def _applied(scale: Scale, x: Float[Tensor, "row step channel"], series: Int[Tensor, " row"]) -> Float[Tensor, "row step channel"]:
    return elementwise(lambda value: scale.apply(value, series), x)


def _none(scaling: Scaling) -> Scaling:
    """Scales that leave everything in the user's units; a seasonal index stays one."""
    return Scaling(_identity(scaling.target), _identity(scaling.own), _identity(scaling.common), scaling.indices)


def _identity(scale: Scale) -> Affine:
    width = next(iter(vars(scale).values()))
    zero = width.new_zeros(1, width.shape[1])
    return Affine(zero, torch.ones_like(zero))
