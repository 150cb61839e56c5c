"""What is asked of a model: which output is explained, against what, and which cells belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..attribution.groups import by_segment, lag_cuts
from ..attribution.types import Baseline, Blocks, Groups, Labels, Map
from ..errors import TaskError, nearest
from ..forecaster import Forecaster, When
from ..function import Function
from ..panel import Panel, positions

Of = Literal["step", "total", "peak", "band"]
OFS = ("step", "total", "peak", "band")
BASELINES = ("typical", "last_period", "normal")
DONORS = 16


@dataclass(frozen=True, eq=False)
class Asked:
    """A question ready to be answered: the map to one number a row and step, the windows, what they are compared with."""

    f: Map
    blocks: Blocks
    against: Baseline
    labels: Labels
    groups: Groups
    season: int
    fixed: tuple[str, ...]  # channels of the clock: context, not a cause
    model: Forecaster
    whole: Function
    of: Of
    place: int  # of the target explained

    @property
    def free(self) -> dict[str, Tensor]:
        """Cells that can get something: all but those of the clock."""
        held = {b: torch.tensor([c not in self.fixed for c in names], dtype=torch.bool) for b, names in self.labels.channels.items()}
        return {b: mark.expand(self.blocks[b].shape[1], -1) for b, mark in held.items()}


def ask(
    model: Forecaster,
    panel: Panel,
    origin: When | Sequence[When] | None,
    of: Of,
    baseline: str | Baseline,
    groups: Groups | None,
    target: str | None,
    level: float,
) -> Asked:
    """Everything an explanation method needs, in tensors, from a model and a panel."""
    if of not in OFS:
        raise TaskError(f'of="{of}" cannot be explained: {nearest(of, OFS)}')
    whole, blocks = model.function(panel, origin, level=[level])
    place = 0 if target is None else positions([target], whole.targets, "target")[0]
    f = scalar(whole, blocks, of, place)
    fixed = calendar(model)
    against = baseline if isinstance(baseline, Baseline) else chosen_baseline(model, panel, whole, blocks, baseline)
    # What the clock decides is context: the same in the baseline, so that nothing is attributed to it.
    held = Baseline({b: _kept(x, blocks[b], whole.channels[b], fixed) for b, x in against.values.items()}, against.name)
    season = panel.clock.season
    told = groups or segments(blocks, whole.channels, season, fixed)
    return Asked(f, blocks, held, labels_of(whole, blocks, of, place), told, season, fixed, model, whole, of, place)


def scalar(whole: Function, blocks: Blocks, of: Of, target: int, top: Int[Tensor, " example"] | None = None) -> Map:
    """[row, horizon] of one target: the point at each step, its total, its highest step (or the step `top`), or its band's width."""
    if of == "band":
        return lambda x: whole(x)[:, :, target, -1] - whole(x)[:, :, target, 1]
    if of == "total":
        return lambda x: whole(x)[:, :, target, 0].sum(1, keepdim=True)
    if of == "peak":
        with torch.no_grad():
            step = whole(blocks)[:, :, target, 0].argmax(1) if top is None else top
        return lambda x: whole(x)[:, :, target, 0].gather(1, step.repeat(len(x["past"]) // len(step))[:, None])
    return lambda x: whole(x)[:, :, target, 0]


def labels_of(whole: Function, blocks: Blocks, of: Of, target: int) -> Labels:
    """Series, wall times, channels."""
    times = whole.times()
    ahead = times["future"]
    if of == "total":
        ahead = ahead[:, :1]
    elif of == "peak":
        with torch.no_grad():
            top = whole(blocks)[:, :, target, 0].argmax(1)
        ahead = np.take_along_axis(ahead, top[:, None].numpy(), 1)
    return Labels(whole.names, (of,) if of in ("total", "peak") else (), whole.channels, times, ahead, whole.targets[target])


def calendar(model: Forecaster) -> tuple[str, ...]:
    """Channels that the clock alone decides, apart from holidays, which are events."""
    return tuple(c for r in model.calendar if r.kind != "holiday" for c in r.channels)


def chosen_baseline(model: Forecaster, panel: Panel, whole: Function, blocks: Blocks, name: str) -> Baseline:
    """ "typical": every channel at its usual value up to the end of training (mean; median where it seldom moves; off for a flag).
    "last_period": the same windows a week (of hours or days) or a season earlier. "normal": 16 windows of the training part that
    end at the same place in the season, averaged over."""
    if name == "typical":
        return Baseline({b: _typical(model, panel, whole, x, whole.channels[b])[None] for b, x in blocks.items()}, name)
    if name not in BASELINES:
        raise TaskError(f'no baseline "{name}": {nearest(name, BASELINES)}, or give a Baseline of your own')
    seasons = panel.clock.season * (7 if panel.clock.sub_daily else 1)
    if name == "last_period":
        _, earlier = model.function(panel, _moved(whole, seasons))
        return Baseline({b: x[None] for b, x in earlier.items()}, name)
    last = int(whole.origin.min())
    end = min(trained_until(model), last - seasons)
    first = int(panel.start.max()) + model.context
    steps = [s for s in range(last - seasons, first, -seasons) if s <= end]
    if not steps:
        raise TaskError(f"no earlier window of {model.context} steps in the training part ends at the same place in the season: take baseline='typical'")
    some = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, DONORS).round().astype(int))]
    _, donors = model.function(panel, some)
    count = len(whole) // len(panel)
    return Baseline({b: x.unflatten(0, (len(some), len(panel))).repeat(1, count, 1, 1) for b, x in donors.items()}, name)


def segments(blocks: Blocks, channels: dict[str, tuple[str, ...]], season: int, fixed: Sequence[str]) -> Groups:
    """Channel × stretches of the past that grow with the lag; the future of a channel is one group; the clock's are in none."""
    steps = blocks["past"].shape[1]
    found = by_segment(blocks, {"past": lag_cuts(steps, season)}, channels)
    at = {b: number.clone() for b, number in found.at.items()}
    for block, names in channels.items():
        for c, name in enumerate(names):
            if name in fixed:
                at[block][:, c] = -1
    used = sorted({int(n) for number in at.values() for n in number.unique() if n >= 0})
    renumbered = torch.full((len(found) + 1,), -1)
    renumbered[used] = torch.arange(len(used))
    return Groups(tuple(found.names[n] for n in used), {b: renumbered[number] for b, number in at.items()})


def trained_until(model: Forecaster) -> int:
    return next((p.last for p in model.parts if p.name == "train"), 2**62)


def _moved(whole: Function, back: int) -> list[int]:
    """Origins this many steps earlier, one for each that the windows have."""
    return [step - back for step in dict.fromkeys(whole.origin.tolist())]


def _typical(model: Forecaster, panel: Panel, whole: Function, x: Tensor, channels: Sequence[str]) -> Float[Tensor, "example step channel"]:
    seen, out = model.view(panel), x.clone()
    for origin in dict.fromkeys(whole.origin.tolist()):
        past: Panel = seen.until(min(trained_until(model), origin))
        if past.values.shape[1] < model.context:  # another panel than the model was fitted on
            past = seen.until(origin)
        at = whole.origin == origin
        for c, name in enumerate(channels):
            if name in past.channels:
                out[at, :, c] = usual(past.channel(name))[whole.series[at]][:, None]
    return out


def usual(values: Float[Tensor, "series time"]) -> Float[Tensor, " series"]:
    """The value a channel usually has: off for a flag, the median if it seldom moves (a price), else the mean."""
    found = []
    for line in values:
        x = line[line.isfinite()]
        if not len(x):
            found.append(line.new_zeros(()))
        elif len(x.unique()) <= 2:
            found.append(x.min())
        else:
            still = float((x.diff() == 0).double().mean()) if len(x) > 1 else 0.0
            found.append(x.median() if still > 0.7 else x.double().mean().to(x))
    return torch.stack(found)


def _kept(values: Float[Tensor, "draw example step channel"], real: Tensor, channels: Sequence[str], fixed: Sequence[str]) -> Tensor:
    mark = torch.tensor([c in fixed for c in channels], dtype=torch.bool)
    return torch.where(mark, real, values)
