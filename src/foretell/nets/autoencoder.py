"""LSTMAutoencoder: one LSTM reads a window into its last state, another writes the window again from it."""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import AfterValidator, Field
from torch import Generator, Tensor, nn

from ..errors import TaskError
from ..spec import Spec
from .layers import LSTM, Linear, Noise, Row, Summary, dropout, learned


def _share(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError("must be at least 0 and below 1: it is the share of units switched off in training")
    return rate


class LSTMAutoencoder(Spec):
    """Windows of `window` steps pass through `hidden` units, all there is to write every channel of them again; `dropout` on that
    state. LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection, Malhotra et al., arXiv 1607.00148; the writer is given
    the state at every step, as in Keras' RepeatVector."""

    window: int = Field(default=30, ge=2)
    hidden: int = Field(default=64, ge=1)
    dropout: Annotated[float, AfterValidator(_share)] = 0.0

    def build(self, channels: int, streams: Sequence[Generator]) -> "AutoencoderNet":
        """The net with fresh weights, one member a stream."""
        if channels < 1:
            raise TaskError(f"LSTMAutoencoder needs at least one channel to write again; got {channels}")
        return AutoencoderNet(self, channels, streams)

    def summary(self, channels: int) -> Summary:
        """Layers, output shapes and parameters for so many channels."""
        return self.build(channels, [Generator()]).summary()


class AutoencoderNet(nn.Module):
    """The net of an LSTMAutoencoder. Parameters: `reader`, `writer`, `head`."""

    def __init__(self, spec: LSTMAutoencoder, channels: int, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.spec, self.channels = spec, channels
        self.reader = LSTM(streams, channels, spec.hidden)
        self.writer = LSTM(streams, spec.hidden, spec.hidden)
        self.head = Linear(streams, spec.hidden, channels)

    def forward(
        self,
        past: Float[Tensor, "member example window channel"],
        observed: Bool[Tensor, "member example window channel"],
        future: Float[Tensor, "member example window known"],
        static: Float[Tensor, "member example label"],
        noise: Noise | None = None,
    ) -> Float[Tensor, "member example window channel slot"]:
        """The window written again, in the form of a forecast; it is the only input that counts."""
        state = dropout(self.reader(past)[:, :, -1:], self.spec.dropout, noise)
        written: Tensor = self.head(self.writer(state.expand(-1, -1, past.shape[2], -1).contiguous()))
        return written[..., None]

    @torch.no_grad()
    def reconstruct(self, windows: Float[Tensor, "example window channel"]) -> Float[Tensor, "example window channel"]:
        """The windows as the net writes them; the mean over its members if it has several."""
        x = windows.expand(len(self.head.bias), *windows.shape)
        none = x[..., :0]
        written: Tensor = self(x, torch.ones_like(x, dtype=torch.bool), none, none[:, :, 0])
        return written[..., 0].mean(0)

    def penalty(self) -> Float[Tensor, " member"]:
        """None."""
        return torch.zeros_like(self.head.bias[:, 0])

    def summary(self) -> Summary:
        """Layers, output shapes and parameters of one member."""
        spec = self.spec
        rows = (
            Row("reader lstm", (spec.hidden,), learned(self.reader)),
            Row("writer lstm", (spec.window, spec.hidden), learned(self.writer)),
            Row("head", (spec.window, self.channels), learned(self.head)),
        )
        return Summary(rows)
