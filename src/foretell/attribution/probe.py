"""Probe: the explained map with its windows; forwards and slopes of all outputs in pieces that fit into memory, counted."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .types import Baseline, Blocks, Cost, Map, checked_blocks

CELLS = 2**20  # numbers of input in one call


@dataclass(frozen=True, eq=False)
class Probe:
    """Calls `f` with any number of copies of the windows; outputs come flat, [copy, example, output]."""

    f: Map
    blocks: Blocks
    spent: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=perf_counter)

    def __post_init__(self) -> None:
        checked_blocks(self.blocks)

    @property
    def examples(self) -> int:
        return len(next(iter(self.blocks.values())))

    @property
    def most(self) -> int:
        """Copies of all windows that one call may hold."""
        return max(1, CELLS // max(1, sum(x.numel() for x in self.blocks.values())))

    def call(self, blocks: Blocks) -> Float[Tensor, "row output"]:
        """One call, outputs flat."""
        rows = len(next(iter(blocks.values())))
        self.spent["forwards"] += rows
        output: Tensor = self.f(blocks).reshape(rows, -1)
        return output

    def shape(self) -> torch.Size:
        """Of one window's output, as the map gives it."""
        with torch.no_grad():
            output: Tensor = self.f(self.blocks)
        shape: torch.Size = output.shape
        return torch.Size(shape[1:])

    def values(self, blocks: Blocks) -> Float[Tensor, "copy example output"]:
        """Outputs of [copy, example, step, channel] inputs, no slopes."""
        copies = len(next(iter(blocks.values())))
        with torch.no_grad():
            parts: list[Tensor] = [self.call({name: x[at].flatten(0, 1) for name, x in blocks.items()}) for at in torch.arange(copies).split(self.most)]
        found: Tensor = torch.cat(parts).unflatten(0, (copies, self.examples))
        return found

    def here(self) -> Float[Tensor, "example output"]:
        """The outputs explained."""
        return self.values({name: x[None] for name, x in self.blocks.items()})[0]

    def slopes(
        self, blocks: Blocks, mode: TorchFunctionMode | None = None
    ) -> Iterator[tuple[Tensor, dict[str, Float[Tensor, "copy example output step channel"]]]]:
        """Piece by piece, numbers of the copies and the derivative of every output there by every input; `mode` is on while f runs."""
        copies = len(next(iter(blocks.values())))
        for at in torch.arange(copies).split(self.most):
            leaves = {name: x[at].flatten(0, 1).detach().requires_grad_() for name, x in blocks.items()}
            with torch.enable_grad(), mode or nullcontext():
                output = self.call(leaves)
            found = [self._back(output[:, o], leaves, last=o + 1 == output.shape[1]) for o in range(output.shape[1])]
            yield at, {name: torch.stack([one[name] for one in found], 1).unflatten(0, (len(at), self.examples)) for name in blocks}

    def _back(self, output: Tensor, leaves: Blocks, *, last: bool) -> dict[str, Tensor]:
        self.spent["backwards"] += len(output)
        if not output.requires_grad:
            return {name: torch.zeros_like(x) for name, x in leaves.items()}
        found = torch.autograd.grad(output.sum(), list(leaves.values()), retain_graph=not last, allow_unused=True)
        return {name: torch.zeros_like(x) if slope is None else slope for (name, x), slope in zip(leaves.items(), found, strict=True)}

    def cost(self) -> Cost:
        """So far."""
        return Cost(self.spent["forwards"], self.spent["backwards"], round(perf_counter() - self.began, 4))


def facing(blocks: Blocks, against: Baseline) -> dict[str, Float[Tensor, "draw example step channel"]]:
    """The windows' own values, once for each draw of the baseline."""
    return {name: x.expand(against.draws, *x.shape) for name, x in blocks.items()}
