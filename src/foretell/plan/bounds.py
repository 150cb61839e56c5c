"""Bounds: what the user allows of each control, as cells of a space."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import TaskError
from ..panel import Panel
from .ahead import ahead, before
from .space import Space
from .surface import Surface

Edge = float | int | Sequence[float | int] | np.ndarray | Tensor
Bounds = tuple[Edge, Edge] | float | int | None
Budget = float | int | Sequence[float | int] | np.ndarray | Tensor | None


def space_of(surface: Surface, controls: Mapping[str, Bounds], budget: Budget, written: Float[Tensor, "step column"]) -> Space:
    """The plans allowed. A control's bounds are (least, most) a step, each one number or one a step; one number alone fixes it;
    None holds it as written. A budget of one number is for all steps together, one a step for each; None is no limit."""
    low, high = torch.empty_like(written), torch.empty_like(written)
    for at, name in enumerate(surface.controls):
        for column in sorted(set(surface.column[:, at].tolist())):
            ends = _ends(name, controls[name], written[:, column])
            low[:, column], high[:, column] = ends
    return Space.of(low, high, _budget(budget, len(written)), surface.columns)


def _ends(name: str, bounds: Bounds, written: Float[Tensor, " step"]) -> tuple[Tensor, Tensor]:
    if bounds is None:
        return written, written
    if isinstance(bounds, int | float):
        return torch.full_like(written, bounds), torch.full_like(written, bounds)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise TaskError(f'the bounds of "{name}" are (least, most), a number that fixes it, or None to hold it as written; got {bounds!r}')
    low, high = (_line(edge, len(written), f'a bound of "{name}"') for edge in bounds)
    return low, high


def _line(value: Edge, steps: int, what: str) -> Float[Tensor, " step"]:
    line = torch.as_tensor(value, dtype=torch.float64)
    if line.ndim > 1 or (line.ndim == 1 and len(line) != steps):
        raise TaskError(f"{what} is one number or one a step: {steps} are planned, {len(line)} were given")
    return line.expand(steps).clone()


def _budget(budget: Budget, steps: int) -> Float[Tensor, " period"]:
    if budget is None:
        return torch.tensor([torch.inf], dtype=torch.float64)
    told = torch.as_tensor(budget, dtype=torch.float64)
    return told.view(1) if told.ndim == 0 else _line(told, steps, "a budget")


def seen_range(panel: Panel, surface: Surface, origin: int) -> tuple[Float[Tensor, " column"], Float[Tensor, " column"]]:
    """The least and the most of each column's history."""
    low, high = torch.full((2, len(surface.columns)), torch.nan, dtype=torch.float64)
    for at, name in enumerate(surface.controls):
        values, observed = before(panel, name, origin)
        for one, column in enumerate(surface.column[:, at].tolist()):
            held = values[one][observed[one]].double()
            if len(held):
                low[column] = torch.fmin(low[column], held.min())
                high[column] = torch.fmax(high[column], held.max())
    return low, high


def outside(plan: Float[Tensor, "*plan step column"], low: Float[Tensor, " column"], high: Float[Tensor, " column"]) -> Bool[Tensor, "*plan step column"]:
    """Cells beyond anything the history has seen."""
    room = 1e-6 * (high - low).abs().clamp(min=1e-9)
    return (plan < low - room) | (plan > high + room)


def columns_of(surface: Surface, panel: Panel, origin: int) -> Float[Tensor, "step column"]:
    """What is written in the panel for the steps after the origin, by column."""
    plan = torch.empty(surface.steps, len(surface.columns), dtype=torch.float64)
    for at, name in enumerate(surface.controls):
        lines = ahead(panel, name, origin, surface.steps).double()
        for one, column in enumerate(surface.column[:, at].tolist()):
            plan[:, column] = lines[one]
    return plan
