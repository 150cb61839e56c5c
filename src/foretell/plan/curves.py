"""response: how the target answers to one control, its marginal return, where the data lie, and a response net's parameters."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError
from ..forecaster import Forecaster, When
from ..frames import to_frame
from ..nets import Response
from ..nets.response import ResponseNet
from ..panel import NAMES, Names, Panel
from .ahead import before, checked_controls, written
from .bounds import columns_of
from .plans import Band
from .surface import surface

POINTS, BEYOND = 41, 1.2  # of a curve; and how far past the largest value seen it is drawn


class Parameter(NamedTuple):
    """A parameter of a response net in the user's units, for every member."""

    name: str
    unit: str
    members: Float[Tensor, " member"]

    def ends(self, level: int | float = 80) -> tuple[float, float]:
        """Of its band: a parameter is above 0, so its spread is taken of logarithms."""
        low, high = Band(self.members.clamp(min=1e-9).log()).ends(level)
        return float(low.exp()), float(high.exp())

    @property
    def value(self) -> float:
        """The members' geometric mean."""
        return float(self.members.clamp(min=1e-9).log().mean().exp())


@dataclass(frozen=True, eq=False)
class Curve:
    """The target a step when the control stands at `spend` at every step to plan, all else as written: less what it is at the first
    value (0, or the least seen). `marginal` is the slope: what one more unit at every step brings in a step."""

    channel: str
    target: str
    spend: Float[Tensor, " point"]
    effect: Float[Tensor, "member point"]
    marginal: Float[Tensor, "member point"]
    density: Float[Tensor, " point"]  # share of the historic steps nearest to each point
    seen: tuple[float, float]
    now: float
    parameters: tuple[Parameter, ...] = ()
    names: Names = NAMES
    notes: tuple[str, ...] = ()

    def frame(self, level: int | float = 80) -> Any:
        """One row a point: value of the control, effect and marginal return with bands, density of the data."""
        return to_frame(self.rows(level), self.names.native)

    def rows(self, level: int | float = 80) -> dict[str, np.ndarray]:
        """The columns of `frame()`."""
        rows: dict[str, np.ndarray] = {self.channel: self.spend.numpy()}
        for name, members in (("effect", self.effect), ("marginal", self.marginal)):
            band = Band(members)
            low, high = band.ends(level)
            rows |= {name: band.mean.numpy(), f"{name}-lo-{level:g}": low.numpy(), f"{name}-hi-{level:g}": high.numpy()}
        return {**rows, "density": self.density.numpy()}

    def table(self, level: int | float = 80) -> Any:
        """A response net's parameters, with bands: carry-over, half-saturation, exponent, ceiling; no row for other nets."""
        ends = [p.ends(level) for p in self.parameters]
        return to_frame({
            "parameter": np.array([p.name for p in self.parameters], dtype=object),
            "value": np.array([p.value for p in self.parameters]),
            f"lo-{level:g}": np.array([low for low, _ in ends]),
            f"hi-{level:g}": np.array([high for _, high in ends]),
            "unit": np.array([p.unit for p in self.parameters], dtype=object),
        }, self.names.native)  # fmt: skip


def response(model: Forecaster, panel: Panel, channel: str, *, origin: When | None = None, points: int = POINTS) -> Curve:
    """The response curve of one control of a model, from 0 (or the least value seen, where values below 0 were) to 1.2 times the
    largest; all series together. With a `Response` net also its parameters."""
    checked_controls(model, panel, [channel])
    if points < 2:
        raise TaskError(f"points={points}: a curve has 2 points or more")
    told = written(model, panel, [channel], origin)
    seen = surface(model, told.panel, [channel], origin=told.origin)
    values, observed = before(panel, channel, told.origin)
    held = values[observed].double()
    if not len(held):
        raise TaskError(f'"{channel}" was never observed before the origin: there is no range to draw its curve over')
    low, high = min(0.0, float(held.min())), float(held.max())
    grid = torch.linspace(low, max(high * BEYOND, low + 1e-9), points, dtype=torch.float64)
    effect, slope = _along(seen.total, grid, seen.steps, len(seen.columns))
    near = torch.searchsorted((grid[1:] + grid[:-1]) / 2, held)
    density = torch.bincount(near, minlength=points).double() / len(held)
    now = float(columns_of(seen, told.panel, told.origin).mean())
    notes = (f"nothing was written ahead for {channel}: its mean of the last year stands there",) if told.made_up else ()
    target = seen.function.targets[seen.target]
    found = Curve(channel, target, grid, (effect - effect[:, :1]) / seen.steps, slope / seen.steps, density, (float(held.min()), high), now, names=panel.names)
    return Curve(**{**vars(found), "parameters": parameters(model, channel), "notes": notes})


def _along(total: Any, grid: Tensor, steps: int, columns: int) -> tuple[Float[Tensor, "member point"], Float[Tensor, "member point"]]:
    """Totals, and their slopes, with all columns at each value of the grid."""
    with torch.enable_grad():
        at = grid.clone().requires_grad_()
        out = total(at[:, None, None].expand(-1, steps, columns))  # [point, member]
        slopes = [torch.autograd.grad(out[:, m].sum(), at, retain_graph=True)[0] for m in range(out.shape[1])]
    return out.detach().T, torch.stack(slopes)


def parameters(model: Forecaster, channel: str) -> tuple[Parameter, ...]:
    """Of a medium of a response net, in the user's units; () for other nets and channels."""
    if not isinstance(model.net, Response) or channel not in model.net.media:
        return ()
    made = loaded(model)
    at, curve = model.net.media.index(channel), made.curve()
    own, step = channel in model.own, model.clock.step
    scale, place = (model.scaling.own, model.own.index(channel)) if own else (model.scaling.common, model.common.index(channel))
    goal, target = model.scaling.target, model.roles.target[0]
    width, height = _width(scale, place, len(made.raw)), _width(goal, 0, len(made.raw))
    carry = curve.carry[:, at]
    return (
        Parameter("carry-over", f"share left after a step of {step}", carry),
        Parameter("half-life", f"steps of {step}", torch.log(torch.tensor(0.5)) / carry.clamp(min=1e-6).log()),
        Parameter("half-saturation", f"{channel} a step at which half of the ceiling is reached", curve.half[:, at] * width),
        Parameter("exponent", "of the Hill curve: above 1 it is S-shaped", curve.shape[:, at]),
        Parameter("ceiling", f"{target} a step that is never exceeded", curve.ceiling[:, at] * height),
    )


def loaded(model: Forecaster) -> ResponseNet:
    """The net of a fitted response model, with its weights."""
    assert isinstance(model.net, Response)
    made = model.net.build(model.shape, [torch.Generator() for _ in model.members]).to(model.weights["raw"].dtype)
    made.load_state_dict(dict(model.weights))
    return made.requires_grad_(False)


def _width(scale: Any, channel: int, members: int) -> Float[Tensor, " member"]:
    """Units of the data in one unit of the scale, by member; scales of spend and target are affine where a response net is used."""
    one = torch.ones(1, 1, 1, dtype=scale.width.dtype)
    rows = torch.arange(members) if len(scale.width) == members else torch.zeros(members, dtype=torch.long)
    picked = scale.pick([channel])
    width: Tensor = (picked.invert(one.expand(members, 1, 1), rows) - picked.invert(0 * one.expand(members, 1, 1), rows))[:, 0, 0]
    return width
