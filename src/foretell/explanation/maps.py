"""Maps of what a net has inside: attention, signed activation maps, and what each period kernel adds to the forecast."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attribution.groups import by_channel
from ..attribution.removal import shapley
from ..attribution.types import Attribution, Blocks, Labels, baseline
from ..nets.lstm_transformer import Encoder, LSTMTransformerNet
from ..nets.period_kernel import PeriodKernelNet
from ..nets.residual import Residual
from ..nets.window import level_of, window
from ..task import Batch
from .asked import Asked, scalar
from .look import core, finished, periods, shown, within


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
    by_period = torch.einsum("meoxf,meptf->meotp", weight, apart)
    names = [f"filter {f}" for f in range(1, maps.shape[-1] + 1)]
    several = len(asked.model.members) > 1 and not asked.model.per_series
    filters = tuple(f"member {m} {n}" for m in range(1, len(maps) + 1) for n in names) if several else tuple(names)
    flat = maps.permute(1, 2, 3, 0, 4).flatten(3) if several else maps.flatten(0, 1)
    summed = by_period.sum(0) if several else by_period.flatten(0, 1)
    blocks = {"filters": flat, "periods": summed}
    return finished(asked, blocks, {"filters": filters, "periods": periods(asked)}, "cam", "sensitivity")


def kernels(asked: Asked) -> Attribution:
    """What each period kernel adds to the forecast, in units: Shapley values of the kernels, each in or out with its bias; the base is the
    forecast of the net without any. Exact up to 11 periods."""
    whole, names = asked.whole, periods(asked)
    with torch.no_grad():
        top = whole(asked.blocks)[:, :, asked.place, 0].argmax(1)

    def f(blocks: Blocks) -> Tensor:
        masks = blocks["kernels"].unflatten(0, (-1, len(whole)))[:, 0, 0]
        return torch.cat([_masked(asked, mask, top) for mask in masks])

    real = {"kernels": asked.blocks["past"].new_ones(len(whole), 1, len(names))}
    found = shapley(f, real, baseline({"kernels": torch.zeros_like(real["kernels"])}, "no kernel"), by_channel(real, {"kernels": names}))
    return replace(found, method="kernels", labels=Labels(channels={"kernels": names}))


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
