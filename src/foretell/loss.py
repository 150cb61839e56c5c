"""What training makes small: errors of the point forecast and of its quantiles, per member, over what was observed."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .errors import TaskError

LossKind = Literal["mse", "mae", "huber", "pinball"]
LEVEL_WEIGHT = 1.0  # of the levels' mean pinball beside the point loss: they share the body of a net but not the head


def total(
    output: Float[Tensor, "member example horizon target slot"],
    goal: Float[Tensor, "member example horizon target"],
    seen: Bool[Tensor, "member example horizon target"],
    *,
    levels: tuple[float, ...],
    kind: LossKind,
    count: Float[Tensor, " member"] | None = None,
) -> Float[Tensor, " member"]:
    """Mean over a member's observed goals of the point loss and the levels' mean pinball; slot 0 is the point.

    A member with nothing observed has loss 0 and gradient 0. `count` replaces the number of observed goals as the divisor
    (of a whole batch, when this is a piece of it).
    """
    if output.shape[-1] != 1 + len(levels):
        raise TaskError(f"the net has {output.shape[-1]} outputs a target, the task needs 1 + {len(levels)} levels")
    error = torch.where(seen[..., None], goal[..., None] - output, 0.0)
    each = point_loss(error[..., 0], kind)
    if levels:
        each = each + LEVEL_WEIGHT * pinball(error[..., 1:], levels).mean(-1)
    return each.sum((1, 2, 3)) / (observed(seen) if count is None else count).clamp(min=1).to(each)


def observed(seen: Bool[Tensor, "member example horizon target"]) -> Float[Tensor, " member"]:
    """How many goals of each member were observed."""
    return seen.sum((1, 2, 3)).double()


def point_loss(error: Float[Tensor, "..."], kind: LossKind) -> Float[Tensor, "..."]:
    """Loss of each error, goal − forecast; huber turns from square to straight at 1, pinball is that of the median."""
    if kind == "mse":
        return error.square()
    size = error.abs()
    if kind == "huber":
        return torch.where(size < 1, error.square() / 2, size - 0.5)
    return size if kind == "mae" else size / 2


def pinball(error: Float[Tensor, "... level"], levels: tuple[float, ...]) -> Float[Tensor, "... level"]:
    """Quantile loss of each error: least, on average, at the level's quantile (Koenker & Bassett, doi 10.2307/1913643, section 3)."""
    level = torch.tensor(levels, dtype=error.dtype, device=error.device)
    return torch.maximum(level * error, (level - 1) * error)
