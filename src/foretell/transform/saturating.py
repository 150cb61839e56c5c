"""Saturating: the notebook's quantile scaler. What lies beyond the training extremes counts as the extreme, and no forecast reaches past it.

As scikit-learn's QuantileTransformer(output_distribution="normal") with 1,000 quantiles; kept for comparison with the notebook, whose scaler for
each place in the window differs from this one by the few days that the places lie apart.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .scale import Scale, by_chunk

KNOTS = 1000
NEAR = 1e-7  # what lies this near to an extreme is one: so all zeros of slow sales stand at the lower edge
EDGE = 5.199337582605575  # the normal score of one part in ten million: where scikit-learn ends


@final
@dataclass(frozen=True, eq=False)
class Saturating(Scale):
    """Evenly spaced quantiles of the training values; a value that occurs often takes the middle of its share. Beyond the first and the
    last both directions stand still, so the inverse holds inside the training range alone."""

    knot: Float[Tensor, "series channel quantile"]

    def apply(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        flat, knot = self._laid(x, series)
        low, high = (torch.searchsorted(knot, flat, right=right) for right in (False, True))
        # Between two knots a straight line; on knots that are equal the middle between the first and the last of them.
        below, above = (low - 1).clamp(min=0), low.clamp(max=KNOTS - 1)
        left, right = knot.gather(-1, below), knot.gather(-1, above)
        part = torch.where(right > left, (flat - left) / torch.where(right > left, right - left, 1.0), 0.0).clamp(0, 1)
        share = torch.where(high > low, (low + high - 1) / 2, below + part) / (KNOTS - 1)
        share = torch.where(flat - NEAR < knot[..., :1], 0.0, torch.where(flat + NEAR > knot[..., -1:], 1.0, share))
        score = torch.special.ndtri(share.double()).clamp(-EDGE, EDGE).to(x.dtype)
        return self._back(torch.where(flat.isnan(), torch.nan, score), x)

    def invert(self, x: Float[Tensor, "example *middle channel"], series: Int[Tensor, " example"]) -> Float[Tensor, "example *middle channel"]:
        flat, knot = self._laid(x, series)
        share = torch.special.ndtr(flat.double())
        place = torch.where(share + NEAR > 1, 1.0, torch.where(share - NEAR < 0, 0.0, share)) * (KNOTS - 1)
        low = place.nan_to_num().floor().clamp(max=KNOTS - 2).long()
        left, right = knot.gather(-1, low), knot.gather(-1, low + 1)
        value = left + (right - left) * (place - low).to(x.dtype)
        return self._back(torch.where(flat.isnan(), torch.nan, value), x)

    def _laid(self, x: Tensor, series: Tensor) -> tuple[Tensor, Tensor]:
        """[example, channel, value] and the knots that face them."""
        flat = (x.movedim(-1, 1).flatten(2) if x.ndim > 2 else x[..., None]).contiguous()
        knot = self.knot[series] if len(self.knot) > 1 else self.knot.expand(len(flat), -1, -1)
        return flat, knot.contiguous()

    def _back(self, flat: Tensor, x: Tensor) -> Tensor:
        return flat.reshape(x.shape[0], x.shape[-1], *x.shape[1:-1]).movedim(1, -1)


def fit_saturating(values: Float[Tensor, "series time channel"]) -> Saturating:
    """Of each series and channel; one in which nothing was observed has zeros."""
    (knot,) = by_chunk(_quantiles, values, values.dtype)
    return Saturating(knot)


def _quantiles(chunk: Float[Tensor, "series time channel"]) -> tuple[Tensor]:
    ordered = chunk.movedim(1, 2).double().nan_to_num(torch.inf).sort(-1).values
    count = chunk.isfinite().sum(1)[..., None]
    place = torch.linspace(0, 1, KNOTS, dtype=torch.float64) * (count - 1).clamp(min=0)
    below, above = (ordered.gather(-1, edge.long()) for edge in (place.floor(), place.ceil()))
    return (torch.where(count > 0, torch.lerp(below, above, place - place.floor()), 0.0),)
