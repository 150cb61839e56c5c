"""Explanations of fitted models: explain, methods, components; what can be acted on: effect, worth, counterfactual."""

from .acting import counterfactual, effect, worth
from .explain import explain, methods
from .neighbouring import by_neighbour
from .parts import components, sentences

__all__ = ["by_neighbour", "components", "counterfactual", "effect", "explain", "methods", "sentences", "worth"]
