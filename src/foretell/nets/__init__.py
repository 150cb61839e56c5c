"""Networks: tensors in, tensors out; every tensor carries the member axis first."""

from .layers import Shape
from .residual import Residual, assembled
from .response import Response
from .ridge import Ridge
from .stacked_lstm import StackedLSTM

__all__ = ["Residual", "Response", "Ridge", "Shape", "StackedLSTM", "assembled"]
