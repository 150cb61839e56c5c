"""Advice: which channels an explanation of many windows finds weak, redundant or noisy, with the evidence."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError
from .types import Advice, Attribution

WEAK = 0.02  # share of all that is attributed below which a channel adds next to nothing
ALIKE = 0.95  # correlation of two channels' contributions from which one stands for both
NOISY = 4.0  # times larger single cells than their sum


def advice(why: Attribution, *, keep: tuple[str, ...] = ()) -> tuple[Advice, ...]:
    """Of contributions to at least three windows; channels in `keep` (the target) and those that get nothing by construction are
    left alone. *Weak*: below 2 % of all that is attributed. *Redundant*: two channels whose contributions go
    together, or cancel, in 95 % of their variance. *Noisy*: single cells many times larger than what they add up to."""
    if why.kind != "contribution":
        raise TaskError(f"advice needs contributions; {why.method} gives a {why.kind}")
    if len(why.prediction) < 3:
        raise TaskError(f"advice on {len(why.prediction)} window(s) would be guesswork: explain at least 3, as by origin=[...]")
    by = {name: value.flatten().double() for name, value in why.by_channel().items()}
    size = {name: float(value.abs().mean()) for name, value in by.items()}
    whole = sum(size.values()) or 1.0
    asked = [name for name in by if name not in keep and _cells(why, name) > 0]
    found = [Advice(n, "weak", f"{size[n] / whole:.2%} of all that is attributed over {len(why.prediction)} windows") for n in asked if size[n] < WEAK * whole]
    strong = [n for n in asked if size[n] >= WEAK * whole]
    for at, one in enumerate(strong):
        for two in strong[at + 1 :]:
            together = _correlation(by[one], by[two])
            if abs(together) > ALIKE:
                small, large = sorted((one, two), key=lambda n: size[n])
                how = "go together with" if together > 0 else "cancel"
                found.append(Advice(small, "redundant", f"its contributions {how} those of {large} (correlation {together:.2f})"))
    for name in strong:
        ratio = _cells(why, name) / max(size[name], 1e-12)
        if ratio > NOISY:
            found.append(Advice(name, "noisy", f"its cells add up to a {ratio:.0f}th of their own size: they act against each other"))
    return tuple(found)


def _cells(why: Attribution, name: str) -> float:
    """Mean over windows and steps of Σ |cell| of a channel."""
    total = 0.0
    for block, x in why.values.items():
        names = why.channels(block)
        if name in names:
            total += float(x[..., names.index(name)].abs().sum(-1).mean())
    return total


def _correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1].nan_to_num(0.0))
