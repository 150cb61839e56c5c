"""Planting: faults put into held-out normal rows, so that methods can be chosen without a single labelled fault."""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .evaluate import average_precision
from .method import Method
from .preparation import Prepared
from .runs import Piece, Rows
from .scoring import DetectorPart, Judged, Scoring, judge, measure, together

LOCAL = ("spike", "burst", "shift", "drift", "stuck")  # of one to a third of the channels
COMMON = ("surge", "shake", "splice")  # of all that move together
LENGTHS = (8, 40)  # rows of a fault, spikes apart
SIZES = (0.7, 4.0)  # in units of the channel's scale
SHARE = 0.08  # of the rows at fault
CLOSE = 0.02  # of choices so close to the best, the one of most methods: faults that nobody planted are seen by more eyes


def planted(rows: Rows, width: Float[Tensor, " channel"], kinds: Sequence[str], random: torch.Generator) -> tuple[Rows, Bool[Tensor, " time"]]:
    """The rows with faults of these kinds, and which rows are at fault."""
    out, mask = rows.clone(), torch.zeros(len(rows), dtype=torch.bool)
    number = max(1, round(SHARE * len(rows) / (sum(LENGTHS) / 2)))
    for at in range(number):
        kind = kinds[(at + _between(0, len(kinds) - 1, random)) % len(kinds)]
        length = _between(1, 3, random) if kind == "spike" else _between(*LENGTHS, random)
        room = len(rows) // number
        first = at * room + _between(0, max(0, room - length - 1), random)
        part = rows[first : first + length]
        size = SIZES[0] + (SIZES[1] - SIZES[0]) * float(torch.rand(1, generator=random))
        if kind in COMMON:
            other = _between(0, max(0, len(rows) - len(part)), random)
            out[first : first + length] = common(part, kind, size * width, rows[other : other + len(part)], _together(rows), random)
        else:
            some = torch.randperm(rows.shape[1], generator=random)[: _between(1, max(1, rows.shape[1] // 3), random)]
            out[first : first + length, some] = local(part[:, some], kind, size * width[some], random)
        mask[first : first + length] = True
    return out, mask


def local(part: Rows, kind: str, size: Float[Tensor, " channel"], random: torch.Generator) -> Rows:
    """A stretch of some channels with a fault of theirs, of the given size a channel."""
    sign = torch.randint(0, 2, size.shape, generator=random) * 2.0 - 1
    if kind == "spike":
        return part + 2 * sign * size
    if kind == "burst":
        return part + size * torch.randn(part.shape, generator=random, dtype=part.dtype)
    if kind == "shift":
        return part + sign * size
    if kind == "drift":
        return part + sign * size * torch.linspace(0, 1, len(part), dtype=part.dtype)[:, None]
    return part[:1].expand_as(part) + 0.02 * size * torch.randn(part.shape, generator=random, dtype=part.dtype)


def common(part: Rows, kind: str, size: Float[Tensor, " channel"], other: Rows, way: Float[Tensor, " channel"], random: torch.Generator) -> Rows:
    """A stretch in which all channels go astray as they do together: what each shows fits the others, but not the time."""
    if kind == "surge":
        return part + way * size
    if kind == "shake":
        return part + way * size * torch.randn(len(part), 1, generator=random, dtype=part.dtype)
    return other


def _together(rows: Rows) -> Float[Tensor, " channel"]:
    """How each channel moves with the first principal component, −1 … 1."""
    x = torch.nan_to_num(rows - rows.nanmean(0))
    x = x / x.square().mean(0).sqrt().clamp(min=1e-12)
    axis = torch.linalg.eigh(x.T @ x).eigenvectors[:, -1]
    way: Tensor = axis / axis.abs().max().clamp(min=1e-12)
    return way


def _between(low: int, high: int, random: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=random))


def choice(
    parts: Sequence[DetectorPart], methods: Sequence[Sequence[Method]], held: Sequence[Sequence[Piece]], prepared: Prepared, how: Scoring, seed: int
) -> tuple[tuple[int, ...], dict[tuple[int, ...], float]]:
    """Which parts together find planted faults best, and how well each choice did: the mean over the folds of average precision,
    local faults times common ones, rooted, for a guard that is blind to either is none.

    `methods[part][fold]` were fitted without `held[fold]`.
    """
    random = torch.Generator().manual_seed(seed)
    width = prepared.scale.width[0, : len(prepared.channels)]
    found: dict[tuple[int, ...], list[float]] = {some: [] for some in _subsets(len(parts))}
    for fold, pieces in enumerate(held):
        both = [
            _precisions(parts, [one[fold] for one in methods], [planted(p, width, kinds, random) for p in pieces], prepared, how) for kinds in (LOCAL, COMMON)
        ]
        for some in found:
            found[some].append((both[0][some] * both[1][some]) ** 0.5)
    mean = {some: sum(values) / len(values) for some, values in found.items()}
    close = [some for some, value in mean.items() if value >= (1 - CLOSE) * max(mean.values())]
    return max(close, key=lambda some: (len(some), mean[some])), mean


def _precisions(
    parts: Sequence[DetectorPart], methods: Sequence[Method], pieces: Sequence[tuple[Piece, Tensor]], prepared: Prepared, how: Scoring
) -> dict[tuple[int, ...], float]:
    judged = [[_judged(part, method, prepared, piece, how) for piece, _ in pieces] for part, method in zip(parts, methods, strict=True)]
    label = torch.cat([mask for _, mask in pieces])
    found = {}
    for some in _subsets(len(parts)):
        rows = [together([parts[at] for at in some], [judged[at][n] for at in some])[0] for n in range(len(pieces))]
        found[some] = average_precision(torch.cat(rows), label)
    return found


def _judged(part: DetectorPart, method: Method, prepared: Prepared, piece: Piece, how: Scoring) -> Judged:
    ready = prepared.apply(piece)
    return judge(part, measure(method, prepared, ready, how), how, ready.observed)


def _subsets(count: int) -> list[tuple[int, ...]]:
    return [some for size in range(1, count + 1) for some in combinations(range(count), size)]
