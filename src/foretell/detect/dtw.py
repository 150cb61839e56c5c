"""Dynamic time warping: how far what was expected must be bent in time and value to become what was seen, around every row."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

Rows = Float[Tensor, "time channel"]
BLOCK = 2**13  # stretches, times channels, that are worked on at once: their tables stay in the processor's cache


def dtw(seen: Rows, expected: Rows, behind: int, ahead: int) -> Rows:
    """Distance between both courses over the rows −behind … +ahead of every row, channel by channel, in the unit of the values.

    Classic warping with squared differences and no band, the root of the cheapest path (Sakoe & Chiba, doi
    10.1109/TASSP.1978.1163055). Centred on its row when behind = ahead, and there is no row without one: beyond the ends, and
    where a value is missing, both courses are 0. A row that is missing itself is NaN.
    """
    lost = seen.isnan() | expected.isnan()
    y, p = (pad(one.masked_fill(lost, 0.0).T, (behind, ahead)).contiguous() for one in (seen, expected))
    out = torch.empty_like(y[:, : len(seen)])
    step = max(BLOCK // max(len(y), 1), 64)
    for first in range(0, len(seen), step):
        last = min(first + step, len(seen))
        _warp(y[:, first : last + behind + ahead], p[:, first : last + behind + ahead], out[:, first:last])
    return out.sqrt_().T.masked_fill(lost, torch.nan)


def _warp(y: Float[Tensor, "channel reach"], p: Float[Tensor, "channel reach"], out: Float[Tensor, "channel time"]) -> None:
    """Fills `out` with the cheapest path's cost of every stretch: all stretches, and all cells of one antidiagonal of their tables, at once.

    Cell i of antidiagonal d costs (y[t + i] − p[t + d − i])² in the stretch that begins at t, and is reached from cells i and
    i − 1 of the one before and i − 1 of the one before that. Row 0 of the tables stands for "no way here".
    """
    width = y.shape[1] - out.shape[1] + 1
    ahead = y.unfold(1, out.shape[1], 1).transpose(0, 1)  # [cell, channel, time]
    back = p.unfold(1, out.shape[1], 1).transpose(0, 1).flip(0)
    apart = torch.empty_like(back)
    before, last, now = (out.new_full((width + 1, *out.shape), torch.inf) for _ in range(3))
    last[0] = 0.0  # the way into the first cell
    for d in range(2 * width - 1):
        low, high = max(0, d - width + 1), min(d, width - 1) + 1
        cells, steps = now[low + 1 : high + 1], apart[: high - low]
        torch.sub(ahead[low:high], back[width - 1 - d + low : width - 1 - d + high], out=steps)
        torch.minimum(last[low + 1 : high + 1], last[low:high], out=cells)
        torch.minimum(cells, before[low:high], out=cells).addcmul_(steps, steps)
        if d == 0:
            last[0] = torch.inf
        before, last, now = last, now, before
    out.copy_(last[-1])
