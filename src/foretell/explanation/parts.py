"""Parts: a forecast step by step as a sum of what a planner would name: level, the same time of earlier seasons, price, events."""

from collections.abc import Mapping

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
    "recent level", all else the rest. Of a channel known ahead, what is known of the steps to come is one component ("price"),
    what it was until then another ("price before"): events of the past explain the past, which the model must see through. Where the
    two cancel by more than half, as a steady price does in a model that compares it with its past, they are one.
    """
    past, season = why.values["past"], int(why.facts.get("season", 1))
    names = why.channels("past")
    target = names.index(why.labels.target) if why.labels.target in names else 0
    own = past[..., target]
    found: dict[str, Tensor] = {}
    for name, mask in own_masks(own.shape[-2], own.shape[-1], season, step_words(why)).items():
        if mask.any():
            found[name] = (own * mask).sum(-1)
    future = why.channels("future") if "future" in why.values else ()
    for at, name in enumerate(names):
        if at != target and name not in future:
            found[name] = past[..., at].sum(-1)
    for at, name in enumerate(future):
        ahead = why.values["future"][..., at].sum(-1)
        before = past[..., names.index(name)].sum(-1) if name in names else torch.zeros_like(ahead)
        found |= {name: ahead + before} if _cancel(ahead, before) else {f"{name} before": before, name: ahead}
    # The clock's channels are context and got nothing: a row of zeros tells nothing.
    found = {name: value for name, value in found.items() if name == LEVEL or float(value.abs().max()) > 0}
    return found


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


def own_masks(outputs: int, steps: int, season: int, word: str) -> Mapping[str, Float[Tensor, "output step"]]:
    """Which lags of the target each name takes, for each step ahead; together they take every one once."""
    origin_lag = torch.arange(steps, 0, -1)[None]  # 1 at the last observed step
    lag = origin_lag + torch.arange(outputs)[:, None]  # distance to the step forecast
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
