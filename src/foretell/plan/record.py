"""Record: how items answered to their own past promotions, against what the model says of them."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..forecaster import Forecaster
from ..panel import Panel
from .history import Past, past_forecasts
from .pooled import LEAST, Pooled

SMALL = 0.02  # a promotion takes more than this share off; a dip is more than this share deep
DRAWS, ROOM = 96, 2**23  # draws of the corrections, at least, unless they would be more numbers than this
FEWEST = 0.1  # of its usual level, the least that an item is taken to sell
Steps = Float[Tensor, "series window step"]
Marks = Bool[Tensor, "series window step"]


class Record(NamedTuple):
    """What the past says of the model's word, as shares of it. On a step with discount d an item sells `curve` (1, d, d²) + `rise` · d more
    than told; afterwards, where a share f was told to be missing, `fading` (f, f²) + `wake` · f more. `rise` and `wake` are the item's own,
    as wide as the next promotion may differ from its others; `level` is the deviation of all of an item's steps together. `times`:
    promotions of each item that were looked at; `deepest`: the largest discount."""

    curve: Float[Tensor, " 3"]
    fading: Float[Tensor, " 2"]
    deepest: float
    rise: Pooled
    wake: Pooled
    level: Float[Tensor, " series"]
    times: Float[Tensor, " series"]

    def moved(self, out: Float[Tensor, "plan member series step"], discount: float, at: slice) -> tuple[Tensor, Tensor]:
        """Draws of what is sold with the promotion and without it [plan, draw, series, step], and of the level in them [draw, series]."""
        members, wanted = out.shape[1], min(DRAWS, ROOM // out[0, 0].numel())
        rounds, draw = max(1, -(-wanted // (2 * members))), Generator().manual_seed(0)
        rise, wake, level = (one.drawn(2 * members * rounds, draw)[..., None] for one in (self.rise, self.wake, Pooled.around(self.level)))
        told, bare = out.repeat(1, 2 * rounds, 1, 1)
        promoted, depth, later = told.clone(), min(discount, self.deepest), slice(at.stop, None)
        shared = self.curve[0] + self.curve[1] * depth + self.curve[2] * depth**2
        promoted[..., at] *= (1 + shared + rise * discount).clamp(min=0)
        fall = ((bare - told) / told.clamp(min=LEAST))[..., later].clamp(0, 1)
        promoted[..., later] *= 1 + self.fading[0] * fall + self.fading[1] * fall**2 + wake * fall
        level = (1 + level).clamp(min=FEWEST)
        return torch.stack([promoted, bare]) * level, level[..., 0]


class _Fit(NamedTuple):
    """A weighted least-squares fit of every item: its slopes with standard errors, and what it leaves."""

    slope: Float[Tensor, "series term"]
    error: Float[Tensor, "series term"]
    rest: Steps
    noise: Float[Tensor, " series"]


def record(model: Forecaster, panel: Panel, channel: str, target: str, origin: int, *, price: bool) -> Record | None:
    """The record of all items up to the origin; None where the history holds no promotion that could be forecast."""
    past = past_forecasts(model, panel, channel, target, origin, price=price)
    if past is None or not bool((past.depth > SMALL).any()):
        return None
    return recorded(past, pool=not model.per_series)


def recorded(past: Past, *, pool: bool) -> Record:
    """By least squares of (true − told) / told, weighted by told over the item's noise: first what all items share, curved, then on top of it
    each item's own level, rise and wake. What windows deviate from that beyond the noise of their steps is what the next promotion may do."""
    use = past.true.isfinite() & past.depth.isfinite() & (past.told > LEAST)
    told = past.told.where(use, 0.0)
    rest = torch.where(use, (past.true - told) / told.where(use, 1.0), 0.0)
    size = (told * rest.square()).sum((1, 2)) / use.sum((1, 2)).clamp(min=1)
    weight = told / size.clamp(min=LEAST)[:, None, None]
    given = use & (past.depth > SMALL)
    depth = past.depth.where(given, 0.0)
    fall = torch.where(use & ~given, (past.bare - told) / told.where(use, 1.0), 0.0).clamp(0, 1)
    common = torch.stack([use.double(), given.double(), depth, depth**2, fall, fall**2], -1)
    shared = _fit(common.flatten(0, 1)[None], weight.flatten(0, 1)[None], rest.flatten(0, 1)[None]).slope[0]
    own = _fit(torch.stack([use.double(), depth, fall], -1), weight, rest - common[..., 1:] @ shared[1:])
    still = use & ~given & (fall <= SMALL)
    rise, wake = (
        Pooled.of(own.slope[:, k], own.error[:, k], pool=pool).widened(_apart(own, weight, part, of, still))
        for k, part, of in ((1, given, depth), (2, fall > SMALL, fall))
    )
    level = (_apart(own, weight, still, still.double()) ** 2 + own.slope[:, 0].square()).sqrt()
    return Record(shared[1:4], shared[4:], float(depth.max()), rise, wake, level, _begun(given))


def _fit(x: Float[Tensor, "series window step term"], weight: Steps, y: Steps) -> _Fit:
    """A standard error is that of independent steps times how much more, over all items, the windows vary than independent steps would;
    infinite where a term hardly appears."""
    square = torch.einsum("swt,swtj,swtk->sjk", weight, x, x)
    mass = weight.sum((1, 2)).clamp(min=LEAST)
    known = torch.diagonal(square, dim1=1, dim2=2) > 1e-6 * mass[:, None]
    inverse = torch.linalg.pinv(square * known[:, None] * known[..., None])
    slope = torch.einsum("sjk,swt,swtk,swt->sj", inverse, weight, x, y)
    rest = (y - torch.einsum("swtk,sk->swt", x, slope)).where(weight > 0, 0.0)
    noise = (weight * rest.square()).sum((1, 2)) / ((weight > 0).sum((1, 2)) - x.shape[-1]).clamp(min=1)
    plain = noise[:, None] * torch.diagonal(inverse, dim1=1, dim2=2)
    score = torch.einsum("swt,swtk,swt->swk", weight, x, rest)
    grouped = torch.einsum("sjk,swk->swj", inverse, score).square().sum(1)
    sure = known & (plain > 0)
    more = ((grouped / plain.clamp(min=1e-30)).where(sure, 0.0).sum(0) / sure.sum(0).clamp(min=1)).clamp(min=1)
    return _Fit(slope, torch.where(sure, (plain * more).sqrt(), torch.inf), rest, noise)


def _apart(fit: _Fit, weight: Steps, part: Marks, size: Steps, other: Marks | None = None) -> float:
    """How far single windows deviate from the fit in some of their steps, per unit of `size`, beyond the noise of steps; compared with `other` steps
    of the same window if given. By moments over all windows of all items: the mean of what the variance may be, given its estimate and that it is
    not below 0, so that one that happens to come out at 0 is not taken for certain."""
    mass, away = _mean(fit.rest, weight * part)
    large = _mean(size, weight * part)[1]
    spread = fit.noise[:, None] / mass.clamp(min=LEAST)
    fair = mass > LEAST
    if other is not None:
        held, beside = _mean(fit.rest, weight * other)
        fair, away, spread = fair & (held > LEAST), away - beside, spread + fit.noise[:, None] / held.clamp(min=LEAST)
    spread = spread * (1 - 1 / fair.sum(1).clamp(min=1))[:, None]  # what was fitted to these windows has taken its part of their noise
    trust = torch.where(fair & (spread > 0), 1 / spread.clamp(min=LEAST), 0.0)
    scale = (trust * large.square()).sum().clamp(min=LEAST)
    excess, error = (trust * (away.square() - spread)).sum() / scale, (2 * (trust > 0).sum()).double().sqrt() / scale
    z = excess / error.clamp(min=1e-30)
    return float((excess + error * torch.exp(-(z.square()) / 2 - torch.special.log_ndtr(z)) / (2 * torch.pi) ** 0.5).clamp(min=0).sqrt())


def _mean(values: Steps, weight: Steps) -> tuple[Float[Tensor, "series window"], Float[Tensor, "series window"]]:
    """Weight of each window, and its mean."""
    mass = weight.sum(2)
    return mass, (weight * values).sum(2) / mass.clamp(min=LEAST)


def _begun(given: Marks) -> Float[Tensor, " series"]:
    """How many promotions of each item there were."""
    run = given.flatten(1)
    return (run & ~torch.cat([torch.zeros_like(run[:, :1]), run[:, :-1]], 1)).sum(1).double()
