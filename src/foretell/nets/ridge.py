"""Ridge: one linear map from the centred window and what is known ahead to every step of the horizon, solved in closed form.

Hoerl & Kennard (1970), doi:10.1080/00401706.1970.10488634, on the windows of a series (direct multi-step). All that the
solution needs of the windows are their second moments, which are summed piece by piece: windows are never stored, every
λ and every choice of features is then tried without touching the data again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Generator, Tensor, nn

from ..spec import Spec
from .layers import Shape

Inputs = Float[Tensor, "member example input"]


class Ridge(Spec):
    """λ is chosen on the stop part from `penalties` (relative to inputs of variance 1), and with it whether past-only
    channels help; then the map is solved again on train and stop together.

    `phase` is the share of the weight given to windows that end at the same place in the season as the series does
    (a day-ahead forecast is always made at the same hour); 0 counts all windows alike. At most `most` windows are used.
    """

    penalties: tuple[float, ...] = Field(default=tuple(10.0 ** (k / 2) for k in range(-12, 3)), min_length=1)
    phase: float = Field(default=0.25, ge=0, lt=1)
    most: int = Field(default=100_000, ge=1)

    def build(self, shape: Shape, streams: Sequence[Generator]) -> "RidgeNet":
        """A map of zeros: the last value repeated."""
        return RidgeNet(shape)


class RidgeNet(nn.Module):
    """Weights are buffers: they are solved for, never trained. `offset` holds the levels' distance from the point."""

    weight: Float[Tensor, "member input output"]
    bias: Float[Tensor, "member output"]
    offset: Float[Tensor, "member horizon target level"]

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        outputs = shape.horizon * shape.targets
        self.register_buffer("weight", torch.zeros(shape.members, inputs_of(shape), outputs))
        self.register_buffer("bias", torch.zeros(shape.members, outputs))
        self.register_buffer("offset", torch.zeros(shape.members, shape.horizon, shape.targets, shape.levels))

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: object = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """[.., horizon, target, 1 + level]."""
        line = torch.baddbmm(self.bias[:, None], design(self.shape, past, future), self.weight)
        point = line.unflatten(-1, (self.shape.horizon, self.shape.targets)) + level_of(self.shape, past)
        return torch.cat([point[..., None], point[..., None] + self.offset[:, None]], -1)

    def penalty(self) -> Float[Tensor, " member"]:
        """Nothing to add to a loss: the penalty is in the solution."""
        return self.bias.new_zeros(self.shape.members)

    @property
    def inputs(self) -> int:
        """How many inputs the map has."""
        return inputs_of(self.shape)

    @property
    def lean(self) -> Bool[Tensor, " input"]:
        """Which inputs stay when past-only channels are left out."""
        return without_past(self.shape)

    @property
    def maps(self) -> tuple[int, int]:
        """How many maps are solved for, and the outputs of each."""
        return self.shape.members, self.shape.horizon * self.shape.targets

    def moments(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        goal: Float[Tensor, "member example horizon target"],
        seen: Bool[Tensor, "member example horizon target"],
        weight: Float[Tensor, "member example"],
    ) -> "Moments":
        """Of one piece of windows; one whose goals were seen in part counts for less."""
        return moments(self.shape, past, future, goal, weight * seen.to(goal.dtype).mean((2, 3)))

    def solved(self, found: "Solution") -> dict[str, Tensor]:
        """A solution as this net's weights."""
        return {"weight": found.weight, "bias": found.bias}


def level_of(shape: Shape, past: Float[Tensor, "member example context feature"]) -> Float[Tensor, "member example 1 target"]:
    """What the window is centred on: its last value."""
    return past[:, :, -1:, : shape.targets]


def design(shape: Shape, past: Float[Tensor, "member example context feature"], future: Float[Tensor, "member example horizon known"]) -> Inputs:
    """The inputs of the map: measured channels over the context, the targets centred; of those the clock decides three steps
    a horizon; then all known ones ahead.

    The past of the clock's channels is known, but not a linear function of their future: a weekend flag seen over the
    last seven days tells every weekday apart, which no sine of tomorrow does.
    """
    cut = shape.features - shape.clocked
    measured = past[..., :cut]
    centre = torch.cat([level_of(shape, past), measured.new_zeros(*measured.shape[:2], 1, cut - shape.targets)], -1)
    clocked = past[..., cut:][:, :, sampled(shape)]
    return torch.cat([(measured - centre).flatten(2), clocked.flatten(2), future.flatten(2)], -1)


def sampled(shape: Shape) -> list[int]:
    """Steps of the context at which the clock's channels are read, the last one first."""
    return list(range(shape.context - 1, -1, -max(1, shape.horizon // 3)))


def inputs_of(shape: Shape) -> int:
    """How many inputs the map has."""
    return shape.context * (shape.features - shape.clocked) + len(sampled(shape)) * shape.clocked + shape.horizon * shape.known


def without_past(shape: Shape) -> Bool[Tensor, " input"]:
    """Which inputs stay when past-only channels are left out."""
    channel = torch.arange(shape.features - shape.clocked)
    stays = (channel < shape.targets) | (channel >= shape.features - shape.known)  # known channels come last
    rest = len(sampled(shape)) * shape.clocked + shape.horizon * shape.known
    return torch.cat([stays.repeat(shape.context), torch.ones(rest, dtype=torch.bool)])


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted second moments of inputs (a one appended) and outputs, float64: all that the solution depends on."""

    xx: Float[Tensor, "member input input"]
    xy: Float[Tensor, "member input output"]
    yy: Float[Tensor, "member output"]

    def __add__(self, other: Self) -> Self:
        return type(self)(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy)

    def where(self, mine: Bool[Tensor, " member"], other: Self) -> Self:
        """Of the members marked, the other's of the rest."""
        pairs = ((self.xx, other.xx), (self.xy, other.xy), (self.yy, other.yy))
        return type(self)(*(torch.where(mine.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))

    @property
    def weight(self) -> Float[Tensor, " member"]:
        """Sum of the windows' weights."""
        return self.xx[:, -1, -1]

    def error(self, weight: Float[Tensor, "member input output"], bias: Float[Tensor, "member output"]) -> Float[Tensor, " member"]:
        """Mean squared error of a map on the windows summed here."""
        full = torch.cat([weight, bias[:, None]], 1)
        squares = (full * (self.xx @ full)).sum(1) - 2 * (full * self.xy).sum(1) + self.yy
        return squares.mean(1) / self.weight.clamp(min=1e-12)


def moments(
    shape: Shape,
    past: Float[Tensor, "member example context feature"],
    future: Float[Tensor, "member example horizon known"],
    goal: Float[Tensor, "member example horizon target"],
    weight: Float[Tensor, "member example"],
) -> Moments:
    """Of one piece of windows; a window of weight 0 does not count."""
    x = design(shape, past, future).double()
    x = torch.cat([x, x.new_ones(*x.shape[:2], 1)], -1)
    y = (goal - level_of(shape, past)).flatten(2).double()
    xw = x * weight[..., None].double()
    return Moments(xw.mT @ x, xw.mT @ y, (y.square() * weight[..., None]).sum(1))


class Solution(NamedTuple):
    """A map for every member, the λ each chose, and its error on the stop part."""

    weight: Float[Tensor, "member input output"]
    bias: Float[Tensor, "member output"]
    penalty: Float[Tensor, " member"]
    error: Float[Tensor, " member"]
    past_used: Bool[Tensor, " member"]


def choose(penalties: Sequence[float], lean: Bool[Tensor, " input"], train: Moments, stop: Moments) -> Solution:
    """The best of every λ with and without past-only channels, each solved on train and judged on stop."""
    every = torch.ones_like(lean)
    best: Solution | None = None
    for keep in [lean] if bool(lean.all()) else [lean, every]:
        for found in solutions(train, keep, penalties):
            error = stop.error(found.weight, found.bias)
            new = Solution(found.weight, found.bias, torch.full_like(error, found.penalty), error, torch.full_like(error, bool(keep.all()), dtype=torch.bool))
            best = new if best is None else _better(best, new)
    assert best is not None  # penalties is never empty
    return best


def again(train: Moments, lean: Bool[Tensor, " input"], chosen: Solution) -> Solution:
    """Solved once more on these moments, with the λ and the channels each member chose."""
    result = chosen
    for keep, mine in ((lean, ~chosen.past_used), (torch.ones_like(lean), chosen.past_used)):
        for penalty in chosen.penalty[mine].unique():
            at = mine & (chosen.penalty == penalty)
            part = Moments(train.xx[at], train.xy[at], train.yy[at])
            found = next(iter(solutions(part, keep, (float(penalty),))))
            weight, bias = result.weight.clone(), result.bias.clone()
            weight[at], bias[at] = found.weight, found.bias
            result = result._replace(weight=weight, bias=bias)
    return result


class Line(NamedTuple):
    """A map and the λ it was solved with."""

    weight: Float[Tensor, "member input output"]
    bias: Float[Tensor, "member output"]
    penalty: float


def solutions(train: Moments, keep: Bool[Tensor, " input"], penalties: Sequence[float]) -> list[Line]:
    """For each λ the minimum of mean squared error + λ · Σ(weight · deviation of its input)², the intercept free."""
    told = _standard(train, keep)
    value, vector = torch.linalg.eigh(told.spread)
    turned = vector.mT @ told.shared
    return [_line(told, vector @ (turned / (value.clamp(min=0) + penalty)[..., None]), penalty) for penalty in penalties]


def solution(train: Moments, keep: Bool[Tensor, " input"], penalty: float) -> Line:
    """The same for one λ, without the decomposition that makes many cheap."""
    told = _standard(train, keep)
    size = torch.eye(told.spread.shape[-1], dtype=told.spread.dtype)
    return _line(told, torch.linalg.solve(told.spread + penalty * size, told.shared), penalty)


class _Standard(NamedTuple):
    """Moments about the mean, of inputs in their own deviations; `at` are the inputs in use, of `full`."""

    spread: Float[Tensor, "member used used"]
    shared: Float[Tensor, "member used output"]
    mean: Float[Tensor, "member used"]
    goal: Float[Tensor, "member output"]
    deviation: Float[Tensor, "member used"]
    at: Int[Tensor, " used"]
    full: int


def _standard(train: Moments, keep: Bool[Tensor, " input"]) -> _Standard:
    at = keep.nonzero()[:, 0]
    total = train.weight.clamp(min=1e-12)[:, None]
    mean, goal = train.xx[:, -1, at] / total, train.xy[:, -1] / total
    spread = train.xx[:, at[:, None], at] / total[..., None] - mean[..., None] * mean[:, None]
    shared = train.xy[:, at] / total[..., None] - mean[..., None] * goal[:, None]
    deviation = spread.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    # An input that never moved on the training part has no weight: its deviation counts as infinite.
    deviation = torch.where(deviation > 1e-6, deviation, torch.inf)
    return _Standard(spread / deviation[:, :, None] / deviation[:, None], shared / deviation[..., None], mean, goal, deviation, at, len(keep))


def _line(told: _Standard, part: Float[Tensor, "member used output"], penalty: float) -> Line:
    """A map in the inputs' own units."""
    part = part / told.deviation[..., None]
    weight = part.new_zeros(len(part), told.full, part.shape[-1])
    weight[:, told.at] = part
    return Line(weight, told.goal - (told.mean[:, None] @ part)[:, 0], penalty)


def _better(one: Solution, two: Solution) -> Solution:
    wins = two.error < one.error
    return Solution(*(torch.where(wins.view(-1, *[1] * (a.ndim - 1)), b, a) for a, b in zip(one, two, strict=True)))
