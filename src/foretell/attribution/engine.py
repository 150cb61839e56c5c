"""Engine: DeepLIFT for any torch forward. Every operation is caught as it runs, in modules and functions alike, and its
derivative replaced by the multiplier Δoutput / Δinput between the baseline and the window.

The map runs twice: first on the baseline, noting what enters each operation that is not linear, then on the window, where
backward finds the multipliers in place of slopes. Elementwise functions get their secant, products the two halves
a·Δb and b·Δa at the midpoint, what is built of these (softmax, norms, attention, LSTM, GRU) is taken apart. All other
smooth operations get their slope integrated from one input to the other: integrated gradients of that operation alone.
Linear ones need nothing. Then Σ multiplier · Δinput = Δoutput, up to rounding, for the whole net.

Shrikumar, Greenside, Kundaje (2017), arXiv 1704.02685, §3 (rescale rule); products as in Ancona et al. (2019), arXiv 1903.10992.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .gradients import quadrature
from .kinks import COMPARISONS

TINY = 1e-6  # inputs nearer than this share of their size count as equal: the secant there is the slope
NODES = 16

ELEMENTWISE = """
    relu gelu silu mish tanh sigmoid softplus elu selu celu leaky_relu hardtanh hardsigmoid hardswish relu6 logsigmoid softsign tanhshrink exp exp2
    expm1 log log1p log2 log10 sqrt rsqrt reciprocal square abs sin cos tan asinh sinh cosh atan erf erfinv clamp clamp_min clamp_max clip
    sign round floor ceil nan_to_num special_ndtri special_ndtr elementwise __abs__ float_power
"""
LINEAR = """
    __get__ __set__ add __add__ __radd__ __iadd__ sub __sub__ __rsub__ rsub neg __neg__ sum mean nansum view view_as reshape permute transpose t
    movedim moveaxis swapaxes flatten unflatten squeeze unsqueeze expand expand_as repeat tile repeat_interleave cat concat stack hstack vstack split
    chunk unbind tensor_split __getitem__ gather index_select take_along_dim narrow select diff unfold pad _pad roll flip cumsum contiguous clone
    to type float double half masked_fill masked_select where tril triu avg_pool1d adaptive_avg_pool1d dropout requires_grad_
    conv1d linear broadcast_to diagonal rfft irfft fft ifft rot90 cross_ new_zeros new_ones new_full zeros_like ones_like full_like lerp index_add
    empty_like new_empty rand_like randn_like
    scatter scatter_add index_fill as_strided atleast_1d real imag view_as_real view_as_complex interpolate embedding type_as cpu cuda __setitem__
"""
IS_ELEMENTWISE, IS_LINEAR = frozenset(ELEMENTWISE.split()), frozenset(LINEAR.split())
BILINEAR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mul": torch.mul,
    "__mul__": torch.mul,
    "__rmul__": torch.mul,
    "multiply": torch.mul,
    "matmul": torch.matmul,
    "__matmul__": torch.matmul,
    "bmm": torch.bmm,
    "mm": torch.mm,
    "mv": torch.mv,
    "dot": torch.dot,
    "outer": torch.outer,
}
Rule = Callable[["Engine", Callable[..., Any], Sequence[Any], Mapping[str, Any]], Any]


class Engine(TorchFunctionMode):
    """Runs a forward under the rules. Without a `tape` it notes the baseline's inputs; with one it replays against them."""

    def __init__(self, tape: list[tuple[Any, ...]] | None = None) -> None:
        super().__init__()
        self.noting, self.tape, self.place = tape is None, [] if tape is None else tape, 0
        self.strange: Counter[str] = Counter()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given, name = kwargs or {}, func.__name__
        if name == "detach":
            return args[0].clone()  # what a net keeps from its training still moves its forecast
        if "out" in given:
            return self._written(func, args, given)
        if name in IS_LINEAR and not (name in ("conv1d", "linear") and _both(args)):
            return self._where(func, args, given) if name == "where" else func(*args, **given)
        if name in BILINEAR and len(args) == 2 and _both(args):
            return self.product(BILINEAR[name], args[0], args[1])
        if name in IS_ELEMENTWISE and not given.get("inplace"):
            return self._function(func, args, given)
        rule = RULES.get(name)
        return rule(self, func, args, given) if rule else self._other(func, args, given)

    # ------------------------------------------------------------ the three ways an operation can be handled

    def secant(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x), elementwise; backward multiplies by (f(x) − f(b)) / (x − b), where x is b by the slope."""
        before = self.before(x)
        if before is None or not x.requires_grad:
            return function(x)
        base = before[0]
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            y = function(leaf)
            slope = torch.autograd.grad(y.sum(), leaf)[0] if y.requires_grad else torch.zeros_like(x)
        with torch.no_grad():
            change = x - base
            far = change.abs() > TINY * (x.abs() + base.abs()).clamp(min=1e-12)
            each = torch.where(far, (y - function(base)) / torch.where(far, change, 1.0), slope)
        return told(y.detach(), each * x)

    def product(self, function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
        """A bilinear function: Δ(ab) = Δa · mean of b + Δb · mean of a, its Shapley values."""
        before = self.before(a, b)
        if before is None or not (moves(a) and moves(b)):
            return function(a, b)
        a0, b0 = before
        value = function(a.detach(), b.detach())
        return told(value, function(a, ((b + b0) / 2).detach()) + function(((a + a0) / 2).detach(), b))

    def integral(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Any smooth function of several tensors: its slopes averaged on the straight way between both runs."""
        before = self.before(*inputs)
        if before is None or not any(x.requires_grad for x in inputs):
            return function(*inputs)
        value = function(*(x.detach() for x in inputs))
        linear: Callable[..., Tensor] = _Integral.apply
        return linear(function, value, before, *inputs)

    def before(self, *inputs: Tensor) -> tuple[Tensor, ...] | None:
        """What entered this operation in the baseline's run; None while that is being noted."""
        if self.noting:
            self.tape.append(tuple(x.detach() for x in inputs))
            return None
        found = self.tape[self.place]
        self.place += 1
        return found

    def gate(self, x: Tensor) -> Tensor:
        """σ(x)."""
        return self.secant(torch.sigmoid, x)

    def squash(self, x: Tensor) -> Tensor:
        """tanh(x)."""
        return self.secant(torch.tanh, x)

    def gated(self, gate: Tensor, signal: Tensor) -> Tensor:
        """gate · signal."""
        return self.product(torch.mul, gate, signal)

    # ------------------------------------------------------------ how a call is recognised

    def _function(self, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Tensor:
        if func.__name__ == "elementwise":
            return self.secant(args[0], args[1])
        rest = [v for v in args[1:] if not isinstance(v, bool)]
        named = {k: v for k, v in given.items() if k not in ("inplace", "input")}
        return self.secant(lambda x: func(x, *rest, **named), args[0] if args else given["input"])

    def _where(self, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
        """Which side is taken must not hang on the window; where it does, the residual shows it, and we say why."""
        condition = next((x for x in args if isinstance(x, Tensor) and x.dtype == torch.bool), None)
        before = None if condition is None else self.before(condition)
        if condition is not None and before is not None and before[0].shape == condition.shape and not torch.equal(before[0], condition):
            self.strange["where"] += 1
        return func(*args, **given)

    def _written(self, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
        """Into a given tensor. A comparison written as numbers is a step: it has no slope, but a secant."""
        if func.__name__ not in COMPARISONS or not given["out"].is_floating_point() or not isinstance(args[0], Tensor):
            return func(*args, **given)
        return self.secant(lambda x: func(x, *args[1:]).to(given["out"].dtype), args[0])

    def _other(self, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
        """An operation without a rule: integrated if it is one smooth function of its tensors, else left to its own slope."""
        tensors = [x for x in args if isinstance(x, Tensor) and x.is_floating_point()]
        name = func.__name__
        if not tensors or (name.endswith("_") and not name.endswith("__")):
            return func(*args, **given)

        def whole(*inputs: Tensor) -> Any:
            left = iter(inputs)
            return func(*(next(left) if isinstance(x, Tensor) and x.is_floating_point() else x for x in args), **given)

        # Told by a trial: whether it has slopes at all. The same in both runs, so that the tape fits.
        with torch.enable_grad():
            tried = whole(*(x.detach().requires_grad_() for x in tensors))
        if isinstance(tried, Tensor):
            return self.integral(whole, *tensors) if tried.requires_grad else func(*args, **given)
        if isinstance(tried, tuple) and any(isinstance(x, Tensor) and x.requires_grad for x in tried) and any(x.requires_grad for x in tensors):
            self.strange[name] += 1
        return func(*args, **given)


class _Integral(torch.autograd.Function):
    """Forward the value; backward the mean over the way of the vector-Jacobian products."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], value: Tensor, before: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.function, ctx.before = function, before
        ctx.save_for_backward(*inputs)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        inputs, total = ctx.saved_tensors, [torch.zeros_like(x) for x in ctx.saved_tensors]
        for place, weight in zip(*quadrature(NODES), strict=True):
            with torch.enable_grad():
                points = [(b + place * (x - b)).detach().requires_grad_() for x, b in zip(inputs, ctx.before, strict=True)]
                found = torch.autograd.grad(ctx.function(*points), points, above, allow_unused=True)
            for sum_, one in zip(total, found, strict=True):
                if one is not None:
                    sum_ += weight * one
        return None, None, None, *total


def told(value: Tensor, carrier: Tensor) -> Tensor:
    """A tensor with this value and the carrier's way back."""
    return carrier + (value - carrier).detach()


def moves(x: Tensor) -> bool:
    """Whether a tensor hangs on the window; a net's own weights do not."""
    return x.requires_grad and not isinstance(x, nn.Parameter)


def _both(args: Sequence[Any]) -> bool:
    """Whether the first two are tensors that may both move."""
    return len(args) >= 2 and isinstance(args[0], Tensor) and isinstance(args[1], Tensor)


def get(args: Sequence[Any], given: Mapping[str, Any], at: int, name: str, default: Any = None) -> Any:
    """An argument wherever it was written."""
    return args[at] if len(args) > at else given.get(name, default)


# ---------------------------------------------------------------- what is built of the three


def softmax(engine: Engine, z: Tensor, dim: int) -> Tensor:
    """exp, sum, reciprocal, product: exact however steep. The shift that keeps exp finite is the same in both runs."""
    noted = engine.before(z)
    top = z.detach().amax(dim, keepdim=True)
    if noted is None or not z.requires_grad:
        return torch.softmax(z, dim)
    z0 = noted[0]
    shift = torch.maximum(top, z0.amax(dim, keepdim=True))
    e, e0 = (z - shift).detach().exp(), (z0 - shift).exp()
    change = z.detach() - z0
    far = change.abs() > 1e-5
    up = torch.where(far, (e - e0) / torch.where(far, change, 1.0), e)
    total, total0 = e.sum(dim, keepdim=True), e0.sum(dim, keepdim=True)
    rise = z * up.nan_to_num(0.0) if z.isfinite().all() else z.masked_fill(~z.isfinite(), 0.0) * up.nan_to_num(0.0)
    below = -rise.sum(dim, keepdim=True) / (total * total0)
    carrier = rise * ((1 / total + 1 / total0) / 2) + ((e + e0) / 2) * below
    return told(e / total, carrier)


def layer_norm(engine: Engine, x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Centre, square, mean, 1/√, product."""
    over = tuple(range(-len(shape), 0))
    centred = x - x.mean(over, keepdim=True)
    spread = engine.secant(torch.square, centred).mean(over, keepdim=True)
    inverse = engine.secant(lambda v: (v + eps).rsqrt(), spread)
    y = engine.product(torch.mul, centred, inverse.expand_as(centred))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def attention(engine: Engine, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool, scale: float | None) -> Tensor:
    """softmax(q·k) · v, from products and softmax."""
    score = engine.product(torch.matmul, q * (scale or q.shape[-1] ** -0.5), k.transpose(-1, -2))
    if causal:
        score = score.masked_fill(torch.ones(score.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else score + mask
    return engine.product(torch.matmul, softmax(engine, score, -1), v)


def highest(engine: Engine, x: Tensor, dim: int, *, keep: bool, lowest: bool = False) -> Tensor:
    """Of several by pairs: max(a, b) = b + relu(a − b)."""
    parts = (-x if lowest else x).unbind(dim)
    best = parts[0]
    for part in parts[1:]:
        best = part + engine.secant(F.relu, best - part)
    best = -best if lowest else best
    return best.unsqueeze(dim) if keep else best


def _divide(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    if func.__name__ == "__rtruediv__":
        return engine.secant(torch.reciprocal, args[0]) * args[1]
    if not isinstance(args[1], Tensor):
        return func(*args, **given)
    below = engine.secant(torch.reciprocal, args[1])
    return engine.product(torch.mul, args[0], below) if isinstance(args[0], Tensor) else args[0] * below


def _power(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    if isinstance(args[0], Tensor) and not isinstance(args[1], Tensor):
        return engine.secant(lambda x: x ** args[1], args[0])
    return engine._other(func, args, given)


def _pair(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """maximum, minimum."""
    a, b = args[0], args[1]
    return b + engine.secant(F.relu, a - b) if func.__name__ == "maximum" else a - engine.secant(F.relu, a - b)


def _extreme(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    dim = get(args, given, 1, "dim")
    if not isinstance(dim, int) or not args[0].is_floating_point():
        return func(*args, **given)
    return highest(engine, args[0], dim, keep=bool(get(args, given, 2, "keepdim", False)), lowest=func.__name__ == "amin")


def _added_product(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """addmm, baddbmm, addcmul."""
    between = torch.mul if func.__name__ == "addcmul" else torch.matmul
    scale = given.get("value", given.get("alpha", 1))
    return args[0] * given.get("beta", 1) + scale * engine.product(between, args[1], args[2])


def _einsum(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    inputs = args[1] if isinstance(args[1], list | tuple) else args[1:]
    if len(inputs) == 2:
        return engine.product(lambda a, b: torch.einsum(args[0], a, b), *inputs)
    return func(*args, **given) if len(inputs) == 1 else engine.integral(lambda *x: torch.einsum(args[0], *x), *inputs)


def _linear(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """linear, conv1d: with fixed weights nothing to do, with moving ones a product and a bias."""
    if not moves(args[1]):
        return func(*args, **given)
    bias = get(args, given, 2, "bias")
    rest = args[3:]
    y = engine.product(lambda x, w: func(x, w, None, *rest, **{k: v for k, v in given.items() if k != "bias"}), args[0], args[1])
    return y if bias is None else y + (bias[:, None] if func.__name__ == "conv1d" else bias)


def _softmax(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    return softmax(engine, args[0], get(args, given, 1, "dim", -1))


def _layer_norm(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    said = [get(args, given, at, name) for at, name in ((2, "weight"), (3, "bias"))]
    return layer_norm(engine, args[0], get(args, given, 1, "normalized_shape"), said[0], said[1], get(args, given, 4, "eps", 1e-5))


def _attention(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    mask, causal = get(args, given, 3, "attn_mask"), bool(get(args, given, 5, "is_causal", False))
    return attention(engine, args[0], args[1], args[2], mask, causal=causal, scale=given.get("scale"))


def _heads(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """torch's multi_head_attention_forward, with packed projections."""
    query, key, value, width, heads, weight, bias = args[:7]
    out, out_bias = args[11:13]
    three = [F.linear(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), bias.chunk(3) if bias is not None else (None,) * 3, strict=True)]
    q, k, v = (x.reshape(x.shape[0], x.shape[1] * heads, -1).transpose(0, 1) for x in three)
    score = engine.product(torch.matmul, q / math.sqrt(width // heads), k.transpose(1, 2))
    mask = given.get("attn_mask")
    if mask is not None:
        score = score.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else score + mask
    share = softmax(engine, score, -1)
    y = engine.product(torch.matmul, share, v).transpose(0, 1).reshape(*query.shape[:2], width)
    need = given.get("need_weights", True)
    return F.linear(y, out, out_bias), share.view(query.shape[1], heads, *share.shape[1:]).mean(1) if need else None


def _recurrent(engine: Engine, func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    from .recurrent import Way, gru, lstm, lstm_steps

    if func.__name__ == "lstm_steps":
        return lstm_steps(engine, *args)
    way = Way(*args[3:9])
    return lstm(engine, args[0], args[1], args[2], way) if func.__name__ == "lstm" else gru(engine, args[0], args[1], args[2], way)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("div", "__truediv__", "__rtruediv__", "true_divide", "divide"), _divide),
    **dict.fromkeys(("pow", "__pow__"), _power),
    **dict.fromkeys(("maximum", "minimum"), _pair),
    **dict.fromkeys(("amax", "amin"), _extreme),
    **dict.fromkeys(("addmm", "baddbmm", "addcmul", "addbmm"), _added_product),
    **dict.fromkeys(("linear", "conv1d"), _linear),
    "einsum": _einsum,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _heads,
    **dict.fromkeys(("lstm", "gru", "lstm_steps"), _recurrent),
}
