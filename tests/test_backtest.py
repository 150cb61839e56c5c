"""backtest: the same as refitting and predicting one cut at a time; its frame and table as utilsforecast has them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import foretell as ft
import naive
from foretell import Backtest, Panel, SeasonalNaive, Task, TaskError, Training, forecast, from_array
from foretell.backtesting import History, Item, Progress, _looked, cuts_of
from foretell.nets import Ridge
from foretell.task import split
from laws import NETS, PLAIN, TASK, TRAINING, plain, refused, rich, slow


def own(task: Task = PLAIN, name: str = "ridge", *, training: Training = TRAINING) -> dict[str, partial[ft.Forecaster]]:
    return {"own": partial(forecast.fit, task=task, net=NETS[name], training=training)}


@pytest.mark.parametrize(("name", "refit"), [slow("ridge", 0), ("ridge", 1), ("ridge", 2), ("lstm alone", 0), slow("lstm alone", 2), ("seasonal_naive", 1)])
def test_a_backtest_is_refitting_and_predicting_cut_by_cut(name: str, refit: int) -> None:
    panel = rich(steps=130)
    models = own(TASK, name)
    result = ft.backtest(models, panel, windows=3, step=5, refit=refit)
    for model, net in (("own", NETS[name]), ("seasonal_naive", SeasonalNaive())):
        fit = partial(forecast.fit, task=TASK, net=net, training=TRAINING)
        twin = naive.backtested(fit, panel, TASK.target, result.cutoff.tolist(), refit)
        assert torch.allclose(result.point[model], torch.stack(twin), atol=1e-9)
    first = forecast.fit(panel.until(result.cutoff[0]), TASK, NETS[name], TRAINING)
    ahead = [first.predict(panel.pick(s), origin=int(c)) for s, c in zip(panel.series, result.cutoff[0], strict=True)]
    assert torch.allclose(result.point["own"][0], torch.cat([a.values for a in ahead]), atol=1e-9)
    for s, series in enumerate(panel.series):
        for h in range(3):
            np.testing.assert_equal(float(result.truth[1, s, h, 0]), naive.value_at(panel, s, int(result.cutoff[1, s] - panel.start[s]) + 1 + h, "y"))
        assert series == result.series[s]


def test_a_series_with_too_little_history_at_a_cut_gets_no_forecast() -> None:
    panel = plain(150, ("a", "b"))
    late = Panel(panel.values[:, :110], panel.shared, torch.tensor([40, 100]), panel.clock, panel.series, panel.channels)
    values = late.values.clone()
    values[1, 50:] = torch.nan
    late = replace(late, values=values)
    result = ft.backtest(own(), late, test=0.5, step=10)
    model = forecast.fit(late.until(result.cutoff[0]), PLAIN, NETS["ridge"], TRAINING)
    for at, cut in enumerate(result.cutoff[:, 0].tolist()):
        ahead = model.predict(late, origin=cut)
        np.testing.assert_array_equal(result.point["own"][at].isnan(), ahead.values.isnan())


def test_windows_are_counted_back_from_the_end_of_each_series() -> None:
    panel = rich(steps=130)
    cuts = cuts_of(panel, TASK, 3, 5, None)
    last = panel.last("y")
    assert cuts.tolist() == [(last - 3 - 5 * k).tolist() for k in (2, 1, 0)]


@pytest.mark.parametrize(
    ("test", "first"),
    [(0.25, 90), (0.1, 108), ("30 days", 90), ("2 weeks", 106), ("720h", 90), ("30 steps", 90), ("2000-03-31", 90), ("2000-03-31 00:00", 90), ("1 month", 90)],
)
def test_a_test_part_is_a_share_a_length_or_a_moment(test: float | str, first: int) -> None:
    panel = from_array(np.random.default_rng(0).normal(size=120), step="D")
    task = Task(target="y", context=7, horizon=2)
    cuts = cuts_of(panel, task, 5, 2, test)[:, 0].tolist()
    assert cuts == list(range(first - 1, 118, 2))
    result = ft.backtest(own(task), panel, test=test, step=2)
    assert result.parts[-1].name == "test" and result.parts[-1].first == first
    assert result.cutoff[:, 0].tolist() == cuts


@pytest.mark.parametrize(
    ("start", "step", "test", "rows"), [("2000-01-15", "D", "2 months", 61), ("2000-01-01", "MS", "2 years", 24), ("2000-01-01", "h", "2 days", 48)]
)
def test_lengths_fit_any_clock(start: str, step: str, test: str, rows: int) -> None:
    panel = from_array(np.arange(120.0), start=start, step=step)
    cuts = cuts_of(panel, Task(target="y", context=7, horizon=2), 5, 2, test)
    assert int(cuts[0]) == 119 - rows


def test_models_are_fitted_as_often_as_asked_and_see_nothing_after_the_cut() -> None:
    panel, seen = plain(120), []

    def fit(held: Panel) -> ft.Forecaster:
        seen.append(int(held.last("y").max()))
        assert held.values.shape[1] == seen[-1] + 1
        return forecast.fit(held, PLAIN, SeasonalNaive(), TRAINING)

    for refit, every in ((1, [104, 107, 110, 113, 116]), (0, [104]), (2, [104, 110, 116]), (None, [104, 107, 110, 113, 116])):
        seen.clear()
        ft.backtest({"own": fit}, panel, task=PLAIN, refit=refit)
        assert seen == every
    seen.clear()
    ft.backtest({"own": fit}, panel, task=PLAIN, test=0.2)
    assert seen == [95]


def test_neighbours_come_first_and_are_trained_alike() -> None:
    panel = plain(120)
    seen: list[Progress] = []
    result = ft.backtest(own(training=TRAINING.model_copy(update={"scale": "asinh"})), panel, windows=2, watch=seen.append)
    assert result.models == ("seasonal_naive", "ridge", "own")
    assert torch.equal(result.point["ridge"], result.point["own"])
    assert [(p.model, p.cut, p.cuts) for p in seen] == [(m, c, 2) for m in result.models for c in (1, 2)]
    replaced = ft.backtest({"ridge": partial(forecast.fit, task=PLAIN, net=Ridge(penalties=(1e6,)))}, panel, windows=1)
    assert replaced.models == ("seasonal_naive", "ridge")
    assert not torch.equal(replaced.point["ridge"][-1], result.point["ridge"][-1])


@pytest.mark.parametrize(("native", "panel"), [("pandas", "plain"), ("polars", "gaps")])
def test_the_frame_is_what_utilsforecast_evaluates(native: str, panel: str) -> None:
    from utilsforecast import losses
    from utilsforecast.evaluation import evaluate

    data = plain(140) if panel == "plain" else rich(steps=130)
    data = replace(data, names=data.names._replace(native=native))
    task = PLAIN if panel == "plain" else TASK
    result = ft.backtest(own(task), data, windows=4, step=3, level=[80])
    train = data.until(result.cutoff[0]).frame()
    season = data.clock.season
    metrics = [losses.mae, losses.rmse, losses.mape, losses.smape, partial(losses.mase, seasonality=season), partial(losses.rmsse, seasonality=season)]
    if panel == "gaps":
        metrics = metrics[:4]  # utilsforecast's seasons are rows, not steps, where rows are missing
    frame = result.frame()
    each = evaluate(frame, metrics=[losses.mae, losses.coverage], models=list(result.models), level=[80])
    assert "cutoff" in each.columns and len(each) >= 2 * 3 * 4
    whole = frame.drop(columns="cutoff") if native == "pandas" else frame.drop("cutoff")
    scores = evaluate(whole, metrics=metrics, models=list(result.models), train_df=train, target_col="y")
    ours = result.scores("series")
    names = {"mae": "MAE", "rmse": "RMSE", "mape": "MAPE", "smape": "sMAPE", "mase": "MASE", "rmsse": "RMSSE"}
    rows = scores.to_dict("records") if native == "pandas" else scores.rows(named=True)
    compared = 0
    for row in rows:
        for model in result.models:
            factor = {"mape": 100, "smape": 200}.get(row["metric"], 1)
            assert float(ours[model][names[row["metric"]]][result.series.index(row["unique_id"])]) == pytest.approx(factor * row[model], rel=1e-6)
            compared += 1
    assert compared == len(metrics) * 3 * 3


def test_columns_and_notes_of_the_frame() -> None:
    panel = plain(140)
    result = ft.backtest(own(Task(target=("y", "x"), context=12, horizon=3)), panel, windows=2, level=[50, 90])
    frame = result.frame()
    assert frame.columns[:8] == ["unique_id", "ds", "cutoff", "y", "seasonal_naive", "seasonal_naive-lo-50", "seasonal_naive-hi-50", "seasonal_naive-lo-90"]
    assert set(frame["unique_id"]) == {f"{s}/{t}" for s in "abc" for t in "xy"}
    assert len(frame) == 2 * 3 * 3 * 2
    first = frame.row(0, named=True)
    assert (first["cutoff"], first["ds"]) == (panel.clock.local(133).item(), panel.clock.local(134).item())
    assert first["y"] == float(panel.values[0, 134, 0]) and first["own"] == float(result.point["own"][0, 0, 0, 0])
    low, high = result.band("own", 90)
    assert (low <= high).all()
    with pytest.raises(TaskError, match="no 80 % band in this backtest; it has 50, 90"):
        result.band("own", 80)


@pytest.mark.parametrize(("by", "groups"), [("origin", 4), ("series", 3), ("step", 3), ("target", 1)])
def test_the_table_by_any_axis(by: str, groups: int) -> None:
    result = ft.backtest(own(), plain(140), windows=4)
    table = result.table_columns(by)
    assert len(table["model"]) == 3 * groups and list(table)[:2] == ["model", by]
    assert np.mean(table["MAE"][:groups]) == pytest.approx(float(result.scores()["seasonal_naive"]["MAE"]))
    assert list(result.table_columns())[1:] == [
        "MAE", "RMSE", "MAPE", "sMAPE", "MASE", "RMSSE", "WAPE", "pinball", "coverage-80", "bias", "peak_WAPE", "peak_bias", "skill",
    ]  # fmt: skip
    assert result.table_columns()["skill"][0] == 0
    with refused(TaskError, r'no table by "horizon".*origin, series, step, target'):
        result.table("horizon")


def test_the_denominators_come_from_before_the_first_cut() -> None:
    panel = plain(140)
    result = ft.backtest(own(), panel, windows=2)
    y = panel.values[1, : int(result.cutoff[0, 1]) + 1, 0].numpy()
    assert float(result.scale[1, 0]) == pytest.approx(abs(y[24:] - y[:-24]).mean())
    assert float(result.square[1, 0]) == pytest.approx(((y[24:] - y[:-24]) ** 2).mean())


def test_bands_roll_from_origins_the_model_was_not_trained_on() -> None:
    """Series that end at different times have their calibrate parts at different times."""
    panel = plain(300, ("short", "long"))
    values = panel.values.clone()
    values[0, 100:] = torch.nan
    uneven = replace(panel, values=values)
    cuts = cuts_of(uneven, PLAIN, 4, 3, None)
    held = uneven.until(cuts[0])
    model = forecast.fit(held, PLAIN)
    calibrate = split(held, PLAIN, stop=0.1, calibrate=0.1).calibrate
    look = _looked(model, uneven, cuts, 3)
    assert look.before.items
    for place, item in enumerate(reversed(look.before.items)):
        for s in range(2):
            goals_begin = int(cuts[0, s]) - 3 * (place + 1) + 1
            if goals_begin <= int(calibrate.first[s]):
                assert item.scores[..., s].isnan().all()


def test_bands_of_one_fit_are_the_models_own_until_ten_truths_are_known() -> None:
    panel = plain(200)
    result = ft.backtest(own(training=TRAINING.model_copy(update={"calibrate": 0.0})), panel, windows=14, step=3, refit=0)
    model = forecast.fit(panel.until(result.cutoff[0]), PLAIN, NETS["ridge"], TRAINING.model_copy(update={"calibrate": 0.0}))
    for at, cut in enumerate(result.cutoff[:, 0].tolist()):
        ahead = model.predict(panel, origin=cut)
        assert torch.allclose(result.quantiles["own"][at], ahead.quantiles, atol=1e-9) is (at < 10)
        assert torch.allclose(result.point["own"][at], ahead.values, atol=1e-9)


WRONG = {
    "many windows": ({"windows": 60}, "first cut.*leaves 0 steps to learn from; context . horizon = 15 are needed: use fewer windows"),
    "no windows": ({"windows": 0}, "windows=0.*at least 1"),
    "step": ({"step": -1}, "step=-1.*at least 1"),
    "no step": ({"step": 0}, "step=0.*at least 1"),
    "step in test": ({"test": 0.2, "step": -2}, "step=-2.*at least 1"),
    "share": ({"test": 1.2}, "test=1.2 must be a share between 0 and 1, a length like '180 days'"),
    "share 0": ({"test": 0.0}, "test=0.0 must be a share"),
    "short": ({"test": 0.01}, "test=0.01 starts at .*less than a horizon of 3 steps"),
    "long": ({"test": 0.99}, "leaves . steps to learn from"),
    "word": ({"test": "yesterday"}, "^test.*yesterday"),
    "unit": ({"test": "10 bananas"}, "banana"),
    "refit": ({"refit": -1}, "refit=-1"),
    "level": ({"level": [0]}, "between 0 and 100, like 80; got 0"),
    "one level": ({"level": 80}, "80"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_backtest_that_cannot_be_made_says_why(case: str) -> None:
    options, words = WRONG[case]
    with refused(ft.ForetellError, words):
        ft.backtest(own(), plain(120), **options)


def test_a_model_that_hides_its_task_needs_it_said() -> None:
    for models in ({}, {"own": lambda p: forecast.fit(p, PLAIN)}):
        with pytest.raises(TaskError, match=r"give task=.*functools.partial"):
            ft.backtest(models, plain(120))
    assert isinstance(ft.backtest({}, plain(120), task=PLAIN, windows=1), Backtest)


def test_what_a_model_fitted_again_sees_a_second_time_counts_once() -> None:
    def history(*known: int) -> History:
        return History(tuple(Item(k, torch.full((1, 1, 1), float(k))) for k in known))

    assert [i.known for i in history(20, 30).after(history(5, 10, 20, 25)).items] == [5, 10, 20, 30]
    assert [i.known for i in history().after(history(5, 10)).items] == [5, 10]


def test_a_gap_in_what_was_known_ahead_is_told() -> None:
    values = np.random.default_rng(0).normal(size=(1, 120, 2))
    values[0, 116, 1] = np.nan
    panel = from_array(values, channels=("y", "price"), step="D", start="2024-01-01")
    task = Task(target="y", known=("price",), context=7, horizon=3)
    (note,) = [n for n in ft.backtest(own(task), panel, task=task, windows=4).notes if "price" in n]
    assert note.startswith('known channel "price" lacks 1 of the values that these forecasts needed, first of "') and "2024-04-26" in note
    assert not [n for n in ft.backtest(own(task), panel.until(panel.start + 115), task=task, windows=4).notes if "price" in n]
