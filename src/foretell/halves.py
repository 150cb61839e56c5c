"""Halves: the steps that each member of an ensemble may learn from, so that the members' spread says how sure a fit is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from .noise import key
from .task import Source


@dataclass(frozen=True, eq=False)
class Halves:
    """Of every two blocks of `size` steps each member learns from the goals in one: the spread of the members about their mean then
    estimates that of the fit itself (balanced half-samples; McCarthy 1969, doi 10.2307/1402116)."""

    size: int
    kept: Bool[Tensor, "member block"]

    @classmethod
    def of(cls, source: Source, seed: int, names: Sequence[str], *, paired: bool = False) -> Self:
        """Drawn for each member from its name; `paired`, every second one learns from what the one before it does not. A block is a
        third of a horizon."""
        size, panel = max(1, round(source.horizon / 3)), source.panel
        last = int(panel.start.max() - panel.start.min()) + panel.values.shape[1]
        pairs = last // (2 * size) + 1
        first = torch.stack([torch.rand(pairs, generator=Generator().manual_seed(key(seed, name, "halves") >> 1)) < 0.5 for name in names])
        if paired:
            first[1::2] = ~first[: len(first) // 2 * 2 : 2]
        return cls(size, torch.stack([first, ~first], -1).flatten(1))

    def __getitem__(self, member: int) -> Self:
        """Of one member."""
        return replace(self, kept=self.kept[member : member + 1])

    def mine(self, source: Source, member: Int[Tensor, " n"], series: Int[Tensor, " n"], origin: Int[Tensor, " n"]) -> Bool[Tensor, "n horizon"]:
        """Which steps ahead of these origins the member of each may learn from."""
        step = origin[:, None] + torch.arange(1, source.horizon + 1) + (source.panel.start - source.panel.start.min())[series, None]
        return self.kept[member].gather(1, step // self.size)
