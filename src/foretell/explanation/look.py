"""Look: a fitted net asked something else than its forecast, on the very windows that the forecast is made of."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from ..attribution.types import Attribution, Kind, Labels
from ..forecaster import Forecaster
from ..function import Forward, Function
from ..nets.period_kernel import PeriodKernelNet
from ..nets.residual import Residual
from ..task import Batch
from .asked import Asked

Look = Callable[[nn.Module, Batch], Tensor]  # → [member, example, ...]
Named = tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]  # blocks and the names of their channels


class Seen(nn.Module):
    """A fitted net that is asked something else than its forecast."""

    def __init__(self, inner: nn.Module, look: Look) -> None:
        super().__init__()
        self.inner, self.look = inner, look

    def forward(self, past: Tensor, observed: Tensor, future: Tensor, static: Tensor) -> Tensor:
        """What `look` makes of the net and [member, example, ...] inputs in scaled space."""
        blank = past.new_zeros(*past.shape[:2], 0)
        return self.look(self.inner, Batch(past, observed, future, static, blank, blank.bool()))


def within(model: Forecaster, whole: Function, look: Look, weights: Mapping[str, Tensor] | None = None) -> Forward:
    """`look` in place of the net's forward, with other weights if given: [example, ...], the mean over an ensemble's members."""
    place = torch.tensor([model.series.index(s) if s in model.series else 0 for s in whole.names])
    held = dict(weights or model.weights)
    device = next(iter(held.values())).device
    asked = Seen(model.module, look)

    def forward(batch: Batch, series: Tensor, origin: Tensor, copies: int) -> Tensor:
        own = {f"inner.{name}": w[place] if model.per_series else w for name, w in held.items()}
        apart = [x[:, None] if model.per_series else x.expand(len(model.members), *x.shape) for x in batch[:4]]
        out: Tensor = functional_call(asked, own, tuple(x.to(device) for x in apart))
        return (out[:, 0] if model.per_series else out.mean(0)).cpu()

    return forward


def shown(asked: Asked, look: Look) -> Float[Tensor, "example *rest"]:
    """What `look` sees while the net reads the windows."""
    kept: list[Batch] = []

    def keep(batch: Batch, series: Tensor, origin: Tensor, copies: int) -> Tensor:
        kept.append(batch)
        return batch.past.new_zeros(len(batch.past), asked.whole.source.horizon, 1, 1)

    with torch.no_grad():
        replace(asked.whole, forward=keep).output(asked.blocks)
        return within(asked.model, asked.whole, look)(kept[0], asked.whole.series, asked.whole.origin, 1)


def core(net: nn.Module) -> nn.Module:
    """The net that stands on a ridge, or the net itself."""
    return net.net if isinstance(net, Residual) else net


def finished(asked: Asked, blocks: Mapping[str, Tensor], channels: Mapping[str, tuple[str, ...]], method: str, kind: Kind = "weight") -> Attribution:
    """Blocks [example, step, channel] are the same for every output; [example, output, step, channel] are not."""
    with torch.no_grad():
        here = asked.f(asked.blocks)
    values = {b: x if x.ndim == 4 else x[:, None].expand(-1, here.shape[1], -1, -1) for b, x in blocks.items()}
    values = {b: x.expand(-1, here.shape[1], -1, -1) for b, x in values.items()}
    return Attribution(values, here, torch.full_like(here, torch.nan), kind, method, labels=Labels(channels=channels))


def bank(module: nn.Module) -> PeriodKernelNet:
    net = core(module)
    assert isinstance(net, PeriodKernelNet)
    return net


def periods(asked: Asked) -> tuple[str, ...]:
    """A place of the bank by its length, where all members have the same; by its number where they differ."""
    length = shown(asked, lambda m, b: bank(m).length[:, None].expand(-1, b.past.shape[1], -1).double())
    every = asked.model.weights[("net." if isinstance(asked.model.module, Residual) else "") + "length"]
    same = [bool((row == row[0]).all()) and int(row[0]) > 0 for row in every.T]
    return tuple(f"period {int(length[0, at])}" if one else f"period no. {at + 1}" for at, one in enumerate(same))
