"""Clock: steps ↔ times over months, zones and the nights when clocks change; every wrong clock gets its sentence."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell import Clock, DataError
from foretell.clock import local_from_utc, parse_step, utc_from_local

STEPS = ["s", "15s", "min", "30min", "h", "6h", "D", "2D", "W", "MS", "ME", "QS", "QE", "YS", "YE"]


def clock_of(step: str, zone: str | None = None) -> Clock:
    return Clock(np.datetime64("2019-12-31" if step in ("ME", "QE", "YE") else "2020-01-01"), step, zone)


@given(st.sampled_from(STEPS), st.lists(st.integers(-500, 5000), min_size=1, max_size=5), st.sampled_from([None, "Europe/Berlin", "Asia/Seoul"]))
def test_steps_come_back_from_their_times(step: str, index: list[int], zone: str | None) -> None:
    clock = clock_of(step, zone)
    assert clock.index(clock.times(np.array(index))).tolist() == index
    assert (np.diff(clock.times(np.sort(index)).astype(np.int64)) >= 0).all()


@pytest.mark.parametrize(
    ("step", "third"),
    [("ME", "2020-02-29"), ("MS", "2020-03-01"), ("QE", "2020-06-30"), ("QS", "2020-07-01"), ("YE", "2021-12-31"), ("YS", "2022-01-01"), ("W", "2020-01-15")],
)
def test_months_are_counted_by_the_calendar(step: str, third: str) -> None:
    assert clock_of(step).times(2) == np.datetime64(third)


@pytest.mark.parametrize(
    ("step", "season"), [("s", 60), ("min", 1440), ("30min", 48), ("h", 24), ("D", 7), ("W", 52), ("MS", 12), ("QE", 4), ("YS", 1), ("12h", 2), ("2D", 4)]
)
def test_the_season_is_the_natural_cycle(step: str, season: int) -> None:
    assert clock_of(step).season == season


@pytest.mark.parametrize(
    ("written", "meant"), [("30T", "30min"), ("H", "h"), ("1h", "h"), ("W-SUN", "W"), ("M", "MS"), ("A", "YS"), (" 5 min ", "5min"), ("d", "D")]
)
def test_older_letters_are_understood(written: str, meant: str) -> None:
    assert Clock(np.datetime64("2020-01-01"), written) == Clock(np.datetime64("2020-01-01"), meant)
    assert parse_step(written) == parse_step(meant)


def test_hours_go_on_over_the_night_when_clocks_change() -> None:
    spring = Clock(np.datetime64("2024-03-30T23:00"), "h", "Europe/Berlin")  # UTC
    assert spring.local(np.arange(4)).tolist() == [datetime(2024, 3, 31, h) for h in (0, 1, 3, 4)]
    autumn = Clock(np.datetime64("2024-10-26T23:00"), "h", "Europe/Berlin")
    assert autumn.local(np.arange(4)).tolist() == [datetime(2024, 10, 27, h) for h in (1, 2, 2, 3)]
    days = Clock(np.datetime64("2024-03-30"), "D", "Europe/Berlin")
    assert days.local(np.arange(3)).tolist() == [datetime(2024, 3, d) for d in (30, 31)] + [datetime(2024, 4, 1)]


@given(st.integers(0, 3 * 8760 * 4), st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]))
def test_wall_time_is_pythons(quarter: int, zone: str) -> None:
    start = datetime(2022, 1, 1)
    utc = start + timedelta(minutes=15 * quarter)
    wall = utc.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone))
    got = local_from_utc(np.array([utc], dtype="datetime64[s]"), zone)
    assert got.tolist() == [wall.replace(tzinfo=None)]
    assert utc_from_local(got, zone, fold=wall.fold).tolist() == [utc]


def test_an_hour_that_comes_twice_asks_which() -> None:
    twice = np.array(["2024-10-27T02:30"], dtype="datetime64[s]")
    with pytest.raises(DataError, match=r"2024-10-27 02:30:00 comes twice in Europe/Berlin.*fold=0.*fold=1"):
        utc_from_local(twice, "Europe/Berlin")
    first, second = (utc_from_local(twice, "Europe/Berlin", fold=f) for f in (0, 1))
    assert (second - first).tolist() == [timedelta(hours=1)]
    with pytest.raises(DataError, match=r"2024-03-31 02:30:00 does not exist in Europe/Berlin"):
        utc_from_local(np.array(["2024-03-31T02:30"], dtype="datetime64[s]"), "Europe/Berlin", fold=0)


WRONG = {
    "unknown step": (lambda: Clock(np.datetime64("2020-01-01"), "fortnight"), 'no step "fortnight".*30min'),
    "no count": (lambda: Clock(np.datetime64("2020-01-01"), "0h"), 'no step "0h"'),
    "zone": (lambda: Clock(np.datetime64("2020-01-01"), "h", "Europe/Berln"), 'no time zone "Europe/Berln": did you mean "Europe/Berlin"'),
    "month start": (lambda: Clock(np.datetime64("2020-01-15"), "MS"), "starts on a month's first.*2020-01-15"),
    "month end": (lambda: Clock(np.datetime64("2020-01-01"), "ME"), "last day; got 2020-01-01"),
    "off the grid": (lambda: clock_of("h").index(np.array(["2020-01-01T00:20"])), "2020-01-01T00:20:00 is not on the clock .every h from 2020-01-01"),
    "off the month": (lambda: clock_of("MS").index(np.array(["2020-03-02"])), "2020-03-02.*is not on the clock"),
    "no time": (lambda: clock_of("h").index(np.array(["NaT"])), "NaT is not on the clock"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_clock_gets_its_sentence(case: str) -> None:
    wrong, words = WRONG[case]
    with pytest.raises(DataError, match=words):
        wrong()
