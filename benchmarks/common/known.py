"""Data and nets of which it is known what matters, by generators of our own after the published recipes.

Rare-Time and Rare-Feature: Crabbé, van der Schaar (2021), Dynamask, arXiv 2106.05303, §4.1. State and Switch-Feature: Tonekaboni et
al. (2020), FIT, arXiv 2003.02821, §5; as run by Jang et al. (2025), TIMING, arXiv 2506.05035. The forecasting suite is our own.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foretell.attribution.types import Blocks, Map


class Suite(NamedTuple):
    """Windows of the forecasting suite, what comes next, what each cell truly adds to it against `mean`, the channels' means."""

    x: Tensor
    y: Tensor
    truth: Tensor
    mean: Tensor


def driven(count: int, seed: int, *, length: int = 28, stride: int = 1, mean: Tensor | None = None) -> Suite:
    """y[t+1] = .55 y[t−6] + .3 y[t] − .9 price[t] + 1.2 event[t] + .5 price[t]·event[t] + noise; true contributions against `mean`
    (left out: that of these windows), the product shared by halves."""
    draw = np.random.default_rng(seed)
    steps = count * stride + length + 60
    price = np.zeros(steps)
    for t in range(1, steps):
        price[t] = 0.8 * price[t - 1] + 0.6 * draw.normal()
    event = (draw.random(steps) < 0.2).astype(float)
    y = np.zeros(steps)
    for t in range(6, steps - 1):
        y[t + 1] = 0.55 * y[t - 6] + 0.3 * y[t] - 0.9 * price[t] + 1.2 * event[t] + 0.5 * price[t] * event[t] + 0.1 * draw.normal()
    rows = 50 + stride * np.arange(count)
    window = np.stack([np.stack([v[r - length + 1 : r + 1] for r in rows]) for v in (y, price, event)], -1)
    usual = window.mean((0, 1)) if mean is None else mean.double().numpy()
    last, change = window[:, -1], window[:, -1] - usual
    truth = np.zeros_like(window)
    truth[:, -7, 0] = 0.55 * (window[:, -7, 0] - usual[0])
    truth[:, -1, 0] = 0.3 * change[:, 0]
    truth[:, -1, 1] = -0.9 * change[:, 1] + 0.5 * change[:, 1] * (last[:, 2] + usual[2]) / 2
    truth[:, -1, 2] = 1.2 * change[:, 2] + 0.5 * change[:, 2] * (last[:, 1] + usual[1]) / 2
    return Suite(*(torch.tensor(v, dtype=torch.float32) for v in (window, y[rows + 1][:, None], truth, usual)))


class Lstm(nn.Module):
    def __init__(self, outputs: int = 1, channels: int = 3, hidden: int = 32) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(channels, hidden, batch_first=True), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x)[0][:, -1])
        return out


class Conv(nn.Module):
    def __init__(self, outputs: int = 1, channels: int = 3, steps: int = 28) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(channels, 32, 7, padding=3), nn.Conv1d(32, 32, 7, padding=3)
        self.head = nn.Linear(32 * steps, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.two(F.relu(self.one(x.mT)))).flatten(1))
        return out


class Attending(nn.Module):
    def __init__(self, outputs: int = 1, channels: int = 3, steps: int = 28) -> None:
        super().__init__()
        self.into, self.place = nn.Linear(channels, 32), nn.Parameter(torch.randn(steps, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self.into(x) + self.place)[:, -1])
        return out


def rare(kind: str, seed: int) -> tuple[Map, Tensor, Tensor]:
    """ARMA white box: the sum of squares over the salient cells; 5 of 50 steps (or channels) are."""
    draw = np.random.default_rng(seed)
    x = np.zeros((10, 50, 50))
    noise = draw.normal(size=x.shape)
    for t in range(2, 50):
        x[:, t] = 0.25 * x[:, t - 1] + 0.1 * x[:, t - 2] + 0.05 * noise[:, t - 1] + noise[:, t]
    mark = np.zeros((10, 50, 50), dtype=bool)
    for one in range(10):
        start = draw.integers(10, 30)
        picks = draw.choice(40, 5, replace=False) + 5
        if kind == "Rare-Time":
            mark[one, start : start + 5, 12:38] = True
        else:
            mark[one, 12:38, picks] = True
    cells_ = torch.tensor(mark)
    weight = cells_.double()

    def f(blocks: Blocks) -> Tensor:
        copies = len(blocks["x"]) // 10
        return (blocks["x"].square() * weight.repeat(copies, 1, 1)).sum((1, 2))[:, None]

    return f, torch.tensor(x), cells_


def hidden_states(count: int, seed: int, steps: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Two hidden states, three correlated channels; in state 0 the second channel decides the label, in state 1 the third."""
    draw = np.random.default_rng(seed)
    means = np.array([[0.1, 1.6, 0.5], [-0.1, -0.4, -1.5]])
    covariances = np.array([[[0.8, 0, 0], [0, 0.8, 0.01], [0, 0.01, 0.8]], [[0.8, 0.01, 0], [0.01, 0.8, 0], [0, 0, 0.8]]])
    x, label, mark = np.zeros((count, steps, 3)), np.zeros((count, steps)), np.zeros((count, steps, 3), dtype=bool)
    state = draw.integers(0, 2, count)
    root = np.linalg.cholesky(covariances)
    for t in range(steps):
        state = np.where(draw.random(count) < 0.1, 1 - state, state)
        x[:, t] = means[state] + np.einsum("nij,nj->ni", root[state], draw.normal(size=(count, 3)))
        chosen = np.where(state == 0, x[:, t, 1], x[:, t, 2])
        label[:, t] = draw.random(count) < 1 / (1 + np.exp(-2 * chosen))
        mark[np.arange(count), t, 1 + state] = True
    return torch.tensor(x, dtype=torch.float32), torch.tensor(label, dtype=torch.float32), torch.tensor(mark)


def switching(count: int, seed: int, steps: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    """Three hidden states, three channels that are Gaussian processes about the state's means; in state k channel k decides the label."""
    draw = np.random.default_rng(seed)
    means = np.array([[0.8, -0.5, -0.2], [0.0, -1.0, 0.0], [-0.2, -0.2, 0.8]])
    apart = np.arange(steps)[:, None] - np.arange(steps)
    # Covariance 0.1 · exp(−0.2 (t − s)²), drawn through its root in place of the TimeSynth package that the published set-up uses.
    root = np.linalg.cholesky(0.1 * np.exp(-0.2 * apart**2) + 1e-8 * np.eye(steps))
    state = np.zeros((count, steps), dtype=int)
    state[:, 0] = draw.integers(0, 3, count)
    for t in range(1, steps):
        other = (state[:, t - 1] + draw.integers(1, 3, count)) % 3
        state[:, t] = np.where(draw.random(count) < 0.05, other, state[:, t - 1])
    x = means[state] + np.einsum("ts,nsc->ntc", root, draw.normal(size=(count, steps, 3)))
    chosen = np.take_along_axis(x, state[..., None], 2)[..., 0]
    label = draw.random((count, steps)) < 1 / (1 + np.exp(-2 * chosen))
    mark = np.eye(3, dtype=bool)[state]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(label, dtype=torch.float32), torch.tensor(mark)


def trained(net: nn.Module, data: Suite, epochs: int, rate: float) -> nn.Module:
    """Adam with a falling rate on all windows."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for at in torch.randperm(len(data.x)).split(128):
            optimizer.zero_grad()
            F.mse_loss(net(data.x[at]), data.y[at]).backward()
            optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def labelled(net: nn.Module, x: Tensor, label: Tensor, *, epochs: int, rate: float = 4e-3) -> Any:
    """The same for a net that says log odds of each step's label."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for at in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(net(x[at]), label[at]).backward()
            optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)
