"""Autoencoding: an LSTMAutoencoder trained to write normal windows again, by the loop and the losses of forecasting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from ..device import pick_device
from ..errors import TaskError
from ..nets.autoencoder import AutoencoderNet, LSTMAutoencoder
from ..noise import streams
from ..optim import Tensors
from ..supervised import train
from ..train import Curves, Progress, Training
from .sampling import Normal, Windows


@dataclass(frozen=True, eq=False)
class TrainedAutoencoder:
    """A trained LSTMAutoencoder: weights by name, member axis first, on the CPU; losses by epoch."""

    spec: LSTMAutoencoder
    channels: int
    weights: Tensors
    curves: Curves
    best_epoch: Int[Tensor, " member"]
    notes: tuple[str, ...]

    def net(self) -> AutoencoderNet:
        """The net with these weights."""
        head = self.weights["head.bias"]
        module = self.spec.build(self.channels, [torch.Generator() for _ in range(len(head))]).to(head.dtype)
        module.load_state_dict(self.weights)
        return module.train(False).requires_grad_(False)


def train_autoencoder(
    spec: LSTMAutoencoder,
    runs: Sequence[Tensor],
    starts: Int[Tensor, "example 2"],
    training: Training,
    *,
    checkpoint: str | Path | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> TrainedAutoencoder:
    """From scaled normal runs, each [time, channel]; `starts` holds (run, first row) of every window that may be used. Of `training`:
    epochs, batch, optimizer, loss, patience, stop (the last share of every run's windows), seed, device."""
    names = ("detector",)
    windows = Windows.of([Normal(runs, starts)], spec.window, training.stop, names)
    if not int(windows.counts.sum()):
        raise TaskError(f"no training window: every normal run is shorter than window={spec.window}, or its windows hold gaps")
    channels = windows.rows.shape[1]
    net = spec.build(channels, streams(training.seed, names)).to(pick_device(training.device), windows.rows.dtype)
    trained = train(net, windows, training, names=names, checkpoint=checkpoint, watch=watch)
    return TrainedAutoencoder(spec, channels, trained.weights, trained.curves, trained.best_epoch, trained.notes)
