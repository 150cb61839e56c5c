"""Scoring: from a method's errors to one score a row and one a channel, by constants frozen on normal rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..errors import TaskError
from ..spec import Spec
from .critic import CriticScale, critic_score
from .dtw import dtw
from .errors import area, point, rolled_max, rolled_mean
from .method import Method, Said
from .preparation import Prepared, Ready

Line = Float[Tensor, " time"]
Rows = Float[Tensor, "time channel"]
TOP = 5  # channels that an incident usually shows in
QUANTILE = 0.99  # of normal errors: the unit in which errors are counted
LEAST = 1e-6  # in units of the scale: below this a channel's usual error is rounding


class Scoring(Spec):
    """How errors become a score. `error`: by "point", by the "area" between seen and expected over `span` rows, or by "dtw" over them.

    Errors are counted in each channel's own usual largest (99 % of held-out normal rows). A row's score is the mean of its `top`
    largest channels (None: 5, but 1 where sensors stand in groups, for there a fault is one sensor's); then the largest over
    `reach` rows and the mean over `smooth` rows. With `look` "centred" both look as far ahead as behind, and a row's score comes
    `delay` rows late; "causal" looks behind only. Overlapping windows are brought together by `unroll`; a critic joins by
    `combine`: product, weighted sum (`weight` of the critic), errors alone, critic alone.
    """

    error: Literal["point", "area", "dtw"] = "point"
    span: int = Field(default=10, ge=2)
    top: int | None = Field(default=None, ge=1)
    reach: int = Field(default=9, ge=1)
    smooth: int = Field(default=15, ge=1)
    look: Literal["centred", "causal"] = "centred"
    unroll: Literal["median", "mean", "last"] = "median"
    combine: Literal["mult", "sum", "rec", "critic"] = "mult"
    weight: float = Field(default=0.5, ge=0, le=1)

    def sides(self, rows: int) -> tuple[int, int]:
        """Rows behind and ahead of a span of so many."""
        return (rows - 1, 0) if self.look == "causal" else (rows // 2, rows - 1 - rows // 2)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(behind, ahead) of every stage of the score."""
        stages = (self.reach, self.smooth) if self.error == "point" else (self.span, self.reach, self.smooth)
        return tuple(self.sides(rows) for rows in stages)


class Judged(NamedTuple):
    """A part's say of a run: score of each row, of each row and channel, what it expected in scaled features, the critic's score."""

    row: Line
    channel: Rows
    expected: Float[Tensor, "time feature"] | None
    critic: Line | None


@dataclass(frozen=True, eq=False)
class DetectorPart:
    """A fitted method and its constants: usual largest error of each variable and channel, and of a whole row; with a critic the mean
    and deviation of the rows' errors and the critic's centre and width; `weight` among the parts."""

    method: Method
    width: Float[Tensor, " variable"]
    channel_width: Float[Tensor, " channel"]
    level: float = 1.0
    usual: tuple[float, float] | None = None
    critic: tuple[float, float] | None = None
    weight: float = 1.0


class Measured(NamedTuple):
    """Errors in scaled units: of the variables, of the channels, of the whole row (NaN where only variables count)."""

    variable: Float[Tensor, "time variable"]
    channel: Rows
    said: Said
    expected: Float[Tensor, "time feature"] | None


def measure(method: Method, prepared: Prepared, ready: Ready, how: Scoring) -> Measured:
    """A method's errors of one run, carried back to the channels."""
    said = method.at(ready.first).say(ready.x)
    expected = None if said.expected is None else prepared.back_to_features(said.expected)
    if len(prepared.axes) == 0:
        variable = feature = _sized(said.error, ready.x, said.expected, how).masked_fill(ready.missing, torch.nan)
    else:  # what the components leave out counts for the channels too
        variable = _sized(said.error, ready.x, said.expected, how)
        rest = prepared.back_to_features(said.error) if expected is None else ready.features - expected
        feature = _sized(rest, ready.features, expected, how).masked_fill(ready.missing, torch.nan)
    return Measured(variable, _owned(feature, prepared.owner), said, expected)


def _sized(error: Rows, seen: Rows, expected: Rows | None, how: Scoring) -> Rows:
    if how.error == "point":
        return point(error)
    if expected is None:
        raise TaskError(f'error="{how.error}" compares with an expected course, which this method does not give: use error="point"')
    return area(error, *how.sides(how.span)) if how.error == "area" else dtw(seen, expected, *how.sides(how.span))


def _owned(feature: Float[Tensor, "time feature"], owner: Int[Tensor, " feature"]) -> Rows:
    """The largest error among each channel's features."""
    if len(owner) == int(owner.max()) + 1:
        return feature
    blocks = feature.unflatten(1, (-1, int(owner.max()) + 1))
    known = torch.where(blocks.isnan(), -torch.inf, blocks).amax(1)
    return torch.where(known.isinf(), torch.nan, known)


def judge(part: DetectorPart, found: Measured, how: Scoring, observed: Tensor) -> Judged:
    """Errors in units of the part's constants; rows in which nothing was observed are not judged."""
    channel = found.channel / part.channel_width
    if found.said.whole is not None:
        row = found.said.whole
    elif part.method.norm:
        row = found.variable.square().nansum(1).sqrt().masked_fill(found.variable.isnan().all(1), torch.nan)
    else:
        row = top_mean(found.variable / part.width, how.top or TOP)
    blank = ~observed
    row, channel = row.masked_fill(blank, torch.nan), channel.masked_fill(blank[:, None], torch.nan)
    row = _spanned(row[:, None], how)[:, 0]
    if part.usual and part.critic and found.said.critic is not None:
        row = combined(row, found.said.critic, part.usual, CriticScale(*part.critic), how)
    return Judged(row.masked_fill(blank, torch.nan), _spanned(channel, how), found.expected, found.said.critic)


def combined(row: Line, modes: Line, usual: tuple[float, float], scale: CriticScale, how: Scoring) -> Line:
    """Errors and the critic as one score, both counted from what is usual on normal rows: r = max(z, 0) + 1 and c = |z| + 1.

    "mult" r · c, "sum" (1 − weight)(r − 1) + weight (c − 1), "rec" r, "critic" c. TadGAN, arXiv:2009.07769, section IV-C, whose
    normalisation by the scored run is replaced by frozen constants.
    """
    rec = ((row - usual[0]) / usual[1]).clamp(min=0) + 1
    critic = rolled_mean(critic_score(modes, scale)[:, None], *how.sides(how.smooth))[:, 0]
    match how.combine:
        case "mult":
            return rec * critic
        case "sum":
            return (1 - how.weight) * (rec - 1) + how.weight * (critic - 1)
        case "rec":
            return rec
    return critic


def with_critic(part: DetectorPart, judged: Sequence[Judged]) -> DetectorPart:
    """The part with the constants that `combined` needs, from held-out normal rows."""
    rows = torch.cat([j.row for j in judged])
    seen = rows[~rows.isnan()]
    scale = CriticScale.of([j.critic for j in judged if j.critic is not None])
    return replace(part, usual=(float(seen.mean()), max(float(seen.std(correction=0)), LEAST)), critic=(scale.centre, scale.width))


def top_mean(x: Rows, count: int) -> Line:
    """Mean of the largest `count` of each row; NaN is passed over."""
    count = min(count, x.shape[1])
    known = torch.where(x.isnan(), -torch.inf, x).topk(count, 1).values
    there = ~known.isinf() | (known > 0)
    return torch.where(there.any(1), torch.where(there, known, 0.0).sum(1) / there.sum(1), torch.nan)


def _spanned(x: Rows, how: Scoring) -> Rows:
    return rolled_mean(rolled_max(x, *how.sides(how.reach)), *how.sides(how.smooth))


def widths(found: Sequence[Measured], prepared: Prepared) -> tuple[Float[Tensor, " variable"], Float[Tensor, " channel"]]:
    """Usual largest error of each variable and of each channel on held-out normal rows. A group has one for all its channels: that of
    whichever stands out most in a row, so that one cell among many is not lost, nor every row in which one of many is a little off."""
    variable = _usual(torch.cat([m.variable for m in found]))
    channel = _usual(torch.cat([m.channel for m in found]))
    for group in prepared.groups:
        at = torch.tensor(group.members)
        pooled = float(_usual(torch.cat([_largest(m.channel[:, at]) for m in found])))
        channel[at] = pooled
        if not len(prepared.axes):
            variable[torch.isin(prepared.owner, at)] = pooled
    return variable, channel


def _largest(errors: Rows) -> Float[Tensor, "time 1"]:
    """The largest of each row; NaN where none is known."""
    top = torch.where(errors.isnan(), -torch.inf, errors).amax(1, keepdim=True)
    return torch.where(top.isinf(), torch.nan, top)


def _usual(errors: Rows) -> Float[Tensor, " channel"]:
    ordered = torch.where(errors.isnan(), torch.inf, errors).sort(0).values
    count = (~errors.isnan()).sum(0)
    high = ordered.gather(0, ((count - 1).clamp(min=0) * QUANTILE).round().long()[None])[0]
    square = (errors.square().nansum(0) / count.clamp(min=1)).sqrt()
    # A channel that hardly ever moves has a quantile of 0; its mean square does not.
    return torch.where(count > 0, torch.maximum(high, square), 1.0).clamp(min=LEAST)


def levelled(part: DetectorPart, rows: Sequence[Float[Tensor, " _"]]) -> DetectorPart:
    """The part with the usual largest row score on normal rows as its unit, so that parts can be added."""
    every = torch.cat(list(rows))
    return replace(part, level=float(_usual(every[:, None])[0]))


def together(parts: Sequence[DetectorPart], judged: Sequence[Judged]) -> tuple[Line, Rows]:
    """The parts' weighted mean, of rows and of channels; a part that cannot judge a row is left out there."""
    weight = torch.tensor([p.weight for p in parts], dtype=torch.float64)
    rows = torch.stack([j.row / p.level for p, j in zip(parts, judged, strict=True)])
    channels = torch.stack([j.channel for j in judged])
    return _weighted(rows, weight[:, None]), _weighted(channels, weight[:, None, None])


def _weighted(x: Tensor, weight: Tensor) -> Tensor:
    weight = torch.where(x.isnan(), 0.0, weight.expand_as(x))
    total = weight.sum(0)
    return torch.where(total > 0, (torch.where(x.isnan(), 0.0, x) * weight).sum(0) / total.clamp(min=1e-12), torch.nan)
