"""LSTM and GRU taken apart step by step, so that the engine's rules see every gate."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Rules(Protocol):
    """What the steps are told by: the engine's secants and products, or those of relevance propagation."""

    def gate(self, x: Tensor) -> Tensor:
        """σ(x)."""

    def squash(self, x: Tensor) -> Tensor:
        """tanh(x)."""

    def gated(self, gate: Tensor, signal: Tensor) -> Tensor:
        """gate · signal."""


class Way(NamedTuple):
    """The rest of torch's arguments, in its order."""

    biased: bool
    layers: int
    rate: float
    train: bool
    both: bool
    first: bool


def lstm_cell(rules: Rules, gates: Tensor, cell: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """One step from the gates' inputs (in the order i f g o along `dim`) and the cell: state, cell."""
    i, f, g, o = gates.chunk(4, dim)
    cell = rules.gated(rules.gate(f), cell) + rules.gated(rules.gate(i), rules.squash(g))
    return rules.gated(rules.gate(o), rules.squash(cell)), cell


def lstm_steps(rules: Rules, x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor, keep: Tensor | None = None) -> Tensor:
    """Our own layer with a member axis: x [member, example, time, feature]."""
    state = x.new_zeros(*x.shape[:2], recurrent.shape[-1])
    cell, states = state, []
    told = torch.matmul(x.flatten(1, 2), weight.mT).unflatten(1, x.shape[1:3]) + bias[:, None, None]
    for t in range(x.shape[2]):
        held = state if keep is None else state * keep
        state, cell = lstm_cell(rules, told[:, :, t] + held @ recurrent.mT, cell, -1)
        states.append(state)
    return torch.stack(states, 2)


def lstm(rules: Rules, x: Tensor, start: Sequence[Tensor], weights: Sequence[Tensor], way: Way) -> tuple[Tensor, Tensor, Tensor]:
    """torch's lstm, any layers, one or both directions."""
    biased, layers, _, _, both, first = way
    hidden, cells = start
    x = x.transpose(0, 1) if first else x
    states, ends = [], []
    for number, ways in enumerate(_layers(weights, layers, both, 4 if biased else 2)):
        outs = []
        for side, part in enumerate(ways):
            at = number * len(ways) + side
            told = F.linear(x, part[0], part[2] + part[3] if biased else None)
            state, cell, said = hidden[at], cells[at], []
            for t in range(len(x)) if side == 0 else reversed(range(len(x))):
                state, cell = lstm_cell(rules, told[t] + F.linear(state, part[1]), cell, -1)
                said.append(state)
            outs.append(torch.stack(said if side == 0 else said[::-1]))
            states.append(state)
            ends.append(cell)
        x = torch.cat(outs, -1)
    return x.transpose(0, 1) if first else x, torch.stack(states), torch.stack(ends)


def gru(rules: Rules, x: Tensor, start: Tensor, weights: Sequence[Tensor], way: Way) -> tuple[Tensor, Tensor]:
    """torch's gru, any layers, one or both directions."""
    biased, layers, _, _, both, first = way
    x = x.transpose(0, 1) if first else x
    states: list[Tensor] = []
    for number, ways in enumerate(_layers(weights, layers, both, 4 if biased else 2)):
        outs = []
        for side, part in enumerate(ways):
            told, state, said = F.linear(x, part[0], part[2] if biased else None), start[number * len(ways) + side], []
            for t in range(len(x)) if side == 0 else reversed(range(len(x))):
                state = _gru_cell(rules, told[t], F.linear(state, part[1], part[3] if biased else None), state)
                said.append(state)
            outs.append(torch.stack(said if side == 0 else said[::-1]))
            states.append(state)
        x = torch.cat(outs, -1)
    return x.transpose(0, 1) if first else x, torch.stack(states)


def _gru_cell(rules: Rules, told: Tensor, held: Tensor, state: Tensor) -> Tensor:
    (ri, zi, ni), (rh, zh, nh) = told.chunk(3, -1), held.chunk(3, -1)
    new = rules.squash(ni + rules.gated(rules.gate(ri + rh), nh))
    return new + rules.gated(rules.gate(zi + zh), state - new)


def _layers(weights: Sequence[Tensor], layers: int, both: bool, each: int) -> list[list[Sequence[Tensor]]]:
    """Weights by layer and direction."""
    ways = 2 if both else 1
    parts: list[Any] = [weights[k * each : (k + 1) * each] for k in range(layers * ways)]
    return [parts[n * ways : (n + 1) * ways] for n in range(layers)]
