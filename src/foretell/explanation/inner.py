"""What a net shows of itself: attention, weights, signed activation maps, and what each period kernel adds to the forecast."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from ..attribution.groups import by_channel
from ..attribution.removal import shapley
from ..attribution.types import Attribution, Blocks, Kind, Labels, baseline
from ..forecaster import Forecaster
from ..function import Forward, Function
from ..nets.layers import Shape
from ..nets.lstm_transformer import Encoder, LSTMTransformerNet
from ..nets.period_kernel import PeriodKernel, PeriodKernelNet
from ..nets.residual import Residual
from ..nets.ridge import RidgeNet, sampled
from ..nets.seasonal_ridge import SeasonalRidgeNet
from ..nets.window import level_of, window
from ..task import Batch
from .asked import Asked, scalar

Look = Callable[[nn.Module, Batch], Tensor]  # → [member, example, ...]


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


def attention(asked: Asked) -> Attribution:
    """How much each head reads of each step (LSTMTransformer: where the last step looks, encoder by encoder, the state there being
    the LSTM's of all steps until then), or of its own past and of all else (PeriodKernel). Weights sum to 1 over the steps, or
    over the two. They say where a head looks, not what that adds: Jain, Wallace (2019), arXiv 1902.10186."""
    net = core(asked.model.module)
    if isinstance(net, PeriodKernelNet):
        heads = [f"head {h}: {what}" for h in range(1, net.spec.heads + 1) for what in ("own past", "all else")]
        seen = shown(asked, _tokens)[:, None]
        return finished(asked, {"attention": seen}, {"attention": tuple(heads)}, "attention")
    found = shown(asked, _rows)
    assert isinstance(net, LSTMTransformerNet)
    spec = net.spec
    names = tuple(f"encoder {e} head {h}" for e in range(1, spec.encoders + 1) for h in range(1, spec.heads + 1))
    return finished(asked, {"attention": found}, {"attention": names}, "attention")


def feature_weights(asked: Asked) -> Attribution:
    """The weights as they are, in the net's scaled space. A ridge's: of each value for each step ahead, the target's past counted from
    its last value. A seasonal ridge's: of its named levels. PeriodKernel's: each period's softmax `share`, the softmax weight
    of every `auxiliary` channel in this window, and each kernel's length over its filters, tap by tap."""
    net = asked.model.module
    kernels, line = core(net), net.ridge if isinstance(net, Residual) else net
    if isinstance(kernels, PeriodKernelNet):
        return finished(asked, *_of_kernels(asked), "feature_weights")
    if isinstance(line, SeasonalRidgeNet):
        known = asked.whole.source.roles.known
        names = ("level", "last season", "all seasons", "same place, half", "same place, all", *known, *(f"{c} × level" for c in known))
        seen = shown(asked, lambda one, batch: _line(one).weight[:, None, asked.place].expand(-1, batch.past.shape[1], -1))
        return finished(asked, {"levels": seen[:, None]}, {"levels": names}, "feature_weights")
    return finished(asked, *_of_ridge(asked, _line(net).shape), "feature_weights")


def cam(asked: Asked) -> Attribution:
    """Signed channel activation maps: for every filter of the kernel bank its map over the item's own past times the mean slope of the
    forecast over that map, in units: where a filter fires, and whether that raises or lowers the forecast. "periods" has the
    same by period, summed over filters. Grad-CAM, Selvaraju et al. (2017), arXiv 1610.02391, §3, without its ReLU."""
    kept: list[tuple[Tensor, Tensor]] = []

    def look(module: nn.Module, batch: Batch) -> Tensor:
        net = core(module)
        assert isinstance(net, PeriodKernelNet)
        inside = net.inside(batch.past)
        with torch.no_grad():
            past, ahead = net.detrended(batch.past, batch.observed)
            tokens = past[..., 0] * inside[:, None], net.weighted(past, inside)
            own, others = (net.convolved(token, inside) for token in tokens)
            apart = net.apart(tokens[0], inside)
        leaf = own.requires_grad_()
        kept.append((leaf, apart))
        out = net.answer(net.attended(leaf, others), inside, batch.future, batch.static) + ahead
        return module.ridge(*batch[:4]) + module.alpha.view(-1, 1, 1, 1, 1) * out if isinstance(module, Residual) else out

    told = scalar(replace(asked.whole, forward=within(asked.model, asked.whole, look)), asked.blocks, asked.of, asked.place)
    with torch.enable_grad():
        output = told(asked.blocks)
    leaf, apart = kept[-1]
    slopes = [torch.autograd.grad(output[:, o].sum(), leaf, retain_graph=True)[0] for o in range(output.shape[1])]
    weight = torch.stack(slopes, 2).mean(3, keepdim=True)  # [member, example, output, 1, filter]
    maps = weight * leaf.detach()[:, :, None]
    periods = torch.einsum("meoxf,meptf->meotp", weight, apart)
    names = [f"filter {f}" for f in range(1, maps.shape[-1] + 1)]
    several = len(asked.model.members) > 1 and not asked.model.per_series
    filters = tuple(f"member {m} {n}" for m in range(1, len(maps) + 1) for n in names) if several else tuple(names)
    flat = maps.permute(1, 2, 3, 0, 4).flatten(3) if several else maps.flatten(0, 1)
    summed = periods.sum(0) if several else periods.flatten(0, 1)
    blocks = {"filters": flat, "periods": summed}
    return finished(asked, blocks, {"filters": filters, "periods": _periods(asked)}, "cam", "sensitivity")


def kernels(asked: Asked) -> Attribution:
    """What each period kernel adds to the forecast, in units: Shapley values of the kernels, each in or out with its bias; the base is the
    forecast of the net without any. Exact up to 11 periods."""
    whole, names = asked.whole, _periods(asked)
    with torch.no_grad():
        top = whole(asked.blocks)[:, :, asked.place, 0].argmax(1)

    def f(blocks: Blocks) -> Tensor:
        masks = blocks["kernels"].unflatten(0, (-1, len(whole)))[:, 0, 0]
        return torch.cat([_masked(asked, mask, top) for mask in masks])

    real = {"kernels": asked.blocks["past"].new_ones(len(whole), 1, len(names))}
    found = shapley(f, real, baseline({"kernels": torch.zeros_like(real["kernels"])}, "no kernel"), by_channel(real, {"kernels": names}))
    return replace(found, method="kernels", labels=Labels(channels={"kernels": names}))


def finished(asked: Asked, blocks: Mapping[str, Tensor], channels: Mapping[str, tuple[str, ...]], method: str, kind: Kind = "weight") -> Attribution:
    """Blocks [example, step, channel] are the same for every output; [example, output, step, channel] are not."""
    with torch.no_grad():
        here = asked.f(asked.blocks)
    values = {b: x if x.ndim == 4 else x[:, None].expand(-1, here.shape[1], -1, -1) for b, x in blocks.items()}
    values = {b: x.expand(-1, here.shape[1], -1, -1) for b, x in values.items()}
    return Attribution(values, here, torch.full_like(here, torch.nan), kind, method, labels=Labels(channels=channels))


def why_not(model: Forecaster, name: str) -> str:
    """Why a net cannot show this; empty if it can."""
    if not model.differentiable:
        return "it is no net with weights to look at; use shapley, lime or occlusion"
    net, kind = core(model.module), type(model.net).__name__
    if name == "attention" and not (isinstance(net, PeriodKernelNet) or (isinstance(net, LSTMTransformerNet) and net.spec.encoders)):
        return f"{kind} has no attention; use deeplift or occlusion"
    if name in ("cam", "kernels") and not isinstance(net, PeriodKernelNet):
        return f"{kind} has no convolutions; use deeplift or occlusion"
    if name == "feature_weights" and not isinstance(model.net, PeriodKernel):
        line = model.module.ridge if isinstance(model.module, Residual) else model.module
        return "" if isinstance(line, RidgeNet | SeasonalRidgeNet) else f"the weights of {kind} act through one another and say nothing alone; use saliency"
    return ""


INNER: dict[str, Callable[[Asked], Attribution]] = {"attention": attention, "feature_weights": feature_weights, "cam": cam, "kernels": kernels}


def _masked(asked: Asked, mask: Float[Tensor, " period"], top: Tensor) -> Tensor:
    ahead = "net." if isinstance(asked.model.module, Residual) else ""
    weights = dict(asked.model.weights)
    for at, inside in enumerate(mask):
        for part in ("kernels", "biases"):
            weights[f"{ahead}{part}.{at}"] = weights[f"{ahead}{part}.{at}"] * inside.to(weights[f"{ahead}{part}.{at}"])
    told = replace(asked.whole, forward=within(asked.model, asked.whole, _forward, weights))
    return scalar(told, asked.blocks, asked.of, asked.place, top)(asked.blocks)


def _forward(module: nn.Module, batch: Batch) -> Tensor:
    out: Tensor = module(*batch[:4])
    return out


def _tokens(module: nn.Module, batch: Batch) -> Tensor:
    net = core(module)
    assert isinstance(net, PeriodKernelNet)
    return net.attention(net.detrended(batch.past, batch.observed)[0]).flatten(2)[:, :, None]


def _rows(module: nn.Module, batch: Batch) -> Tensor:
    """[member, example, time, head]: the last step's weights, encoder after encoder."""
    net = core(module)
    assert isinstance(net, LSTMTransformerNet)
    level = level_of(batch.past, batch.observed, net.shape.targets, net.spec.centre)
    rows: list[Tensor] = []
    x = window(batch.past, batch.observed, level, net.segment, mask=False)
    for layer in net.layers:
        x = layer(x)
    for encoder in net.encoders:
        assert isinstance(encoder, Encoder)
        q, k, _ = (part.unflatten(-1, (net.spec.heads, -1)).transpose(2, 3) for part in encoder.attention.project(x).chunk(3, -1))
        rows.append(((q[..., -1:, :] * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)[..., 0, :])
        x = encoder(x, None)
    return torch.cat(rows, 2).mT


def _line(module: nn.Module) -> RidgeNet | SeasonalRidgeNet:
    line = module.ridge if isinstance(module, Residual) else module
    assert isinstance(line, RidgeNet | SeasonalRidgeNet)
    return line


def _of_ridge(asked: Asked, shape: Shape) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    def look(module: nn.Module, batch: Batch) -> Tensor:
        weight = _line(module).weight.unflatten(-1, (shape.horizon, shape.targets))[..., asked.place]
        out: Tensor = weight.mT[:, None].expand(-1, batch.past.shape[1], -1, -1)
        return out

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


def _of_kernels(asked: Asked) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    def share(module: nn.Module, batch: Batch) -> Tensor:
        return _bank(module).share()[:, None, None].expand(-1, batch.past.shape[1], -1, -1)

    def auxiliary(module: nn.Module, batch: Batch) -> Tensor:
        bank = _bank(module)
        return (bank.auxiliary[:, None] * bank.ratio(batch.past, bank.inside(batch.past))).softmax(-1)[:, :, None]

    names, channels = _periods(asked), asked.whole.channels["past"]
    blocks, told = {"share": shown(asked, share)}, {"share": names}
    if len(channels) > 1:
        blocks["auxiliary"], told["auxiliary"] = shown(asked, auxiliary), channels[1:]
    for at, name in enumerate(names):
        blocks[f"kernel {name}"], told[f"kernel {name}"] = shown(asked, partial(_size, at)), (name,)
    return blocks, told


def _size(at: int, module: nn.Module, batch: Batch) -> Tensor:
    kernel: Tensor = _bank(module).kernels[at]
    out: Tensor = kernel.norm(dim=-1)[:, None, :, None].expand(-1, batch.past.shape[1], -1, -1)
    return out


def _bank(module: nn.Module) -> PeriodKernelNet:
    net = core(module)
    assert isinstance(net, PeriodKernelNet)
    return net


def _periods(asked: Asked) -> tuple[str, ...]:
    """A place of the bank by its length, where all members have the same; by its number where they differ."""
    length = shown(asked, lambda m, b: _bank(m).length[:, None].expand(-1, b.past.shape[1], -1).double())
    every = asked.model.weights[("net." if isinstance(asked.model.module, Residual) else "") + "length"]
    same = [bool((row == row[0]).all()) and int(row[0]) > 0 for row in every.T]
    return tuple(f"period {int(length[0, at])}" if one else f"period no. {at + 1}" for at, one in enumerate(same))
