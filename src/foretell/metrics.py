"""Metrics: how far guesses lie from the truth; NaN in the truth = not observed, and counts nowhere.

Every metric takes tensors of one shape and `over`, the axes it averages away (None: all). So one function gives the
overall score, and the scores by origin, series, step or target. Where nothing was observed the score is NaN; a NaN
guess where the truth was observed makes the score NaN. Metrics that treat each series on its own first (MASE, RMSSE,
peaks) say by `each` which axes number the series: by default those of [..., series, horizon, target].
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Values = Float[Tensor, "..."]
Axes = tuple[int, ...] | None

EACH = (-3, -1)
PEAK = 0.1


class Peak(NamedTuple):
    """Scores of the points that were high."""

    wape: Values
    bias: Values


def mae(truth: Values, guess: Values, *, over: Axes = None) -> Values:
    """Mean absolute error, in units."""
    return _mean(_miss(truth, guess).abs(), truth.isfinite(), over)


def mse(truth: Values, guess: Values, *, over: Axes = None) -> Values:
    """Mean squared error, in squared units."""
    return _mean(_miss(truth, guess).square(), truth.isfinite(), over)


def rmse(truth: Values, guess: Values, *, over: Axes = None) -> Values:
    """Root of the mean squared error, in units."""
    return mse(truth, guess, over=over).sqrt()


def bias(truth: Values, guess: Values, *, over: Axes = None) -> Values:
    """Mean of guess − truth, in units: above 0, the guesses are too high."""
    return _mean(_miss(truth, guess), truth.isfinite(), over)


def mape(truth: Values, guess: Values, *, over: Axes = None) -> Values:
    """Mean absolute percentage error, 0 … 100 …; points whose truth is 0 have none and are left out."""
    seen = truth.isfinite() & (truth != 0)
    return 100 * _mean(_miss(truth, guess).abs() / torch.where(seen, truth, 1.0).abs(), seen, over)


def smape(truth: Values, guess: Values, *, over: Axes = None) -> Values:
    """Symmetric MAPE as in M4, 0 … 200: the mean of 200·|guess − truth| / (|guess| + |truth|), 0 where both are 0.

    utilsforecast's, 0 … 1, is this over 200; "half-scale" percent is this over 2.
    """
    size = guess.abs() + truth.nan_to_num().abs()
    return 200 * _mean(_miss(truth, guess).abs() / torch.where(size == 0, 1.0, size), truth.isfinite(), over)


def wape(truth: Values, guess: Values, *, over: Axes = None) -> Values:
    """Weighted absolute percentage error as a fraction: sum of absolute errors over sum of absolute truths, pooled."""
    seen = truth.isfinite()
    return _ratio(_sum(_miss(truth, guess).abs(), seen, over), _sum(truth.abs(), seen, over))


def mase(truth: Values, guess: Values, scale: Values, *, over: Axes = None, each: tuple[int, ...] = EACH) -> Values:
    """Mean absolute error of each series over its `scale` (seasonal naive's own in training; broadcasts), then the mean of the series (M4).

    A series whose scale is 0 or NaN has no MASE and is left out.
    """
    seen = truth.isfinite() & (scale > 0)
    inner, outer = _apart(over, each, truth.ndim)
    return _mean(_mean(_miss(truth, guess).abs() / _usable(scale), seen, inner), _any(seen, inner), outer)


def rmsse(truth: Values, guess: Values, square: Values, *, over: Axes = None, each: tuple[int, ...] = EACH) -> Values:
    """Root of each series' mean squared error over its `square` (seasonal naive's own in training; broadcasts), then the mean of the series (M5)."""
    seen = truth.isfinite() & (square > 0)
    inner, outer = _apart(over, each, truth.ndim)
    return _mean(_mean(_miss(truth, guess).square() / _usable(square), seen, inner).sqrt(), _any(seen, inner), outer)


def pinball(truth: Values, guess: Values, level: float | Values, *, over: Axes = None) -> Values:
    """Quantile loss at `level` (0 … 1; a tensor broadcasts), in units; half the absolute error at 0.5."""
    miss = _miss(truth, guess)
    return _mean(torch.maximum((1 - level) * miss, -level * miss), truth.isfinite(), over)


def coverage(truth: Values, low: Values, high: Values, *, over: Axes = None) -> Values:
    """The share, 0 … 1, of the points that lie in the band, its edges included."""
    inside = ((truth >= low) & (truth <= high)).to(truth.dtype)
    return _mean(torch.where(low.isnan() | high.isnan(), torch.nan, inside), truth.isfinite(), over)


def peak(truth: Values, guess: Values, *, over: Axes = None, each: tuple[int, ...] = EACH) -> Peak:
    """WAPE and bias of the points in the top tenth of their own series by size."""
    high = torch.where(top(truth.abs(), each), truth, torch.nan)
    return Peak(wape(high, guess, over=over), bias(high, guess, over=over))


def top(size: Values, each: tuple[int, ...] = EACH, share: float = PEAK) -> Bool[Tensor, "..."]:
    """Marks the largest tenth of each series' observed points, at least one; equals of the smallest among them are in too."""
    kept = sorted(range(size.ndim)[axis] for axis in each)
    flat = size.movedim(kept, tuple(range(len(kept)))).flatten(len(kept))
    rising = torch.where(flat.isfinite(), flat, -torch.inf).sort(-1).values
    count = (flat.isfinite().sum(-1, keepdim=True) * share).ceil().long().clamp(min=1)
    edge = rising.gather(-1, rising.shape[-1] - count)[..., 0]
    for axis in (axis for axis in range(size.ndim) if axis not in kept):
        edge = edge.unsqueeze(axis)
    return size >= edge


def _miss(truth: Values, guess: Values) -> Values:
    """guess − truth, 0 where not observed: masked before anything curved, so that no NaN enters a gradient."""
    return torch.where(truth.isfinite(), guess - truth, 0.0)


def _sum(x: Values, seen: Bool[Tensor, "..."], over: Axes) -> Values:
    axes = tuple(range(x.ndim)) if over is None else over
    kept = torch.where(seen, x, 0.0)
    return kept.sum(axes) if axes else kept


def _mean(x: Values, seen: Bool[Tensor, "..."], over: Axes) -> Values:
    return _ratio(_sum(x, seen, over), _sum(torch.ones_like(x), seen, over))


def _any(seen: Bool[Tensor, "..."], over: tuple[int, ...]) -> Bool[Tensor, "..."]:
    return seen.sum(over) > 0 if over else seen


def _ratio(total: Values, weight: Values) -> Values:
    """NaN where there is no weight."""
    return torch.where(weight > 0, total / torch.where(weight > 0, weight, 1.0), torch.nan)


def _usable(scale: Values) -> Values:
    return torch.where(scale > 0, scale, 1.0)


def _apart(over: Axes, each: tuple[int, ...], ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes to average within a series, and those that number the series, as they stand once the first are gone."""
    wanted = {range(ndim)[axis] for axis in (range(ndim) if over is None else over)}
    series = {range(ndim)[axis] for axis in each}
    inner = tuple(sorted(wanted - series))
    return inner, tuple(axis - sum(gone < axis for gone in inner) for axis in sorted(wanted & series))
