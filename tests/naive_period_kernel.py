"""The notebook's period-kernel network as it is written: every kernel over every channel, every step of every output."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foretell.nets.period_kernel import PeriodKernelNet

CHANNELS = ("price", "weekend", "cultural", "national", "religious", "sporting")
Arrays = Mapping[str, Tensor]  # by the notebook's names: w_conv0_kernel [k, 1, filter], w_att_query_kernel [time · filter, head, size] …


def same(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """A convolution as Keras pads it: x[example, time, in], kernel[k, in, out]."""
    k = len(kernel)
    padded = F.pad(x.mT, ((k - 1) // 2, k // 2))
    return F.conv1d(padded, kernel.permute(2, 1, 0)).mT + bias


def forward(w: Arrays, sales: Tensor, others: Tensor, zero: Tensor | None = None) -> dict[str, Tensor]:
    """Stages and output of sales[example, time] and the other channels [example, time, channel]; one window at a time where it matters."""
    bank = sorted(int(name[6:-7]) for name in w if name.startswith("w_conv") and name.endswith("_kernel"))
    share = w["strength"].softmax(0)

    def features(channel: Tensor) -> Tensor:
        each = [same(channel[..., None], w[f"w_conv{i}_kernel"], w[f"w_conv{i}_bias"]) for i in bank]
        return (torch.stack(each, -1) * share).sum(-1)

    own = features(sales)
    ratio = (others != (0 if zero is None else zero)).to(sales).mean(1)
    weights = (w["w_aux"] * ratio).softmax(-1)
    stacked = torch.stack([features(channel) for channel in others.unbind(-1)], -1)
    aux = (stacked * weights[:, None, None]).sum(-1)
    tokens = torch.stack([own, aux], 1).flatten(2)  # [example, 2, time · filter]
    query = torch.einsum("bi,ihd->bhd", tokens[:, 0], w["w_att_query_kernel"]) + w["w_att_query_bias"]
    key = torch.einsum("bti,ihd->bthd", tokens, w["w_att_key_kernel"]) + w["w_att_key_bias"]
    value = torch.einsum("bti,ihd->bthd", tokens, w["w_att_value_kernel"]) + w["w_att_value_bias"]
    scores = (torch.einsum("bhd,bthd->bht", query, key) / query.shape[-1] ** 0.5).softmax(-1)
    mixed = torch.einsum("bht,bthd->bhd", scores, value)
    out = torch.einsum("bhd,hdi->bi", mixed, w["w_att_output_kernel"]) + w["w_att_output_bias"]
    smooth = same(out.unflatten(1, own.shape[1:]), w["w_smooth_kernel"], w["w_smooth_bias"]).relu()
    norm = F.layer_norm(smooth, smooth.shape[-1:], w["w_norm_gamma"], w["w_norm_beta"], 1e-3)
    dense = (norm[:, -1] @ w["w_dense1_kernel"] + w["w_dense1_bias"]).relu()
    head = dense @ w["w_head_kernel"] + w["w_head_bias"]
    return {"sales": own, "ratio": ratio, "aux": aux, "attention": scores.mean(1, keepdim=True), "before": head, "out": head.relu(), "dense": dense}


def notebook(net: PeriodKernelNet, params: Mapping[str, Tensor], member: int) -> dict[str, Tensor]:
    """One member's parameters under the notebook's names, differentiable; what is dead there and not kept here is made up."""
    p, spec, draw = {name: value[member] for name, value in params.items()}, net.spec, torch.Generator().manual_seed(5)
    time = int(net.span[member])
    first = (net.shape.context - time) * spec.filters

    def made_up(*size: int) -> Tensor:
        return torch.randn(size, generator=draw, dtype=p["strength"].dtype)

    lengths = net.length[member].tolist()
    found = {"strength": p["strength"][[i for i, k in enumerate(lengths) if k]], "w_aux": p["auxiliary"]}
    for place, k in enumerate(lengths):
        kernel = p[f"kernels.{place}"]
        left = (len(kernel) - 1) // 2 - (k - 1) // 2
        found |= {f"w_conv{place}_kernel": kernel[left : left + k, None], f"w_conv{place}_bias": p[f"biases.{place}"]} if k else {}
    heads = (spec.heads, spec.size)
    for name in ("query", "key", "value"):
        bias = made_up(*heads) if name == "key" else p[f"{name}_bias"].unflatten(0, heads)
        found |= {f"w_att_{name}_kernel": p[name][first:].unflatten(1, heads), f"w_att_{name}_bias": bias}
    alive = len(p["out.bias"])
    whole = time * spec.filters
    kernel = torch.cat([made_up(max(0, whole - alive), spec.heads * spec.size), p["out.weight"][-whole:]])
    found |= {"w_att_output_kernel": kernel.mT.unflatten(0, heads), "w_att_output_bias": torch.cat([made_up(max(0, whole - alive)), p["out.bias"][-whole:]])}
    taps = p["smooth.weight"].mT.unflatten(0, (-1, spec.filters))
    missing = [made_up(1, spec.filters, spec.filters)] * (2 - len(taps))
    found |= {"w_smooth_kernel": torch.cat([*missing, taps, made_up(1, spec.filters, spec.filters)]), "w_smooth_bias": p["smooth.bias"]}
    found |= {"w_norm_gamma": p["norm.weight"], "w_norm_beta": p["norm.bias"]}
    for name, layer in (("dense1", "dense"), ("head", "head")):
        found |= {f"w_{name}_kernel": p[f"{layer}.weight"].mT, f"w_{name}_bias": p[f"{layer}.bias"]}
    return found


def whole_net(net: PeriodKernelNet, params: Mapping[str, Tensor], member: int, past: Tensor, future: Tensor, static: Tensor) -> Tensor:
    """[example, horizon, 1, slot] of one member's windows [example, context, feature], by the notebook's network and the reader of what is known ahead."""
    time, p = int(net.span[member]), {name: value[member] for name, value in params.items()}
    own = past[:, len(past[0]) - time :]
    stages = forward(notebook(net, params, member), own[..., 0], own[..., 1:], net.zero[member])
    assert not static.shape[1], "the notebook's network knows no static facts"
    out = stages["before"].unflatten(1, (net.shape.horizon, net.shape.slots))
    if net.reader is not None:
        steps = []
        for h in range(net.shape.horizon):
            seen = torch.cat([stages["dense"], future[:, h]], 1)
            read = (seen @ p["reader.weight"].mT + p["reader.bias"]).relu()
            steps.append(read @ p["told.weight"].mT + p["told.bias"])
        out = out + torch.stack(steps, 1)
    return (out.relu() if net.spec.rectify else out)[:, :, None]


def from_notebook(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The notebook's arrays as the parameters of a net of one member."""
    w = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items() if name.startswith("w_")}
    filters = w["w_conv0_kernel"].shape[2]
    found = {"strength": torch.from_numpy(arrays["kernel_strengths"]), "auxiliary": w["w_aux"]}
    for place in range(len(arrays["kernel_sizes"])):
        found |= {f"kernels.{place}": w[f"w_conv{place}_kernel"][:, 0], f"biases.{place}": w[f"w_conv{place}_bias"]}
    for name in ("query", "key", "value"):
        found[name] = w[f"w_att_{name}_kernel"].flatten(1)
    found |= {"query_bias": w["w_att_query_bias"].flatten(), "value_bias": w["w_att_value_bias"].flatten()}
    found |= {"out.weight": w["w_att_output_kernel"].flatten(0, 1)[:, -2 * filters :].mT, "out.bias": w["w_att_output_bias"][-2 * filters :]}
    found |= {"smooth.weight": w["w_smooth_kernel"][:2].flatten(0, 1).mT, "smooth.bias": w["w_smooth_bias"]}
    found |= {"norm.weight": w["w_norm_gamma"], "norm.bias": w["w_norm_beta"]}
    for name, layer in (("dense1", "dense"), ("head", "head")):
        found |= {f"{layer}.weight": w[f"w_{name}_kernel"].mT, f"{layer}.bias": w[f"w_{name}_bias"]}
    return {name: value[None].contiguous() for name, value in found.items()}


def as_twin(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The notebook's arrays as `forward` takes them."""
    found = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items() if name.startswith("w_")}
    return found | {"strength": torch.from_numpy(arrays["kernel_strengths"])}
