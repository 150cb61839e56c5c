"""Layers with a member axis: one member runs on torch's fused kernels, many members run side by side as batched products.

Weights and inputs carry the member axis first, x[member, example, time, feature]; no layer mixes members or examples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

Sequences = Float[Tensor, "member example time feature"]


@dataclass(frozen=True)
class Shape:
    """The sizes a net is built for: `features` past numbers a step (targets first), `known` future numbers a step,
    `levels` quantile levels, `static` facts that never change. The last `clocked` of the known channels are decided by the clock.
    `probs` are the levels themselves; `kinds` is one number a fact: how many categories it has, 0 for a number. The last `neighbours`
    of the features known up to now only are other series' pasts, which act after at most `reach` steps."""

    members: int
    context: int
    features: int
    horizon: int
    known: int
    targets: int
    levels: int
    static: int
    clocked: int = 0
    probs: tuple[float, ...] = ()
    kinds: tuple[int, ...] = ()
    neighbours: int = 0
    reach: int = 0

    @property
    def slots(self) -> int:
        """Outputs for each target: the point forecast, then one a level."""
        return 1 + self.levels


@dataclass(frozen=True)
class Row:
    """One layer of a summary: its output for one example, and how many numbers it learns for one member."""

    layer: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """A net layer by layer, from input to output; as text, a table."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    def __str__(self) -> str:
        told = [(row.layer, " × ".join(map(str, row.output)), f"{row.parameters:,}") for row in self.rows]
        table = [("layer", "output", "parameters"), *told, ("total", "", f"{self.parameters:,}")]
        left, middle, right = (max(len(line[i]) for line in table) for i in range(3))
        return "\n".join(f"{a:<{left}}  {b:<{middle}}  {c:>{right}}" for a, b, c in table)


def learned(layer: nn.Module) -> int:
    """How many numbers a layer learns for one member."""
    return sum(weights[0].numel() for weights in layer.parameters())


@runtime_checkable
class Noise(Protocol):
    """Where dropout's masks come from in training; at prediction there is none (None)."""

    def keep(self, shape: tuple[int, ...], rate: float) -> Tensor:
        """A mask [member, *shape]: 0 with probability `rate`, else 1 / (1 - rate), each member's from its own stream."""


def dropout(x: Tensor, rate: float, noise: Noise | None) -> Tensor:
    """x[member, ...] with a share `rate` of its numbers set to zero and the rest scaled up, so that expectations stay."""
    return x if noise is None or rate == 0 else x * noise.keep(tuple(x.shape[1:]), rate)


def uniform(streams: Sequence[Generator], *shape: int, fan: int) -> nn.Parameter:
    """A parameter [member, *shape], even in ±1/√fan, member m's drawn from stream m alone: the same weights in any company."""
    bound = max(fan, 1) ** -0.5
    return nn.Parameter(torch.stack([torch.rand(shape, generator=stream) for stream in streams]).mul_(2 * bound).sub_(bound))


class Linear(nn.Module):
    """x @ weightᵀ + bias on the last axis, for any axes between."""

    def __init__(self, streams: Sequence[Generator], features: int, outputs: int) -> None:
        super().__init__()
        self.weight = uniform(streams, outputs, features, fan=features)
        self.bias = uniform(streams, outputs, fan=features)

    def forward(self, x: Float[Tensor, "member *axes feature"]) -> Float[Tensor, "member *axes output"]:
        """[member, ..., feature] -> [member, ..., output]."""
        if len(self.weight) == 1:
            return F.linear(x.squeeze(0), self.weight.squeeze(0), self.bias.squeeze(0))[None]
        rows = x.reshape(len(x), -1, x.shape[-1])
        return torch.baddbmm(self.bias[:, None], rows, self.weight.mT).view(*x.shape[:-1], -1)


class LayerNorm(nn.Module):
    """Each row of features to mean 0 and variance 1, then scaled and shifted. Layer Normalization, arXiv 1607.06450 §3."""

    def __init__(self, streams: Sequence[Generator], features: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(streams), features))
        self.bias = nn.Parameter(torch.zeros(len(streams), features))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "member *axes feature"]) -> Float[Tensor, "member *axes feature"]:
        """The shape stays."""
        width = x.shape[-1:]
        if len(self.weight) == 1:
            return F.layer_norm(x.squeeze(0), width, self.weight.squeeze(0), self.bias.squeeze(0), self.epsilon)[None]
        wide = (len(x), *(1 for _ in x.shape[1:-1]), *width)
        return torch.addcmul(self.bias.view(wide), F.layer_norm(x, width, eps=self.epsilon), self.weight.view(wide))


class Conv(nn.Module):
    """A 1-D convolution over time. `same` keeps the number of steps, with the odd zero of an even kernel at the end as in
    Keras and torch; otherwise only whole windows count and `kernel` - 1 steps are lost."""

    def __init__(self, streams: Sequence[Generator], features: int, outputs: int, kernel: int, same: bool = True) -> None:
        super().__init__()
        self.weight = uniform(streams, outputs, features, kernel, fan=features * kernel)
        self.bias = uniform(streams, outputs, fan=features * kernel)
        self.padding = ((kernel - 1) // 2, kernel // 2) if same else (0, 0)

    def forward(self, x: Sequences) -> Float[Tensor, "member example steps output"]:
        """[member, example, time, feature] -> [member, example, steps, output]."""
        members, examples, time, _ = x.shape
        # One member is one group; many lie side by side in the channels of one grouped convolution.
        rows = F.pad(x.permute(1, 0, 3, 2).reshape(examples, -1, time), self.padding)
        out = F.conv1d(rows, self.weight.flatten(0, 1), self.bias.flatten(), groups=members)
        return out.reshape(examples, members, -1, out.shape[-1]).permute(1, 0, 3, 2)


class Attention(nn.Module):
    """Multi-head self-attention over time, as torch's nn.MultiheadAttention. Attention Is All You Need, arXiv 1706.03762 §3.2."""

    def __init__(self, streams: Sequence[Generator], features: int, heads: int) -> None:
        super().__init__()
        self.project = Linear(streams, features, 3 * features)
        self.out = Linear(streams, features, features)
        self.heads = heads

    def forward(self, x: Sequences, causal: bool = False, rate: float = 0.0, noise: Noise | None = None) -> Sequences:
        """Every step reads every step, or with `causal` no later one; `rate` is dropout on the attention weights."""
        query, key, value = self.project(x).chunk(3, -1)
        mixed: Tensor = self.out(attend(query, key, value, self.heads, causal=causal, rate=rate, noise=noise))
        return mixed


def attend(
    query: Sequences,
    key: Float[Tensor, "member example source feature"],
    value: Float[Tensor, "member example source width"],
    heads: int,
    *,
    causal: bool = False,
    rate: float = 0.0,
    noise: Noise | None = None,
) -> Float[Tensor, "member example time width"]:
    """softmax(query · key / √size) · value, the features cut into `heads` equal parts."""
    q, k, v = (part.reshape(*part.shape[:-1], heads, -1).transpose(2, 3) for part in (query, key, value))
    weight = (q * q.shape[-1] ** -0.5) @ k.mT
    if causal:
        later = torch.ones(weight.shape[-2:], dtype=torch.bool, device=weight.device).triu(1)
        weight = weight.masked_fill(later, -torch.inf)
    return (dropout(weight.softmax(-1), rate, noise) @ v).transpose(2, 3).flatten(3)


class LSTM(nn.Module):
    """One LSTM layer, gates in the order input, forget, cell, output (torch and Keras agree). Hochreiter and Schmidhuber,
    doi 10.1162/neco.1997.9.8.1735, with the forget gate of doi 10.1162/089976600300015015.

    One bias a gate, as in Keras: torch's two only ever act as their sum, so a torch file is read by adding them.
    """

    def __init__(self, streams: Sequence[Generator], features: int, hidden: int) -> None:
        super().__init__()
        self.weight = uniform(streams, 4 * hidden, features, fan=hidden)
        self.recurrent = uniform(streams, 4 * hidden, hidden, fan=hidden)
        self.bias = uniform(streams, 4 * hidden, fan=hidden)
        with torch.no_grad():
            # A gate that starts open (σ(1) = 0.73) lets gradients reach back from the first step on:
            # An Empirical Exploration of Recurrent Network Architectures, Jozefowicz et al. 2015, §2.2; Keras does the same.
            self.bias[:, hidden : 2 * hidden] += 1

    @property
    def hidden(self) -> int:
        return self.recurrent.shape[-1]

    def forward(self, x: Sequences, keep: Float[Tensor, "member example hidden"] | None = None) -> Float[Tensor, "member example time hidden"]:
        """The hidden state after every step. `keep` is a dropout mask on the state that enters the gates, one for the whole
        sequence: A Theoretically Grounded Application of Dropout in Recurrent Neural Networks, arXiv 1512.05287 §4."""
        if len(self.weight) == 1 and keep is None:
            return fused_lstm(x, self.weight, self.recurrent, self.bias)
        return lstm_steps(x, self.weight, self.recurrent, self.bias, keep)


def fused_lstm(
    x: Sequences,
    weight: Float[Tensor, "member gates feature"],
    recurrent: Float[Tensor, "member gates hidden"],
    bias: Float[Tensor, "member gates"],
) -> Float[Tensor, "member example time hidden"]:
    """torch's own LSTM kernel, for one member."""
    zero = x.new_zeros(1, x.shape[1], recurrent.shape[-1])
    own = [one.squeeze(0) for one in (weight, recurrent, bias)]  # [0] would cost a copy in backward
    train = torch.is_grad_enabled()  # the kernels keep what backward needs only when told to train
    out: Tensor = torch.lstm(x.squeeze(0), [zero, zero], [*own, torch.zeros_like(own[-1])], True, 1, 0.0, train, False, True)[0]
    return out[None]


def fused_lstm_pair(
    x: Sequences,
    weight: Float[Tensor, "member way gates feature"],
    recurrent: Float[Tensor, "member way gates hidden"],
    bias: Float[Tensor, "member way gates"],
) -> Float[Tensor, "member example time states"]:
    """torch's own kernel for one member's two layers, the second of which reads time backwards; their states side by side."""
    zero = x.new_zeros(2, x.shape[1], recurrent.shape[-1])
    weights = [one for way in (0, 1) for one in (weight[0, way], recurrent[0, way], bias[0, way], torch.zeros_like(bias[0, way]))]
    train = torch.is_grad_enabled()
    out: Tensor = torch.lstm(x[0], [zero, zero], weights, True, 1, 0.0, train, True, True)[0]
    return out[None]


def lstm_steps(
    x: Sequences,
    weight: Float[Tensor, "member gates feature"],
    recurrent: Float[Tensor, "member gates hidden"],
    bias: Float[Tensor, "member gates"],
    keep: Float[Tensor, "member example hidden"] | None = None,
) -> Float[Tensor, "member example time hidden"]:
    """The same LSTM for any number of members: step by step, one batched product a step. First derivatives only."""
    if has_torch_function((x, weight)):  # who traces the arithmetic cannot see into a function with a backward of its own
        traced: Tensor = handle_torch_function(lstm_steps, (x, weight), x, weight, recurrent, bias, keep)
        return traced
    steps: Callable[..., Tensor] = _Steps.apply
    return steps(x, torch.cat([weight, recurrent], 2), bias, keep)


_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input  # (a, s, out) -> a · s · (1 - s)
_tanh_slope = torch.ops.aten.tanh_backward.grad_input  # (a, s, out) -> a · (1 - s²)


class _Steps(torch.autograd.Function):
    """The loop over time with its backward written out; the plain loop is `lstm` in tests/naive.py.

    Inside, examples come last: [time, member, feature, example]. Each gate is then one unbroken run of memory, however
    small the hidden size, and the input stands on the state it meets, so that one product a step does both.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, joint: Tensor, bias: Tensor, keep: Tensor | None) -> Tensor:
        members, examples, time, features = x.shape
        hidden = joint.shape[1] // 4
        seen = x.new_zeros(time, members, features + hidden, examples)
        seen[:, :, :features] = x.permute(2, 0, 3, 1)
        gates = x.new_empty(time, members, 4 * hidden, examples)
        cell = x.new_zeros(time + 1, members, hidden, examples)
        squashed, out = torch.empty_like(cell[1:]), torch.empty_like(cell[1:])
        mask = None if keep is None else keep.mT.to(x.dtype)
        for t in range(time):
            i, f, g, o = torch.baddbmm(bias[..., None], joint, seen[t], out=gates[t]).chunk(4, 1)
            gates[t, :, : 2 * hidden].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, cell[t], out=cell[t + 1]).addcmul_(i, g)
            torch.tanh(cell[t + 1], out=squashed[t])
            torch.mul(o, squashed[t], out=out[t])
            if t + 1 < time:
                seen[t + 1, :, features:] = out[t] if mask is None else out[t] * mask
        ctx.save_for_backward(joint, seen, gates, cell, squashed, *(() if mask is None else (mask,)))
        return out.permute(1, 3, 0, 2)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph: the products below are written in place and would be left out of it silently
            raise RuntimeError("an LSTM of several members, or with recurrent dropout, has first derivatives only")
        joint, seen, gates, cell, squashed, *mask = ctx.saved_tensors
        slopes, open_ = _slopes(gates, cell, squashed)
        time, members, hidden, examples = squashed.shape
        by_gate = slopes.view(time, members, 4, hidden, examples)
        above = above.permute(2, 0, 3, 1)
        below, of_joint, transposed = torch.empty_like(seen), torch.zeros_like(joint), joint.mT.contiguous()
        of_state, of_cell = torch.zeros_like(squashed[0]), torch.zeros_like(squashed[0])
        for t in reversed(range(time)):
            of_state += above[t]
            of_cell.addcmul_(of_state, open_[t])
            by_gate[t, :, :3] *= of_cell[:, None]
            by_gate[t, :, 3] *= of_state
            of_cell *= gates[t, :, hidden : 2 * hidden]
            of_joint.baddbmm_(slopes[t], seen[t].mT)
            of_state = torch.bmm(transposed, slopes[t], out=below[t])[:, -hidden:]
            if mask:
                of_state *= mask[0]
        return below[:, :, :-hidden].permute(1, 3, 0, 2), of_joint, slopes.sum((0, 3)), None


def _slopes(gates: Tensor, cell: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor]:
    """What a change of each gate's input does to the cell (the first three gates) or to the state (the last), and what a
    change of the cell does to the state: all that backward needs and no step has to wait for."""
    i, f, g, o = gates.chunk(4, 2)
    slopes = torch.empty_like(gates)
    to_i, to_f, to_g, to_o = slopes.chunk(4, 2)
    _sigmoid_slope(g, i, grad_input=to_i)
    _sigmoid_slope(cell[:-1], f, grad_input=to_f)
    _tanh_slope(i, g, grad_input=to_g)
    _sigmoid_slope(squashed, o, grad_input=to_o)
    return slopes, _tanh_slope(o, squashed, grad_input=torch.empty_like(squashed))
