"""Detecting: `foretell detect`: learn from normal runs, score a run, watch rows as they arrive."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..alarmpage import alarm_report
from ..detect import (
    PCA,
    Alarms,
    Detector,
    EllipticEnvelope,
    Events,
    IsolationForest,
    Linear,
    Scores,
    Spread,
    alarmed,
    fit,
    fit_beside,
    from_forecaster,
    hit_at,
    ranked,
)
from ..detect.fitting import Net
from ..errors import DataError, FileError, TaskError, nearest
from ..nets import LSTMAutoencoder, TadGAN
from ..panel import Panel
from ..reading import Reading
from ..reading.columns import find_time
from ..reading.panels import draft
from ..reading.tables import Log, open_table
from ..storage import load, save
from ..train import Training
from . import runs
from .flags import Output
from .screen import Screen, plain

Truth = list[tuple[int, int, frozenset[str]]]


def net_of(word: str) -> Net | Literal["auto"]:
    """A net by its word; TaskError for one that does not exist."""
    nets: dict[str, Net | Literal["auto"]] = {
        "auto": "auto", "spread": Spread(), "pca": PCA(), "forecast": Linear(), "fill": Linear(back=2, ahead=2),
        "forest": IsolationForest(), "envelope": EllipticEnvelope(), "autoencoder": LSTMAutoencoder(), "tadgan": TadGAN(),
    }  # fmt: skip
    if word not in nets:
        raise TaskError(f'--net {word}: no detector "{word}": {nearest(word, nets)}')
    return nets[word]


def opened(path: Path, how: Reading) -> tuple[Panel, Sequence[str]]:
    """A run's file. A date and a time of day in two columns are joined; a file without times has a row a second."""
    log = Log()
    table = open_table(path, how.encoding, log)
    names = {str(c).lower(): str(c) for c in table.frame.columns}
    if how.time == "auto" and {"date", "time"} <= set(names):
        how = how.model_copy(update={"time": (names["date"], names["time"])})
    elif how.time == "auto" and not find_time(table, "auto"):
        how = how.model_copy(update={"time": None, "step": how.step or "s", "start": how.start or "2000-01-01"})
    return draft(path, how, log).panel, log.notes


def trained(files: Sequence[Path], how: Reading, word: str, false_alarms: str, training: dict[str, Any], screen: Screen) -> Detector:
    """A detector from these files, each a run (or several), with its neighbours."""
    model = load(Path(word)) if word.endswith(".foretell") else None
    net: Net | Literal["auto"] = "auto" if model else net_of(word)  # a wrong word is told before any file is read
    alarms, panels = Alarms(false_alarms=false_alarms), []
    for file in files:
        panel, notes = opened(file, how)
        panels.append(panel)
        for note in notes:
            screen.remark(f"note: {file.name}: {note}")
    defaults = {"epochs": 35, "optimizer": {"rate": 5e-4, "clip": None}} if word == "tadgan" else {}
    options = Training.model_validate({**defaults, **training})
    guard = from_forecaster(model, panels, alarms=alarms) if model else fit(panels, net, options, alarms=alarms)
    screen.show(guard.summary())
    limit = guard.limit()
    seen = f"{24 * limit.days:.3g} hours of normal rows, " + ("extrapolated by their tail" if limit.extrapolated else "seen there")
    screen.show(f"an alarm is a score above {limit.value:.4g}: {false_alarms} false alarms ({seen})")
    return fit_beside(panels, guard)


def kept(guard: Detector, path: Path, screen: Screen) -> None:
    """The detector in a file."""
    save(guard, path)
    screen.show(f"detector: {path}")


def fitted(path: Path) -> Detector:
    """The detector of a file or a run folder."""
    file = path / runs.MODEL if path.is_dir() else path
    found = load(file)
    if not isinstance(found, Detector):
        raise FileError(f'"{file}" holds a {type(found).__name__}, not a detector: foretell detect --train makes one')
    return found


@dataclass(frozen=True, eq=False)
class Tested:
    """A scored run with its alarms, and with labels how good they were: a row a detector."""

    scores: Scores
    events: Events
    label: Tensor | None
    table: dict[str, dict[str, float]]


def tested(guard: Detector, panel: Panel, labels: Path | None, how: Reading) -> Tested:
    """Scores and alarms of a file, beside those of the neighbours; with labels also how good they are."""
    every = {name: (one, *_scored(one, panel)) for name, one in {"detector": guard, **guard.beside}.items()}
    _, scores, events = every["detector"]
    if labels is None:
        return Tested(scores, events, None, {name: counts_of(*one) for name, one in every.items()})
    mark, truth = labelled(labels, scores, how)
    table = {name: row_of(*one, mark, truth) for name, one in every.items()}
    always = alarmed(torch.ones_like(mark[0]), mark[0], guard.row_seconds)
    table["all positive"] = {"F1": always.f1, "false alarm ratio": always.false_alarm_ratio, "event recall": always.event_recall}
    return Tested(scores, events, mark, table)


def _scored(guard: Detector, panel: Panel) -> tuple[Scores, Events]:
    scores = guard.score(panel)
    return scores, guard.events(scores)


def counts_of(guard: Detector, scores: Scores, events: Events) -> dict[str, float]:
    """What can be said without labels: how often there is an alarm, and how far the score rises above the limit."""
    rows, inside = int((~scores.values.isnan()).sum()), sum(e.stop - e.start + 1 for e in events.rows)
    high = float(torch.nan_to_num(scores.values).max()) / events.limit.value
    return {"alarms": float(len(events)), "rows in alarm": inside / rows, "highest score / limit": high}


def row_of(guard: Detector, scores: Scores, events: Events, mark: Tensor, truth: Truth) -> dict[str, float]:
    """Of the first run: how scores rank, and how good the alarms are."""
    alarm = torch.zeros_like(mark[0])
    for event in events.rows:
        if event.series == scores.series[0]:
            alarm[event.start - scores.start[0] : event.stop - scores.start[0] + 1] = True
    at, over = alarmed(alarm, mark[0], guard.row_seconds), ranked(scores.values[0], mark[0])
    found = {"VUS-PR": over.vus_pr, "AUC-PR": over.auc_pr, "AUROC": over.auroc, "F1": at.f1, "range F1": at.range_f1}
    found |= {"event recall": at.event_recall, "event precision": at.event_precision, "false alarms a day": at.false_alarms_per_day}
    found |= {"false alarm ratio": at.false_alarm_ratio, "delay, rows": at.delay}
    return found | {f"PA%{k}": value for k, value in zip((0, 20, 40, 60, 80, 100), at.pa_k, strict=True)} | {"hit@3": hit_at(events.rows, truth)}


def labelled(path: Path, scores: Scores, how: Reading) -> tuple[Tensor, Truth]:
    """Labels from a file: intervals in columns start and stop (with channels, if known), or a column of 0 and 1 a row."""
    frame = open_table(path, how.encoding, Log()).frame
    mark, truth = torch.zeros(scores.values.shape, dtype=torch.bool), []
    first = scores.start[0]
    if {"start", "stop"} <= set(frame.columns):
        said = frame["channels"].to_list() if "channels" in frame.columns else [""] * len(frame)
        for a, b, names in zip(*(_steps(frame[c].to_list(), scores) for c in ("start", "stop")), said, strict=True):
            mark[0, max(0, a - first) : b - first + 1] = True
            truth.append((a, b, frozenset(n.strip() for n in str(names or "").replace(";", ",").split(",") if n.strip())))
        return mark, truth
    column = next((c for c in ("label", "anomaly", "is_anomaly", "y") if c in frame.columns), frame.columns[-1])
    values = np.array(frame[column].to_list(), dtype=np.float64)
    if len(values) != scores.values.shape[1]:
        raise DataError(f'--labels {path}: column "{column}" has {len(values)} rows, the test run {scores.values.shape[1]}; or give columns start and stop')
    mark[0] = torch.from_numpy(values > 0)
    return mark, truth


def _steps(values: Sequence[object], scores: Scores) -> list[int]:
    if all(re.fullmatch(r"\d+(\.0*)?", str(v).strip()) for v in values):  # every cell of a table is text at first
        return [scores.start[0] + int(str(v).strip().split(".")[0]) for v in values]  # rows of the run, counted from 0
    try:
        times = np.array([str(v) for v in values], dtype="datetime64[s]")
    except ValueError:
        raise DataError(f'--labels: "{values[0]}" is neither a row number nor a time like 2024-01-31 13:00') from None
    return [int(step) for step in scores.clock.index(times)]


def again(folder: Path, data: Path | None, typed: Mapping[str, Any], out: Path | None, lang: str, title: str | None) -> Path:
    """The report of a run folder written again, from its detector and the file it judged."""
    facts = json.loads((folder / runs.METRICS).read_text(encoding="utf-8"))
    source, labels = data or Path(facts["data"]), facts["labels"]
    for file, how in ((source, "say where it is now by --data"), *([(Path(labels), "put it back where it was")] if labels else [])):
        if not file.exists():
            raise FileError(f'the file of this run, "{file}", is not there: {how}')
    reading, guard = Reading.model_validate({**facts["reading"], **typed}), fitted(folder)
    found = tested(guard, opened(source, reading)[0], Path(labels) if labels else None, reading)
    target = out or folder / runs.REPORT
    return alarm_report(target, guard, found.scores, found.events, label=found.label, table=found.table, lang=lang, title=title)


def left(folder: Path) -> bool:
    """Whether a run folder is a detector's."""
    try:
        return "detector" in json.loads((folder / runs.METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


class Made(NamedTuple):
    """What a run was made from."""

    data: Path
    labels: Path | None
    reading: Reading


def leave(guard: Detector, found: Tested, made: Made, place: runs.Place, output: Output, screen: Screen, began: float) -> None:
    """Writes the run folder, and shows what is in it."""
    events, scores = found.events, found.scores
    facts = {
        "command": " ".join(("foretell", *runs.TYPED.get())), "versions": runs.versions(), "detector": guard.summary().splitlines(),
        "data": str(made.data), "labels": str(made.labels) if made.labels else None, "reading": made.reading.model_dump(mode="json", exclude_unset=True),
        "limit": {"value": events.limit.value, "kind": events.limit.kind, "extrapolated": events.limit.extrapolated},
        "alarms": len(events), "table": found.table, "notes": list(events.notes), "seconds": round(perf_counter() - began, 3),
    }  # fmt: skip
    with runs.staged(place) as folder:
        save(guard, folder / runs.MODEL)
        runs.write_table(folder, "alarms", events.columns(), output.format)
        runs.write_table(folder, "scores", scores.columns(), output.format)
        (folder / runs.METRICS).write_text(json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")
        alarm_report(folder / runs.REPORT, guard, scores, events, label=found.label, table=found.table, lang=output.lang, title=output.title)
    for note in events.notes:
        screen.remark(f"note: {note}")
    shown = events.columns()
    screen.show(f"{len(events)} alarm{'' if len(events) == 1 else 's'}")
    for at in range(min(10, len(events))):
        screen.show(f"  {shown['start'][at]} … {shown['stop'][at]}  severity {shown['severity'][at]:.3g}  {shown['culprits'][at]}")
    for name, row in found.table.items():
        screen.show(f"  {name}: " + ", ".join(f"{metric} {value:.3f}" for metric, value in row.items() if np.isfinite(value)))
    screen.show(f"report: {place.path / runs.REPORT}")
    screen.document({**facts, "folder": str(place.path), "events": [e._asdict() | {"culprits": [c._asdict() for c in e.culprits[:5]]} for e in events.rows]})


def follow(guard: Detector, lines: Iterable[str]) -> Iterator[str]:
    """CSV rows with a header, as they come, to CSV rows of the scores known: row, score, alarm, culprits."""
    rows = csv.reader(lines)
    header = [name.strip() for name in next(rows, [])]
    missing = [c for c in guard.inputs if c not in header]
    if missing:
        raise DataError(f'the rows on standard input lack the channel "{missing[0]}": their first line must name {", ".join(guard.inputs[:5])} …')
    at, limit = [header.index(c) for c in guard.inputs], guard.limit().value
    yield "row,score,alarm,culprits"
    first = next((row for row in rows if row), [])
    state = guard.start(_when(header, first, guard) if guard.clock and first else "2000-01-01")
    for row in chain([first], rows):
        if row:
            state, fresh = guard.step(state, [[_number(row[n]) if n < len(row) else float("nan") for n in at]])
            yield from _told(guard, fresh.first, fresh.score, fresh.channel, limit)
    last = guard.finish(state)
    yield from _told(guard, last.first, last.score, last.channel, limit)


def _when(header: Sequence[str], row: Sequence[str], guard: Detector) -> str:
    """The time of a row: what stands in a column that is no channel and reads as one."""
    for name, cell in zip(header, row, strict=False):
        if name not in guard.inputs and re.match(r"\d{4}-\d\d-\d\d", cell):
            return cell
    raise DataError("what is usual depends on the clock: the rows on standard input need a column of times, as 2024-01-31 13:00")


def _told(guard: Detector, first: int, score: Tensor, channel: Tensor, limit: float) -> Iterator[str]:
    for n, value in enumerate(score.tolist()):
        alarm = value > limit
        names = " ".join(guard.channels[c] for c in torch.nan_to_num(channel[n]).topk(min(3, channel.shape[1])).indices.tolist()) if alarm else ""
        yield f"{first + n},{'' if value != value else f'{value:.6g}'},{int(alarm)},{names}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def watch(guard: Detector) -> None:
    """`follow` from standard input to standard output, line by line."""
    for line in follow(guard, sys.stdin):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
