"""Rows: a long table's rows as numbers: whose, when, how much; sorted, made even, and laid out as a panel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..clock import Clock, local_from_utc
from ..errors import DataError, TaskError, nearest
from ..panel import Names, Panel
from .columns import find_id, find_time, need, parse_numbers, read_times, row_of, suggested_id
from .derive import names_in
from .options import Reading
from .tables import Frame, Log, Series, Table
from .timing import autumn_hour, find_grid, in_order, on_clock, period_starts, repeated_times, sub_daily, to_utc

Labels = dict[str, tuple[str | float, ...]]
START = np.datetime64("2000-01-01", "s")
SHOWN = 8
LARGE, SPARSE = 200_000_000, 50  # cells of a grid, and how many of them to an observed one, above which times must be wrong


@dataclass(frozen=True)
class Rows:
    """`code` is the number of a row's series, `time` its time (UTC where `zone` is set and times are finer than a day)."""

    code: np.ndarray
    time: np.ndarray
    values: np.ndarray  # float [row, channel]
    series: tuple[str, ...]
    channels: tuple[str, ...]
    labels: Labels
    names: Names
    zone: str | None

    def take(self, rows: np.ndarray) -> "Rows":
        """These rows only, in this order."""
        return replace(self, code=self.code[rows], time=self.time[rows], values=self.values[rows])

    def sorted(self) -> "Rows":
        """By series, then time; equal ones in the order of the file."""
        order = in_order(self.code, self.time)
        return self if order is None else self.take(order)


def rows_of(table: Table, reading: Reading, log: Log) -> Rows:
    """A long table's rows, in the order of the file."""
    time_names = find_time(table, reading.time)
    id_names = find_id(table, reading.id, time_names)
    if not time_names and reading.step is None:
        raise DataError(_no_time(table))
    if time_names and reading.start is not None:
        raise TaskError(f'start= is for rows without times, and here are some, in "{", ".join(time_names)}": leave start= out, or say time=None')
    code, series = _codes(table, id_names, log)
    time, zone, table, code = _times(table, time_names, code, reading, log)
    rest = [n for n in table.frame.columns if n not in (*time_names, *id_names, table.id)]
    _check_resolution(table, id_names, time_names, code, time, reading, log)
    labels, channels = _columns(table, rest, code, len(series), reading, log)
    values = np.stack([c.to_numpy() for c in channels.values()], 1) if channels else np.empty((len(code), 0))
    if not channels:
        raise DataError(f"{table.name} has no column of numbers beside {', '.join((*id_names, *time_names)) or 'its times'}")
    names = Names("/".join(id_names) or "unique_id", time_names[0] if len(time_names) == 1 else "ds", table.native)
    return Rows(code, time, values, series, tuple(channels), labels, names, zone)


def _no_time(table: Table) -> str:
    names = ", ".join(table.frame.columns[:8])
    return f'{table.name} has no column that reads as times among {names}: name it with time=, or, if rows are equal steps, say time=None, step="h"'


# ---------------------------------------------------------------- whose and when


def _codes(table: Table, names: Sequence[str], log: Log) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of each row's series in the order in which they first appear, and their names."""
    import polars as pl

    if not names:
        return np.zeros(table.frame.height, dtype=np.int64), (table.name,)
    parts = [id_text(table.frame[n]) for n in names]
    blank = pl.select(pl.any_horizontal([p.is_null() for p in parts])).to_series()
    if blank.any():
        log.wrong(f'row {row_of(blank)} has nothing in column "{", ".join(names)}", which says whose row it is ({int(blank.sum())} such rows)')
    column = pl.select(pl.concat_str([p.fill_null("?") for p in parts], separator="/")).to_series() if len(parts) > 1 else parts[0].fill_null("?")
    series = column.unique(maintain_order=True)
    code = column.replace_strict(series, pl.arange(len(series), eager=True), return_dtype=pl.Int64)
    return code.to_numpy(), tuple(series.to_list())


def id_text(column: Series) -> Series:
    import polars as pl

    if column.dtype.is_float() and (column.drop_nulls() == column.drop_nulls().floor()).all():
        column = column.cast(pl.Int64)
    return column.cast(pl.String).str.strip_chars()


def _times(table: Table, names: Sequence[str], code: np.ndarray, reading: Reading, log: Log) -> tuple[np.ndarray, str | None, Table, np.ndarray]:
    """Every row's time and the zone; rows whose time cannot be read are left out if the log lets reading go on."""
    import polars as pl

    if not names:
        return *_counted(code, reading, log), table, code
    parsed = read_times(table.frame, names, log)
    there = ~np.isnat(parsed.times)
    if not there.any():
        raise DataError(f'no row of {table.name} has a time that can be read in column "{", ".join(names)}"')
    if not there.all():
        table, code = replace(table, frame=table.frame.filter(pl.Series(there))), code[there]
    times = parsed.times[there]
    whole = times.astype("datetime64[s]")
    if (times != whole).any() and not reading.resample:
        first = times[times != whole][0]
        log.wrong(
            f'times have parts of a second (first {first}): the clock counts whole seconds; say resample="s", or, if rows are equal steps, time=None, step="s"'
        )
    zone = reading.zone or next((table.zones[n] for n in names if n in table.zones), None)
    aware = parsed.utc or any(n in table.zones for n in names)
    if parsed.utc and reading.zone is None:
        log.note("times carry an offset from UTC and are read as UTC; zone= gives the local time")
    return _in_zone(code, whole, zone, aware, reading, log), zone, table, code


def _counted(code: np.ndarray, reading: Reading, log: Log) -> tuple[np.ndarray, str | None]:
    start = first_time(reading, str(reading.step), log)
    assigned = "" if reading.start else ", an assigned start; Reading(start=…) says another"
    log.note(f"no column of times: rows are steps of {reading.step} from {reading.start or START}{assigned}")
    order = np.argsort(code, kind="stable")
    first = np.r_[True, np.diff(code[order]) != 0]
    count = np.arange(len(code))
    index = np.empty(len(code), dtype=np.int64)
    index[order] = count - np.maximum.accumulate(np.where(first, count, 0))
    return Clock(start, str(reading.step)).times(index), reading.zone


def first_time(reading: Reading, step: str, log: Log) -> np.datetime64:
    """Step 0 of a clock that the source does not show: `start`, a wall time, in UTC where steps are finer than a day."""
    wall = np.array([np.datetime64(reading.start, "s") if reading.start else START])
    if reading.zone and sub_daily(wall, step):
        wall = to_utc(np.zeros(1, dtype=np.int64), wall, reading.zone, reading.fold, log)
    return np.datetime64(wall[0], "s")


def _in_zone(code: np.ndarray, time: np.ndarray, zone: str | None, aware: bool, reading: Reading, log: Log) -> np.ndarray:
    """UTC where steps are finer than a day, else local dates."""
    if zone is None:
        return time
    if not aware:
        return to_utc(code, time, zone, reading.fold, log) if sub_daily(time, reading.step) else time
    local = local_from_utc(time, zone)
    return time if sub_daily(local, reading.step) else local


def _check_resolution(table: Table, ids: Sequence[str], times: Sequence[str], code: np.ndarray, time: np.ndarray, reading: Reading, log: Log) -> None:
    """Refuses two rows of one series at one time, with the columns that would tell them apart."""
    import polars as pl

    if reading.resample or not times:
        return
    again = repeated_times(code, time)
    if not again.any():
        return
    late = int(again.argmax())
    early = int(np.argmax((code == code[late]) & (time == time[late])))
    same = bool(table.frame.row(early) == table.frame.row(late))
    suggestion = suggested_id(table.frame, pl.Series(time.astype("datetime64[ms]")), times)
    hint = _hint(table, suggestion, times, code, time, again, reading)
    whose = f' of series "{_id_of(table, ids, late)}"' if ids else ""
    what = "the same row" if same else "two rows"
    when = str(time[late]).replace("T", " ") + (" twice" if same else "")
    log.wrong(f"{what}{whose} at {when} (rows {early + 1} and {late + 1}; {again.sum()} such rows): {hint}")


def _id_of(table: Table, ids: Sequence[str], row: int) -> str:
    return "/".join(str(table.frame[n][row]) for n in ids)


def _hint(table: Table, suggestion: Sequence[str], times: Sequence[str], code: np.ndarray, time: np.ndarray, again: np.ndarray, reading: Reading) -> str:
    clock = next((n for n in table.frame.columns if n not in times and _time_of_day(table.frame[n])), None)
    if clock and len(times) == 1:
        return f'the time of day is in "{clock}": say time=("{times[0]}", "{clock}")'
    if reading.zone is None and autumn_hour(time[again]):
        return 'this looks like the hour that comes twice when clocks are put back: say zone="Europe/Berlin", or where it is, and Reading(fold="order")'
    if suggestion:
        said = f'"{suggestion[0]}"' if len(suggestion) == 1 else "(" + ", ".join(f'"{n}"' for n in suggestion) + ")"
        return f"several series? Say id={said}"
    order = np.lexsort((time.astype(np.int64), code))
    grid = find_grid(code[order], time[order])
    step = grid.step if grid else "D"
    return f'take one out, or say resample="{step}", which takes their mean; with how="sum" beside it they are added'


def _time_of_day(column: Series) -> bool:
    import polars as pl

    if column.dtype == pl.Time:
        return True
    sample = column.drop_nulls().head(20)
    return bool(column.dtype == pl.String and len(sample) and sample.str.contains(r"^\s*\d{1,2}:\d\d(:\d\d(\.\d+)?)?\s*$").all())


# ---------------------------------------------------------------- how much


def _columns(table: Table, names: Sequence[str], code: np.ndarray, count: int, reading: Reading, log: Log) -> tuple[Labels, dict[str, Series]]:
    """Labels and channels among the columns that are neither time nor id."""
    for name in reading.labels:
        need(name, table.frame.columns, "labels")
    wanted = _wanted(names, reading)
    parsed = {n: parse_numbers(table.frame[n], table.comma) for n in names if n not in reading.labels}
    facts = [n for n, (_, bad) in parsed.items() if bad.any() and n not in (wanted or ()) and _constant(table.frame[n], code)]
    labels = {n: _label(table.frame[n], code, count) for n in names if n in facts or n in reading.labels}
    channels: dict[str, Series] = {}
    texts, broken = [], set[str]()
    for name, (values, bad) in parsed.items():
        if name in labels or (wanted is not None and name not in wanted):
            continue
        if bad.any():
            texts.append(_text_problem(table.frame[name], values, bad))
            broken.add(name)
        if not _mostly_text(values, bad):
            channels[name] = _finite(name, values, log)
    if texts:
        whole = [n for n in channels if n not in broken]
        keep = ", ".join(f'"{n}"' for n in whole[:SHOWN]) + (", …" if len(whole) > SHOWN else "," * (len(whole) == 1))
        for text in texts:
            log.wrong(f"{text}; or read without it, naming the columns to keep: channels=({keep})" if whole else text)
    return labels, channels


def _wanted(names: Sequence[str], reading: Reading) -> set[str] | None:
    """The columns that channels= and derive= name; None for all."""
    if reading.channels is None:
        return None
    for name in reading.channels:
        if name not in reading.derive:
            need(name, names, "channels")
    return set(reading.channels) - set(reading.derive) | (names_in(reading.derive) & set(names))


def _mostly_text(values: Series, bad: Series) -> bool:
    return bool(bad.sum() > values.count())


def _text_problem(column: Series, values: Series, bad: Series) -> str:
    row = row_of(bad)
    where = f'"{column[row - 1]}" in column "{column.name}", row {row}'
    if _mostly_text(values, bad):
        return f"text that changes within a series, so neither a number nor a label: {where}"
    return f"text in a number column: {where} ({int(bad.sum())} such rows); correct it, or leave it blank for not observed"


def _finite(name: str, values: Series, log: Log) -> Series:
    infinite = values.is_infinite().fill_null(False)
    if infinite.any():
        log.note(f'column "{name}": {int(infinite.sum())} infinite values are read as not observed, the first in row {row_of(infinite)}')
        values = values.zip_with(~infinite, values * float("nan"))
    return values.fill_null(float("nan"))


def _constant(column: Series, code: np.ndarray) -> bool:
    """True if each series has one value in this column; blanks do not count as another."""
    import polars as pl

    frame = pl.DataFrame({"code": code, "fact": column}).drop_nulls()
    return bool(frame.n_unique() == frame["code"].n_unique())


def _label(column: Series, code: np.ndarray, count: int) -> tuple[str | float, ...]:
    import polars as pl

    frame = pl.DataFrame({"code": code, "fact": column}).drop_nulls()
    if not _constant(column, code):
        changing = frame.unique().group_by("code").len().filter(pl.col("len") > 1)["code"].min()
        facts = frame.filter(pl.col("code") == changing)["fact"].unique(maintain_order=True)
        raise DataError(f'labels= names "{column.name}", but it changes within a series ("{facts[0]}", then "{facts[1]}"): a label stays the same')
    first = frame.unique("code", keep="first")
    numeric = column.dtype.is_numeric()
    told: list[str | float] = [float("nan") if numeric else ""] * count
    for at, fact in first.iter_rows():
        told[at] = float(fact) if numeric else str(fact)
    return tuple(told)


# ---------------------------------------------------------------- even steps, and the panel


def resampled(rows: Rows, step: str, how: str | Mapping[str, str], log: Log) -> Rows:
    """Rows of a period brought together; a period of which less than half the rows of a regular file are observed is NaN."""
    import polars as pl

    if not isinstance(how, str):
        for name in how:
            if name not in rows.channels:
                raise TaskError(f'how= names a channel "{name}" that is not there; {nearest(name, rows.channels)}')
    rows = rows.sorted()
    local, zone = _for_periods(rows, step)
    period, length = period_starts(local, step)
    need_of = _rows_needed(rows, step, length)
    frame = pl.DataFrame({"code": rows.code, "time": period.astype("datetime64[ms]"), "need": need_of})
    frame = pl.concat([frame, pl.DataFrame(np.ascontiguousarray(rows.values), schema=[f"v{i}" for i in range(len(rows.channels))])], how="horizontal")
    columns = [pl.col(f"v{i}").fill_nan(None) for i in range(len(rows.channels))]
    kinds = [how if isinstance(how, str) else how.get(n, "mean") for n in rows.channels]
    made = [_brought(c, kind).alias(f"v{i}") for i, (c, kind) in enumerate(zip(columns, kinds, strict=True))]
    out = frame.group_by("code", "time", maintain_order=True).agg(*made)
    values = out.select(pl.exclude("code", "time").cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    time = out["time"].to_numpy().astype("datetime64[s]")
    return replace(rows, code=out["code"].to_numpy(), time=time, values=values, zone=zone)


def _brought(column: "Frame", kind: str) -> "Frame":
    import polars as pl

    value = {"mean": column.mean(), "sum": column.sum(), "last": column.drop_nulls().last(), "max": column.max(), "min": column.min()}[kind]
    return pl.when(column.count() * 2 >= pl.col("need").first()).then(value)


def _for_periods(rows: Rows, step: str) -> tuple[np.ndarray, str | None]:
    """Days and longer are counted in local dates, hours and finer in UTC."""
    if rows.zone and not sub_daily(rows.time, step) and sub_daily(rows.time, None):
        return local_from_utc(rows.time, rows.zone), rows.zone
    return rows.time, rows.zone


def _rows_needed(rows: Rows, step: str, length: np.ndarray) -> np.ndarray:
    """How many rows a full period has; 1 where the file's own times are uneven, so that any row counts."""
    grid = find_grid(rows.code, rows.time)
    if grid is None or grid.off.any():
        return np.ones(len(length))
    usual = Clock(np.datetime64("2000-01-31" if grid.step.endswith("E") else "2000-01-01"), grid.step).seconds
    if usual > 1.1 * length.max():
        raise TaskError(f'resample="{step}" would make steps shorter: the rows are {grid.step} apart, and values between them are not invented')
    return np.asarray(np.maximum(1, np.round(length / usual)))


def laid_out(rows: Rows, step: str | None, dtype: str, log: Log) -> Panel:
    """Rows scattered onto the panel's grid by index; steps without a row are NaN."""
    rows = rows.sorted()
    clock, index = on_clock(rows.code, rows.time, rows.series, step, rows.zone, log)
    start = np.full(len(rows.series), np.iinfo(np.int64).max)
    np.minimum.at(start, rows.code, index)
    start[start == np.iinfo(np.int64).max] = 0
    row = index - start[rows.code]
    _check_size(rows, row, clock)
    kind = torch.float32 if dtype == "float32" else torch.float64
    values = torch.full((len(rows.series), int(row.max()) + 1, len(rows.channels)), torch.nan, dtype=kind)
    # Two rows at one step come this far only if problems are collected: the earlier stays.
    once = np.r_[True, (np.diff(rows.code) != 0) | (np.diff(row) != 0)]
    at = torch.from_numpy(rows.code[once]), torch.from_numpy(row[once])
    values[at] = torch.from_numpy(rows.values[once]).to(kind)
    blank = torch.empty(0, 0, dtype=kind)
    return Panel(values, blank, torch.from_numpy(start), clock, rows.series, rows.channels, labels=rows.labels, names=rows.names)


def _check_size(rows: Rows, row: np.ndarray, clock: Clock) -> None:
    """Refuses a grid far larger than what it holds: one wrong year among times a second apart would fill the memory."""
    cells = len(rows.series) * (int(row.max()) + 1) * len(rows.channels)
    if cells > LARGE and cells > SPARSE * rows.values.size:
        ahead = np.where(np.diff(rows.code) == 0, np.diff(row), 0)
        at = int(ahead.argmax())
        raise DataError(
            f'{len(row)} rows every {clock.step} would be spread over {int(row.max()) + 1} steps: in series "{rows.series[rows.code[at]]}", '
            f"{rows.time[at + 1]} follows {rows.time[at]}. Is this time right? If it is, say resample= with a longer step"
        )
