"""Explanation methods for any f(blocks) -> [row, horizon, ...]: tensors in, attributions out; no panel, no forecaster."""
