"""Detect: from normal runs to a detector, from a detector to scores, from scores to alarms that name the sensors."""

from .detector import Detector, DetectorState, Fresh, Scores
from .events import Alarms, Event, Events
from .fitting import Blend, fit
from .method import PCA, Linear, Random, Spread
from .preparation import Preparation
from .scoring import Scoring
from .trees import EllipticEnvelope, IsolationForest

__all__ = [
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
    "Scores",
    "Scoring",
    "Spread",
    "fit",
]
