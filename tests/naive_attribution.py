"""Slow, obvious twins of the explanation methods."""

from itertools import permutations

import torch
from torch import Tensor

from foretell.attribution.types import Baseline, Blocks, Groups, Map


def shapley_by_orders(values: Tensor) -> Tensor:
    """Mean over every order of joining of what each player adds; `values` by the bits of the coalition."""
    players = (len(values) - 1).bit_length()
    total = torch.zeros(players, *values.shape[1:], dtype=values.dtype)
    orders = list(permutations(range(players)))
    for order in orders:
        coalition = 0
        for player in order:
            total[player] += values[coalition | 1 << player] - values[coalition]
            coalition |= 1 << player
    return total / len(orders)


def shapley_of(f: Map, blocks: Blocks, against: Baseline, groups: Groups) -> dict[str, Tensor]:
    """Every coalition one by one, weights by the formula."""
    from math import factorial

    count = len(groups)
    base = against.mean()
    worth = []
    for number in range(2**count):
        mixed = {}
        for name, x in blocks.items():
            real = torch.tensor([[bool(number >> int(g) & 1) for g in row] for row in groups.at[name].tolist()])
            mixed[name] = torch.where(real, x, base[name])
        worth.append(f(mixed))
    found = {}
    for player, name in enumerate(groups.names):
        total = torch.zeros_like(worth[0])
        for number in range(2**count):
            if not number >> player & 1:
                size = number.bit_count()
                total = total + factorial(size) * factorial(count - size - 1) / factorial(count) * (worth[number | 1 << player] - worth[number])
        found[name] = total
    return found
