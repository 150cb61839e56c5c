"""Calendar channels agree with the calendar on the wall."""

from datetime import UTC, date, datetime
from math import cos, pi, sin
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch

from foretell.calendar import columns, cyclic, evaluate
from foretell.clock import Clock
from foretell.errors import TaskError
from foretell.panel import Recipe


def at(kind: str, time: str, step: str = "h", zone: str | None = None, *, argument: str = "", steps: int = 1) -> list[list[float]]:
    clock = Clock(np.datetime64(time), step, zone)
    return evaluate([Recipe(kind, argument)], clock, torch.arange(steps), dtype=torch.float64).tolist()


def turn(position: float, period: float) -> list[float]:
    return [sin(2 * pi * position / period), cos(2 * pi * position / period)]


@pytest.mark.parametrize("name, period", [("hour_encoding", 24), ("weekday_encoding", 7), ("seed_hour", 23), ("seed_weekday", 6)])
def test_cyclic_gives_the_recorded_values(golden: Path, name: str, period: int) -> None:
    with np.load(golden / "cyclic_encoding.npz", allow_pickle=False) as file:
        position = torch.from_numpy(file["hour" if "hour" in name else "weekday"])
        assert torch.equal(cyclic(position, period), torch.from_numpy(file[name]))


def test_evaluate_gives_the_recorded_values(golden: Path) -> None:
    with np.load(golden / "cyclic_encoding.npz", allow_pickle=False) as file:
        clock = Clock(np.datetime64(str(file["ds"][0])), "h")
        found = evaluate([Recipe("hour"), Recipe("weekday")], clock, torch.arange(200), dtype=torch.float64)
        assert np.array_equal(found.numpy(), np.concatenate([file["hour_encoding"], file["weekday_encoding"]], 1))


def test_the_last_hour_stands_beside_the_first() -> None:
    hours = cyclic(torch.arange(24), 24)
    assert torch.allclose((hours - hours.roll(1, 0)).norm(dim=1), torch.tensor(2 * sin(pi / 24), dtype=torch.float64))


@pytest.mark.parametrize(
    "kind, time, position, period",
    [
        ("minute", "2024-02-29T13:45:30", 45.5, 60),
        ("hour", "2024-02-29T13:45:00", 13.75, 24),
        ("weekday", "2024-02-29T13:45:00", 3, 7),
        ("day", "2024-02-29T13:45:00", 28, 29),
        ("day", "2023-12-31T00:00:00", 30, 31),
        ("month", "1969-12-31T23:00:00", 11, 12),
        ("dayofyear", "2024-12-31T23:00:00", 365, 365.25),
        ("halfyear", "2024-07-02T05:00:00", 183, 182.625),
        ("weekday", "1969-12-28T23:00:00", 6, 7),
    ],
)
def test_each_cycle_counts_from_zero(kind: str, time: str, position: float, period: float) -> None:
    assert at(kind, time, "s")[0] == pytest.approx(turn(position, period), abs=1e-12)


def test_weekend_and_holiday_flags() -> None:
    assert at("weekend", "2024-03-01", "D", steps=4) == [[0], [1], [1], [0]]
    assert at("holiday", "2024-05-29T22:00", steps=4, argument="DE-BY") == [[0], [0], [1], [1]]  # Corpus Christi in Bavaria
    assert at("holiday", "2024-05-30", "D", argument="DE") == [[0]]
    assert at("holiday", "2017-12-31", "D", argument="MA", steps=2) == [[0], [1]]


def test_holidays_go_on_past_any_end() -> None:
    days = at("holiday", "2024-01-01", "D", argument="DE", steps=366 + 365 + 365)
    assert [i for i, (flag,) in enumerate(days) if flag][-1] == (date(2026, 12, 26) - date(2024, 1, 1)).days


def test_a_zone_is_read_on_the_wall() -> None:
    clock = Clock(np.datetime64("2024-03-30T20:00"), "h", "Europe/Berlin")
    found = evaluate([Recipe("hour"), Recipe("weekend")], clock, torch.arange(40), dtype=torch.float64)
    for row, step in zip(found.tolist(), range(40), strict=True):
        local = datetime.fromtimestamp(int(clock.times(np.array([step])).astype(int)[0]), UTC).astimezone(ZoneInfo("Europe/Berlin"))
        assert row == pytest.approx([*turn(local.hour, 24), float(local.weekday() >= 5)], abs=1e-12)


def test_columns_names_what_evaluate_gives() -> None:
    recipes = [Recipe("weekend"), Recipe("hour"), Recipe("index", "y"), Recipe("holiday", "MA"), Recipe("month")]
    assert columns(recipes) == ("weekend", "hour_sin", "hour_cos", "holiday_MA", "month_sin", "month_cos")
    found = evaluate(recipes, Clock(np.datetime64("2024-03-02T06:00"), "h"), torch.arange(3))
    assert found.shape == (3, 6)
    assert found[0].tolist() == pytest.approx([1, 1, 0, 0, *turn(2, 12)], abs=1e-6)
    assert evaluate([], Clock(np.datetime64("2024-03-02"), "D"), torch.arange(3)).shape == (3, 0)
    assert evaluate(recipes, Clock(np.datetime64("2024-03-02"), "D"), torch.arange(0)).shape == (0, 6)


def test_steps_before_the_start_and_in_any_order() -> None:
    clock = Clock(np.datetime64("2024-03-02"), "D")
    every = evaluate([Recipe("weekday"), Recipe("holiday", "DE")], clock, torch.arange(-400, 400))
    some = torch.tensor([399, -400, 0, 7, 7])
    assert torch.equal(evaluate([Recipe("weekday"), Recipe("holiday", "DE")], clock, some), every[some + 400])
    assert torch.equal(evaluate([Recipe("weekday"), Recipe("holiday", "DE")], clock, some.numpy()), every[some + 400])


@pytest.mark.parametrize(
    "kind, argument, words",
    [
        ("holiday", "ZZ", 'no holidays of a country "ZZ"'),
        ("holiday", "de", 'did you mean "DE"'),
        ("holiday", "DE-XX", 'no holidays of a region "XX" of DE'),
        ("hours", "", 'no calendar channel "hours": did you mean "hour"'),
    ],
)
def test_what_does_not_exist_gets_its_sentence(kind: str, argument: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        at(kind, "2024-01-01", argument=argument)
