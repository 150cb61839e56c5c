"""rehearse: the same planning in worlds whose answer is known, so that a promise can be set against what came of others like it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .. import forecast
from ..errors import TaskError
from ..forecaster import Forecaster, step_of
from ..nets import Response
from ..noise import key
from ..panel import Panel
from ..task import Source, filled
from .allocation import judge, planned
from .curves import loaded
from .plans import Plan, Rehearsal

TRIALS, MEMBERS = 6, 4  # worlds of a rehearsal, and members of the ensemble that plans in each
LEAST_TRIALS = 3  # fewer have no spread to speak of
STARTS = 2  # of an ascent in a rehearsal: from the written plan and from the middle


def rehearse(made: Plan, model: Forecaster, panel: Panel, worlds: Forecaster, *, trials: int = TRIALS, members: int = MEMBERS, seed: int = 0) -> Plan:
    """The plan with its promise corrected by what came of others made the same way: a parametric bootstrap of the whole decision.

    Each member of `worlds`, a response net fitted on the same panel, is a world with a known answer. From `trials` of them a history is
    drawn: what the member says of the spend that was, and blocks of a horizon of its own residuals. On each history `model` is fitted
    again as it was (with so many `members`), plans the same budget within the same bounds, and its promise is set against what that world
    then gives. An optimiser finds wherever a model errs upwards (Smith & Winkler 2006, "The Optimizer's Curse", doi 10.1287/mnsc.1050.0451);
    the mean difference is how much, and is taken off (the optimism of Efron 1983, doi 10.1080/01621459.1983.10477973). It costs `trials` fits and
    allocations. TaskError where `worlds` is no ensemble of response nets of one series.
    """
    _check(made, model, panel, worlds, trials)
    asked = made.asked
    assert asked is not None
    origin = int(panel.last(*model.roles.target)[0]) if asked.origin is None else step_of(panel.clock, asked.origin)
    chosen = [round(k * len(worlds.members) / trials) for k in range(trials)]
    promised, achieved = [], []
    for member, history in zip(chosen, histories(worlds, panel, chosen, origin, seed), strict=True):
        again = forecast.fit(history, model.task, model.net, model.training, members=members)
        plan = planned(again, history, made.goal, asked._replace(origin=origin), starts=STARTS, check=False)
        promised.append(plan.gain.mean)
        achieved.append(judge(worlds, history, plan, tuple(asked.controls), follows=asked.follows, origin=origin).members[member])
    return replace(made, rehearsal=Rehearsal(torch.stack(promised).double(), torch.stack(achieved).double()))


def histories(worlds: Forecaster, panel: Panel, members: Sequence[int], origin: int, seed: int) -> list[Panel]:
    """The panel with another past of its target, one drawn in the world of each of these members; nothing of it after the origin."""
    source = Source(worlds.view(panel), worlds.roles, worlds.scaling_of(worlds.view(panel)), worlds.context, worlds.task.horizon)
    first, block = int(panel.start[0]), worlds.task.horizon
    rows, zero = torch.arange(origin - first + 1)[None], torch.zeros(1, dtype=torch.long)
    true = source.read(worlds.roles.target, zero, rows)[0, :, 0]
    means, place, drawn = fitted_means(worlds, source, len(true)), panel.own.index(worlds.roles.target[0]), []
    for member in members:
        draw = Generator().manual_seed(key(seed, worlds.members[member], "rehearsal") >> 1)
        rest = (true - means[member])[true.isfinite()]
        starts = torch.randint(len(rest), (-(-len(true) // block), 1), generator=draw)
        line = means[member] + rest[((starts + torch.arange(block)) % len(rest)).flatten()[: len(true)]]
        units = source.scaling.target.invert(line[None, :, None], zero)[0, :, 0].clamp(min=-torch.inf if worlds.task.floor is None else worlds.task.floor)
        values = panel.values.clone()
        values[0, :, place] = torch.nan
        values[0, : len(true), place] = units.where(true.isfinite(), torch.nan).to(values.dtype)
        drawn.append(replace(panel, values=values))
    return drawn


def fitted_means(worlds: Forecaster, source: Source, steps: int) -> Float[Tensor, "member time"]:
    """Base and media of every member of a response net at the first `steps` of the only series, in scaled units: what it says without having seen
    the target. Each step as in a forecast of its own horizon, the first context as the first forecast has it."""
    context, horizon = worlds.context, worlds.task.horizon
    known = source.read(worlds.roles.known, torch.zeros(1, dtype=torch.long), torch.arange(steps)[None])
    known = filled(known, known.isfinite())[0]
    net = loaded(worlds)
    ends = [*range(context, steps - horizon, horizon), steps - horizon]
    windows = torch.stack([known[end - context : end + horizon] for end in ends])
    said = net.expected(windows.expand(len(worlds.members), -1, -1, -1))
    line = said.new_empty(len(worlds.members), steps)
    line[:, :context] = said[:, 0, :context]
    for at, end in enumerate(ends):
        line[:, end : end + horizon] = said[:, at, context:]
    return line


def _check(made: Plan, model: Forecaster, panel: Panel, worlds: Forecaster, trials: int) -> None:
    if made.asked is None:
        raise TaskError("this plan does not say what was asked for it: rehearse a plan as plan.allocate(...) gave it")
    if not isinstance(worlds.net, Response) or len(worlds.members) < 2:
        told = f"{type(worlds.net).__name__} of {len(worlds.members)} member" + ("s" if len(worlds.members) > 1 else "")
        raise TaskError(f"worlds to rehearse in are the members of a response net: give plan.fit_media(...); got {told}")
    if len(panel) != 1 or worlds.roles.target[0] not in panel.own:
        raise TaskError(f"a rehearsal draws the history of one series; this panel has {len(panel)}")
    if worlds.roles.target != model.roles.target:
        raise TaskError(f'the worlds are of "{worlds.roles.target[0]}", the plan is for "{model.roles.target[0]}"')
    if not LEAST_TRIALS <= trials <= len(worlds.members):
        raise TaskError(f"trials={trials}: a rehearsal has from {LEAST_TRIALS} worlds to as many as the response net has members, {len(worlds.members)}")
