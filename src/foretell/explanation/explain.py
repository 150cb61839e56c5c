"""explain: why a fitted model forecasts what it does, in the user's units, with the explanation's own error."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..attribution.deeplift import deeplift
from ..attribution.gradients import gradient_input, integrated_gradients, saliency, smooth_gradient, temporal_gradients, timing
from ..attribution.groups import cells, season_cuts
from ..attribution.lrp import lrp
from ..attribution.removal import lime, occlusion, shapley, temporal_lime
from ..attribution.types import Attribution, Baseline, Groups
from ..detect.detector import Detector
from ..errors import TaskError, nearest
from ..forecaster import Forecaster, When
from ..panel import Panel
from .acting import permuted
from .asked import Asked, Of, ask
from .guarded import CALLED, explain_score
from .inner import INNER, why_not

Method = Callable[[Asked], Attribution]
METHODS: dict[str, Method] = {
    "deeplift": lambda q: deeplift(q.f, q.blocks, q.against),
    "integrated_gradients": lambda q: integrated_gradients(q.f, q.blocks, q.against),
    "temporal_gradients": lambda q: temporal_gradients(q.f, q.blocks, q.against),
    "timing": lambda q: timing(q.f, q.blocks, q.against),
    "gradient_input": lambda q: gradient_input(q.f, q.blocks, q.against),
    "saliency": lambda q: saliency(q.f, q.blocks),
    "smooth_gradient": lambda q: smooth_gradient(q.f, q.blocks),
    "lrp": lambda q: lrp(q.f, q.blocks),
    "occlusion": lambda q: occlusion(q.f, q.blocks, q.against, cells(q.blocks, q.free)),
    "shapley": lambda q: shapley(q.f, q.blocks, q.against, q.groups),
    "lime": lambda q: lime(q.f, q.blocks, q.against, q.groups),
    "temporal_lime": lambda q: temporal_lime(q.f, q.blocks, q.against, {"past": season_cuts(q.blocks["past"].shape[1], q.season)}, q.free),
}
WORTH: dict[str, Method] = {"permutation": permuted}  # of the error, not of the forecast
CURVES = ("pdp", "ice", "ale")  # asked by effect(model, panel, channel)
SMOOTH = ("deeplift", "integrated_gradients", "temporal_gradients", "timing", "gradient_input", "saliency", "smooth_gradient", "lrp")
LARGE = 0.05  # share of the change left unexplained from which grouped Shapley values take over


def explain(
    model: Forecaster | Detector,
    panel: Panel,
    *,
    origin: When | Sequence[When] | None = None,
    of: Of = "step",
    method: str = "auto",
    baseline: str | Baseline | Panel = "typical",
    groups: Groups | None = None,
    target: str | None = None,
    level: float = 80.0,
) -> Attribution:
    """What each value the model read adds to its forecast: [series, horizon, time, channel] in the target's units.

    `of` is every "step", the "total" over the horizon, the "peak", or the width of the `level` "band". `baseline` is what
    the forecast is compared with: "typical" values, the "last_period", or "normal" windows of the past. `method` "auto" is
    DeepLIFT with integrated gradients beside it; where 5 % or more are left unexplained, or the model has no slopes, Shapley
    values of stretches of each channel. "components" is the forecast as named sums (`record`). "attention", "feature_weights", "cam" and
    "kernels" show what the net has inside; their blocks are its own, not "past" and "future". The floor and the sorting of
    quantiles are left out of what is explained. "permutation" is what the error gains without a channel (`worth`): of several
    origins whose truth is known.

    A detector's score is explained sensor by sensor (`guarded`): `origin` is the row, left out each run's highest; `baseline` a
    Panel of normal runs, left out the panel's own windows without an alarm, of which the nearest are taken.
    """
    if isinstance(model, Detector):
        return explain_score(model, panel, origin, method, baseline, groups)
    if isinstance(baseline, Panel):
        raise TaskError("a Panel as baseline= is for detectors; a forecast is compared with typical values, last_period or normal")
    asked = ask(model, panel, origin, of, baseline, groups, target, level)
    every = METHODS | INNER | WORTH
    if method in CURVES or method == "counterfactual":
        how = "effect(model, panel, channel)" if method in CURVES else "counterfactual(model, panel, aim, change=channel)"
        raise TaskError(f'"{method}" asks about one channel and is a {"curve" if method in CURVES else "change"}: foretell.explanation.{how}')
    if method != "auto" and method not in every:
        raise TaskError(f'no method "{method}": {nearest(method, ["auto", *every])}')
    reason = methods(model).get(method, "")
    if reason:
        raise TaskError(f"{method} does not work for {type(model.net).__name__}: {reason}")
    found = automatic(asked, smooth=not methods(model)["deeplift"]) if method == "auto" else every[method](asked)
    labels = replace(asked.labels, channels={**asked.labels.channels, **found.labels.channels})
    return replace(found, labels=labels, facts={**found.facts, "season": float(asked.season)})


def automatic(asked: Asked, *, smooth: bool) -> Attribution:
    """DeepLIFT, checked by integrated gradients; Shapley values where the first does not add up."""
    if not smooth:
        return METHODS["shapley"](asked)
    first = METHODS["deeplift"](asked)
    check = integrated_gradients(asked.f, asked.blocks, asked.against, nodes=16)
    agreed = agreement(first, check)
    if first.gap > LARGE:
        taken = METHODS["shapley"](asked)
        note = f"deeplift left {first.gap:.0%} of the change unexplained: these are Shapley values of groups"
        return replace(taken, warnings=(*taken.warnings, note), facts={**taken.facts, "deeplift_gap": first.gap})
    doubts = () if agreed > 0.8 else (f"integrated gradients rank the inputs otherwise (rank correlation {agreed:.2f}): lean on groups, not on single cells",)
    return replace(first, warnings=first.warnings + doubts, facts={**first.facts, "agreement": agreed, "ig_gap": check.gap})


def agreement(one: Attribution, two: Attribution) -> float:
    """Rank correlation of two explanations over all cells that either gives something."""
    a, b = (torch.cat([x.flatten() for x in why.values.values()]) for why in (one, two))
    some = (a != 0) | (b != 0)
    if int(some.sum()) < 2:
        return 1.0
    return float(torch.corrcoef(torch.stack([_ranks(a[some]), _ranks(b[some])]))[0, 1])


def methods(model: Forecaster | Detector) -> dict[str, str]:
    """Every method by name; the text is empty where it works for this model, else says why it does not. The curves "pdp", "ice" and "ale"
    are asked by `effect`, a "counterfactual" by its own name: they are about one channel."""
    names = ("auto", *METHODS, *INNER, *WORTH, *CURVES, "counterfactual")
    if isinstance(model, Detector):
        only = "a detector's score is made of medians, largest values and the strongest sensors: it is only called; use shapley, lime or occlusion"
        return {name: "" if name in ("auto", *CALLED) else only for name in names}
    black = "" if model.differentiable else "it has no slopes: its forecast is not a differentiable map; use shapley, lime or occlusion"
    told = {name: why_not(model, name) for name in INNER}
    return {name: told.get(name, black if name in (*SMOOTH, "counterfactual") else "") for name in names}


def _ranks(x: Tensor) -> Tensor:
    return x.argsort().argsort().double()
