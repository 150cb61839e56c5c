"""Neighbouring: what each neighbour adds to a graph net's forecast, by its name."""

from typing import Any

import numpy as np

from ..attribution.types import Attribution
from ..errors import TaskError
from ..forecaster import Forecaster
from ..frames import to_frame


def by_neighbour(why: Attribution, model: Forecaster) -> Any:
    """An explanation of a graph net as a tidy table of what comes from whom: unique_id, ds (of the forecast), neighbour, value in the
    target's units, summed over the steps of the neighbour's past. TaskError for another net's explanation."""
    if model.graph is None or not set(model.graph.channels) <= set(why.channels("past")):
        raise TaskError(f"by_neighbour() is for an explanation of a graph net; {type(model.net).__name__} reads no neighbours")
    graph, found = model.graph, why.by_channel()
    columns: dict[str, list[Any]] = {"unique_id": [], "ds": [], "neighbour": [], "value": []}
    for example, series in enumerate(why.labels.examples):
        if series not in graph.series:
            continue
        for channel, other in zip(graph.channels, graph.names(series), strict=False):
            values = found[channel][example].flatten().tolist()
            ahead = range(len(values)) if why.labels.ahead is None else why.labels.ahead[example]
            columns["unique_id"] += [series] * len(values)
            columns["ds"] += list(ahead)
            columns["neighbour"] += [other] * len(values)
            columns["value"] += values
    return to_frame({name: np.array(x) for name, x in columns.items()}, "polars")
