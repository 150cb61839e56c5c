"""Window: how a recurrent net reads its past: centred on the targets' level, with a mask if asked for, several steps folded into one."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

Centre = Literal["none", "last", "mean"]
Past = Float[Tensor, "member example context feature"]
Observed = Bool[Tensor, "member example context feature"]


def _share(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError("must be at least 0 and below 1: it is the share of units switched off in training")
    return rate


Rate = Annotated[float, AfterValidator(_share)]
Units = Annotated[int, Field(ge=1)]


def fold(context: int, horizon: int) -> int:
    """How many steps to fold into one when the user does not say: none up to 32 steps; else one horizon (usually a period) if
    the context is a few whole ones, else the smallest whole part that leaves at most 32 steps, else the front is padded."""
    if context <= 32:
        return 1
    if context % horizon == 0 and 2 <= context // horizon <= 32:
        return horizon
    least = -(-context // 32)
    return next((part for part in range(least, 2 * least + 1) if context % part == 0), least)


def level_of(past: Past, observed: Observed, targets: int, centre: Centre) -> Float[Tensor, "member example target"]:
    """The targets' last or mean observed value; 0 where nothing was observed, or if the window is not centred."""
    seen = observed[..., :targets]
    value = past[..., :targets].where(seen, 0)
    if centre == "none":
        return torch.zeros_like(value[:, :, 0])
    if centre == "mean":
        return value.sum(2) / seen.sum(2).clamp(min=1)
    at = torch.arange(past.shape[2], device=past.device)[:, None].where(seen, 0).amax(2, keepdim=True)
    return value.gather(2, at).squeeze(2)


def window(
    past: Past, observed: Observed, level: Float[Tensor, "member example target"], segment: int, *, mask: bool
) -> Float[Tensor, "member example time input"]:
    """What the first layer reads: centred, with the mask if asked for, `segment` steps in one, padded at the front."""
    targets = past[..., : level.shape[-1]] - level[:, :, None]
    x = torch.cat([targets, past[..., level.shape[-1] :]], -1)
    if mask:
        x = torch.cat([x.where(observed, 0), observed.to(x.dtype)], -1)
    steps = -(-x.shape[2] // segment)
    return F.pad(x, (0, 0, steps * segment - x.shape[2], 0)).reshape(*x.shape[:2], steps, -1)
