"""read_m5: the Kaggle files as a Panel, on a small world written as Kaggle writes it, and on real series."""

import gzip
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

import foretell as ft
from foretell import FileError, TaskError
from foretell.reading.m5 import LEVELS
from laws import refused

DAYS, AHEAD = 12, 3
STORES = (("CA_1", "CA"), ("CA_2", "CA"), ("TX_1", "TX"))
ITEMS = (("A_1_001", "A_1", "A"), ("A_1_002", "A_1", "A"), ("B_1_001", "B_1", "B"))


def sold(item: int, store: int, day: int) -> int:
    return 0 if day < 2 * item else (day * (item + 2) + store) % 5


def price(item: int, store: int, week: int) -> float | None:
    return None if (item, store, week) in ((0, 1, 1), (2, 2, 0)) or (item == 1 and week == 2) else 1 + item + 0.5 * store + 0.25 * week


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = ["id,item_id,dept_id,cat_id,store_id,state_id," + ",".join(f"d_{d + 1}" for d in range(DAYS))]
    for s, (store, state) in enumerate(STORES):
        for i, (item, dept, cat) in enumerate(ITEMS):
            rows.append(f"{item}_{store}_evaluation,{item},{dept},{cat},{store},{state}," + ",".join(str(sold(i, s, d)) for d in range(DAYS)))
    (tmp_path / "sales_train_evaluation.csv").write_text("\n".join(rows) + "\n")
    told = ["store_id,item_id,wm_yr_wk,sell_price"]
    for s, (store, _) in enumerate(STORES):
        for i, (item, _, _) in enumerate(ITEMS):
            told += [f"{store},{item},{100 + w},{p}" for w in range(3) if (p := price(i, s, w)) is not None]
    (tmp_path / "sell_prices.csv").write_text("\n".join(told) + "\n")
    lines = ["date,wm_yr_wk,d,event_name_1,event_type_1,event_name_2,event_type_2,snap_CA,snap_TX"]
    for d in range(DAYS + AHEAD):
        events = "Fair,Cultural,Game,Sporting" if d == 4 else "Feast,Religious,," if d == 13 else ",,,"
        lines.append(f"{date(2011, 1, 29) + timedelta(d)},{100 + d // 5},d_{d + 1},{events},{int(d % 4 == 0)},{int(d % 3 == 0)}")
    with gzip.open(tmp_path / "calendar.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    return tmp_path


def test_every_cell_of_the_bottom_level(folder: Path) -> None:
    panel = ft.read_m5(folder)
    assert panel.series[:4] == ("CA_1/A_1_001", "CA_1/A_1_002", "CA_1/B_1_001", "CA_2/A_1_001")
    assert panel.channels == ("sales", "price", "snap", "cultural", "national", "religious", "sporting")
    assert panel.labels["store"][3] == "CA_2" and panel.labels["dept"][2] == "B_1" and panel.labels["state"][-1] == "TX"
    for s, (_, state) in enumerate(STORES):
        for i in range(3):
            line, begun, last = panel.values[3 * s + i].numpy(), False, np.nan
            for d in range(DAYS + AHEAD):
                begun = begun or (d < DAYS and sold(i, s, d) > 0)
                last = found if (found := price(i, s, d // 5)) is not None else last
                expected = (sold(i, s, d) if d < DAYS and begun else np.nan, last, float(d % (4 if state == "CA" else 3) == 0))
                assert line[d].tolist() == pytest.approx(expected, nan_ok=True)
    assert panel.shared.sum(0).tolist() == [1, 0, 1, 1] and panel.shared[13, 2] == 1
    assert str(panel.clock.local(0))[:10] == "2011-01-29"


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_sums_to_the_same(folder: Path, level: str) -> None:
    panel = ft.read_m5(folder, level)
    bottom = ft.read_m5(folder)
    assert np.nansum(panel.channel("sales").numpy(), 0).tolist() == np.nansum(bottom.channel("sales").numpy(), 0).tolist()
    assert len(panel) == len({tuple(bottom.labels[f.removesuffix("_id")][k] for f in LEVELS[level]) for k in range(len(bottom))})


def test_the_price_of_a_state_is_the_mean_of_its_stores(folder: Path) -> None:
    panel = ft.read_m5(folder, "state-item")
    one = panel.channel("price")[panel.series.index("CA/A_1_001")]
    assert one[[0, 5, 10]].tolist() == pytest.approx([1.25, 1.25, 1.75])  # in week 1 only one of two stores lists a price
    assert panel.labels.keys() == {"item", "dept", "cat", "state"}
    assert ft.read_m5(folder, "item").channel("snap")[0, 4] == pytest.approx(2 / 3)


def test_what_is_wrong_gets_a_sentence(folder: Path) -> None:
    with refused(TaskError, 'no level "stores" of M5: .*store'):
        ft.read_m5(folder, "stores")
    with refused(FileError, "holds no mine .* or name the sales with sales="):
        ft.read_m5(folder, sales="mine")
    (folder / "sell_prices.csv").write_text("store_id,item_id,week,sell_price\n")
    with refused(FileError, 'is not prices of M5: no column "wm_yr_wk"'):
        ft.read_m5(folder)
    (folder / "sell_prices.csv").unlink()
    with refused(FileError, "holds no sell_prices"):
        ft.read_m5(folder)


def test_real_series_are_the_derived_ones(data: Path) -> None:
    import polars as pl

    panel = ft.read_m5(data / "retail" / "m5", "state-item", sales="sales_28items_10stores_d1_d1941.parquet")
    frame = pl.read_parquet(data / "retail" / "m5" / "state_item_84_d1_d1941_long.parquet").sort("state_id", "item_id", "date")
    assert len(panel) == 84 and panel.values.shape[1] == 1969
    order = sorted(range(84), key=lambda k: panel.series[k])
    sales, prices, snap = (frame[c].cast(pl.Float32).to_numpy().reshape(84, 1941) for c in ("sales", "sell_price", "snap"))
    ours = panel.values[order].numpy()[:, :1941]
    assert np.array_equal(np.nan_to_num(ours[..., 0]), sales)
    seen = np.isfinite(prices)
    # The derived file keeps four decimals of a price.
    assert np.allclose(ours[..., 1][seen], prices[seen], rtol=0, atol=6e-5) and np.array_equal(ours[..., 2], snap)
    assert np.isfinite(ours[:, 1913:, 1]).all()
