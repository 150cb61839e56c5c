"""TadGAN: an encoder and a generator that rebuild windows, and two critics that tell the real from the made."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Self

import torch
from jaxtyping import Float
from pydantic import AfterValidator, Field, model_validator
from torch import Generator, Tensor, nn

from ..errors import TaskError
from ..spec import Spec
from .critic import Critic
from .layers import Linear, Noise, Row, Sequences, Summary, dropout, fused_lstm_pair, learned, lstm_steps, uniform

CONVOLUTIONS, HIDDEN = 4, 2  # layers of the critic of windows and of the critic of codes


def _share(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError("must be at least 0 and below 1: it is the share of units switched off in training")
    return rate


Rate = Annotated[float, AfterValidator(_share)]


class TadGAN(Spec):
    """Windows of `window` steps are coded into `latent` numbers and rebuilt, every channel of them.

    `encoder` is the units of its LSTM (None: as many as a window has steps), `generator` those of its two, between which time
    is stretched `upsample` times. `critic`: filters of the critic of windows and units of the critic of codes; `kernel` None is
    2 steps below a window of 30, else 5. `dropout` of the generator, of the critic of windows and of that of codes.
    `critic_steps` of both critics come before one of encoder and generator; `penalty` weighs the critics' gradient penalty,
    `reconstruction` the squared error of what is rebuilt. `bounded` squeezes what is rebuilt into −1 … 1.
    TadGAN, arXiv 2009.07769; the networks are those of the guidebook, which rebuild more than one channel.
    """

    window: int = Field(default=100, ge=2)
    latent: int = Field(default=20, ge=1)
    encoder: int | None = Field(default=None, ge=1)
    generator: int = Field(default=64, ge=1)
    upsample: int = Field(default=1, ge=1)
    critic: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (64, 100)
    kernel: int | None = Field(default=None, ge=1)
    dropout: tuple[Rate, Rate, Rate] = (0.2, 0.25, 0.2)
    critic_steps: int = Field(default=5, ge=1)
    penalty: float = Field(default=10.0, ge=0)
    reconstruction: float = Field(default=10.0, gt=0)
    bounded: bool = False

    @model_validator(mode="after")
    def _room_for_the_critic(self) -> Self:
        least = CONVOLUTIONS * (self.taps - 1) + 1
        if self.window < least:
            raise ValueError(f"window={self.window} is too short: {CONVOLUTIONS} convolutions of {self.taps} steps need at least {least}")
        return self

    @property
    def taps(self) -> int:
        """`kernel`, the default put in."""
        return self.kernel or (5 if self.window >= 30 else 2)

    @classmethod
    def guidebook(cls) -> "Guidebook":
        """What the guidebook trains with; its scaler maps the three components of the training run to −1 … 1."""
        optimizer = {"kind": "adam", "rate": 5e-4, "clip": None}
        training = {"epochs": 30, "batch": 64, "optimizer": optimizer, "stop": 0.0, "scale": "minmax"}
        return Guidebook(cls(window=10, latent=20, bounded=True), 3, training)

    def build(self, channels: int, streams: Sequence[Generator]) -> "TadGANNet":
        """The four networks with fresh weights, one member a stream."""
        if channels < 1:
            raise TaskError(f"TadGAN needs at least one channel to rebuild; got {channels}")
        return TadGANNet(self, channels, streams)

    def summary(self, channels: int) -> Summary:
        """Layers, output shapes and parameters for so many channels."""
        return self.build(channels, [Generator()]).summary()


class Guidebook(NamedTuple):
    """A net, how many principal components it is given, and the Training options that belong to it."""

    net: TadGAN
    components: int
    training: dict[str, Any]


class BothWays(nn.Module):
    """Two LSTM layers, one of which reads time backwards; their states side by side. Weights [member, way, ...]."""

    def __init__(self, streams: Sequence[Generator], features: int, hidden: int) -> None:
        super().__init__()
        self.weight = uniform(streams, 2, 4 * hidden, features, fan=hidden)
        self.recurrent = uniform(streams, 2, 4 * hidden, hidden, fan=hidden)
        self.bias = uniform(streams, 2, 4 * hidden, fan=hidden)
        with torch.no_grad():
            self.bias[..., hidden : 2 * hidden] += 1  # as in LSTM

    def forward(self, x: Sequences) -> Float[Tensor, "member example time hidden"]:
        """[member, example, time, feature] -> [member, example, time, 2 × hidden]."""
        if len(self.weight) == 1:
            return fused_lstm_pair(x, self.weight, self.recurrent, self.bias)
        both = torch.stack([x, x.flip(2)], 1).flatten(0, 1)
        states = lstm_steps(both, self.weight.flatten(0, 1), self.recurrent.flatten(0, 1), self.bias.flatten(0, 1)).unflatten(0, (len(x), 2))
        return torch.cat([states[:, 0], states[:, 1].flip(2)], -1)


class Encoder(nn.Module):
    """Windows to codes."""

    def __init__(self, spec: TadGAN, channels: int, streams: Sequence[Generator]) -> None:
        super().__init__()
        units = spec.encoder or spec.window
        self.lstm = BothWays(streams, channels, units)
        self.dense = Linear(streams, spec.window * 2 * units, spec.latent)

    def forward(self, windows: Float[Tensor, "member example window channel"]) -> Float[Tensor, "member example latent"]:
        """No dropout here: there is none in the guidebook."""
        code: Tensor = self.dense(self.lstm(windows).flatten(2))
        return code


class Maker(nn.Module):
    """Codes to windows: the generator."""

    def __init__(self, spec: TadGAN, channels: int, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.spec = spec
        self.dense = Linear(streams, spec.latent, -(-spec.window // spec.upsample))
        self.first = BothWays(streams, 1, spec.generator)
        self.second = BothWays(streams, 2 * spec.generator, spec.generator)
        self.head = Linear(streams, 2 * spec.generator, channels)

    def forward(self, codes: Float[Tensor, "member example latent"], noise: Noise | None = None) -> Float[Tensor, "member example window channel"]:
        """The code becomes one number a step (or one for `upsample` steps), from which two recurrent layers make all channels."""
        spec = self.spec
        seeds = self.dense(codes)[..., None]
        states = dropout(self.first(seeds), spec.dropout[0], noise)
        if spec.upsample > 1:
            states = states.repeat_interleave(spec.upsample, 2)[:, :, : spec.window]
        made: Tensor = self.head(dropout(self.second(states), spec.dropout[0], noise))
        return made.tanh() if spec.bounded else made


class TadGANNet(nn.Module):
    """The four networks of a TadGAN: `encoder`, `generator`, `critic_x` of windows, `critic_z` of codes."""

    def __init__(self, spec: TadGAN, channels: int, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.spec, self.channels = spec, channels
        filters, units = spec.critic
        self.encoder = Encoder(spec, channels, streams)
        self.generator = Maker(spec, channels, streams)
        self.critic_x = Critic(streams, spec.window, (channels, *[filters] * CONVOLUTIONS), spec.taps, spec.dropout[1])
        self.critic_z = Critic(streams, 1, (spec.latent, *[units] * HIDDEN), 1, spec.dropout[2])

    def forward(self, windows: Float[Tensor, "member example window channel"]) -> Float[Tensor, "member example window channel"]:
        """The windows rebuilt from their codes."""
        made: Tensor = self.generator(self.encoder(windows))
        return made

    @torch.no_grad()
    def reconstruct(self, windows: Float[Tensor, "example window channel"]) -> Float[Tensor, "example window channel"]:
        """The windows as a net of one member rebuilds them; the mean over its members if it has several."""
        made: Tensor = self(windows.expand(self._members, *windows.shape))
        return made.mean(0)

    @torch.no_grad()
    def critic(self, windows: Float[Tensor, "example window channel"]) -> Float[Tensor, " example"]:
        """How real each window looks: the more, the more real. Only differences mean something."""
        scores: Tensor = self.critic_x(windows.expand(self._members, *windows.shape))
        return scores.mean(0)

    @property
    def _members(self) -> int:
        return len(self.generator.head.bias)

    def summary(self) -> Summary:
        """Layers, output shapes and parameters of one member."""
        spec, units = self.spec, self.spec.encoder or self.spec.window
        coder, maker, seeds = self.encoder, self.generator, -(-spec.window // spec.upsample)
        rows = [
            Row("encoder lstm, both ways", (spec.window, 2 * units), learned(coder.lstm)),
            Row("code", (spec.latent,), learned(coder.dense)),
            Row("generator seeds", (seeds,), learned(maker.dense)),
            Row("generator lstm 1, both ways", (seeds, 2 * spec.generator), learned(maker.first)),
            Row("generator lstm 2, both ways", (spec.window, 2 * spec.generator), learned(maker.second)),
            Row("generator head", (spec.window, self.channels), learned(maker.head)),
        ]
        return Summary((*rows, *self.critic_x.rows("critic of windows"), *self.critic_z.rows("critic of codes")))
