"""Detect: from normal runs to a detector, from a detector to scores, from scores to alarms that name the sensors."""

from .detector import Detector, DetectorState, Fresh, Scores
from .evaluate import Alarmed, Ranked, alarmed, hit_at, ranked
from .events import Alarms, Event, Events
from .fitting import Blend, fit, fit_beside
from .forecasting import from_forecaster
from .method import PCA, Linear, Random, Spread
from .preparation import Preparation
from .scoring import Scoring
from .trees import EllipticEnvelope, IsolationForest

__all__ = [
    "Alarmed",
    "Alarms",
    "Blend",
    "Detector",
    "DetectorState",
    "EllipticEnvelope",
    "Event",
    "Events",
    "Fresh",
    "IsolationForest",
    "Linear",
    "PCA",
    "Preparation",
    "Random",
    "Ranked",
    "Scores",
    "Scoring",
    "Spread",
    "alarmed",
    "fit",
    "fit_beside",
    "from_forecaster",
    "hit_at",
    "ranked",
]
