"""The slow, obvious twins of adversarial training, of the critic's score and of dynamic time warping."""

import math
import statistics

import torch
from scipy.stats import gaussian_kde
from torch import Tensor

from foretell.nets.critic import Critic
from foretell.nets.tadgan import TadGANNet


class Written:
    """Noise that hands out masks written down before, in their order."""

    def __init__(self, masks: list[Tensor]) -> None:
        self.masks = list(masks)

    def keep(self, shape: tuple[int, ...], rate: float) -> Tensor:
        mask = self.masks.pop(0)
        assert tuple(mask.shape[1:]) == shape
        return mask


def critic_loss(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor, masks: list[Tensor], share: Tensor, penalty: float) -> Tensor:
    """WGAN-GP of one member as its paper writes it, with a second derivative; x[member, example, time, feature]."""
    count = real.shape[1]
    part = [[mask[:, :, at * count : at * count + count] for mask in masks] for at in range(3)]
    mixed = (mix[..., None, None] * real + (1 - mix[..., None, None]) * fake).requires_grad_()
    scores = [critic(x, Written(own)) for x, own in zip((real, fake, mixed), part, strict=True)]
    slope = torch.autograd.grad(scores[2].sum(), mixed, create_graph=True)[0]
    length = (slope.square().sum((2, 3)) + 1e-8).sqrt()
    return (share * (scores[1] - scores[0] + penalty * (length - 1) ** 2)).sum(1)


def maker_loss(net: TadGANNet, x: Tensor, z: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What the critics say against made windows and codes, and the squared error; dropout's masks in the order they are drawn."""
    noise = Written(masks)
    code = net.encoder(x)
    made, rebuilt = net.generator(torch.cat([z, code], 1), noise).chunk(2, 1)
    against = -net.critic_x(made, noise).mean(1) - net.critic_z(code[:, :, None], noise).mean(1)
    return against, (rebuilt - x).square().mean((1, 2, 3))


def warped(seen: list[float], expected: list[float]) -> float:
    """Dynamic time warping of two courses, cell by cell."""
    table = [[math.inf] * (len(expected) + 1) for _ in range(len(seen) + 1)]
    table[0][0] = 0.0
    for i, a in enumerate(seen, 1):
        for j, b in enumerate(expected, 1):
            table[i][j] = (a - b) ** 2 + min(table[i - 1][j], table[i][j - 1], table[i - 1][j - 1])
    return math.sqrt(table[-1][-1])


def warped_around(seen: list[float], expected: list[float], row: int, behind: int, ahead: int) -> float:
    """That of the rows −behind … +ahead of one row; 0 beyond the ends."""
    rows = range(row - behind, row + ahead + 1)
    return warped(*([one[at] if 0 <= at < len(one) else 0.0 for at in rows] for one in (seen, expected)))


def likeliest(values: list[float]) -> float:
    """The value at which scipy's Gaussian kernel density of them all is highest."""
    if len(set(values)) < 2:
        return statistics.median(values)
    return values[int(gaussian_kde(values)(values).argmax())]
