"""What of a fitted model one can act on: how its forecast moves with a channel, what a channel is worth, what would bring it to an aim."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..attribution.counterfactual import Reach
from ..attribution.counterfactual import counterfactual as solved
from ..attribution.effects import Change, dependence, importance, local_effects
from ..attribution.types import Attribution, Counterfactual, Curve
from ..errors import TaskError
from ..forecaster import Forecaster, When
from ..panel import Panel, positions
from .asked import Asked, Of, ask, trained_until

Where = Literal["both", "past", "future"]


def effect(
    model: Forecaster, panel: Panel, channel: str, *, origin: When | Sequence[When] | None = None, change: Change | Literal["ale"] = "set",
    where: Where = "both", of: Of = "step", grid: Tensor | None = None,
) -> Curve:  # fmt: skip
    """The forecast [grid, window, step] while one channel moves: "set" its whole path to a value, "shift" or "scale" it (single windows:
    ICE; their mean: PDP), or "ale", accumulated local effects of its level. `where` limits the change to the past, or to the path known ahead."""
    asked = ask(model, panel, origin, of, "typical", None, None, 80.0)
    cells = [(b, names.index(channel)) for b, names in asked.labels.channels.items() if channel in names and where in ("both", b)]
    if not cells:
        positions([channel], [c for c in model.roles.features if c not in asked.fixed], "channel")
        raise TaskError(f'"{channel}" is not read {"ahead" if where == "future" else "in the past"} by this model')
    if change == "ale":
        found = local_effects(asked.f, asked.blocks, cells, name=channel)
    else:
        found = dependence(asked.f, asked.blocks, cells, grid, change=change, name=channel)
    return replace(found, labels=asked.labels)


def worth(model: Forecaster, panel: Panel, *, origin: Sequence[When], repeats: int = 10, seed: int = 0) -> Attribution:
    """Permutation importance: what the mean absolute error at these origins gains, in the target's units, when a channel's whole window,
    past and future, is another window's. The truth must be in the panel."""
    return permuted(ask(model, panel, origin, "step", "typical", None, None, 80.0), repeats=repeats, seed=seed)


def permuted(asked: Asked, *, repeats: int = 10, seed: int = 0) -> Attribution:
    """`worth` of what is asked already: of every step, at several windows."""
    if asked.of != "step":
        raise TaskError(f'permutation importance is the error gained step by step: it has no of="{asked.of}"')
    truth = _truth(asked)
    names = dict.fromkeys(c for names in asked.labels.channels.values() for c in names)
    together = [[(b, told.index(name)) for b, told in asked.labels.channels.items() if name in told] for name in names]
    found = importance(asked.f, asked.blocks, truth, repeats=repeats, seed=seed, together=together)
    return replace(found, method="permutation", labels=asked.labels)


def counterfactual(
    model: Forecaster, panel: Panel, aim: tuple[float | None, float | None], *, change: str | Sequence[str], origin: When | None = None, of: Of = "total",
    target: str | None = None,
) -> Counterfactual:  # fmt: skip
    """The smallest change of channels (those known ahead: their path to come; others: their past), within the range seen in
    training, that brings the forecast from aim[0] to aim[1] (None: open). `reached` below 1: no such change was found, and what
    is returned comes nearest. It says what the model would then forecast, not what would happen."""
    if not model.differentiable:
        raise TaskError(f"a counterfactual needs slopes, which {type(model.net).__name__} does not have: try plan.what_if")
    asked = ask(model, panel, origin, of, "typical", None, target, 80.0)
    names = (change,) if isinstance(change, str) else tuple(change)
    free = {b: torch.zeros(x.shape[1:], dtype=torch.bool) for b, x in asked.blocks.items()}
    low, high, width = ({b: torch.zeros_like(x) for b, x in asked.blocks.items()} for _ in range(3))
    seen = model.view(panel).until(trained_until(model))
    positions(names, [c for c in model.roles.features if c not in asked.fixed], "channel to change")
    for name in names:
        block = "future" if name in asked.labels.channels["future"] else "past"
        at = asked.labels.channels[block].index(name)
        free[block][:, at] = True
        for into, value in zip((low, high, width), _range(seen.channel(name)[asked.whole.series]), strict=True):
            into[block][:, :, at] = value[:, None].to(into[block].dtype)
    shape = asked.f(asked.blocks).shape
    ends = [torch.full(shape, float(default if end is None else end), dtype=torch.float64) for end, default in zip(aim, (-torch.inf, torch.inf), strict=True)]
    return replace(solved(asked.f, asked.blocks, (ends[0], ends[1]), Reach(free, low, high, width)), labels=asked.labels)


def _range(values: Float[Tensor, "example time"]) -> tuple[Tensor, Tensor, Tensor]:
    """Least, most and deviation of what was observed."""
    x, blank = values.double(), values.isnan()
    spread = x.where(~blank, x.nanmean(1, keepdim=True)).std(1)
    return x.masked_fill(blank, torch.inf).amin(1), x.masked_fill(blank, -torch.inf).amax(1), spread.clamp(min=1e-12)


def _truth(asked: Asked) -> Tensor:
    whole, seen = asked.whole, asked.whole.source.panel
    values = seen.channel(whole.targets[asked.place])[whole.series]
    row = whole.origin[:, None] - seen.start[whole.series][:, None] + torch.arange(1, whole.source.horizon + 1)
    found: Tensor = values.gather(1, row.clamp(max=values.shape[1] - 1)).where(row < values.shape[1], torch.nan)
    if found.isnan().any():
        raise TaskError("the truth is not known at every step of every window: choose origins a horizon before the end, without gaps")
    return found
