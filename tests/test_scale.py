"""Scales: fitted, exactly invertible, differentiable; and the seasonal index."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foretell.clock import Clock
from foretell.errors import TaskError
from foretell.panel import from_array as panel
from foretell.transform.saturating import fit_saturating
from foretell.transform.scale import CHUNK, KINDS, Scale, fit_scale
from foretell.transform.season import cycle_of, fit_index, places
from naive import quantile_map, seasonal_ratio

EXACT = {torch.float32: 1e-6, torch.float64: 1e-10}


def spiky(dtype: torch.dtype = torch.float64) -> Tensor:
    """Heavy tails; a constant channel, many zeros, a gap, a series with one value, one with none."""
    x = torch.randn(6, 300, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64) ** 3 * 10 + 100
    x[0, :, 0], x[1, :200, 0], x[2, ::7] = 0.1, 0.0, torch.nan
    x[3, :, 1] = torch.nan
    x[3, 5, 1], x[4, :, 1] = 3.0, torch.nan
    return x.to(dtype)


def back_and_forth(scale: Scale, x: Tensor, series: Tensor) -> Tensor:
    return scale.invert(scale.apply(x, series), series)


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_is_exact_inside_and_far_outside(kind: str, pooled: bool, dtype: torch.dtype) -> None:
    x, series = spiky(dtype), torch.arange(6)
    scale = fit_scale(kind, x, pooled=pooled)
    span = x[x.isfinite()].max() - x[x.isfinite()].min()
    for values in (x, x * 3 - 500):
        again = back_and_forth(scale, values, series)
        assert torch.equal(again.isnan(), values.isnan())
        assert ((again - values).abs().nan_to_num() <= EXACT[dtype] * torch.maximum(span, values.abs().nan_to_num()) * 2).all()


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_constant_and_unobserved_series(kind: str, dtype: torch.dtype) -> None:
    x, series = spiky(dtype), torch.arange(6)
    scale = fit_scale(kind, x)
    assert torch.equal(back_and_forth(scale, x, series)[0, :, 0], x[0, :, 0])
    if kind not in ("identity", "mean"):
        assert (scale.apply(x, series)[0, :, 0] == 0).all()
    probe = torch.tensor([-3.0, 0.0, 8.0], dtype=dtype)
    if kind == "asinh":
        probe = probe.sinh()
    assert scale.apply(probe[None, :, None].expand(1, 3, 2), torch.tensor([4]))[0, :, 1].tolist() == pytest.approx([-3, 0, 8], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_strictly_rising_and_differentiable(kind: str) -> None:
    scale = fit_scale(kind, spiky())
    x = torch.linspace(-900, 1200, 4001, dtype=torch.float64)[None, :, None].expand(6, -1, 2).clone().requires_grad_()
    z = scale.apply(x, torch.arange(6))
    assert (z.diff(dim=1) > 0).all()
    (slope,) = torch.autograd.grad(z.sum(), x)
    step = (scale.apply(x + 1e-5, torch.arange(6)) - scale.apply(x - 1e-5, torch.arange(6))) / 2e-5
    usual = ((slope - step).abs() <= 1e-3 * step).double().mean()  # a knot may lie between
    assert (slope > 0).all() and usual > 0.99
    z = z.detach().requires_grad_()
    (back,) = torch.autograd.grad(scale.invert(z, torch.arange(6)).sum(), z)
    assert ((back * slope - 1).abs() < 1e-6).double().mean() > 0.99


def test_the_statistics_are_those_of_the_names() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 110.0, torch.nan])[None, :, None]
    one = torch.tensor([0])
    seen = x[0, :5, 0].double()

    def scaled(kind: str) -> Tensor:
        return fit_scale(kind, x).apply(x, one)[0, :5, 0].double()

    assert torch.allclose(scaled("minmax"), (seen - 1) / 109)
    assert torch.allclose(scaled("standard"), (seen - 24) / seen.std(correction=0))
    assert torch.allclose(scaled("robust"), (seen - 3) / (2 / 1.349))
    assert torch.allclose(scaled("asinh"), torch.asinh((seen - 3) / 1.4826))


@pytest.mark.parametrize("kind", ["robust", "asinh"])
def test_half_of_the_values_equal_leaves_a_width(kind: str) -> None:
    x = torch.tensor([0.0] * 8 + [4.0, 8.0])[None, :, None]
    scale = fit_scale(kind, x)
    assert float(vars(scale)["width"]) == pytest.approx(1.2 * np.sqrt(np.pi / 2))


@pytest.mark.parametrize("kind", KINDS)
def test_pooled_is_all_series_as_one(kind: str) -> None:
    x = spiky()
    pooled, one = fit_scale(kind, x, pooled=True), fit_scale(kind, x.reshape(1, -1, 2))
    z = pooled.apply(x, torch.arange(6))
    assert torch.allclose(z, one.apply(x.reshape(1, -1, 2), torch.tensor([0])).reshape(x.shape), equal_nan=True, rtol=1e-9)
    assert len(next(iter(vars(pooled).values()))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_is_scaled_alone_as_in_company(kind: str) -> None:
    x = spiky().repeat(CHUNK // (300 * 2 * 6) + 2, 1, 1)
    together = fit_scale(kind, x).apply(x, torch.arange(len(x)))
    for s in (0, 2, len(x) - 5):
        alone = fit_scale(kind, x[s : s + 1]).apply(x[s : s + 1], torch.tensor([0]))
        assert torch.equal(together[s].nan_to_num(9e9), alone[0].nan_to_num(9e9))


@pytest.mark.parametrize("kind", KINDS)
def test_picks_rows_and_middle_axes(kind: str) -> None:
    x = spiky()
    scale = fit_scale(kind, x)
    z = scale.apply(x, torch.arange(6)).nan_to_num(9e9)
    assert torch.equal(scale.pick([1]).apply(x[..., 1:], torch.arange(6)).nan_to_num(9e9), z[..., 1:])
    assert torch.equal(scale.pick([1, 0]).apply(x.flip(-1), torch.arange(6)).nan_to_num(9e9), z.flip(-1))
    assert torch.equal(scale.rows([4, 1]).apply(x[[4, 1]], torch.arange(2)).nan_to_num(9e9), z[[4, 1]])
    assert torch.equal(scale.apply(x[[5, 2, 2]], torch.tensor([5, 2, 2])).nan_to_num(9e9), z[[5, 2, 2]])
    deep = scale.apply(x.unflatten(1, (3, 100)), torch.arange(6))
    assert torch.equal(deep.flatten(1, 2).nan_to_num(9e9), z)
    assert torch.equal(scale.apply(x[:, 8], torch.arange(6)).nan_to_num(9e9), z[:, 8])


def test_quantile_is_its_twin() -> None:
    x = spiky()
    scale = fit_scale("quantile", x)
    for s, c in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 0)):
        for probe in (-80.0, 0.0, 0.1, 2.5, 99.0, 130.0, 5000.0):
            found = scale.apply(torch.full((1, 1, 2), probe, dtype=torch.float64), torch.tensor([s]))[0, 0, c]
            assert float(found) == pytest.approx(quantile_map(x[s, :, c].tolist(), probe), rel=1e-9, abs=1e-12)


def test_quantile_makes_training_values_normal_and_lets_a_forecast_pass_their_maximum() -> None:
    x = torch.randn(1, 2000, 1, generator=torch.Generator().manual_seed(3)).exp()
    scale = fit_scale("quantile", x)
    z = scale.apply(x, torch.tensor([0]))
    assert abs(float(z.mean())) < 0.01 and abs(float(z.std()) - 1) < 0.02
    beyond = scale.invert(z.max() + torch.tensor([[[0.5]]]), torch.tensor([0]))
    assert x.max() + 0.1 < beyond < 3 * x.max()


def test_many_equal_values_take_the_middle_score_of_their_share() -> None:
    x = torch.tensor([0.0] * 60 + list(range(1, 41)))[None, :, None]
    zero = fit_scale("quantile", x).apply(torch.zeros(1, 1, 1), torch.tensor([0]))
    assert float(zero) == pytest.approx(float(torch.special.ndtri(torch.tensor(0.3))), abs=1e-6)


@given(st.lists(st.sampled_from([0.0, 0.1, 1.0, 1.0000001, -7.5, 1e6, float("nan")]), min_size=1, max_size=40), st.sampled_from(KINDS))
def test_any_series_keeps_its_inverse(values: list[float], kind: str) -> None:
    x = torch.tensor(values, dtype=torch.float64)[None, :, None]
    again = back_and_forth(fit_scale(kind, x), x, torch.tensor([0]))
    assert torch.allclose(again, x, rtol=1e-9, atol=1e-8, equal_nan=True)


@pytest.mark.parametrize("kind", ["minmax", "standard", "robust", "asinh", "quantile"])
def test_other_units_change_nothing(kind: str) -> None:
    x = spiky()[1:3, :, :1]
    here, there = fit_scale(kind, x).apply(x, torch.arange(2)), fit_scale(kind, 3.5 * x - 40).apply(3.5 * x - 40, torch.arange(2))
    assert torch.allclose(here, there, equal_nan=True, atol=1e-9)


def test_an_unknown_scale_gets_its_sentence() -> None:
    with pytest.raises(TaskError, match='no scale "standart": did you mean "standard"'):
        fit_scale("standart", torch.zeros(1, 2, 1))


# ---- the seasonal index


@pytest.mark.parametrize(
    "step, steps, cycle",
    [("30min", 100, "hour"), ("D", 30, "weekday"), ("2D", 30, "weekday"), ("W", 103, "none"), ("W", 105, "month"), ("MS", 24, "month"), ("MS", 23, "none")],
)
def test_the_cycle_follows_the_step(step: str, steps: int, cycle: str) -> None:
    assert cycle_of(Clock(np.datetime64("2024-01-01"), step), steps) == cycle


def test_the_index_is_its_twin_and_goes_on_past_the_end() -> None:
    values = torch.rand(3, 60, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 1
    values[:, ::7] += 2
    values[1, 11:30] = torch.nan
    data = panel(values, step="D", start="2024-01-03")
    index = fit_index(data, "y")
    steps = torch.arange(-3, 90)
    place = places(data.clock, "weekday", steps.numpy()).tolist()
    found = index.value(steps[None].expand(3, -1), torch.arange(3))
    for s in range(3):
        wanted = [seasonal_ratio(values[s].tolist(), place[3:63], p) for p in place]
        assert found[s].tolist() == pytest.approx(wanted)
    assert torch.equal(index.rows(torch.tensor([2, 0])).value(steps[None].expand(2, -1), torch.arange(2)), found[[2, 0]])
    mixed = index.rows_or(torch.tensor([2, -1]), torch.tensor([False, True]), index.rows(torch.tensor([1, 0])))
    assert torch.equal(mixed.table, index.table[[2, 0]])


def test_the_index_follows_each_series_own_start_and_shared_channels() -> None:
    from dataclasses import replace

    values = torch.ones(2, 56, dtype=torch.float64)
    values[:, ::7] = 3
    data = replace(panel(values, step="D", start="2024-01-01"), start=torch.tensor([0, 2]))
    index = fit_index(data, "y")
    assert index.table.argmax(1).tolist() == [0, 2]


def test_a_channel_about_zero_has_no_index() -> None:
    values = torch.tensor([1.0, -1.0] * 28)[None]
    assert (fit_index(panel(values), "y").table == 1).all()
    assert (fit_index(panel(values * torch.nan), "y").table == 1).all()


def test_the_mean_scale_leaves_zero_and_divides_by_the_mean_size() -> None:
    x = torch.tensor([[0.0, 2.0, torch.nan, 4.0], [-1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)[..., None]
    scaled = fit_scale("mean", x).apply(x, torch.arange(2))
    torch.testing.assert_close(scaled[0, :, 0], torch.tensor([0.0, 1.0, torch.nan, 2.0], dtype=torch.float64), equal_nan=True)
    assert torch.equal(scaled[1], x[1])


def test_the_notebooks_scaler_is_scikit_learns() -> None:
    """Counts with many zeros and a smooth series, inside and beyond what was fitted; both directions stand still at the ends."""
    from sklearn.preprocessing import QuantileTransformer

    draw = np.random.default_rng(0)
    train = np.stack([draw.poisson(1.5, 1000), draw.normal(size=1000)])
    probe = np.concatenate([np.linspace(-3, 9, 400), np.arange(-2, 12)])
    scores = np.linspace(-6, 6, 301)
    scale = fit_saturating(torch.tensor(train)[..., None].double())
    got, back = (way(torch.tensor(x).expand(2, -1)[..., None], torch.arange(2))[..., 0] for way, x in ((scale.apply, probe), (scale.invert, scores)))
    for one, values in enumerate(train):
        peer = QuantileTransformer(n_quantiles=1000, output_distribution="normal", subsample=None).fit(values[:, None].astype(float))
        np.testing.assert_allclose(got[one].numpy(), peer.transform(probe[:, None])[:, 0], atol=1e-6)
        np.testing.assert_allclose(back[one].numpy(), peer.inverse_transform(scores[:, None])[:, 0], atol=1e-6)
    empty = fit_saturating(torch.full((1, 5, 1), torch.nan))
    assert empty.apply(torch.tensor([[[torch.nan], [0.0]]]), torch.tensor([0])).isnan().tolist() == [[[True], [False]]]
