"""Critic: a piecewise linear score of an example, and the gradient of its Wasserstein loss with penalty, written out.

Inside, examples stand behind time, [member, time, example, feature]: a convolution is then one matrix product a tap, each on an
unbroken run of memory. A critic of vectors is a critic of one step.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from .layers import Noise, Row, Sequences, uniform

SLOPE = 0.2  # of LeakyReLU below 0
SAFE = 1e-8  # added to the squared norm: a root has no slope at 0

Inside = Float[Tensor, "member time example feature"]
_bent = torch.ops.aten.leaky_relu_backward  # (a, x, slope, _) -> a where x > 0, else slope · a


class Critic(nn.Module):
    """Convolutions, each followed by LeakyReLU and dropout, then one number: the more, the more real. Parameters:
    `weights.<i>` [member, tap, in, out] as Keras keeps them, `biases.<i>`, `head` [member, time, feature], `shift`."""

    def __init__(self, streams: Sequence[Generator], steps: int, widths: Sequence[int], kernel: int, rate: float) -> None:
        super().__init__()
        self.weights = nn.ParameterList(uniform(streams, kernel, a, b, fan=kernel * a) for a, b in pairwise(widths))
        self.biases = nn.ParameterList(uniform(streams, b, fan=kernel * a) for a, b in pairwise(widths))
        self.left = [steps - place * (kernel - 1) for place in range(1, len(widths))]
        self.head = uniform(streams, self.left[-1], widths[-1], fan=self.left[-1] * widths[-1])
        self.shift = uniform(streams, fan=self.left[-1] * widths[-1])
        self.widths, self.rate = tuple(widths[1:]), rate

    def forward(self, x: Sequences, noise: Noise | None = None) -> Float[Tensor, "member example"]:
        """The score of every example."""
        inside = x.transpose(1, 2)
        masks = [None] * len(self.left) if noise is None else self.masks(x.shape[1], noise)
        for weight, bias, mask in zip(self.weights, self.biases, masks, strict=True):
            inside = nn.functional.leaky_relu(convolved(inside, weight, bias), SLOPE)
            inside = inside if mask is None else inside * mask
        return scored(inside, self.head, self.shift)

    def masks(self, examples: int, noise: Noise) -> list[Tensor]:
        """Dropout's masks [member, time, example, feature] after every layer."""
        return [noise.keep((left, examples, width), self.rate) for left, width in zip(self.left, self.widths, strict=True)]

    def rows(self, name: str) -> list[Row]:
        """What a summary says of it."""
        sizes = [weight[0].numel() + bias[0].numel() for weight, bias in zip(self.weights, self.biases, strict=True)]
        told = [Row(f"{name} {place + 1}", (self.left[place], self.widths[place]), size) for place, size in enumerate(sizes)]
        return [*told, Row(f"{name} score", (1,), self.head[0].numel() + 1)]


def convolved(
    x: Inside, weight: Float[Tensor, "member tap feature output"], bias: Float[Tensor, "member output"] | None
) -> Float[Tensor, "member left example output"]:
    """Σ over taps of x[t + tap] · weight[tap], plus bias: whole windows only."""
    taps = weight.shape[1]
    left = x.shape[1] - taps + 1
    rows = [x[:, tap : tap + left].reshape(len(x), -1, x.shape[-1]) for tap in range(taps)]
    out = torch.bmm(rows[0], weight[:, 0]) if bias is None else torch.baddbmm(bias[:, None], rows[0], weight[:, 0])
    for tap in range(1, taps):
        out.baddbmm_(rows[tap], weight[:, tap])
    return out.view(len(x), left, x.shape[2], -1)


def spread(x: Inside, weight: Float[Tensor, "member tap output feature"]) -> Float[Tensor, "member more example output"]:
    """The transpose of `convolved`: every step hands its numbers back to the steps it was made of."""
    taps, left = weight.shape[1], x.shape[1]
    rows = x.reshape(len(x), -1, x.shape[-1])
    if taps == 1:
        return torch.bmm(rows, weight[:, 0].mT).view(*x.shape[:3], -1)
    out = x.new_empty(len(x), left + taps - 1, x.shape[2], weight.shape[2])
    out[:, left:] = 0
    for tap in range(taps):
        part = out[:, tap : tap + left].view(len(x), -1, weight.shape[2])
        part.baddbmm_(rows, weight[:, tap].mT, beta=min(tap, 1))
    return out


def scored(x: Inside, head: Float[Tensor, "member time feature"], shift: Float[Tensor, " member"]) -> Float[Tensor, "member example"]:
    """The head: every step and feature weighed, and a constant."""
    flat = x.transpose(1, 2).flatten(2)
    return torch.baddbmm(shift[:, None, None], flat, head.flatten(1)[..., None])[..., 0]


@torch.no_grad()
def wasserstein(
    weights: Mapping[str, Tensor],
    real: Inside,
    fake: Inside,
    mix: Float[Tensor, "member example"],
    masks: Sequence[Tensor],
    share: Float[Tensor, "member example"],
    penalty: float,
) -> tuple[dict[str, Tensor], Float[Tensor, " member"]]:
    """Gradient, by parameter, and value of  Σ share · (C(fake) − C(real) + penalty · (‖∇C(mixed)‖ − 1)²),  mixed being
    mix · real + (1 − mix) · fake and `share` 1 / count (0 for an example that only fills the row).

    `masks` are dropout's of every layer, for the real, the fake and the mixed examples, one after another. The loss is that of
    Improved Training of Wasserstein GANs, arXiv 1704.00028, algorithm 1, with the penalty over the whole batch.

    The critic is piecewise linear, so the gradient of its score is a product of its weights and of slopes that do not change
    with them. What the penalty asks of the weights is therefore the same product once more, with the wished change of the
    gradient sent up from below (`wish`): no second derivative is taken.
    """
    layers, share, mix = len(masks), share.to(real), mix[:, None, :, None]
    kernels = [weights[f"weights.{i}"] for i in range(layers)]
    states, slopes = [torch.cat([real, fake, mix * real + (1 - mix) * fake], 2)], list[Tensor]()
    for i in range(layers):
        before = convolved(states[-1], kernels[i], weights[f"biases.{i}"])
        slopes.append(_bent(masks[i], before, SLOPE, False))
        states.append(before.mul_(slopes[-1]))
    examples = share.shape[1]
    scores = scored(states[-1], weights["head"], weights["shift"]).unflatten(1, (3, examples))

    weigh = torch.cat([-share, share, torch.ones_like(share)], 1)[:, None, :, None]
    pulls = [slopes[-1] * (weights["head"][:, :, None] * weigh)]  # what each number before its slope adds to the loss, of mixed ones: to the score
    for i in range(layers - 1, 0, -1):
        pulls.insert(0, spread(pulls[0], kernels[i]).mul_(slopes[i - 1]))
    gradient = spread(pulls[0][:, :, 2 * examples :], kernels[0])
    norm = (gradient.square().sum((1, 3)) + SAFE).sqrt()
    wish = gradient * (2 * penalty * share * (norm - 1) / norm)[:, None, :, None]

    found = dict[str, Tensor]()
    for i in range(layers):
        states[i][:, :, 2 * examples :] = wish
        found[f"weights.{i}"] = _by_tap(states[i], pulls[i], kernels[i].shape[1])
        found[f"biases.{i}"] = pulls[i][:, :, : 2 * examples].sum((1, 2))
        wish = convolved(wish, kernels[i], None).mul_(slopes[i][:, :, 2 * examples :])
    found["head"] = (states[-1] * weigh)[:, :, : 2 * examples].sum(2) + wish.sum(2)
    found["shift"] = torch.zeros_like(weights["shift"])
    value = (share * (scores[:, 1] - scores[:, 0] + penalty * (norm - 1).square())).sum(1)
    return found, value


def _by_tap(below: Inside, above: Float[Tensor, "member left example output"], taps: int) -> Float[Tensor, "member tap feature output"]:
    """Σ over steps and examples of below[t + tap] ⊗ above[t]."""
    left = above.shape[1]
    rows = above.flatten(1, 2)
    return torch.stack([torch.bmm(below[:, tap : tap + left].flatten(1, 2).mT, rows) for tap in range(taps)], 1)
