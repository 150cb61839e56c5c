"""The kernel bank collapsed: twenty convolutions and a projection of their output are one matrix that acts on the window itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

WIDE = 64  # columns from which a matrix is multiplied by itself: a copy beside its neighbours would cost more than it saves


@dataclass(frozen=True, eq=False)
class Bank:
    """Each member's periods in steps, strongest first, and their signal-to-noise ratios; length 0 is an empty place. `span` is how
    many steps back the member reads: all of the window, or fewer."""

    length: Int[Tensor, "member period"]
    strength: Float[Tensor, "member period"]
    span: Int[Tensor, " member"]

    @classmethod
    def whole(cls, members: int, kernels: int, context: int) -> Self:
        """One kernel as long as the window: what a net is built with before its periods are known."""
        length = torch.zeros(members, kernels, dtype=torch.long)
        length[:, 0] = context
        return cls(length, torch.zeros(members, kernels), torch.full((members,), context))

    def rows(self, at: Int[Tensor, " row"]) -> Self:
        """Of these members."""
        return type(self)(self.length[at], self.strength[at], self.span[at])

    @property
    def widths(self) -> list[int]:
        """The longest kernel in each place of the bank, at least 1."""
        return [max(1, int(one)) for one in self.length.amax(0)]


def within(length: Int[Tensor, " member"], width: int) -> Bool[Tensor, "member width"]:
    """Which taps of a frame belong to a kernel of this length: padding "same" puts (length − 1) // 2 of them before the step."""
    tap = torch.arange(width, device=length.device) - (width - 1) // 2
    before, after = (length - 1).div(2, rounding_mode="floor")[:, None], length.div(2, rounding_mode="floor")[:, None]
    return (tap >= -before) & (tap <= after) & (length[:, None] > 0)


def effective(
    kernels: Sequence[Float[Tensor, "member _ filter"]],
    biases: Sequence[Float[Tensor, "member filter"]],
    share: Float[Tensor, "member period"],
    length: Int[Tensor, "member period"],
    context: int,
) -> tuple[Float[Tensor, "member context filter"], Float[Tensor, "member filter"]]:
    """The one kernel, and the one bias, that do what the bank and its weighted sum do: Σ share · kernel, all of them centred."""
    parts = []
    for place, kernel in enumerate(kernels):
        width = kernel.shape[1]
        left = (context - 1) // 2 - (width - 1) // 2
        mask = within(length[:, place], width)[..., None].to(kernel)
        parts.append(F.pad(kernel * (mask * share[:, place, None, None]), (0, 0, left, context - width - left)))
    total: Tensor = torch.stack(parts).sum(0)
    bias: Tensor = (torch.stack(list(biases), 1) * share[..., None]).sum(1)
    return total, bias


def project(
    kernel: Float[Tensor, "member context filter"],
    bias: Float[Tensor, "member filter"],
    inside: Float[Tensor, "member context"],
    weights: Sequence[Float[Tensor, "member place out"]],
) -> list[Float[Tensor, "member row out"]]:
    """For each weight [member, context · filter, out] the matrix [member, context + 1, out] that takes a window, a one appended,
    where a convolution with the kernel and the weight together would take it. Steps outside count as padding."""
    projected: Callable[..., tuple[Tensor, ...]] = _Project.apply
    return list(projected(kernel, bias, inside, *weights))


class _Project(torch.autograd.Function):
    """Row j of the Toeplitz matrix holds kernel[off + j − t] at step t; the plain form convolves window by window (tests/naive.py).

    Rows are kept last step first, so that the matrix is a view of one run; the small products are turned round instead.
    Backward is written out: the gradient of the kernel is the sum along the matrix's diagonals.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, kernel: Tensor, bias: Tensor, inside: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        members, context, filters = kernel.shape
        off = (context - 1) // 2
        run = F.pad(kernel.flip(1), (0, 0, off, context - 1 - off))
        matrix = kernel.new_empty(members, context + 1, context, filters)
        steps = run.as_strided((members, context, context, filters), (run.stride(0), filters, filters, 1))
        torch.mul(steps, inside[:, None, :, None], out=matrix[:, :context])
        torch.mul(bias[:, None], inside[..., None], out=matrix[:, context])
        flat = matrix.flatten(2)
        ctx.save_for_backward(flat, inside, *weights)
        if weights[0].shape[2] >= WIDE:
            return tuple(_turned(flat @ weight) for weight in weights)
        return torch.split(_turned(flat @ torch.cat(weights, 2)), [weight.shape[2] for weight in weights], 2)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph: what is below is written in place and would be left out of it silently
            raise RuntimeError("a kernel bank has first derivatives only")
        flat, inside, *weights = ctx.saved_tensors
        members, context = inside.shape
        filters = flat.shape[2] // context
        turned = [_turned(a) for a in above]
        of_flat, of_weights = _products(flat, weights, turned)
        of_matrix = of_flat.view(members, context + 1, context, filters).mul_(inside[:, None, :, None])
        wide = flat.new_zeros(members, context, 2 * context, filters)
        wide[:, :, :context] = of_matrix[:, :context]
        # Row i moved right by i: what stood on one diagonal now stands in one column.
        size, stride = (members, context, 2 * context - 1, filters), (wide.stride(0), (2 * context - 1) * filters, filters, 1)
        run, off = wide.as_strided(size, stride).sum(1), (context - 1) // 2
        return run[:, off : off + context].flip(1), of_matrix[:, context].sum(1), None, *of_weights


def _products(flat: Tensor, weights: Sequence[Tensor], above: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Σ above · weightᵀ, and flatᵀ · above for each: narrow ones side by side in one product, wide ones without a copy of theirs."""
    if weights[0].shape[2] < WIDE:
        joint = torch.cat(list(above), 2)
        return joint @ torch.cat(list(weights), 2).mT, list(torch.split(flat.mT @ joint, [weight.shape[2] for weight in weights], 2))
    total = above[0] @ weights[0].mT
    for a, weight in zip(above[1:], weights[1:], strict=True):
        total.baddbmm_(a, weight.mT)
    return total, [flat.mT @ a for a in above]


def _turned(rows: Tensor) -> Tensor:
    """The rows of the steps in the other order, that of the bias in its place."""
    return torch.cat([rows[:, :-1].flip(1), rows[:, -1:]], 1)
