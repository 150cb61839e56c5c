"""Response: media-mix net. A base, and for each medium a carried-over, saturating, never falling effect whose parameters have names."""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BeforeValidator, Field
from torch import Generator, Tensor, nn

from ..errors import TaskError
from ..spec import Spec
from .layers import Shape

LONGEST, LEAST, STEEPEST = 0.95, 0.3, 3.0  # carry-over at most; the Hill exponent's range
TINY = 1e-4  # of a deviation of spend: keeps the slope of a Hill curve with exponent below one finite at zero
WIDTH = (1.0, 0.7, 0.7, 1.0)  # the prior's deviations: logit of carry, log of half, logit of shape, log of ceiling
MIDDLE = math.log((1 - LEAST) / (STEEPEST - 1))  # where the exponent is 1
USUAL = 0.5  # the ceiling at the middle of the prior, in deviations of the target


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Response(Spec):
    """The media-mix form of Robyn, Meridian and PyMC-Marketing: Jin et al. (2017), "Bayesian Methods for Media Mix Modeling with
    Carryover and Shape Effects", §2.

    Forecast = base + Σ ceiling · Hill(geometric adstock of spend) over `media`, which are known channels. The base reads the
    other known channels, the clock's also in products of two (so a yearly sine and cosine give two harmonics), and what the
    context's residuals say of the level. `prior` is how strongly the media's parameters are held near usual ones (half the
    effect at the mean spend, exponent 1, half the effect left after a step); each member of an ensemble is held
    near a draw of its own: anchored ensembling, Pearce et al. (2020), arXiv 1810.05546. Bayes' rule asks for the variance of the noise, as a
    share of the target's, over the number of independent steps: 1e-3 is 4 % over 40 of them. `shrink` holds the base's weights near 0.
    """

    media: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(min_length=1)
    prior: float = Field(default=1e-3, ge=0)
    shrink: float = Field(default=1e-3, ge=0)

    def build(self, shape: Shape, streams: Sequence[Generator]) -> "ResponseNet":
        """The net with each member's weights at its own draw of the prior."""
        if shape.targets != 1:
            raise TaskError(f"Response models one target; the task has {shape.targets}: fit one model a target")
        if shape.known < len(self.media):
            raise TaskError(f"Response(media={list(self.media)}): the task knows {shape.known} channels ahead; every medium must be in its known=")
        return ResponseNet(self, shape, streams)


class Curve(NamedTuple):
    """A medium's parameters, by member; `half` in deviations of spend above zero, `ceiling` in deviations of the target."""

    carry: Float[Tensor, "member media"]
    half: Float[Tensor, "member media"]
    shape: Float[Tensor, "member media"]
    ceiling: Float[Tensor, "member media"]


class ResponseNet(nn.Module):
    """The net of a Response. Buffers say where the media are: `place` among the known channels, `zero` in scaled units, `mean`
    the usual spend above it."""

    place: Int[Tensor, "member media"]
    zero: Float[Tensor, "member media"]
    mean: Float[Tensor, "member media"]
    anchor: Float[Tensor, "member parameter media"]

    def __init__(self, spec: Response, shape: Shape, streams: Sequence[Generator]) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        members, media = len(streams), len(spec.media)
        self.register_buffer("place", torch.arange(media).expand(members, -1).clone())
        self.register_buffer("zero", torch.zeros(members, media))
        self.register_buffer("mean", torch.ones(members, media))
        # An ensemble's members start at draws of the prior and stay anchored there; a single net at its middle.
        drawn = torch.stack([torch.randn(4, media, generator=s) for s in streams]) if members > 1 else torch.zeros(1, 4, media)
        self.register_buffer("anchor", drawn)
        self.raw = nn.Parameter(drawn.clone())  # carry, half, shape, ceiling in deviations of the prior
        plain, clocked = shape.known - shape.clocked, shape.clocked
        self.base = nn.Parameter(torch.zeros(members, plain + clocked + clocked * (clocked + 1) // 2))
        self.intercept = nn.Parameter(torch.zeros(members, 1))
        self.memory = nn.Parameter(torch.zeros(members, 3))  # of the level: share taken, decay back, decay ahead
        self.offset = nn.Parameter(torch.zeros(members, shape.horizon, shape.levels))

    def curve(self) -> Curve:
        """The media's parameters as they act."""
        carry, half, shape, ceiling = (raw * width for raw, width in zip(self.raw.unbind(1), WIDTH, strict=True))
        steep = LEAST + (STEEPEST - LEAST) * torch.sigmoid(shape + MIDDLE)
        return Curve(LONGEST * torch.sigmoid(carry), self.mean * torch.exp(half), steep, torch.exp(ceiling) * USUAL)

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: object = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """The forecast in scaled space; the point never falls where a medium's spend rises."""
        cut = self.shape.context
        known = torch.cat([past[..., self.shape.features - self.shape.known :], future], 2)
        line = self.expected(known)
        missed = (past[..., 0] - line[:, :, :cut]).where(observed[..., 0], 0)
        point = line[:, :, cut:] + self.level(missed, observed[..., 0])
        return torch.cat([point[..., None], point[..., None] + self.offset[:, None]], -1)[..., None, :]

    def expected(self, known: Float[Tensor, "member example time known"]) -> Float[Tensor, "member example time"]:
        """Base and media: what is expected of each step before the level of the context is known."""
        return self.foundation(known) + self.effects(known).sum(-1)

    def effects(self, known: Float[Tensor, "member example time known"]) -> Float[Tensor, "member example time media"]:
        """What each medium adds at each step."""
        curve = Curve(*(p[:, None, None] for p in self.curve()))
        spend = (known[..., self.place[0]] - self.zero[:, None, None]).clamp(min=0) + TINY
        carried = torch.einsum("mexc,mtxc->metc", spend, self.lags(known.shape[2]))
        return curve.ceiling * (_hill(carried, curve) - _hill(torch.full_like(curve.half, TINY), curve))

    def lags(self, time: int) -> Float[Tensor, "member time source media"]:
        """(1 − carry) carryᵏ at k = time − source ≥ 0; what lies before the first step is taken to be as the first."""
        carry = self.curve().carry[:, None, None]
        lag = torch.arange(time)[:, None] - torch.arange(time)
        faded = (lag.clamp(min=0)[..., None] * carry.clamp(min=TINY).log()).exp()  # carryᵏ, without the costly gradient of a power
        weight = torch.where(lag[..., None] >= 0, (1 - carry) * faded, 0.0)
        before = carry ** (torch.arange(time)[:, None, None] + 1.0)
        return torch.cat([weight[:, :, :1] + before, weight[:, :, 1:]], 2)

    def foundation(self, known: Float[Tensor, "member example time known"]) -> Float[Tensor, "member example time"]:
        """The base: what is not media."""
        clocked = known[..., self.shape.known - self.shape.clocked :]
        rows, columns = torch.triu_indices(self.shape.clocked, self.shape.clocked)
        told = torch.cat([known, clocked[..., rows] * clocked[..., columns]], -1)
        weight = self.base.clone()
        weight[:, self.place[0]] = 0.0
        return torch.einsum("metk,mk->met", told, weight) + self.intercept[:, None]

    def level(
        self, missed: Float[Tensor, "member example context"], observed: Bool[Tensor, "member example context"]
    ) -> Float[Tensor, "member example horizon"]:
        """How far the context lay above base and media, recent steps first, fading ahead."""
        share, back, ahead = torch.sigmoid(self.memory)[:, None].unbind(-1)
        weight = back[..., None] ** torch.arange(self.shape.context - 1, -1, -1) * observed
        mean = (missed * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp(min=1e-6)
        fade: Tensor = (0.9 + 0.1 * ahead[..., None]) ** torch.arange(1, self.shape.horizon + 1)
        return share[..., None] * mean * fade

    def penalty(self) -> Float[Tensor, " member"]:
        """`prior` × squared deviations of the media's parameters from their anchors, and `shrink` × the base's squares."""
        held: Tensor = self.spec.prior * (self.raw - self.anchor).square().sum((1, 2)) + self.spec.shrink * self.base.square().sum(1)
        return held


def _hill(carried: Tensor, curve: Curve) -> Tensor:
    """ratio / (1 + ratio) for ratio = (carried / half)^shape: the sigmoid of its logarithm, which costs half as much as the power."""
    return torch.sigmoid(curve.shape * (carried.log() - curve.half.log()))
