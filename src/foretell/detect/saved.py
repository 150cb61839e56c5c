"""Saved: the classes a saved detector is made of, by their names in the file; storage.py joins them to its table."""

from typing import Any

from ..nets.autoencoder import LSTMAutoencoder
from ..nets.tadgan import TadGAN
from .detector import Detector, DetectorState
from .events import Alarms
from .fitting import Blend
from .forecasting import ForecasterFit
from .gan import TadGANFit
from .method import PCA, Linear, LinearFit, PCAFit, Random, RandomFit, Spread, SpreadFit
from .preparation import Group, Preparation, Prepared
from .rewriting import AutoencoderFit
from .scoring import DetectorPart, Scoring
from .trees import EllipticEnvelope, EnvelopeFit, ForestFit, IsolationForest


def classes() -> dict[str, type[Any]]:
    """Name in the file → class."""
    return {
        "Alarms": Alarms,
        "AutoencoderFit": AutoencoderFit,
        "Blend": Blend,
        "Detector": Detector,
        "DetectorPart": DetectorPart,
        "DetectorState": DetectorState,
        "EllipticEnvelope": EllipticEnvelope,
        "EnvelopeFit": EnvelopeFit,
        "ForecasterFit": ForecasterFit,
        "ForestFit": ForestFit,
        "Group": Group,
        "IsolationForest": IsolationForest,
        "LSTMAutoencoder": LSTMAutoencoder,
        "Linear": Linear,
        "LinearFit": LinearFit,
        "PCA": PCA,
        "PCAFit": PCAFit,
        "Preparation": Preparation,
        "Prepared": Prepared,
        "Random": Random,
        "RandomFit": RandomFit,
        "Scoring": Scoring,
        "Spread": Spread,
        "SpreadFit": SpreadFit,
        "TadGAN": TadGAN,
        "TadGANFit": TadGANFit,
    }
