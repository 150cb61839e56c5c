"""Evaluation of scores and alarms against labels: over all thresholds, at the shipped one, event by event, and of the culprits named."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .events import Event, runs_of

Line = Float[Tensor, " time"]
Marks = Bool[Tensor, " time"]
SHARES = (0, 20, 40, 60, 80, 100)  # K of PA%K, in percent


class Ranked(NamedTuple):
    """How well scores rank rows, whatever the threshold."""

    vus_pr: float
    auc_pr: float
    auroc: float


class Alarmed(NamedTuple):
    """How good alarms are at the threshold that is shipped: by row, by event, by time; `delay` in rows, of the events found."""

    precision: float
    recall: float
    f1: float
    false_alarm_ratio: float
    event_recall: float
    event_precision: float
    false_alarms_per_day: float
    delay: float
    range_f1: float
    pa_k: tuple[float, ...]


def known(score: Line) -> Line:
    """Rows without a score rank lowest."""
    return torch.where(score.isnan(), -torch.inf, score.double())


def average_precision(score: Line, label: Marks) -> float:
    """Area under precision against recall, by steps; rows of equal score count as one."""
    precision, recall = _curve(known(score), label)
    return float((recall.diff(prepend=recall.new_zeros(1)) * precision).sum()) if bool(label.any()) else torch.nan


def _curve(score: Line, label: Marks) -> tuple[Tensor, Tensor]:
    order = score.argsort(descending=True, stable=True)
    hit = label[order].double().cumsum(0)
    last = torch.cat([score[order].diff() != 0, torch.ones(1, dtype=torch.bool)])  # the last of equal scores
    count = torch.arange(1, len(score) + 1, dtype=torch.float64)
    return (hit / count)[last], (hit / hit[-1].clamp(min=1))[last]


def auroc(score: Line, label: Marks) -> float:
    """Probability that a marked row scores higher than another, ties counting half."""
    up, down = int(label.sum()), int((~label).sum())
    if not up or not down:
        return torch.nan
    values, place = known(score).unique(return_inverse=True)
    count = torch.bincount(place, minlength=len(values)).double()
    rank = count.cumsum(0) - (count - 1) / 2
    return float((rank[place[label]].sum() - up * (up + 1) / 2) / (up * down))


def vus_pr(score: Line, label: Marks, buffer: int = 100, thresholds: int = 250) -> float:
    """Volume under the precision-recall surface: the area under the range-aware curve, mean over buffers of 0 … `buffer` rows
    around the events, in which a row counts by its nearness. Paparrizos et al. (2022), doi:10.14778/3551793.3551830.
    """
    if not bool(label.any()):
        return torch.nan
    values = known(score)
    order = values.argsort(descending=True, stable=True)
    level = values[order][torch.linspace(0, len(values) - 1, thresholds).long()]
    count = (len(values) - torch.searchsorted(values.sort().values, level)).long()  # rows at or above each level
    return sum(_range_area(values, label, order, level, count, width) for width in range(buffer + 1)) / (buffer + 1)


def _range_area(values: Line, label: Marks, order: Tensor, level: Tensor, count: Tensor, width: int) -> float:
    near = nearness(label, width)
    ends = runs_of(near > 0)
    top = torch.stack([values[a : b + 1].max() for a, b in ends.tolist()])
    found = (top[:, None] >= level).double().mean(0)
    inside = near[order].cumsum(0)[count - 1]
    around = torch.where(label, 0.0, near)[order].cumsum(0)[count - 1]
    positive = float(label.sum())
    recall = (inside / ((positive + positive + around) / 2)).clamp(max=1) * found
    return float((recall.diff(prepend=recall.new_zeros(1)) * (inside / count)).sum())


def nearness(label: Marks, width: int) -> Line:
    """1 in an event; √(1 − distance/width) within half a width of one."""
    distance = torch.arange(1, max(1, width // 2))
    ends = runs_of(label)
    rows = torch.cat([ends[:, :1] - distance, ends[:, 1:] + distance]).flatten()
    inside = (rows >= 0) & (rows < len(label))
    by = (1 - distance.double() / max(1, width)).sqrt().repeat(2 * len(ends))
    return label.double().index_add(0, rows[inside], by[inside]).clamp(max=1)


def ranked(score: Line, label: Marks, buffer: int = 100) -> Ranked:
    """All that needs no threshold."""
    return Ranked(vus_pr(score, label, buffer), average_precision(score, label), auroc(score, label))


def alarmed(alarm: Marks, label: Marks, row_seconds: float) -> Alarmed:
    """All that is said at a threshold. The false-alarm ratio is the share of normal rows in alarm; false alarms a day count alarms that touch no event."""
    hit, said, true = int((alarm & label).sum()), int(alarm.sum()), int(label.sum())
    precision, recall = hit / said if said else torch.nan, hit / true if true else torch.nan
    alarms, events = runs_of(alarm).tolist(), runs_of(label).tolist()
    right = [bool(label[a : b + 1].any()) for a, b in alarms]
    first = [int(alarm[a : b + 1].int().argmax()) for a, b in events if bool(alarm[a : b + 1].any())]
    days = len(label) * row_seconds / 86400
    quiet = int((~label).sum())
    return Alarmed(
        precision, recall, f1(hit, said, true), (said - hit) / quiet if quiet else torch.nan, len(first) / len(events) if events else torch.nan,
        sum(right) / len(right) if right else torch.nan, (len(right) - sum(right)) / days, sum(first) / len(first) if first else torch.nan,
        range_f1(alarm, label), tuple(adjusted_f1(alarm, label, share) for share in SHARES),
    )  # fmt: skip


def f1(hit: int, said: int, true: int) -> float:
    return 2 * hit / (said + true) if said + true else torch.nan


def adjusted_f1(alarm: Marks, label: Marks, share: int | float) -> float:
    """PA%K: an event of which at least `share` percent is in alarm counts as found whole. 0 is point adjustment, which flatters;
    100 is plain F1. Kim et al. (2022), arXiv:2109.05257."""
    filled = alarm.clone()
    for a, b in runs_of(label).tolist():
        part = alarm[a : b + 1].double().mean()
        if part > 0 and part * 100 >= share:
            filled[a : b + 1] = True
    return f1(int((filled & label).sum()), int(filled.sum()), int(label.sum()))


def range_f1(alarm: Marks, label: Marks) -> float:
    """Harmonic mean of range precision and recall: overlap of each range, flat, divided by the number of pieces it is in.
    Tatbul et al. (2018), arXiv:1803.03639."""
    precision, recall = _overlap(alarm, label), _overlap(label, alarm)
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0 if bool(label.any()) else torch.nan


def _overlap(ranges: Marks, others: Marks) -> float:
    found = []
    for a, b in runs_of(ranges).tolist():
        part = others[a : b + 1]
        found.append(float(part.double().mean()) / max(1, len(runs_of(part))))
    return sum(found) / len(found) if found else 0.0


def hit_at(events: Sequence[Event], truth: Sequence[tuple[int, int, frozenset[str]]], count: int = 3) -> float:
    """Of the first `count` culprits of every alarm that touches a labelled event, the share that its label names (of as many as it
    names, if fewer). `truth`: first and last clock step of each event, and its channels."""
    found = []
    for event in events:
        for first, last, channels in truth:
            if event.start <= last and event.stop >= first and channels:
                k = min(count, len(channels))
                found.append(len({c.channel for c in event.culprits[:k]} & channels) / k)
    return sum(found) / len(found) if found else torch.nan
