"""Periodic: what a PeriodKernel must know of the training cut before it learns: every member's periods, and what zero is."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from .nets import PeriodKernel, Ridge
from .nets.bank import Bank
from .panel import Panel, positions
from .periods import detrended, dominant, strength
from .task import PERIOD, Source, Span, Task

CYCLES = 6  # of a fundamental period in the panel, at least: context and horizon take one each, and the parts some more
MOST = 0.99  # of the variance that a period may be taken to explain


def own_context(task: Task, net: object) -> bool:
    """Whether each member reads as far back as its own longest period: a plain Ridge reads a context that is the same for all."""
    return task.context == "auto" and isinstance(net, PeriodKernel) and not isinstance(net.ridge, Ridge)


def resolved(panel: Panel, task: Task) -> Task:
    """The task with horizon="period" told in steps: each series' own fundamental period, that of its strongest line (`dominant`), and
    the longest of them as the horizon. Where no period stands out it is the season's. None is longer than a sixth of the panel."""
    if task.horizon != PERIOD:
        return task
    positions(task.target, panel.own, "target channel")
    values, season = panel.values[..., panel.own.index(task.target[0])], panel.clock.season
    found = dominant(values, 1, longest=max(2, values.shape[1] // CYCLES)).length[:, 0]
    steps = torch.where(found > 1, found, season).tolist()
    return task.model_copy(update={"horizon": max(steps), "each": dict(zip(panel.series, steps, strict=True))})


def bank_of(panel: Panel, task: Task, train: Span, kernels: int, members: int, *, apart: bool, context: int | None = None) -> Bank:
    """The `kernels` strongest periods of every member's training cut, with their signal-to-noise ratios: explained variance over
    what is left. None is longer than the `context`; without one each member reads as far back as its longest period.

    A member in which no period stands out gets the season's, or one as long as the context. Members that learn from all
    series share the periods that are strongest on the mean over the series.
    """
    values, season, usual = panel.values[..., panel.own.index(task.target[0])], panel.clock.season, context or task.steps_back(panel.clock)
    later = torch.arange(values.shape[1]) > train.last[:, None]
    found = dominant(values.masked_fill(later, torch.nan), kernels, longest=context)
    length, share = torch.where(found.length > 1, found.length, 0), found.strength.double().clamp(max=MOST)
    if not apart:
        widest = context or max(1, int(length.max()))
        total = torch.zeros(widest + 1, dtype=torch.float64).index_add_(0, length.flatten(), share.flatten()) / max(1, len(values))
        strongest = total[1:].topk(min(kernels, widest))
        length, share = torch.where(strongest.values > 0, strongest.indices + 1, 0), strongest.values
        length, share = (F.pad(x, (0, kernels - len(x))).expand(members, -1) for x in (length, share))
    none = (length == 0).all(1, keepdim=True) & (torch.arange(length.shape[1]) == 0)
    length = torch.where(none, season if 1 < season <= usual else usual, length)
    span = torch.full((len(length),), context) if context else length.amax(1)
    return Bank(length, (share / (1 - share)).to(values.dtype), span)


def profile_of(panel: Panel, task: Task, train: Span, length: Int[Tensor, " period"]) -> Float[Tensor, "series period"]:
    """How strong each of the shared periods is in every series of the training cut: the log of one more than its signal-to-noise
    ratio; in the first row the mean, for series that are not of this panel."""
    values = panel.values[..., panel.own.index(task.target[0])]
    values = values.masked_fill(torch.arange(values.shape[1]) > train.last[:, None], torch.nan).double()
    whole, seen = detrended(values), values.isfinite()
    share = torch.stack([strength(whole, seen, torch.full((len(values),), int(one))) for one in length], 1).clamp(max=MOST)
    told = (share / (1 - share)).log1p()
    return torch.cat([told.mean(0, keepdim=True), told]).to(panel.values.dtype)


def zeros_of(source: Source, members: int, *, apart: bool) -> Float[Tensor, "member channel"]:
    """What the user's zero is in the scale of every channel beside the target; the clock's channels are not scaled. Members
    that learn from all series take the middle one."""
    panel, every = source.panel, torch.arange(len(source.panel))
    blank = replace(panel, values=torch.zeros_like(panel.values[:, :1]), shared=torch.zeros_like(panel.shared))
    zero = replace(source, panel=blank).read(source.roles.features, every, torch.zeros(len(every), 1, dtype=torch.long))[:, 0, 1:]
    clocked = torch.tensor([c not in panel.channels for c in source.roles.features[1:]], dtype=torch.bool)
    zero = zero.masked_fill(clocked, 0.0).nan_to_num(0.0)
    return zero if apart else zero.median(0).values.expand(members, -1).contiguous()
