"""Periods: how many steps each series takes to repeat itself, and how much of it does."""

from collections.abc import Iterator
from functools import lru_cache
from math import log
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

CHUNK = 2**18
CYCLES = 3  # a period must fit in this often
CHANCE = 0.03  # of a line this strong somewhere in pure noise, were its frequencies independent
EULER = 0.5772  # the log of noise power lies this much below the log of its mean
MULTIPLES = tuple(range(2, 13))
WEEK, DAILY = 7, 0.2  # seven times what itself correlates this much is a week of days, a cycle of its own
STRUCK = 6  # multiples of a frequency too low to tell its multiples apart
GAIN = 0.1  # of correlation that a multiple must add to be the fundamental
NEARLY = 0.05
SHARE = 0.001
LEAST = 0.01  # a period that explains less is none
MORE = 0.005
CUT, CUTS = 2.0, 4  # log power above the law from which it is a line, and how often to look
SPARE = 3  # lines sought beyond those asked for, since some lead to the same period
LOBE = 2.0  # half width of a line under a Hann window, in cycles per series


class Periods(NamedTuple):
    """Strongest line first; length 1 and strength 0 stand for none."""

    length: Int[Tensor, "series k"]
    strength: Float[Tensor, "series k"]


def dominant(values: Float[Tensor, "series time"], count: int = 3, *, longest: int | None = None) -> Periods:
    """The `count` dominant periods of each series, in whole steps, none above `longest` (a third of the series).

    A line of the spectrum counts if it stands above a power law fitted to the spectrum so far that noise would have one
    in a few of 100 series. The fundamental of the strongest line is the shortest of its multiples by 2 … 12 whose correlation
    is nearly the best of them and 0.1 better than the line's own (so twelve hours become a day; but a day never a week);
    its harmonics are then struck out, and the next line is sought. Candidates come from the spectrum and are placed by the
    autocorrelation, as in Vlachos, Yu & Castelli (2005), doi:10.1137/1.9781611972757.40, section 3.
    Strength: the share of variance, 0 … 1, that the mean at each place of the period explains, less what as many free
    means would explain of noise.
    """
    size = max(1, CHUNK // max(1, values.shape[1]))
    parts = [_dominant(chunk.double(), count, longest) for chunk in values.split(size)]
    length, strength = (torch.cat(part) for part in zip(*parts, strict=True))
    return Periods(length, strength.to(values.dtype))


class Wide(NamedTuple):
    """How far the panel and each series reach, and the longest period sought there."""

    width: int
    span: Int[Tensor, " series"]
    limit: Int[Tensor, " series"]

    def rows(self, at: Tensor) -> Self:
        """Of these series."""
        return self._replace(span=self.span[at], limit=self.limit[at])


def _dominant(values: Float[Tensor, "series time"], count: int, longest: int | None) -> Periods:
    seen = values.isfinite()
    span = (seen * torch.arange(1, values.shape[1] + 1)).amax(1)
    limit = span // CYCLES if longest is None else (span // CYCLES).clamp(max=longest)
    wide = Wide(values.shape[1], span, limit)
    x = detrended(values)
    power = spectrum(x, span)
    allowed = _above_noise(power, wide.width / limit.clamp(min=1)) & (limit >= 2)[:, None]
    length = torch.ones(len(x), count + SPARE, dtype=torch.long)
    some = allowed.any(1)
    if some.any():
        length[some] = _search(power[some], allowed[some], correlation(x[some], seen[some]), Wide(wide.width, span[some], limit[some]), length[some])
    return _first(length, torch.stack([strength(x, seen, one) for one in length.unbind(1)], 1), count)


def _search(
    power: Float[Tensor, "series frequency"],
    allowed: Bool[Tensor, "series frequency"],
    echo: Float[Tensor, "series lag"],
    wide: Wide,
    length: Int[Tensor, "series found"],
) -> Int[Tensor, "series found"]:
    """Line after line until none is left; a period found again counts as none. A series that has no line left is looked at no more."""
    rows = torch.arange(len(length))
    for turn in range(length.shape[1]):
        left = allowed.any(1)
        if not bool(left.all()):
            power, allowed, echo, wide, rows = power[left], allowed[left], echo[left], wide.rows(left), rows[left]
        if not len(rows):
            break
        top = (power * allowed).argmax(1)
        found = _next(power, top, echo, wide)
        allowed = allowed & ~(_harmonics(found, power.shape[1], wide) | _lobe(top, power.shape[1], wide))
        length[rows, turn] = torch.where((length[rows, :turn] == found[:, None]).any(1), 1, found)
    return length


def _first(length: Int[Tensor, "series found"], share: Float[Tensor, "series found"], count: int) -> Periods:
    """Those that explain something, and more than a part of them found before, in the order found."""
    again = (length[:, :, None] % length[:, None] == 0) & (length[:, None] > 1) & (share[:, :, None] < share[:, None] + MORE)
    none = (length < 2) | (share < LEAST) | again.tril(-1).any(2)
    order = none.long().argsort(dim=1, stable=True)[:, :count]
    return Periods(torch.where(none, 1, length).gather(1, order), torch.where(none, 0.0, share).gather(1, order))


def _lobe(top: Int[Tensor, " series"], count: int, wide: Wide) -> Bool[Tensor, "series frequency"]:
    """The strongest line itself, whatever its fundamental was taken to be."""
    return (torch.arange(count) - top[:, None]).abs() <= (LOBE * wide.width / wide.span.clamp(min=1))[:, None]


def detrended(values: Float[Tensor, "series time"]) -> Float[Tensor, "series time"]:
    """The series less its straight line; 0, which adds to no cycle, where not observed."""
    seen = values.isfinite().to(values.dtype)
    time = torch.arange(values.shape[1], dtype=values.dtype)
    n = seen.sum(1, keepdim=True).clamp(min=1)
    x = values.nan_to_num(0.0, 0.0, 0.0)
    largest = x.abs().amax(1, keepdim=True)
    x = (x - x.sum(1, keepdim=True) / n) * seen
    late = time - (seen @ time)[:, None] / n
    slope = (x * late).sum(1, keepdim=True) / (seen * late.square()).sum(1, keepdim=True).clamp(min=1)
    x = x.addcmul_(slope * late, seen, value=-1)
    return x.masked_fill_(x.abs().amax(1, keepdim=True) <= 1e-9 * largest, 0.0)


def spectrum(x: Float[Tensor, "series time"], span: Int[Tensor, " series"]) -> Float[Tensor, "series frequency"]:
    """Power under a Hann window over each series' own span; frequency f is f cycles per width of the panel."""
    each, which = span.unique(return_inverse=True)
    place = (torch.arange(x.shape[1], dtype=x.dtype) + 0.5) / each.clamp(min=1)[:, None]
    window = torch.where(place < 1, torch.sin(torch.pi * place).square(), 0.0)
    return _squared(torch.fft.rfft(x * window[which]))


def correlation(x: Float[Tensor, "series time"], seen: Bool[Tensor, "series time"]) -> Float[Tensor, "series lag"]:
    """Autocorrelation at every lag, over the pairs of which both are observed."""
    mean = _echo(x) / _pairs(seen).clamp(min=1)
    return mean / torch.where(mean[:, :1] > 0, mean[:, :1], 1.0)


def _pairs(seen: Bool[Tensor, "series time"]) -> Tensor:
    """[series, lag]: how many pairs of steps so far apart were both observed."""
    step = torch.arange(seen.shape[1])
    often, last = seen.sum(1), torch.where(seen, step, -1).amax(1)
    whole = bool((often == last + 1 - torch.where(seen, step, seen.shape[1]).amin(1)).all())  # no gaps inside
    return (often[:, None] - step).clamp(min=0) if whole else _echo(seen.double()).round()


def _echo(x: Float[Tensor, "series time"]) -> Float[Tensor, "series lag"]:
    """Sums of the products of what lies so many steps apart, by a transform of a length that has small factors."""
    size = _smooth(2 * x.shape[1])
    sums: Tensor = torch.fft.irfft(_squared(torch.fft.rfft(x, size)), size)
    return sums[:, : x.shape[1]]


@lru_cache
def _smooth(least: int) -> int:
    """The smallest product of twos, threes and fives from there on."""
    power = range(least.bit_length() + 1)
    products: Iterator[int] = (2**a * 3**b * 5**c for a in power for b in power for c in power)
    return min(size for size in products if size >= least)


def _squared(wave: Complex[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    return wave.real.square() + wave.imag.square()


def strength(x: Float[Tensor, "series time"], seen: Bool[Tensor, "series time"], length: Int[Tensor, " series"]) -> Float[Tensor, " series"]:
    """Adjusted R² of the mean at each place of the period, not below 0."""
    share = x.new_zeros(len(x))
    for period in length.unique().tolist():
        if period > 1:
            rows = length == period
            share[rows] = _explained(x[rows], seen[rows], period)
    return share


def _explained(x: Float[Tensor, "series time"], seen: Bool[Tensor, "series time"], period: int) -> Float[Tensor, " series"]:
    pad = -x.shape[1] % period
    fold = torch.nn.functional.pad(x, (0, pad)).unflatten(1, (-1, period))
    often = torch.nn.functional.pad(seen, (0, pad)).unflatten(1, (-1, period)).sum(1)
    between = (fold.sum(1).square() / often.clamp(min=1)).sum(1)
    n, total = often.sum(1), x.square().sum(1)
    free = (often > 0).sum(1)
    left = (1 - between / torch.where(total > 0, total, 1.0)) * (n - 1) / (n - free).clamp(min=1)
    return torch.where((total > 0) & (n > free), 1 - left, 0.0).clamp(min=0)


def _above_noise(power: Float[Tensor, "series frequency"], slowest: Float[Tensor, " series"]) -> Bool[Tensor, "series frequency"]:
    """Which frequencies, from the slowest allowed on, stand out of the power law and hold a thousandth of the power."""
    frequency = torch.arange(power.shape[1], dtype=power.dtype)
    noise = torch.exp(_power_law(power) + EULER)
    high = (power > noise * log(power.shape[1] / CHANCE)) & (power > SHARE * power.sum(1, keepdim=True))
    return high & (frequency >= slowest[:, None] * (1 - 1e-9)) & (frequency > 0)


def _power_law(power: Float[Tensor, "series frequency"]) -> Float[Tensor, "series frequency"]:
    """Straight line of log power on log frequency, every octave weighing the same; what stands out of it is cut down and fitted again."""
    x = torch.arange(power.shape[1], dtype=power.dtype).clamp(min=1).log()
    weight = torch.exp(-x)
    weight[0] = 0
    weight = weight / weight.sum().clamp(min=1e-9)
    x = x - (weight * x).sum()
    raw = power.clamp(min=1e-300).log()
    fit = raw
    for _ in range(CUTS):
        y = torch.minimum(raw, fit + CUT)
        mean = (weight * y).sum(1, keepdim=True)
        fit = mean + (weight * x * y).sum(1, keepdim=True) / (weight * x * x).sum().clamp(min=1e-9) * x
    return fit


def _next(power: Float[Tensor, "series frequency"], top: Int[Tensor, " series"], echo: Float[Tensor, "series lag"], wide: Wide) -> Tensor:
    """[series]: the fundamental of the line at these frequencies."""
    line = _summit(power, top)
    short = echo.shape[1] / line
    times = _multiple(short, echo, wide.limit)
    return _placed(short * times, times * short.square() / wide.span.clamp(min=1) / 2, echo, wide.limit)


def _multiple(length: Float[Tensor, " series"], echo: Float[Tensor, "series lag"], limit: Int[Tensor, " series"]) -> Float[Tensor, " series"]:
    """1, or the least multiple that is nearly the best and repeats much better than the length itself."""
    times = torch.tensor([1, *MULTIPLES], dtype=length.dtype)
    lags = (length[:, None] * times).round().long()
    level = torch.where(lags <= limit[:, None], echo.gather(1, lags.clamp(max=echo.shape[1] - 1)), -1.0)
    level = level.masked_fill((level[:, :1] >= DAILY) & (times == WEEK), -1.0)
    best = level.amax(1)
    return torch.where(best - level[:, 0] < GAIN, 1.0, times[(level >= best[:, None] - NEARLY).long().argmax(1)])


def _summit(power: Float[Tensor, "series frequency"], at: Int[Tensor, " series"]) -> Float[Tensor, " series"]:
    """Where between the frequencies a line has its top: the parabola through three log powers."""
    near = (at[:, None] + torch.tensor([-1, 0, 1])).clamp(0, power.shape[1] - 1)
    left, top, right = power.gather(1, near).clamp(min=1e-300).log().unbind(1)
    bend = left - 2 * top + right
    shift = torch.where(bend < 0, (left - right) / 2 / torch.where(bend < 0, bend, -1.0), 0.0)
    return (at + shift.clamp(-0.5, 0.5)).clamp(min=0.5)


def _placed(length: Float[Tensor, " series"], doubt: Float[Tensor, " series"], echo: Float[Tensor, "series lag"], limit: Int[Tensor, " series"]) -> Tensor:
    """[series]: the whole lag of highest correlation among those that the spectrum cannot tell apart."""
    lag = torch.arange(echo.shape[1])
    lag = lag[: int(limit.max()) + 1]
    echo = echo[:, : len(lag)]
    near = (lag - length[:, None]).abs() <= doubt.clamp(min=0.5 + 1e-9)[:, None]
    return torch.where(near & (lag >= 2) & (lag <= limit[:, None].clamp(min=2)), echo, -torch.inf).argmax(1).clamp(min=1)


def _harmonics(length: Int[Tensor, " series"], count: int, wide: Wide) -> Bool[Tensor, "series frequency"]:
    """The frequencies that belong to a period: all its multiples, or the first where they lie too close to tell apart."""
    base = (wide.width / length)[:, None]
    lobe = (LOBE * wide.width / wide.span.clamp(min=1))[:, None]
    frequency = torch.arange(count, dtype=base.dtype)
    order = (frequency / base).round().clamp(min=1)
    return ((frequency - order * base).abs() <= lobe) & ((base > 4 * lobe) | (order <= STRUCK)) & (length > 1)[:, None]
