"""Price channels: how a price has changed since the step before, and how it stands to its own past, of all series at once."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import DataError
from ..panel import Panel, positions

CELLS = 2**18  # values worked on at a time: what is made on the way stays in the cache


def log_change(values: Float[Tensor, "series time"]) -> Float[Tensor, "series time"]:
    """log of each observed value over the last one before it; 0 at the first, NaN where nothing was observed."""
    change = torch.empty_like(values)
    for part, out in zip(*(t.split(max(1, CELLS // max(1, values.shape[1]))) for t in (values, change)), strict=True):
        logs = part.log()
        torch.sub(logs[:, :1], logs[:, :1], out=out[:, :1])
        torch.sub(logs[:, 1:], logs[:, :-1], out=out[:, 1:])
        if bool(logs.sum().isfinite()):  # nothing is missing: one pass over the numbers tells
            continue
        seen = logs.isfinite()
        begun = seen[:, 1:] & ~seen[:, :-1]
        gaps = begun.sum(1) + seen[:, 0] > 1
        out[:, 1:].masked_fill_(begun, 0.0)
        out[gaps] = logs[gaps] - _held(logs[gaps])
    return change


def relative(values: Float[Tensor, "series time"]) -> Float[Tensor, "series time"]:
    """log of each observed value less the mean log of all before it; 0 at the first. What comes later is never read."""
    logs = values.log().double()
    seen = logs.isfinite()
    total, count = torch.where(seen, logs, 0.0).cumsum(1), seen.cumsum(1)
    before = (total - torch.where(seen, logs, 0.0)) / (count - 1).clamp(min=1)
    return torch.where(seen, torch.where(count > 1, logs - before, 0.0), torch.nan).to(values.dtype)


def price_channels(panel: Panel, channel: str) -> Panel:
    """The panel with `<channel>_change` (its log difference) and `<channel>_relative` (to its own past), known ahead where the price is.

    Both need positive values: DataError names the first that is not.
    """
    positions([channel], panel.channels, "channel")
    price = panel.channel(channel)
    wrong = price.isfinite() & (price <= 0)
    if wrong.any():
        one, row = wrong.nonzero()[0].tolist()
        when = panel.clock.local(int(panel.start[one]) + row)
        found = f'"{channel}" of series "{panel.series[one]}" is {float(price[one, row]):g} at {when}'
        raise DataError(f"{found}: a log needs prices above 0; leave it empty where there is none")
    own, names = panel.values.shape[2], (f"{channel}_change", f"{channel}_relative")
    values = torch.cat([panel.values, log_change(price)[..., None], relative(price)[..., None]], -1)
    return replace(panel, values=values, channels=(*panel.channels[:own], *names, *panel.channels[own:]))


def _held(logs: Float[Tensor, "series time"]) -> Float[Tensor, "series time"]:
    """The last observed value before each step; the step's own where there is none."""
    seen = logs.isfinite()
    step = torch.where(seen, torch.arange(logs.shape[1]), -1).cummax(1).values
    before = torch.cat([step.new_full((len(step), 1), -1), step[:, :-1]], 1)
    return torch.where(before >= 0, logs.gather(1, before.clamp(min=0)), logs)
