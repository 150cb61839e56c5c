"""Explanations of fitted models: explain, methods, components."""

from .explain import explain, methods
from .parts import components, sentences

__all__ = ["components", "explain", "methods", "sentences"]
