"""Tables: a file, a frame, or a dict of arrays as one polars frame in which text is still text."""

import csv
import gzip
import io
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..clock import Clock
from ..errors import DataError, nearest
from ..frames import Native, is_frame, to_columns

Frame = Any  # polars.DataFrame; polars is imported where it is used
Series = Any  # polars.Series
Source = Any  # a path, a list of paths, a frame, or a dict of arrays

ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".tsf")
TSF_STEPS = {
    "yearly": "YS", "quarterly": "QS", "monthly": "MS", "weekly": "W", "daily": "D", "hourly": "h", "half_hourly": "30min",
    "10_minutes": "10min", "minutely": "min", "4_seconds": "4s", "secondly": "s",
}  # fmt: skip


@dataclass(frozen=True)
class Log:
    """What is noticed while reading. A strict log raises at the first problem; another collects them, and reading goes on."""

    strict: bool = True
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrong(self, sentence: str) -> None:
        if self.strict:
            raise DataError(sentence)
        self.problems.append(sentence)

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


@dataclass(frozen=True)
class Table:
    """The columns of a source. `zones`: columns of times that came with a zone and are now UTC; `comma`: it is the decimal mark;
    `id`, `time` and `step` are what the source itself says."""

    frame: Frame
    name: str = "series"
    native: Native = "polars"
    encoding: str = ""
    comma: bool = False
    zones: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    time: str | None = None
    step: str | None = None


def open_table(source: Source, encoding: str | None, log: Log) -> Table:
    """Whatever the user holds, as one table with at least one row."""
    if isinstance(source, str | os.PathLike):
        table = _file(Path(source), encoding, log)
    elif isinstance(source, Mapping):
        table = Table(_from_arrays(source))
    elif is_frame(source):
        table = _from_frame(source)
    elif isinstance(source, Sequence) and source and all(isinstance(s, str | os.PathLike) for s in source):
        table = _files([Path(s) for s in source], encoding, log)
    else:
        valid = "a path, a list of paths, a pandas, polars or arrow frame, or a dict of arrays"
        raise DataError(f"cannot read {_kind(source)}: give {valid}; an array alone goes to foretell.panel")
    table = replace(table, frame=_without_empty_rows(table.frame))
    if not table.frame.height:
        raise DataError(f"{table.name} has column names ({', '.join(table.frame.columns[:8])}) but no rows")
    return table


def _kind(source: object) -> str:
    return "an empty list" if isinstance(source, list) and not source else f"a {type(source).__name__}"


def _without_empty_rows(frame: Frame) -> Frame:
    import polars as pl

    filled = pl.any_horizontal(pl.all().is_not_null())
    return frame.filter(filled) if frame.width else frame


# ---------------------------------------------------------------- files


def _files(paths: Sequence[Path], encoding: str | None, log: Log) -> Table:
    """Files of the same columns under each other, each one a series unless a column of theirs says otherwise."""
    import polars as pl

    tables = [_file(p, encoding, log) for p in paths]
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if set(table.frame.columns) != set(first.frame.columns):
            odd = sorted(set(table.frame.columns) ^ set(first.frame.columns))
            raise DataError(f'{path.name} and {paths[0].name} differ in their columns ("{odd[0]}" is in one only): files read together have the same columns')
    twice = next((n for n, count in Counter(t.name for t in tables).items() if count > 1), None)
    if twice:
        raise DataError(f'two of the files are called "{twice}": read together, each file gives its name to a series')
    named = [t.frame.with_columns(pl.lit(t.name).alias("file")) if "file" not in t.frame.columns else t.frame for t in tables]
    return replace(first, frame=pl.concat(named, how="diagonal_relaxed"), id=first.id or "file")


def _file(path: Path, encoding: str | None, log: Log) -> Table:
    data, name = _bytes(path)
    stem, ending = os.path.splitext(name)
    if ending.lower() not in ENDINGS:
        hint = "; save the sheet as CSV first" if ending.lower() in (".xlsx", ".xls") else ""
        raise DataError(f'cannot read {path.name}: files end in {", ".join(ENDINGS)}, packed with .gz or .zip or not; got "{ending}"{hint}')
    if not data.strip():
        raise DataError(f"{path.name} is empty")
    if ending.lower() == ".parquet":
        return Table(_parquet(data, path), stem)
    text, used = decoded(data, encoding, path.name)
    if used not in ("utf-8", encoding):
        log.note(f"{path.name} is not UTF-8: read as {used}; say encoding= if letters look wrong")
    table = _tsf(text, stem, log) if ending.lower() == ".tsf" else _csv(text, stem)
    return replace(table, encoding=used)


def _bytes(path: Path) -> tuple[bytes, str]:
    """The file's contents unpacked, and its name without the packing's ending."""
    if not path.exists():
        there = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
        raise DataError(f"no file {path}: {nearest(path.name, there) if there else f'there is no folder {path.parent} either, or it is empty'}")
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a file in it, or a list of files")
    try:
        if path.suffix.lower() == ".gz":
            return gzip.decompress(path.read_bytes()), path.stem
        if path.suffix.lower() == ".zip":
            return _only_member(path)
        return path.read_bytes(), path.name
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be unpacked, it is damaged or only partly copied ({error})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _only_member(path: Path) -> tuple[bytes, str]:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/")]
        if len(names) != 1:
            raise DataError(f"{path.name} holds {len(names)} files ({', '.join(names[:5])}): unpack it and give one, or a list of them")
        return archive.read(names[0]), Path(names[0]).name


def decoded(data: bytes, encoding: str | None, name: str) -> tuple[str, str]:
    """Bytes → text and the encoding used: the one named, else the byte order mark's, UTF-8, Korean CP949, Latin-1, in this order."""
    if encoding:
        try:
            return data.decode(encoding).removeprefix("\ufeff"), encoding
        except LookupError:
            raise DataError(f'no encoding "{encoding}": {nearest(encoding, ["utf-8", "cp949", "euc-kr", "latin-1", "cp1252", "utf-16"])}') from None
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is not {encoding}: byte {error.start} is {data[error.start]:#x}; leave encoding= out to have it found") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return decoded(data, "utf-16", name)
    for tried in ("utf-8", "cp949"):
        try:
            text = data.decode(tried).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        if tried == "utf-8" or _looks_korean(text):
            return text, tried
    return data.decode("latin-1"), "latin-1"


def _looks_korean(text: str) -> bool:
    # The Latin-1 bytes of "°C" or "öß" are legal CP949 too, but give rare syllables and Chinese characters: EUC-KR has the common ones.
    foreign = re.sub(r"[\x00-\x7f]+", "", text)[:2000]
    common = [c for c in foreign if "가" <= c <= "힣" and len(c.encode("euc_kr")) == 2]  # a rare one is spelt in eight bytes
    return 2 * len(common) >= len(foreign)


def _parquet(data: bytes, path: Path) -> Frame:
    import polars as pl

    try:
        return _as_text(pl.read_parquet(io.BytesIO(data)))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path.name} is not a parquet file, or a damaged one ({str(error).splitlines()[0]})") from None


def _csv(text: str, stem: str) -> Table:
    import polars as pl

    text = re.sub(r"\A(?:\s*(?:#.*)?\n)+", "", text)
    mark = delimiter(text)
    names = [n.strip() for n in next(csv.reader(io.StringIO(text), delimiter=mark))]
    names = [n or f"column {at}" for at, n in enumerate(names, 1)]
    twice = next((n for n, count in Counter(names).items() if count > 1), None)
    if twice:
        raise DataError(f'{stem} has two columns called "{twice}"')
    if re.match(r"\d{4}-\d\d-\d\d", names[0]) and all(re.fullmatch(r"-?[\d.]+", n) for n in names[1:]):
        raise DataError(f'the first line of {stem} looks like data, not names ("{mark.join(names[:4])}"): put a line such as ds{mark}y above it')
    try:
        frame = pl.read_csv(text.encode(), separator=mark, infer_schema=False, new_columns=names)
    except pl.exceptions.PolarsError:
        raise DataError(f"{stem}: {_ragged(text, mark, len(names))}") from None
    return Table(_without_counter(frame), stem, comma=mark == ";")


def delimiter(text: str) -> str:
    """Of , ; tab and | the one that splits the header, and the line below it alike, into most columns."""
    lines = text.split("\n", 2)[:2]

    def columns(mark: str) -> tuple[bool, int]:
        widths = [len(next(csv.reader([line.rstrip("\r")], delimiter=mark), [])) for line in lines if line.strip()]
        return len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(",;\t|", key=columns)


def _ragged(text: str, mark: str, width: int) -> str:
    for number, row in enumerate(csv.reader(io.StringIO(text), delimiter=mark), 1):
        if len(row) > width:
            return f"line {number} has {len(row)} fields but the header has {width} names; the line begins {mark.join(row)[:60]!r}"
    return "its lines cannot be split into columns; is a quotation mark left open?"


def _without_counter(frame: Frame) -> Frame:
    """Without the unnamed first column of row numbers that spreadsheets and data frames like to write."""
    import polars as pl

    first = frame.columns[0]
    if first != "column 1" or frame.width < 2:
        return frame
    count = frame[first].cast(pl.Int64, strict=False)
    return frame.drop(first) if count.null_count() == 0 and (count.diff().drop_nulls() == 1).all() else frame


def _tsf(text: str, stem: str, log: Log) -> Table:
    """The Monash archive's format: lines of @facts, then `attribute:…:value,value,…`, one line a series."""
    import polars as pl

    head, found, body = text.partition("@data")
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    attributes = re.findall(r"^@attribute\s+(\S+)\s+(\S+)", head, re.M)
    if not found or not lines:
        raise DataError(f"{stem} has no series after @data: it is not a .tsf file, or an empty one")
    said = re.search(r"^@frequency\s+(\S+)", head, re.M)
    step = TSF_STEPS.get(said[1]) if said else "D"
    if step is None:
        raise DataError(f'{stem}: no @frequency "{said[1] if said else ""}": {nearest(said[1] if said else "", TSF_STEPS)}')
    if not any(kind == "date" for _, kind in attributes):
        log.note(f"{stem} has no start times: the clock starts at 2000-01-01")
    parts = [_tsf_series(line, n, attributes, step, stem) for n, line in enumerate(lines, 1)]
    return Table(pl.concat(parts, rechunk=True), stem, id=attributes[0][0] if attributes else None, time="ds", step=step)


def _tsf_series(line: str, number: int, attributes: Sequence[tuple[str, str]], step: str, stem: str) -> Frame:
    import polars as pl

    *facts, values = line.split(":", len(attributes))
    told = dict(zip((name for name, _ in attributes), facts, strict=False))
    start = next((told.pop(name) for name, kind in attributes if kind == "date" and name in told), "2000-01-01")
    date = re.fullmatch(r"\s*((?:1[6-9]|2[01])\d\d-\d\d-\d\d)(?: (\d\d)-(\d\d)-(\d\d))?\s*", start)
    try:
        if len(facts) < len(attributes) or date is None:
            raise ValueError(f'"{start}" is no start time' if date is None else f"{len(facts)} facts before its values, not {len(attributes)}")
        first = np.datetime64(f"{date[1]}T{date[2]}:{date[3]}:{date[4]}" if date[2] else date[1], "s")
        y = np.array(values.replace("?", "nan").split(","), dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{stem}: series {number} after @data cannot be read ({error}); it begins {line[:60]!r}") from None
    if step in ("MS", "QS", "YS"):
        first = first.astype("datetime64[M]").astype("datetime64[s]")
    times = Clock(first, step).times(np.arange(len(y)))
    return pl.DataFrame({"ds": times.astype("datetime64[ms]"), "y": y}).select(*(pl.lit(f.strip()).alias(n) for n, f in told.items()), "ds", "y")


# ---------------------------------------------------------------- frames and arrays


def _from_frame(source: Any) -> Table:
    import narwhals as nw
    import polars as pl

    source = _with_index(source)
    schema = nw.from_native(source).collect_schema()
    zones = {str(n): kind.time_zone for n, kind in schema.items() if isinstance(kind, nw.Datetime) and kind.time_zone}
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    if isinstance(source, pl.DataFrame):
        plain = [pl.col(n).dt.convert_time_zone("UTC").dt.replace_time_zone(None) for n in zones]
        return Table(_as_text(source.with_columns(plain)), zones=zones)
    names = [str(n) for n in schema]
    twice = next((n for n, count in Counter(names).items() if count > 1), None)
    if twice:
        raise DataError(f'the frame has two columns called "{twice}"')
    columns, native = to_columns(source)
    return Table(_from_arrays(columns), native=native, zones=zones)


def _with_index(source: Any) -> Any:
    """A pandas frame whose index says something (names, times) gets it as columns."""
    import narwhals as nw

    index = nw.maybe_get_index(nw.from_native(source, eager_only=False))
    if index is None or type(index).__name__ == "RangeIndex":
        return source
    names = [n for n in index.names if n is not None]
    if names or index.dtype.kind == "M":
        return source.reset_index(names=None if names else "ds")
    return source


def _from_arrays(columns: Mapping[str, Any]) -> Frame:
    import polars as pl

    arrays = {str(name): np.asarray(column) for name, column in columns.items()}
    sizes = {name: array.shape for name, array in arrays.items()}
    if len(set(sizes.values())) > 1 or any(len(s) != 1 for s in sizes.values()):
        raise DataError(f"arrays read as columns have one axis and one length; got {', '.join(f'{n} {list(s)}' for n, s in list(sizes.items())[:6])}")
    return _as_text(pl.DataFrame([_column(name, array) for name, array in arrays.items()]))


def _column(name: str, array: np.ndarray) -> Series:
    import polars as pl

    if array.dtype.kind == "M":
        return pl.Series(name, array.astype("datetime64[ms]"))
    if array.dtype.kind in "OUS":
        blank = [v is None or v != v for v in array]
        return pl.Series(name, [None if b else str(v) for v, b in zip(array, blank, strict=True)], dtype=pl.String)
    return pl.Series(name, array)


def _as_text(frame: Frame) -> Frame:
    """Categories, enumerations and other oddities as text; numbers, times and text as they are."""
    import polars as pl

    odd = [n for n, kind in frame.schema.items() if not (kind.is_numeric() or kind.is_temporal() or kind in (pl.String, pl.Boolean))]
    nested = next((n for n in odd if frame.schema[n].is_nested()), None)
    if nested:
        raise DataError(f'column "{nested}" holds lists or records, not one value a row')
    return frame.with_columns(pl.col(odd).cast(pl.String)) if odd else frame
