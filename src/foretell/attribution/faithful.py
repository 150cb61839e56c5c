"""How far an explanation can be trusted: what happens to the forecast when the cells it names are taken out, and, where the
truth is known, how well it ranks them. Straw men (random, |x|, recency) belong beside every number.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..errors import TaskError
from .probe import Probe
from .types import Attribution, Baseline, Blocks, Map

STEPS = 50


class Ranking(NamedTuple):
    """How well scores find the true cells: area under the ROC curve, average precision, and for comparison with older papers
    the areas under precision and recall over thresholds on scores brought to 0 … 1."""

    auroc: float
    ap: float
    aup: float
    aur: float


class Removal(NamedTuple):
    """What happens to the forecast while cells are replaced, as means over windows, in units of the output's size.

    `cpd`: cells of greatest |value| first, path length of the forecast (higher: the cells named matter). `cpp`: least first
    (lower is better). `deletion`: mean change after taking the greatest; `insertion`: mean distance left after putting back
    the greatest; `sufficiency`: distance with only the top tenth real.
    """

    cpd: float
    cpp: float
    deletion: float
    insertion: float
    sufficiency: float


def ranking(score: Float[Tensor, "*cells"], truth: Bool[Tensor, "*cells"]) -> Ranking:
    """Of all cells together; ties count half."""
    s, t = score.flatten().double(), truth.flatten()
    positive, negative = int(t.sum()), int((~t).sum())
    if not positive or not negative:
        raise TaskError("a ranking needs cells that matter and cells that do not; here all are alike")
    order = s.argsort()
    ranks = _mid_ranks(s[order])[order.argsort()]
    auroc = (ranks[t].sum() - positive * (positive + 1) / 2) / (positive * negative)
    found = t[s.argsort(descending=True)].double()
    precision = found.cumsum(0) / torch.arange(1, len(found) + 1)
    scaled = (s - s.min()) / (s.max() - s.min()).clamp(min=1e-12)
    cuts = torch.linspace(0, 1, 101, dtype=torch.float64)[:-1]
    hit = torch.stack([((scaled >= c) & t).sum() / (scaled >= c).sum().clamp(min=1) for c in cuts])
    recall = torch.stack([((scaled >= c) & t).sum() / positive for c in cuts])
    return Ranking(float(auroc), float((precision * found).sum() / positive), float(hit.mean()), float(recall.mean()))


def removal(f: Map, why: Attribution, blocks: Blocks, against: Baseline, *, share: float = 1.0, steps: int = STEPS) -> Removal:
    """Cells are replaced by the baseline in the order of |value| (of all outputs together), `steps` at a time, until `share` of them
    are gone. Never compare numbers made with different baselines: the baseline that is removed with favours itself.

    Cumulative prediction difference and preservation: Jang et al. (2025), arXiv 2506.05035, §5.1.
    """
    probe = Probe(f, blocks)
    rank = _rank({name: x.abs().flatten(1, -3).sum(1) for name, x in why.values.items()})
    count = sum(x[0].numel() for x in rank.values())
    last = max(1, round(share * count))
    edges = torch.linspace(0, last, min(steps, last) + 1).round().long().unique()
    base = {name: x.mean(0) for name, x in against.values.items()}
    down = _path(probe, base, {n: r[None] >= edges.view(-1, 1, 1, 1) for n, r in rank.items()})
    up = _path(probe, base, {n: count - 1 - r[None] >= edges.view(-1, 1, 1, 1) for n, r in rank.items()})
    put = _path(probe, base, {n: r[None] < edges.view(-1, 1, 1, 1) for n, r in rank.items()})
    some = _path(probe, base, {n: r[None] < max(1, count // 10) for n, r in rank.items()})
    here = probe.here()
    size = here.std(0).mean() if len(here) > 1 and float(here.std(0).mean()) > 0 else here.abs().mean().clamp(min=1e-12)
    return Removal(
        *(float(x.abs().mean(-1).sum(0).mean() / size) for x in (down.diff(dim=0), up.diff(dim=0))),
        *(float((x - here).abs().mean() / size) for x in (down, put, some)),
    )


def straw_men(why: Attribution, blocks: Blocks, *, seed: int = 0) -> dict[str, Attribution]:
    """What any explanation must beat: random values, the size of the input itself, its nearness to the present."""
    random = Generator().manual_seed(seed)
    noise = {n: torch.rand(x.shape, generator=random, dtype=x.dtype) for n, x in why.values.items()}
    size = {n: blocks[n][:, None].abs().expand(x.flatten(1, -3).shape).reshape(x.shape) for n, x in why.values.items()}
    late = {n: torch.linspace(0, 1, x.shape[-2], dtype=x.dtype)[:, None].expand_as(x) for n, x in why.values.items()}
    return {name: replace(why, values=v, method=name, kind="importance") for name, v in (("random", noise), ("|x|", size), ("recency", late))}


def randomised(explained: Callable[[Map], Attribution], maps: list[Map]) -> list[float]:
    """Rank correlation of |values| with the first map's, for each of the others: maps whose weights were drawn anew, layer
    after layer. An explanation that does not fall does not look at the model. Adebayo et al. (2018), arXiv 1810.03292, §3.
    """
    first, *rest = (torch.cat([x.abs().flatten() for x in explained(f).values.values()]) for f in maps)
    return [rank_correlation(first, other) for other in rest]


def stability(explained: Callable[[int], Attribution], seeds: int = 5) -> float:
    """Mean rank correlation between the explanations of several seeds."""
    every = [torch.cat([x.flatten() for x in explained(seed).values.values()]) for seed in range(seeds)]
    pairs = [rank_correlation(a, b) for n, a in enumerate(every) for b in every[n + 1 :]]
    return sum(pairs) / len(pairs)


def rank_correlation(a: Float[Tensor, " cell"], b: Float[Tensor, " cell"]) -> float:
    """Spearman's, ties at their mean rank."""
    ranks = [_mid_ranks(x[x.argsort()].double())[x.argsort().argsort()] for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def _mid_ranks(ascending: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """1-based, equal values at the mean of their places."""
    _, inverse, counts = ascending.unique_consecutive(return_inverse=True, return_counts=True)
    end = counts.cumsum(0).double()
    middle: Tensor = (end - (counts.double() - 1) / 2)[inverse]
    return middle


def _rank(size: Blocks) -> dict[str, Tensor]:
    """Place of every cell among all of its window, the greatest 0."""
    flat = torch.cat([x.flatten(1) for x in size.values()], 1)
    place = flat.argsort(stable=True, dim=1, descending=True).argsort(1)
    parts = place.split([x[0].numel() for x in size.values()], 1)
    return {name: part.view(x.shape) for (name, x), part in zip(size.items(), parts, strict=True)}


def _path(probe: Probe, base: Blocks, real: Blocks) -> Float[Tensor, "copy example output"]:
    """Outputs where the marked cells are real and the others the baseline's."""
    return probe.values({name: torch.where(mark, probe.blocks[name], base[name]) for name, mark in real.items()})
