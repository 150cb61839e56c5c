"""The gradient family: saliency, gradient × input, SmoothGrad, integrated and expected gradients, along a straight or a temporal path.

What an integral over a path from the baseline to the window gives is a contribution and adds up to the change of the
forecast; a plain gradient is a sensitivity and does not.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from .kinks import Noting, Secants, bends
from .probe import Probe, facing
from .types import Attribution, Baseline, Blocks, Kind, Map

MOST_NODES = 128
CLOSE = 0.01  # residual at which integrated gradients stop refining the quadrature


def saliency(f: Map, blocks: Blocks) -> Attribution:
    """The signed derivative of every output by every cell: output units per unit of the input.

    Simonyan, Vedaldi, Zisserman (2014), arXiv 1312.6034, §3, there for the absolute value.
    """
    probe = Probe(f, blocks)
    _, slope = next(probe.slopes({name: x[None] for name, x in blocks.items()}))
    return finished(probe, {name: x[0] for name, x in slope.items()}, "saliency", kind="sensitivity")


def gradient_input(f: Map, blocks: Blocks, against: Baseline) -> Attribution:
    """Slope at the window × distance from the baseline: the first-order contribution, exact only where f is linear."""
    probe = Probe(f, blocks)
    _, slope = next(probe.slopes({name: x[None] for name, x in blocks.items()}))
    middle = against.mean()
    values = {name: x[0] * (blocks[name] - middle[name])[:, None] for name, x in slope.items()}
    return finished(probe, values, "gradient_input", against)


def smooth_gradient(f: Map, blocks: Blocks, *, noise: float = 0.15, draws: int = 32, seed: int = 0, spread: Blocks | None = None) -> Attribution:
    """The mean slope in a neighbourhood, with its standard error; `noise` in deviations of each channel (`spread`, or
    those over the window itself). Smilkov et al. (2017), arXiv 1706.03825."""
    probe, random = Probe(f, blocks), Generator().manual_seed(seed)
    around = {}
    for name, x in blocks.items():
        size = spread[name] if spread else x.std(1, keepdim=True) if x.shape[1] > 1 else x.abs()
        drawn = torch.randn(draws, *x.shape, generator=random, dtype=x.dtype)
        around[name] = x + noise * size * drawn
    total, square = mean_slopes(probe, around)
    error = {name: ((square[name] - total[name].square()).clamp(min=0) / draws).sqrt() for name in total}
    return finished(probe, total, "smooth_gradient", kind="sensitivity", error=error)


def integrated_gradients(f: Map, blocks: Blocks, against: Baseline, *, nodes: int | None = None, most: int = MOST_NODES) -> Attribution:
    """(x − b) · the mean slope on the way from b to x, by Gauss-Legendre quadrature; several draws of b are averaged over.

    `nodes` None starts with 16 and doubles until the residual is below 1 %, or `most`; where scales with knots are told as such
    (`kinks`), the way is then cut into stretches. Sundararajan, Taly, Yan (2017), arXiv
    1703.01365, §3; with several draws the expected gradients of Erion et al. (2021), doi:10.1038/s42256-021-00343-w.
    """
    probe, count = Probe(f, blocks), nodes or 16
    name = "integrated_gradients" if against.draws == 1 else "expected_gradients"
    found = finished(probe, _integrated(probe, against, count), name, against)
    bent = nodes is None and found.gap >= CLOSE and bends(f, blocks)
    while nodes is None and found.gap >= CLOSE and count < most:
        count *= 2
        next_ = finished(probe, _stretched(probe, against, count) if bent else _integrated(probe, against, count), name, against)
        found = next_ if next_.gap < found.gap else replace(found, cost=next_.cost)
    return found


def temporal_gradients(f: Map, blocks: Blocks, against: Baseline, *, nodes: int = 4, stairs: int = 24) -> Attribution:
    """Integrated gradients on a staircase through time: the steps of the window are revealed from the oldest on, in `stairs`
    stretches, then once more from the newest on, and the two are averaged. Complete by telescoping.

    Temporal integrated gradients of Enguehard (2023), doi:10.5555/3618408.3618798 (time_interpret), for nets whose window
    has a fixed length and cannot be cropped.
    """
    probe = Probe(f, blocks)
    back = _staircase(probe, against, nodes, stairs, forward=True)
    ahead = _staircase(probe, against, nodes, stairs, forward=False)
    return finished(probe, {name: (back[name] + ahead[name]) / 2 for name in back}, "temporal_gradients", against)


def timing(f: Map, blocks: Blocks, against: Baseline, *, held: float = 0.5, nodes: int = 50, seed: int = 0) -> Attribution:
    """Integrated gradients with random stretches of single channels held at their real values along the path, the mean slope
    taken where nothing is held. It sees a cell in the company of real neighbours, and does not add up.

    Jang et al. (2025), TIMING, arXiv 2506.05035, §4: left Riemann nodes, stretches of a fifth of the window up to half of it, in all
    about the share `held` of the cells.
    """
    probe, random = Probe(f, blocks), Generator().manual_seed(seed)
    begin, real = against.mean(), dict(blocks)
    kept = [{name: _stretches(x, held, random) for name, x in blocks.items()} for _ in range(nodes)]
    path = {name: torch.stack([torch.where(kept[n][name], x, begin[name] + n / nodes * (x - begin[name])) for n in range(nodes)]) for name, x in real.items()}
    free = {name: torch.stack([~k[name] for k in kept])[:, :, None].to(x.dtype) for name, x in real.items()}
    total, seen = zeros(probe), {name: x.sum(0).clamp(min=1) for name, x in free.items()}
    for at, slope in probe.slopes(path):
        for name, x in slope.items():
            total[name] = total[name] + (x * free[name][at]).sum(0)
    values = {name: total[name] / seen[name] * (x - begin[name])[:, None] for name, x in real.items()}
    return finished(probe, values, "timing", against)


def mean_slopes(probe: Probe, points: Blocks) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and mean square of the slopes over [copy, example, step, channel] points."""
    copies = len(next(iter(points.values())))
    total, square = zeros(probe), zeros(probe)
    for _, slope in probe.slopes(points):
        for name, x in slope.items():
            total[name] = total[name] + x.sum(0) / copies
            square[name] = square[name] + x.square().sum(0) / copies
    return total, square


def zeros(probe: Probe) -> dict[str, Tensor]:
    """A start for sums of any shape."""
    return {name: x.new_zeros(()) for name, x in probe.blocks.items()}


def quadrature(nodes: int) -> tuple[list[float], list[float]]:
    """Gauss-Legendre nodes and weights on 0 … 1."""
    place, weight = np.polynomial.legendre.leggauss(nodes)
    return ((place + 1) / 2).tolist(), (weight / 2).tolist()


def finished(
    probe: Probe, values: Blocks, method: str, against: Baseline | None = None, *, kind: Kind = "contribution", error: Blocks | None = None
) -> Attribution:
    """An attribution with the prediction, the base value (mean over the draws) and the cost."""
    here, shape = probe.here(), probe.shape()
    base = probe.values(against.values).mean(0) if against else torch.full_like(here, torch.nan)
    shaped = {name: x.unflatten(1, shape) if len(shape) != 1 else x for name, x in values.items()}
    spread = {name: x.unflatten(1, shape) if len(shape) != 1 else x for name, x in (error or {}).items()}
    return Attribution(
        shaped,
        here.unflatten(1, shape),
        base.unflatten(1, shape),
        kind,
        method,
        against,
        error=spread,
        cost=probe.cost(),
    )


def _integrated(probe: Probe, against: Baseline, nodes: int) -> dict[str, Tensor]:
    real = facing(probe.blocks, against)
    total = zeros(probe)
    places, weights = quadrature(nodes)
    between = {name: torch.cat([b + a * (real[name] - b) for a in places]) for name, b in against.values.items()}
    weight = torch.tensor(weights, dtype=torch.float64).repeat_interleave(against.draws) / against.draws
    change = {name: (real[name] - b).repeat(nodes, 1, 1, 1) for name, b in against.values.items()}
    for at, slope in probe.slopes(between):
        for name, x in slope.items():
            share = (x * change[name][at][:, :, None]).double()
            total[name] = total[name] + torch.einsum("c,ceosd->eosd", weight[at], share)
    return {name: x.to(probe.blocks[name].dtype) for name, x in total.items()}


def _stretched(probe: Probe, against: Baseline, nodes: int) -> dict[str, Tensor]:
    """The same with two nodes on each of nodes / 2 stretches, and the scales' mean slopes on each (`kinks`)."""
    real, total, count = facing(probe.blocks, against), zeros(probe), nodes // 2
    places, weights = quadrature(2)
    begin = {name: torch.cat([b + k / count * (real[name] - b) for k in range(count)]) for name, b in against.values.items()}
    step = {name: ((real[name] - b) / count).repeat(count, 1, 1, 1) for name, b in against.values.items()}
    for at in torch.arange(count * against.draws).split(probe.most):
        low, high = Noting(), Noting()
        for end, mode in ((0.0, low), (1.0, high)):
            with torch.no_grad(), mode:
                probe.call({name: (x[at] + end * step[name][at]).flatten(0, 1) for name, x in begin.items()})
        for place, weight in zip(places, weights, strict=True):
            for _, slope in probe.slopes({name: x[at] + place * step[name][at] for name, x in begin.items()}, Secants(low.met, high.met)):
                for name, x in slope.items():
                    share = (x * step[name][at][:, :, None]).double()
                    total[name] = total[name] + weight * share.sum(0) / against.draws
    return {name: x.to(probe.blocks[name].dtype) for name, x in total.items()}


def _staircase(probe: Probe, against: Baseline, nodes: int, stairs: int, *, forward: bool) -> dict[str, Float[Tensor, "example output step channel"]]:
    total = zeros(probe)
    begin = against.mean()
    for low, high in _steps(probe.blocks, begin, stairs, forward):
        places, weights = quadrature(nodes)
        path = {name: torch.stack([low[name] + a * (high[name] - low[name]) for a in places]) for name in low}
        for at, slope in probe.slopes(path):
            for name, x in slope.items():
                share = (x * (high[name] - low[name])[None, :, None]).double()
                total[name] = total[name] + torch.einsum("c,ceosd->eosd", torch.tensor(weights, dtype=torch.float64)[at], share)
    return {name: x.to(probe.blocks[name].dtype) for name, x in total.items()}


def _steps(blocks: Blocks, begin: Blocks, stairs: int, forward: bool) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Ends of every stair: at stair k each block is real in its first (or last) k shares of steps, the baseline elsewhere."""
    longest = max(x.shape[1] for x in blocks.values())
    count = min(stairs, longest)

    def at(k: int) -> dict[str, Tensor]:
        found = {}
        for name, x in blocks.items():
            upto = round(k * x.shape[1] / count)
            step = torch.arange(x.shape[1])[:, None]
            found[name] = torch.where(step < upto if forward else step >= x.shape[1] - upto, x, begin[name])
        return found

    for k in range(count):
        yield at(k), at(k + 1)


def _stretches(x: Float[Tensor, "example step channel"], share: float, random: Generator) -> Bool[Tensor, "example step channel"]:
    """Cells covered by random stretches of one channel each, of a fifth of the window up to half of it; about this share of all."""
    examples, steps, channels = x.shape
    low, high = max(1, steps // 5), max(1, steps // 2)
    shape = (examples, max(1, round(-math.log(1 - share) * steps * channels / ((low + high) / 2))))
    length = torch.randint(low, high + 1, shape, generator=random)
    # A stretch may begin before the window: its first cells are covered as often as the others.
    first = (torch.rand(shape, generator=random) * (steps + length) - length).floor().long()
    channel = torch.randint(0, channels, shape, generator=random)
    step = torch.arange(steps)
    inside = (step >= first[..., None]) & (step < (first + length)[..., None])
    one_hot = torch.nn.functional.one_hot(channel, channels).bool()
    return (inside[..., None] & one_hot[:, :, None]).any(1)
