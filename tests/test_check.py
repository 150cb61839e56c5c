"""Check: what is said of a file before anything is trained; it raises nothing it can describe."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from foretell.panel import from_array as panel
from foretell.reading import Check, Reading, check
from foretell.task import Task
from test_reading import BAD

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str, name: str = "f.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return put


def weekly(days: int = 70, series: tuple[str, ...] = ("a", "b")) -> pl.DataFrame:
    """A clear week, with three days missing in the second series."""
    ds = np.datetime64("2024-01-01") + np.arange(days)
    noise = np.random.default_rng(1).normal(size=(len(series), days))
    y = 9 + 3 * np.sin(2 * np.pi * np.arange(days) / 7) + 0.3 * noise
    frame = pl.DataFrame({"unique_id": np.repeat(series, days), "ds": np.tile(ds, len(series)).astype("datetime64[ms]"), "y": y.reshape(-1)})
    return frame.filter((pl.col("unique_id") == "a") | ~pl.col("ds").dt.ordinal_day().is_between(20, 22))


def test_what_is_found_is_told() -> None:
    found = check(weekly())
    assert (found.series, found.channels, found.step) == (("a", "b"), ("y",), "D")
    assert (found.first, found.last) == ("2024-01-01", "2024-03-10")
    assert (found.rows, found.gaps, found.worst) == (137, 3, ("b", 3))
    assert (found.target, found.guessed, found.period) == ("y", True, 7)
    assert found.ok
    text = str(found)
    for words in ("2 series, 2024-01-01 … 2024-03-10, one step is D", "3 steps missing (2.14%)", 'most in "b": 3', "period   7 steps", "Nothing wrong found."):
        assert words in text, words


def test_its_frame_has_a_row_a_channel() -> None:
    frame = check(weekly().with_columns(z=pl.lit(-1.0))).frame()
    assert isinstance(frame, pl.DataFrame)
    assert frame["channel"].to_list() == ["y", "z"]
    assert frame["observed"].to_list() == [137, 140], "what all series share is known in another's gap too"
    assert frame["negative"].to_list() == [0, 140]
    assert frame["constant in"].to_list() == [0, 2]


def test_the_panel_itself_can_be_checked() -> None:
    assert check(panel(np.arange(30.0))).step == "D"


@pytest.mark.parametrize("case", BAD)
def test_nothing_bad_is_raised_but_told(write: Write, case: str) -> None:
    import re

    text, options, says = BAD[case]
    given = Reading(zone=options["zone"]) if "zone" in options else None
    found = check(write(text), reading=given, **{k: v for k, v in options.items() if k != "zone"})  # type: ignore[arg-type]  # a table of cases
    assert any(re.search(says, sentence) for sentence in found.problems), found.problems
    assert not found.ok
    assert found.problems[0] in str(found)


def test_it_goes_on_after_a_problem(write: Write) -> None:
    found = check(write("ds,y,z\n2024-01-01,1,1\n2024-01-02,oops,1\n2024-01-02,3,1\n2024-01-03,4,1\n"))
    assert len(found.problems) == 3
    for words, sentence in zip(("two rows at 2024-01-02", '"oops" in column "y", row 2', '"z" never changes'), found.problems, strict=True):
        assert words in sentence
    assert found.step == "D"
    assert found.facts["observed"].tolist() == [2, 3]


def test_of_two_rows_at_a_time_the_earlier_is_looked_at(write: Write) -> None:
    found = check(write("ds,y\n2024-01-02,7\n2024-01-01,1\n2024-01-02,9\n2024-01-03,2\n"))
    assert found.facts["max"].tolist() == [7]


def test_constant_and_empty_series_are_named() -> None:
    frame = weekly().with_columns(y=pl.when(pl.col("unique_id") == "b").then(4.0).otherwise("y"), void=pl.lit(None, dtype=pl.Float64))
    problems = check(frame).problems
    assert problems == ('channel "void" is never observed: a model learns nothing from it', 'channel "y" never changes in series "b"')


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    found = check(tmp_path / "none.csv")
    assert "no file" in found.problems[0]
    assert str(found).startswith("none.csv could not be read")


# ---------------------------------------------------------------- tasks


def test_a_task_that_fits_lacks_nothing() -> None:
    found = check(weekly(), Task(target="y", context=14, horizon=7))
    assert found.lacks == ()
    assert not found.guessed


def test_missing_channels_are_named_with_their_neighbours() -> None:
    found = check(weekly().with_columns(price=pl.int_range(137).cast(pl.Float64)), Task(target="Y", known=("prise",), past=("y",), horizon=7))
    assert found.lacks[0] == 'target channel "Y" is not there; did you mean "y"? There are: y, price'
    assert 'known channel "prise" is not there; did you mean "price"' in found.lacks[1]


def test_short_series_are_named() -> None:
    frame = weekly().filter((pl.col("unique_id") == "a") | (pl.col("ds").dt.ordinal_day() > 52))
    found = check(frame, Task(target="y", context=14, horizon=7))
    assert found.lacks == ('1 of 2 series are shorter than context + horizon (14 + 7 = 21 steps): "b" has 18',)
    assert found.gaps == 0, "before its first row and after its last a series has no gaps"


def test_future_rows_of_known_channels_are_counted() -> None:
    frame = weekly().with_columns(price=pl.col("ds").dt.day().cast(pl.Float64) + (pl.col("unique_id") == "a"))
    task = Task(target="y", known=("price",), context=14, horizon=7)
    assert 'known channel "price" lacks 7 of the 7 steps ahead for 2 of 2 series, first "a", from 2024-03-11' in check(frame, task).lacks[0]
    later = frame.with_columns(y=pl.when(pl.col("ds") > pl.datetime(2024, 3, 3)).then(None).otherwise("y"))
    assert check(later, task).lacks == ()
    eight = Task(target="y", known=("price",), context=14, horizon=8)
    assert "lacks 1 of the 8 steps ahead" in check(later, eight).lacks[0]


# ---------------------------------------------------------------- real files


def found_in(data: Path, name: str, task: Task | None = None) -> Check:
    return check(data / name, task)


def test_real_files(data: Path) -> None:
    house = found_in(data, "power/uci_household/household_hourly.csv.gz")
    assert (house.target, house.gaps, house.period) == ("Global_active_power", 421, 24)
    tetuan = found_in(data, "power/tetuan_power/tetuan_hourly.csv.gz", Task(target="Usage", known="Temperature", horizon=24))
    assert tetuan.period == 24
    assert "lacks 24 of the 24 steps ahead, from 2017-12-31 00:00" in tetuan.lacks[0]
    ads = found_in(data, "ads/online_advertising/daily_by_campaign.csv.gz")
    assert 'Say id="campaign"' in ads.problems[0]
    pack = found_in(data, "battery/kamp_battery_pack/Test01_OK_chg.csv.gz")
    assert 'say time=("Date", "Time")' in pack.problems[0]
