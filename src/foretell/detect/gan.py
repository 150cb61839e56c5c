"""A TadGAN as the inside of a detector: what it rebuilds of a run, and what its critic makes of every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from ..nets.tadgan import TadGAN, TadGANNet
from ..train import Curves, Training
from .adversarial import TrainedGAN, train_gan
from .critic import critic_modes
from .errors import Unroll, unrolled
from .features import window_starts
from .method import Method, Piece, Said, X

BATCH = 1024  # windows rebuilt at once


@final
@dataclass(frozen=True, eq=False)
class TadGANFit(Method):
    """The trained networks; `unroll` says how the windows that hold a row are brought together: "last" looks behind only."""

    spec: TadGAN
    channels: int
    weights: Mapping[str, Tensor]
    unroll: Unroll

    @property
    def back(self) -> int:
        return self.spec.window - 1

    @property
    def ahead(self) -> int:
        return 0 if self.unroll == "last" else self.spec.window - 1

    @cached_property
    def net(self) -> TadGANNet:
        """The net with these weights."""
        module = self.spec.build(self.channels, [torch.Generator()])
        module.load_state_dict(dict(self.weights))
        return module.train(False).requires_grad_(False)

    def say(self, x: X) -> Said:
        starts = window_starts(x.isnan().any(1), self.spec.window)
        blank = torch.full_like(x, torch.nan)
        if not len(starts):
            return Said(blank, blank, critic=blank[:, 0])
        windows = x.float().unfold(0, self.spec.window, 1).movedim(1, 2)
        parts = [windows[at] for at in starts.split(BATCH)]
        rebuilt = torch.cat([self.net.reconstruct(part) for part in parts]).double()
        values = torch.full((len(x) - self.spec.window + 1,), torch.nan, dtype=torch.float64)
        values[starts] = torch.cat([self.net.critic(part) for part in parts]).double()
        expected = unrolled(rebuilt, starts, len(x), self.unroll)
        ending = torch.cat([blank[: self.spec.window - 1, 0], values])
        return Said(x - expected, expected, critic=ending if self.unroll == "last" else critic_modes(values, self.spec.window))


def fit_gan(spec: TadGAN, runs: Sequence[Piece], training: Training, unroll: Unroll, checkpoint: Path | None = None) -> tuple[TadGANFit, Curves]:
    """Trained on every window of the runs [time, variable] that touches no missing row."""
    starts = [torch.stack([torch.full_like(one, at), one], 1) for at, x in enumerate(runs) for one in [window_starts(x.isnan().any(1), spec.window)]]
    clean: list[Float[Tensor, "_ variable"]] = [torch.nan_to_num(x).float() for x in runs]
    trained: TrainedGAN = train_gan(spec, clean, torch.cat(starts), training, checkpoint=checkpoint)
    return TadGANFit(spec, trained.channels, dict(trained.weights), unroll), trained.curves
