"""Residual: a net that starts where the ridge ends. Its forecast is ridge + α · net, the ridge fixed, α chosen on held-out windows."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from .bank import Bank
from .graph_lstm import GraphLSTM, GraphLSTMNet
from .layers import Noise, Shape
from .lstm_transformer import LSTMTransformer, LSTMTransformerNet
from .period_kernel import PeriodKernel, PeriodKernelNet
from .ridge import RidgeNet
from .seasonal_ridge import SeasonalRidgeNet
from .stacked_lstm import StackedLSTM, StackedLSTMNet

OnRidge = StackedLSTM | LSTMTransformer | PeriodKernel | GraphLSTM  # nets that can learn what a ridge misses
ON_RIDGE = (StackedLSTM, LSTMTransformer, PeriodKernel, GraphLSTM)


class Residual(nn.Module):
    """α is one number a member: 0 is the ridge alone, 1 the whole net. Neither it nor the ridge is trained."""

    alpha: Float[Tensor, " member"]

    def __init__(
        self, net: StackedLSTMNet | LSTMTransformerNet | PeriodKernelNet | GraphLSTMNet, shape: Shape, ridge: RidgeNet | SeasonalRidgeNet | None = None
    ) -> None:
        super().__init__()
        self.ridge, self.net = ridge or RidgeNet(shape), net
        self.register_buffer("alpha", torch.ones(shape.members))

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: Noise | None = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """[.., horizon, target, 1 + level]."""
        line: Tensor = self.ridge(past, observed, future, static)
        learned: Tensor = self.net(past, observed, future, static, noise)
        return line + self.alpha.view(-1, 1, 1, 1, 1) * learned

    def penalty(self) -> Float[Tensor, " member"]:
        """The net's own."""
        return self.net.penalty()


def assembled(spec: OnRidge, shape: Shape, streams: Sequence[Generator], bank: Bank | None = None) -> nn.Module:
    """The net as it forecasts: on a ridge, if the spec says so. `bank` are the periods of a PeriodKernel."""
    if isinstance(spec, PeriodKernel):
        kernels = spec.build(shape, streams, bank)
        return Residual(kernels, shape, spec.ridge.build(shape, streams)) if spec.ridge else kernels
    net = spec.build(shape, streams)
    return Residual(net, shape) if spec.ridge else net
