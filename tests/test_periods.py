"""Dominant periods and their strength, found again where they were put."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell.periods import correlation, detrended, dominant, spectrum, strength
from naive import echo_at, hann_power, seasonal_strength, strongest_period

TIME = torch.arange(400.0, dtype=torch.float64)


def wave(period: float, size: float = 1.0) -> Tensor:
    return size * torch.sin(2 * math.pi * TIME / period)


def noise(seed: int, size: float = 0.3) -> Tensor:
    return size * torch.randn(400, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MADE = {
    "a wave": (wave(12), 12),
    "a strong half": (wave(12) + wave(24, 0.5), 24),
    "a third only by its sum": (wave(4) + wave(6), 12),
    "a pulse a week": ((TIME % 7 == 0).double(), 7),
    "a saw": ((TIME % 30) / 30 * 4, 30),
    "a wave on a trend": (wave(10) + 0.2 * TIME, 10),
    "a ninth of it stronger than itself": (wave(24 / 9) + wave(24, 0.5), 24),
    "a seventh of it stronger than itself": (wave(24 / 7) + wave(24, 0.94) + wave(12, 0.94) + wave(8, 0.94), 24),
    "a pulse a day": ((TIME % 24 == 5) * 3.0, 24),
    "every second step": ((TIME % 2) * 2, 2),
    "a day stays a day in a week": ((TIME % 24 < 8) * 3.0 - (TIME % 168 >= 120) * 1.0, 24),
}


@pytest.mark.parametrize("name", MADE)
def test_the_period_put_in_is_found(name: str) -> None:
    series, period = MADE[name]
    assert dominant((series + noise(1, 0.1))[None], 1).length.tolist() == [[period]]


@pytest.mark.parametrize("name", MADE)
def test_the_first_period_is_its_twin(name: str) -> None:
    x = detrended((MADE[name][0] + noise(2, 0.1))[None])
    assert int(dominant(x).length[0, 0]) == strongest_period(x[0].tolist(), 133)


def test_every_wave_is_placed_between_the_frequencies() -> None:
    periods = torch.arange(2, 125)
    clean = torch.stack([torch.sin(2 * math.pi * TIME / p + 1) for p in periods.tolist()])
    found = dominant(clean).length
    assert ((found[:, 0] - periods).abs() <= 0.01 * periods).all()
    assert (found[:80, 1:] == 1).all()


def test_a_day_and_a_week() -> None:
    hours = torch.arange(1344.0)
    found = dominant(((hours % 24 < 8) * 3.0 - (hours % 168 >= 120) * 2.0 + noise(3).repeat(4)[:1344])[None])
    assert found.length[0].tolist() == [24, 168, 1]
    assert found.strength[0, 2] == 0


def test_a_multiple_that_explains_no_more_is_none() -> None:
    pulses = torch.stack([(TIME % 7 == 0).double() + noise(seed, 0.1) for seed in range(40)])
    found = dominant(pulses)
    assert (found.length == torch.tensor([7, 1, 1])).all()


def test_a_pulse_is_found_whichever_of_its_lines_is_the_highest() -> None:
    pulses = torch.stack([(TIME % 24 == 5) * 3.0 + noise(seed, 0.1) for seed in range(40)])
    assert (dominant(pulses).length[:, 0] == 24).all()


def test_a_slow_cycle_leaves_the_week_to_be_found() -> None:
    found = dominant((wave(130, 2.0) + wave(7) + noise(12, 0.1))[None]).length[0].tolist()
    assert abs(found[0] - 130) <= 5 and found[1:] == [7, 1]


def test_series_do_not_know_of_each_other() -> None:
    every = torch.stack([series + noise(4, 0.1) for series, _ in MADE.values()] + [torch.full_like(TIME, torch.nan)])
    together = dominant(every)
    for s, one in enumerate(every):
        alone = dominant(one[None])
        assert torch.equal(alone.length[0], together.length[s]) and torch.allclose(alone.strength[0], together.strength[s])


def test_nothing_where_nothing_repeats() -> None:
    blank = torch.stack([torch.full_like(TIME, 3.3), 0.1 * TIME + 7, torch.full_like(TIME, torch.nan), noise(5).cumsum(0)])
    found = dominant(blank)
    assert (found.length == 1).all() and (found.strength == 0).all()
    assert dominant(torch.ones(2, 3)).length.tolist() == [[1, 1, 1]] * 2
    many = torch.randn(300, 200, generator=torch.Generator().manual_seed(6))
    assert (dominant(many).length[:, 0] > 1).double().mean() < 0.1


def test_gaps_and_short_series_in_a_wide_panel() -> None:
    full = wave(12) + noise(7)
    gappy, short = full.clone(), full.clone()
    gappy[torch.rand(400, generator=torch.Generator().manual_seed(8)) < 0.3] = torch.nan
    short[130:] = torch.nan
    found = dominant(torch.stack([full, gappy, short]))
    assert found.length[:, 0].tolist() == [12, 12, 12]
    assert found.strength[:, 0].tolist() == pytest.approx([float(found.strength[0, 0])] * 3, abs=0.1)


def test_longest_is_a_limit_and_a_third_the_usual_one() -> None:
    slow = (wave(100) + wave(10, 0.5) + noise(9, 0.1))[None]
    assert dominant(slow).length[0, 0] == 100
    assert dominant(slow, longest=40).length[0, 0] == 10
    assert dominant(slow[:, :200]).length[0, 0] == 10


def test_other_units_change_nothing() -> None:
    series = (wave(24) + noise(10))[None]
    here, there = dominant(series), dominant(5 * series + 1000)
    assert torch.equal(here.length, there.length) and torch.allclose(here.strength, there.strength)


def test_strength_spectrum_and_correlation_are_their_twins() -> None:
    x = detrended((wave(12) + noise(11))[None, :90])
    x[0, 40:47] = torch.nan
    seen = x.isfinite()
    filled = x.nan_to_num()
    for period in (5, 12, 31):
        assert float(strength(filled, seen, torch.tensor([period]))) == pytest.approx(seasonal_strength(x[0].tolist(), period))
    found = spectrum(filled, torch.tensor([90]))[0]
    assert found[:12].tolist() == pytest.approx([hann_power(filled[0].tolist(), f) for f in range(12)])
    assert correlation(filled, seen)[0, :30].tolist() == pytest.approx([echo_at(x[0].tolist(), lag) for lag in range(30)])


def test_hourly_power_has_a_day_and_a_week(data: Path) -> None:
    with gzip.open(data / "power" / "tetuan_power" / "tetuan_hourly.csv.gz", "rt") as file:
        usage = np.genfromtxt(file, delimiter=",", names=True, usecols=("Usage",))["Usage"]
    found = dominant(torch.from_numpy(usage)[None])
    assert found.length[0, 0] == 24 and 168 in found.length[0].tolist()
    assert 0.6 < found.strength[0, 0] < 0.75
