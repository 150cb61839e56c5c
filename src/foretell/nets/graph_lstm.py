"""GraphLSTM: a stacked LSTM that also reads what its series' neighbours did: their pasts, mixed by the edges of a graph, ahead of the forecast too."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import BeforeValidator, Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..errors import TaskError
from ..frames import is_frame, to_columns
from ..spec import Spec
from .labels import number_of
from .layers import Noise, Row, Shape, Summary
from .stacked_lstm import StackedLSTM, StackedLSTMNet
from .window import Centre, Rate, Units

COLUMNS = ("unique_id", "neighbour", "lag", "weight")


class Edge(NamedTuple):
    """`series` follows `neighbour` after `lag` steps (0: after any, fitted), by `weight` of its deviations (None: fitted)."""

    series: str
    neighbour: str
    lag: int = 0
    weight: float | None = None


def _edges(value: object) -> object:
    """A frame of edges as a tuple of them."""
    if value is None or not is_frame(value):
        return value
    told, _ = to_columns(value)
    missing = [name for name in COLUMNS[:2] if name not in told]
    if missing:
        raise TaskError(
            f'GraphLSTM: edges as a frame have the columns unique_id, neighbour and, if known, lag and weight; "{missing[0]}" is not among {", ".join(told)}'
        )
    given = [told[name].tolist() if name in told else [None] * len(told["unique_id"]) for name in COLUMNS]
    return tuple(
        Edge(str(one), str(other), 0 if lag is None or lag != lag else int(lag), None if weight is None or weight != weight else float(weight))
        for one, other, lag, weight in zip(*given, strict=True)
    )


def _layers(value: object) -> object:
    if value in ((), []):
        raise ValueError("needs at least one layer, as in hidden=(64, 32)")
    return (value,) if isinstance(value, int) else value


class GraphLSTM(Spec):
    """A StackedLSTM of one global net that also reads each series' neighbours.

    `edges` are told by a frame (unique_id, neighbour, and where known lag and weight) or left to be learned on the training cut:
    each series then follows at most `neighbours` others, whose news correlate with its own at most `reach` steps later (None: a season
    or a horizon, whichever is longer); `chance` is that of an edge to a series that follows nobody. The graph-mixing layer adds up what
    the neighbours did, by the edges' weights and lags, and the LSTM reads the sum beside its own past; of the steps ahead it knows what edges of enough lag
    bring. Without any edge it is a StackedLSTM. The other options are StackedLSTM's.
    """

    neighbours: int = Field(default=4, ge=1)
    reach: int | None = Field(default=None, ge=1)
    chance: float = Field(default=0.05, gt=0, le=1)
    edges: Annotated[tuple[Edge, ...] | None, BeforeValidator(_edges)] = None
    hidden: Annotated[tuple[Units, ...], BeforeValidator(_layers)] = (64, 32)
    dropout: Rate = 0.3
    segment: int | None = Field(default=None, ge=1)
    ahead: int = Field(default=128, ge=0)
    centre: Centre = "last"
    ridge: bool = True
    in_phase: bool | None = None

    @property
    def plain(self) -> StackedLSTM:
        """The same net without neighbours."""
        return StackedLSTM(
            hidden=self.hidden, dropout=self.dropout, segment=self.segment, ahead=self.ahead, centre=self.centre, ridge=self.ridge, in_phase=self.in_phase
        )

    def build(self, shape: Shape, streams: Sequence[Generator]) -> "GraphLSTMNet":
        """The net with fresh weights and no edges, one member a stream."""
        if shape.targets > 1:
            raise TaskError(f"a graph net forecasts one target, whose past its neighbours share; this task has {shape.targets}: fit a model for each")
        return GraphLSTMNet(self, shape, streams)

    def summary(self, shape: Shape) -> Summary:
        """Layers, output shapes and parameters for this shape."""
        return self.build(shape, [Generator() for _ in range(shape.members)]).summary()


class GraphLSTMNet(nn.Module):
    """The net of a GraphLSTM. `edge` is what each series, from row 1 on, takes over of each neighbour's deviation after 1, 2 … steps; row 0,
    for a series never seen, is nothing. Parameters: `gain`, one a step ahead, and those of `lstm`."""

    edge: Float[Tensor, "member series slot lag"]

    def __init__(self, spec: GraphLSTM, shape: Shape, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.first = shape.features - shape.known - shape.neighbours  # neighbours come last of what is known up to now only
        inner = Shape(
            shape.members, shape.context, shape.features - shape.neighbours + bool(shape.neighbours), shape.horizon,
            shape.known + bool(shape.neighbours), shape.targets, shape.levels, 0, shape.clocked, shape.probs,
        )  # fmt: skip
        self.lstm = StackedLSTMNet(spec.plain, inner, streams)
        self.gain = nn.Parameter(torch.zeros(shape.members, shape.horizon))
        series = shape.kinds[0] if shape.kinds else 0
        self.register_buffer("edge", torch.zeros(shape.members, series + 1, shape.neighbours, shape.reach))

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: Noise | None = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """The forecast in scaled space; with `ridge`, what is to be added to the ridge's."""
        blank, cut = static[..., :0], slice(self.first, self.first + self.shape.neighbours)
        if not self.shape.neighbours:
            alone: Tensor = self.lstm(past, observed, future, blank, noise)
            return alone
        at = torch.arange(len(static), device=static.device)[:, None]
        heard = mixed(past[..., cut], observed[..., cut], self.edge[at, number_of(static)], self.shape.horizon)
        back, ahead = heard.split((self.shape.context, self.shape.horizon), 2)
        kept = torch.cat([past[..., : cut.start], past[..., cut.stop :], back], -1)
        seen = torch.cat([observed[..., : cut.start], observed[..., cut.stop :], torch.ones_like(back, dtype=torch.bool)], -1)
        out: Tensor = self.lstm(kept, seen, torch.cat([future, ahead], -1), blank, noise)
        sent: Tensor = (self.gain[:, None, :, None] * ahead)[..., None]
        return out + sent

    def penalty(self) -> Float[Tensor, " member"]:
        """The LSTM's own."""
        return self.lstm.penalty()

    def summary(self) -> Summary:
        """Layers, output shapes and parameters of one member."""
        mix = Row("neighbours", (self.shape.context + self.shape.horizon, bool(self.shape.neighbours)), self.gain[0].numel())
        return Summary((mix, *self.lstm.summary().rows))


def mixed(
    past: Float[Tensor, "member example context slot"],
    observed: Bool[Tensor, "member example context slot"],
    edge: Float[Tensor, "member example slot lag"],
    horizon: int,
) -> Float[Tensor, "member example step 1"]:
    """What the neighbours bring to every step of the window and of the horizon after it: Σ weight(slot, lag) · value(slot, step − lag), each
    value counted from its mean over the window; what is not observed, or comes later than the origin, brings nothing.

    Two matrix products, edges times values for every lag and the sum over lags, each a shift of the next.
    """
    reach = edge.shape[-1]
    value = past * observed
    value = (value - value.sum(2, keepdim=True) / observed.sum(2, keepdim=True).clamp(min=1)) * observed
    by_lag = value @ edge  # [member, example, context, lag]: what each step sends to the one `lag` later
    total = value.new_zeros(*value.shape[:2], value.shape[2] + horizon)
    for lag in range(1, reach + 1):
        total = total + F.pad(by_lag[..., lag - 1], (lag, max(0, horizon - lag)))[..., : total.shape[2]]
    return total[..., None]
