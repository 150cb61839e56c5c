"""The axioms of explanations as questions to every fitted model, method and thing explained; what `benchmarks/axioms.py` prints.

An axiom is asked wherever it can hold: what a net has inside is no map of the inputs' order or units, and a method that draws numbers
gives other ones when the shape of the question changes.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from foretell import Forecaster, Panel, Task, Training, forecast
from foretell.attribution.gradients import integrated_gradients
from foretell.attribution.groups import by_channel
from foretell.attribution.types import Attribution, Baseline, Blocks, Groups
from foretell.explanation import methods
from foretell.explanation.asked import Asked, Of, ask
from foretell.explanation.explain import METHODS
from foretell.explanation.inner import INNER
from foretell.neighbours import Boosting, Statistical
from foretell.nets import Response, Ridge, StackedLSTM
from laws import NETS, TRAINING, after, plain, rich, unknown

Method = Callable[[Asked], Attribution]
ORIGIN = 130
SMALL = Task(target="y", known=("price", "hour_sin", "hour_cos", "weekend"), past=("x",), context=8, horizon=2)
BARE = Task(target="y", context=8, horizon=2)
HOW = TRAINING.model_copy(update={"epochs": 1})
OFS: dict[str, Of] = {"point": "step", "quantile": "band"}
PROMISED = {"deeplift": 1e-4, "integrated_gradients": 0.01, "shapley": 1e-4, "kernels": 1e-3, "components": 1e-4}  # of the change explained
DRAWS = ("timing", "smooth_gradient", "lime", "temporal_lime")
WEIGHED = ("saliency", "smooth_gradient", "lrp")  # the clock's channels too have a slope, or a share of the forecast itself
LINEAR = ("ridge", "seasonal_naive", "drift", "moving_average")
BLACK = ("ensemble", "boosting", "statistical", "ensemble with trees")


class Case(NamedTuple):
    """A fitted model and what it is asked about."""

    model: Forecaster
    panel: Panel
    task: Task


class Verdict(NamedTuple):
    """`why_not` it does not work, or what it is and how much it misses (NaN: no sum is promised), and the axioms that are broken."""

    why_not: str
    kind: str = ""
    gap: float = float("nan")
    broken: tuple[str, ...] = ()


CASES: tuple[str, ...] = (
    *NETS, "lstm for each series", "lstm, two members", "ridge, normal scores", "lstm, normal scores", "period kernel, normal scores", "response",
    *BLACK,
)  # fmt: skip


@cache
def case(name: str) -> Case:
    """A model of this kind, fitted on two small series. A net that stands on a ridge counts whole, with weights a little off: after so
    few steps it would still say next to nothing."""
    one = _case(name)
    if "alpha" not in one.model.weights:
        return one
    draw = torch.Generator().manual_seed(1)
    moved = {n: one.model.weights[n] + 0.3 * torch.randn(p.shape, generator=draw).to(p) for n, p in one.model.module.named_parameters() if n.startswith("net.")}
    alpha = torch.ones_like(one.model.weights["alpha"])
    return one._replace(model=replace(one.model, weights={**one.model.weights, **moved, "alpha": alpha}))


def _case(name: str) -> Case:
    if name in ("boosting", "statistical"):
        panel = plain(140, ("a", "b"))
        net = Boosting(kind="lightgbm", rounds=8, leaves=4, least=5, season=4) if name == "boosting" else Statistical(kind="Theta", season=1, history=40)
        return Case(forecast.fit(panel, BARE, net, Training(seed=1)), panel, BARE)
    if name == "ensemble with trees":
        panel = plain(140, ("a", "b"))
        nets = {"ridge": Ridge(), "trees": Boosting(kind="lightgbm", rounds=8, leaves=4, least=5, season=4)}
        return Case(forecast.ensemble(panel, BARE, nets, Training(stop=0)), panel, BARE)
    panel = rich(("a", "b"))
    kind, _, more = name.partition(", ")
    net = NETS.get({"lstm": "lstm on ridge", "lstm for each series": "lstm alone"}.get(kind, kind))
    how = HOW.model_copy(update={"scale": "quantile"}) if more == "normal scores" else HOW
    if name == "ensemble":
        return Case(forecast.ensemble(panel, SMALL, {"ridge": Ridge(), "lstm": StackedLSTM(hidden=(3,))}, HOW), panel, SMALL)
    if name == "response":
        values = panel.values.clone()
        values[..., panel.own.index("price")].abs_()
        panel = replace(panel, values=values)
        return Case(forecast.fit(panel, SMALL, Response(media=("price",)), HOW.model_copy(update={"pooled": True})), panel, SMALL)
    return Case(forecast.fit(panel, SMALL, net, how, per_series=kind.endswith("each series"), members=2 if more == "two members" else 1), panel, SMALL)


def question(one: Case, of: Of, panel: Panel | None = None) -> Asked:
    """What is explained, the clock left out, a group a channel."""
    asked = ask(one.model, panel or one.panel, ORIGIN, of, "typical", None, None, 80.0)
    return replace(asked, groups=free_groups(asked))


def free_groups(asked: Asked) -> Groups:
    """A group a channel; the clock's in none."""
    whole = by_channel(asked.blocks, {b: asked.labels.channels[b] for b in asked.blocks})
    kept = [n for n, name in enumerate(whole.names) if name not in asked.fixed]
    at = {b: sum(torch.where(x == n, new + 1, 0) for new, n in enumerate(kept)) - 1 for b, x in whole.at.items()}
    return Groups(tuple(whole.names[n] for n in kept), at)


def verdict(name: str, method: str, of: str) -> Verdict:
    """All axioms of one cell of the matrix."""
    one = case(name)
    why_not = methods(one.model)[method]
    if why_not:
        return Verdict(why_not)
    asked = question(one, OFS[of])
    how: Method = {**METHODS, **INNER}[method]
    why = how(asked)
    broken = [axiom for axiom, holds in AXIOMS.items() if (of == "point" or axiom in BAND) and not holds(one, asked, how, why, method)]
    if name in LINEAR and of == "point" and method in METHODS and why.kind == "contribution" and method not in ("lrp", "lime", "temporal_lime", "shapley"):
        broken += [] if _linear(asked, why) else ["linear"]
    gap = why.gap if why.kind == "contribution" else float("nan")
    return Verdict("", why.kind, gap, (*broken, *(["sum"] if gap > PROMISED.get(method, torch.inf) else [])))


def _same(a: Blocks, b: Blocks, rtol: float = 1e-4) -> bool:
    size = max((float(x.abs().max()) for x in a.values() if x.numel()), default=0.0)
    return all(torch.allclose(x, b[name].to(x), rtol=rtol, atol=rtol * 0.1 * size + 1e-9) for name, x in a.items())


def finite(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """A finite number for every window, step explained, step and channel."""
    outputs = asked.f(asked.blocks).shape
    return all(bool(x.isfinite().all()) and x.shape[:2] == outputs for x in why.values.values())


def causal(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """What lies after the origin and is not known ahead changes no bit."""
    bad = after(one.panel, ORIGIN, unknown(one.panel, one.task), 1e9)
    other = how(question(one, asked.of, bad))
    return all(torch.equal(x, other.values[b]) for b, x in why.values.items())


def again(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """The same question has the same answer to the last bit."""
    other = how(asked)
    return all(torch.equal(x, other.values[b]) for b, x in why.values.items())


def clock(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """The clock's channels are context: no contribution."""
    if method in INNER or method in WEIGHED:
        return True
    fixed = [(b, names.index(c)) for b, names in asked.labels.channels.items() for c in asked.fixed if c in names]
    return all(float(why.values[b][..., at].abs().sum()) == 0 for b, at in fixed)


def alone(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """A window by itself is explained as in company; integrated gradients with as many nodes, which they else choose for the worst window."""
    if method in DRAWS:
        return True
    how, why = _settled(asked, how, why, method)
    part = how(question(one, asked.of, one.panel.pick("b")))
    return _same({b: x[1:] for b, x in why.values.items()}, part.values)


def single(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """A step explained by itself is explained as among the others; integrated gradients with as many nodes."""
    if method in INNER or method in ("smooth_gradient", "timing"):
        return True
    how, why = _settled(asked, how, why, method)
    last = replace(asked, f=lambda blocks: asked.f(blocks)[:, -1:])
    return _same({b: x[:, -1:] for b, x in why.values.items()}, how(last).values)


def dummy(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """A channel that is never read gets nothing, and takes nothing from the others."""
    if method in INNER or method in DRAWS:
        return True
    real, base, at, names = asked.blocks["past"], asked.against.values["past"], asked.groups.at["past"], asked.labels.channels["past"]
    extra = torch.randn(real[..., :1].shape, generator=torch.Generator().manual_seed(1)).to(real)
    wider = replace(
        asked, f=lambda blocks: asked.f({**blocks, "past": blocks["past"][..., :-1]}), blocks={**asked.blocks, "past": torch.cat([real, extra], -1)},
        against=Baseline({**asked.against.values, "past": torch.cat([base, torch.zeros_like(base[..., :1])], -1)}),
        groups=Groups((*asked.groups.names, "nothing"), {**asked.groups.at, "past": F.pad(at, (0, 1), value=len(asked.groups))}),
        labels=replace(asked.labels, channels={**asked.labels.channels, "past": (*names, "nothing")}),
    )  # fmt: skip
    other = how(wider)
    rest = {b: x[..., :-1] if b == "past" else x for b, x in other.values.items()}
    size = float(why.values["past"].abs().max())
    return float(other.values["past"][..., -1].abs().max()) <= 1e-6 * size and _same(why.values, rest)


def order(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """Channels in another order have the same values in that order."""
    if method in INNER or method in DRAWS:
        return True
    turned = replace(
        asked, f=lambda blocks: asked.f({**blocks, "past": blocks["past"].flip(-1)}), blocks={**asked.blocks, "past": asked.blocks["past"].flip(-1)},
        against=Baseline({**asked.against.values, "past": asked.against.values["past"].flip(-1)}),
        groups=Groups(asked.groups.names, {**asked.groups.at, "past": asked.groups.at["past"].flip(-1)}),
        labels=replace(asked.labels, channels={**asked.labels.channels, "past": asked.labels.channels["past"][::-1]}),
    )  # fmt: skip
    other = how(turned).values
    return _same(why.values, {**other, "past": other["past"].flip(-1)})


def units(one: Case, asked: Asked, how: Method, why: Attribution, method: str) -> bool:
    """Inputs counted in tenths: contributions stay, slopes are a tenth."""
    if method in INNER or method in DRAWS:
        return True
    tenths = replace(
        asked, f=lambda blocks: asked.f({b: x / 10 for b, x in blocks.items()}), blocks={b: x * 10 for b, x in asked.blocks.items()},
        against=Baseline({b: x * 10 for b, x in asked.against.values.items()}),
    )  # fmt: skip
    factor = 10 if why.kind == "sensitivity" else 1
    return _same(why.values, {b: x * factor for b, x in how(tenths).values.items()}, 0.02 if method == "integrated_gradients" else 1e-3)


def _settled(asked: Asked, how: Method, why: Attribution, method: str) -> tuple[Method, Attribution]:
    """A method whose effort does not hang on the company."""
    if method != "integrated_gradients":
        return how, why
    fixed: Method = lambda q: integrated_gradients(q.f, q.blocks, q.against, nodes=16)  # noqa: E731
    return fixed, fixed(asked)


def _linear(asked: Asked, why: Attribution) -> bool:
    """Of a linear model: slope times distance from the baseline."""
    leaves = {b: x.clone().requires_grad_() for b, x in asked.blocks.items()}
    output = asked.f(leaves)
    slopes: dict[str, list[Tensor]] = {b: [] for b in leaves}
    for o in range(output.shape[1]):
        each = torch.autograd.grad(output[:, o].sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        for (b, x), slope in zip(leaves.items(), each, strict=True):
            slopes[b].append(torch.zeros_like(x) if slope is None else slope)
    truth = {b: torch.stack(s, 1) * (asked.blocks[b] - asked.against.values[b][0])[:, None] for b, s in slopes.items()}
    return _same(truth, why.values, 1e-5)


AXIOMS = {"finite": finite, "causal": causal, "again": again, "clock": clock, "alone": alone, "single": single, "dummy": dummy, "order": order, "units": units}
BAND = ("finite", "causal", "clock")  # the others ask the methods, which are the same for a band
EVERY = tuple(name for name in (*METHODS, *INNER))
