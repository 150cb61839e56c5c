"""DeepLIFT: contributions of every cell to every output from one backward pass of the engine, complete up to rounding."""

from dataclasses import replace

import torch
from torch import Tensor

from .engine import Engine
from .gradients import finished, zeros
from .probe import Probe
from .types import Attribution, Baseline, Blocks, Map

ROWS = 4096  # copies × windows in one pass


def deeplift(f: Map, blocks: Blocks, against: Baseline) -> Attribution:
    """(x − b) · the engine's multipliers, for all outputs at once: the windows are repeated once an output and one backward
    serves all. Several draws of the baseline are averaged over (DeepSHAP).

    Shrikumar et al. (2017), arXiv 1704.02685, §3.5; Lundberg, Lee (2017), arXiv 1705.07874, §4.2 for draws.
    """
    probe = Probe(f, blocks)
    outputs = probe.here().shape[1]
    pairs = torch.cartesian_prod(torch.arange(against.draws), torch.arange(outputs)).reshape(-1, 2)
    total = zeros(probe)
    said: set[str] = set()
    most = max(1, min(probe.most, ROWS // probe.examples))
    parts: dict[str, list[Tensor]] = {name: [] for name in blocks}
    for some in pairs.split(most):
        found, strange = _pass(probe, against, some)
        said |= strange
        for name, x in found.items():
            parts[name].append(x)
    for name, found_in in parts.items():
        shape = (against.draws, outputs, *found_in[0].shape[1:])
        total[name] = torch.cat(found_in).view(shape).mean(0).transpose(0, 1)
    done = finished(probe, total, "deeplift", against)
    notes = (f"{', '.join(sorted(said))}: has no rule in the engine, so its plain slope was used; the residual shows what is missed",) if said else ()
    return replace(done, warnings=notes)


def _pass(probe: Probe, against: Baseline, pairs: Tensor) -> tuple[dict[str, Tensor], set[str]]:
    """One run of the engine for these (draw, output) pairs, each a copy of all windows."""
    copies = len(pairs)
    base = {name: x[pairs[:, 0]].flatten(0, 1) for name, x in against.values.items()}
    here = {name: x.repeat(copies, 1, 1).requires_grad_() for name, x in probe.blocks.items()}
    noting = Engine()
    with torch.no_grad(), noting:
        probe.call(base)
    replay = Engine(noting.tape)
    with torch.enable_grad(), replay:
        output = probe.call(here)
    picked = output.gather(1, pairs[:, 1].repeat_interleave(probe.examples)[:, None])
    probe.spent["backwards"] += len(picked)
    moving = picked.requires_grad
    slope = torch.autograd.grad(picked.sum(), list(here.values()), allow_unused=True) if moving else [None] * len(here)
    found = {}
    for (name, x), each in zip(here.items(), slope, strict=True):
        change = (x - base[name]).detach()
        found[name] = (torch.zeros_like(x) if each is None else each * change).unflatten(0, (copies, probe.examples)).detach()
    return found, set(replay.strange)
