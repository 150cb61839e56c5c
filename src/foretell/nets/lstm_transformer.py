"""LSTMTransformer: LSTM layers for what is near, then Transformer encoder layers over time for what is far, then a head for the whole horizon."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from ..errors import TaskError
from ..spec import Spec
from .labels import Embedding, width_of
from .layers import LSTM, Attention, LayerNorm, Linear, Noise, Row, Shape, Summary, dropout, learned
from .window import Centre, Rate, Units, fold, level_of, window


class LSTMTransformer(Spec):
    """`layers` LSTM layers of `hidden` units, then `encoders` encoder layers of `heads` heads and a feed-forward part of
    `feedforward` units; `dropout` after each LSTM layer and within the encoder layers as in torch.

    Attention is over time, and with `causal` no step reads a later one; the recurrent layers below tell it where a step
    stands. Labels of the panel are learned as embeddings. The other options are those of StackedLSTM.
    """

    hidden: Units = 64
    layers: Units = 1
    heads: Units = 4
    encoders: Units = 1
    feedforward: Units = 128
    dropout: Rate = 0.2
    causal: bool = True
    segment: int | None = Field(default=None, ge=1)
    ahead: int = Field(default=128, ge=0)
    centre: Centre = "last"
    ridge: bool = True
    in_phase: bool | None = None

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.hidden % self.heads:
            valid = ", ".join(str(n) for n in range(1, self.hidden + 1) if self.hidden % n == 0)
            raise ValueError(f"heads must divide hidden={self.hidden}: {valid}; got heads={self.heads}")
        return self

    def build(self, shape: Shape, streams: Sequence[Generator]) -> "LSTMTransformerNet":
        """The net with fresh weights, one member a stream."""
        if len(streams) != shape.members:
            raise TaskError(f"{shape.members} members but {len(streams)} random streams: each member draws its weights from its own")
        if (self.segment or 1) > shape.context:
            raise TaskError(f"segment={self.segment} is longer than the context of {shape.context} steps that it would fold")
        return LSTMTransformerNet(self, shape, streams)

    def summary(self, shape: Shape) -> Summary:
        """Layers, output shapes and parameters for this shape."""
        return self.build(shape, [Generator() for _ in range(shape.members)]).summary()


class Encoder(nn.Module):
    """One encoder layer as torch's nn.TransformerEncoderLayer has it: attention, then two linear layers, each added and normed.
    Attention Is All You Need, arXiv 1706.03762 §3.1."""

    def __init__(self, spec: LSTMTransformer, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.attention = Attention(streams, spec.hidden, spec.heads)
        self.norm1, self.norm2 = LayerNorm(streams, spec.hidden), LayerNorm(streams, spec.hidden)
        self.wide, self.narrow = Linear(streams, spec.hidden, spec.feedforward), Linear(streams, spec.feedforward, spec.hidden)
        self.causal, self.rate = spec.causal, spec.dropout

    def forward(self, x: Float[Tensor, "member example time hidden"], noise: Noise | None) -> Float[Tensor, "member example time hidden"]:
        """The shape stays."""
        mixed = self.attention(x, causal=self.causal, rate=self.rate, noise=noise)
        x = self.norm1(x + dropout(mixed, self.rate, noise))
        moved = self.narrow(dropout(self.wide(x).relu(), self.rate, noise))
        out: Tensor = self.norm2(x + dropout(moved, self.rate, noise))
        return out


class LSTMTransformerNet(nn.Module):
    """The net of an LSTMTransformer. Parameters: `labels.<i>`, `layers.<i>`, `encoders.<i>`, then `reader` (if `ahead`) and `head`."""

    def __init__(self, spec: LSTMTransformer, shape: Shape, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.segment = spec.segment or fold(shape.context, shape.horizon)
        self.steps = -(-shape.context // self.segment)
        kinds = shape.kinds or (0,) * shape.static
        widths = [width_of(k) for k in kinds]
        self.labels = nn.ModuleList(Embedding(streams, k, w) for k, w in zip(kinds, widths, strict=True) if k)
        self.category, self.widths = [bool(k) for k in kinds], [w for w in widths if w]
        inputs = [shape.features * self.segment] + [spec.hidden] * spec.layers
        self.layers = nn.ModuleList(LSTM(streams, a, b) for a, b in pairwise(inputs))
        self.encoders = nn.ModuleList(Encoder(spec, streams) for _ in range(spec.encoders))
        facts = sum(widths) + self.category.count(False)
        seen = spec.hidden + facts + shape.horizon * shape.known
        self.reader = Linear(streams, seen, spec.ahead) if spec.ahead and (shape.known or facts) else None
        self.head = Linear(streams, spec.hidden + facts + spec.ahead if self.reader else seen, shape.horizon * shape.targets * shape.slots)
        if spec.ridge:
            # Almost nothing, so that the first forecast is the ridge's, and yet gradients reach every layer below.
            with torch.no_grad():
                self.head.weight.mul_(0.01)
                self.head.bias.mul_(0.01)

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: Noise | None = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """The forecast in scaled space; with `ridge`, what is to be added to the ridge's."""
        level = level_of(past, observed, self.shape.targets, self.spec.centre)
        state = self.states(window(past, observed, level, self.segment, mask=False), noise)[:, :, -1]
        state = torch.cat([state, self.facts(static)], -1)
        told = torch.cat([state, future.flatten(2)], -1)
        if self.reader is not None:
            told = torch.cat([state, self.reader(told).relu()], -1)
        out: Tensor = self.head(told).view(*told.shape[:2], self.shape.horizon, self.shape.targets, self.shape.slots)
        return out if self.spec.ridge else out + level[:, :, None, :, None]

    def states(self, x: Float[Tensor, "member example time input"], noise: Noise | None = None) -> Float[Tensor, "member example time hidden"]:
        """Every step after the recurrent and the encoder layers."""
        for layer in self.layers:
            x = dropout(layer(x), self.spec.dropout, noise)
        for encoder in self.encoders:
            x = encoder(x, noise)
        return x

    def facts(self, static: Float[Tensor, "member example label"]) -> Float[Tensor, "member example fact"]:
        """Labels as the head reads them: embeddings of categories, numbers as they are."""
        embed = iter(self.labels)
        parts = [next(embed)(static[..., i]) if category else static[..., i : i + 1] for i, category in enumerate(self.category)]
        return torch.cat(parts, -1) if parts else static

    def penalty(self) -> Float[Tensor, " member"]:
        """None."""
        return torch.zeros_like(self.head.bias[:, 0])

    def summary(self) -> Summary:
        """Layers, output shapes and parameters of one member."""
        rows = [Row("window", (self.steps, self.shape.features * self.segment), 0)]
        rows += [Row(f"lstm {i}", (self.steps, self.spec.hidden), learned(layer)) for i, layer in enumerate(self.layers, 1)]
        rows += [Row(f"encoder {i}", (self.steps, self.spec.hidden), learned(layer)) for i, layer in enumerate(self.encoders, 1)]
        rows += [Row(f"label {i}", (width,), learned(layer)) for i, (layer, width) in enumerate(zip(self.labels, self.widths, strict=True), 1)]
        if self.reader is not None:
            rows.append(Row("ahead", (self.spec.ahead,), learned(self.reader)))
        rows.append(Row("head", (self.shape.horizon, self.shape.targets, self.shape.slots), learned(self.head)))
        return Summary(tuple(rows))
