"""An LSTMAutoencoder as the inside of a detector: what it writes again of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ..nets.autoencoder import AutoencoderNet, LSTMAutoencoder
from ..train import Curves, Training
from .autoencoding import train_autoencoder
from .errors import Unroll, unrolled
from .features import window_starts
from .method import Method, Piece, Said, X

BATCH = 1024  # windows written again at once


@final
@dataclass(frozen=True, eq=False)
class AutoencoderFit(Method):
    """The trained net; `unroll` says how the windows that hold a row are brought together: "last" looks behind only."""

    spec: LSTMAutoencoder
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
    def net(self) -> AutoencoderNet:
        """The net with these weights."""
        module = self.spec.build(self.channels, [torch.Generator()])
        module.load_state_dict(dict(self.weights))
        return module.train(False).requires_grad_(False)

    def say(self, x: X) -> Said:
        """Errors of a run; NaN where no whole window holds the row."""
        starts = window_starts(x.isnan().any(1), self.spec.window)
        if not len(starts):
            blank = torch.full_like(x, torch.nan)
            return Said(blank, blank)
        windows = x.float().unfold(0, self.spec.window, 1).movedim(1, 2)
        written = torch.cat([self.net.reconstruct(windows[at]) for at in starts.split(BATCH)]).double()
        expected = unrolled(written, starts, len(x), self.unroll)
        return Said(x - expected, expected)


def fit_autoencoder(
    spec: LSTMAutoencoder, runs: Sequence[Piece], training: Training, unroll: Unroll, checkpoint: Path | None = None
) -> tuple[AutoencoderFit, Curves]:
    """Trained on every window of the runs [time, variable] that touches no missing row."""
    starts = [torch.stack([torch.full_like(one, at), one], 1) for at, x in enumerate(runs) for one in [window_starts(x.isnan().any(1), spec.window)]]
    trained = train_autoencoder(spec, [torch.nan_to_num(x).float() for x in runs], torch.cat(starts), training, checkpoint=checkpoint)
    return AutoencoderFit(spec, trained.channels, dict(trained.weights), unroll), trained.curves
