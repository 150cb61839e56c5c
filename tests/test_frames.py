"""Frames: pandas, polars and arrow in, the same kind out, nothing lost on the way; HTML that cannot run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from foretell import DataError
from foretell.frames import Native, html_table, is_frame, to_columns, to_frame

COLUMNS = {"id": np.array(["가", "b"], dtype=object), "at": np.array(["2024-01-01T05", "NaT"], dtype="datetime64[s]"), "y": np.array([1.5, np.nan])}
KINDS: list[Native] = ["pandas", "polars", "pyarrow"]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_come_back(kind: Native) -> None:
    frame = to_frame(COLUMNS, kind)
    assert type(frame).__module__.startswith(kind)
    back, native = to_columns(frame)
    assert native == kind and list(back) == list(COLUMNS)
    assert back["id"].tolist() == ["가", "b"] and back["id"].dtype == object
    assert back["at"].dtype == np.dtype("datetime64[s]")
    np.testing.assert_array_equal(back["at"], COLUMNS["at"])
    np.testing.assert_array_equal(back["y"], COLUMNS["y"])


FRAMES: list[tuple[Any, list[float]]] = [
    (pl.DataFrame({"v": [1, 2]}), [1, 2]),
    (pl.DataFrame({"v": [True, False]}), [1, 0]),
    (pl.DataFrame({"v": [1, None]}), [1, np.nan]),
    (pl.DataFrame({"v": [1.5, None]}).lazy(), [1.5, np.nan]),
    (pd.DataFrame({"v": pd.array([3, None], dtype="Int64")}), [3, np.nan]),
    (pd.DataFrame({"v": np.array([3, 4], dtype=np.int8)}), [3, 4]),
    (pa.table({"v": [3, None]}), [3, np.nan]),
]


@pytest.mark.parametrize(("frame", "values"), FRAMES, ids=[f"{type(f).__module__.split('.')[0]} {n}" for n, (f, _) in enumerate(FRAMES)])
def test_numbers_of_any_kind_are_floats(frame: object, values: list[float]) -> None:
    column = to_columns(frame)[0]["v"]
    assert column.dtype == np.float64
    np.testing.assert_array_equal(column, values)


def test_times_with_a_zone_are_utc_and_dates_are_midnight() -> None:
    noon = datetime(2024, 7, 1, 12, tzinfo=UTC)
    for frame in (
        pl.DataFrame({"t": [noon]}).with_columns(pl.col("t").dt.convert_time_zone("Asia/Seoul")),
        pd.DataFrame({"t": pd.DatetimeIndex([noon]).tz_convert("Asia/Seoul")}),
    ):
        assert to_columns(frame)[0]["t"].tolist() == [datetime(2024, 7, 1, 12)]
    assert to_columns(pl.DataFrame({"t": [noon.date()]}))[0]["t"].tolist() == [datetime(2024, 7, 1)]


def test_what_is_no_frame_says_so() -> None:
    assert is_frame(pl.DataFrame()) and is_frame(pd.DataFrame()) and is_frame(pl.LazyFrame())
    for value in ("file.csv", Path("file.csv"), np.zeros(3), [1.0], {"y": [1.0]}):
        assert not is_frame(value)
        with pytest.raises(DataError, match=f"expected a pandas, polars or arrow frame, got {type(value).__name__}"):
            to_columns(value)


def test_html_is_escaped_and_says_what_it_leaves_out() -> None:
    table = html_table({"<b>": np.array(["<script>alert(1)</script>"] * 20, dtype=object), "y": np.arange(20.0)}, rows=3)
    assert "<script>" not in table and "&lt;script&gt;" in table and "<b>" not in table
    assert table.count("<tr>") == 4 and "17 more rows" in table
    assert "2024-01-01 05:00" in html_table(COLUMNS)
