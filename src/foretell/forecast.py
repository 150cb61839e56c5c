"""forecast.fit: from a panel and a task to a fitted Forecaster, every learned number from the training cut alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .baseline import steps_needed, with_season
from .errors import DataError, TaskError
from .forecaster import Forecaster, Net, least_back, scale_of
from .graph import Graph, given
from .graph import learned as learned_graph
from .interval import Conformal, conformal, normal
from .label import labels_of, named_label
from .learning import SIMPLE, TRAINED, learn
from .mixture import Mixture, shares
from .neighbours import Boosting, Statistical
from .nets import GraphLSTM, LSTMTransformer, PeriodKernel, Ridge, SeasonalRidge, StackedLSTM
from .outcome import Part
from .panel import Panel
from .periodic import bank_of, own_context, resolved
from .task import Source, Split, Task, count, fit_scaling, roles_of, split, usable
from .train import Progress, Training

NETS = (Ridge, SeasonalRidge, *TRAINED, Boosting, Statistical, *SIMPLE)
LABELLED = Boosting | LSTMTransformer  # what reads the panel's labels
SEASONAL = (SeasonalRidge, *SIMPLE)
SEASONS = 150  # seasons of training windows from which a net is trained for one place in the season
CALIBRATION = 200  # origins a series, at most, whose errors set the bands
REFITTED = 100  # and where each of them costs a fit
JUDGED = 4_000  # windows of the stop part that choose an ensemble's shares, at most
CALIBRATED = 20_000  # origins of all series together, at most


def fit(
    panel: Panel,
    task: Task,
    net: Net | None = None,
    training: Training | None = None,
    *,
    per_series: bool = False,
    members: int = 1,
    start: Forecaster | None = None,
    watch: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Forecaster:
    """A fitted model; `net` None is Ridge. `per_series` gives every series weights of its own; `members` > 1 averages that
    many nets of different seeds; `start` goes on training from a fitted model, its scales and ridge kept, on new data.
    `watch` is called after every epoch; `checkpoint` names a file from which a killed run goes on to the same result.

    The panel is cut chronologically into train | stop | calibrate, counted back from each series' last observed target.
    TaskError where the question does not fit the data, DataError where nothing can be learned from it.
    """
    return _fitted(panel, task, net, training, per_series, members, start, watch, checkpoint)[0]


class Learnt(NamedTuple):
    """A fitted model, the same before it learned from the stop part, and what both were made from."""

    model: Forecaster
    judged: Forecaster
    source: Source
    parts: Split


def _fitted(
    panel: Panel, task: Task, net: Net | None, training: Training | None, per_series: bool, members: int,
    start: Forecaster | None, watch: Callable[[Progress], None] | None, checkpoint: str | Path | None,
) -> Learnt:  # fmt: skip
    began = perf_counter()
    net, training = net or (start.net if start else Ridge()), training or (start.training if start else Training())
    net, task = _seasoned(net, panel.clock.season), resolved(panel, task)
    _check_kind(net, per_series, members)
    panel = panel if start is None else _follows(start, panel, task, net, per_series, members)
    parts = split(panel, task, stop=training.stop, calibrate=training.calibrate, apart=per_series)
    graph = start.graph if start else _graph(panel, task, net, parts)
    source = _source(graph.widened(panel) if graph else panel, task, net, training, parts, graph, apart=per_series)
    if start is not None:
        source = replace(source, scaling=start.scaling_of(panel), context=start.context, spans=start.spans_of(panel.series))
    notes = _check_length(source, parts)
    blank = _blank(source, task, net, training, parts, per_series, members)
    blank = replace(blank, anchor=_anchor(source, parts, net, apart=per_series), graph=graph)
    learned = learn(blank, source, parts, start, watch, checkpoint)
    model = replace(blank, weights=learned.weights, curves=learned.curves, notes=notes + learned.notes)
    judged = replace(model, weights=learned.judged)
    model = replace(model, bands=_bands(model, judged, source, parts), facts={**learned.facts, **_edges(graph), "seconds": round(perf_counter() - began, 3)})
    return Learnt(model, judged, source, parts)


def _check_kind(net: object, per_series: bool, members: int) -> None:
    """TaskError where this is no net, or one that cannot be had so often."""
    if not isinstance(net, NETS):
        told = f'the text "{net}"' if isinstance(net, str) else f"the class {net.__name__}" if isinstance(net, type) else type(net).__name__
        raise TaskError(f"net must be a net such as Ridge() or StackedLSTM(), got {told}")
    if per_series and isinstance(net, Boosting):
        raise TaskError("per_series=True: Boosting learns one model from all series; leave per_series out, or pick() one series")
    if per_series and members > 1:
        raise TaskError(f"per_series=True and members={members}: choose one, a net for each series or an ensemble of one net")
    if members < 1 or (members > 1 and not isinstance(net, TRAINED)):
        raise TaskError(f"members={members}: an ensemble has at least 1 member, and more only of a trained net; {type(net).__name__} is always the same")
    if per_series and isinstance(net, GraphLSTM):
        raise TaskError("per_series=True: a graph net is one net for all series, which tells them apart by their neighbours; leave per_series out")


class Member(NamedTuple):
    """A row of an ensemble; `training` None takes the ensemble's."""

    net: Net
    training: Training | None = None
    per_series: bool = False
    members: int = 1
    watch: Callable[[Progress], None] | None = None


def ensemble(panel: Panel, task: Task, nets: Mapping[str, Net | Member], training: Training | None = None, *, rounds: int = 50) -> Forecaster:
    """Several models fitted and mixed into one Forecaster, each with a share: on the stop part, from models that have not
    learned from it, half of each share is chosen greedily, half is the same for all that come near the best (`mixture.shares`), errors
    counted in each series' usual error. What got no share is left out. Without a stop part all have the same share.

    The mean is taken in the user's units; bands are conformal for the mixture. It is saved like any model; a statistical
    member is saved as its recipe. TaskError if there is nothing to choose from.
    """
    rows = {name: one if isinstance(one, Member) else Member(one) for name, one in nets.items()}
    training, task = training or Training(), resolved(panel, task)
    return mixed(panel, task, {name: learnt(panel, task, one, training) for name, one in rows.items()}, training, rounds=rounds)


def learnt(panel: Panel, task: Task, row: Member, training: Training) -> Learnt:
    """A row of an ensemble, with the parts that the ensemble's training has."""
    how = (row.training or training).model_copy(update={"stop": training.stop, "calibrate": training.calibrate})
    return _fitted(panel, task, row.net, how, row.per_series, row.members, None, row.watch, None)


def mixed(panel: Panel, task: Task, rows: Mapping[str, Learnt], training: Training, *, rounds: int = 50) -> Forecaster:
    """The ensemble of rows that are fitted already, on the same panel and with the same parts."""
    began = perf_counter()
    if not rows:
        raise TaskError("an ensemble needs at least one net: nets={'ridge': Ridge(), 'lstm': StackedLSTM()}")
    parts = split(panel, task, stop=training.stop, calibrate=training.calibrate)
    source = _source(panel, task, Mixture(names=tuple(rows)), training, parts)
    given = dict(zip(rows, _shares(list(rows.values()), source, rounds).tolist(), strict=True))
    kept = {name: rows[name] for name, share in given.items() if share > 0}
    blank = _blank(source, task, Mixture(names=tuple(kept)), training, parts, False, 1)
    notes = tuple(dict.fromkeys(note for one in rows.values() for note in one.model.notes))
    weights = {"shares": torch.tensor([[given[name] for name in kept]], dtype=panel.values.dtype)}
    whole = replace(blank, weights=weights, mixed=tuple(one.model for one in kept.values()), notes=notes)
    judged = replace(whole, mixed=tuple(one.judged for one in kept.values()))
    told = ", ".join(f"{name} {given[name]:.0%}" for name in sorted(kept, key=lambda name: -given[name]))
    seconds = sum(float(one.model.facts.get("seconds", 0.0)) for one in rows.values()) + perf_counter() - began
    return replace(whole, bands=_bands(whole, judged, source, parts), facts={"shares": told, "seconds": round(seconds, 3)})


def _shares(rows: list[Learnt], source: Source, rounds: int) -> Float[Tensor, " model"]:
    """Shares by forecasts of the stop part from origins at the series' own place in the season."""
    panel, horizon = source.panel, source.horizon
    first = torch.stack([one.parts.train.last for one in rows]).amax(0)
    last = torch.stack([one.parts.stop.last for one in rows]).amin(0)
    room = int((last - first).max()) - horizon
    if room < 0 or len(rows) == 1:
        return torch.full((len(rows),), 1 / len(rows), dtype=panel.values.dtype)
    most = max(1, (REFITTED if any(one.model.refitted for one in rows) else JUDGED) // len(panel))
    season = panel.clock.season if panel.clock.sub_daily else 1
    stride = season * max(1, -(-(room // season + 1) // most))
    # The newest origin in the stop part that lies whole seasons before the series' end, then back.
    lead = -(-(source.ends - last + horizon) // season) * season
    origin = (source.ends - lead)[:, None] - stride * torch.arange(room // stride + 1)
    fair = (origin >= first[:, None]) & (2 * source.seen(origin) >= source.backs[:, None])
    row = origin.clamp(min=0)
    series = torch.arange(len(panel)).repeat_interleave(row.shape[1])
    truth = source.goals(series, row.flatten()).masked_fill(~fair.flatten()[:, None, None], torch.nan)
    guess = torch.stack([one.judged.units(panel, row)[..., 0].flatten(0, 1) for one in rows])
    size = _usual(source, first)[series][:, None]
    return shares((guess / size).flatten(1), (truth / size).flatten(), rounds)


def _usual(source: Source, last: Int[Tensor, " series"]) -> Float[Tensor, "series target"]:
    """Each series' mean absolute change over a season, up to a row: what its errors are counted in."""
    values = torch.stack([source.panel.channel(t) for t in source.roles.target], -1)
    values = values.masked_fill(torch.arange(values.shape[1])[:, None] > last[:, None, None], torch.nan)
    season = source.panel.clock.season
    size = (values[:, season:] - values[:, :-season]).abs().nanmean(1)
    return torch.where(size > 0, size, 1.0)


def _seasoned(net: Net, season: int) -> Net:
    """The clock's season where the user left it open."""
    if isinstance(net, Boosting | Statistical):
        return net if net.season else net.model_copy(update={"season": season})
    if isinstance(net, PeriodKernel) and isinstance(net.ridge, SeasonalRidge):
        return net.model_copy(update={"ridge": with_season(net.ridge, season)})
    return with_season(net, season) if isinstance(net, SEASONAL) else net


def _graph(panel: Panel, task: Task, net: Net, parts: Split) -> Graph | None:
    """Which series follow which, by what the net was told or by the training part."""
    if not isinstance(net, GraphLSTM):
        return None
    past, season = panel.until(panel.start + parts.train.last), panel.clock.season
    reach = net.reach or min(max(season, task.horizon), task.steps_back(panel.clock))
    if net.edges is not None:
        return given(past, task.target[0], net.edges, reach=reach)
    return learned_graph(past, task.target[0], most=net.neighbours, reach=reach, chance=net.chance)


def _edges(graph: Graph | None) -> dict[str, str]:
    """What is told of a graph in the summary."""
    return {} if graph is None else {"edges": f"{len(graph)} between {len(graph.series)} series, after 1 … {graph.reach} steps"}


def _source(panel: Panel, task: Task, net: Net, training: Training, parts: Split, graph: Graph | None = None, *, apart: bool = False) -> Source:
    roles = roles_of(task, panel)
    if graph:
        roles = roles._replace(past=tuple(c for c in roles.past if c not in graph.channels) + graph.channels)
    _check_finite(panel, roles.features)
    scaling = fit_scaling(panel.until(panel.start + parts.train.last), task.target, scale_of(net, training), pooled=training.pooled)
    context, spans = max(task.steps_back(panel.clock), steps_needed(net) if isinstance(net, SEASONAL) else 1), None
    if isinstance(net, PeriodKernel) and own_context(task, net):
        backs = bank_of(panel, task, parts.train, net.kernels, 1, apart=apart).span.clamp(min=least_back(net))
        context, spans = int(backs.max()), backs if apart else None
    named = isinstance(net, PeriodKernel) and not apart and len(panel) > 1
    labels = labels_of(panel, named=named) if named or isinstance(net, LABELLED) else (named_label(panel),) if graph else ()
    return Source(panel, roles, scaling, context, task.horizon, labels=labels, spans=spans, aheads=task.ahead_of(panel.series))


def _check_finite(panel: Panel, channels: tuple[str, ...]) -> None:
    for name in (c for c in channels if c in panel.channels):
        values = panel.channel(name)
        # Some series at a time: a flag and an absolute value of every cell would weigh more than the panel.
        parts = values.split(max(1, 2**20 // max(1, values.shape[1])))
        if any(bool(part.isinf().any()) for part in parts):
            one, row = values.isinf().nonzero()[0].tolist()
            when = panel.clock.local(row + int(panel.start[one]))
            raise DataError(f'channel "{name}" of series "{panel.series[one]}" is infinite at {when}: correct it, or leave it empty')
        if all(bool(part.isnan().all()) for part in parts):
            raise DataError(f'channel "{name}" has no observed value: leave it out of the task, or see `foretell check` for how the file was read')


def _check_length(source: Source, parts: Split) -> tuple[str, ...]:
    """Series too short to train on are named; if all are, that is the end."""
    short = too_short(source, parts)
    if len(short) == len(source.panel):
        raise TaskError(short[source.panel.series[int(parts.train.last.argmax())]])
    if not short:
        return ()
    need = (source.backs + source.horizon).unique().tolist()
    names = ", ".join(f'"{name}"' for name in list(short)[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
    return (f"too short to train on (less than {f'{need[0]}' if len(need) == 1 else 'context + horizon'} steps before the stop part): {names}",)


def too_short(source: Source, parts: Split) -> dict[str, str]:
    """A sentence for every series that has fewer steps to learn from than its context + horizon."""
    panel, last = source.panel, source.panel.last(*source.roles.target) - source.panel.start
    first = panel.first(*source.roles.target) - panel.start
    whole, rows, need = last + 1 - first, (parts.train.last + 1 - first).clamp(min=0), source.backs + source.horizon
    return {
        panel.series[i]: f'series "{panel.series[i]}" has {whole[i]} steps, {rows[i]} of them before the stop and calibrate parts; '
        f"context {source.backs[i]} + horizon {source.horizon} = {need[i]} are needed: use a shorter context or horizon, or more data"
        for i in (rows < need).nonzero()[:, 0].tolist()
    }


def _blank(source: Source, task: Task, net: Net, training: Training, parts: Split, per_series: bool, members: int) -> Forecaster:
    """The model before it has learned anything: never seen outside this file."""
    panel = source.panel
    names = panel.series if per_series else tuple(f"member {i}" for i in range(members)) if members > 1 else ("all",)
    none = Conformal(panel.values.new_zeros(task.horizon, len(task.target), 0), panel.values.new_ones(len(panel), len(task.target)))
    return Forecaster(
        task=task, net=net, training=training, context=source.context, roles=source.roles, clock=panel.clock, series=panel.series,
        own=panel.own, common=panel.common, calendar=panel.calendar, scaling=source.scaling, weights={}, members=names,
        per_series=per_series, bands=none, parts=_told(source, parts), labels=source.labels,
    )  # fmt: skip


def _told(source: Source, parts: Split) -> tuple[Part, ...]:
    """The parts with their first and last goal, in clock steps, and their windows."""
    found = []
    for name, span in zip(("train", "stop", "calibrate"), parts, strict=True):
        if bool((span.last > span.first).any()):
            first = int((source.panel.start + (span.first + 1).maximum(source.backs)).min())
            found.append(Part(name, first, int((source.panel.start + span.last).max()), count(source, span)))
    return tuple(found)


def _anchor(source: Source, parts: Split, net: Net, *, apart: bool) -> Int[Tensor, " series"] | None:
    """Each series' last observed step, if the net is to be trained for forecasts from that place in the season only."""
    clock = source.panel.clock
    if not isinstance(net, StackedLSTM | LSTMTransformer | GraphLSTM) or not net.ridge or net.in_phase is False or clock.season == 1:
        return None
    last = source.panel.last(*source.roles.target)
    if net.in_phase is None:
        seasons = (parts.train.last - parts.train.first - source.context - source.horizon) // clock.season
        few = int(seasons.min() if apart else seasons.clamp(min=0).sum()) < SEASONS
        apart_in_phase = bool(((last - last[0]) % clock.season != 0).any())
        if not clock.sub_daily or few or apart_in_phase:
            return None
    return last


def _follows(start: Forecaster, panel: Panel, task: Task, net: Net, per_series: bool, members: int) -> Panel:
    """The new data as the model to go on from sees it; what makes going on impossible gets its sentence."""
    if not isinstance(net, TRAINED):
        raise TaskError(f"start= goes on training a net; {type(net).__name__} is solved anew in one step: fit it without start=")
    if (start.net, start.task, start.per_series) != (net, task, per_series):
        raise TaskError("start= needs the same task, net and per_series as the model it goes on from; give only new data and training")
    if per_series and start.series != panel.series:
        raise TaskError(f"start= has nets for {len(start.series)} series, this panel has {len(panel)}: they must be the same, in the same order")
    if not per_series and len(start.members) != members:
        raise TaskError(f"start= has {len(start.members)} member(s), members={members} asks for another number")
    return start.view(panel)


def _bands(model: Forecaster, judged: Forecaster, source: Source, parts: Split) -> Conformal:
    """From the calibrate part, which nothing else has seen; if there is none, from the stop part, with the weights the
    model had before it was fitted on that too."""
    if isinstance(model.net, Statistical):
        return normal(model.bands, model.task.levels)
    own = bool((parts.calibrate.last > parts.calibrate.first).any())
    span, model = (parts.calibrate, model) if own else (parts.stop, judged)
    steps = int((span.last - span.first).max()) - model.task.horizon + 1
    if steps < 1:
        return model.bands
    # Where every origin is a fit of its own, the bands rest on few of them.
    most = max(1, min(CALIBRATION, (CALIBRATED if not model.refitted else REFITTED) // len(span.last)))
    stride = -(-steps // most)
    origin = span.last[:, None] - model.task.horizon - torch.arange(0, steps, stride)
    # Some series at a time: what can be an origin is looked up in a table as wide as the panel.
    looked = [usable(source, span, some).gather(1, origin[some].clamp(min=0)) for some in torch.arange(len(origin)).split(256)]
    fair = torch.cat(looked) & (origin >= 0)
    output = model.outputs(source, origin.clamp(min=0)).flatten(0, 1)
    series = torch.arange(len(origin)).repeat_interleave(origin.shape[1])
    truth = source.goals(series, origin.clamp(min=0).flatten())
    return conformal(output, truth.masked_fill(~fair.flatten()[:, None, None], torch.nan), series, len(origin))
