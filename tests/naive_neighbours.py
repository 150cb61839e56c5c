"""The slow, obvious twins of the neighbours: boosted trees asked one row at a time, with every feature written out."""

import numpy as np
import torch

from foretell import Forecaster, Panel
from foretell.neighbours import Boosting
from foretell.neighbours.boosting import loaded, text


def boosted(model: Forecaster, panel: Panel, origin: int, one: int) -> list[float]:
    """The forecast of one series, step by step, for a model with one target and the identity scale."""
    net = model.net
    assert isinstance(net, Boosting)
    trees, change = loaded(net.kind, text(model.weights["trees_0"])), int(model.weights["difference"][0, 0])
    line = panel.channel(model.roles.target[0])[one, : origin + 1].tolist()[-model.context :]
    season, found = net.season or 1, []
    widths = sorted({w for w in (season, 4 * season) if 1 < w <= model.context - 1 - change})
    for ahead in range(1, model.task.horizon + 1):
        moved = [b - a for a, b in zip(line[:-change], line[change:], strict=True)] if change else line
        row = [float(panel.channel(c)[one, origin + ahead]) for c in model.roles.known]
        row += [float(panel.channel(c)[one, origin + ahead - season]) for c in model.roles.known]
        row += [float(panel.channel(c)[one, origin + ahead - model.task.horizon]) for c in model.roles.past]
        row += [float(label.read(panel)[one]) for label in model.labels]
        row += [moved[-lag] for lag in net.reach(model.context, change)]
        row += [float(np.mean(moved[-width:])) for width in widths]
        step = float(trees.predict(np.array([row], dtype=np.float32))[0])
        line.append(step + (line[-change] if change else 0.0))
        found.append(line[-1])
    return found


def continued(values: torch.Tensor) -> np.ndarray:
    """A series as statsforecast takes it."""
    return values.double().numpy()
