"""Noise: random numbers that belong to a member, drawn from a seed and its name, so that they are the same in any company."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class Noise:
    """Each member's own random numbers of one training step, from its key alone: equal in any company and on any device.

    A draw is the counter hashed with the key (finaliser of MurmurHash3, A. Appleby, public domain): no state to store.
    """

    keys: Int[Tensor, " member"]  # int32
    step: int
    dtype: torch.dtype = torch.float32
    calls: Iterator[int] = field(default_factory=count)

    def keep(self, shape: tuple[int, ...], rate: float) -> Float[Tensor, "member ..."]:
        """Mask [member, *shape] of 0 with probability `rate`, else 1/(1 − rate). `shape` must have the examples first:
        then a batch with fewer of them draws the same for those it has."""
        own = _mixed(_mixed(_plain(self.keys) + self.step) + next(self.calls))
        number = _plain(torch.arange(math.prod(shape), dtype=torch.int32, device=self.keys.device))
        number *= _signed(0x9E3779B9)
        kept = torch.as_tensor(_mixed(number ^ own[:, None]) >= int(rate * 2**32) - 2**31)
        scale = torch.tensor(1 / (1 - rate), dtype=self.dtype, device=kept.device)
        return (kept.view(torch.int8) * scale).view(len(kept), *shape)  # bytes multiply faster than truth values turn into numbers


def streams(seed: int, names: Sequence[str]) -> list[Generator]:
    """A generator a member for its first weights, from the seed and its name, never its place."""
    return [Generator().manual_seed(key(seed, name, "weights") >> 1) for name in names]


def noise_keys(seed: int, names: Sequence[str], epoch: int) -> Int[Tensor, " member"]:
    """The key of each member's `Noise` in an epoch: nothing needs to be stored for a run to go on where it ended."""
    return torch.tensor([_signed(key(seed, name, "noise", epoch) & 0xFFFFFFFF) for name in names], dtype=torch.int32)


def key(*parts: object) -> int:
    """64 bits that depend on the parts alone, in every process."""
    return int.from_bytes(hashlib.blake2b("\0".join(str(p) for p in parts).encode(), digest_size=8).digest())


def _mixed(bits: Any) -> Any:
    """int32 → int32, one to one, in place, every bit out depending on every bit in. The masks make signed shifts plain ones."""
    bits ^= (bits >> 16) & 0xFFFF
    bits *= _signed(0x85EBCA6B)
    bits ^= (bits >> 13) & 0x7FFFF
    bits *= _signed(0xC2B2AE35)
    bits ^= (bits >> 16) & 0xFFFF
    return bits


def _plain(bits: Int[Tensor, "..."]) -> Any:
    """The same memory as NumPy sees it, whose integer arithmetic costs a third of torch's; on a card the tensor itself."""
    return bits.numpy() if bits.device.type == "cpu" else bits


def _signed(bits: int) -> int:
    return bits - 2**32 if bits >= 2**31 else bits
