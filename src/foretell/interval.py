"""Bands from errors seen: locally weighted split-conformal quantiles around the point, one set a horizon step.

Lei, G'Sell, Rinaldo, Tibshirani, Wasserman (2018), JASA 113, §5.2, doi:10.1080/01621459.2017.1307116; signed, so that the two
sides of a band may differ. A score is (truth − point) / width in model space, where the width is what the model itself
says of its uncertainty (its outer levels, below and above the point) times the usual error of the series. One
quantile of the scores a probability: bands are nested and never cross, whatever levels are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

KEPT = 999  # scores kept a horizon step: enough for a 99.8 % band, small in a file
PRIOR = 20.0  # a series' own error weighs as much as the pool's once it has been seen this often

Slots = Float[Tensor, "example horizon target slot"]


@dataclass(frozen=True, eq=False)
class Conformal:
    """Scores by horizon step and target, ascending, NaN at the end; usual error of each series relative to the pool's."""

    scores: Float[Tensor, "horizon target score"]
    spread: Float[Tensor, "series target"]


def conformal(output: Slots, truth: Float[Tensor, "example horizon target"], series: Int[Tensor, " example"], count: int) -> Conformal:
    """From forecasts of windows not trained on, and what became of them (NaN = not observed)."""
    spread = _spread(output, truth, series, count)
    return Conformal(kept(scores_of(output, truth, spread[series])), spread)


def scores_of(
    output: Slots, truth: Float[Tensor, "example horizon target"], spread: Float[Tensor, "example target"]
) -> Float[Tensor, "horizon target example"]:
    """Signed errors in widths of the model's own band."""
    low, high = _widths(output)
    gap = truth - output[..., 0]
    return (gap / torch.where(gap < 0, low, high) / spread[:, None]).movedim(0, -1)


def kept(scores: Float[Tensor, "horizon target example"]) -> Float[Tensor, "horizon target score"]:
    """Sorted; thinned to evenly spaced ranks where there are more than a file should hold."""
    ranked = scores.nan_to_num(torch.inf).sort(-1).values
    ranked = ranked.masked_fill(ranked.isinf(), torch.nan)
    size = ranked.shape[-1]
    return ranked if size <= KEPT else ranked[..., torch.linspace(0, size - 1, KEPT).round().long()]


def normal(blank: Conformal, levels: Sequence[float]) -> Conformal:
    """Scores that give a model its own bands back: its outer levels where they stand, all others as a normal distribution has them."""
    outer = max((abs(p - 0.5) for p in levels), default=0.0)
    if not outer:
        return blank
    ranks = torch.arange(1, KEPT + 1, dtype=torch.float64) / (KEPT + 1)
    line = torch.special.ndtri(ranks) / torch.special.ndtri(torch.tensor(0.5 + outer, dtype=torch.float64))
    shape = (*blank.scores.shape[:2], KEPT)
    return Conformal(line.to(blank.spread.dtype).expand(shape).contiguous(), blank.spread)


def quantiles(output: Slots, fitted: Conformal, series: Int[Tensor, " example"], probs: Sequence[float]) -> Float[Tensor, "example horizon target prob"]:
    """Points where the truth lies below with these probabilities, in model space, ascending with `probs`.

    A rank beyond the scores seen (a 99 % band from 20 of them) takes the outermost score.
    """
    # A model that was biased lately can have all its central scores on one side: the point is kept inside its own bands.
    below, above = (torch.tensor([side * (p - 0.5) > 0 for p in probs], dtype=torch.bool) for side in (-1, 1))
    at = ranked(fitted.scores, probs)
    at = torch.where(below, at.clamp(max=0), torch.where(above, at.clamp(min=0), at))
    low, high = (w[..., None] * fitted.spread[series][:, None, :, None] for w in _widths(output))
    return output[..., :1] + at * torch.where(at < 0, low, high)


def ranked(scores: Float[Tensor, "horizon target score"], probs: Sequence[float]) -> Float[Tensor, "horizon target prob"]:
    """The conformal order statistic of each probability: rank ⌈p(n+1)⌉ above the median, ⌊p(n+1)⌋ below."""
    count = scores.isfinite().sum(-1, keepdim=True)
    if scores.shape[-1] == 0:
        return scores.new_zeros(*scores.shape[:2], len(probs))
    want = torch.tensor(probs, dtype=torch.float64) * (count + 1)
    rank = torch.where(torch.tensor(probs, dtype=torch.float64) >= 0.5, want.ceil(), want.floor()).long()
    picked = scores.gather(-1, (rank.clamp(min=1).minimum(count.clamp(min=1))) - 1)
    return torch.where(count > 0, picked, 0.0)


def _widths(output: Slots) -> tuple[Tensor, Tensor]:
    """How far the model's outer levels lie below and above its point; 1 for a model that has none."""
    point = output[..., 0]
    if output.shape[-1] < 3:
        return torch.ones_like(point), torch.ones_like(point)
    low, high = (point - output[..., 1:].amin(-1)).clamp(min=0), (output[..., 1:].amax(-1) - point).clamp(min=0)
    both = low + high
    # A level that lies on the wrong side of the point says nothing; a tenth of the whole band keeps the score finite.
    least = (both * 0.1).clamp(min=1e-6)
    return torch.where(both > 0, low.maximum(least), 1.0), torch.where(both > 0, high.maximum(least), 1.0)


def _spread(output: Slots, truth: Float[Tensor, "example horizon target"], series: Int[Tensor, " example"], count: int) -> Float[Tensor, "series target"]:
    """Mean size of a series' scores over the pool's, drawn to 1 where it was seen seldom."""
    ones = output.new_ones(len(output), output.shape[2])
    size = scores_of(output, truth, ones).abs().movedim(-1, 0)  # [example, horizon, target]
    seen: Bool[Tensor, "example horizon target"] = size.isfinite()
    total = size.nan_to_num(0.0).sum(1)
    number = seen.sum(1).to(total.dtype)
    pool = total.sum(0) / number.sum(0).clamp(min=1)
    by_series = total.new_zeros(count, total.shape[1]).index_add(0, series, total)
    seen_of = number.new_zeros(count, total.shape[1]).index_add(0, series, number)
    # Windows overlap: a horizon of steps counts as one sight of the series.
    weight, prior = seen_of / output.shape[1], PRIOR
    own = by_series / seen_of.clamp(min=1) / pool.clamp(min=1e-12)
    return torch.where(pool > 0, (weight * own + prior) / (weight + prior), 1.0)
