"""Panel: slices, shared channels, other clocks, later rows, frames in and out; every bad value gets its sentence."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import naive
from foretell import Clock, DataError, Panel, TaskError, calendar_of, from_array
from foretell.panel import Recipe, as_times, grown, text_of
from laws import rich


def small() -> Panel:
    """Two series, the second starts two hours later; `w` is shared."""
    values = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [torch.nan], [6.0]]], dtype=torch.float64)
    shared = torch.tensor([[10.0], [11.0], [12.0], [13.0], [14.0]], dtype=torch.float64)
    return Panel(values, shared, torch.tensor([0, 2]), Clock(np.datetime64("2024-01-01"), "h"), ("a", "b"), ("y", "w"))


def test_the_parts_have_names() -> None:
    panel = small().with_calendar("hour", "weekend", holidays=("DE-BY", "KR")).with_seasonal_index("y")
    assert (panel.own, panel.common, len(panel)) == (("y",), ("w",), 2)
    assert calendar_of(panel) == ("hour_sin", "hour_cos", "weekend", "holiday_DE-BY", "holiday_KR", "index_y")
    assert panel.every_channel == ("y", "w", *calendar_of(panel))
    assert panel.with_calendar("hour").calendar == panel.calendar
    assert panel.with_seasonal_index("y") is panel
    assert repr(from_array([1.0, 2.0])) == "Panel(1 series × 2 steps of D, 2000-01-01T00:00:00 … 2000-01-02T00:00:00, channels: y)"


def test_a_shared_channel_is_read_where_each_series_stands() -> None:
    assert small().channel("w").tolist() == [[10.0, 11.0, 12.0], [12.0, 13.0, 14.0]]
    short = replace(small(), shared=small().shared[:4])
    assert short.channel("w")[1, :2].tolist() == [12.0, 13.0] and bool(short.channel("w")[1, 2].isnan())


@pytest.mark.parametrize("cut", [-1, 0, 1, 2, 3, 4, 99])
def test_until_keeps_all_up_to_a_step_and_nothing_after(cut: int) -> None:
    panel = small()
    held = panel.until(cut)
    for s in range(2):
        for row in range(3):
            for channel in ("y", "w"):
                expected = naive.value_at(panel, s, row, channel) if int(panel.start[s]) + row <= cut else np.nan
                np.testing.assert_equal(naive.value_at(held, s, row, channel), expected)
    assert held.values.shape[1] <= max(0, cut + 1)


def test_until_takes_a_step_for_each_series() -> None:
    held = small().until(torch.tensor([0, 4]))
    assert held.values[0, 1:].isnan().all() and held.values[1, 2] == 6.0


@pytest.mark.parametrize(("first", "last"), [(0, 4), (1, 3), (2, 2), (-5, 99), (4, 4)])
def test_between_keeps_every_cell_in_between(first: int, last: int) -> None:
    panel = small()
    part = panel.between(first, last)
    for s in range(2):
        for step in range(max(0, first), min(4, last) + 1):
            one, two = (naive.value_at(p, s, step - int(p.start[s]), "y") for p in (panel, part))
            np.testing.assert_equal(one, two)
    assert part.values.untyped_storage().data_ptr() == panel.values.untyped_storage().data_ptr()


def test_last_is_where_every_channel_is_still_observed() -> None:
    panel = small()
    assert panel.last("y").tolist() == [2, 4]
    assert panel.until(3).last("y").tolist() == [2, 2]
    assert panel.until(3).last("y", "w").tolist() == [2, 2]
    empty = replace(panel, values=panel.values * torch.nan)
    assert empty.last("y").tolist() == [-1, 1]
    assert replace(panel, values=panel.values[:, :0]).last("y").tolist() == [-1, 1]


def test_pick_keeps_what_belongs_to_a_series() -> None:
    panel = replace(small(), labels={"town": ("Seoul", "Berlin"), "size": (1.0, 2.0)})
    one = panel.pick("b")
    assert (one.series, one.start.tolist(), one.labels) == (("b",), [2], {"town": ("Berlin",), "size": (2.0,)})
    assert panel.pick("b", "a").channel("w").tolist() == [[12.0, 13.0, 14.0], [10.0, 11.0, 12.0]]
    with pytest.raises(TaskError, match='no series "B": did you mean "b"'):
        panel.pick("B")


def test_channels_can_move_between_own_and_shared() -> None:
    panel = small()
    flat = panel.arranged(("w", "y"), ())
    assert flat.channels == ("w", "y") and flat.values[1, :, 0].tolist() == [12.0, 13.0, 14.0]
    back = flat.arranged(("y",), ("w",))
    assert back.shared[:, 0].tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert torch.equal(back.values.nan_to_num(0), panel.values.nan_to_num(0))
    with pytest.raises(TaskError, match=r'no .*channel "v"'):
        panel.arranged(("v",), ())


@pytest.mark.parametrize("hours", [-3, 0, 2, 5])
def test_on_another_clock_every_value_keeps_its_time(hours: int) -> None:
    panel = small()
    moved = panel.on(Clock(panel.clock.start + np.timedelta64(hours, "h"), "h"))
    times = [moved.clock.local((moved.start[s] + torch.arange(3)).numpy()).tolist() for s in range(2)]
    assert times == [panel.clock.local((panel.start[s] + torch.arange(3)).numpy()).tolist() for s in range(2)]
    assert torch.equal(moved.values.nan_to_num(0), panel.values.nan_to_num(0))
    assert torch.equal(moved.channel("w").nan_to_num(-1.0), panel.channel("w"))


def test_on_a_clock_between_the_steps_is_refused() -> None:
    with pytest.raises(DataError, match="is not on the clock"):
        small().on(Clock(np.datetime64("2024-01-01T00:30"), "h"))


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame])
def test_extend_adds_rows_and_keeps_what_is_there(kind: type) -> None:
    panel = small()
    times = [datetime(2024, 1, 1, h) for h in (3, 4, 5)]
    more = panel.extend(kind({"unique_id": ["a", "a", "b"], "ds": times, "y": [7.0, 8.0, None], "w": [None, 40.0, 50.0]}))
    assert more.channel("y")[0, :5].tolist() == [1.0, 2.0, 3.0, 7.0, 8.0]
    assert more.shared[:, 0].tolist() == [10.0, 11.0, 12.0, 13.0, 40.0, 50.0]
    assert more.channel("y")[1, :3].nan_to_num(-1).tolist() == [4.0, -1.0, 6.0]
    assert panel.values.shape[1] == 3 and panel.shared.shape[0] == 5


def test_extend_reads_times_as_the_frame_writes_them() -> None:
    panel = from_array(np.arange(60.0), step="h", zone="Europe/Berlin", start="2024-03-30")
    again = panel.extend(panel.frame())
    assert torch.equal(again.values, panel.values)
    aware = panel.frame().with_columns(pl.Series("ds", panel.clock.times(np.arange(60)).astype("datetime64[us]")).dt.replace_time_zone("UTC"))
    assert torch.equal(panel.extend(aware).values, panel.values)


def test_extend_without_names_needs_one_series() -> None:
    frame = pl.DataFrame({"ds": ["2024-01-01T03:00"], "y": [9.0]})
    assert small().pick("a").extend(frame).values[0, 3, 0] == 9.0
    with pytest.raises(DataError, match=r'no column "unique_id".*2 series'):
        small().extend(frame)


def test_extend_by_nothing_is_nothing() -> None:
    frame = pl.DataFrame({"unique_id": [], "ds": [], "y": []}, schema={"unique_id": pl.String, "ds": pl.Datetime, "y": pl.Float64})
    assert torch.equal(small().extend(frame).values.nan_to_num(0), small().values.nan_to_num(0))


ROW = {"unique_id": ["a"], "ds": ["2024-01-01T03:00"], "y": [1.0]}
WRONG = {
    "no time": ({"unique_id": ["a"], "date": ["2024-01-01"], "y": [1.0]}, 'no column "ds"'),
    "no channel": ({"unique_id": ["a"], "ds": ["2024-01-01"], "Y": [1.0]}, "none of the panel's channels y, w; it has unique_id, ds, Y"),
    "series": ({**ROW, "unique_id": ["A"]}, 'no series "A": did you mean "a"'),
    "before": ({**ROW, "ds": ["2023-12-31T23:00"]}, "2023-12-31T23:00:00 lies before the start of its series"),
    "off": ({**ROW, "ds": ["2024-01-01T03:20"]}, "2024-01-01T03:20:00 is not on the clock"),
    "time": ({**ROW, "ds": ["soon"]}, '"soon" is not a time like 2024-01-31'),
    "text": ({**ROW, "y": ["abc"]}, '"y".*"abc"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_frame_to_extend_with_gets_its_sentence(case: str) -> None:
    columns, words = WRONG[case]
    with pytest.raises((DataError, TaskError), match=words):
        small().extend(pl.DataFrame(columns))


def test_what_is_no_frame_says_so() -> None:
    with pytest.raises(DataError, match="expected a pandas, polars or arrow frame, got str"):
        small().extend("more.csv")


def test_the_frame_has_a_row_for_every_step_with_something_in_it() -> None:
    frame = small().frame()
    assert frame.columns == ["unique_id", "ds", "y", "w"] and len(frame) == 6
    only = from_array([[1.0, np.nan, 3.0]], ("units",), ("7",), step="MS").frame()
    assert only.rows() == [("7", datetime(2000, 1, 1), 1.0), ("7", datetime(2000, 3, 1), 3.0)]
    named = replace(small(), names=small().names._replace(id="shop", time="when", native="pandas")).frame()
    assert isinstance(named, pd.DataFrame) and list(named)[:2] == ["shop", "when"]


@pytest.mark.parametrize(("shape", "panel"), [((5,), (1, 5, 1)), ((2, 5), (2, 5, 1)), ((2, 5, 1), (2, 5, 1))])
def test_arrays_of_any_rank_make_a_panel(shape: tuple[int, ...], panel: tuple[int, ...]) -> None:
    assert from_array(np.zeros(shape)).values.shape == panel
    assert from_array(np.zeros(shape, dtype=int)).values.dtype == torch.float32
    assert from_array(np.zeros(shape)).values.dtype == torch.float64


BAD = {
    "channels": (lambda: from_array(np.zeros((1, 5, 2))), "2 channels of data but 1 names: y"),
    "series": (lambda: from_array(np.zeros((2, 5)), series=("a",)), "2 rows of data, 2 starts, 1 series names"),
    "twice": (lambda: from_array(np.zeros((2, 5)), series=("a", "a")), 'two series are called "a"'),
    "channel twice": (lambda: from_array(np.zeros((1, 5, 2)), ("y", "y")), 'two channels are called "y"'),
    "calendar twice": (lambda: replace(from_array([1.0], ("weekend",)), calendar=(Recipe("weekend"),)), 'two channels are called "weekend"'),
    "labels": (lambda: replace(small(), labels={"town": ("Seoul",)}), 'label "town" has 1 values for 2 series'),
    "step": (lambda: from_array([1.0], step="fortnight"), 'no step "fortnight"'),
    "zone": (lambda: from_array([1.0], step="h", zone="Berlin"), 'no time zone "Berlin"'),
    "kind": (lambda: small().with_calendar("hours"), 'no calendar channel "hours": did you mean "hour".*holidays='),
    "index": (lambda: small().with_seasonal_index("Y"), 'no .*channel "Y": did you mean "y"'),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_panel_gets_its_sentence(case: str) -> None:
    wrong, words = BAD[case]
    with pytest.raises((DataError, TaskError), match=words):
        wrong()


def test_helpers() -> None:
    assert [text_of(v) for v in (7.0, 7.5, "x", 3)] == ["7", "7.5", "x", "3"]
    assert as_times(np.array(["2024-01-01", "2024-01-01 05:00"], dtype=object)).tolist() == [datetime(2024, 1, 1), datetime(2024, 1, 1, 5)]
    assert grown(torch.ones(1, 2, 1), 4, 1).isnan().sum() == 2 and torch.equal(grown(torch.ones(1, 2, 1), 1, 1), torch.ones(1, 2, 1))
    assert rich().every_channel[:5] == ("y", "price", "x", "sun", "wind")


def test_the_first_and_last_observed_rows() -> None:
    values = np.full((3, 6, 2), np.nan)
    values[0, 1:5, 0], values[0, 2:6, 1], values[1, :, :] = 1, 1, 1
    panel = from_array(values, channels=("y", "x"), step="D")
    assert (panel.first("y") - panel.start).tolist() == [1, 0, 0] and (panel.first("y", "x") - panel.start).tolist() == [2, 0, 0]
    assert (panel.last("y") - panel.start).tolist() == [4, 5, -1] and (panel.last("y", "x") - panel.start).tolist() == [4, 5, -1]
