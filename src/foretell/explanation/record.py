"""Record: a forecast as named components in units that add up, and beside them what the net itself weighs them with."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attribution.deeplift import deeplift
from ..attribution.gradients import integrated_gradients
from ..attribution.types import Attribution, Labels
from ..nets.period_kernel import PeriodKernelNet
from ..task import Batch
from .asked import Asked, Of, scalar
from .look import Named, bank, core, finished, periods, shown
from .maps import cam
from .parts import named_channels, own_parts
from .weights import of_kernels

LARGE = 0.05  # share of the change left unexplained from which another method is asked


def record(asked: Asked) -> Attribution:
    """base + Σ `components` + residual = forecast: the target's recent level, the same time of earlier seasons, the rest of its past, and
    every other channel, past and future together, signed and in units.

    Beside them `in time`, what each step of the past adds, all channels together. Of a PeriodKernel also each period's
    `strength` as the net has learned it (it begins as the period's signal-to-noise ratio) and its softmax `share`, the
    softmax weight of every `auxiliary` channel in this window, and what each filter adds (`filters`: its map times the mean slope
    over it, to first order). A weight says how much is let in, not what it does: a channel of great weight may add nothing.
    """
    steps: Of = "band" if asked.of == "band" else "step"
    every = replace(asked, of=steps, f=scalar(asked.whole, asked.blocks, steps, asked.place))
    why = deeplift(every.f, every.blocks, every.against)
    if why.gap > LARGE:
        why = min((why, integrated_gradients(every.f, every.blocks, every.against)), key=lambda one: one.gap)
    why = replace(why, labels=replace(asked.labels, outputs=()), facts={"season": float(asked.season)})
    parts = own_parts(why) | named_channels(why, without=asked.fixed)
    told = {name: chosen(asked, value) for name, value in parts.items()}
    time = chosen(asked, why.values["past"].sum(-1).mT).mT[..., None]
    more, names = of_bank(asked) if isinstance(core(asked.model.module), PeriodKernelNet) else ({}, {})
    beside = finished(asked, {"in time": time, **more}, {}, "components")
    return replace(
        why,
        values={"components": torch.stack(list(told.values()), -1)[:, :, None]},
        prediction=chosen(asked, why.prediction),
        base=chosen(asked, why.base),
        method="components",
        labels=Labels(channels={"components": tuple(told), "in time": ("all channels",), **names}),
        beside=beside.values,
    )


def chosen(asked: Asked, values: Float[Tensor, "example *rest output"]) -> Tensor:
    """Of what each step got, what is asked for: every step, their sum, or the highest step's."""
    if asked.of == "total":
        return values.sum(-1, keepdim=True)
    if asked.of == "peak":
        with torch.no_grad():
            top = asked.whole(asked.blocks)[:, :, asked.place, 0].argmax(1)
        place = top.view(-1, *(1 for _ in values.shape[1:])).expand(*values.shape[:-1], 1)
        return values.gather(-1, place)
    return values


def of_bank(asked: Asked) -> Named:
    """The kernel bank's part of the record."""

    def strength(module: nn.Module, batch: Batch) -> Tensor:
        return bank(module).strength[:, None, None].expand(-1, batch.past.shape[1], -1, -1)

    blocks, names = of_kernels(asked)
    filters = cam(asked)
    kept = {"strength": shown(asked, strength), "filters": filters.values["filters"].sum(-2, keepdim=True)}
    told = {"strength": periods(asked), "filters": filters.channels("filters")}
    for name in (name for name in ("share", "auxiliary") if name in blocks):
        kept[name], told[name] = blocks[name], names[name]
    return kept, told
