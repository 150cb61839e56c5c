"""A forecaster as a detector: its errors through the same scoring, in a file, in a stream and after saving."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import Task, detect, forecast
from foretell.detect import Alarms, Detector, Scoring
from foretell.errors import TaskError
from foretell.nets import Ridge
from laws import refused

DAY = 24
CHANNELS = ("load", "heat", "valve")
TASKS = {
    "alone": Task(target="load", past=("heat",), context=12, horizon=1),
    "several": Task(target=("load", "heat"), context=12, horizon=3),
    "known": Task(target="load", known=("valve",), context=12, horizon=2),
    "clock": Task(target="load", known=("hour_sin", "hour_cos"), context=12, horizon=1),
}


def days(count: int, seed: int, shift: int = 0) -> ft.Panel:
    """Hours of a load that follows the time of day, from midnight on."""
    random = np.random.default_rng(seed)
    hour = np.arange(count * DAY)
    valve = random.normal(size=len(hour))
    load = 5000 + 100 * np.sin(2 * np.pi * hour / DAY) + 30 * valve + 4 * random.normal(size=len(hour))
    values = np.stack([load, 20 + 0.01 * load + 0.1 * random.normal(size=len(hour)), valve], 1)
    return ft.from_array(values[None, shift:], CHANNELS, start=np.datetime64("2024-01-01") + np.timedelta64(shift, "h"), step="h").with_calendar("hour")


@cache
def guard(name: str, scoring: Scoring | None = None) -> Detector:
    model = forecast.fit(days(30, 1), TASKS[name], Ridge())
    return detect.from_forecaster(model, [days(20, 2), days(10, 3)], scoring=scoring)


def broken() -> ft.Panel:
    panel = days(12, 9)
    values = panel.values.clone()
    values[0, 150:160, 0] += 120.0
    values[0, 60:62] = torch.nan
    values[0, 90:97, 0] = torch.nan
    return replace(panel, values=values)


@pytest.mark.parametrize("name", TASKS)
def test_a_planted_fault_is_found_in_the_target(name: str) -> None:
    one, panel = guard(name), broken()
    events = one.events(one.score(panel), Alarms(false_alarms="1/month"))
    worst = max(events.rows, key=lambda event: event.severity)
    assert worst.start <= 160 and worst.stop >= 150
    assert "load" in {c.channel for c in worst.culprits[:2]}
    assert {c.channel for c in worst.culprits if c.share > 0} <= set(TASKS[name].target)


@pytest.mark.parametrize("name", TASKS)
def test_rows_as_they_arrive_get_the_scores_of_the_file(name: str) -> None:
    one, panel = guard(name), broken()
    whole, state, score = one.score(panel), one.start("2024-01-01" if name == "clock" else None), []
    rows = panel.values[0][:, [CHANNELS.index(c) for c in one.inputs]]
    for first in range(0, len(rows), 17):
        state, fresh = one.step(state, rows[first : first + 17])
        assert len(state.rows) <= one.memory + one.delay + 17
        score.append(fresh.score)
    score.append(one.finish(state).score)
    torch.testing.assert_close(torch.cat(score), whole.values[0], rtol=1e-6, atol=1e-6, equal_nan=True)


def test_its_errors_are_the_forecasts_one_step_ahead() -> None:
    one = guard("several", Scoring(look="causal", reach=1, smooth=1, top=1))
    panel = broken()
    scores = one.score(panel)
    assert scores.expected is not None
    for origin in (80, 149, 200):
        ahead = one.parts[0].method.model.predict(replace(panel, series=("s0",)), origin=origin)  # type: ignore[attr-defined]
        torch.testing.assert_close(scores.expected[0, origin + 1, :2], ahead.values[0, 0].double(), rtol=1e-6, atol=1e-4)
        error = panel.values[0, origin + 1, :2] - scores.expected[0, origin + 1, :2]
        wanted = error.abs() / one.prepared.scale.width[0, :2] / one.parts[0].channel_width[:2]
        torch.testing.assert_close(scores.channel[0, origin + 1, :2], wanted, rtol=1e-9, atol=1e-12)


def test_the_delay_is_what_the_known_channels_ask_for() -> None:
    plain = Scoring(look="causal")
    assert [guard(name, plain).delay for name in TASKS] == [0, 0, 1, 0]


def test_the_time_of_day_counts_wherever_a_run_begins() -> None:
    """The same rows six hours later are unusual; a run that begins later is read by its own clock."""
    one = guard("clock")
    late, moved = days(12, 9, shift=6), replace(days(12, 9, shift=6), clock=days(12, 9).clock)
    usual, strange = (float(one.score(panel).values.nanmean()) for panel in (late, moved))
    assert strange > 1.25 * usual
    whole = one.score(days(12, 9)).values[0]
    torch.testing.assert_close(one.score(late).values[0, one.memory :], whole[6 + one.memory :], rtol=1e-9, atol=1e-9)


def test_a_saved_one_gives_the_same_bits(tmp_path: Path, digest: Callable[[object], str]) -> None:
    one = guard("clock")
    ft.save(one, tmp_path / "guard.foretell")
    again = ft.load(tmp_path / "guard.foretell")
    assert digest(one.score(broken())) == digest(again.score(broken()))


def test_what_cannot_be_is_said() -> None:
    both = ft.from_array(torch.cat([days(20, 1).values, days(20, 2).values]), CHANNELS, step="h")
    model = forecast.fit(both, TASKS["alone"], Ridge())
    with refused(TaskError, r'the model has 2 series, each in a scale of its own: model.pick\("s0"\) guards one of them'):
        detect.from_forecaster(model, both)
    picked = model.pick("s1")
    assert detect.from_forecaster(picked, days(20, 3)).delay == guard("alone").delay
    with refused(TaskError, "from_forecaster takes a model that forecast.fit returned; got Ridge"):
        detect.from_forecaster(Ridge(), both)  # type: ignore[arg-type]
    with refused(TaskError, 'no channel "load": There are: heat, valve'):
        detect.from_forecaster(picked, ft.from_array(days(20, 1).values[..., 1:], CHANNELS[1:], step="h"))
    with refused(TaskError, "the detector's rows are h apart, these 30min"):
        detect.from_forecaster(picked, ft.from_array(days(20, 1).values, CHANNELS, step="30min"))
    with refused(TaskError, "no row of the normal runs could be forecast: the longest has 5 rows, the context is 12"):
        detect.from_forecaster(picked, ft.from_array(days(20, 1).values[:, :5], CHANNELS, step="h"))
    with refused(TaskError, r'say when the first row is, as guard.start\("2024-01-31 13:00"\)'):
        guard("clock").start()
