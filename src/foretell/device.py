"""Device: where the arithmetic runs, and how the processor treats numbers too small to matter."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import TaskError, nearest


@contextmanager
def flushed() -> Iterator[None]:
    """Numbers below 1e-38 become 0 inside: gradients that decay through time do not slow the processor down.

    Set for this thread and for those that it starts later; torch's pool keeps what it was started with. The state
    before is restored. Nothing happens on processors without the setting.
    """
    before = float(torch.tensor(2.0**-126) / 2) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def pick_device(name: str) -> torch.device:
    """ "auto" (a CUDA card if there is one), "cpu", "cuda" or "cuda:1"."""
    cards = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return torch.device("cuda" if cards else "cpu")
    valid = ["auto", "cpu", *(["cuda"] if cards else []), *cards]
    if name not in valid:
        raise TaskError(f'no device "{name}" on this machine: {nearest(name, valid)}')
    return torch.device(name)
