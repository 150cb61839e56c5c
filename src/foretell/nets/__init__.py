"""Networks: tensors in, tensors out; every tensor carries the member axis first."""

from .autoencoder import LSTMAutoencoder
from .graph_lstm import GraphLSTM
from .layers import Shape
from .lstm_transformer import LSTMTransformer
from .period_kernel import PeriodKernel
from .residual import ON_RIDGE, OnRidge, Residual, assembled
from .response import Response
from .ridge import Ridge
from .seasonal_ridge import SeasonalRidge
from .stacked_lstm import StackedLSTM
from .tadgan import TadGAN

__all__ = [
    "GraphLSTM",
    "LSTMAutoencoder",
    "LSTMTransformer",
    "ON_RIDGE",
    "OnRidge",
    "PeriodKernel",
    "Residual",
    "Response",
    "Ridge",
    "SeasonalRidge",
    "Shape",
    "StackedLSTM",
    "TadGAN",
    "assembled",
]
