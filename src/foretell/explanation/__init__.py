"""Explanations of fitted models: explain, methods, components; what can be acted on: effect, worth, counterfactual."""

from .acting import counterfactual, effect, worth
from .explain import explain, methods
from .parts import components, sentences

__all__ = ["components", "counterfactual", "effect", "explain", "methods", "sentences", "worth"]
