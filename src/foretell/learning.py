"""Learning: how each kind of net gets its weights from the windows of a source: not at all, in closed form, or by descent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from .baseline import Drift, MovingAverage, SeasonalNaive
from .device import flushed
from .errors import TaskError
from .feed import Feed
from .forecaster import Forecaster
from .halves import Halves
from .loss import LossKind
from .loss import total as loss_total
from .mixture import Mixture
from .neighbours import Boosting, Statistical
from .neighbours.boosting import grow
from .nets import ON_RIDGE, GraphLSTM, OnRidge, PeriodKernel, Residual, Response, Ridge, SeasonalRidge, StackedLSTM, assembled
from .nets.bank import Bank
from .nets.graph_lstm import GraphLSTMNet
from .nets.period_kernel import PeriodKernelNet
from .nets.response import ResponseNet
from .noise import streams
from .panel import positions
from .periodic import bank_of, own_context, profile_of, zeros_of
from .solve import solve
from .supervised import goals_of, train
from .task import Source, Span, Split
from .train import Curves, Progress

SIMPLE = (SeasonalNaive, Drift, MovingAverage)
TRAINED = (*ON_RIDGE, Response)


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
    if isinstance(model.net, (*SIMPLE, Statistical, Mixture)):
        return Learned({}, {})
    if isinstance(model.net, Boosting):
        how = model.training
        grown = grow(model.net, model.shape, source, parts, loss=how.loss, seed=how.seed, retrain=how.retrain)
        return Learned(grown.weights, grown.judged, facts=grown.facts)
    if isinstance(model.net, Ridge | SeasonalRidge):
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
    return replace(Feed.of(source, parts, len(model.members), apart=model.per_series, season=season), halves=_halves(model, source))


def _begun(net: OnRidge | Response, model: Forecaster, source: Source, parts: Split, start: Forecaster | None) -> tuple[nn.Module, dict[str, Tensor]]:
    """The net as its training begins, and the weights that replace some of it in the end.

    It is trained on a ridge that has not seen the stop part, so that the stop part can judge it; the ridge it forecasts
    with is then solved on both.
    """
    drawn = streams(model.training.seed, model.members)
    if isinstance(net, Response):
        media = net.build(model.shape, drawn).to(source.panel.values.dtype)
        return media, _placed(net, media, model, source, parts, start)
    module = assembled(net, model.shape, drawn, _bank(net, model, source, parts, start)).to(source.panel.values.dtype)
    inner = module.net if isinstance(module, Residual) else module
    if isinstance(inner, PeriodKernelNet):
        inner.zero = zeros_of(source, len(model.members), apart=model.per_series)
        if inner.facts is not None:
            told = profile_of(source.panel, model.task, parts.train, inner.length[0])
            inner.facts.profile = told.expand(len(model.members), -1, -1).contiguous()
    if isinstance(inner, GraphLSTMNet) and model.graph:
        inner.edge = F.pad(model.graph.weight, (0, 0, 0, 0, 1, 0)).expand(len(model.members), -1, -1, -1).to(inner.edge.dtype).contiguous()
    if start is not None:
        module.load_state_dict(_whole(start.weights))
        return module, {}
    if not isinstance(module, Residual):
        return module, {}
    # A net for forecasts from every origin stands on a ridge that weighs every origin alike.
    ridge: Ridge | SeasonalRidge = Ridge(phase=0.0) if isinstance(net, StackedLSTM | GraphLSTM) and net.in_phase is False else Ridge()
    ridge = net.ridge if isinstance(net, PeriodKernel) and net.ridge else ridge
    solved = solve(ridge, replace(model.shape, members=1), source, parts, model.task.levels, by_series=model.per_series, halves=_halves(model, source))
    first, last = ({name: w.expand(len(model.members), *w.shape[1:]).contiguous() for name, w in s.items()} for s in (solved.judged, solved.weights))
    module.ridge.load_state_dict(first)
    return module, {f"ridge.{name}": w for name, w in last.items()}


def _bank(net: OnRidge, model: Forecaster, source: Source, parts: Split, start: Forecaster | None) -> Bank | None:
    """The periods that the kernels of a PeriodKernel are made for; those of the model it goes on from, if there is one."""
    if not isinstance(net, PeriodKernel):
        return None
    if start is None:
        context = None if own_context(model.task, net) else source.context
        return bank_of(source.panel, model.task, parts.train, net.kernels, len(model.members), apart=model.per_series, context=context)
    inner = "net." if "alpha" in start.weights else ""
    return Bank(start.weights[f"{inner}length"], start.weights[f"{inner}strength"], start.weights[f"{inner}span"])


def _placed(net: Response, module: ResponseNet, model: Forecaster, source: Source, parts: Split, start: Forecaster | None) -> dict[str, Tensor]:
    """Tells the net where its media are: their place among the known channels, zero spend as it is scaled, and the usual spend
    of the training part above it. Returned are the buffers, since they are part of the model."""
    if start is not None:
        module.load_state_dict(dict(start.weights))
        return {}
    panel, roles, names = source.panel, source.roles, net.media
    positions(names, roles.known, "medium among the known channels")
    if len(panel) > 1 and not (model.per_series or model.training.pooled):
        raise TaskError(
            f"Response reads spend above zero, which scales of their own hide in {len(panel)} series: use per_series=True, or Training(pooled=True)"
        )
    place = torch.tensor([roles.known.index(name) for name in names])
    told, raw = source.scaling, panel.values.new_zeros(len(panel), 1, 1)
    zero, mean = raw.new_zeros(len(panel), len(names)), raw.new_zeros(len(panel), len(names))
    every = torch.arange(len(panel))
    for at, name in enumerate(names):
        own = name in panel.own
        scale = (told.own if own else told.common).pick([(panel.own if own else panel.common).index(name)])
        past = panel.until(panel.start + parts.train.last).channel(name)
        if bool((past < 0).any()):
            raise TaskError(f'medium "{name}" has negative spend: {float(past.nan_to_num().min()):g}; spend is 0 or more')
        usual = past.nanmean(1).nan_to_num(1.0)
        lifted = [scale.apply(x.view(-1, 1, 1), every if own else torch.zeros_like(every))[:, 0, 0] for x in (torch.zeros_like(usual), usual)]
        zero[:, at], mean[:, at] = lifted[0], (lifted[1] - lifted[0]).clamp(min=1e-3)
    rows = slice(None) if model.per_series else slice(0, 1)
    members = len(model.members)
    found = {
        "place": place.expand(members, -1).contiguous(),
        "zero": zero[rows].expand(members, -1).contiguous(),
        "mean": mean[rows].expand(members, -1).contiguous(),
    }
    found["anchor"] = module.anchor.clone()
    module.load_state_dict({**module.state_dict(), **found})
    return found


def _halves(model: Forecaster, source: Source) -> Halves | None:
    """What each member learns from, if not from everything."""
    return Halves.of(source, model.training.seed, model.members, paired=not model.per_series) if model.training.halves else None


def _whole(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same function with α = 1: the share is taken into the head, so that training goes on from what was forecast."""
    alpha = weights.get("alpha")
    if alpha is None:
        return dict(weights)
    head = {
        name: w * alpha.view(-1, *[1] * (w.ndim - 1))
        for name, w in weights.items()
        if name.startswith(("net.head.", "net.told.", "net.lstm.head.", "net.gain"))
    }
    return {**weights, **head, "alpha": torch.ones_like(alpha)}


def _share(module: Residual, weights: Mapping[str, Tensor], feed: Feed, kind: LossKind) -> Float[Tensor, " member"]:
    """Each member's α: of 21 from 0 to 1, the one with the least point loss on the stop part; 1 if there is none."""
    members = torch.arange(feed.members)
    grid = torch.linspace(0, 1, 21)
    total, goals = torch.zeros(len(grid), feed.members, dtype=torch.float64), goals_of(feed, kind)
    with torch.no_grad(), flushed():
        for batch in feed.stop_batches(members):
            inputs = (batch.past, batch.observed, batch.future, batch.static)
            line, whole = (functional_call(module, {**weights, "alpha": torch.full_like(weights["alpha"], a)}, inputs) for a in (0.0, 1.0))
            for at, alpha in enumerate(grid.tolist()):
                guess = line + alpha * (whole - line)
                total[at] += loss_total(guess[..., :1], batch.goal, batch.seen, levels=(), kind=kind, goals=goals).double() * batch.seen.sum((1, 2, 3))
    seen = total.sum(0) > 0
    return torch.where(seen, grid[total.argmin(0)], 1.0).to(weights["alpha"].dtype)


def _solved(net: Ridge | SeasonalRidge, model: Forecaster, source: Source, parts: Split) -> Learned:
    shape = replace(model.shape, members=1)
    weights, judged, chosen = solve(net, shape, source, parts, model.task.levels, by_series=model.per_series)
    facts: dict[str, str | float] = {"λ": _span(chosen.penalty)}
    if model.roles.past and isinstance(net, Ridge):
        used = int(chosen.past_used.sum())
        facts["past-only channels"] = "used" if used == len(chosen.past_used) else "not used" if not used else f"used by {used} of {len(chosen.past_used)}"
    return Learned(weights, judged, facts=facts)


def _span(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} … {high:.3g}"
