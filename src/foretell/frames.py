"""Frames in, frames out: the only place that touches pandas, polars or arrow, through narwhals."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from .errors import DataError

Native = Literal["pandas", "polars", "pyarrow"]
Columns = dict[str, np.ndarray]


def is_frame(value: object) -> bool:
    """True for an eager data frame or table that narwhals knows; for a path or array, False."""
    import narwhals as nw

    return isinstance(nw.from_native(value, pass_through=True), nw.DataFrame | nw.LazyFrame)


def to_columns(frame: object) -> tuple[Columns, Native]:
    """Any frame → its columns as arrays: datetime64[s] for times, float64 for numbers, object for the rest; and its kind."""
    import narwhals as nw

    data = nw.from_native(frame, pass_through=True)
    if isinstance(data, nw.LazyFrame):
        data = data.collect()
    if not isinstance(data, nw.DataFrame):
        raise DataError(f"expected a pandas, polars or arrow frame, got {type(frame).__name__}")
    kind = data.implementation.value
    native: Native = "pandas" if kind == "pandas" else "pyarrow" if kind == "pyarrow" else "polars"
    return {str(name): _array(data[name]) for name in data.columns}, native


def is_zoned(frame: object, column: str) -> bool:
    """True if a column's times say their time zone themselves; `to_columns` then gives them in UTC."""
    import narwhals as nw

    data = nw.from_native(frame, pass_through=True)
    kind = data.collect_schema()[column] if isinstance(data, nw.DataFrame | nw.LazyFrame) else None
    return isinstance(kind, nw.Datetime) and kind.time_zone is not None


def to_frame(columns: Mapping[str, Any], native: Native = "polars") -> Any:
    """Columns → the kind of frame the user came with."""
    import importlib

    import narwhals as nw

    backend = importlib.import_module("pyarrow" if native == "pyarrow" else native)
    clean = {name: _plain(column) for name, column in columns.items()}
    return nw.from_dict(clean, backend=backend).to_native()


def _array(series: Any) -> np.ndarray:
    import narwhals as nw

    kind = series.dtype
    if isinstance(kind, nw.Datetime):
        if kind.time_zone is not None:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return np.asarray(series.to_numpy()).astype("datetime64[s]")
    if kind == nw.Date:
        return np.asarray(series.cast(nw.Datetime("us")).to_numpy()).astype("datetime64[s]")
    if kind == nw.Boolean or kind.is_numeric():
        return np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)
    return np.asarray(series.to_list(), dtype=object)


def _plain(column: Any) -> Any:
    array = np.asarray(column)
    if array.dtype.kind == "M":
        return array.astype("datetime64[us]")
    return [str(v) for v in array] if array.dtype.kind in "OU" else array


def html_table(columns: Mapping[str, Any], rows: int = 12) -> str:
    """The first rows as an HTML table; every text escaped."""
    from html import escape

    shown = {name: [_cell(v) for v in np.asarray(column)[:rows]] for name, column in columns.items()}
    head = "".join(f"<th>{escape(name)}</th>" for name in shown)
    body = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row) + "</tr>" for row in zip(*shown.values(), strict=True))
    total = len(next(iter(columns.values()), ()))
    rest = f"<p>{total - rows} more rows</p>" if total > rows else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _cell(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[m]")).replace("T", " ")
    return f"{value:,.6g}" if isinstance(value, float | np.floating) else str(value)
