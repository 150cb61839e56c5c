"""Learning: how each kind of net gets its weights from the windows of a source: not at all, in closed form, or by descent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from .baseline import Drift, MovingAverage, SeasonalNaive
from .device import flushed
from .feed import Feed
from .forecaster import Forecaster
from .loss import LossKind
from .loss import total as loss_total
from .neighbours import Boosting, Statistical
from .neighbours.boosting import grow
from .nets import Residual, Ridge, StackedLSTM, assembled
from .noise import streams
from .solve import solve
from .supervised import train
from .task import Source, Span, Split
from .train import Curves, Progress

SIMPLE = (SeasonalNaive, Drift, MovingAverage)


@dataclass(frozen=True, eq=False)
class Learned:
    """What the data taught a net: weights by name with the member axis first, those before the stop part was learned from
    too, and how it went."""

    weights: Mapping[str, Tensor]
    judged: Mapping[str, Tensor]
    curves: Curves | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def learn(
    model: Forecaster, source: Source, parts: Split, start: Forecaster | None, watch: Callable[[Progress], None] | None, checkpoint: str | Path | None
) -> Learned:
    """Weights for a model that has none yet, from the windows of its parts."""
    if isinstance(model.net, (*SIMPLE, Statistical)):
        return Learned({}, {})
    if isinstance(model.net, Boosting):
        how = model.training
        grown = grow(model.net, model.shape, source, parts, loss=how.loss, seed=how.seed, retrain=how.retrain)
        return Learned(grown.weights, grown.judged, facts=grown.facts)
    if isinstance(model.net, Ridge):
        return _solved(model.net, model, source, parts)
    module, ridge = _begun(model.net, model, source, parts, start)
    names, levels, training = model.members, model.task.levels, model.training
    feed = _feed(model, source, parts)
    trained = train(module, feed, training, names=names, levels=levels, checkpoint=checkpoint, watch=watch)
    weights, facts = dict(trained.weights), {"device": trained.device, "best epoch": _span((trained.best_epoch + 1).double())}
    if isinstance(module, Residual):
        ridge["alpha"] = weights["alpha"] = _share(module, weights, feed, training.loss)
        facts["α"] = _span(ridge["alpha"])
    judged = dict(weights)
    if training.retrain and len(feed.stop) and not trained.interrupted:
        module.load_state_dict({**module.state_dict(), **{name: w for name, w in ridge.items() if name != "alpha"}})
        whole = _feed(model, source, parts._replace(train=Span(parts.train.first, parts.stop.last), stop=Span(parts.stop.last, parts.stop.last)))
        path = Path(f"{checkpoint}.retrain") if checkpoint else None
        again = train(module, whole, training, names=names, levels=levels, lengths=trained.best_epoch + 1, checkpoint=path, watch=watch)
        learned = trained.best_epoch >= 0
        weights = {name: torch.where(learned.view(-1, *[1] * (w.ndim - 1)), again.weights[name], w) for name, w in weights.items()}
    return Learned(weights | ridge, judged, trained.curves, facts, trained.notes)


def _feed(model: Forecaster, source: Source, parts: Split) -> Feed:
    season = source.panel.clock.season if model.anchor is not None else 1
    return Feed.of(source, parts, len(model.members), apart=model.per_series, season=season)


def _begun(net: StackedLSTM, model: Forecaster, source: Source, parts: Split, start: Forecaster | None) -> tuple[nn.Module, dict[str, Tensor]]:
    """The net as its training begins, and the weights that replace some of it in the end.

    It is trained on a ridge that has not seen the stop part, so that the stop part can judge it; the ridge it forecasts
    with is then solved on both.
    """
    module = assembled(net, model.shape, streams(model.training.seed, model.members)).to(source.panel.values.dtype)
    if start is not None:
        module.load_state_dict(_whole(start.weights))
        return module, {}
    if not isinstance(module, Residual):
        return module, {}
    # A net for forecasts from every origin stands on a ridge that weighs every origin alike.
    ridge = Ridge(phase=0.0) if net.in_phase is False else Ridge()
    solved = solve(ridge, replace(model.shape, members=1), source, parts, model.task.levels, by_series=model.per_series)
    first, last = ({name: w.expand(len(model.members), *w.shape[1:]).contiguous() for name, w in s.items()} for s in (solved.judged, solved.weights))
    module.ridge.load_state_dict(first)
    return module, {f"ridge.{name}": w for name, w in last.items()}


def _whole(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same function with α = 1: the share is taken into the head, so that training goes on from what was forecast."""
    alpha = weights.get("alpha")
    if alpha is None:
        return dict(weights)
    head = {name: w * alpha.view(-1, *[1] * (w.ndim - 1)) for name, w in weights.items() if name.startswith("net.head.")}
    return {**weights, **head, "alpha": torch.ones_like(alpha)}


def _share(module: Residual, weights: Mapping[str, Tensor], feed: Feed, kind: LossKind) -> Float[Tensor, " member"]:
    """Each member's α: of 21 from 0 to 1, the one with the least point loss on the stop part; 1 if there is none."""
    members = torch.arange(feed.members)
    grid = torch.linspace(0, 1, 21)
    total = torch.zeros(len(grid), feed.members, dtype=torch.float64)
    with torch.no_grad(), flushed():
        for batch in feed.stop_batches(members):
            inputs = (batch.past, batch.observed, batch.future, batch.static)
            line, whole = (functional_call(module, {**weights, "alpha": torch.full_like(weights["alpha"], a)}, inputs) for a in (0.0, 1.0))
            for at, alpha in enumerate(grid.tolist()):
                guess = line + alpha * (whole - line)
                total[at] += loss_total(guess[..., :1], batch.goal, batch.seen, levels=(), kind=kind).double() * batch.seen.sum((1, 2, 3))
    seen = total.sum(0) > 0
    return torch.where(seen, grid[total.argmin(0)], 1.0).to(weights["alpha"].dtype)


def _solved(net: Ridge, model: Forecaster, source: Source, parts: Split) -> Learned:
    shape = replace(model.shape, members=1)
    weights, judged, chosen = solve(net, shape, source, parts, model.task.levels, by_series=model.per_series)
    facts: dict[str, str | float] = {"λ": _span(chosen.penalty)}
    if model.roles.past:
        used = int(chosen.past_used.sum())
        facts["past-only channels"] = "used" if used == len(chosen.past_used) else "not used" if not used else f"used by {used} of {len(chosen.past_used)}"
    return Learned(weights, judged, facts=facts)


def _span(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} … {high:.3g}"
