"""Weights of a net as they are: of features, kernels, media and models, and how far its gates stood open in a window."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attribution.types import Attribution
from ..mixture import Mixture
from ..nets.layers import LSTM, Shape
from ..nets.lstm_transformer import LSTMTransformerNet
from ..nets.period_kernel import PeriodKernelNet
from ..nets.residual import Residual
from ..nets.response import ResponseNet
from ..nets.ridge import RidgeNet, sampled
from ..nets.seasonal_ridge import SeasonalRidgeNet
from ..nets.stacked_lstm import StackedLSTMNet
from ..nets.window import level_of, window
from ..task import Batch
from .asked import Asked
from .look import Named, bank, core, finished, periods, shown

GATES = ("input gate", "forget gate", "output gate")


def feature_weights(asked: Asked) -> Attribution:
    """The weights as they are, in the net's scaled space. A ridge's: of each value for each step ahead, the target's past counted from
    its last value. A seasonal ridge's: of its named levels. PeriodKernel's: each period's softmax `share`, the softmax weight
    of every `auxiliary` channel in this window, and each kernel's length over its filters, tap by tap. An LSTM's: the length of
    the weights by which its first layer `reads` each channel, and layer by layer how far its `gates` stood open at each step
    of this window, the mean over its units. Response's: the parameters of each medium. Of what stands on a ridge the `gate` α
    by which the net is let in, of an ensemble the `shares` of its models."""
    if isinstance(asked.model.net, Mixture):
        shares = asked.model.weights["shares"][0].expand(len(asked.whole), 1, -1)
        return finished(asked, {"shares": shares}, {"shares": asked.model.net.names}, "feature_weights")
    net, line = core(asked.model.module), ridge_of(asked.model.module)
    blocks, channels = _of_net(asked, net)
    gate = _of_gate(asked) if isinstance(asked.model.module, Residual) else ({}, {})
    lines = ({}, {}) if line is None else _of_levels(asked) if isinstance(line, SeasonalRidgeNet) else _of_ridge(asked, line.shape)
    for more, names in (gate, lines):
        blocks, channels = blocks | more, channels | names
    return finished(asked, blocks, channels, "feature_weights")


def ridge_of(module: nn.Module) -> RidgeNet | SeasonalRidgeNet | None:
    """The ridge that a net stands on, or that it is."""
    line = module.ridge if isinstance(module, Residual) else module
    return line if isinstance(line, RidgeNet | SeasonalRidgeNet) else None


def weighed(module: nn.Module) -> bool:
    """Whether there are weights that say something by themselves."""
    return ridge_of(module) is not None or isinstance(core(module), PeriodKernelNet | StackedLSTMNet | LSTMTransformerNet | ResponseNet)


def _of_net(asked: Asked, net: nn.Module) -> Named:
    if isinstance(net, PeriodKernelNet):
        return of_kernels(asked)
    if isinstance(net, StackedLSTMNet | LSTMTransformerNet):
        return _of_lstm(asked, net)
    return _of_media(asked) if isinstance(net, ResponseNet) else ({}, {})


def _of_gate(asked: Asked) -> Named:
    def look(module: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(module, Residual)
        return _alike(module.alpha[:, None, None], batch)

    return {"gate": shown(asked, look)}, {"gate": (f"{type(asked.model.net).__name__} on its ridge",)}


def _of_levels(asked: Asked) -> Named:
    def look(module: nn.Module, batch: Batch) -> Tensor:
        line = ridge_of(module)
        assert isinstance(line, SeasonalRidgeNet)
        return _alike(line.weight[:, asked.place, None], batch)

    known = asked.whole.source.roles.known
    names = ("level", "last season", "all seasons", "same place, half", "same place, all", *known, *(f"{c} × level" for c in known))
    return {"levels": shown(asked, look)}, {"levels": names}


def _of_ridge(asked: Asked, shape: Shape) -> Named:
    def look(module: nn.Module, batch: Batch) -> Tensor:
        line = ridge_of(module)
        assert isinstance(line, RidgeNet)
        return _alike(line.weight.unflatten(-1, (shape.horizon, shape.targets))[..., asked.place].mT, batch)

    cut, names = shape.features - shape.clocked, asked.whole.channels["past"]
    sizes = [shape.context * cut, len(sampled(shape)) * shape.clocked, shape.horizon * shape.known]
    past, clock, future = shown(asked, look).split(sizes, -1)
    blocks, channels = {"past": past.unflatten(-1, (shape.context, cut))}, {"past": names[:cut]}
    if shape.clocked:
        lags = [shape.context - step for step in sampled(shape)]
        blocks["clock"], channels["clock"] = clock[..., None, :], tuple(f"{c} lag {lag}" for lag in lags for c in names[cut:])
    if shape.known:
        blocks["future"], channels["future"] = future.unflatten(-1, (shape.horizon, shape.known)), asked.whole.channels["future"]
    return blocks, channels


def _of_lstm(asked: Asked, net: StackedLSTMNet | LSTMTransformerNet) -> Named:
    spec = net.spec
    masked = isinstance(net, StackedLSTMNet) and net.spec.mask
    names = asked.whole.channels["past"]
    wide = (*names, *(f"{name} observed" for name in names)) if masked else names

    def reads(module: nn.Module, batch: Batch) -> Tensor:
        weight: Tensor = _lstms(module)[0].weight
        return _alike(weight.unflatten(-1, (net.segment, len(wide))).square().sum((1, 2)).sqrt()[:, None], batch)

    def gates(at: int, module: nn.Module, batch: Batch) -> Tensor:
        level = level_of(batch.past, batch.observed, net.shape.targets, spec.centre)
        x = window(batch.past, batch.observed, level, net.segment, mask=masked)
        for layer in _lstms(module)[:at]:
            x = layer(x)
        return opened(_lstms(module)[at], x)

    blocks, channels = {"reads": shown(asked, reads)}, {"reads": wide}
    for at in range(len(net.layers)):
        name = f"gates of layer {at + 1}"
        blocks[name], channels[name] = shown(asked, partial(gates, at)), GATES
    return blocks, channels


def opened(layer: LSTM, x: Tensor) -> Tensor:
    """[member, example, time, gate]: 1 where all units of a layer let through, 0 where none does, for the gates' three tasks: to
    take in what is new, to keep what was, to show it."""
    before = F.pad(layer(x), (0, 0, 1, -1))
    open_ = x @ layer.weight.mT[:, None] + before @ layer.recurrent.mT[:, None] + layer.bias[:, None, None]
    take, keep, _, show = open_.chunk(4, -1)
    return torch.stack([gate.sigmoid().mean(-1) for gate in (take, keep, show)], -1)


def _lstms(module: nn.Module) -> list[LSTM]:
    net = core(module)
    assert isinstance(net, StackedLSTMNet | LSTMTransformerNet)
    return [layer for layer in net.layers if isinstance(layer, LSTM)]


def _of_media(asked: Asked) -> Named:
    net = core(asked.model.module)
    assert isinstance(net, ResponseNet)
    known = asked.whole.source.roles.known

    def curve(at: int, module: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(module, ResponseNet)
        return _alike(module.curve()[at][:, None], batch)

    def base(module: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(module, ResponseNet)
        plain = module.base[:, : len(known)].clone()
        plain[:, module.place[0]] = 0.0
        return _alike(plain[:, None], batch)

    media = net.spec.media
    blocks = {name: shown(asked, partial(curve, at)) for at, name in enumerate(("carry", "half", "shape", "ceiling"))}
    return {**blocks, "base": shown(asked, base)}, {**dict.fromkeys(blocks, media), "base": known}


def of_kernels(asked: Asked) -> Named:
    """What a PeriodKernel's bank holds, one period a channel; of a net of all series also how strong the periods are in this one."""

    def share(module: nn.Module, batch: Batch) -> Tensor:
        return _alike(bank(module).share()[:, None], batch)

    def auxiliary(module: nn.Module, batch: Batch) -> Tensor:
        net = bank(module)
        return (net.auxiliary[:, None] * net.ratio(batch.past, net.inside(batch.past))).softmax(-1)[:, :, None]

    def profile(module: nn.Module, batch: Batch) -> Tensor:
        facts = bank(module).facts
        assert facts is not None
        return torch.take_along_dim(facts.profile, batch.static[..., :1].long(), 1)[:, :, None]

    names, channels = periods(asked), asked.whole.channels["past"]
    blocks, told = {"share": shown(asked, share)}, {"share": names}
    if len(channels) > 1:
        blocks["auxiliary"], told["auxiliary"] = shown(asked, auxiliary), channels[1:]
    if bank(asked.model.module).facts is not None:
        blocks["profile"], told["profile"] = shown(asked, profile), names
    for at, name in enumerate(names):
        blocks[f"kernel {name}"], told[f"kernel {name}"] = shown(asked, partial(_size, at)), (name,)
    return blocks, told


def _size(at: int, module: nn.Module, batch: Batch) -> Tensor:
    kernel: Tensor = bank(module).kernels[at]
    return _alike(kernel.norm(dim=-1)[..., None], batch)


def _alike(weight: Tensor, batch: Batch) -> Tensor:
    """[member, step, channel] weights, the same for every window."""
    return weight[:, None].expand(-1, batch.past.shape[1], *weight.shape[1:])
