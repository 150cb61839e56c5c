"""Method: what every detector's inside offers, a run in, errors by row and variable out; and the small ones in closed form."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, final

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..clock import Clock
from ..errors import TaskError
from ..spec import Spec
from .features import median, shifted
from .preparation import principal

X = Float[Tensor, "time variable"]
Piece = Float[Tensor, "_ variable"]  # one of several, each of its own length
REACH = 1.5  # times the largest value of the normal runs
WIDE = 48  # variables beyond which Linear reads their principal components


class Said(NamedTuple):
    """What a method says of a run: the signed error of each row and variable (NaN: it cannot be said), what it expected there,
    and for a method that judges whole rows, that judgement."""

    error: X
    expected: X | None = None
    whole: Float[Tensor, " time"] | None = None
    critic: Float[Tensor, " time"] | None = None


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """A fitted inside of a detector: a row's error depends on `back` rows before it and `ahead` rows after it, on nothing else."""

    @property
    def back(self) -> int:
        return 0

    @property
    def ahead(self) -> int:
        return 0

    @property
    def norm(self) -> bool:
        """True if a row's score is the length of its error, the variables being in a scale of their own already."""
        return False

    @property
    def clock(self) -> Clock | None:
        """The clock, if what is expected of a row depends on when it is."""
        return None

    def at(self, first: int) -> Self:
        """The same for a run whose first row is at this step of the clock."""
        return self

    @abstractmethod
    def say(self, x: X) -> Said:
        """Errors of one run; a row of NaN makes those NaN that depend on it."""


class Spread(Spec):
    """How far each channel stands from the median of its group; of channels in no group, from their common median in scaled units."""


class PCA(Spec):
    """Principal components of `rows` rows taken together: what they leave unexplained ("q"), or how far a row lies out within them ("t2").

    `components`: their number, or the share of variance they explain. Jackson & Mudholkar (1979), doi:10.1080/00401706.1979.10489779.
    """

    components: int | float = Field(default=0.9, gt=0)
    rows: int = Field(default=1, ge=1)
    statistic: str = Field(default="q", pattern="^(q|t2)$")


class Linear(Spec):
    """Each channel from its neighbours in time, by ridge regression: `back` rows before and `ahead` rows after it, all channels.

    (10, 0) is a forecast one step ahead, (0, 10) one into the past, (2, 2) fills the row in. Many channels are read as
    principal components. `shrink` is the ridge's λ, for inputs of variance one.
    """

    back: int = Field(default=10, ge=0)
    ahead: int = Field(default=0, ge=0)
    shrink: float = Field(default=10.0, gt=0)


class Random(Spec):
    """A score that knows nothing: the floor under every table."""


@final
@dataclass(frozen=True, eq=False)
class SpreadFit(Method):
    """`group` is each variable's group; −1: the rest, with a common median."""

    group: Int[Tensor, " variable"]

    def say(self, x: X) -> Said:
        expected = torch.zeros_like(x)
        for one in self.group.unique().tolist():
            at = (self.group == one).nonzero()[:, 0]
            expected[:, at] = median(x[:, at])[:, None] if len(at) > 2 else 0.0
        return Said(x - expected, expected)


@final
@dataclass(frozen=True, eq=False)
class PCAFit(Method):
    """Axes over [row, variable] from the oldest row to the newest; `variance` along them. What is projected is held within `bound`."""

    axes: Float[Tensor, "component feature"]
    variance: Float[Tensor, " component"]
    rows: int
    statistic: str
    bound: Float[Tensor, " variable"]

    @property
    def back(self) -> int:
        return self.rows - 1

    @property
    def norm(self) -> bool:
        return True

    def say(self, x: X) -> Said:
        both = embedded(x, range(1 - self.rows, 1))
        place = embedded(bounded(x, self.bound), range(1 - self.rows, 1)) @ self.axes.T
        expected = place @ self.axes
        if self.statistic == "q":
            error = (both - expected).unflatten(1, (self.rows, -1))
            return Said(error.square().sum(1).sqrt() * error[:, -1].sign(), expected[:, -x.shape[1] :])
        return Said((place / self.variance.sqrt() @ self.axes).unflatten(1, (self.rows, -1)).square().sum(1).sqrt())


@final
@dataclass(frozen=True, eq=False)
class LinearFit(Method):
    """Weights from inputs (offset by offset, each the components of a row) to the variables. Inputs are held within `bound`."""

    offsets: tuple[int, ...]
    axes: Float[Tensor, "component variable"]
    weight: Float[Tensor, "feature variable"]
    bound: Float[Tensor, " variable"]

    @property
    def back(self) -> int:
        return max(0, -min(self.offsets))

    @property
    def ahead(self) -> int:
        return max(0, max(self.offsets))

    def say(self, x: X) -> Said:
        known = bounded(x, self.bound)
        expected = embedded(known @ self.axes.T if len(self.axes) else known, self.offsets) @ self.weight
        return Said(x - expected, expected)


@final
@dataclass(frozen=True, eq=False)
class RandomFit(Method):
    """A number from the digits of the row itself, so that it is the same in a stream."""

    mix: Float[Tensor, " variable"]

    def say(self, x: X) -> Said:
        noise = (torch.sin(x @ self.mix) * 43758.5453).frac().abs()
        return Said(x, whole=noise)


def reach_of(runs: Sequence[Piece]) -> Float[Tensor, " variable"]:
    """So far from the usual value a variable may be and still count as it is."""
    return REACH * torch.nan_to_num(torch.cat(list(runs))).abs().amax(0)


def bounded(x: X, bound: Float[Tensor, " variable"]) -> X:
    """One broken sensor must not bend what is expected of all the others."""
    return torch.minimum(torch.maximum(x, -bound), bound)


def embedded(x: X, offsets: Sequence[int]) -> Float[Tensor, "time feature"]:
    """Rows t + offset side by side; NaN where there is none."""
    return torch.cat([shifted(x, -offset) for offset in offsets], 1)


def fit_pca(spec: PCA, runs: Sequence[Piece]) -> PCAFit:
    """Axes of all normal rows; TaskError for more components than there are variables."""
    both = torch.cat([_whole(embedded(x, range(1 - spec.rows, 1))) for x in runs])
    axes, variance = principal(both)
    if spec.components >= 1 and spec.components > len(axes):
        raise TaskError(f"PCA: components={spec.components:g} of {len(axes)} inputs: there cannot be more; a share of variance, such as 0.9, always fits")
    share = (variance.cumsum(0) / variance.sum()).contiguous()
    count = int(spec.components) if spec.components >= 1 else min(len(axes), int((share < spec.components).sum()) + 1)
    return PCAFit(axes[:count], variance[:count].clamp(min=1e-12), spec.rows, spec.statistic, reach_of(runs))


def fit_linear(spec: Linear, runs: Sequence[Piece]) -> LinearFit:
    """The ridge solution over all windows of all runs; none spans two."""
    offsets = (*range(-spec.back, 0), *range(1, spec.ahead + 1))
    if not offsets:
        raise TaskError("Linear: back=0 and ahead=0 leave no row to look at; give one of them, as back=10")
    width = runs[0].shape[1]
    axes = principal(torch.cat([_whole(x) for x in runs]))[0][:WIDE] if width > WIDE else runs[0].new_zeros(0, width)
    size = len(offsets) * (len(axes) or width)
    square, product = runs[0].new_zeros(size, size), runs[0].new_zeros(size, width)
    for x in runs:
        inputs = embedded(x @ axes.T if len(axes) else x, offsets)
        whole = ~(inputs.isnan().any(1) | x.isnan().any(1))
        square += inputs[whole].T @ inputs[whole]
        product += inputs[whole].T @ x[whole]
    if not bool(square.any()):
        raise TaskError(
            f"the normal runs hold no {spec.back + spec.ahead + 1} rows on end without a gap, which Linear(back={spec.back}, ahead={spec.ahead}) needs"
        )
    weight = torch.linalg.solve(square + spec.shrink * torch.eye(size, dtype=square.dtype), product)
    return LinearFit(offsets, axes, weight, reach_of(runs))


def fit_random(seed: int, variables: int) -> RandomFit:
    return RandomFit(torch.randn(variables, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1000)


def _whole(x: Float[Tensor, "time feature"]) -> Float[Tensor, "row feature"]:
    return x[~x.isnan().any(1)]
