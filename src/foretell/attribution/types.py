"""What an explanation is: Attribution (values for every cell of the input), Curve (forecast against one input), Counterfactual."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import TaskError, nearest

Blocks = Mapping[str, Tensor]  # name → [row, step, channel]
Map = Callable[[Blocks], Tensor]  # → [row, *output]; rows are whole copies of the windows, window after window
Kind = Literal["contribution", "sensitivity", "importance", "mask", "weight"]


class Cost(NamedTuple):
    """What an explanation took: rows sent forward, rows sent backward, seconds."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0


NOTHING = Cost()


class Advice(NamedTuple):
    """A channel to look at, and why."""

    channel: str
    finding: Literal["weak", "redundant", "noisy"]
    evidence: str


@dataclass(frozen=True, eq=False)
class Baseline:
    """What the forecast is compared with: `values` [draw, example, step, channel] by block, several draws being averaged over."""

    values: Blocks
    name: str = "given"

    @property
    def draws(self) -> int:
        return len(next(iter(self.values.values())))

    def mean(self) -> dict[str, Float[Tensor, "example step channel"]]:
        """Over the draws."""
        return {name: x.mean(0) for name, x in self.values.items()}


def baseline(values: Blocks, name: str = "given") -> Baseline:
    """One draw from blocks of the windows' own shape, or several from blocks with a draw axis in front."""
    return Baseline({block: x if x.ndim == 4 else x[None] for block, x in values.items()}, name)


@dataclass(frozen=True, eq=False)
class Groups:
    """Cells that are taken in and out together: `at` says for each cell [step, channel] of a block which group it is in, −1 none."""

    names: tuple[str, ...]
    at: Mapping[str, Int[Tensor, "step channel"]]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> Int[Tensor, " group"]:
        """Cells in each group."""
        every = torch.cat([at.flatten() for at in self.at.values()])
        return torch.bincount(every[every >= 0], minlength=len(self.names))


@dataclass(frozen=True)
class Labels:
    """The user's words for the axes of an attribution; left out, numbers stand in."""

    examples: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    channels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    times: Mapping[str, np.ndarray] = field(default_factory=dict)  # [example, step]
    ahead: np.ndarray | None = None  # wall time [example, output] of what is explained
    target: str = ""


@dataclass(frozen=True, eq=False)
class Attribution:
    """What every cell of the input adds to every output: `values[block]` [example, *output, step, channel], > 0 where it raises it.

    `kind` says what the numbers are: a *contribution* is in the output's units and `base + Σ values + residual = prediction`;
    a *sensitivity* is output units per unit of the input; an *importance* is what is lost without the input; a *weight* is
    the net's own. `residual` is the error of the explanation itself, NaN where the method promises no sum. `error` holds
    standard errors of sampled methods, `beside` blocks that belong to the values and are no part of their sum: weights, strengths.
    """

    values: Blocks
    prediction: Float[Tensor, "example *output"]
    base: Float[Tensor, "example *output"]
    kind: Kind
    method: str
    baseline: Baseline | None = None
    groups: Groups | None = None
    error: Blocks = field(default_factory=dict)
    cost: Cost = NOTHING
    warnings: tuple[str, ...] = ()
    labels: Labels = Labels()
    facts: Mapping[str, float] = field(default_factory=dict)
    beside: Blocks = field(default_factory=dict)

    @property
    def residual(self) -> Float[Tensor, "example *output"]:
        """prediction − base − Σ values: what the explanation leaves unexplained."""
        if self.kind != "contribution":
            return torch.full_like(self.prediction, torch.nan)
        return self.prediction - self.base - self.total()

    @property
    def gap(self) -> float:
        """The largest residual relative to the change explained: |residual| over mean |prediction − base| of the window, of which
        a ten-thousandth of the prediction is the least that counts as a change."""
        change, size = (x.abs().flatten(1).mean(1) for x in (self.prediction - self.base, self.prediction))
        return float((self.residual.abs().flatten(1).mean(1) / change.maximum(1e-4 * size).clamp(min=1e-12)).max())

    def total(self) -> Float[Tensor, "example *output"]:
        """Sum over all cells."""
        return torch.stack([x.sum((-1, -2)) for x in self.values.values()]).sum(0)

    def by_channel(self) -> dict[str, Float[Tensor, "example *output"]]:
        """Sums over time; a channel that has a past and a future counts both."""
        found: dict[str, Tensor] = {}
        for block, x in self.values.items():
            for at, name in enumerate(self.channels(block)):
                part = x[..., at].sum(-1)
                found[name] = found[name] + part if name in found else part
        return found

    def by_group(self) -> dict[str, Float[Tensor, "example *output"]]:
        """Sums over the groups the method used; what is in none is left out."""
        if self.groups is None:
            raise TaskError(f"the method {self.method} used no groups: ask for sums by channel")
        found = {name: torch.zeros_like(self.prediction) for name in self.groups.names}
        for block, at in self.groups.at.items():
            for number, name in enumerate(self.groups.names):
                found[name] = found[name] + (self.values[block] * (at == number)).sum((-1, -2))
        return found

    def channels(self, block: str) -> tuple[str, ...]:
        """Names of a block's channels, or of one beside the values."""
        width = block_named(block, {**self.values, **self.beside}).shape[-1]
        return self.labels.channels.get(block) or tuple(f"{block}[{i}]" for i in range(width))

    def named(self, block: str) -> dict[str, Float[Tensor, "example *output step"]]:
        """A block, or one beside the values, channel by channel."""
        x = block_named(block, {**self.values, **self.beside})
        return dict(zip(self.channels(block), x.unbind(-1), strict=True))

    def advice(self, *, keep: Sequence[str] | None = None) -> tuple[Advice, ...]:
        """Channels that are weak, redundant or noisy over these windows, with the evidence (`advice.advice`); the target is kept
        unless `keep` says otherwise. TaskError for fewer than three windows, or numbers that are not contributions."""
        from .advice import advice

        return advice(self, keep=tuple(keep) if keep is not None else (self.labels.target,))

    def pick(self, examples: Sequence[int]) -> Self:
        """Of only these windows."""
        at, labels = list(examples), self.labels
        times = {block: t[at] for block, t in labels.times.items()}
        names = tuple(labels.examples[i] for i in at) if labels.examples else ()
        ahead = None if labels.ahead is None else labels.ahead[at]
        held = None if self.baseline is None else Baseline({b: x[:, at] for b, x in self.baseline.values.items()}, self.baseline.name)
        return replace(
            self, values={b: x[at] for b, x in self.values.items()}, prediction=self.prediction[at], base=self.base[at], baseline=held,
            error={b: x[at] for b, x in self.error.items()}, labels=replace(labels, examples=names, times=times, ahead=ahead),
            beside={b: x[at] for b, x in self.beside.items()},
        )  # fmt: skip

    def columns(self) -> dict[str, np.ndarray]:
        """The tidy table as arrays: one row a window, output, block, step and channel, then rows "base" and "residual", then what is beside."""
        parts = [self._rows(block, x) for block, x in self.values.items()] + [self._row("base", self.base), self._row("residual", self.residual)]
        parts += [self._rows(block, x) for block, x in self.beside.items()]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def frame(self) -> Any:
        """The tidy table as a polars frame: unique_id, ds (of the forecast), block, channel, at (of the input), value."""
        from ..frames import to_frame

        return to_frame(self.columns(), "polars")

    def _rows(self, block: str, values: Tensor) -> dict[str, np.ndarray]:
        x = values.flatten(1, -3)
        examples, steps = x.shape[0], x.shape[2]
        grid = np.indices(x.shape).reshape(4, -1)
        times = self.labels.times.get(block)
        at = np.broadcast_to(np.arange(steps), (examples, steps)).astype(str) if times is None else times.astype(str)
        return {
            "unique_id": self._examples()[grid[0]], "ds": self._ahead()[grid[0], grid[1]], "block": np.full(grid.shape[1], block, dtype=object),
            "channel": np.array(self.channels(block), dtype=object)[grid[3]], "at": at.astype(object)[grid[0], grid[2]], "value": x.reshape(-1).numpy(),
        }  # fmt: skip

    def _row(self, name: str, values: Tensor) -> dict[str, np.ndarray]:
        x = values.flatten(1)
        grid = np.indices(x.shape).reshape(2, -1)
        blank = np.full(grid.shape[1], "", dtype=object)
        what = np.full(grid.shape[1], name, dtype=object)
        return {
            "unique_id": self._examples()[grid[0]], "ds": self._ahead()[grid[0], grid[1]],
            "block": what, "channel": blank, "at": blank, "value": x.reshape(-1).numpy(),
        }  # fmt: skip

    def _examples(self) -> np.ndarray:
        return np.array(self.labels.examples or [str(i) for i in range(len(self.prediction))], dtype=object)

    def _ahead(self) -> np.ndarray:
        flat = self.prediction.flatten(1)
        if self.labels.ahead is not None:
            return self.labels.ahead.astype(str).astype(object)
        return np.broadcast_to(np.array(self.labels.outputs or [str(i) for i in range(flat.shape[1])], dtype=object), tuple(flat.shape))


@dataclass(frozen=True, eq=False)
class Curve:
    """The forecast while one input moves: `ice[grid, example, *output]`, `grid` in the input's units, its mean the partial dependence.

    `change` says what was done: set the whole path, shift it, or scale it. `outside` is the share of windows in which the
    changed values lie beyond anything seen in `seen`.
    """

    grid: Float[Tensor, " grid"]
    ice: Float[Tensor, "grid example *output"]
    channel: str
    change: str
    method: Literal["pdp", "ale"] = "pdp"
    density: Float[Tensor, " grid"] | None = None
    outside: Float[Tensor, " grid"] | None = None
    labels: Labels = Labels()

    @property
    def mean(self) -> Float[Tensor, "grid *output"]:
        """Partial dependence (or accumulated local effect)."""
        return self.ice.mean(1)

    def centred(self) -> Self:
        """Every line from 0 at the first grid point: what differs between windows is then the interaction."""
        return replace(self, ice=self.ice - self.ice[:1])


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """The smallest change of what can be acted on that brings the forecast into a band; where none does within the bounds, the change
    that comes nearest, and `reached` below 1 says so. `was` and `blocks` are the inputs before and after."""

    was: Blocks
    blocks: Blocks
    before: Float[Tensor, "example *output"]
    after: Float[Tensor, "example *output"]
    reached: Float[Tensor, " example"]  # share of the outputs inside the band
    distance: Float[Tensor, " example"]  # root mean square of the change over the free cells, in deviations of the channel
    changed: Float[Tensor, " example"]  # share of the free cells that moved
    labels: Labels = Labels()

    def columns(self) -> dict[str, np.ndarray]:
        """One row a cell that moved: unique_id, block, channel, at, before, after."""
        found: dict[str, list[Any]] = {name: [] for name in ("unique_id", "block", "channel", "at", "before", "after")}
        for block, new in self.blocks.items():
            old, names = self.was[block], self.labels.channels.get(block) or tuple(f"{block}[{i}]" for i in range(new.shape[-1]))
            times = self.labels.times.get(block)
            for e, s, c in (new != old).nonzero().tolist():
                name = self.labels.examples[e] if self.labels.examples else str(e)
                row = (name, block, names[c], str(s) if times is None else str(times[e, s]), float(old[e, s, c]), float(new[e, s, c]))
                for column, value in zip(found.values(), row, strict=True):
                    column.append(value)
        return {name: np.array(values, dtype=float if name in ("before", "after") else object) for name, values in found.items()}

    def frame(self) -> Any:
        """The same as a polars frame."""
        from ..frames import to_frame

        return to_frame(self.columns(), "polars")


def checked_blocks(blocks: Blocks) -> None:
    """A sentence for what no method can work with."""
    if not blocks:
        raise TaskError('blocks must hold at least one tensor [row, step, channel], as in {"past": x}')
    for name, x in blocks.items():
        if x.ndim != 3:
            raise TaskError(f'block "{name}" must be [row, step, channel], got {x.ndim} axes: {tuple(x.shape)}')
        if not x.isfinite().all():
            raise TaskError(f'block "{name}" holds values that are not finite: fill gaps before explaining')


def block_named(name: str, blocks: Blocks) -> Tensor:
    """A block, or a sentence that names those there are."""
    if name not in blocks:
        raise TaskError(f'no block "{name}": {nearest(name, blocks)}')
    return blocks[name]
