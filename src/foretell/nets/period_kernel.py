"""PeriodKernel: a bank of convolutions as long as an item's periods, attention between its sales and all that acts on them, a head.

The weights are those of the notebook's network; what is computed is less, and the same (nets/bank.py, docs/demand.md).
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..errors import TaskError
from ..smooth import continued, end_line, loess
from ..spec import Spec
from .bank import Bank, effective, project
from .labels import Facts, Own
from .layers import LayerNorm, Linear, Noise, Row, Shape, Summary, dropout, learned
from .ridge import Ridge
from .seasonal_ridge import SeasonalRidge

NORM = 1e-3  # Keras' epsilon of a LayerNormalization
ALIVE = 2  # steps at the window's end that reach the head through a smoothing of three


class PeriodKernel(Spec):
    """`kernels` periods of an item at most, each a convolution of `filters` channels as long as the period, weighted by a softmax
    that starts from the periods' strengths; the item's own past and the weighted sum of all other channels are two tokens that
    `heads` heads of `size` numbers attend over; the last step, smoothed, goes through `dense` units to the whole horizon.

    `ahead` units read what is known of each step ahead together with that state. `rectify` makes the output non-negative in
    model space, as the notebook does. With a `ridge`, fit starts from its closed form and the net learns what that misses.

    With `trend` LOESS over so many steps draws each window's trend, from what the window holds and nothing after it: the net reads
    what is left, and the trend, continued and damped, is added to what it says. The ridge has a level of its own, so this is without one.

    One net for all series reads their labels as embeddings, and how strong the shared periods are in each; with `own_head` each
    series has a small head of its own beside the shared one. A series never seen has the mean of the strengths and no head of its own.
    """

    kernels: int = Field(default=6, ge=1)
    filters: int = Field(default=4, ge=1)
    heads: int = Field(default=1, ge=1)
    size: int = Field(default=4, ge=1)
    dense: int = Field(default=16, ge=1)
    ahead: int = Field(default=8, ge=0)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    rectify: bool = False
    own_head: bool = False
    trend: int = Field(default=0, ge=0)
    ridge: SeasonalRidge | Ridge | None = SeasonalRidge()

    @model_validator(mode="after")
    def _one_level(self) -> Self:
        if self.trend and self.ridge:
            raise ValueError(f"trend={self.trend} takes off the level that the ridge stands on: add ridge=None")
        if self.trend == 1:
            raise ValueError("trend=1 is no trend: a line needs 2 steps at least, four weeks are usual")
        return self

    def build(self, shape: Shape, streams: Sequence[Generator], bank: Bank | None = None) -> "PeriodKernelNet":
        """The net with fresh weights, one member a stream; without a bank a single kernel as long as the window."""
        if len(streams) != shape.members:
            raise TaskError(f"{shape.members} members but {len(streams)} random streams: each member draws its weights from its own")
        if shape.targets != 1:
            raise TaskError(f"PeriodKernel forecasts one target, the task has {shape.targets}: fit a model for each")
        bank = bank or Bank.whole(shape.members, self.kernels, shape.context)
        if int(bank.length.max()) > shape.context:
            raise TaskError(f"a period of {int(bank.length.max())} steps is longer than the context of {shape.context} steps")
        return PeriodKernelNet(self, shape, streams, bank)

    def summary(self, shape: Shape) -> Summary:
        """Layers, output shapes and parameters for this shape, with kernels as long as the window."""
        return self.build(shape, [Generator() for _ in range(shape.members)]).summary()


class PeriodKernelNet(nn.Module):
    """The net of a PeriodKernel. Of the attention's output only the steps that reach the head are computed and kept.

    Parameters: `kernels.<i>` [member, width, filter] (centred, zero beyond the period), `biases.<i>`, `strength`, `auxiliary`,
    `query`, `key`, `value` [member, context · filter, head · size], `query_bias`, `value_bias` (a bias of the keys would cancel),
    `out`, `smooth`, `norm`, `dense`, `head`, and with `ahead` `reader` and `told`; of a net of all series also `facts`, and with
    `own_head` `own` and `own_told`.
    """

    length: Int[Tensor, "member period"]
    span: Int[Tensor, " member"]
    zero: Float[Tensor, "member channel"]

    def __init__(self, spec: PeriodKernel, shape: Shape, streams: Sequence[Generator], bank: Bank) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        filters, inner = spec.filters, spec.heads * spec.size
        self.kernels, self.biases = _drawn(streams, bank, filters)
        self.strength = nn.Parameter(bank.strength.float().clone())
        self.auxiliary = nn.Parameter(torch.ones(shape.members, shape.features - 1))
        self.query, self.key, self.value = (_read(streams, bank.span, shape.context, filters, inner) for _ in range(3))
        self.query_bias, self.value_bias = (nn.Parameter(torch.zeros(shape.members, inner)) for _ in range(2))
        steps = min(ALIVE, shape.context)
        self.out, self.smooth = Linear(streams, inner, steps * filters), Linear(streams, steps * filters, filters)
        self.facts = Facts(streams, shape.kinds, bank.length.shape[1]) if shape.kinds else None
        facts = self.facts.width if self.facts else shape.static
        self.norm, self.dense = LayerNorm(streams, filters, NORM), Linear(streams, filters + facts, spec.dense)
        self.head = Linear(streams, spec.dense, shape.horizon * shape.slots)
        reads = shape.known > 0 and spec.ahead > 0
        self.reader = Linear(streams, spec.dense + shape.known, spec.ahead) if reads else None
        self.told = Linear(streams, spec.ahead, shape.slots) if reads else None
        own = shape.kinds[0] if shape.kinds and spec.own_head else 0
        self.own = Own(shape.members, own, spec.dense, shape.slots) if own else None
        self.own_told = Own(shape.members, own, spec.ahead, shape.slots) if own and reads else None
        # Each row is the line through its neighbours, so the smoother of every window is one matrix.
        self.smoother = loess(torch.eye(shape.context, dtype=torch.float64), min(1.0, spec.trend / shape.context)).mT if spec.trend else None
        self.register_buffer("length", bank.length.clone())
        self.register_buffer("span", bank.span.clone())
        self.register_buffer("zero", torch.zeros(shape.members, shape.features - 1))
        if spec.ridge:
            # Almost nothing, so that the first forecast is the ridge's; not exactly nothing, so that gradients pass.
            with torch.no_grad():
                for last in (self.head, self.told):
                    for weights in () if last is None else last.parameters():
                        weights.mul_(0.01)

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: Noise | None = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """The forecast in scaled space; with `ridge`, what is to be added to the ridge's."""
        inside = self.inside(past)
        left, ahead = self.detrended(past, observed)
        return self.answer(self.mixed(left, inside)[0], inside, future, static, noise) + ahead

    def detrended(
        self, past: Float[Tensor, "member example context feature"], observed: Bool[Tensor, "member example context feature"]
    ) -> tuple[Float[Tensor, "member example context feature"], Tensor | float]:
        """What the net reads of windows, and the trend to be added to what it says of them [member, example, horizon, 1, 1]."""
        if self.smoother is None:
            return past, 0.0
        goal, width = past[..., 0], min(self.spec.trend, past.shape[2])
        ahead = continued(end_line(goal[..., -width:], observed[..., -width:, 0]), self.shape.horizon)
        return torch.cat([(goal - goal @ self.smoother.to(goal).mT)[..., None], past[..., 1:]], -1), ahead[..., None, None]

    def answer(self, mixed: Tensor, inside: Float[Tensor, "member context"], future: Tensor, static: Tensor, noise: Noise | None = None) -> Tensor:
        """The forecast from what attention made of the window [member, example, head · size]."""
        state = torch.cat([self.state(mixed, inside, noise), static if self.facts is None else self.facts(static)], -1)
        dense = self.dense(state).relu()
        out: Tensor = self.head(dense).unflatten(-1, (self.shape.horizon, self.shape.slots))
        out = out if self.own is None else out + self.own(dense, static)[:, :, None]
        if self.reader is not None and self.told is not None:
            # The reader on (state, known ahead), the state's part once for all steps.
            of_state, of_known = self.reader.weight.split([self.spec.dense, self.shape.known], 2)
            state = torch.baddbmm(self.reader.bias[:, None], dense, of_state.mT)
            known = (future.flatten(1, 2) @ of_known.mT).unflatten(1, future.shape[1:3])
            read = (known + state[:, :, None]).relu()
            out = out + (self.told(read) if self.own_told is None else self.told(read) + self.own_told(read, static))
        return (out.relu() if self.spec.rectify else out)[:, :, :, None]

    def state(self, mixed: Tensor, inside: Float[Tensor, "member context"], noise: Noise | None) -> Float[Tensor, "member example filter"]:
        """What the last step holds after attention and smoothing."""
        mixed = self.out(mixed)
        alive = inside[:, -(mixed.shape[-1] // self.spec.filters) :].repeat_interleave(self.spec.filters, 1)
        smooth: Tensor = self.smooth(mixed * alive[:, None]).relu()
        return dropout(self.norm(smooth), self.spec.dropout, noise)

    def mixed(self, past: Float[Tensor, "member example context feature"], inside: Float[Tensor, "member context"]) -> tuple[Tensor, Tensor]:
        """What attention makes of both tokens [member, example, head · size], and how much of it is the item's own past [.., head]."""
        own, others = past[..., 0] * inside[:, None], self.weighted(past, inside)
        kernel, bias = self.kernel(past.shape[2])
        to_query, to_key, to_value = project(kernel, bias, inside, (self.query, self.key, self.value))
        query = own @ to_query[:, :-1] + (to_query[:, -1:] + self.query_bias[:, None])
        # A softmax over two tokens is a sigmoid of the difference of their scores, in which the constant terms cancel.
        gap = own - others
        score = (query * (gap @ to_key[:, :-1])).unflatten(-1, (self.spec.heads, self.spec.size)).sum(-1) * self.spec.size**-0.5
        share = score.sigmoid()
        value = others @ to_value[:, :-1] + (to_value[:, -1:] + self.value_bias[:, None])
        return value + share.repeat_interleave(self.spec.size, -1) * (gap @ to_value[:, :-1]), share

    def attended(self, own: Tensor, others: Tensor) -> Tensor:
        """`mixed` from the maps [member, example, context, filter] that the bank makes of both tokens, written out: to be looked at."""
        (own, others), gap = (own.flatten(2), others.flatten(2)), (own - others).flatten(2)
        score = ((own @ self.query + self.query_bias[:, None]) * (gap @ self.key)).unflatten(-1, (self.spec.heads, self.spec.size))
        share = (score.sum(-1) * self.spec.size**-0.5).sigmoid().repeat_interleave(self.spec.size, -1)
        out: Tensor = others @ self.value + self.value_bias[:, None] + share * (gap @ self.value)
        return out

    def attention(self, past: Float[Tensor, "member example context feature"]) -> Float[Tensor, "member example head token"]:
        """How much of each head's answer is the item's own past, and how much all that acts on it."""
        share = self.mixed(past, self.inside(past))[1]
        return torch.stack([share, 1 - share], -1)

    def kernel(self, context: int) -> tuple[Float[Tensor, "member context filter"], Float[Tensor, "member filter"]]:
        """The one kernel that the whole bank is, and its bias."""
        return effective(list(self.kernels), list(self.biases), self.share(), self.length, context)

    def convolved(self, token: Float[Tensor, "member example context"], inside: Float[Tensor, "member context"]) -> Tensor:
        """[member, example, context, filter]: what the bank makes of a channel, to be looked at; the forecast does without it."""
        return self._convolved(token, inside, *self.kernel(token.shape[2]))

    def apart(self, token: Float[Tensor, "member example context"], inside: Float[Tensor, "member context"]) -> Tensor:
        """`convolved` period by period [member, example, period, context, filter]: their sum over periods is the whole bank's."""
        parts, share = [], self.share()
        for at in range(share.shape[1]):
            alone = share * (torch.arange(share.shape[1], device=share.device) == at)
            parts.append(self._convolved(token, inside, *effective(list(self.kernels), list(self.biases), alone, self.length, token.shape[2])))
        return torch.stack(parts, 2)

    def _convolved(self, token: Tensor, inside: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        context = token.shape[2]
        every = torch.eye(context * self.spec.filters).to(token).expand(len(token), -1, -1)
        (matrix,) = project(kernel, bias, inside, (every,))
        out: Tensor = (token @ matrix[:, :-1] + matrix[:, -1:]).unflatten(-1, (context, self.spec.filters))
        return out

    def share(self) -> Float[Tensor, "member period"]:
        """How much each period counts: a softmax over those that an item has; 0 for an empty place."""
        weights: Tensor = self.strength.masked_fill(self.length == 0, -torch.inf).softmax(-1)
        return weights

    def inside(self, past: Float[Tensor, "member example context feature"]) -> Float[Tensor, "member context"]:
        """1 at the steps that a member reads, 0 before."""
        step = torch.arange(past.shape[2], 0, -1, device=past.device)
        return (step <= self.span[:, None]).to(past)

    def ratio(self, past: Float[Tensor, "member example context feature"], inside: Float[Tensor, "member context"]) -> Tensor:
        """[member, example, channel]: the share of steps at which a channel is not zero, in the user's units."""
        zero = F.pad(self.zero, (1, 0))[:, None, None]  # the target stands first, and is left out at the end: no copy of the rest
        lit = torch.ne(past.detach(), zero, out=torch.empty_like(past))
        return ((inside / self.span[:, None])[:, None, None] @ lit)[:, :, 0, 1:]

    def weighted(self, past: Float[Tensor, "member example context feature"], inside: Float[Tensor, "member context"]) -> Tensor:
        """[member, example, context]: one channel for all others. A convolution is linear and the weights sum to 1, so that
        weighing before it is weighing after it, bias and all."""
        if past.shape[3] == 1:
            return torch.zeros_like(past[..., 0])
        weights = F.pad((self.auxiliary[:, None] * self.ratio(past, inside)).softmax(-1), (1, 0))
        return (past @ weights[..., None])[..., 0] * inside[:, None]

    def penalty(self) -> Float[Tensor, " member"]:
        """Nothing is added to the loss."""
        return self.strength.new_zeros(len(self.strength))

    def summary(self) -> Summary:
        """Layers, output shapes and parameters of one member."""
        spec, context = self.spec, self.shape.context
        tokens = [self.query, self.key, self.value, self.query_bias, self.value_bias]
        size = {"bank": [*self.kernels, *self.biases, self.strength], "auxiliary": [self.auxiliary], "attention": tokens}
        count = {name: sum(w[0].numel() for w in weights) for name, weights in size.items()}
        rows = [Row("bank", (context, spec.filters), count["bank"]), Row("auxiliary", (context,), count["auxiliary"])]
        rows += [Row("attention", (spec.heads * spec.size,), count["attention"]), Row("out", (ALIVE, spec.filters), learned(self.out))]
        rows += [Row("smooth", (spec.filters,), learned(self.smooth) + learned(self.norm)), Row("dense", (spec.dense,), learned(self.dense))]
        if self.reader is not None and self.told is not None:
            rows.append(Row("ahead", (self.shape.horizon, spec.ahead), learned(self.reader) + learned(self.told)))
        own = sum(learned(one) for one in (self.facts, self.own, self.own_told) if one is not None)
        rows += [Row("labels and own heads", (self.facts.width,), own)] if self.facts is not None else []
        return Summary((*rows, Row("head", (self.shape.horizon, 1, self.shape.slots), learned(self.head))))


def _drawn(streams: Sequence[Generator], bank: Bank, filters: int) -> tuple[nn.ParameterList, nn.ParameterList]:
    """Kernels and biases place by place, each member's drawn at its own length, so that its company changes nothing (Glorot &
    Bengio 2010, section 4.2: even in ±√(6 / (in + out)))."""
    kernels = []
    for place, width in enumerate(bank.widths):
        own = []
        for length, stream in zip(bank.length[:, place].tolist(), streams, strict=True):
            bound = (6 / max(1, length * (1 + filters))) ** 0.5
            drawn = (torch.rand(length, filters, generator=stream) * 2 - 1) * bound
            left = (width - 1) // 2 - (length - 1) // 2 if length else 0
            own.append(F.pad(drawn, (0, 0, left, width - length - left)))
        kernels.append(nn.Parameter(torch.stack(own)))
    return nn.ParameterList(kernels), nn.ParameterList(nn.Parameter(torch.zeros(len(streams), filters)) for _ in kernels)


def _read(streams: Sequence[Generator], span: Int[Tensor, " member"], context: int, filters: int, out: int) -> nn.Parameter:
    """A projection [member, context · filter, out], even in ±1/√in, each member's drawn for the steps that it reads; zero before them."""
    found = []
    for steps, stream in zip(span.tolist(), streams, strict=True):
        bound = (steps * filters) ** -0.5
        drawn = torch.rand(steps * filters, out, generator=stream).mul_(2 * bound).sub_(bound)
        found.append(F.pad(drawn, (0, 0, (context - steps) * filters, 0)))
    return nn.Parameter(torch.stack(found))


class Preset(NamedTuple):
    """A net, and the Training options that belong to it."""

    net: PeriodKernel
    training: dict[str, Any]


def presets() -> dict[str, Preset]:
    """The notebook's own configuration: 20 periods, 32 filters, its optimizer and its loss."""
    net = PeriodKernel(kernels=20, filters=32, heads=4, size=32, dense=64, ahead=0, dropout=0.2, rectify=True, ridge=None)
    optimizer = {"kind": "adam", "rate": 5e-4, "schedule": "cosine", "first_decay": 1000, "t_mul": 2.0, "m_mul": 0.9, "floor": 1e-5, "clip": 0.5}
    optimizer |= {"clip_each": True, "eps": 1e-7}
    training = {"epochs": 300, "batch": 64, "optimizer": optimizer, "loss": "peak", "patience": 20, "scale": "saturating", "retrain": False}
    return {"notebook": Preset(net, training)}
