"""Follow: channels that a control causes (clicks, impressions) move with the plan; what contradicts that is refused."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError
from ..forecaster import Forecaster
from ..panel import Panel
from .ahead import before, checked_controls

TOGETHER = 0.95  # correlation with a control from which a channel held as written contradicts the plan


class Follow(NamedTuple):
    """value = scale · controlᵖᵒʷᵉʳ, fitted on what was observed together; 0 where the control is 0. `fit` is its R² in logs."""

    channel: str
    control: str
    scale: float
    power: float
    fit: float

    def __call__(self, control: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The follower under these values of its control."""
        return self.scale * control.clamp(min=1e-12) ** self.power

    def __str__(self) -> str:
        return f"{self.channel} follows {self.control}: {self.scale:.4g} · {self.control}^{self.power:.2f} (R² {self.fit:.2f} in logs)"


def followers(model: Forecaster, panel: Panel, controls: Sequence[str], follows: Mapping[str, str], origin: int) -> tuple[Follow, ...]:
    """The map of every declared follower that the model knows ahead; one that is past-only needs none.

    TaskError for a follower that is itself a control or the target, for one whose control is no control of this plan, and for an
    undeclared known channel that moved with a control so closely that holding it at its written values contradicts the plan.
    """
    found = []
    for channel, control in follows.items():
        if channel in controls:
            raise TaskError(f'"{channel}" cannot both be planned and follow "{control}": leave it out of the controls, or out of follows=')
        if channel in model.roles.target:
            raise TaskError(f'"{channel}" is what the model forecasts; follows= names channels between a control and the target')
        if control not in controls:
            raise TaskError(f'"{channel}" follows "{control}", which is no control of this plan. There are: {", ".join(controls)}')
        if channel in model.roles.known:
            found.append(fitted(panel, channel, control, origin))
        elif channel not in model.roles.past:
            checked_controls(model, panel, [channel])
    _check_held(model, panel, controls, follows, origin)
    return tuple(found)


def fitted(panel: Panel, channel: str, control: str, origin: int) -> Follow:
    """Least squares in logs, over steps at which both were above 0."""
    (y, seen_y), (x, seen_x) = (before(panel, name, origin) for name in (channel, control))
    both = seen_y & seen_x & (x > 0) & (y > 0)
    if int(both.sum()) < 8:
        raise TaskError(f'"{channel}" and "{control}" were above 0 together at {int(both.sum())} steps; 8 are needed to say how one follows the other')
    a, b = x[both].double().log(), y[both].double().log()
    spread = (a - a.mean()).square().sum()
    power = float(((a - a.mean()) * (b - b.mean())).sum() / spread) if float(spread) > 1e-12 else 1.0
    rest = b - b.mean() - power * (a - a.mean())
    whole = float((b - b.mean()).square().sum())
    return Follow(channel, control, float((b.mean() - power * a.mean()).exp()), power, 1 - float(rest.square().sum()) / whole if whole > 0 else 1.0)


def _check_held(model: Forecaster, panel: Panel, controls: Sequence[str], follows: Mapping[str, str], origin: int) -> None:
    held = [c for c in model.roles.known if c in panel.channels and c not in controls and c not in follows]
    for channel in held:
        for control in controls:
            if (r := _together(panel, channel, control, origin)) > TOGETHER:
                raise TaskError(
                    f'"{channel}" moved with "{control}" (correlation {r:.2f}) and would be held as written while the plan changes "{control}": '
                    f'declare follows={{"{channel}": "{control}"}}, or hold it on purpose with controls {{"{channel}": None}}'
                )


def _together(panel: Panel, one: str, two: str, origin: int) -> float:
    (x, seen_x), (y, seen_y) = (before(panel, name, origin) for name in (one, two))
    both = seen_x & seen_y
    if int(both.sum()) < 8:
        return 0.0
    a, b = x[both].double(), y[both].double()
    if float(a.std()) == 0 or float(b.std()) == 0:
        return 0.0
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])
