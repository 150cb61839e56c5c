"""Scales: fitted, invertible, differentiable maps of each channel to numbers of about one, for all series at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import NamedTuple, Self, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import TaskError, nearest

KINDS = ("identity", "mean", "minmax", "standard", "robust", "asinh", "quantile")
KNOTS = 200
TAIL = 10
CHUNK = 2**17  # values in float64 at a time: 1 MB, so that statistics cost time but no memory
NORMAL_IQR = 1.349
NORMAL_MAD = 1.4826
NORMAL_MEAN_DEVIATION = sqrt(pi / 2)


@dataclass(frozen=True, eq=False)
class Scale(ABC):
    """Tensors whose first axes are [series, channel]. A scale of one row serves every series: so a pooled one.

    `invert(apply(x))` is x to rounding; NaN stays NaN. A series that is constant is only shifted; one in which nothing
    was observed is left as it is.
    """

    @abstractmethod
    def apply(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        """User units → scaled; `series` says which row of the scale each example takes."""

    @abstractmethod
    def invert(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        """Scaled → user units."""

    def pick(self, channels: Sequence[int]) -> Self:
        """The scale of only these channels, in this order."""
        width = next(iter(vars(self).values())).shape[1]
        return self if list(channels) == list(range(width)) else self._each(lambda fact: fact[:, list(channels)])

    def rows(self, series: Sequence[int] | Int[Tensor, " some"]) -> Self:
        """The scale of only these series, in this order; one that serves every series is returned as it is."""
        at = torch.as_tensor(series, dtype=torch.long)
        return self._each(lambda fact: fact[at] if len(fact) > 1 else fact)

    def to(self, target: torch.device | torch.dtype) -> Self:
        """The same scale on another device, or in another floating type."""
        return self._each(lambda fact: fact.to(target))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{name: change(fact) for name, fact in vars(self).items()})


@final
@dataclass(frozen=True, eq=False)
class Affine(Scale):
    """(x − center) / width."""

    center: Float[Tensor, "series channel"]
    width: Float[Tensor, "series channel"]

    def apply(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        return (x - _facing(self.center, series, x)) / _facing(self.width, series, x)

    def invert(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        return x * _facing(self.width, series, x) + _facing(self.center, series, x)


@final
@dataclass(frozen=True, eq=False)
class Asinh(Scale):
    """asinh((x − center) / width): linear near the median, logarithmic in the spikes of either sign.

    Uniejewski, Weron & Ziel (2018), doi:10.1109/TPWRS.2017.2734563, section III.
    """

    center: Float[Tensor, "series channel"]
    width: Float[Tensor, "series channel"]

    def apply(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        return torch.asinh((x - _facing(self.center, series, x)) / _facing(self.width, series, x))

    def invert(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        return torch.sinh(x) * _facing(self.width, series, x) + _facing(self.center, series, x)


@final
@dataclass(frozen=True, eq=False)
class Quantile(Scale):
    """Straight pieces between knots (a training value, its normal score) and straight tails beyond the outermost ones.

    A value that occurs often, such as the zero of slow sales, is one knot and takes the middle score of its share, so that
    the map stays strictly increasing. Beyond the knots in use, `value` and `score` are +inf. `slope[k]` is score per
    unit before knot k; the last one in use is the upper tail's. The inverse is exact to rounding of the score times the
    local units per score: ~1e-6 of the training range in float32.
    """

    value: Float[Tensor, "series channel knot"]
    score: Float[Tensor, "series channel knot"]
    slope: Float[Tensor, "series channel piece"]

    def apply(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        return self._along(x, series, self.value, self.score, self.slope)

    def invert(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        return self._along(x, series, self.score, self.value, 1 / self.slope)

    def _along(self, x: Tensor, series: Tensor, source: Tensor, target: Tensor, slope: Tensor) -> Tensor:
        """On the line through the last knot below x (below all: the first knot)."""
        if len(source) == 1 < len(x):
            return self._along(x.flatten(0, -2)[None], series[:1], source, target, slope).reshape(x.shape)
        flat = x.movedim(-1, 1).flatten(2) if x.ndim > 2 else x[..., None]
        if len(source) > 1:
            source, target, slope = source[series], target[series], slope[series]
        piece = torch.searchsorted(source, flat.contiguous(), right=True)
        knot = (piece - 1).clamp(min=0)
        line = target.gather(2, knot) + (flat - source.gather(2, knot)) * slope.gather(2, piece)
        return line.reshape(x.shape[0], x.shape[-1], *x.shape[1:-1]).movedim(1, -1)


def fit_scale(kind: str, values: Float[Tensor, "series time channel"], *, pooled: bool = False) -> Scale:
    """The scale of each series and channel, or with `pooled` one for all series, from training values; NaN = not observed.

    "identity"; "mean" by the mean size, zero staying zero; "minmax" to 0 … 1; "standard" by mean and deviation; "robust" by
    median and quartiles; "asinh" by median and median absolute deviation; "quantile" to normal scores. Statistics are computed in float64.
    """
    if kind not in KINDS:
        raise TaskError(f'no scale "{kind}": {nearest(kind, KINDS)}')
    if kind in ("minmax", "standard"):
        of = _moments(values, pooled)
        center, width = (of.mean, of.square.sqrt()) if kind == "standard" else (of.low, of.high - of.low)
        return Affine(*(fact.to(values.dtype) for fact in _solid(center, width, of.low, of.high)))
    if pooled:
        values = values.reshape(1, -1, values.shape[2])
    if kind == "identity":
        center = values.new_zeros(values.shape[0], values.shape[2])
        return Affine(center, torch.ones_like(center))
    if kind == "mean":
        return Affine(*by_chunk(_mean_size, values, values.dtype))
    if kind == "quantile":
        return Quantile(*by_chunk(_quantile, values, values.dtype))
    if kind == "asinh":
        return Asinh(*by_chunk(_asinh, values, values.dtype))
    return Affine(*by_chunk(_robust, values, values.dtype))


class Moments(NamedTuple):
    """Of the observed values in each row, float64."""

    seen: Float[Tensor, "series channel"]  # how many
    mean: Float[Tensor, "series channel"]
    square: Float[Tensor, "series channel"]  # mean squared deviation
    low: Float[Tensor, "series channel"]
    high: Float[Tensor, "series channel"]


def _moments(values: Float[Tensor, "series time channel"], pooled: bool) -> Moments:
    each = Moments(*by_chunk(_moments_of, values, torch.float64))
    return _together(each) if pooled else each


def _moments_of(chunk: Float[Tensor, "series time channel"]) -> Moments:
    x = chunk.double()
    seen = x.isfinite()
    count = seen.sum(1).double()
    mean = torch.where(seen, x, 0.0).sum(1) / count.clamp(min=1)
    square = torch.where(seen, x - mean[:, None], 0.0).square_().sum(1) / count.clamp(min=1)
    return Moments(count, mean, square, torch.where(seen, x, torch.inf).amin(1), torch.where(seen, x, -torch.inf).amax(1))


def _together(each: Moments) -> Moments:
    """Moments of all series as one, from the moments of each."""
    count = each.seen.sum(0, keepdim=True)
    share = each.seen / count.clamp(min=1)
    mean = (share * each.mean).sum(0, keepdim=True)
    square = (share * (each.square + (each.mean - mean).square())).sum(0, keepdim=True)
    return Moments(count, mean, square, each.low.amin(0, keepdim=True), each.high.amax(0, keepdim=True))


def _solid(center: Tensor, width: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Center and width, which is 1 where the series is constant (low = high, whatever rounding says) or was not observed."""
    center = torch.where(low == high, low, torch.where(low > high, 0.0, center))
    return center, torch.where(low < high, width, 1.0)


class Ordered(NamedTuple):
    """Each row's observed values in rising order, +inf after them, and how many there are."""

    values: Float[Tensor, "series channel time"]
    seen: Int[Tensor, "series channel"]  # how many


def _ordered(chunk: Float[Tensor, "series time channel"]) -> Ordered:
    array = chunk.movedim(1, 2).numpy().copy()
    blank = ~np.isfinite(array)
    array[blank] = np.inf
    array.sort(-1)  # in place and without an index, several times faster than torch here
    return Ordered(torch.from_numpy(array), torch.from_numpy(array.shape[-1] - blank.sum(-1)))


def _rank(of: Ordered, share: float) -> Float[Tensor, "series channel"]:
    """The quantile, interpolated between neighbours; 0 where nothing was observed."""
    place = share * (of.seen - 1).clamp(min=0).double()
    below, above = (of.values.gather(-1, edge.long()[..., None])[..., 0].double() for edge in (place.floor(), place.ceil()))
    return torch.where(of.seen > 0, torch.lerp(below, above, place - place.floor()), 0.0)


def _mean_size(chunk: Float[Tensor, "series time channel"]) -> tuple[Tensor, Tensor]:
    seen = chunk.isfinite()
    width = chunk.abs().where(seen, 0).sum(1, dtype=torch.float64) / seen.sum(1).clamp(min=1)
    return torch.zeros_like(width), torch.where(width > 0, width, 1.0)


def _robust(chunk: Float[Tensor, "series time channel"]) -> tuple[Tensor, Tensor]:
    of = _ordered(chunk)
    return _spread(of, _rank(of, 0.5), (_rank(of, 0.75) - _rank(of, 0.25)) / NORMAL_IQR)


def _asinh(chunk: Float[Tensor, "series time channel"]) -> tuple[Tensor, Tensor]:
    of = _ordered(chunk)
    center = _rank(of, 0.5)
    away = _away(of, center).numpy()
    away.sort(-1)
    return _spread(of, center, _rank(Ordered(torch.from_numpy(away), of.seen), 0.5) * NORMAL_MAD)


def _spread(of: Ordered, center: Float[Tensor, "series channel"], width: Float[Tensor, "series channel"]) -> tuple[Tensor, Tensor]:
    """Where half of the values are equal and the robust width is 0, the mean absolute deviation stands in."""
    if not (width > 0).all():
        away = _away(of, center)
        mean = torch.where(away.isfinite(), away, 0.0).sum(-1, dtype=torch.float64) / of.seen.clamp(min=1)
        width = torch.where(width > 0, width, mean * NORMAL_MEAN_DEVIATION)
    return _solid(center, width, _rank(of, 0.0), torch.where(of.seen > 0, _rank(of, 1.0), -torch.inf))


def _away(of: Ordered, center: Float[Tensor, "series channel"]) -> Float[Tensor, "series channel time"]:
    return (of.values - center[..., None].to(of.values.dtype)).abs_()


def _quantile(chunk: Float[Tensor, "series time channel"]) -> tuple[Tensor, Tensor, Tensor]:
    """Knots at evenly spaced ranks, from the smallest value to the largest; equal ones are merged."""
    of = _ordered(chunk)
    knots = min(KNOTS, of.values.shape[-1])
    rank = (torch.linspace(0, 1, knots, dtype=torch.float64) * (of.seen - 1).clamp(min=0)[..., None]).round().long()
    value = of.values.gather(-1, rank)
    below = torch.searchsorted(of.values, value)
    upto = torch.searchsorted(of.values, value, right=True)
    score = torch.special.ndtri((below + upto).double() / 2 / of.seen.clamp(min=1)[..., None])
    twice = torch.cat([torch.zeros_like(value[..., :1], dtype=torch.bool), value[..., 1:] == value[..., :-1]], -1)
    empty = of.seen[..., None] == 0
    twice |= empty & (torch.arange(knots) > 0)
    value, score = (torch.where(empty, 0.0, fact.double()).masked_fill(twice, torch.inf).sort(-1).values for fact in (value, score))
    return value, score, _slopes(value, score, (~twice).sum(-1))


def _slopes(value: Float[Tensor, "series channel knot"], score: Float[Tensor, "series channel knot"], used: Int[Tensor, "series channel"]) -> Tensor:
    """Score per unit in the lower tail, between knots, and in the upper tail (1 where there is one knot only)."""
    inner = score.diff(dim=-1) / value.diff(dim=-1)
    knots = torch.arange(value.shape[-1])
    low = _tail(value, score, torch.zeros_like(used), knots < TAIL)
    high = _tail(value, score, used - 1, knots >= used[..., None] - TAIL)
    slope = torch.cat([low[..., None], inner, torch.ones_like(low[..., None])], -1)
    pieces = torch.arange(slope.shape[-1])
    return torch.where(pieces < used[..., None], slope, high[..., None])


def _tail(value: Tensor, score: Tensor, end: Int[Tensor, "series channel"], near: Bool[Tensor, "..."]) -> Float[Tensor, "series channel"]:
    """Slope of the least-squares line of value on score that passes through the end knot, over the knots near it."""
    rise, run = (fact - fact.gather(-1, end[..., None]) for fact in (score, value))
    near = near & rise.isfinite()
    steep = torch.where(near, rise * rise, 0.0).sum(-1)
    return torch.where(steep > 0, steep / torch.where(near, rise * run, 0.0).sum(-1), 1.0)


def _facing(fact: Float[Tensor, "series channel"], series: Int[Tensor, " example"], x: Tensor) -> Tensor:
    """Each example's row, laid out to meet x; the only row, if there is one."""
    rows = fact[series] if len(fact) > 1 else fact
    return rows.reshape(len(rows), *[1] * (x.ndim - 2), rows.shape[1])


def by_chunk(fit: Callable[[Tensor], Sequence[Tensor]], values: Float[Tensor, "series time channel"], dtype: torch.dtype) -> list[Tensor]:
    """What `fit` finds of every series, a few series at a time; written in place, since small results kept from each
    turn would pin the freed memory of the large ones."""
    size = max(1, CHUNK // max(1, values.shape[1] * values.shape[2]))
    whole: list[Tensor] = []
    for first in range(0, max(1, len(values)), size):
        parts = fit(values[first : first + size])
        whole = whole or [part.new_empty(len(values), *part.shape[1:], dtype=dtype) for part in parts]
        for fact, part in zip(whole, parts, strict=True):
            fact[first : first + size] = part
    return whole
