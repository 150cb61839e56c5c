"""Metrics: masked, by any axes, equal to utilsforecast where it has the same."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell import metrics as m
from naive import mean_by_series

PLAIN: dict[str, Callable[..., Tensor]] = {"mae": m.mae, "mse": m.mse, "rmse": m.rmse, "mape": m.mape, "smape": m.smape, "wape": m.wape, "bias": m.bias}


def cuts() -> tuple[Tensor, Tensor]:
    """[cut, series, horizon, target] with gaps and zeros."""
    make = torch.Generator().manual_seed(5)
    truth = torch.rand(4, 3, 12, 2, generator=make, dtype=torch.float64) * 10 - 2
    guess = truth + torch.randn(truth.shape, generator=make, dtype=torch.float64)
    truth[0, 1, 3:6], truth[2, 2, :, 1], truth[1, 0, 4] = torch.nan, torch.nan, 0.0
    return truth, guess


@pytest.mark.parametrize("name", PLAIN)
def test_unobserved_points_count_nowhere(name: str) -> None:
    truth, guess = cuts()
    seen = truth.isfinite()
    assert float(PLAIN[name](truth, guess)) == pytest.approx(float(PLAIN[name](truth[seen], guess[seen])))
    other = torch.where(seen, guess, 1e9)
    assert torch.equal(PLAIN[name](truth, other, over=(0, 2)), PLAIN[name](truth, guess, over=(0, 2)))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("over", [(0,), (1, 3), (0, 2, 3), (-1,), ()], ids=str)
def test_over_is_the_same_as_one_cell_at_a_time(name: str, over: tuple[int, ...]) -> None:
    truth, guess = cuts()
    found = PLAIN[name](truth, guess, over=over)
    kept = [a for a in range(4) if a not in {range(4)[o] for o in over}]
    assert found.shape == tuple(truth.shape[a] for a in kept)
    for cell in np.ndindex(*found.shape):
        index = [slice(None)] * 4
        for axis, at in zip(kept, cell, strict=True):
            index[axis] = slice(at, at + 1)
        assert float(found[cell]) == pytest.approx(float(PLAIN[name](truth[tuple(index)], guess[tuple(index)])), nan_ok=True)


def test_by_hand() -> None:
    truth, guess = torch.tensor([0.0, 2.0, 4.0, torch.nan]), torch.tensor([0.0, 3.0, 2.0, 5.0])
    assert float(m.mae(truth, guess)) == 1
    assert float(m.mse(truth, guess)) == pytest.approx(5 / 3)
    assert float(m.bias(truth, guess)) == pytest.approx(-1 / 3)
    assert float(m.mape(truth, guess)) == 50
    assert float(m.smape(truth, guess)) == pytest.approx(200 * (1 / 5 + 2 / 6) / 3)
    assert float(m.wape(truth, guess)) == 0.5
    assert float(m.pinball(truth, guess, 0.9)) == pytest.approx((0.1 * 1 + 0.9 * 2) / 3)
    assert float(m.coverage(truth, guess - 1, guess + 1)) == pytest.approx(2 / 3)


def test_nothing_observed_is_nan_and_a_missing_guess_is_not_passed_over() -> None:
    blank = torch.full((2, 3, 1), torch.nan)
    scale = torch.ones(2, 1, 1)
    assert all(f(blank, torch.zeros(2, 3, 1)).isnan() for f in PLAIN.values())
    assert m.mase(blank, torch.zeros(2, 3, 1), scale).isnan()
    truth, guess = torch.ones(2, 3, 1), torch.zeros(2, 3, 1)
    guess[1, 1] = torch.nan
    assert all(f(truth, guess).isnan() for f in PLAIN.values())
    assert m.mase(truth, guess, scale).isnan() and m.rmsse(truth, guess, scale).isnan()
    assert m.pinball(truth, guess, 0.5).isnan() and m.coverage(truth, guess, guess + 2).isnan()


@pytest.mark.parametrize("square", [False, True], ids=["mase", "rmsse"])
def test_scaled_errors_are_meant_by_series(square: bool) -> None:
    truth, guess = cuts()
    scale = torch.tensor([[1.0, 2.0], [0.5, 0.0], [3.0, torch.nan]], dtype=torch.float64)
    score = m.rmsse if square else m.mase
    found = score(truth, guess, scale[:, None], over=None)
    assert float(found) == pytest.approx(mean_by_series(truth, guess, scale, square=square))
    by_cut = score(truth, guess, scale[:, None], over=(1, 2, 3))
    assert [float(v) for v in by_cut] == pytest.approx([mean_by_series(truth[c : c + 1], guess[c : c + 1], scale, square=square) for c in range(4)])
    by_series = score(truth, guess, scale[:, None], over=(0, 2, 3))
    assert by_series.shape == (3,) and float(by_series[1]) == pytest.approx(mean_by_series(truth[:, 1:2], guess[:, 1:2], scale[1:2], square=square))


def test_peaks_are_the_top_tenth_of_each_series() -> None:
    truth = torch.arange(1.0, 21.0).repeat(2, 1)[..., None]  # two of twenty points
    truth[1] *= 1000
    guess = truth - torch.tensor([[[1.0]], [[500.0]]])
    assert m.top(truth).sum((1, 2)).tolist() == [2, 2]
    found = m.peak(truth, guess, over=(1, 2))
    assert found.wape.tolist() == pytest.approx([2 / 39, 1000 / 39000])
    assert found.bias.tolist() == [-1, -500]
    by_step = m.peak(truth, guess, over=(0, 2)).wape
    assert by_step[:18].isnan().all() and by_step[18:].isfinite().all()
    truth[0, 19] = torch.nan
    assert m.top(truth)[0].flatten().nonzero().flatten().tolist() == [17, 18]


def test_a_gap_gives_no_gradient_and_no_nan() -> None:
    truth, guess = cuts()
    guess = guess.clone().requires_grad_()
    scale = torch.ones(1, dtype=torch.float64)
    for score in (*PLAIN.values(), lambda y, g: m.pinball(y, g, 0.3), lambda y, g: m.mase(y, g, scale), lambda y, g: m.rmsse(y, g, scale)):
        (slope,) = torch.autograd.grad(score(truth, guess), guess)
        assert slope.isfinite().all() and (slope[truth.isnan()] == 0).all()


@pytest.mark.filterwarnings("default")  # other people's library, other people's warnings
def test_equal_to_utilsforecast() -> None:
    import pandas as pd
    from utilsforecast import losses

    make = np.random.default_rng(4)
    past, truth = make.gamma(2, 10, (3, 40)), make.gamma(2, 10, (3, 8))
    truth[0, 2] = 0.0
    guess, low, high = truth + make.normal(0, 4, truth.shape), truth - 3 * make.random(truth.shape), truth + make.normal(1, 2, truth.shape)
    ids = np.repeat(["a", "b", "c"], 8)
    frame = pd.DataFrame({"unique_id": ids, "ds": np.tile(np.arange(40, 48), 3), "y": truth.ravel(), "x": guess.ravel()})
    frame["x-lo-80"], frame["x-hi-80"] = low.ravel(), high.ravel()
    train = pd.DataFrame({"unique_id": np.repeat(["a", "b", "c"], 40), "ds": np.tile(np.arange(40), 3), "y": past.ravel()})
    y, g, a, b = (torch.from_numpy(v)[..., None] for v in (truth, guess, low, high))
    scale = torch.from_numpy(np.abs(past[:, 7:] - past[:, :-7]).mean(1))[:, None, None]
    square = torch.from_numpy(np.square(past[:, 7:] - past[:, :-7]).mean(1))[:, None, None]
    pairs = {
        "mae": (losses.mae(frame, ["x"]), m.mae(y, g, over=(1, 2))),
        "rmse": (losses.rmse(frame, ["x"]), m.rmse(y, g, over=(1, 2))),
        "bias": (losses.bias(frame, ["x"]), m.bias(y, g, over=(1, 2))),
        "mape": (losses.mape(frame, ["x"]), m.mape(y, g, over=(1, 2)) / 100),
        "smape": (losses.smape(frame, ["x"]), m.smape(y, g, over=(1, 2)) / 200),
        "mase": (losses.mase(frame, ["x"], 7, train), m.mase(y, g, scale, over=(1, 2))),
        "rmsse": (losses.rmsse(frame, ["x"], 7, train), m.rmsse(y, g, square, over=(1, 2))),
        "pinball": (losses.quantile_loss(frame, {"x": "x"}, 0.9), m.pinball(y, g, 0.9, over=(1, 2))),
        "coverage": (losses.coverage(frame, ["x"], 80), m.coverage(y, a, b, over=(1, 2))),
    }
    for name, (theirs, ours) in pairs.items():
        assert ours.tolist() == pytest.approx(theirs["x"].tolist()), name
