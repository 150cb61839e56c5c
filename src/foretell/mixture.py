"""Mixture: several fitted models as one, each with a share that the stop part has chosen greedily."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .errors import TaskError
from .function import Function
from .spec import Spec
from .task import Batch

NEAR = 1.2  # a model that errs at most so many times as much as the best one is worth its equal share


class Mixture(Spec):
    """The rows that an ensemble is mixed from, by name."""

    names: tuple[str, ...]


def greedy(guess: Float[Tensor, "model window"], truth: Float[Tensor, " window"], rounds: int) -> Float[Tensor, " model"]:
    """Shares of models, summing to 1: round after round the model is added, with replacement, that makes the mean absolute
    error of the mean so far the least. NaN in truth is left out. Ensemble Selection from Libraries of Models, Caruana et al.
    2004, §2.2, doi:10.1145/1015330.1015432."""
    seen = truth.isfinite() & guess.isfinite().all(0)
    if not bool(seen.any()):
        return torch.full((len(guess),), 1 / len(guess), dtype=guess.dtype)
    known, goal = guess[:, seen], truth[seen]
    total, count = torch.zeros_like(goal), torch.zeros(len(guess), dtype=guess.dtype)
    trail = []
    for turn in range(1, rounds + 1):
        errors = ((total + known) / turn - goal).abs().mean(1)
        chosen = int(errors.argmin())
        total = total + known[chosen]
        count[chosen] += 1
        trail.append((float(errors[chosen]), count.clone()))
    best = min(trail, key=lambda one: one[0])[1]
    return best / best.sum()


def shares(guess: Float[Tensor, "model window"], truth: Float[Tensor, " window"], rounds: int) -> Float[Tensor, " model"]:
    """Shares of models, summing to 1: half of each is chosen greedily, half is the same for all that come near the best.

    What is chosen fits the windows it was chosen on, equal shares fit none: between them the forecast is steadier than either.
    Claeskens et al. 2016, "The forecast combination puzzle", doi:10.1016/j.ijforecast.2015.12.005.
    """
    seen = truth.isfinite() & guess.isfinite().all(0)
    if not bool(seen.any()):
        return torch.full((len(guess),), 1 / len(guess), dtype=guess.dtype)
    errors = (guess[:, seen] - truth[seen]).abs().mean(1)
    near = (errors <= NEAR * errors.min()).to(guess.dtype)
    return (greedy(guess, truth, rounds) + near / near.sum()) / 2


def blended(functions: Sequence[Function], shares: Float[Tensor, " model"]) -> Callable[[Batch, Int[Tensor, " example"], Int[Tensor, " example"], int], Tensor]:
    """The models' functions as one, for windows in the user's units. It has no gradient: it is explained by perturbation alone."""

    def forward(batch: Batch, series: Int[Tensor, " example"], origin: Int[Tensor, " example"], copies: int) -> Tensor:
        if batch.past.requires_grad or batch.future.requires_grad:
            raise TaskError("an ensemble is explained by perturbation methods only: it has no gradients")
        rows = series.repeat(copies)
        parts = []
        for one in functions:
            blocks = {"past": batch.past[:, -one.source.context :], "future": batch.future}
            parts.append(one.source.unscaled(one.output(blocks), rows))
        return torch.einsum("m,m...->...", shares, torch.stack(parts))

    return forward
