"""Reading: every kind of source becomes the panel it is, and every bad one its sentence."""

import contextlib
import gzip
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import naive
from foretell.errors import DataError, ForetellError, TaskError
from foretell.panel import Panel
from foretell.reading import Reading, check, derive, read
from foretell.reading.columns import parse_numbers, parse_times

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str, name: str = "f.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return put


def long(days: int = 10, series: tuple[str, ...] = ("a", "b")) -> pl.DataFrame:
    """unique_id, ds, y, temp: y differs by series, temp does not."""
    rng = np.random.default_rng(0)
    ds = np.datetime64("2024-01-01") + np.arange(days)
    return pl.DataFrame(
        {
            "unique_id": np.repeat(series, days),
            "ds": np.tile(ds, len(series)).astype("datetime64[ms]"),
            "y": rng.normal(size=days * len(series)),
            "temp": np.tile(rng.normal(size=days), len(series)),
        }
    )


def values(panel: Panel, channel: str = "y") -> list[float]:
    return [round(v, 4) for v in panel.channel(channel)[0].tolist()]


# ---------------------------------------------------------------- sources


def kinds(frame: pl.DataFrame, folder: Path) -> dict[str, object]:
    text = frame.write_csv()
    (folder / "f.csv").write_text(text)
    (folder / "f.tsv").write_text(frame.write_csv(separator="\t"))
    (folder / "semi.csv").write_text(frame.write_csv(separator=";"))
    (folder / "f.csv.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(folder / "f.zip", "w") as archive:
        archive.writestr("f.csv", text)
    frame.write_parquet(folder / "f.parquet")
    paths = {name: folder / name for name in ("f.csv", "f.tsv", "semi.csv", "f.csv.gz", "f.zip", "f.parquet")}
    frames = {"polars": frame, "lazy": frame.lazy(), "pandas": frame.to_pandas(), "arrow": frame.to_arrow(), "dict": frame.to_dict()}
    index = frame.to_pandas().set_index(["unique_id", "ds"])
    return {**paths, "text path": str(folder / "f.csv"), **frames, "index": index}


def test_every_kind_of_source_gives_the_same_panel(tmp_path: Path) -> None:
    for kind, source in kinds(long(), tmp_path).items():
        panel = read(source, Reading(dtype="float64"))
        assert panel.series == ("a", "b"), kind
        assert panel.own == ("y",), kind
        assert panel.common == ("temp",), kind
        assert panel.values.dtype == torch.float64
        assert panel.clock.step == "D", kind
        torch.testing.assert_close(panel.channel("y").flatten(), torch.tensor(long()["y"].to_list(), dtype=torch.float64), msg=kind)
        torch.testing.assert_close(panel.channel("temp").flatten(), torch.tensor(long()["temp"].to_list(), dtype=torch.float64), msg=kind)


def test_results_come_back_in_the_kind_that_came() -> None:
    frame = long()
    for source, native in ((frame, "polars"), (frame.to_pandas(), "pandas"), (frame.to_arrow(), "pyarrow")):
        assert read(source).names.native == native
    assert isinstance(read(frame.to_arrow()).frame(), pa.Table)


def test_reading_leaves_the_frame_alone(digest: Callable[[object], str]) -> None:
    frame = long().to_pandas().sample(frac=1, random_state=0)
    before = digest(frame)
    read(frame)
    assert digest(frame) == before


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_order_of_rows_is_free(order: int) -> None:
    shuffled = long().sample(fraction=1.0, shuffle=True, seed=order)
    one, other = read(long()), read(shuffled).pick("a", "b")
    torch.testing.assert_close(one.values, other.values)


def test_series_may_be_interleaved() -> None:
    panel = read(long().sort("ds", "unique_id"))
    assert panel.clock.step == "D"
    torch.testing.assert_close(panel.values, read(long()).values)
    twice = pl.concat([long(), long().filter(pl.col("ds").dt.day() == 4)]).sort("y")
    with pytest.raises(DataError, match=r'the same row of series "[ab]" at 2024-01-04 00:00:00 twice .*; 2 such rows'):
        read(twice)


def test_rows_lie_where_the_slow_twin_puts_them() -> None:
    frame = long(12, ("a", "b", "c")).sample(fraction=0.6, seed=3)
    panel = read(frame)
    for (series, time), y in naive.cells(frame["unique_id"].to_list(), frame["ds"].to_list(), frame["y"].to_list()).items():
        at = panel.series.index(series)
        row = int(panel.clock.index(np.array([time], dtype="datetime64[s]"))[0]) - int(panel.start[at])
        assert panel.channel("y")[at, row].item() == pytest.approx(y)
    assert int(panel.channel("y").isfinite().sum()) == frame.height


def test_series_start_where_they_start() -> None:
    frame = long().filter((pl.col("unique_id") == "a") | (pl.col("ds") >= pl.datetime(2024, 1, 4)))
    panel = read(frame)
    assert panel.start.tolist() == [0, 3]
    assert panel.values.shape[1] == 10
    assert panel.values[1, 7:].isnan().all()


def test_missing_steps_are_nan(write: Write) -> None:
    panel = read(write("ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-05,5\n"))
    assert panel.clock.step == "D"
    assert values(panel)[:2] == [1, 2]
    assert panel.values[0, 2:4].isnan().all()


def test_names_are_found_by_themselves(write: Write) -> None:
    panel = read(write("store,Datum,units\n7,2024-01-01,1\n7,2024-01-02,2\n8,2024-01-01,3\n8,2024-01-02,4\n"))
    assert panel.series == ("7", "8")
    assert panel.names == ("store", "Datum", "polars")
    assert panel.channels == ("units",)


def test_a_file_without_ids_is_one_series_called_after_it(write: Write) -> None:
    assert read(write("ds,y\n2024-01-01,1\n2024-01-02,2\n", "load.csv")).series == ("load",)


def test_row_numbers_called_id_are_no_ids(write: Write) -> None:
    assert read(write("id,ds,y\n1,2024-01-01,1\n2,2024-01-02,2\n3,2024-01-03,2\n")).series == ("f",)


def test_ids_of_several_columns_are_joined(write: Write) -> None:
    panel = read(write("state,item,ds,y\nCA,1,2024-01-01,1\nCA,1,2024-01-02,2\nTX,1,2024-01-01,3\nTX,1,2024-01-02,3\n"), id=("state", "item"))
    assert panel.series == ("CA/1", "TX/1")


def test_text_that_stays_in_a_series_is_a_label(write: Write) -> None:
    text = "unique_id,ds,y,region,size\na,2024-01-01,1,north,5\na,2024-01-02,2,north,5\nb,2024-01-01,3,south,6\nb,2024-01-02,4,,6\n"
    panel = read(write(text), Reading(labels="size"))
    assert panel.labels == {"region": ("north", "south"), "size": ("5", "6")}
    assert read(pl.read_csv(write(text)), Reading(labels="size")).labels["size"] == (5.0, 6.0)
    assert panel.channels == ("y",)


def test_only_the_channels_asked_for() -> None:
    assert read(long(), channels=["y"]).channels == ("y",)
    with pytest.raises(TaskError, match='channels= names a column "Y" that is not there; did you mean "y"'):
        read(long(), channels=["Y"])


def test_files_together_are_a_series_each(write: Write) -> None:
    one, two = write("ds,y\n2024-01-01,1\n2024-01-02,2\n", "a.csv"), write("ds,y\n2024-01-03,3\n2024-01-04,4\n", "b.csv")
    panel = read([one, two])
    assert panel.series == ("a", "b")
    assert panel.start.tolist() == [0, 2]
    whole = read([one, two], id=None)
    assert values(whole) == [1, 2, 3, 4]
    with pytest.raises(DataError, match=r'differ in their columns \("y" is in one only\)'):
        read([one, write("ds,z\n2024-01-01,1\n", "c.csv")])


def test_unnamed_row_numbers_are_left_out(write: Write) -> None:
    assert read(write(",ds,y\n0,2024-01-01,1\n1,2024-01-02,2\n")).channels == ("y",)


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(("encoding", "named"), [("utf-8", None), ("utf-8-sig", None), ("cp949", None), ("utf-16", None), ("cp949", "cp949")])
def test_korean_names_in_any_encoding(write: Write, encoding: str, named: str | None) -> None:
    panel = read(
        write("지점,일시,전력사용량\n서울,2024-01-01,1.5\n서울,2024-01-02,2.5\n부산,2024-01-01,3\n부산,2024-01-02,4\n", encoding=encoding),
        Reading(encoding=named, id="지점"),
    )
    assert panel.series == ("서울", "부산")
    assert panel.channels == ("전력사용량",)


def test_a_degree_sign_is_latin_not_korean(write: Write) -> None:
    assert read(write("ds,T °C,Größe\n2024-01-01,1,2\n2024-01-02,2,3\n", encoding="latin-1")).channels == ("T °C", "Größe")


@pytest.mark.parametrize("blank", ["", "NA", "NaN", "null", "None", "?", "-", "n/a", " "])
def test_what_counts_as_missing(write: Write, blank: str) -> None:
    panel = read(write(f"ds,y\n2024-01-01,1\n2024-01-02,{blank}\n2024-01-03,3\n"))
    assert panel.values[0, 1].isnan()
    assert values(panel)[::2] == [1, 3]


@pytest.mark.parametrize(
    ("texts", "comma", "numbers"),
    [
        (['"1,234.5"', "2"], False, [1234.5, 2]),
        (["1 234", "-1 234 567.5"], False, [1234, -1234567.5]),
        (["1,5", "1.234,5", "1.234"], True, [1.5, 1234.5, 1234]),
        (["1.5", "2"], True, [1.5, 2]),
        (["1e3", "-.5"], False, [1000, -0.5]),
        (["True", "false"], False, [1, 0]),
    ],
)
def test_how_numbers_are_written(texts: list[str], comma: bool, numbers: list[float]) -> None:
    found, bad = parse_numbers(pl.Series([t.strip('"') for t in texts]), comma)
    assert not bad.any()
    assert found.to_list() == numbers


def test_decimal_commas_in_a_file_parted_by_semicolons(write: Write) -> None:
    assert values(read(write("ds;y\n2024-01-01;1,5\n2024-01-02;1.002,5\n"))) == [1.5, 1002.5]


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        (["2024-01-31", "2024-02-01"], "2024-01-31"),
        (["2024-01-31T13:00:00", "2024-01-31T14:00:00"], "2024-01-31T13:00"),
        (["2024/1/31 13:00", "2024/1/31 14:00"], "2024-01-31T13:00"),
        (["31.01.2024 13:00", "01.02.2024 13:00"], "2024-01-31T13:00"),
        (["1/31/2024", "2/1/2024"], "2024-01-31"),
        (["31/01/2024", "01/02/2024"], "2024-01-31"),
        (["2024-01", "2024-02"], "2024-01-01"),
        (["2024Q3", "2024Q4"], "2024-07-01"),
        (["2024년 1월 31일", "2024년 2월 1일"], "2024-01-31"),
        (["2024. 1. 31.", "2024. 2. 1."], "2024-01-31"),
        (["2024-01-31 01:00:00 PM", "2024-01-31 02:00:00 PM"], "2024-01-31T13:00"),
        (["2024-01-31 13", "2024-01-31 14"], "2024-01-31T13:00"),
        (["2024-01-31 13:00:00.5", "2024-01-31 13:00:01"], "2024-01-31T13:00:00.5"),
        (["2024-01-31T13:00:00Z", "2024-01-31T14:00:00Z"], "2024-01-31T13:00"),
        (["2024-01-31 13:00:00+0900", "2024-01-31T14:00:00+09:00"], "2024-01-31T04:00"),
        (["31-Jan-2024", "01-Feb-2024"], "2024-01-31"),
    ],
)
def test_how_times_are_written(texts: list[str], first: str) -> None:
    parsed = parse_times(pl.Series(texts))
    assert not parsed.bad.any()
    assert parsed.times[0] == np.datetime64(first)


def test_times_as_numbers() -> None:
    assert parse_times(pl.Series([20240131, 20240201])).times[0] == np.datetime64("2024-01-31")
    assert parse_times(pl.Series([1990, 1991])).times[0] == np.datetime64("1990-01-01")
    for size in (1, 10**3, 10**6, 10**9):
        assert parse_times(pl.Series([1706659200 * size, 1706662800 * size])).times[0] == np.datetime64("2024-01-31")


def test_a_day_that_could_be_a_month_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match='"01/02/2024" and the like in column "ds" may put the day or the month first: write times as 2024-01-31'):
        read(write("ds,y\n01/02/2024,1\n02/02/2024,2\n"), time="ds")


# ---------------------------------------------------------------- the clock


@pytest.mark.parametrize("step", ["s", "30s", "5min", "30min", "h", "6h", "D", "2D", "W", "MS", "ME", "QS", "QE", "YS", "YE"])
def test_the_step_is_found(step: str) -> None:
    names = {"W": "W-MON"}
    ds = pd.date_range("2020-01-01", periods=30, freq=names.get(step, step)).delete([4, 5, 11])
    panel = read(pd.DataFrame({"ds": ds, "y": np.arange(27.0)}))
    assert panel.clock.step == step
    assert panel.values.shape[1] == 30
    assert panel.values.isnan().sum() == 3
    assert panel.frame()["ds"].tolist() == ds.tolist()


def test_a_file_without_a_clock(write: Write) -> None:
    path = write("y,z\n1,2\n3,4\n5,6\n")
    panel = read(path, time=None, step="1s")
    assert panel.clock.step == "s"
    assert panel.clock.start == np.datetime64("2000-01-01")
    assert values(panel) == [1, 3, 5]
    assert read(path, Reading(start="2024-05-01 10:00"), step="h").clock.local(2) == np.datetime64("2024-05-01T12:00")
    assert read(path, Reading(start="2024-07-01 10:00"), step="h", zone="Asia/Seoul").clock.local(0) == np.datetime64("2024-07-01T10:00")


def test_steps_without_a_clock_are_counted_by_series() -> None:
    panel = read({"unique_id": ["a", "b", "a", "b", "b"], "y": [1.0, 2, 3, 4, 5]}, step="D")
    assert panel.values[:, :, 0].nan_to_num(-1).tolist() == [[1, 3, -1], [2, 4, 5]]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"Date": ["2024-01-01"] * 3, "Time": ["10:00:00", "10:00:01", "10:00:02"]}, ("Date", "Time")),
        ({"year": [2024] * 3, "month": [1, 1, 1], "day": [30, 31, 32 - 31]}, None),
        ({"날짜": ["2024-01-01"] * 3, "시": [22, 23, 24]}, ("날짜", "시")),
        ({"y4": ["2024"] * 3, "m": [1, 2, 3]}, ("y4", "m")),
    ],
    ids=["time of day", "impossible", "hour 24", "year and month"],
)
def test_times_in_several_columns_are_joined(columns: dict[str, list[object]], names: tuple[str, ...] | None) -> None:
    frame = pl.DataFrame({**columns, "v": [1.0, 2, 3]})
    if names is None:
        frame = frame.with_columns(month=pl.Series([1, 1, 2]))
        names = ("year", "month", "day")
    panel = read(frame, time=names)
    assert values(panel, "v") == [1, 2, 3]
    assert panel.names.time == "ds"


def test_wall_times_become_utc_and_come_back() -> None:
    wall = pd.date_range("2024-10-26", "2024-10-28", freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"ds": wall.tz_localize(None), "y": np.arange(float(len(wall)))})
    panel = read(frame, Reading(fold="order"), zone="Europe/Berlin")
    assert values(panel) == list(range(50))
    assert panel.clock.local(np.arange(50)).tolist() == wall.tz_localize(None).to_pydatetime().tolist()
    aware = read(pd.DataFrame({"ds": wall, "y": np.arange(float(len(wall)))}))
    assert aware.clock == panel.clock
    texts = read(pd.DataFrame({"ds": [str(t) for t in wall], "y": np.arange(float(len(wall)))}), zone="Europe/Berlin")
    assert texts.clock == panel.clock
    torch.testing.assert_close(texts.values, panel.values)


def test_days_of_a_zone_are_local_dates() -> None:
    days = pd.date_range("2024-03-29", periods=5, freq="D", tz="Europe/Berlin")
    panel = read(pd.DataFrame({"ds": days, "y": np.arange(5.0)}))
    assert panel.clock.step == "D"
    assert panel.clock.start == np.datetime64("2024-03-29")
    assert panel.values.shape[1] == 5


def test_the_autumn_hour_needs_a_word() -> None:
    wall = pd.date_range("2024-10-26", "2024-10-28", freq="h", tz="Europe/Berlin").tz_localize(None)
    frame = pd.DataFrame({"ds": wall, "y": 1.0})
    with pytest.raises(DataError, match=r'two rows at 2024-10-27 02:00:00 \(rows 27 and 28; 1 such rows\).*clocks are put back: say zone="Europe/Berlin"'):
        read(frame.assign(y=np.arange(50.0)))
    with pytest.raises(DataError, match=r'2024-10-27 02:00:00 comes twice in Europe/Berlin.*fold="order"'):
        read(frame, zone="Europe/Berlin")
    with pytest.raises(DataError, match="2024-03-31 02:00:00 does not exist in Europe/Berlin"):
        read(pd.DataFrame({"ds": pd.date_range("2024-03-31", periods=5, freq="h"), "y": 1.0}), zone="Europe/Berlin")
    once = read(frame.drop(index=27), Reading(fold=1), zone="Europe/Berlin")
    assert once.values.isnan().nonzero().tolist() == [[0, 26, 0]]


# ---------------------------------------------------------------- even steps


@pytest.mark.parametrize("how", ["mean", "sum", "last", "max", "min"])
@pytest.mark.parametrize("step", ["W", "MS", "2D"])
def test_resampling_is_its_slow_twin(how: str, step: str) -> None:
    frame = long(40).with_columns(y=pl.when(pl.int_range(80) % 5 < 2).then(None).otherwise("y"))
    panel = read(frame, Reading(resample=step, how=how, dtype="float64"))
    expected = naive.resampled(frame["unique_id"].to_list(), frame["ds"].to_list(), frame["y"].to_list(), step, how)
    for (series, time), y in expected.items():
        at = panel.series.index(series)
        row = int(panel.clock.index(np.array([time], dtype="datetime64[s]"))[0]) - int(panel.start[at])
        assert panel.channel("y")[at, row].item() == pytest.approx(y, nan_ok=True), time


def test_each_channel_its_own_way(write: Write) -> None:
    panel = read(
        write("ds,units,price\n" + "".join(f"2024-01-{d:02d},{d},{10 * d}\n" for d in range(1, 15))),
        Reading(resample="W", how={"units": "sum", "price": "last"}),
    )
    assert values(panel, "units") == [28, 77]
    assert values(panel, "price") == [70, 140]
    with pytest.raises(TaskError, match='how= names a channel "unit" that is not there; did you mean "units"'):
        read(write("ds,units\n2024-01-01,1\n2024-01-02,1\n"), Reading(resample="W", how={"unit": "sum"}))


def test_uneven_times_and_doubled_rows_are_brought_together(write: Write) -> None:
    panel = read(write("ds,y\n2024-01-01 00:03,1\n2024-01-01 00:03,3\n2024-01-01 01:40,5\n2024-01-01 03:59,7\n"), resample="h")
    assert values(panel)[:2] == [2, 5]
    assert panel.values[0, 2].isnan()
    assert panel.clock.step == "h"


def test_steps_are_not_made_shorter(write: Write) -> None:
    with pytest.raises(TaskError, match='resample="h" would make steps shorter: the rows are D apart'):
        read(write("ds,y\n2024-01-01,1\n2024-01-02,3\n"), resample="h")


def test_days_of_a_zone_are_counted_on_the_wall() -> None:
    wall = pd.date_range("2024-07-01", periods=72, freq="h")
    panel = read(pd.DataFrame({"ds": wall, "y": np.repeat([1.0, 2, 3], 24)}), zone="Asia/Seoul", resample="D")
    assert values(panel) == [1, 2, 3]
    assert panel.clock.start == np.datetime64("2024-07-01")


# ---------------------------------------------------------------- wide


def test_numbered_columns_are_steps(write: Write) -> None:
    text = "item,state,d_3,d_4,d_6\nx,CA,1,2,3\nx,TX,4,5,6\ny,CA,7,8,9\ny,TX,,8,9\n"
    panel = read(write(text), Reading(start="2024-01-03", wide=True))
    assert panel.series == ("x/CA", "x/TX", "y/CA", "y/TX")
    assert panel.channels == ("y",)
    assert panel.values[0, :, 0].nan_to_num(-1).tolist() == [1, 2, -1, 3]
    assert panel.values[3, 0].isnan()
    assert panel.clock.start == np.datetime64("2024-01-03")
    assert read(write(text), Reading(wide=True), step="W").clock.step == "W"


def test_dates_as_column_names_are_steps(write: Write) -> None:
    panel = read(write("item,kind,2024-01,2024-03,2024-02\na,u,1,3,2\nb,v,4,6,5\n"))
    assert panel.clock.step == "MS"
    assert panel.values[..., 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert panel.labels == {"kind": ("u", "v")}


def test_numbered_sensors_are_not_steps(write: Write) -> None:
    text = "ds,V_1,V_2,V_3,V_4\n2024-01-01,1,2,3,4\n2024-01-02,1,2,3,4\n"
    assert read(write(text)).channels == ("V_1", "V_2", "V_3", "V_4")
    assert read(write("V_1,V_2,V_3,V_4\n1,2,3,4\n5,6,7,8\n"), step="30s").values.shape == (1, 2, 4)


def test_bad_wide_files(write: Write) -> None:
    with pytest.raises(DataError, match='two rows are called "a"'):
        read(write("item,kind,d_1,d_2,d_3,d_4,d_5\na,1,1,1,1,1,1\na,2,1,1,1,1,1\n"), Reading(wide=True, id="item"))
    with pytest.raises(DataError, match='text in a number column: "many" in column "d_2", row 2'):
        read(write("item,d_1,d_2,d_3\na,1,2,3\nb,1,many,3\n"))
    with pytest.raises(DataError, match="wide=True, but no columns are named d_1"):
        read(write("item,u,v\na,1,2\n"), Reading(wide=True))
    with pytest.raises(DataError, match="two columns of the wide file are 2024-01-01"):
        read(write("item,2024-01,2024/01,2024-02\na,1,2,3\n"))


# ---------------------------------------------------------------- derived, shared


def test_derived_channels(write: Write) -> None:
    path = write("ds,ad clicks,views,sales\n2024-01-01,1,10,2\n2024-01-02,3,0,4\n2024-01-03,5,20,6\n")
    formulas = {"ctr": "`ad clicks` / views", "half": "-(sales - 2) * 0.5", "size": "log(sales)", "double": "ctr * 2", "season": "index(sales)"}
    panel = read(path, Reading(derive=formulas))
    assert values(panel, "ctr")[::2] == [0.1, 0.25]
    assert panel.channel("ctr")[0, 1].isnan()
    assert values(panel, "half") == [0, -1, -2]
    assert values(panel, "size") == pytest.approx(np.log([2, 4, 6]).tolist(), abs=1e-4)
    assert values(panel, "double")[::2] == [0.2, 0.5]
    assert panel.calendar_channels == ("index_sales",)
    assert read(path, Reading(derive={"ctr": "'ad clicks' / views"}), channels=["sales"]).channels == ("sales", "ctr")


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("clicks / view", 'names a channel "view" that is not there; did you mean "views"'),
        ("clicks +", "cannot read"),
        ("clicks ** 2", "is not understood"),
        ("__import__('os')", "is not understood"),
        ("views.real", "is not understood"),
        ("log(clicks, 2)", "is not understood"),
        ("index(clicks + 1)", "takes the name of one channel"),
        ("log(clicks - 1)", r"takes the log of 0 \(series \"f\", 2024-01-01T00:00:00; 1 such rows\): a log needs values above 0"),
    ],
)
def test_bad_formulas(write: Write, formula: str, says: str) -> None:
    with pytest.raises(ForetellError, match=says):
        read(write("ds,clicks,views\n2024-01-01,1,10\n2024-01-02,3,5\n"), Reading(derive={"z": formula}))


def test_a_derived_channel_takes_a_new_name() -> None:
    with pytest.raises(TaskError, match='makes a channel "y" but there is one already'):
        derive(read(long()), {"y": "temp + 1"})


def test_what_all_series_share_is_held_once_and_unchanged() -> None:
    frame = long(series=("a", "b", "c")).filter((pl.col("unique_id") != "b") | (pl.col("ds").dt.day() > 3))
    panel = read(frame, Reading(dtype="float64"))
    assert panel.common == ("temp",)
    kept = pl.DataFrame(panel.frame()).sort("unique_id", "ds")
    assert kept["temp"].to_list() == frame.sort("unique_id", "ds")["temp"].to_list()


def test_what_series_do_not_share_stays_their_own() -> None:
    apart = pl.concat([long(5, ("a",)), long(5, ("b",)).with_columns(pl.col("ds") + pl.duration(days=5))])
    assert read(apart).common == ()
    meeting = pl.concat([long(10, ("a",)), long(10, ("b",)).with_columns(pl.col("ds") + pl.duration(days=9), pl.col("temp").reverse(), y=-pl.col("y"))])
    assert read(meeting).channel("temp")[0, 9] == read(meeting).channel("temp")[1, 0]
    assert read(meeting).common == ()
    alike = long().with_columns(y=pl.col("temp"))
    assert read(alike).common == ()
    differs = long().with_columns(temp=pl.when(pl.int_range(20) == 19).then(9.0).otherwise("temp"))
    assert read(differs).common == ()


# ---------------------------------------------------------------- bad input

HOURLY = "".join(f"2024-01-01 {h:02d}:00,{h}\n" for h in range(8))
BAD = {
    "empty file": ("", {}, "f.csv is empty"),
    "only header": ("ds,y\n", {}, r"f has column names \(ds, y\) but no rows"),
    "missing time": ("ds,y\n2024-01-01,1\n", {"time": "Date"}, r'time= names a column "Date" that is not there; There are: ds, y'),
    "missing id": ("ds,item,y\n2024-01-01,a,1\n", {"id": "items"}, 'id= names a column "items" that is not there; did you mean "item"'),
    "no times": ("a,b\n1,2\n3,4\n", {}, 'no column that reads as times among a, b: name it with time=, or, if rows are equal steps, say time=None, step="h"'),
    "text in numbers": (
        "ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,closed\n",
        {}, r'text in a number column: "closed" in column "y", row 3 \(1 such rows\)(?!.*channels=)',
    ),
    "changing text": ("ds,y,event\n2024-01-01,1,x\n2024-01-02,2,z\n", {}, r'"x" in column "event", row 1; or read without it, .*channels=\("y",\)'),
    "duplicates": ("ds,unique_id,y\n2024-01-01,a,1\n2024-01-02,a,1\n2024-01-02,a,3\n", {}, r'two rows of series "a" at 2024-01-02 00:00:00 \(rows 2 and 3'),
    "identical rows": (
        "ds,y\n2024-01-01,1\n2024-01-02,1\n2024-01-02,1\n",
        {}, r'the same row at 2024-01-02 00:00:00 twice \(rows 2 and 3.*resample="D".*with how="sum" beside it',
    ),
    "several series": ("ds,campaign,y\n2024-01-01,u,1\n2024-01-01,v,1\n2024-01-02,u,2\n2024-01-02,v,2\n", {}, 'several series. Say id="campaign"'),
    "two id columns": (
        "ds,store,item,y\n" + "".join(f"2024-01-01,{s},{i},1\n2024-01-02,{s},{i},1\n" for s, i in itertools.product("uv", "ab")),
        {},
        r'say id=\("store", "item"\)|Say id=\("store", "item"\)',
    ),
    "time of day apart": ("Date,Time,y\n2024-01-01,10:00,1\n2024-01-01,10:01,2\n", {}, r'the time of day is in "Time": say time=\("Date", "Time"\)'),
    "off grid": ("ds,y\n" + HOURLY + "2024-01-01 08:20,1\n", {"step": "h"}, r'2024-01-01 08:20:00 is not on the grid of every h.*resample="h"'),
    "mixed steps": (
        "ds,y\n" + HOURLY + "2024-01-01 07:30,1\n",
        {}, r'most steps are h, but 2024-01-01 07:30:00 follows 2024-01-01 07:00:00.*step="30min".*resample="h"',
    ),
    "wild steps": ("ds,y\n" + HOURLY + "2024-01-01 08:00:07,1\n", {}, r'08:00:07 follows .*and so 1 of 9 rows. Say resample="h"'),
    "fifteenth of months": ("ds,y\n2024-01-15,1\n2024-02-15,1\n2024-03-15,2\n2024-04-15,2\n", {}, 'all on day 15 of the month: say resample="MS"'),
    "month starts asked": ("ds,y\n2024-01-31,1\n2024-02-29,1\n", {"step": "MS"}, 'counts from the first day of a month, but the first time is 2024-01-31'),
    "apart by minutes": (
        "unique_id,ds,y\na,2024-01-01 00:00,1\na,2024-01-01 01:00,1\nb,2024-01-01 00:17,1\nb,2024-01-01 01:17,1\n",
        {},
        '00:17:00 of series "b" is not on the grid of every h from 2024-01-01',
    ),
    "one row": ("ds,y\n2024-01-01,1\n", {}, 'one row only, so the step between rows is not known: say it with step='),
    "no such time": ("ds,y\n2024-01-01,1\n2024-02-30,2\n", {"time": "ds"}, '"2024-02-30" in column "ds", row 2, is not a time like 2024-01-31'),
    "blank time": ("ds,y\n2024-01-01,1\n,2\n2024-01-03,2\n", {}, r'no time in column "ds", row 2 \(1 such rows\)'),
    "blank id": ("unique_id,ds,y\na,2024-01-01,1\n,2024-01-02,2\na,2024-01-03,2\n", {}, 'row 2 has nothing in column "unique_id"'),
    "wrong zone": ("ds,y\n2024-01-01 00:00,1\n2024-01-01 01:00,1\n", {"zone": "Europe/Berln"}, 'no time zone "Europe/Berln": did you mean "Europe/Berlin"'),
    "wrong step": ("ds,y\n2024-01-01,1\n", {"step": "hourly"}, 'no step "hourly"'),
    "step and resample": ("ds,y\n2024-01-01,1\n", {"step": "h", "resample": "D"}, "give one"),
    "ragged": ("ds,y\n2024-01-01,1\n2024-01-02,2,3\n", {}, "line 3 has 3 fields but the header has 2 names"),
    "twice named": ("ds,y,y\n2024-01-01,1,2\n", {}, 'two columns called "y"'),
    "no header": ("2024-01-01,5\n2024-01-02,6\n", {}, "looks like data, not names"),
    "two times": (
        "from,until,y\n2024-01-01,2024-01-02,2\n2024-01-02,2024-01-03,2\n",
        {}, r"several columns read as times \(from, until\): say which with time=",
    ),
    "parts of seconds": (
        "ds,y\n2024-01-01 00:00:00.5,1\n2024-01-01 00:00:01.0,1\n",
        {}, 'times have parts of a second .first 2024-01-01T00:00:00.5.*resample="s"',
    ),
    "one wrong year": (
        "ds,y\n2024-01-01 00:00:00,1\n2024-01-01 00:00:01,1\n2042-01-01 00:00:02,1\n",
        {},
        "2042-01-01T00:00:02 follows 2024-01-01T00:00:01. Is",
    ),
    "no numbers": ("ds,place\n2024-01-01,u\n2024-01-02,u\n", {}, "no column of numbers beside ds"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_every_bad_file_gets_its_sentence(write: Write, case: str) -> None:
    text, options, says = BAD[case]
    with pytest.raises(ForetellError, match=says):
        read(write(text), **options)  # type: ignore[arg-type]  # options by name, as a table of cases needs them


def test_files_that_are_no_files(tmp_path: Path, write: Write) -> None:
    write("ds,y\n2024-01-01,1\n", "load.csv")
    with pytest.raises(DataError, match=r'no file .*laod.csv: did you mean "load.csv"'):
        read(tmp_path / "laod.csv")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(DataError, match=r'files end in \.csv, .*; got "\.xlsx"; save the sheet as CSV first'):
        read(write("x", "f.xlsx"))
    with pytest.raises(DataError, match="cannot be unpacked, it is damaged"):
        read(write("no gzip", "f.csv.gz"))
    with pytest.raises(DataError, match="is not a parquet file"):
        read(write("no parquet", "f.parquet"))
    with pytest.raises(DataError, match=r"is not a \.tsf file"):
        read(write("@relation x\n", "f.tsf"))
    with pytest.raises(DataError, match="is not ascii: byte 9"):
        read(write("ds,y\n2024é", "g.csv"), Reading(encoding="ascii"))
    with pytest.raises(DataError, match='no encoding "utf8mb4"'):
        read(write("ds,y\n2024-01-01,1\n"), Reading(encoding="utf8mb4"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (3, "cannot read a int"),
        ([], "cannot read an empty list"),
        (np.zeros(3), "goes to foretell.panel"),
        ({"a": [1, 2], "b": [1]}, r"one axis and one length; got a \[2\], b \[1\]"),
        (pl.DataFrame({"ds": [[1]], "y": [1]}), 'column "ds" holds lists'),
    ],
)
def test_things_that_are_no_tables(source: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(source)


def test_a_label_that_changes_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r'labels= names "size", but it changes within a series .*"5", then "6"'):
        read(write("ds,y,size\n2024-01-01,1,5\n2024-01-02,1,6\n"), Reading(labels="size"))


def test_start_is_for_files_without_times() -> None:
    with pytest.raises(TaskError, match='start= is for rows without times, and here are some, in "ds"'):
        read(long(), Reading(start="2024-01-01"))
    with pytest.raises(TaskError, match="start must be a time like 2024-01-31"):
        Reading(start="soon")


def test_infinite_is_not_observed() -> None:
    panel = read({"ds": ["2024-01-01", "2024-01-02"], "y": [np.inf, 1.0]})
    assert panel.values[0, 0].isnan()


# ---------------------------------------------------------------- tsf


TSF = """# comment
@relation x
@attribute series_name string
@attribute start_timestamp date
@attribute state string
@frequency {step}
@data
T1:2020-01-01 00-00-00:NSW:1,2,?,4
T2:2020-03-01 00-00-00:VIC:5,6
"""


def test_tsf(write: Write) -> None:
    panel = read(write(TSF.format(step="monthly"), "f.tsf"))
    assert panel.clock.step == "MS"
    assert panel.start.tolist() == [0, 2]
    assert panel.values[..., 0].nan_to_num(-1).tolist() == [[1, 2, -1, 4], [5, 6, -1, -1]]
    assert panel.labels == {"state": ("NSW", "VIC")}
    with pytest.raises(DataError, match='no @frequency "monthli": did you mean "monthly"'):
        read(write(TSF.format(step="monthli"), "f.tsf"))
    with pytest.raises(DataError, match="series 1 after @data cannot be read"):
        read(write(TSF.format(step="daily").replace("1,2", "1,x"), "f.tsf"))
    with pytest.raises(DataError, match=r'series 2 after @data cannot be read .*"20200-03-01 00-00-00" is no start time'):
        read(write(TSF.format(step="daily").replace("2020-03", "20200-03"), "f.tsf"))


# ---------------------------------------------------------------- anything at all

WHOLE = (
    "ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n",
    "unique_id;ds;y;r\na;2024-01-01 01:00;1,5;x\na;2024-01-01 02:00;2,5;x\nb;2024-01-01 01:00;3;z\n",
    "item,d_1,d_2,d_3,d_4\na,1,2,3,4\nb,1,2,3,4\n",
    'Date,Time,v\n2024-01-01,10:00,3\n2024-01-01,10:01,"1,234"\n',
    TSF.format(step="daily"),
)
PIECES = st.sampled_from([*",;\t\n\"'0123456789-:. Té?|\x00", "NA", "inf", "2024-01-01", "24:00", "1e400", "99999999999"])


@given(whole=st.sampled_from(WHOLE), edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4), PIECES), max_size=6))
def test_a_damaged_file_is_read_or_gets_a_sentence(tmp_path_factory: pytest.TempPathFactory, whole: str, edits: list[tuple[int, int, str]]) -> None:
    text = whole
    for at, cut, piece in edits:
        text = text[:at] + piece + text[at + cut :]
    path = tmp_path_factory.mktemp("damaged") / ("f.tsf" if whole == WHOLE[-1] else "f.csv")
    path.write_text(text, encoding="utf-8")
    with contextlib.suppress(ForetellError):
        read(path)
    assert str(check(path))


# ---------------------------------------------------------------- real files

REAL = {
    "power/tetuan_power/tetuan_hourly.csv.gz": ({}, (1, 8736, 4), "h", 0),
    "power/uci_household/household_hourly.csv.gz": ({}, (1, 34589, 8), "h", 7 * 421),
    "power/seed_power_3month/power_usage_dataset_3month.csv": ({}, (1, 2928, 2), "h", 0),
    "bench/epf_nord_pool/NP.csv.gz": ({}, (1, 52416, 3), "h", 0),
    "bench/ett/ETTh1.csv.gz": ({}, (1, 17420, 7), "h", 0),
    "bench/monash/m4_hourly_dataset.tsf.gz": ({}, (414, 1008, 1), "h", 43940),
    "bench/monash/tourism_monthly_dataset.tsf.gz": ({}, (366, 333, 1), "MS", 12598),
    "retail/m5/sales_28items_10stores_d1_d1941.parquet": ({"reading": Reading(start="2011-01-29")}, (280, 1941, 1), "D", 0),
    "retail/m5/state_item_84_d1_d1941_long.parquet": (
        {"id": ("state_id", "item_id"), "channels": ["sales", "sell_price", "snap", "is_weekend"]},
        (84, 1941, 3), "D", 22386,
    ),
    "retail/online_retail_daily/uk_top200_daily.parquet": ({"channels": ["quantity", "price", "shop_open"]}, (200, 739, 2), "D", 2905),
    "ads/online_advertising/daily_by_campaign.csv.gz": ({"id": "campaign"}, (3, 91, 8), "D", 61 * 8),
    "ads/robyn_weekly/dt_simulated_weekly.csv": ({"channels": ["revenue", "tv_S"]}, (1, 208, 2), "W", 0),
    "battery/kamp_battery_pack/Test01_OK_chg.csv.gz": ({"time": ("Date", "Time")}, (1, 1723, 229), "s", 0),
    "battery/ev_battery_faults/car4_processed.zip": ({"resample": "30s", "channels": ["vehSpeed", "V_1"]}, (1, 243626, 2), "30s", 457420),
    "anomaly/skab/data/valve1/0.csv.gz": ({}, (1, 1200, 10), "s", 530),
    "anomaly/nab/data/realKnownCause/machine_temperature_system_failure.csv.gz": ({"resample": "5min"}, (1, 22683, 1), "5min", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_files(data: Path, name: str) -> None:
    options, shape, step, missing = REAL[name]
    panel = read(data / name, **options)  # type: ignore[arg-type]  # options by name, as a table of cases needs them
    assert tuple(panel.values.shape) == shape
    assert panel.clock.step == step
    assert int(panel.values.isnan().sum()) == missing


def test_runs_of_a_battery_far_apart_do_not_fill_the_clock(data: Path) -> None:
    panel = read(sorted((data / "battery/kamp_battery_pack").glob("*.csv.gz")), time=("Date", "Time"))
    assert panel.series[0] == "Test01_OK_chg"
    assert panel.values.shape == (4, 1723, 229)


def test_the_m5_file_names_its_own_cure(data: Path) -> None:
    with pytest.raises(DataError, match=r'Say id=\("state_id", "item_id"\)'):
        read(data / "retail/m5/state_item_84_d1_d1941_long.parquet")
    panel = read(data / "retail/m5/state_item_84_d1_d1941_long.parquet", id=("state_id", "item_id"), channels=["sales", "is_weekend"])
    assert panel.common == ("is_weekend",)
    assert panel.labels["dept_id"][0] == "FOODS_1"
