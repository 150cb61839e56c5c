"""Labels: what never changes of a series, as a net reads it: embeddings of its categories, and what it knows of each series by name."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from .layers import uniform

WIDEST = 8  # numbers a category is told in, at most


class Embedding(nn.Module):
    """A category's number (from 1 on) as a few learned numbers; 0, a category never seen, is all zeros."""

    def __init__(self, streams: Sequence[Generator], categories: int, width: int) -> None:
        super().__init__()
        self.weight = uniform(streams, categories, width, fan=1)

    def forward(self, code: Float[Tensor, "member example"]) -> Float[Tensor, "member example width"]:
        """[member, example] -> [member, example, width]."""
        at = (code.long() - 1).clamp(min=0)[..., None]
        return torch.take_along_dim(self.weight, at, 1) * (code > 0)[..., None]


def width_of(categories: int) -> int:
    """In how many numbers one of so many categories is told."""
    return min(WIDEST, -(-categories // 2))


class Facts(nn.Module):
    """A series' number first, then its labels: each category by an embedding, each number as it is. The series' number is read as
    its `profile`: the strengths of the shared periods, in row 0 their mean, for a series never seen."""

    profile: Float[Tensor, "member series period"]

    def __init__(self, streams: Sequence[Generator], kinds: Sequence[int], periods: int) -> None:
        super().__init__()
        labels = kinds[1:]
        self.labels = nn.ModuleList(Embedding(streams, kind, width_of(kind)) for kind in labels if kind)
        self.category = [bool(kind) for kind in labels]
        self.width = periods + sum(width_of(kind) if kind else 1 for kind in labels)
        self.register_buffer("profile", torch.zeros(len(streams), kinds[0] + 1, periods))

    def forward(self, static: Float[Tensor, "member example label"]) -> Float[Tensor, "member example fact"]:
        """[member, example, fact]."""
        embeddings = iter(self.labels)
        parts = [torch.take_along_dim(self.profile, number_of(static)[..., None], 1)]
        for told, fact in zip(self.category, static[..., 1:].unbind(-1), strict=True):
            parts.append(next(embeddings)(fact) if told else fact[..., None])
        return torch.cat(parts, -1)


class Own(nn.Module):
    """A small head of each series' own: what it adds to every output of the shared one. It begins as nothing, and stays nothing for a
    series never seen."""

    def __init__(self, members: int, series: int, features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, series + 1, features, outputs))
        self.bias = nn.Parameter(torch.zeros(members, series + 1, outputs))

    def forward(self, x: Float[Tensor, "member example *step feature"], static: Float[Tensor, "member example label"]) -> Tensor:
        """[member, example, *step, output]."""
        at, rows = torch.arange(len(x), device=x.device)[:, None], number_of(static)
        known = (rows > 0).to(x)[..., None]
        weight, bias = self.weight[at, rows] * known[..., None], self.bias[at, rows] * known
        steps = x if x.ndim == 4 else x[:, :, None]
        out: Tensor = steps @ weight + bias[:, :, None]
        return out if x.ndim == 4 else out[:, :, 0]


def number_of(static: Float[Tensor, "member example label"]) -> Int[Tensor, "member example"]:
    """Each example's series: from 1 on, 0 for one never seen."""
    return static[..., 0].long()
