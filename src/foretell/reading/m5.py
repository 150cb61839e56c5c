"""read_m5: the user's own Kaggle files of the M5 competition as one Panel, at any of its twelve levels."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..clock import Clock
from ..errors import FileError, TaskError, nearest
from ..panel import Panel

if TYPE_CHECKING:
    import polars as pl

LEVELS: Mapping[str, tuple[str, ...]] = {
    "item-store": ("store_id", "item_id"),
    "state-item": ("state_id", "item_id"),
    "item": ("item_id",),
    "dept-store": ("store_id", "dept_id"),
    "dept-state": ("state_id", "dept_id"),
    "dept": ("dept_id",),
    "cat-store": ("store_id", "cat_id"),
    "cat-state": ("state_id", "cat_id"),
    "cat": ("cat_id",),
    "store": ("store_id",),
    "state": ("state_id",),
    "total": (),
}
FACTS = ("item_id", "dept_id", "cat_id", "store_id", "state_id")
EVENTS = ("Cultural", "National", "Religious", "Sporting")
ENDINGS = (".csv", ".csv.gz", ".parquet")
SALES = ("sales_train_evaluation", "sales_train_validation")


def read_m5(folder: str | Path, level: str = "item-store", *, sales: str | None = None) -> Panel:
    """Daily sales, price and snap of every series of a level, the four kinds of events shared by all.

    The folder holds sales_train_evaluation (or _validation), sell_prices and calendar, each csv, csv.gz or parquet; `sales`
    names another wide file of sales. Sales are sums over the rows of a series, NaN before its first sale; the price is the
    mean over the stores that list one, kept until a new one is told; snap is 1 on the days of the series' states (a share
    where they differ). The calendar's days after the last sale are kept: what is known ahead, known ahead.
    Labels are whatever facts a level leaves: item, dept, cat, store, state. FileError for a file that is missing.
    """
    if level not in LEVELS:
        raise TaskError(f'no level "{level}" of M5: {nearest(level, LEVELS, limit=12)}')
    where = Path(folder)
    wide = _table(_found(where, (sales,) if sales else SALES), FACTS, "wide sales")
    calendar = _table(_found(where, ("calendar",)), ("d", "date", "wm_yr_wk", "event_type_1", "event_type_2"), "the calendar")
    days = [c for c in wide.columns if c.startswith("d_")]
    dates, order = calendar["date"].cast(str).to_numpy().astype("datetime64[D]"), calendar["d"].to_list()
    if not days or days[0] not in order:
        raise FileError(f'"{where}": the sales have no column d_1, d_2 … that the calendar knows')
    first = order.index(days[0])
    series, labels, names = _grouped(wide, LEVELS[level])
    values = np.full((len(names), len(order) - first, 3), np.nan, np.float32)
    values[:, : len(days), 0] = _summed(wide.select(days), series, len(names))
    weeks = calendar["wm_yr_wk"].to_numpy()[first:]
    values[..., 1] = _prices(_table(_found(where, ("sell_prices",)), ("store_id", "item_id", "wm_yr_wk", "sell_price"), "prices"), wide, series, weeks)
    values[..., 2] = _snap(calendar[first:], wide["state_id"].to_numpy(), series, len(names))
    kinds = [calendar[c].to_numpy()[first:] for c in ("event_type_1", "event_type_2")]
    events = np.stack([(kinds[0] == kind) | (kinds[1] == kind) for kind in EVENTS], 1).astype(np.float32)
    channels = ("sales", "price", "snap", *(kind.lower() for kind in EVENTS))
    clock = Clock(dates[first].astype("datetime64[s]"), "D", None)
    start = torch.zeros(len(names), dtype=torch.long)
    return Panel(torch.from_numpy(values), torch.from_numpy(events), start, clock, names, channels, labels=labels)


def _found(folder: Path, stems: tuple[str, ...]) -> Path:
    """The first of these files, with any of the endings."""
    for stem in stems:
        for path in (folder / stem, *(folder / f"{stem}{ending}" for ending in ENDINGS)):
            if path.is_file():
                return path
    raise FileError(
        f'"{folder}" holds no {" or ".join(stems)} ({", ".join(ENDINGS)}): download the M5 files from Kaggle into it, or name the sales with sales='
    )


def _table(path: Path, needed: tuple[str, ...], what: str) -> "pl.DataFrame":
    """A file as a frame; the days of sales as small whole numbers, which is a quarter of the memory."""
    import polars as pl

    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            columns = pl.read_csv(path, n_rows=0).columns
            small: dict[str, Any] = {c: pl.Int32 for c in columns if c.startswith("d_")}
            frame = pl.read_csv(path, schema_overrides=small)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f'"{path}" cannot be read: {str(error).splitlines()[0]}') from None
    for column in needed:
        if column not in frame.columns:
            raise FileError(f'"{path}" is not {what} of M5: no column "{column}"; {nearest(column, frame.columns)}')
    return frame


def _grouped(wide: "pl.DataFrame", by: tuple[str, ...]) -> tuple[np.ndarray, dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Which series each row belongs to, in the order of first appearance; their labels; their names, short facts first."""
    import polars as pl

    names = wide.select(pl.concat_str(by, separator="/")).to_series().to_numpy().astype(str) if by else np.full(len(wide), "total")
    found, first, back = np.unique(names, return_index=True, return_inverse=True)
    rank = np.argsort(first)
    place = np.empty_like(rank)
    place[rank] = np.arange(len(rank))
    series = place[back]
    labels = {}
    for fact in FACTS:
        column = wide[fact].to_numpy().astype(str)
        told = column[first[rank]]
        if (column == told[series]).all():
            labels[fact.removesuffix("_id")] = tuple(told.tolist())
    return series, labels, tuple(found[rank].tolist())


def _summed(days: "pl.DataFrame", series: np.ndarray, count: int) -> np.ndarray:
    """[series, day]: sums over each series' rows, NaN before the first sale."""
    table = days.to_numpy()
    if count < len(table):
        order = np.argsort(series, kind="stable")
        begins = np.searchsorted(series[order], np.arange(count))
        table = np.add.reduceat(table[order], begins, axis=0, dtype=np.int64)
    sums = table.astype(np.float32)
    begun = np.maximum.accumulate(table > 0, axis=1)
    sums[~begun] = np.nan
    return sums


def _prices(prices: "pl.DataFrame", wide: "pl.DataFrame", series: np.ndarray, weeks: np.ndarray) -> np.ndarray:
    """[series, day]: the mean price a week over the stores that list one, kept until a new one is told; NaN before the first."""
    import polars as pl

    known, day = np.unique(weeks, return_inverse=True)
    rows = wide.select("store_id", "item_id").with_columns(series=pl.Series(series))
    joined = prices.select("store_id", "item_id", "wm_yr_wk", "sell_price").join(rows, on=["store_id", "item_id"]).select("series", "wm_yr_wk", "sell_price")
    at, week = joined["series"].to_numpy(), joined["wm_yr_wk"].to_numpy()
    inside = np.isin(week, known)
    cell = at[inside] * len(known) + np.searchsorted(known, week[inside])
    size = (int(series.max()) + 1) * len(known)
    often = np.bincount(cell, minlength=size)
    total = np.bincount(cell, weights=joined["sell_price"].to_numpy()[inside], minlength=size)
    told = np.where(often > 0, total / np.maximum(often, 1), np.nan).reshape(-1, len(known)).astype(np.float32)
    last = np.maximum.accumulate(np.where(np.isfinite(told), np.arange(len(known)), -1), axis=1)
    kept = np.where(last >= 0, np.take_along_axis(told, np.maximum(last, 0), 1), np.nan)
    return np.asarray(kept[:, day], np.float32)


def _snap(calendar: "pl.DataFrame", states: np.ndarray, series: np.ndarray, count: int) -> np.ndarray:
    """[series, day]: the share of a series' rows in whose state benefits are paid that day."""
    weight = np.zeros((count, len(calendar)), np.float32)
    for state in np.unique(states.astype(str)):
        if f"snap_{state}" not in calendar.columns:
            raise FileError(f'the calendar has no column "snap_{state}"; {nearest(f"snap_{state}", calendar.columns)}')
        share = np.bincount(series[states == state], minlength=count) / np.bincount(series, minlength=count)
        weight += share[:, None].astype(np.float32) * calendar[f"snap_{state}"].to_numpy()[None].astype(np.float32)
    return weight
