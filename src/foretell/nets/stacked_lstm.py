"""StackedLSTM: LSTM layers on top of each other, read at the last step by a head that gives the whole horizon at once."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from pydantic import AfterValidator, Field, model_validator
from torch import Generator, Tensor, nn

from ..errors import TaskError
from ..spec import Spec
from .layers import LSTM, Linear, Noise, Row, Shape, Summary, dropout, learned
from .window import Centre, Rate, Units, fold, level_of, window


def _layers(hidden: tuple[int, ...]) -> tuple[int, ...]:
    if not hidden:
        raise ValueError("needs at least one layer, as in hidden=(64, 32)")
    return hidden


USUAL_DROPOUT = (0.3, 0.3)


class StackedLSTM(Spec):
    """`hidden` units layer by layer; `dropout` after each layer (one rate, or one a layer), `recurrent_dropout` on the state
    that a layer hands from step to step; `l2` times the sum of the squared `l2_on` kernels is added to the loss.

    `segment` steps are folded into one recurrent step: 1 reads step by step, None chooses (see `fold`). The head also
    reads the known channels of the whole horizon: straight (`ahead` 0), or through that many units that see the past too. With `recent`
    these units also see the last fold as it is, unsqueezed: where a forecast load or price ahead is to be set beside yesterday's.
    `centre` takes the targets' level out of the window and puts it back on the forecast. `mask` tells the net which values
    were observed. With `ridge`, fit starts from the closed-form ridge and the net learns what that misses.
    `in_phase` trains on the windows that end where the series ends in its season (a day-ahead forecast is made at one hour)
    and leaves forecasts from other origins to the ridge; None does so below daily steps if there are enough such windows.
    """

    hidden: Annotated[tuple[Units, ...], AfterValidator(_layers)] = (64, 32)
    dropout: tuple[Rate, ...] | Rate = USUAL_DROPOUT
    recurrent_dropout: Rate = 0.0
    l2: float = Field(default=0.0, ge=0)
    l2_on: Literal["input", "recurrent", "both"] = "input"
    segment: int | None = Field(default=None, ge=1)
    ahead: int = Field(default=128, ge=0)
    recent: bool = False
    centre: Centre = "last"
    mask: bool = False
    ridge: bool = True
    in_phase: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, data: Any) -> Any:
        """hidden=64 is one layer, dropout=0.1 holds after every layer; who changes only the layers gets the usual dropout."""
        if not isinstance(data, dict):
            return data
        hidden = data.get("hidden", (64, 32))
        hidden = (hidden,) if isinstance(hidden, int) else hidden
        if not isinstance(hidden, list | tuple):
            return data  # it will get its own sentence
        layers = len(hidden)
        rates = data.get("dropout", (USUAL_DROPOUT + USUAL_DROPOUT[-1:] * layers)[:layers])
        rates = (rates,) * layers if isinstance(rates, int | float) else rates
        if isinstance(rates, list | tuple) and len(rates) != layers:
            raise ValueError(f"dropout must be one rate for all layers or one a layer: hidden has {layers} layers; got {rates!r}")
        return {**data, "hidden": hidden, "dropout": rates}

    @model_validator(mode="after")
    def _someone_reads(self) -> Self:
        if self.recent and not self.ahead:
            raise ValueError("recent=True is what the `ahead` units see: with ahead=0 there are none")
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """Dropout after each layer."""
        return self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * len(self.hidden)

    def build(self, shape: Shape, streams: Sequence[Generator]) -> "StackedLSTMNet":
        """The net with fresh weights, one member a stream."""
        if len(streams) != shape.members:
            raise TaskError(f"{shape.members} members but {len(streams)} random streams: each member draws its weights from its own")
        if (self.segment or 1) > shape.context:
            raise TaskError(f"segment={self.segment} is longer than the context of {shape.context} steps that it would fold")
        return StackedLSTMNet(self, shape, streams)

    def summary(self, shape: Shape) -> Summary:
        """Layers, output shapes and parameters for this shape."""
        return self.build(shape, [Generator() for _ in range(shape.members)]).summary()


class StackedLSTMNet(nn.Module):
    """The net of a StackedLSTM. Parameters: `layers.<i>.weight`, `.recurrent`, `.bias`, then `reader` (if `ahead`) and `head`."""

    def __init__(self, spec: StackedLSTM, shape: Shape, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.segment = spec.segment or fold(shape.context, shape.horizon)
        self.steps = -(-shape.context // self.segment)
        widths = (shape.features * (1 + spec.mask) * self.segment, *spec.hidden)
        self.layers = nn.ModuleList(LSTM(streams, a, b) for a, b in pairwise(widths))
        seen = widths[-1] + shape.static + shape.horizon * shape.known
        self.reader = Linear(streams, seen + spec.recent * widths[0], spec.ahead) if spec.ahead and shape.known else None
        read = widths[-1] + shape.static + spec.ahead if self.reader else seen
        self.head = Linear(streams, read, shape.horizon * shape.targets * shape.slots)
        if spec.ridge:
            # Almost nothing, so that the first forecast is the ridge's; not exactly nothing, so that from the first step on
            # gradients pass through the head to every layer below it.
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
        folds = window(past, observed, level, self.segment, mask=self.spec.mask)
        state = self.recur(folds, noise)
        told = torch.cat([state, static, future.flatten(2)], -1)
        if self.reader is not None:
            seen = torch.cat([told, folds[:, :, -1]], -1) if self.spec.recent else told
            told = torch.cat([state, static, self.reader(seen).relu()], -1)
        out: Tensor = self.head(told).view(*told.shape[:2], self.shape.horizon, self.shape.targets, self.shape.slots)
        # Where there is a ridge, the level is already in its forecast.
        return out if self.spec.ridge else out + level[:, :, None, :, None]

    def recur(self, x: Float[Tensor, "member example time input"], noise: Noise | None) -> Float[Tensor, "member example hidden"]:
        """All layers, dropout after each; the last layer's state at the last step."""
        state = x
        for layer, rate in zip(self.layers, self.spec.rates, strict=True):
            state = layer(x, self.recurrent_mask(layer, x, noise))
            x = dropout(state, rate, noise) if layer is not self.layers[-1] else state
        return dropout(state[:, :, -1], self.spec.rates[-1], noise)

    def recurrent_mask(self, layer: nn.Module, x: Tensor, noise: Noise | None) -> Tensor | None:
        """One mask for the whole sequence, or None outside training."""
        rate = self.spec.recurrent_dropout
        return noise.keep((x.shape[1], layer.hidden), rate) if noise is not None and rate and isinstance(layer, LSTM) else None

    def penalty(self) -> Float[Tensor, " member"]:
        """λΣw² over the chosen kernels of every layer, biases and head left out; Keras' kernel_regularizer for "input"."""
        total = torch.zeros_like(self.head.bias[:, 0])
        if self.spec.l2:
            for name, kernel in self.layers.named_parameters():
                if name.rpartition(".")[2] in KERNELS[self.spec.l2_on]:
                    total = total + kernel.square().sum((1, 2))
        return self.spec.l2 * total

    def summary(self) -> Summary:
        """Layers, output shapes and parameters of one member."""
        rows = [Row("window", (self.steps, self.shape.features * (1 + self.spec.mask) * self.segment), 0)]
        for place, layer in enumerate(self.layers, 1):
            steps = () if layer is self.layers[-1] else (self.steps,)
            rows.append(Row(f"lstm {place}", (*steps, self.spec.hidden[place - 1]), learned(layer)))
        if self.reader is not None:
            rows.append(Row("ahead", (self.spec.ahead,), learned(self.reader)))
        rows.append(Row("head", (self.shape.horizon, self.shape.targets, self.shape.slots), learned(self.head)))
        return Summary(tuple(rows))


KERNELS = {"input": ("weight",), "recurrent": ("recurrent",), "both": ("weight", "recurrent")}


class Preset(NamedTuple):
    """A net, and the Training options that belong to it."""

    net: StackedLSTM
    training: dict[str, Any]


def presets() -> dict[str, Preset]:
    """The lesson's three scripts, the same net with nothing held back, and what the lesson advises in the end."""
    return {
        "main": _lesson((64, 32), 1e-4, (0.2, 0.1), batch=64),
        "main2": _lesson((64, 32), 1e-3, (0.2, 0.2), batch=32),
        "main3": _lesson((128, 64), 1e-4, (0.2, 0.1), batch=32),
        "plain": _lesson((64, 32), 0.0, (0.0, 0.0), batch=64),
        "advice": _lesson((128, 64, 32), 1e-5, (0.1, 0.1, 0.1), batch=32, rate=2e-3, patience=12),
    }


def _lesson(hidden: tuple[int, ...], l2: float, rates: tuple[float, ...], *, batch: int, rate: float = 1e-3, patience: int = 7) -> Preset:
    """As the scripts have it: step by step, all from the net itself, values scaled to 0 … 1, no clipping."""
    net = StackedLSTM(hidden=hidden, dropout=rates, l2=l2, segment=1, ahead=0, centre="none", ridge=False)
    optimizer = {"kind": "adam", "rate": rate, "schedule": "constant", "clip": None}
    return Preset(
        net, {"epochs": 50, "batch": batch, "optimizer": optimizer, "loss": "mse", "patience": patience, "stop": 0.1, "scale": "minmax", "retrain": False}
    )
