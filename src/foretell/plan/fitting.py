"""Fitting: the models a plan can rest on, the constrained response net and flexible nets, as ensembles of half-samples."""

from collections.abc import Sequence

from .. import forecast
from ..forecaster import Forecaster
from ..nets import LSTMTransformer, Response, StackedLSTM
from ..optim import Optimizer
from ..panel import Panel
from ..task import Task
from ..train import Training

MEMBERS, EPOCHS = 12, 120


def fit_media(panel: Panel, task: Task, media: Sequence[str], *, members: int = MEMBERS, epochs: int = EPOCHS, seed: int = 0) -> Forecaster:
    """A response net over these media, whose members each learn from a random half of the steps and are held near a prior draw of
    their own: their spread says how sure a plan is. The last tenth of the data (a horizon at least) sets the forecast's bands."""
    # All epochs are used: a net of so few parameters, each near its prior, has no need to stop early, and data are dear.
    optimizer = Optimizer(rate=0.03, schedule="cosine", first_decay=20 * epochs)
    training = Training(epochs=epochs, batch=64, optimizer=optimizer, loss="mse", stop=0.0, calibrate=0.1, halves=True, seed=seed, device="cpu")
    return forecast.fit(panel, task, Response(media=tuple(media)), training, members=members)


def fit_flexible(panel: Panel, task: Task, *, members: int = MEMBERS, epochs: int = 60, seed: int = 0) -> Forecaster:
    """A small LSTM on the ridge, free to bend as the data say, with members of half-samples too, each on a ridge of its own half. No band
    knows that spend and season moved together."""
    training = Training(epochs=epochs, batch=64, stop=0.1, calibrate=0.1, halves=True, seed=seed, device="cpu")
    return forecast.fit(panel, task, StackedLSTM(hidden=(16,), dropout=0.1, ahead=32), training, members=members)


def fit_promotion(panel: Panel, task: Task, *, transformer: bool = False, members: int = 4, epochs: int = 25, seed: int = 0) -> Forecaster:
    """A net of all items for promotions, on the ridge, with members of half-samples: an LSTM, or an LSTM + Transformer."""
    net = LSTMTransformer(hidden=32, feedforward=64) if transformer else StackedLSTM(hidden=(32,), dropout=0.1)
    optimizer = Optimizer(rate=2e-3)
    training = Training(epochs=epochs, batch=256, optimizer=optimizer, halves=True, patience=5, retrain=False, device="cpu", seed=seed)
    return forecast.fit(panel, task, net, training, members=members)
