"""Neighbours from scikit-learn, fitted there and kept as tensors: isolation forest and elliptic envelope."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..errors import DataError
from ..spec import Spec
from .method import Method, Piece, Said

X = Float[Tensor, "time variable"]
EULER = 0.5772156649015329


class IsolationForest(Spec):
    """How few random cuts set a row apart. Liu, Ting & Zhou (2008), doi:10.1109/ICDM.2008.17."""

    trees: int = Field(default=100, ge=1)
    rows: int = Field(default=256, ge=2)


class EllipticEnvelope(Spec):
    """Mahalanobis distance from a robust centre and covariance. Rousseeuw & Van Driessen (1999), doi:10.1080/00401706.1999.10485670.

    `support` is the share of rows that the covariance is taken of; None lets the method choose.
    """

    support: float | None = Field(default=None, gt=0, le=1)


@final
@dataclass(frozen=True, eq=False)
class ForestFit(Method):
    """All trees side by side, shorter ones filled up: at each node the variable, the cut, the two next nodes (itself at a leaf), the depth a
    leaf stands for."""

    variable: Int[Tensor, "tree node"]
    cut: Float[Tensor, "tree node"]
    low: Int[Tensor, "tree node"]
    high: Int[Tensor, "tree node"]
    depth: Float[Tensor, "tree node"]
    levels: int
    usual: float

    def say(self, x: X) -> Said:
        bad = x.isnan().any(1)
        node = torch.zeros(len(self.cut), len(x), dtype=torch.long)
        rows = torch.where(bad[:, None], 0.0, x).float().double().T  # scikit-learn compares 32-bit numbers
        for _ in range(self.levels):
            value = rows.gather(0, self.variable.gather(1, node))
            node = torch.where(value <= self.cut.gather(1, node), self.low.gather(1, node), self.high.gather(1, node))
        score = torch.exp2(-self.depth.gather(1, node).mean(0) / self.usual)
        return Said(x, whole=score.masked_fill(bad, torch.nan))


@final
@dataclass(frozen=True, eq=False)
class EnvelopeFit(Method):
    """The root of the inverse covariance makes every direction equally usual."""

    centre: Float[Tensor, " variable"]
    root: Float[Tensor, "variable variable"]

    @property
    def norm(self) -> bool:
        return True

    def say(self, x: X) -> Said:
        return Said((x - self.centre) @ self.root)


def fit_forest(spec: IsolationForest, runs: Sequence[Piece], seed: int) -> ForestFit:
    """scikit-learn's forest as tensors."""
    from sklearn.ensemble import IsolationForest as Forest

    rows = _rows(runs)
    count = min(spec.rows, len(rows))
    forest = Forest(n_estimators=spec.trees, max_samples=count, random_state=seed).fit(rows)
    trees = [one.tree_ for one in forest.estimators_]
    size = max(t.node_count for t in trees)
    places = np.arange(size)
    variable, cut, depth = np.zeros((len(trees), size), np.int64), np.zeros((len(trees), size)), np.zeros((len(trees), size))
    low, high = (np.tile(places, (len(trees), 1)) for _ in range(2))
    for at, (tree, features) in enumerate(zip(trees, forest.estimators_features_, strict=True)):
        inner, n = tree.children_left >= 0, tree.node_count
        variable[at, :n] = np.where(inner, features[np.maximum(tree.feature, 0)], 0)
        cut[at, :n], depth[at, :n] = tree.threshold, _depths(tree.children_left, tree.children_right, tree.n_node_samples)
        low[at, :n], high[at, :n] = np.where(inner, tree.children_left, places[:n]), np.where(inner, tree.children_right, places[:n])
    whole = [torch.from_numpy(a) for a in (variable, cut, low, high, depth)]
    return ForestFit(whole[0], whole[1], whole[2], whole[3], whole[4], max(t.max_depth for t in trees), float(_path(np.array([count]))[0]))


def _depths(left: np.ndarray, right: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Cuts down to each node, and those it would take to set its rows apart."""
    depth = np.zeros(len(left))
    for node in range(len(left)):  # children come after their parents
        if left[node] >= 0:
            depth[left[node]] = depth[right[node]] = depth[node] + 1
    whole: np.ndarray = depth + _path(samples)
    return whole


def _path(count: np.ndarray) -> np.ndarray:
    """Mean length of an unsuccessful search in a binary tree of so many."""
    many = 2 * (np.log(np.maximum(count - 1, 1)) + EULER) - 2 * (count - 1) / np.maximum(count, 1)
    return np.where(count > 2, many, np.where(count == 2, 1.0, 0.0))


def fit_envelope(spec: EllipticEnvelope, runs: Sequence[Piece], seed: int) -> EnvelopeFit:
    """scikit-learn's robust covariance; a small part of the mean variance is added, so that it can be inverted."""
    import warnings

    from sklearn.covariance import MinCovDet

    rows = _rows(runs)
    if len(rows) <= rows.shape[1] + 1:
        raise DataError(f"the elliptic envelope needs more rows than channels; got {len(rows)} normal rows of {rows.shape[1]} channels")
    with warnings.catch_warnings():
        # A covariance that is not of full rank, or grows in a step: what is added below answers both.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        found = MinCovDet(support_fraction=spec.support, random_state=seed).fit(rows)
    covariance = torch.from_numpy(found.covariance_)
    covariance = covariance + 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    variance, axes = torch.linalg.eigh(covariance)
    return EnvelopeFit(torch.from_numpy(found.location_), axes / variance.clamp(min=1e-9).sqrt() @ axes.T)


def _rows(runs: Sequence[Piece]) -> np.ndarray:
    every = torch.cat(list(runs))
    rows: np.ndarray = every[~every.isnan().any(1)].numpy()
    if not log(max(1, len(rows))):
        raise DataError("the normal runs have no two whole rows")
    return rows
