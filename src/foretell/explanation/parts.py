"""Parts: a forecast step by step as a sum of what a planner would name: level, the same time of earlier seasons, price, events."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..attribution.types import Attribution

REST = "rest of its own past"
LEVEL = "recent level"


def components(why: Attribution) -> dict[str, Float[Tensor, "example output"]]:
    """Named sums in units: base + Σ components + residual = forecast.

    Of the target's own past, the steps that lie whole seasons before the step forecast (with a neighbour on each side where a
    season is 12 steps or longer) are "same time 1, 2, … seasons before", the last quarter of a season before the origin is the
    "recent level", all else the rest; of a total, whose steps have seasons of their own, level and rest alone. Of a channel known
    ahead, what is known of the steps to come is one component ("price"),
    what it was until then another ("price before"): events of the past explain the past, which the model must see through. Where the
    two cancel by more than half, as a steady price does in a model that compares it with its past, they are one.
    Of what has neither past nor future (a detector's score, period kernels) the parts are its channels.
    """
    if "components" in why.values:
        return {name: value[..., 0] for name, value in why.named("components").items()}
    if "past" not in why.values:
        return {name: value for name, value in why.by_channel().items() if float(value.abs().max()) > 0}
    past, found = why.values["past"], own_parts(why)
    names = why.channels("past")
    future = why.channels("future") if "future" in why.values else ()
    for at, name in enumerate(names):
        if name != names[target_of(why)] and name not in future:
            found[name] = past[..., at].sum(-1)
    for at, name in enumerate(future):
        ahead = why.values["future"][..., at].sum(-1)
        before = past[..., names.index(name)].sum(-1) if name in names else torch.zeros_like(ahead)
        found |= {name: ahead + before} if _cancel(ahead, before) else {f"{name} before": before, name: ahead}
    # The clock's channels are context and got nothing: a row of zeros tells nothing.
    return {name: value for name, value in found.items() if name == LEVEL or float(value.abs().max()) > 0}


def own_parts(why: Attribution) -> dict[str, Float[Tensor, "example output"]]:
    """What the target's own past adds: level, seasons, rest."""
    own, season = why.values["past"][..., target_of(why)], int(why.facts.get("season", 1))
    outputs, steps = own.shape[-2:]
    masks = [own_masks(outputs, steps, season, step_words(why), first) for first in _first(why)]
    # A step explained alone stands at another place in every window.
    names = [name for name in dict.fromkeys(name for one in masks for name in one) if any(bool(one[name].any()) for one in masks if name in one)]
    blank = own.new_zeros(outputs, steps)
    return {name: (own * torch.stack([one.get(name, blank).to(own) for one in masks])).sum(-1) for name in names}


def named_channels(why: Attribution, *, without: Sequence[str] = ()) -> dict[str, Float[Tensor, "example output"]]:
    """What every other channel adds, past and future together."""
    own = why.channels("past")[target_of(why)]
    return {name: value for name, value in why.by_channel().items() if name != own and name not in without}


def target_of(why: Attribution) -> int:
    """Where the target stands among the channels of the past."""
    names = why.channels("past")
    return names.index(why.labels.target) if why.labels.target in names else 0


def _first(why: Attribution) -> list[int | None]:
    """How many steps after the origin the first one explained lies, window by window: 1, or, of a step explained alone, its own place;
    None of a total."""
    ahead, times = why.labels.ahead, why.labels.times.get("future")
    if why.labels.outputs == ("total",):
        return [None] * len(why.prediction)
    if why.labels.outputs != ("peak",) or ahead is None or times is None:
        return [1] * len(why.prediction)
    return [int(np.flatnonzero(row == when[0])[0]) + 1 for row, when in zip(times, ahead, strict=True)]


def _cancel(one: Tensor, two: Tensor) -> bool:
    """Whether two parts say much against each other and little together."""
    return float((one + two).abs().mean()) < 0.5 * float((one.abs() + two.abs()).mean())


def step_words(why: Attribution) -> str:
    """What a season is called, told by the distance of two steps: a day of hours, a week of days."""
    times = why.labels.times.get("past")
    season = int(why.facts.get("season", 1))
    if times is None or times.shape[1] < 2:
        return "season"
    days = (times[0, 1] - times[0, 0]) / np.timedelta64(1, "s") * season / 86400
    return {1.0: "day", 7.0: "week"}.get(float(days), "year" if 350 < days < 380 else "season")


def own_masks(outputs: int, steps: int, season: int, word: str, first: int | None = 1) -> Mapping[str, Float[Tensor, "output step"]]:
    """Which lags of the target each name takes, for each step ahead from `first` on; together they take every one once. None: of no
    step in particular, so there are no seasons to tell apart."""
    origin_lag = torch.arange(steps, 0, -1).expand(outputs, -1)  # 1 at the last observed step
    if first is None:
        level = origin_lag <= max(1, season // 4)
        return {LEVEL: level.to(torch.float64), REST: (~level).to(torch.float64)}
    lag = origin_lag + torch.arange(first - 1, first - 1 + outputs)[:, None]  # distance to the step forecast
    width = 1 if season >= 12 else 0
    place = (lag + width) % season - width
    number = (lag + width) // season
    same = (place.abs() <= width) & (number >= 1) if season > 1 else torch.zeros_like(lag, dtype=torch.bool)
    level = (origin_lag <= max(1, season // 4)) & ~same
    masks: dict[str, Tensor] = {LEVEL: level}
    for n in range(1, int(number.max()) + 1):
        masks[f"same time {n} {word}{'s' if n > 1 else ''} before"] = same & (number == n)
    masks[REST] = ~same & ~level
    return {name: mask.to(torch.float64) for name, mask in masks.items()}


def sentences(why: Attribution, example: int = 0, output: int = 0, most: int = 4) -> list[str]:
    """The step in words: base, the largest components with their sign, what is left unexplained."""
    from ..words import number

    parts = sorted(((name, float(value[example, output])) for name, value in components(why).items()), key=lambda p: -abs(p[1]))
    named = ", ".join(f"{name} {'+' if value >= 0 else ''}{number(value)}" for name, value in parts[:most])
    left = sum(value for _, value in parts[most:])
    more = f", all else {'+' if left >= 0 else ''}{number(left)}" if parts[most:] else ""
    residual = float(why.residual[example, output])
    said = f"{number(float(why.prediction[example, output]))} = usual {number(float(why.base[example, output]))}; {named}{more}"
    return [said, f"left unexplained: {number(residual)}"] if np.isfinite(residual) else [said]
