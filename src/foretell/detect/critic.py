"""The critic's score: how unusual the critic finds a row, from its values of all windows that hold it, by constants frozen on normal rows."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError

Line = Float[Tensor, " time"]
Piece = Float[Tensor, " _"]  # one of several, each of its own length
ROOM = 2**20  # pairs of values compared at once


class CriticScale(NamedTuple):
    """What a critic usually says of a normal row, and how far it usually strays."""

    centre: float
    width: float

    @classmethod
    def of(cls, modes: Sequence[Piece]) -> Self:
        """The mean of the middle half of all normal rows, and the standard deviation of all of them."""
        every = torch.cat([one[~one.isnan()] for one in modes]).double()
        if not len(every):
            raise TaskError("no window of the normal runs was judged by the critic")
        low, high = every.quantile(0.25), every.quantile(0.75)
        return cls(float(every[(every >= low) & (every <= high)].mean()), max(float(every.std(correction=0)), torch.finfo(torch.float32).tiny))


def critic_modes(values: Float[Tensor, " start"], window: int) -> Line:
    """The most likely value of every row's windows: that of highest Gaussian kernel density among them (Scott's width), the
    median if there is but one or all are equal. values[s] is the critic's of the window that begins at row s (NaN: there is
    none); there are window − 1 rows more than values. NaN for a row that no window holds. TadGAN, arXiv 2009.07769 §IV-C.
    """
    edge = values.new_full((window - 1,), torch.nan)
    around = torch.cat([edge, values, edge]).unfold(0, window, 1)  # row by row, from the window that ends here to the one that begins
    return torch.cat([_mode(block) for block in around.split(max(ROOM // window**2, 1))])


def critic_score(modes: Line, scale: CriticScale) -> Line:
    """How many widths a row's value lies from the centre, plus 1: a factor that leaves an error as it is where the critic sees nothing."""
    return ((modes - scale.centre) / scale.width).abs() + 1


def _mode(values: Float[Tensor, "time window"]) -> Line:
    there = ~values.isnan()
    count = there.sum(1)
    known = values.nan_to_num(0.0)
    mean = known.sum(1) / count.clamp(min=1)
    spread = (((known - mean[:, None]) ** 2 * there).sum(1) / (count - 1).clamp(min=1)).sqrt()
    width = spread * count.clamp(min=1).to(values) ** -0.2
    apart = (known[:, :, None] - known[:, None]) / width.clamp(min=torch.finfo(values.dtype).tiny)[:, None, None]
    density = ((apart.square() / -2).exp() * there[:, None]).sum(2).masked_fill(~there, -1.0)
    likely = known.gather(1, density.argmax(1, keepdim=True))[:, 0]
    # `median` of torch takes the lower of two; with all equal, or one, that is the median.
    alike = (count < 2) | (spread == 0)
    return torch.where(alike, values.nanmedian(1).values, likely)
