"""Networks: tensors in, tensors out; every tensor carries the member axis first."""

from .layers import Shape
from .residual import Residual, assembled
from .ridge import Ridge
from .stacked_lstm import StackedLSTM

__all__ = ["Residual", "Ridge", "Shape", "StackedLSTM", "assembled"]
