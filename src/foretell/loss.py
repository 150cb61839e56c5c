"""What training makes small: errors of the point forecast and of its quantiles, per member, over what was observed."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .errors import TaskError

LossKind = Literal["mse", "mae", "huber", "pinball", "peak", "tweedie", "negative_binomial"]
COUNTS = ("tweedie", "negative_binomial")  # losses of targets that are never negative, in a scale that leaves zero where it is
OF_GOALS = ("peak", "negative_binomial")  # losses with a constant that is taken from a member's training goals
POWER = 1.5  # of Tweedie's variance: between Poisson's 1 and gamma's 2
LEAST = 0.05  # a mean below this share of a unit costs what its tangent there says, so that no forecast is impossible
LEVEL_WEIGHT = 1.0  # of the levels' mean pinball beside the point loss: they share the body of a net but not the head


@dataclass(frozen=True, eq=False)
class Goals:
    """What a loss must know of each member's training goals: the largest in size, and a count's variance beyond its mean."""

    peak: Float[Tensor, " member"]
    excess: Float[Tensor, " member"]

    def rows(self, at: Tensor) -> Self:
        """Of these members."""
        return type(self)(self.peak[at], self.excess[at])


def total(
    output: Float[Tensor, "member example horizon target slot"],
    goal: Float[Tensor, "member example horizon target"],
    seen: Bool[Tensor, "member example horizon target"],
    *,
    levels: tuple[float, ...],
    kind: LossKind,
    count: Float[Tensor, " member"] | None = None,
    goals: Goals | None = None,
) -> Float[Tensor, " member"]:
    """Mean over a member's observed goals of the point loss and the levels' mean pinball; slot 0 is the point.

    A member with nothing observed has loss 0 and gradient 0. `count` replaces the number of observed goals as the divisor
    (of a whole batch, when this is a piece of it); `goals` is needed by the kinds in OF_GOALS.
    """
    if output.shape[-1] != 1 + len(levels):
        raise TaskError(f"the net has {output.shape[-1]} outputs a target, the task needs 1 + {len(levels)} levels")
    output = output.movedim(-1, 1).contiguous().movedim(1, -1)  # each slot a run of memory: four numbers are too few for a loop of their own
    error = torch.where(seen[..., None], goal[..., None] - output, 0.0)
    each = point_loss(error[..., 0], kind) if kind not in (*COUNTS, *OF_GOALS) else _of_goals(output[..., 0], goal, seen, kind, goals)
    if levels:
        each = each + LEVEL_WEIGHT * pinball(error[..., 1:], levels).mean(-1)
    return each.sum((1, 2, 3)) / (observed(seen) if count is None else count).clamp(min=1).to(each)


def _of_goals(output: Tensor, goal: Tensor, seen: Tensor, kind: LossKind, goals: Goals | None) -> Tensor:
    """[member, example, horizon, target]; 0 where nothing was observed."""
    output, goal = output.where(seen, 1.0), goal.where(seen, 0.0)
    if kind in OF_GOALS and goals is None:
        raise TaskError(f'loss="{kind}" needs to know the training goals')
    wide = (-1, 1, 1, 1)
    if kind == "tweedie":
        each = tweedie(output, goal)
    elif kind == "peak" and goals is not None:
        each = peak(output, goal, goals.peak.to(goal).view(wide))
    else:
        assert goals is not None
        each = negative_binomial(output, goal, goals.excess.to(goal).view(wide))
    return torch.where(seen, each, 0.0)


def peak(output: Float[Tensor, "..."], goal: Float[Tensor, "..."], largest: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Squared error that counts up to e times as much the larger the goal: weight exp(|goal| / largest). The notebook takes the
    largest of the batch, so that the same window costs more or less with its company; here it is that of the training goals."""
    weight: Tensor = (goal.abs() / largest.clamp(min=1e-12)).exp()
    loss: Tensor = (goal - output).square() * weight
    return loss


def tweedie(output: Float[Tensor, "..."], goal: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """For goals that are often exactly zero: −goal · mean^(1 − p) / (1 − p) + mean^(2 − p) / (2 − p), least at the mean
    (Jørgensen 1987, doi:10.1111/j.2517-6161.1987.tb01685.x, section 4)."""
    mean = output.clamp(min=LEAST)
    value: Tensor = mean ** (2 - POWER) / (2 - POWER) - goal * mean ** (1 - POWER) / (1 - POWER)
    slope: Tensor = LEAST ** (1 - POWER) - goal * LEAST**-POWER
    return value + slope * (output - mean)


def negative_binomial(output: Float[Tensor, "..."], goal: Float[Tensor, "..."], excess: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Minus the log likelihood of counts of variance mean + excess · mean², without what the forecast does not change
    (Hilbe 2011, doi:10.1017/CBO9780511973420, section 8.2)."""
    mean = output.clamp(min=LEAST)
    value = (goal + 1 / excess) * torch.log1p(excess * mean) - goal * mean.log()
    return value + (excess * (goal + 1 / excess) / (1 + excess * LEAST) - goal / LEAST) * (output - mean)


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
    # max(level · error, (level − 1) · error) by its slope, which has one product to go back through instead of two and a choice.
    slope: Tensor = torch.add(level - 0.5, error.detach().sgn(), alpha=0.5)
    return slope * error
