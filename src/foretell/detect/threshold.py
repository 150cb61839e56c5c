"""Thresholds: how high a score must be for an alarm, from normal scores or from the scores themselves."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .features import median

NORMAL_MAD = 1.4826
TAIL = 0.2  # share of the largest block maxima that the tail is fitted to
FEWEST = 30  # excesses below which the tail is taken as exponential
HEAVIEST = 0.5  # shape of the tail at most: beyond it not even a variance exists, and few points cannot show it
SHAPES = 400  # shapes tried on either side of the exponential

Line = Float[Tensor, " time"]


class Limit(NamedTuple):
    """A threshold; `extrapolated` if it lies beyond every normal score seen, `days` how long the normal scores reach."""

    value: float
    kind: str
    extrapolated: bool = False
    days: float = 0.0


class Tail(NamedTuple):
    """Generalised Pareto: excess over `start` has P(> x) = (1 + shape·x/scale)^(−1/shape); `share` of the values lie above start."""

    start: float
    scale: float
    shape: float
    share: float

    def quantile(self, beyond: float) -> float:
        """The value that a share `beyond` of all values exceeds; beyond ≤ share."""
        ratio = torch.tensor(beyond / self.share, dtype=torch.float64)
        grown = -ratio.log() if abs(self.shape) < 1e-9 else torch.expm1(-self.shape * ratio.log()) / self.shape
        return self.start + self.scale * float(grown)


def sigma(errors: Line, k: float = 3.0) -> float:
    """Mean and k standard deviations, NaN left out."""
    seen = errors[~errors.isnan()].double()
    return float(seen.mean() + k * seen.std(correction=0))


def robust(errors: Line, k: float = 6.0) -> float:
    """Median and k times the scaled median absolute deviation: a long fault does not raise its own threshold."""
    seen = errors[~errors.isnan()].double()
    middle = median(seen)
    return float(middle + k * NORMAL_MAD * median((seen - middle).abs()))


def costs(errors: Line, epsilon: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
    """The cost of each threshold, smaller is better; infinite where nothing lies above.

    −((mean − mean below)/mean + (std − std below)/std) / (number above + (runs above)²). Hundman et al. (2018),
    arXiv:1802.04431, section 3.3. Where nothing lies below, both differences are 0, as in the notebook.
    """
    ordered = errors.sort().values
    mean, std = errors.mean(), errors.std(correction=0)
    below = torch.searchsorted(ordered, epsilon, right=True)
    above = len(errors) - below
    pairs = torch.minimum(errors[1:], errors[:-1]).sort().values  # both of two neighbours lie above
    runs = above - (len(pairs) - torch.searchsorted(pairs, epsilon, right=True))
    away = torch.cat([errors.new_zeros(1), (ordered - mean).cumsum(0)])[below] / below
    square = torch.cat([errors.new_zeros(1), (ordered - mean).square().cumsum(0)])[below] / below
    inside = (square - away.square()).clamp(min=0).sqrt()
    gain = torch.where(below > 0, -away / mean + (std - inside) / std, 0.0)
    return torch.where(above > 0, -gain / (above + runs.square()), torch.inf)


def dynamic(errors: Line, z_range: tuple[float, float] = (0.0, 10.0)) -> float:
    """The exact minimum of `costs` over all thresholds within z_range standard deviations of the mean; the smallest of equals.

    Infinite (no event) where the errors do not differ, or no threshold in the range has an error above it.
    """
    seen = errors[~errors.isnan()].double()
    if not len(seen) or not float(seen.std(correction=0)) > 1e-12 * abs(float(seen.mean())):
        return torch.inf
    mean, std = seen.mean(), seen.std(correction=0)
    floor, roof = (mean + z * std for z in z_range)
    tried = torch.cat([floor[None], seen[(seen >= floor) & (seen <= roof)]]).unique()
    found = costs(seen, tried)
    if not bool(found.isfinite().any()):
        return torch.inf
    best = found.min()
    # Equal costs may differ by rounding; the first within it is the smallest threshold.
    return float(tried[(found <= best + 1e-13 * best.abs()).nonzero()[0, 0]])


def tail(values: Line, share: float, least: float | None = None) -> Tail:
    """A generalised Pareto fitted to the largest `share` of the values by maximum likelihood, shape between `least` and ½.

    Profile likelihood in θ = shape/scale, one dimension: Grimshaw (1993), doi:10.1080/00401706.1993.10485040.
    """
    ordered = values.double().sort().values
    count = min(len(ordered) - 1, max(1, round(share * len(ordered))))
    start = float(ordered[-count - 1])
    excess = (ordered[-count:] - start).clamp(min=0)
    above, mean = count / len(ordered), float(excess.mean())
    if mean <= 0:
        return Tail(start, 0.0, 0.0, above)
    if count < FEWEST:
        return Tail(start, mean, 0.0, above)
    steps = torch.logspace(-4, 3, SHAPES, dtype=torch.float64)
    theta = torch.cat([-steps[steps < 1] / float(excess.max()), steps / mean])
    shape = torch.log1p(theta[:, None] * excess).mean(1)
    likelihood = -(shape / theta).log() - shape - 1
    allowed = (shape <= HEAVIEST) & (shape >= (-HEAVIEST if least is None else least)) & likelihood.isfinite()
    exponential = -torch.tensor(mean).log() - 1
    if not bool(allowed.any()) or float(likelihood[allowed].max()) <= float(exponential):
        return Tail(start, mean, 0.0, above)
    best = int(torch.where(allowed, likelihood, -torch.inf).argmax())
    return Tail(start, float(shape[best] / theta[best]), float(shape[best]), above)


def spot(normal: Line, rate: float, start: float = 0.98) -> float:
    """Peaks over threshold: the score that a share `rate` of normal rows exceeds, by the tail above their `start` quantile.

    Siffer et al. (2017), doi:10.1145/3097983.3098144, section 3.2.
    """
    seen = normal[~normal.isnan()].double()
    if rate >= 1 - start:
        return float(seen.quantile(1 - rate))
    return tail(seen, 1 - start).quantile(rate)


def block_maxima(runs: Sequence[Float[Tensor, " _"]], block: int) -> Line:
    """The largest score of every `block` rows; what is left at the end counts if it is half a block or the whole run."""
    found = []
    for run in runs:
        known = torch.where(run.isnan(), -torch.inf, run.double())
        for part in known.split(block):
            if 2 * len(part) >= block or len(known) < block:
                found.append(part.max())
    maxima = torch.stack(found) if found else torch.empty(0, dtype=torch.float64)
    return maxima[maxima.isfinite()]


def calibrated(runs: Sequence[Float[Tensor, " _"]], per_day: float, row_seconds: float, block: int) -> Limit:
    """The threshold that normal runs exceed in `per_day` blocks a day: one alarm at most for each such block.

    Blocks, not rows: neighbouring scores share their windows, and one disturbance is one alarm. Where the normal runs are too
    short to have shown that rate, their tail is continued (never as a bounded one) and the limit is marked extrapolated.
    """
    maxima = block_maxima(runs, block).sort(descending=True).values
    days = sum(int((~run.isnan()).sum()) for run in runs) * row_seconds / 86400
    if len(maxima) < 2:
        return Limit(float(maxima.max()) if len(maxima) else torch.inf, "calibrated", True, days)
    allowed = per_day * days
    if allowed >= 1:
        return Limit(float(maxima[min(int(allowed), len(maxima) - 1)]), "calibrated", False, days)
    beyond = max(allowed / len(maxima), 1e-12)
    return Limit(max(float(maxima[0]), tail(maxima, TAIL, least=0.0).quantile(beyond)), "calibrated", True, days)
