"""Wide files: one row a series, one column a step (d_1 … d_n, or dates), laid out as a panel without being made long."""

import re
from typing import NamedTuple

import numpy as np
import torch

from ..clock import Clock
from ..errors import DataError
from ..panel import Names, Panel
from .columns import ID_NAMES, find_time, need, parse_numbers, parse_times, repeated, row_of
from .options import Reading
from .rows import START, Labels, first_time, id_text
from .tables import Log, Table
from .timing import on_clock, sub_daily, to_utc


class Steps(NamedTuple):
    """The columns that are steps: their names, and their times (dates as names) or else their numbers."""

    names: tuple[str, ...]
    times: np.ndarray | None
    numbers: np.ndarray | None


def find_steps(table: Table, reading: Reading) -> Steps | None:
    """The step columns of a wide table; None if the table is long."""
    if reading.wide is False or reading.time not in ("auto", None):
        return None
    if reading.wide is None and (reading.time is None or find_time(table, "auto")):
        return None
    found = _dated(table) or _numbered(table, reading)
    if found is None and reading.wide:
        raise DataError(f"wide=True, but no columns are named d_1, d_2, … or 2024-01, 2024-02, …; there are {', '.join(table.frame.columns[:8])}")
    return found


def _dated(table: Table) -> Steps | None:
    import polars as pl

    names = [n for n in table.frame.columns if re.match(r"\d{4}([-/.Qq ]|$)|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}", n)]
    if len(names) < 3:
        return None
    parsed = parse_times(pl.Series("column names", names))
    return None if parsed.bad.any() else Steps(tuple(names), parsed.times.astype("datetime64[s]"), None)


def _numbered(table: Table, reading: Reading) -> Steps | None:
    matches = {n: re.fullmatch(r"(.*?)(\d+)", n) for n in table.frame.columns}
    prefixes = [m[1] for m in matches.values() if m]
    if not prefixes:
        return None
    prefix = max(set(prefixes), key=prefixes.count)
    found = {n: int(m[2]) for n, m in matches.items() if m and m[1] == prefix}
    others = [n for n in table.frame.columns if n not in found]
    # V_1 … V_87 alone are sensors as likely as steps: it takes a name for each row, and rows fewer than columns or more columns than names.
    named = any(parse_numbers(table.frame[n].head(50))[1].any() for n in others)
    if len(found) < 3 or (not reading.wide and not (named and len(found) > 2 * len(others))):
        return None
    numbers = np.array(list(found.values()))
    return Steps(tuple(found), None, numbers - numbers.min())


def from_wide(table: Table, steps: Steps, reading: Reading, log: Log) -> Panel:
    """The panel of a wide table, its one channel called y."""
    others = [n for n in table.frame.columns if n not in steps.names]
    ids = _ids(table, others, reading)
    columns = [id_text(table.frame[n]).fill_null("?").to_list() for n in ids]
    series = tuple("/".join(parts) for parts in zip(*columns, strict=True)) if ids else tuple(f"s{i}" for i in range(table.frame.height))
    clock, index = _clock(steps, reading, log)
    matrix = torch.from_numpy(_matrix(table, steps, log)).to(torch.float32 if reading.dtype == "float32" else torch.float64)
    if not np.array_equal(index, np.arange(len(index))):
        matrix = matrix.new_full((len(series), int(index.max()) + 1), torch.nan).index_copy_(1, torch.from_numpy(index), matrix)
    values = matrix[..., None]
    labels: Labels = {n: tuple(_facts(table, n)) for n in others if n not in ids}
    names = Names("/".join(ids) or "unique_id", "ds", table.native)
    blank = torch.empty(0, 0, dtype=values.dtype)
    return Panel(values, blank, torch.zeros(len(series), dtype=torch.long), clock, series, ("y",), labels=labels, names=names)


def _facts(table: Table, name: str) -> list[str | float]:
    column = table.frame[name]
    if column.dtype.is_numeric():
        return [float("nan") if v is None else float(v) for v in column.to_list()]
    return ["" if v is None else str(v) for v in column.to_list()]


def _ids(table: Table, others: list[str], reading: Reading) -> tuple[str, ...]:
    import itertools

    def unique(names: tuple[str, ...]) -> bool:
        return bool(table.frame.select(names).n_unique() == table.frame.height)

    if reading.id != "auto":
        chosen = (reading.id,) if isinstance(reading.id, str) else reading.id or ()
        for name in chosen:
            need(name, others, "id")
        if chosen and not unique(chosen):
            row = table.frame.select(chosen).row(row_of(repeated(table.frame.select(chosen))) - 1)
            raise DataError(f'two rows are called "{"/".join(map(str, row))}": in a wide file id= names columns that tell the rows apart')
        return chosen
    likely = sorted(others, key=lambda n: ID_NAMES.index(n.lower()) if n.lower() in ID_NAMES else len(ID_NAMES))
    combinations = (c for size in (1, 2, 3) for c in itertools.combinations(likely[:8], size))
    chosen = next((c for c in combinations if unique(c)), ())
    if others and not chosen:
        raise DataError(f"no column among {', '.join(others[:8])} tells the rows apart: a wide file has one row a series")
    return tuple(n for n in others if n in chosen)


def _clock(steps: Steps, reading: Reading, log: Log) -> tuple[Clock, np.ndarray]:
    """The clock, and each step column's place on it."""
    if steps.times is not None:
        order = np.argsort(steps.times)
        times, one = steps.times[order], np.zeros(len(order), dtype=np.int64)
        again = np.flatnonzero(np.diff(times.astype(np.int64)) == 0)
        if len(again):
            raise DataError(f"two columns of the wide file are {times[again[0]]}")
        if reading.zone and sub_daily(times, reading.step):
            times = to_utc(one, times, reading.zone, reading.fold, log)
        clock, placed = on_clock(one, times, ("",), reading.step, reading.zone, log)
        index = np.empty_like(placed)
        index[order] = placed
        return clock, index
    assert steps.numbers is not None
    step = reading.step or "D"
    if reading.start is None or reading.step is None:
        log.note(f"columns are numbered: {steps.names[0]} is {reading.start or START}, one step is {step}; Reading(start=…) and step= say otherwise")
    return Clock(first_time(reading, step, log), step, reading.zone), steps.numbers


def _matrix(table: Table, steps: Steps, log: Log) -> np.ndarray:
    frame = table.frame.select(steps.names)
    if all(kind.is_numeric() for kind in frame.dtypes):
        return np.array(frame.to_numpy())
    columns = []
    for name in steps.names:
        values, bad = parse_numbers(frame[name], table.comma)
        if bad.any():
            row = row_of(bad)
            log.wrong(f'text in a number column: "{frame[name][row - 1]}" in column "{name}", row {row}; correct it, or leave it blank for not observed')
        columns.append(values.fill_null(float("nan")).to_numpy())
    return np.stack(columns, 1)
