"""Fitted, invertible, differentiable maps between the user's units and the space a model works in."""
