"""Surface: the forecast of a fitted model as a function of a plan, for every member of the ensemble at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..forecaster import Forecaster
from ..function import Function
from ..label import SERIES
from ..panel import Panel, positions
from .follow import Follow

Plans = Float[Tensor, "plan step column"]


@dataclass(frozen=True, eq=False)
class Surface:
    """`outcome(plans)` is the point forecast under each plan. A column is a control, or a control of a series where series have
    their own; `column` says which column a series' control reads."""

    function: Function
    future: Float[Tensor, "window step known"]
    members: int
    series: tuple[str, ...]
    controls: tuple[str, ...]
    columns: tuple[str, ...]
    column: Int[Tensor, "series control"]
    follows: tuple[Follow, ...] = ()
    target: int = 0
    floor: float | None = None

    def outcome(self, plans: Plans) -> Float[Tensor, "plan member series step"]:
        """The target in its units, never below the task's floor."""
        count, windows = len(plans), len(self.future)
        known = self.function.channels["future"]
        told = plans.to(self.future.dtype)[..., self.column]  # [plan, step, series, control]
        values = {name: told[..., at] for at, name in enumerate(self.controls)}
        values |= {f.channel: f(values[f.control]) for f in self.follows}
        lines = [
            values[name].movedim(1, 2).repeat(1, self.members, 1) if name in values else self.future[..., at].expand(count, -1, -1)
            for at, name in enumerate(known)
        ]  # fmt: skip
        blocks = {"past": self.past.repeat(count, 1, 1), "future": torch.stack(lines, -1).flatten(0, 1)}
        out: Tensor = self.function(blocks)[..., self.target, 0].view(count, windows, -1)
        out = out if self.floor is None else out.clamp(min=self.floor)
        apart: Tensor = out.unflatten(1, (self.members, len(self.series)))
        return apart

    def total(self, plans: Plans) -> Float[Tensor, "plan member"]:
        """Over all series and steps."""
        return self.outcome(plans).sum((2, 3))

    @property
    def past(self) -> Float[Tensor, "window context feature"]:
        """The windows' past, the same under every plan."""
        return self.function.blocks["past"]

    @property
    def steps(self) -> int:
        return self.future.shape[1]


def surface(model: Forecaster, panel: Panel, controls: Sequence[str], *, origin: int, follows: Sequence[Follow] = (), target: str | None = None) -> Surface:
    """The surface of a model over these controls, whose values ahead (any) must be written in the panel."""
    whole, wide = unfolded(model, model.view(panel), origin)
    told, blocks = whole.function(wide, origin=int(origin))
    members = len(wide) // len(panel)
    names, places = [], []
    for one in panel.series:
        row = []
        for control in controls:
            name = control if control in panel.common or len(panel) == 1 else f"{one} · {control}"
            if name not in names:
                names.append(name)
            row.append(names.index(name))
        places.append(row)
    at = positions([target], model.roles.target, "target")[0] if target else 0
    return Surface(
        told, blocks["future"], members, panel.series, tuple(controls), tuple(names), torch.tensor(places, dtype=torch.long),
        tuple(follows), at, model.task.floor,
    )  # fmt: skip


def unfolded(model: Forecaster, panel: Panel, origin: int) -> tuple[Forecaster, Panel]:
    """The same ensemble as a model with a net for each of its members: the panel repeated, one copy a member, so that one call
    forecasts with every member apart. A model of one member, or with a net a series, is returned as it is."""
    members, count = len(model.members), len(panel)
    if model.per_series or members == 1:
        return model, panel
    panel = model.graph.widened(panel) if model.graph else panel  # while the neighbours go by their names
    at = list(range(count)) * members
    names = tuple(f"{series} · {member}" for member in model.members for series in panel.series)
    scaling = model.scaling_of(panel, origin).rows(at)
    spread = model.spread_of(panel.series).repeat(members, 1)
    places = torch.tensor([model.series.index(s) if s in model.series else 0 for s in panel.series])
    whole = replace(
        model, series=names, members=names, per_series=True, scaling=scaling,
        weights={name: w.repeat_interleave(count, 0) for name, w in model.weights.items()},
        bands=replace(model.bands, spread=spread),
        anchor=None if model.anchor is None else model.anchor[places].repeat(members),
    )  # fmt: skip
    wide = replace(
        panel, values=panel.values.repeat(members, 1, 1), start=panel.start.repeat(members), series=names,
        labels={name: facts * members for name, facts in ({SERIES: panel.series} | dict(panel.labels)).items()},
    )  # fmt: skip
    return whole, wide
