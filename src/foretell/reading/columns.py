"""Columns: which one is the time, which the series, and how their text is read as times and numbers."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError, TaskError, nearest
from .tables import Frame, Log, Series, Table

TIME_NAMES = ("ds", "timestamp", "datetime", "date_time", "date", "time", "dt", "일시", "날짜", "일자", "시간", "측정일시", "날짜시간")
ID_NAMES = ("unique_id", "item_id", "series", "series_id", "series_name", "id", "item", "sku", "store", "store_id")
MISSING = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "NaT", "null", "NULL", "None", "none", "?", "-", "--", ".", "#N/A")
FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p",
    "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d-%b-%y", "%Y%m%d",
)  # fmt: skip
ZONED = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")


class Parsed(NamedTuple):
    """Times as datetime64[us], NaT where there is none; `bad` marks text that is no time; `utc`: the text gave an offset."""

    times: np.ndarray
    bad: np.ndarray
    utc: bool = False


# ---------------------------------------------------------------- which column


def find_time(table: Table, wanted: str | Sequence[str] | None) -> tuple[str, ...]:
    """The column or columns of time: those named, else `ds`, else the only one that reads as times; () if there is none."""
    names = table.frame.columns
    if wanted is None:
        return ()
    if wanted != "auto" or "auto" in names:
        chosen = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        for name in chosen:
            need(name, names, "time")
        return chosen
    if table.time:
        return (table.time,)
    found = [n for n in names if _may_be_time(table.frame[n], n)]
    known = sorted((n for n in found if n.lower() in TIME_NAMES), key=lambda n: TIME_NAMES.index(n.lower()))
    if len(found) > 1 and not known:
        raise DataError(f"several columns read as times ({', '.join(found)}): say which with time=, as in time={found[0]!r}")
    return tuple((known or found)[:1])


def find_id(table: Table, wanted: str | Sequence[str] | None, time: Sequence[str]) -> tuple[str, ...]:
    """The column or columns that say which series a row belongs to; () if all rows are one series."""
    names = table.frame.columns
    if wanted is None:
        return ()
    if wanted != "auto" or "auto" in names:
        chosen = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        for name in chosen:
            need(name, names, "id")
        return chosen
    if table.id:
        return (table.id,)
    likely = sorted((n for n in names if n.lower() in ID_NAMES and n not in time), key=lambda n: ID_NAMES.index(n.lower()))
    # A column of row numbers named "id" says nothing: some value must come again.
    return next(((n,) for n in likely if n == "unique_id" or table.frame[n].n_unique() < max(2, table.frame.height)), ())


def need(name: str, names: Sequence[str], option: str) -> None:
    """The column a user named, or the sentence for one that is not there."""
    if name not in names:
        raise TaskError(f'{option}= names a column "{name}" that is not there; {nearest(name, names)}')


def _may_be_time(column: Series, name: str) -> bool:
    import polars as pl

    if column.dtype in (pl.Datetime, pl.Date):
        return True
    if column.dtype.is_numeric():
        return name == "ds" or (name.lower() in TIME_NAMES and _numeric_times(column) is not None)
    if column.dtype != pl.String:
        return False
    sample = column.drop_nulls().head(40)
    if not len(sample) or (sample.str.contains(r"^\d+$").all() and name.lower() not in TIME_NAMES):
        return False
    if sample.str.contains(r"^-?\d+\.\d+$").all():
        return False
    return not _parse_text(sample).bad.any()


# ---------------------------------------------------------------- times


def read_times(frame: Frame, names: Sequence[str], log: Log) -> Parsed:
    """The time of every row; several columns (date and time of day; year, month, day) are joined."""
    column = frame[names[0]] if len(names) == 1 else joined([frame[n] for n in names])
    parsed = parse_times(column)
    if parsed.bad.any():
        row = int(parsed.bad.argmax())
        hint = ""
        other = next((n for n in frame.columns if n not in names and _may_be_time(frame[n], n)), None)
        if len(names) == 1 and other:
            hint = f'; joined with "{other}"? Then say time={(other, names[0])!r}'
        log.wrong(f'"{column[row]}" in column "{", ".join(names)}", row {row + 1}, is not a time like 2024-01-31 or 2024-01-31 13:00{hint}')
    blank = np.isnat(parsed.times) & ~parsed.bad
    if blank.any():
        row = int(blank.argmax()) + 1
        log.wrong(f'no time in column "{", ".join(names)}", row {row} ({blank.sum()} such rows): fill it in, or take the row out')
    return parsed


def parse_times(column: Series) -> Parsed:
    """Dates, ISO times, 31.12.2024, 2024년 1월 31일, 2024Q1, years, 20240131, seconds or milliseconds since 1970."""
    import polars as pl

    if column.dtype in (pl.Datetime, pl.Date):
        times = column.cast(pl.Datetime("us")).to_numpy()
        return Parsed(times, np.zeros(len(times), dtype=bool))
    if column.dtype.is_numeric():
        numeric = _numeric_times(column)
        if numeric is None:
            raise DataError(f'column "{column.name}" holds the numbers {column[0]}, …: not times. If rows are equal steps, say time=None, step="h"')
        return numeric
    return _parse_text(column.cast(pl.String))


def _numeric_times(column: Series) -> Parsed | None:
    import polars as pl

    values = column.cast(pl.Float64).drop_nulls()
    if not len(values) or not (values == values.floor()).all():
        return None
    low, high = float(values.min()), float(values.max())
    whole = column.cast(pl.Int64, strict=False)
    if (low >= 1800 and high < 2200) or (low >= 18000101 and high < 22000101):
        return _parse_text(whole.cast(pl.String))
    for size in (1, 10**3, 10**6, 10**9):  # seconds, milliseconds, micro-, nanoseconds since 1970
        if low >= 5e8 * size and high < 5e9 * size:
            times = (whole * (10**6 // size) if size <= 10**6 else whole // 1000).cast(pl.Datetime("us"))
            return Parsed(times.to_numpy(), np.zeros(len(times), dtype=bool), utc=True)
    return None


def _parse_text(column: Series) -> Parsed:
    import polars as pl

    text = _iso(_without_missing(column))
    zoned = bool(text.drop_nulls().head(40).str.contains(r":\d\d(\.\d+)?\s*(Z|[+-]\d\d:?\d\d)$").any())
    if zoned:
        text = text.str.replace(r"\s*Z$", "+00:00")
    times = _first_fitting(text, ZONED if zoned else FORMATS)
    if times.null_count() > text.null_count():
        # A midnight written as a date alone, a full hour without its seconds, among longer ones.
        filled = text.str.replace(r"^(\d{4}-\d{1,2}-\d{1,2})$", "$1 00:00").str.replace(r"^(\S+ \d{1,2}:\d\d)($|[+-])", "${1}:00$2")
        times = _first_fitting(filled, ZONED[:1] if zoned else FORMATS[1:2]) if not filled.equals(text) else times
    if zoned:
        times = times.dt.replace_time_zone(None)  # %z has made it UTC
    bad = (times.is_null() & text.is_not_null()).to_numpy()
    return Parsed(times.cast(pl.Datetime("us")).to_numpy(), bad, zoned)


def _first_fitting(text: Series, formats: Sequence[str]) -> Series:
    """The times in the first format that fits all texts, else in the one that fits most."""
    tried = []
    for form in formats:
        times = text.str.to_datetime(form, strict=False, time_unit="us")
        if times.null_count() == text.null_count():
            return times
        tried.append(times)
    return min(tried, key=lambda times: times.null_count())


def _iso(text: Series) -> Series:
    """Usual ways to write a time → 2024-01-31 13:00, as far as the whole column allows one reading."""
    sample = text.drop_nulls().head(1000)
    if not len(sample) or sample.str.contains(r"^\d{4}-\d\d?-\d\d?( \d\d?:\d\d(:\d\d)?)?$").all():
        return text
    text = text.str.replace(r"^(\d{4})\s*[-/.년]\s*(\d{1,2})\s*[-/.월]\s*(\d{1,2})\s*[.일]?(?:T|\s+|$)", "$1-$2-$3 ").str.strip_chars()
    text = text.str.replace(r"^(\d{4}-\d{1,2}-\d{1,2} \d{1,2})시?$", "${1}:00")
    text = text.str.replace(r"^(\d{4})\s*[-/.년]\s*(\d{1,2})월?$", "$1-$2-01").str.replace(r"^(\d{4})년?$", "$1-01-01")
    for quarter in range(4):
        text = text.str.replace(rf"^(\d{{4}})[- ]?[Qq]{quarter + 1}$", f"${{1}}-{3 * quarter + 1:02d}-01")
    dates = text.str.extract_groups(r"^(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.]\d{4}")
    first, second = dates.struct.field("a").cast(int).max(), dates.struct.field("b").cast(int).max()
    if first is None:
        return text
    if first <= 12 and second <= 12:
        raise DataError(f'"{sample[0]}" and the like in column "{text.name}" may put the day or the month first: write times as 2024-01-31')
    order = "$3-$2-$1 " if first > 12 else "$3-$1-$2 "
    return text.str.replace(r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(?:T|\s+|$)", order).str.strip_chars()


def joined(parts: Sequence[Series]) -> Series:
    """Date and time of day, or year, month, day and hour, as one column of texts; hour 24 is the next day's 0."""
    import polars as pl

    if all(_whole(p, 2200) is not None for p in parts[:3]):
        numbers = [p.cast(pl.Float64).cast(pl.Int64).cast(pl.String) for p in parts[:3]]
        date = numbers[0] + "-" + numbers[1] + "-" + (numbers[2] if len(parts) > 2 else "1")
        rest = list(parts[3:])
    else:
        date, rest = _date_text(parts[0]), list(parts[1:])
    if not rest:
        return date
    hours = _whole(rest[0]) if len(rest) == 1 else None
    if hours is not None:
        return pl.Series(parts[0].name, parse_times(date).times + (hours * 3600 * 10**6).astype("timedelta64[us]"))
    return date + " " + pl.select(pl.concat_str([r.cast(pl.String).str.strip_chars() for r in rest], separator=" ")).to_series()


def _date_text(column: Series) -> Series:
    import polars as pl

    text = column.cast(pl.String).str.strip_chars()
    return text.str.replace(r" 00:00:00(\.0+)?$", "") if column.dtype == pl.Datetime else text


def _whole(column: Series, most: int = 24) -> np.ndarray | None:
    """Hours, or years, months and days, as whole numbers up to `most`; None if the column holds something else."""
    import polars as pl

    number = column.cast(pl.Float64, strict=False)
    if number.null_count() or number.max() > most or (number != number.floor()).any():
        return None
    return np.asarray(number.cast(pl.Int64).to_numpy())


# ---------------------------------------------------------------- numbers


def parse_numbers(column: Series, comma: bool = False) -> tuple[Series, Series]:
    """Text → float64 and a mark where text is no number. Missing: blank, NA, N/A, NaN, null, None, ?, - and the like. `1,234.5` and
    `1 234` lose their separators; in a file whose columns are parted by ";" the comma is the decimal mark."""
    import polars as pl

    if column.dtype == pl.Boolean or column.dtype.is_numeric():
        values = column.cast(pl.Float64)
        return values, pl.Series(np.zeros(len(column), dtype=bool))
    text = _without_missing(column)
    values = text.cast(pl.Float64, strict=False)
    bad = values.is_null() & text.is_not_null()
    if bad.any():
        values = (_with_decimal_comma(text) if comma else _without_separators(text)).cast(pl.Float64, strict=False)
        bad = values.is_null() & text.is_not_null()
    return values, bad


def _without_missing(column: Series) -> Series:
    import polars as pl

    text = column.cast(pl.String).str.strip_chars()
    return text.zip_with(~text.is_in(list(MISSING)).fill_null(False), pl.Series([None], dtype=pl.String))


def _without_separators(text: Series) -> Series:
    truth = text.str.to_lowercase().replace({"true": "1", "false": "0"})
    grouped = truth.str.contains(r"^[+-]?\d{1,3}([, \u00a0\u202f]\d{3})+(\.\d+)?$").fill_null(False)
    return truth.str.replace_all(r"[, \u00a0\u202f]", "").zip_with(grouped, truth)


def _with_decimal_comma(text: Series) -> Series:
    # One number with a decimal comma decides for its column: there a dot, or a space, parts the thousands.
    number = text.str.contains(r"^[+-]?(\d+|\d{1,3}([. \u00a0\u202f]\d{3})+)(,\d+)?$").fill_null(False)
    plain = text.str.replace_all(r"[. \u00a0\u202f]", "").str.replace(",", ".", literal=True)
    return plain.zip_with(number, text) if (number & text.str.contains(",", literal=True).fill_null(False)).any() else text


def row_of(mark: Series) -> int:
    """The first marked row, counted from 1 below the header."""
    return int(mark.arg_max()) + 1


def repeated(frame: Frame) -> Series:
    """Marks rows that came before."""
    import polars as pl

    return frame.select(~pl.struct(pl.all()).is_first_distinct()).to_series()


def suggested_id(frame: Frame, times: Series, taken: Sequence[str]) -> tuple[str, ...]:
    """The text or whole-number columns, one or two, with which no (series, time) comes twice; () if there are none such."""
    import itertools

    import polars as pl

    texts = [n for n in frame.columns if n not in taken and frame[n].dtype == pl.String]
    likely = [n for n in texts if parse_numbers(frame[n].head(200))[1].any() or re.search(r"(^|_)(id|no|nbr|number|code|store|item|series)$", n.lower())]
    likely += [
        n for n in frame.columns if n not in taken and frame[n].dtype.is_integer() and re.search(r"(id|no|nbr|number|code|store|item|series)$", n.lower())
    ]
    for size in (1, 2, 3):
        for chosen in itertools.combinations(likely[:8], size):
            if frame.select(times.alias(" time"), *chosen).n_unique() == frame.height:
                return chosen
    return ()
