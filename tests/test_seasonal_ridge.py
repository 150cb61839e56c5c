"""SeasonalRidge: its features, its closed form, and what it is for: counts that follow a week, a price and events."""

from functools import partial

import numpy as np
import pytest
import torch

import foretell as ft
import naive
from foretell import TaskError, Training, forecast, from_array
from foretell.nets import Ridge, SeasonalRidge
from foretell.nets.layers import Shape
from foretell.nets.seasonal_ridge import SeasonalRidgeNet
from foretell.solve import solve
from foretell.task import Source, Span, Split, Task, fit_scaling, roles_of, usable
from laws import refused, rich
from naive_demand import seasonal_features

KNOWN = ("price", "hour_sin", "hour_cos", "weekend")


def window(source: Source, series: int, origin: int, seasonal: tuple[int, int]) -> tuple[list[list[list[float]]], list[float]]:
    """By target the twin's rows of a window, and the levels."""
    roles, back = source.roles, torch.arange(1 - source.context, 1)
    one = torch.tensor([series])
    past = source.read(roles.features, one, (origin + back)[None])[0]
    batch = source.inputs(one, torch.tensor([origin]))
    price = past[:, [roles.features.index("price")]].tolist()
    found = [seasonal_features(past[:, k].tolist(), price, batch.future[0].tolist(), *seasonal) for k in range(len(roles.target))]
    return [rows for rows, _ in found], [level for _, level in found]


def world(target: tuple[str, ...], context: int) -> tuple[Source, Shape]:
    panel = rich(("a", "b"), seed=3, steps=90)
    panel = ft.Panel(panel.values, panel.shared, panel.start, panel.clock, panel.series, panel.channels).with_calendar("hour", "weekend")
    task = Task(target=target, known=KNOWN, past=(), context=context, horizon=5)
    roles = roles_of(task, panel)
    source = Source(panel, roles, fit_scaling(panel, target, "standard"), context, 5)
    return source, Shape(1, context, len(roles.features), 5, len(KNOWN), len(target), 0, 0, 3)


@pytest.mark.parametrize(("season", "seasons", "context"), [(4, 4, 19), (7, 2, 14), (7, 8, 5), (1, 6, 6)])
def test_features_are_their_twin(season: int, seasons: int, context: int) -> None:
    source, shape = world(("y", "x"), context)
    net = SeasonalRidgeNet(SeasonalRidge(season=season, seasons=seasons), shape)
    for origin in (30, 42, 63):
        batch = source.inputs(torch.tensor([0]), torch.tensor([origin]))
        read = net.read(batch.past[None], batch.observed[None], batch.future[None])
        rows, levels = window(source, 0, origin, (season, seasons))
        assert torch.allclose(read.features[0, 0].movedim(1, 0), torch.tensor(rows, dtype=torch.float64), atol=1e-9)
        assert torch.allclose(read.level[0, 0, 0], torch.tensor(levels, dtype=torch.float64), atol=1e-9)
        assert read.features.shape[-1] == net.inputs


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("target", [("y",), ("y", "x")])
def test_the_closed_form_is_weighted_least_squares(target: tuple[str, ...], every: int) -> None:
    source, shape = world(target, 12)
    spans = Split(*(Span(torch.tensor([a, a]), torch.tensor([b, b])) for a, b in ((-1, 60), (60, 80), (80, 89))))
    spec = SeasonalRidge(season=4, seasons=3, penalties=(0.01, 10.0), every=every)
    solved = solve(spec, shape, source, spans, ())
    for k in range(len(target)):
        parts = []
        for span in spans[:2]:
            x, y, w = [], [], []
            for s in range(2):
                for origin in usable(source, span, torch.tensor([s]))[0].nonzero()[:, 0].tolist():
                    if (int(source.ends[s]) - origin) % every:
                        continue
                    rows, levels = window(source, s, origin, (4, 3))
                    goal = source.goals(torch.tensor([s]), torch.tensor([origin]))[0, :, k].tolist()
                    for row, value in zip(rows[k], goal, strict=True):
                        if np.isfinite(value):
                            x.append(row), y.append([value - levels[k]]), w.append(1.0)
            parts.append((np.array(x), np.array(y), np.array(w)))
        (x, y, w), (x2, y2, _) = parts
        tried = []
        for penalty in spec.penalties:
            weight, bias = naive.ridge(x, y, w, penalty)
            tried.append((float(((x2 @ weight + bias - y2) ** 2).mean()), penalty))
        assert float(solved.chosen.penalty[k]) == min(tried)[1]
        weight, bias = naive.ridge(*(np.concatenate(pair) for pair in zip(*parts, strict=True)), min(tried)[1])
        assert torch.allclose(solved.weights["weight"][0, k], torch.tensor(weight[:, 0]), atol=1e-7)
        assert torch.allclose(solved.weights["bias"][0, k], torch.tensor(bias[0]), atol=1e-7)


def shop(items: int = 4, days: int = 500, seed: int = 0) -> ft.Panel:
    """Counts around a wandering level, with a week, a price that acts and an event that doubles sales; the future of both is known."""
    draw = np.random.default_rng(seed)
    week = np.array([0.8, 0.7, 0.8, 0.9, 1.1, 1.5, 1.2])
    price = np.where(draw.random((items, days // 20)) < 0.3, 0.7, 1.0).repeat(20, 1)
    event = (draw.random(days) < 0.04).astype(float)
    level = np.exp(draw.normal(size=(items, 1)) + 0.02 * draw.normal(size=(items, days)).cumsum(1))
    mean = 3 * level * week[np.arange(days) % 7] * price**-2 * (1 + event)
    sales = draw.poisson(mean).astype(float)
    sales[0, :60] = np.nan
    values = np.stack([sales, price, np.broadcast_to(event, sales.shape)], -1)
    return from_array(values, ("y", "price", "event"), step="D").with_calendar("weekday", "weekend")


def test_it_is_closer_than_its_neighbours_on_counts_with_a_price() -> None:
    panel = shop()
    task = Task(target="y", known=("price", "event", *ft.calendar_of(panel)), horizon=14, floor=0)
    own = partial(forecast.fit, task=task, net=SeasonalRidge(), training=Training(calibrate=0.0, scale="mean"), per_series=True)
    found = ft.backtest({"own": own}, panel, windows=4).scores()
    error = {model: float(found[model]["RMSSE"]) for model in found}
    assert error["own"] < 0.97 * error["ridge"] < error["seasonal_naive"]


def test_the_context_shows_every_season_and_few_weights_are_kept() -> None:
    panel = shop()
    task = Task(target="y", known=("price", "event"), context=14, horizon=7, floor=0)
    model = forecast.fit(panel, task, SeasonalRidge(), per_series=True)
    assert model.context == 56 and model.net == SeasonalRidge(season=7)
    assert model.weights["weight"].shape == (4, 1, 9)
    assert (model.predict(panel, origin=480, level=[80]).quantiles >= 0).all()
    assert "past-only channels" not in model.facts
    assert forecast.fit(panel, task, SeasonalRidge(seasons=2)).context == 14


def test_a_series_that_begins_late_is_solved_from_what_it_has() -> None:
    panel = shop()
    values = panel.values.clone()
    values[1, :380, 0] = torch.nan
    late = ft.Panel(values, panel.shared, panel.start, panel.clock, panel.series, panel.channels)
    model = forecast.fit(late, Task(target="y", known=("price", "event"), horizon=7), SeasonalRidge(), per_series=True)
    assert model.weights["weight"][1].abs().max() > 0
    assert model.predict(late, origin=480).values.isfinite().all()


def test_wrong_options_get_a_sentence() -> None:
    with refused(TaskError, "SeasonalRidge: seasons must be greater than or equal to 1; got 0"):
        SeasonalRidge(seasons=0)
    with refused(TaskError, "members=2: an ensemble .* SeasonalRidge is always the same"):
        forecast.fit(shop(), Task(target="y", horizon=7), SeasonalRidge(), members=2)
    with refused(TaskError, "context 56 \\+ horizon 7 = 63 are needed"):
        forecast.fit(shop(days=60), Task(target="y", horizon=7), SeasonalRidge())


def test_plain_ridge_is_as_it_was() -> None:
    assert Ridge().build(Shape(1, 4, 1, 2, 0, 1, 0, 0), []).lean.all()
