"""Pictures: they carry the data, in a look of their own, and no name of the user's is taken for markup."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell import plotting
from foretell.errors import TaskError
from foretell.outcome import Forecast, Part
from foretell.panel import Panel, from_array
from foretell.plotting import plot
from foretell.scoreboard import Backtest
from foretell.train import Curves

STRANGE = '<script>alert("1")</script>'


def some(series: int = 1, steps: int = 600, step: str = "h", targets: int = 1) -> Panel:
    """Waves of growing height, one series a height; the last series is the highest."""
    time = torch.arange(steps, dtype=torch.float64)
    wave = 10 + torch.sin(time * 2 * torch.pi / 24) + 0.1 * torch.sin(time)
    values = torch.stack([wave * (n + 1) for n in range(series)])[..., None].repeat(1, 1, targets)
    names = ["y"] if targets == 1 else [f"y{n}" for n in range(targets)]
    return from_array(values, names, [f"series {n}" for n in range(series)], start="2024-01-01", step=step)


def ahead(data: Panel, horizon: int = 24, probs: tuple[float, ...] = (0.1, 0.5, 0.9)) -> Forecast:
    """The last day again, with bands of 10 % of the value a step of 0.4."""
    point = data.values[:, -horizon:]
    quantiles = point[..., None] * (1 + (torch.tensor(probs, dtype=point.dtype) - 0.5) / 4)
    origin = torch.full((len(data),), data.values.shape[1] - 1)
    return Forecast(point, quantiles, probs, origin, data.clock, data.series, data.channels)


def trial(data: Panel, cuts: int = 10, horizon: int = 24, probs: tuple[float, ...] = (0.1, 0.5, 0.9)) -> Backtest:
    """A naive day before, and a model four fifths of whose error is gone."""
    stop = data.values.shape[1]
    cutoff = torch.arange(stop - horizon * cuts, stop, horizon) - 1
    truth = torch.stack([data.values[:, c + 1 : c + 1 + horizon] for c in cutoff.tolist()])
    naive = torch.stack([data.values[:, c + 1 - horizon : c + 1] for c in cutoff.tolist()]) * 1.02
    point = {"seasonal_naive": naive, "ridge": 0.8 * truth + 0.2 * naive}
    quantiles = {m: p[..., None] * (1 + (torch.tensor(probs, dtype=p.dtype) - 0.5) / 8) for m, p in point.items()}
    scale = torch.full((len(data), len(data.channels)), 0.5, dtype=torch.float64)
    first = int(cutoff[0]) + 1
    ends = {"train": (0, first - 101), "stop": (first - 100, first - 51), "calibrate": (first - 50, first - 1), "test": (first, stop - 1)}
    parts = tuple(Part(name, a, b, b - a + 1) for name, (a, b) in ends.items())
    return Backtest(
        truth=truth, point=point, quantiles=quantiles, probs=probs, cutoff=cutoff[:, None].expand(-1, len(data)), clock=data.clock, series=data.series,
        targets=data.channels, names=data.names, parts=parts, scale=scale, square=scale**2,
    )  # fmt: skip


def named(figure: plotting.Figure, name: str) -> list[np.ndarray]:
    return [np.asarray(line.y, dtype=float) for line in figure.data if line.name == name]


def test_a_forecast_carries_its_numbers_its_past_and_its_bands() -> None:
    data = some()
    forecast = ahead(data)
    figure = plot(forecast, history=data)
    np.testing.assert_allclose(named(figure, "forecast")[0], forecast.values[0, :, 0], rtol=1e-5)
    np.testing.assert_allclose(named(figure, "observed")[0], data.values[0, -168:, 0], rtol=1e-5)
    low, high = forecast.band(80.0)
    np.testing.assert_allclose(named(figure, "80\u00a0% band")[0], high[0, :, 0], rtol=1e-5)
    np.testing.assert_allclose(named(figure, "80\u00a0% band −")[0], low[0, :, 0], rtol=1e-5)
    line = next(line for line in figure.data if line.name == "forecast")
    assert np.datetime64(line.x[0]) == data.clock.local(600)
    assert figure.layout.yaxis.title.text == "y"


def test_what_came_after_the_origin_is_drawn_too() -> None:
    data = some()
    early = replace(ahead(data), origin=torch.tensor([499]))
    observed = named(plot(early, history=data), "observed")[0]
    np.testing.assert_allclose(observed[-24:], data.values[0, 500:524, 0], rtol=1e-5)


def test_at_most_six_series_the_highest_unless_chosen() -> None:
    data = some(9)
    titles = [note.text for note in plot(ahead(data)).layout.annotations]
    assert titles == [f"series {n}" for n in range(3, 9)]
    chosen = plot(ahead(data), series=["series 1", "series 0"])
    assert [note.text for note in chosen.layout.annotations] == ["series 1", "series 0"]
    assert len(plot(ahead(data), series="series 4").layout.annotations) == 0
    assert len([line for line in plot(ahead(data)).data if line.showlegend]) == 2  # one for all plots: forecast, band


def test_several_targets_have_a_plot_each() -> None:
    figure = plot(ahead(some(2, targets=2)))
    assert [note.text for note in figure.layout.annotations] == [f"series {s} · y{t}" for s in range(2) for t in range(2)]


@pytest.mark.parametrize("kind", plotting.KINDS)
@pytest.mark.parametrize("series", [1, 3])
def test_every_picture_of_a_backtest_has_every_model(kind: str, series: int) -> None:
    figure = plot(trial(some(series)), kind)
    text = json.dumps(json.loads(figure.to_json()))
    assert "seasonal naive" in text and "ridge" in text
    assert "계절 나이브" in json.dumps(json.loads(plot(trial(some(series)), kind, lang="ko").to_json()), ensure_ascii=False)


def test_actual_against_predicted_over_the_last_week() -> None:
    data = some()
    figure = plot(trial(data))
    np.testing.assert_allclose(named(figure, "actual")[0], data.values[0, -168:, 0], rtol=1e-5)
    line = next(line for line in figure.data if line.name == "actual")
    assert line.line.color == plotting.INK
    assert [np.datetime64(line.x[n]) for n in (0, -1)] == [data.clock.local(np.array(step)) for step in (600 - 168, 599)]


def test_cuts_with_a_hole_between_them_are_not_joined() -> None:
    backtest = trial(some(), cuts=4)
    keep = torch.tensor([0, 1, 3])
    part = {"point": {m: p[keep] for m, p in backtest.point.items()}, "quantiles": {m: q[keep] for m, q in backtest.quantiles.items()}}
    holed = replace(backtest, truth=backtest.truth[keep], cutoff=backtest.cutoff[keep], **part)
    assert np.flatnonzero(np.isnan(named(plot(holed), "actual")[0])).tolist() == [48]


def test_overlapping_cuts_are_drawn_once() -> None:
    data = some()
    backtest = trial(data)
    rolled = replace(backtest, cutoff=backtest.cutoff[-1] - torch.arange(9, -1, -1)[:, None] * 6)
    assert plotting.last_cuts(rolled, 0) == [1, 5, 9]


def test_error_by_step_is_the_mean_absolute_error() -> None:
    backtest = trial(some())
    backtest.truth[3, 0, 5] = torch.nan
    figure = plot(backtest, "step")
    expected = (backtest.point["ridge"] - backtest.truth).abs().nanmean((0, 1, 3))
    np.testing.assert_allclose(named(figure, "ridge")[0], expected, rtol=1e-5)
    assert figure.layout.yaxis.title.text == "mean absolute error, y"


def test_errors_of_several_series_are_scaled_each_by_its_own() -> None:
    backtest = trial(some(3))
    backtest = replace(backtest, scale=torch.tensor([[1.0], [2.0], [0.0]], dtype=torch.float64))  # a constant series has no scale
    errors = (backtest.point["ridge"] - backtest.truth).abs()[:, :2] / torch.tensor([1.0, 2.0])[None, :, None, None]
    figure = plot(backtest, "step")
    np.testing.assert_allclose(named(figure, "ridge")[0], errors.mean((0, 1, 3)), rtol=1e-5)
    assert "scaled" in figure.layout.yaxis.title.text


def test_many_origins_are_averaged_in_a_row() -> None:
    data = some(steps=24 * 420)
    backtest = trial(data, cuts=400)
    per = plotting.per_point(backtest)
    drawn = named(plot(backtest, "origin"), "ridge")[0]
    errors = (backtest.point["ridge"] - backtest.truth).abs().mean((1, 2, 3))
    assert per == 3 and len(drawn) == 134
    np.testing.assert_allclose(drawn[:133], errors[:399].reshape(133, 3).mean(1), rtol=1e-5)


def test_peaks_are_the_highest_tenth_of_each_series() -> None:
    backtest = trial(some(2))
    truth, point = backtest.truth.numpy(), backtest.point["ridge"].numpy()
    high = truth >= np.quantile(truth, 0.9, axis=(0, 2), keepdims=True)
    figure = plot(backtest, "peaks")
    both = {line.name: line.x[1] for line in figure.data if line.name in ("all values", "highest tenth")}
    assert both["highest tenth"] == pytest.approx(100 * np.abs(point - truth)[high].sum() / truth[high].sum(), rel=1e-6)
    assert both["all values"] == pytest.approx(100 * np.abs(point - truth).sum() / truth.sum(), rel=1e-6)


def test_odd_cases_are_drawn() -> None:
    one = some(steps=60)
    bare = ahead(one, horizon=1, probs=())
    assert len(named(plot(bare, history=one), "forecast")[0]) == 1
    plot(ahead(one, horizon=1), history=one)
    single = trial(one, cuts=1, horizon=1)
    single.truth[:] = torch.nan
    for kind in plotting.KINDS:
        plot(single, kind).to_json()
    empty = replace(ahead(one), values=torch.full((1, 24, 1), torch.nan))
    assert np.isnan(named(plot(empty, history=one), "forecast")[0]).all()


def test_no_name_becomes_markup() -> None:
    data = some(2)
    data = replace(data, series=(STRANGE, "b"), channels=(STRANGE,))
    backtest = trial(data)
    backtest = replace(backtest, point={"seasonal_naive": backtest.point["seasonal_naive"], STRANGE: backtest.point["ridge"]})
    for figure in (plot(ahead(data), history=data), *(plot(backtest, kind) for kind in plotting.KINDS)):
        assert "<script" not in figure.to_json() and "\\u003cscript" not in figure.to_json()


def test_long_lines_are_thinned_and_keep_their_extremes() -> None:
    values = np.random.default_rng(5).normal(size=50_000)
    values[[123, 45_678]] = 99.0, -99.0
    values[1000:1100] = np.nan
    keep = plotting.thin(values)
    assert len(keep) <= plotting.POINTS and {0, 123, 45_678, 49_999} <= set(keep.tolist())
    assert (np.diff(keep) > 0).all()


def test_labels_are_moved_apart() -> None:
    assert plotting.apart([5.0, 1.0, 1.2], 1.0) == [5.0, 1.0, 2.0]
    assert plotting.apart([0.0, 0.0, 0.0], 2.0) == [0.0, 2.0, 4.0]


def test_learning_curves_of_one_net_and_of_several() -> None:
    losses = torch.tensor([[3.0, 2.0, 1.5, torch.nan], [5.0, 2.0, 2.5, 3.0]])
    curves = Curves(train=losses / 2, stop=losses, seconds=torch.ones(4))
    figure = plot(curves)
    np.testing.assert_allclose(named(figure, "stop part")[0], [4.0, 2.0, 2.0, 3.0])
    assert [line.x[0] for line in figure.data if line.mode == "markers"] == [2]
    several = plot({"main": curves, "main2": curves}, lang="ko")
    assert {line.name for line in several.data if line.name} == {"main: 학습 구간", "main: 중단 구간", "main2: 학습 구간", "main2: 중단 구간"}


def test_same_value_same_figure() -> None:
    data = some(2)
    assert plot(ahead(data), history=data).to_json() == plot(ahead(data), history=data).to_json()


def test_wrong_words_get_their_sentence() -> None:
    data = some()
    with pytest.raises(TaskError, match=r'no picture "steps".*did you mean "step"'):
        plot(trial(data), "steps")
    with pytest.raises(TaskError, match='no series "series 9"'):
        plot(ahead(data), series="series 9")
    with pytest.raises(TaskError, match='no language "kr"'):
        plot(ahead(data), lang="kr")
    with pytest.raises(TaskError, match=r"what can be drawn is .* got dict"):
        plot({})
