"""fit and predict: origins, futures, other data, several targets, gaps; and a sentence for everything that cannot be done."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import foretell as ft
from foretell import Clock, DataError, Forecaster, Panel, SeasonalNaive, Task, TaskError, Training, forecast, from_array
from foretell.nets import Ridge, StackedLSTM
from laws import NETS, PLAIN, SPARE, TASK, TRAINING, every, fitted, plain, refused, rich

KNOWN = Task(target="y", known="x", context=12, horizon=3)
TIMES = [datetime(2000, 1, 6, 20 + h) for h in range(3)]


def future(panel: Panel, kind: Callable[..., object] = pl.DataFrame, steps: int = 3) -> object:
    times = panel.clock.local(panel.values.shape[1] + np.arange(steps)).tolist()
    ids = [s for s in panel.series for _ in times]
    return kind({"unique_id": ids, "ds": times * len(panel), "x": [0.5 * i for i in range(len(ids))]})


def test_a_forecast_starts_after_the_last_observed_target_of_each_series() -> None:
    panel = rich()
    values = panel.values.clone()
    values[0, 145:, 0] = torch.nan
    ahead = fitted("drift", panel, Task(target="y", context=12, horizon=3)).predict(replace(panel, values=values))
    assert ahead.origin.tolist() == [144, 156, 163]


def test_origin_is_a_step_or_a_moment_on_the_wall() -> None:
    panel = rich()
    model = fitted("ridge", panel)
    wall = panel.clock.local(140)[()]
    told = [model.predict(panel, origin=o).values for o in (140, str(wall), wall, wall.item())]
    assert all(torch.equal(told[0], t) for t in told)
    assert model.predict(panel, origin=140).times()[0, 0] == panel.clock.local(141)


def test_hours_of_the_night_when_clocks_change_are_forecast_one_by_one() -> None:
    panel = rich()  # starts 2024-03-28 01:00 in Berlin: step 73 is 03:00, after 01:00
    ahead = fitted("ridge", panel).predict(panel, origin=71)
    assert [t.item().hour for t in ahead.times()[0]] == [1, 3, 4]


@pytest.mark.parametrize("step", ["MS", "W", "D", "30min"])
def test_any_clock_is_forecast(step: str) -> None:
    draw = np.random.default_rng(0)
    panel = from_array(draw.normal(size=140), step=step).with_calendar("month", "weekday").with_seasonal_index("y")
    task = Task(target="y", known=ft.calendar_of(panel), context=14, horizon=3)
    ahead = forecast.fit(panel, task).predict(panel)
    assert ahead.values.isfinite().all()
    assert ahead.times()[0].tolist() == panel.clock.local(np.arange(140, 143)).tolist()


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame])
def test_known_channels_come_in_a_frame_or_in_the_panel(kind: Callable[..., object]) -> None:
    panel = plain()
    model = forecast.fit(panel, KNOWN)
    one = model.predict(panel, future=future(panel, kind))
    two = model.predict(panel.extend(future(panel, kind)))
    assert torch.equal(one.values, two.values)
    other = model.predict(panel, future=future(panel.pick("a", "b", "c"), lambda d: pl.DataFrame({**d, "x": [-v for v in d["x"]]})))
    assert not torch.allclose(other.values, one.values)


@pytest.mark.parametrize("native", ["pandas", "polars", "pyarrow"])
def test_frames_come_back_in_the_users_kind_and_words(native: str) -> None:
    panel = plain()
    panel = replace(panel, names=panel.names._replace(id="shop", time="when", native=native))
    frame = fitted("ridge", panel, PLAIN).predict(panel, level=[80, 95]).frame()
    assert type(frame).__module__.split(".")[0] == native
    names = list(frame.column_names if native == "pyarrow" else frame.columns)
    assert names == ["shop", "when", "foretell", "foretell-lo-80", "foretell-hi-80", "foretell-lo-95", "foretell-hi-95"]
    assert len(frame) == 9


def test_several_targets_are_forecast_together() -> None:
    panel = plain()
    task = Task(target=("x", "y"), context=12, horizon=3)
    for name in ("ridge", "lstm on ridge", "seasonal_naive"):
        ahead = fitted(name, panel, task).predict(panel)
        assert ahead.values.shape == (3, 3, 2) and ahead.targets == ("x", "y")
        assert (ahead.values[..., 1].mean(1) - torch.tensor([5.0, 6.0, 7.0])).abs().max() < 2.5
        assert ahead.values[..., 0].abs().max() < 2.5
        columns = list(ahead.columns())
        assert columns == ["unique_id", "ds"] + [f"foretell:{t}{e}" for t in ("x", "y") for e in ("", "-lo-80", "-hi-80")]


def test_levels_are_bands_around_the_median_and_may_be_asked_later() -> None:
    panel = plain()
    model = fitted("ridge", panel, PLAIN)
    ahead = model.predict(panel, level=[50, 90])
    assert ahead.levels == (50, 90) and ahead.probs == (0.05, 0.25, 0.75, 0.95)
    inner, outer = ahead.band(50), ahead.band(90)
    assert (outer[0] <= inner[0]).all() and (inner[1] <= outer[1]).all()
    assert torch.equal(model.predict(panel, level=[80]).band(80)[0], model.predict(panel).band(80)[0])
    with pytest.raises(TaskError, match=r"no 80 ?% band here; this forecast has 50, 90"):
        ahead.band(80)


def test_floor_holds_for_points_and_bands() -> None:
    sales = np.random.default_rng(1).poisson(0.4, size=(2, 120)).astype(float)
    panel = from_array(sales, step="D")
    model = forecast.fit(panel, Task(target="y", context=7, horizon=5, floor=0))
    assert model.predict(panel, level=[99]).quantiles.min() == 0


@pytest.mark.parametrize("hours", [-48, 30, 400])
def test_new_data_may_count_from_another_time(hours: int) -> None:
    panel = replace(rich(), calendar=rich().calendar[:2])
    task = Task(target="y", known=("price", "sun", "hour_sin", "hour_cos"), context=12, horizon=3)
    model = forecast.fit(panel, task)
    moved = panel.on(Clock(panel.clock.start + np.timedelta64(hours, "h"), "h", panel.clock.zone))
    one, two = (model.predict(p, origin=str(panel.clock.local(120))) for p in (panel, moved))
    assert torch.equal(one.values, two.values) and one.times().tolist() == two.times().tolist()


def test_history_from_before_the_training_data_is_read_too() -> None:
    """Without a calendar a window is forecast alike at any time, also where the clock of the model has not begun."""
    panel = replace(rich(), calendar=())
    task = Task(target="y", known=("price", "sun"), context=12, horizon=3)

    def at(hours: int) -> Panel:
        return replace(panel, clock=Clock(panel.clock.start + np.timedelta64(hours, "h"), "h", panel.clock.zone))

    model = forecast.fit(panel, task)
    expected = model.predict(panel, origin=60).values
    for hours in (-80, -53, -10, 24 * 30):
        moved = at(hours)
        assert torch.equal(model.predict(moved, origin=str(moved.clock.local(60))).values, expected), hours


def test_a_global_net_serves_series_it_never_saw() -> None:
    panel = plain(150, ("a", "b", "c"))
    model = fitted("lstm on ridge", panel.pick("a", "b"), PLAIN)
    whole = model.predict(panel)
    assert whole.values.isfinite().all()
    assert torch.allclose(whole.values[:2], model.predict(panel.pick("a", "b")).values, atol=1e-12)
    alone = model.predict(panel.pick("c"))
    assert torch.allclose(whole.values[2:], alone.values, atol=1e-12)
    values = panel.values.clone()
    values[2, :, 0] = 1000 + 100 * values[2, :, 0]
    high = model.predict(replace(panel, values=values)).values[2]
    assert torch.allclose(high, 1000 + 100 * whole.values[2], rtol=1e-9)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("trained", [("a",), ("a", "b")])
@pytest.mark.parametrize("name", ["ridge", "seasonal_naive"])
def test_company_does_not_change_how_a_new_series_is_scaled(name: str, trained: tuple[str, ...], pooled: bool) -> None:
    panel = plain(150, ("a", "b", "c", "d"))
    panel = replace(panel, values=panel.values * torch.tensor([1.0, 2.0, 30.0, 40.0])[:, None, None])
    model = fitted(name, panel.pick(*trained), PLAIN, training=TRAINING.model_copy(update={"pooled": pooled}))
    whole = model.predict(panel)
    for at, series in enumerate(panel.series):
        alone = model.predict(panel.pick(series))
        assert torch.allclose(whole.values[at], alone.values[0], rtol=1e-9), series
        assert torch.allclose(whole.quantiles[at], alone.quantiles[0], rtol=1e-9), series


def test_bands_of_a_simple_rule_are_in_units_for_a_new_series_too() -> None:
    panel = plain(150)
    panel = replace(panel, values=panel.values * 50)
    model = fitted("seasonal_naive", panel, PLAIN)
    model = replace(model, bands=replace(model.bands, spread=torch.ones_like(model.bands.spread)))
    new = replace(panel, series=("d", "e", "f"))
    assert torch.allclose(model.predict(new).quantiles, model.predict(panel).quantiles)


def test_a_late_series_gets_no_forecast_and_a_note() -> None:
    panel = plain(140)
    values = panel.values.clone()
    values[1, :-4] = torch.nan
    ahead = fitted("ridge", panel, PLAIN).predict(replace(panel, values=values))
    assert ahead.values[1].isnan().all() and ahead.quantiles[1].isnan().all() and ahead.values[[0, 2]].isfinite().all()
    assert ahead.notes == ('series "b" has 4 of the 12 steps before the origin; half are needed: no forecast',)


@pytest.mark.parametrize(("name", "alone"), SPARE)
def test_a_series_too_short_to_train_on_is_named(name: str, alone: bool) -> None:
    panel = plain(140)
    values = panel.values.clone()
    values[1, :-8] = torch.nan
    short = replace(panel, values=values[:, :, :], start=panel.start)
    short = Panel(
        torch.cat([values[:1], values[1:2].roll(8, 1), values[2:]]),
        panel.shared,
        panel.start + torch.tensor([0, 132, 0]),
        panel.clock,
        panel.series,
        panel.channels,
    )
    model = fitted(name, short, PLAIN, per_series=alone)
    assert any("too short to train on" in note and '"b"' in note for note in model.notes)
    assert model.predict(short).values[[0, 2]].isfinite().all()


@pytest.mark.parametrize("name", every(NETS))
@pytest.mark.parametrize(
    "training",
    [TRAINING.model_copy(update={"stop": 0.0, "calibrate": 0.0}), TRAINING.model_copy(update={"stop": 0.0}), TRAINING.model_copy(update={"calibrate": 0.0})],
)
def test_any_part_may_be_left_out(name: str, training: Training) -> None:
    panel = plain(100)
    model = fitted(name, panel, PLAIN, training=training)
    assert model.predict(panel).quantiles.isfinite().all()
    wanted = [p for p, share in (("train", 1), ("stop", training.stop), ("calibrate", training.calibrate)) if share]
    assert [p.name for p in model.parts] == wanted


@pytest.mark.parametrize("name", every(NETS))
def test_gaps_are_no_trouble(name: str) -> None:
    panel = plain(200)
    values = panel.values.clone()
    values[torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.25] = torch.nan
    holes = replace(panel, values=values)
    ahead = fitted(name, holes, PLAIN).predict(holes)
    assert ahead.values.isfinite().all() and ahead.quantiles.isfinite().all()


def test_a_constant_series_is_forecast_as_it_is() -> None:
    panel = from_array(np.full((2, 120), 7.0), step="D")
    for name in NETS:
        ahead = fitted(name, panel, Task(target="y", context=12, horizon=3)).predict(panel)
        assert torch.allclose(ahead.values, torch.tensor(7.0, dtype=torch.float64), atol=0.5 if name == "lstm alone" else 1e-9), name


@pytest.mark.parametrize(("fit", "new"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_data_of_another_precision_is_taken(fit: type, new: type) -> None:
    numbers = np.random.default_rng(0).normal(size=(1, 100))
    task = Task(target="y", context=7, horizon=2)
    for net in (Ridge(), SeasonalNaive(), StackedLSTM(hidden=(3,))):
        model = forecast.fit(from_array(numbers.astype(fit)), task, net, TRAINING)
        one, two = (model.predict(from_array(numbers.astype(kind))).values.double() for kind in (fit, new))
        assert torch.allclose(one, two, atol=1e-4)


def test_an_origin_past_the_last_row_is_forecast_while_half_the_context_is_there() -> None:
    panel = plain(120).with_calendar("hour", "weekend")
    model = forecast.fit(panel, Task(target="y", known=ft.calendar_of(panel), context=12, horizon=3))
    ahead = model.predict(panel, origin=123)
    assert ahead.values.isfinite().all() and ahead.times()[0, 0] == panel.clock.local(124)
    with pytest.raises(TaskError, match="half are needed"):
        model.predict(panel, origin=10_000)


def test_the_parts_tell_what_was_learned_from_what() -> None:
    model = fitted("ridge", plain(200), PLAIN)
    assert [(p.name, p.first, p.last) for p in model.parts] == [("train", 12, 159), ("stop", 160, 179), ("calibrate", 180, 199)]
    assert [p.rows for p in model.parts] == [3 * 146, 3 * 18, 3 * 18]
    text = model.summary()
    assert "Ridge: y, 12 steps back, 3 ahead" in text and "λ" in text and "calibrate: 2000-01-08T12" in text
    assert repr(model).startswith("Forecaster(Ridge: y")


def test_the_html_of_a_forecast_is_a_table() -> None:
    panel = plain()
    assert fitted("drift", panel, PLAIN).predict(panel)._repr_html_().startswith("<table>")


def spoiled(row: int, channel: int, value: float) -> Panel:
    panel = plain()
    values = panel.values.clone()
    values[1, row, channel] = value
    return replace(panel, values=values)


Wrong = tuple[type[ft.ForetellError], Callable[[], object], str]
CASES: dict[str, Wrong] = {
    "unknown target": (TaskError, lambda: forecast.fit(plain(), Task(target="Y", horizon=3)), 'no .*channel "Y": did you mean "y"'),
    "unknown known": (TaskError, lambda: forecast.fit(plain(), Task(target="y", known="hour_sin", horizon=3)), 'no known channel "hour_sin"'),
    "context too long": (
        TaskError,
        lambda: forecast.fit(plain(), Task(target="y", context=150, horizon=3)),
        'series "a" has 140 steps.*context 150 . horizon 3 = 153',
    ),
    "all empty": (DataError, lambda: forecast.fit(from_array(np.full(50, np.nan)), PLAIN), 'channel "y" has no observed value'),
    "past channel empty": (
        DataError,
        lambda: forecast.fit(replace(plain(), values=plain().values * torch.tensor([1.0, torch.nan])), PLAIN),
        'channel "x" has no observed value',
    ),
    "infinite": (DataError, lambda: forecast.fit(spoiled(7, 1, float("inf")), PLAIN), 'channel "x" of series "b" is infinite at 2000-01-01T07'),
    "hardly observed": (
        ft.ForetellError,
        lambda: forecast.fit(from_array([float("nan")] * 90 + [1.0] * 9), Task(target="y", context=12, horizon=3)),
        "observed|needed",
    ),
    "every third observed": (
        ft.ForetellError,
        lambda: forecast.fit(from_array([i if i % 3 == 0 else float("nan") for i in range(120)]), Task(target="y", context=12, horizon=3)),
        "observed|needed",
    ),
    "shared target": (TaskError, lambda: forecast.fit(rich(), Task(target="sun", context=12, horizon=3)), 'target "sun" has the same values in every series'),
    "members of series": (TaskError, lambda: forecast.fit(plain(), PLAIN, per_series=True, members=3), "per_series=True and members=3: choose one"),
    "no members": (TaskError, lambda: forecast.fit(plain(), PLAIN, StackedLSTM(hidden=(3,)), members=0), "members.*0"),
    "many ridges": (TaskError, lambda: forecast.fit(plain(), PLAIN, Ridge(), members=3), "members.*3"),
    "net by name": (TaskError, lambda: forecast.fit(plain(), PLAIN, "ridge"), "ridge"),  # type: ignore[arg-type]
    "net as a class": (TaskError, lambda: forecast.fit(plain(), PLAIN, Ridge), "Ridge"),  # type: ignore[arg-type]
    "shares": (TaskError, lambda: Training(stop=0.6, calibrate=0.5), "stop.*calibrate|nothing"),
    "no future": (
        TaskError,
        lambda: forecast.fit(plain(), KNOWN).predict(plain()),
        r'known channel "x" has no value for series "a" and 2 more series at 2000-01-06T20:00:00 … 2000-01-06T22:00:00 \(3 steps\).*future=.*unique_id, ds, x',
    ),
    "future too short": (
        TaskError,
        lambda: forecast.fit(plain(), KNOWN).predict(plain(), future=future(plain(), steps=2)),
        "at 2000-01-06T22:00:00: give future=",
    ),
    "future for one": (
        TaskError,
        lambda: forecast.fit(plain(), KNOWN).predict(plain(), future=future(plain().pick("a", "b"))),
        'for series "c" at',
    ),
    "future without it": (
        ft.ForetellError,
        lambda: forecast.fit(plain(), KNOWN).predict(plain(), future=pl.DataFrame({"unique_id": ["a"], "ds": TIMES[:1], "X": [1.0]})),
        "x",
    ),
    "future of another": (
        TaskError,
        lambda: forecast.fit(plain(), KNOWN).predict(plain(), future=pl.DataFrame({"unique_id": ["A"], "ds": TIMES[:1], "x": [1.0]})),
        'no series "A"',
    ),
    "series without a net": (
        TaskError,
        lambda: forecast.fit(plain().pick("a", "b"), PLAIN, per_series=True).predict(plain()),
        'series "c" has no net: this model has one for each of its 2 series.*per_series=False.*pick',
    ),
    "other step": (
        TaskError,
        lambda: forecast.fit(plain(), PLAIN).predict(from_array(np.zeros((1, 50, 2)), ("y", "x"))),
        "steps by h, this data by D",
    ),
    "other zone": (
        ft.ForetellError,
        lambda: fitted("ridge", rich()).predict(replace(rich(), clock=Clock(np.datetime64("2024-03-28"), "h")), origin=120),
        "zone|Europe/Berlin",
    ),
    "missing channel": (TaskError, lambda: forecast.fit(plain(), PLAIN).predict(plain().arranged(("y",), ())), 'no .*channel "x"'),
    "level 0": (TaskError, lambda: forecast.fit(plain(), PLAIN).predict(plain(), level=[0]), "between 0 and 100, like 80; got 0"),
    "level 100": (TaskError, lambda: forecast.fit(plain(), PLAIN).predict(plain(), level=[100]), "between 0 and 100, like 80; got 100"),
    "one level": (TaskError, lambda: forecast.fit(plain(), PLAIN).predict(plain(), level=80), "80"),  # type: ignore[arg-type]
    "no moment": (TaskError, lambda: forecast.fit(plain(), PLAIN).predict(plain(), origin="soon"), 'origin: "soon" is not a time'),
    "between steps": (DataError, lambda: forecast.fit(plain(), PLAIN).predict(plain(), origin="2000-01-03T05:30"), "05:30:00 is not on the clock"),
    "before the data": (TaskError, lambda: forecast.fit(plain(), PLAIN).predict(plain(), origin=3), 'series "a" has 4 of the 12 steps.*the other 2'),
    "a file": (ft.ForetellError, lambda: forecast.fit(plain(), PLAIN).predict("data.csv"), "Panel|read"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_done_gets_its_sentence(case: str) -> None:
    error, wrong, words = CASES[case]
    with refused(error, words):
        wrong()


def test_what_was_refused_for_one_series_is_done_for_the_others() -> None:
    panel = plain()
    model: Forecaster = forecast.fit(panel.pick("a", "b"), PLAIN, per_series=True)
    assert model.predict(panel.pick("b")).series == ("b",)
    assert TASK.horizon == model.task.horizon
