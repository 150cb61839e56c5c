"""horizon="period": each series its own fundamental period ahead; mixed horizons in forecasts, frames, backtests and files."""

from functools import partial
from pathlib import Path

import pytest
import torch

import foretell as ft
from foretell import Panel, SeasonalNaive, Task, TaskError, forecast
from foretell.backtesting import backtest, told_ahead
from foretell.feed import Feed
from foretell.nets import PeriodKernel, SeasonalRidge
from foretell.packs import fit_each
from foretell.periodic import resolved
from foretell.task import Source, fit_scaling, roles_of, split
from laws import TRAINING, refused

NET = PeriodKernel(kernels=2, filters=2, heads=1, size=2, dense=4, ahead=0)
LEARNS = TRAINING.model_copy(update={"scale": "standard"})
PERIODS = {"five": 5, "nine": 9, "none": 7}


@pytest.fixture(scope="module")
def panel() -> Panel:
    """Waves of five and of nine days, and one that stands still, which takes the season's seven."""
    days, draw = torch.arange(180), torch.Generator().manual_seed(3)
    waves = 3 * torch.stack([torch.sin(2 * torch.pi * days / p) for p in (5, 9)]) + 0.3 * torch.randn(2, 180, generator=draw)
    return ft.from_array(torch.cat([20 + waves, torch.full((1, 180), 20.0)]), ("y",), tuple(PERIODS), step="D")


TASK = Task(target="y", context=14, horizon="period")


def test_each_series_gets_its_fundamental_period(panel: Panel) -> None:
    told = resolved(panel, TASK)
    assert dict(told.each) == PERIODS and told.horizon == 9
    assert Task.model_validate_json(told.model_dump_json()) == told and Task.model_validate_json(TASK.model_dump_json()) == TASK
    assert resolved(panel, told) is told
    with refused(TaskError, 'horizon must be at least 1 step, or "period": of each series its own; got 0'):
        Task(target="y", horizon=0)


def test_nothing_beyond_is_learned_from(panel: Panel) -> None:
    """The goals handed out by the views and by the joined table end where a series' horizon does."""
    task = resolved(panel, TASK)
    source = Source(panel, roles_of(task, panel), fit_scaling(panel, task.target, "identity"), 14, 9, aheads=task.ahead_of(panel.series))
    feed = Feed.of(source, split(panel, task, stop=0.1, calibrate=0.1), 3, apart=True)
    fast = feed.batch(torch.arange(3), torch.zeros(3, 1, dtype=torch.long))
    slow = source.batch(*feed.train.at(feed.counts.cumsum(0) - feed.counts))
    assert fast.seen[:, 0, :, 0].sum(1).tolist() == list(PERIODS.values()) == slow.seen[..., 0].sum(1).tolist()


def test_a_forecast_and_its_table_end_with_each_period(panel: Panel, tmp_path: Path) -> None:
    model = forecast.fit(panel, TASK, NET, LEARNS, per_series=True)
    ahead = model.predict(panel)
    assert ahead.values.isfinite().sum(1)[:, 0].tolist() == list(PERIODS.values())
    assert ahead.frame().group_by("unique_id", maintain_order=True).len()["len"].to_list() == list(PERIODS.values())
    ft.save(model, tmp_path / "m.foretell")
    assert torch.equal(ft.load(tmp_path / "m.foretell").pick("five").predict(panel.pick("five")).values[:, :5], ahead.values[:1, :5])
    parts = fit_each(panel, TASK, NET, LEARNS, size=1, processes=1)
    assert torch.equal(parts.predict(panel).values.isnan(), ahead.values.isnan())


def test_a_backtest_judges_each_series_over_its_own(panel: Panel) -> None:
    """The periods are found before the first origin; every row asks the same question."""
    rows = {"own": partial(forecast.fit, task=TASK, net=SeasonalRidge(), training=LEARNS, per_series=True)}
    found = backtest({**rows, "again": partial(forecast.fit, task=TASK, net=SeasonalNaive())}, panel, windows=2)
    assert found.truth.shape[2] == 9 and found.truth[0].isfinite().sum((1, 2)).tolist() == list(PERIODS.values())
    assert torch.equal(found.point["again"].nan_to_num(), found.point["seasonal_naive"].nan_to_num())
    assert len(found.frame()) == 2 * sum(PERIODS.values())


def test_periods_come_from_before_the_first_origin(panel: Panel) -> None:
    later = panel.values.clone()
    later[:, 140:] = torch.sin(2 * torch.pi * torch.arange(40) / 3)[:, None] * 500
    changed = Panel(later, panel.shared, panel.start, panel.clock, panel.series, panel.channels)
    assert told_ahead(changed, TASK, 2, None, None) == told_ahead(panel, TASK, 2, None, None)
    with refused(TaskError, "the periods of these series are too long for this test|leaves .* steps to learn from"):
        told_ahead(panel, TASK, 40, None, None)


def test_known_values_are_asked_for_only_as_far_as_a_series_reaches(panel: Panel) -> None:
    wide = ft.from_array(torch.stack([panel.values[..., 0], panel.values[..., 0].abs()], -1), ("y", "price"), panel.series, step="D")
    values = wide.values.clone()
    values[:, 170:, 0] = torch.nan
    values[0, 175:, 1] = torch.nan
    some = Panel(values, wide.shared, wide.start, wide.clock, wide.series, wide.channels)
    task = resolved(panel, TASK).model_copy(update={"known": ("price",)})
    model = forecast.fit(some, task, SeasonalRidge(), LEARNS, per_series=True)
    assert model.predict(some).values.isfinite().sum(1)[:, 0].tolist() == list(PERIODS.values())
    with refused(TaskError, 'known channel "price" has no value for series "five"'):
        forecast.fit(some, task.model_copy(update={"each": {"five": 6}}), SeasonalRidge(), LEARNS, per_series=True).predict(some)
