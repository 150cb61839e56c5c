"""Dynamic time warping: how far what was expected must be bent in time and value to become what was seen, around every row."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

Rows = Float[Tensor, "time channel"]
BLOCK = 2**13  # numbers of a column of the table that are worked on at once: they stay in the processor's cache


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
    """Fills `out` with the cheapest path's cost of every stretch, all stretches at once, cell by cell of their tables.

    Cell (i, j) of the stretch that begins at t costs (y[t + i] − p[t + j])²: the numbers of a diagonal j − i, shifted by i. So
    there are 2 · width − 1 courses of costs, not width².
    """
    time = out.shape[1]
    width = y.shape[1] - time + 1
    costs = {}
    for shift in range(1 - width, width):
        low, high = max(0, -shift), y.shape[1] - max(0, shift)
        costs[shift] = (y[:, low:high] - p[:, low + shift : high + shift]).square_(), low
    above, row = ([out.new_empty(out.shape) for _ in range(width)] for _ in range(2))
    for i in range(width):
        for j in range(width):
            course, low = costs[j - i]
            cost, cell = course[:, i - low : i - low + time], row[j]
            if i == 0 or j == 0:
                before = above[0] if j == 0 else row[j - 1]
                torch.add(before, cost, out=cell) if i or j else cell.copy_(cost)
                continue
            torch.minimum(above[j], row[j - 1], out=cell)
            torch.minimum(cell, above[j - 1], out=cell).add_(cost)
        above, row = row, above
    out.copy_(above[-1])
