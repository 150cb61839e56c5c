"""What a net has inside, by name: which methods look into it, and why some nets have nothing there."""

from collections.abc import Callable

from ..attribution.types import Attribution
from ..baseline import Drift, MovingAverage, SeasonalNaive
from ..forecaster import Forecaster
from ..mixture import Mixture
from ..nets.lstm_transformer import LSTMTransformerNet
from ..nets.period_kernel import PeriodKernelNet
from .asked import Asked
from .look import core
from .maps import attention, cam, kernels
from .record import record
from .weights import feature_weights, weighed

INNER: dict[str, Callable[[Asked], Attribution]] = {
    "attention": attention, "feature_weights": feature_weights, "cam": cam, "kernels": kernels, "components": record,
}  # fmt: skip


def why_not(model: Forecaster, name: str) -> str:
    """Why a net cannot show this; empty if it can."""
    kind = type(model.net).__name__
    if isinstance(model.net, Mixture) and name == "feature_weights":
        return ""
    if not model.differentiable:
        told = "its seasons and channels are told apart by slopes, which it does not have" if name == "components" else "it is no net with weights to look at"
        return f"{told}; use shapley, lime or occlusion"
    net = core(model.module)
    if name == "attention" and not (isinstance(net, PeriodKernelNet) or (isinstance(net, LSTMTransformerNet) and net.spec.encoders)):
        return f"{kind} has no attention; use deeplift or occlusion"
    if name in ("cam", "kernels") and not isinstance(net, PeriodKernelNet):
        return f"{kind} has no convolutions; use deeplift or occlusion"
    if name == "feature_weights" and not weighed(model.module):
        bare = isinstance(model.net, SeasonalNaive | Drift | MovingAverage)
        return f"{kind} has no weights; use saliency" if bare else f"the weights of {kind} act through one another and say nothing alone; use saliency"
    return ""
