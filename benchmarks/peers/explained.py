"""The nets and the window that are explained by everyone: 96 steps of 7 channels, 24 steps ahead. Needs torch alone."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS, CHANNELS, AHEAD, CALLS = 96, 7, 24, 3


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(CHANNELS, 32, 7, padding=3), nn.Conv1d(32, 32, 7, padding=3)
        self.head = nn.Linear(32 * STEPS, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.two(F.relu(self.one(x.mT)))).flatten(1))
        return out


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(CHANNELS, 64, batch_first=True), nn.Linear(64, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x)[0][:, -1])
        return out


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.place = nn.Linear(CHANNELS, 32), nn.Parameter(torch.randn(STEPS, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self.into(x) + self.place)[:, -1])
        return out


NETS: dict[str, Callable[[], nn.Module]] = {"conv": Conv, "LSTM-64": Lstm, "Transformer": Attending}


def asked(about: str | None) -> tuple[nn.Module, Tensor, Tensor, str]:
    """The net that --net names, the window, what it is compared with, and --method; the same numbers for everyone."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--net", choices=tuple(NETS), required=True)
    parser.add_argument("--method", required=True)
    said = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(2)
    x, base = torch.randn(1, STEPS, CHANNELS), torch.randn(1, STEPS, CHANNELS) * 0.2
    return NETS[said.net]().eval().requires_grad_(False), x, base, said.method


def timed(call: Callable[[], object]) -> float:
    """Median seconds of a few calls after one to warm up."""
    call()
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
