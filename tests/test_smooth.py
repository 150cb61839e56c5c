"""LOESS equal to statsmodels', plain and robust; its causal end sees nothing after the origin and is continued, damped."""

import numpy as np
import pytest
import torch
from statsmodels.nonparametric.smoothers_lowess import lowess
from torch import Tensor

import naive_smooth as naive
from foretell.smooth import continued, end_line, loess


def wandering(count: int, length: int, seed: int = 0) -> Tensor:
    draw = np.random.default_rng(seed)
    walk = draw.normal(size=(count, length)).cumsum(1) + 3 * draw.normal(size=(count, length))
    walk[:, ::29] += 40  # outliers, for the robust rounds
    walk[-1] = draw.poisson(0.3, length)  # many equal values
    return torch.from_numpy(walk)


@pytest.mark.parametrize("rounds", [0, 3])
@pytest.mark.parametrize(("length", "share"), [(300, 0.1), (301, 0.13), (40, 0.9), (7, 1.0), (12, 0.1), (257, 0.5)])
def test_it_is_statsmodels(length: int, share: float, rounds: int) -> None:
    values = wandering(4, length)
    found = loess(values, share, rounds=rounds)
    for one, line in zip(values.numpy(), found.numpy(), strict=True):
        expected = lowess(one, np.arange(length), frac=share, it=rounds, delta=0, return_sorted=False)
        assert np.abs(line - expected).max() < 1e-7
    single = loess(values.float(), share, rounds=rounds)
    assert (single - found).abs().max() < 1e-3 * values.abs().max()


def test_series_of_other_lengths_stand_side_by_side() -> None:
    values = wandering(3, 200)
    values[0, :60], values[1, 150:] = torch.nan, torch.nan
    found = loess(values, 0.2, rounds=1)
    for row, part in ((0, slice(60, 200)), (1, slice(0, 150)), (2, slice(0, 200))):
        expected = lowess(values[row, part].numpy(), np.arange(200)[part], frac=0.2, it=1, delta=0, return_sorted=False)
        assert np.abs(found[row, part].numpy() - expected).max() < 1e-7
    assert found[0, :60].isnan().all() and found[1, 150:].isnan().all()


def test_a_gap_takes_the_line_of_its_neighbours() -> None:
    time = torch.arange(100.0, dtype=torch.float64)
    values = (3 + 0.5 * time)[None].repeat(2, 1)
    values[0, 40:45], values[1, ::2] = torch.nan, torch.nan
    whole = (3 + 0.5 * time)[None]
    assert torch.allclose(loess(values, 0.3)[0], whole[0]) and torch.allclose(loess(values, 0.3, rounds=2)[1, 1:], whole[0, 1:])
    blank = loess(torch.full((2, 5), torch.nan))
    assert blank.isnan().all() and loess(torch.zeros(2, 0)).shape == (2, 0)


@pytest.mark.parametrize("rounds", [0, 1])
def test_one_panel_of_many_lengths_is_the_loop_series_by_series(rounds: int) -> None:
    values = wandering(16, 170)
    draw = np.random.default_rng(1)
    for one, (late, early) in enumerate(zip(draw.integers(0, 100, 16), draw.integers(0, 40, 16), strict=True)):
        values[one, : late * (one % 3 > 0)], values[one, 170 - early * (one % 4 > 0) :] = torch.nan, torch.nan
    values[::2][torch.from_numpy(draw.random((8, 170)) < 0.3)] = torch.nan
    values[4, 60:120], values[5, 40:] = torch.nan, torch.nan  # a gap wider than any window, and a short one
    values[6], values[7, 1:], values[8, 2:], values[9, 90] = torch.nan, torch.nan, torch.nan, torch.inf
    assert len({int(n) for n in values.isfinite().sum(1)}) >= 12
    found = loess(values, 0.2, rounds=rounds)
    assert np.allclose(found, naive.loess(values.numpy(), 0.2, rounds), atol=1e-9, equal_nan=True)


def test_sales_that_are_mostly_none_are_statsmodels_too() -> None:
    """The median residual becomes 0, and the least rounding of the others would then decide what counts."""
    values = torch.from_numpy(np.random.default_rng(3).poisson(0.13, (6, 600)).astype(np.float64))
    found = loess(values, rounds=3)
    for one, line in zip(values.numpy(), found.numpy(), strict=True):
        expected = lowess(one, np.arange(600), frac=0.1, it=3, delta=0, return_sorted=False)
        assert np.abs(line - expected).max() < 1e-9


def test_the_causal_end_is_loess_of_what_lies_before() -> None:
    values = wandering(3, 120)
    for origin in (50, 80, 119):
        line = end_line(values[:, origin - 29 : origin + 1], torch.ones(3, 30, dtype=torch.bool))
        for s in range(3):
            past = values[s, : origin + 1].numpy()
            whole = lowess(past, np.arange(origin + 1.0), frac=30 / (origin + 1), it=0, delta=0, return_sorted=False)
            assert float(line.level[s]) == pytest.approx(whole[-1], abs=1e-7)


def test_the_line_goes_on_damped() -> None:
    past = (2 + 3 * torch.arange(20.0, dtype=torch.float64))[None]
    seen = torch.ones_like(past, dtype=torch.bool)
    line = end_line(past, seen)
    assert float(line.level) == pytest.approx(59) and float(line.slope) == pytest.approx(3)
    ahead = continued(line, 3, 0.5)[0].tolist()
    assert ahead == pytest.approx([59 + 1.5, 59 + 2.25, 59 + 2.625])
    assert continued(line, 400, 0.9)[0, -1] == pytest.approx(59 + 3 * 9, rel=1e-6)
    none = end_line(past, torch.zeros_like(seen))
    assert float(none.level) == 0 and float(none.slope) == 0
    alone = end_line(past, seen & (torch.arange(20) == 7))
    assert float(alone.level) == pytest.approx(23) and float(alone.slope) == 0
