"""Anchors of the choice: with the test kept away from it, what it picks must stay good. Real data in `make check`, made data in every run."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import foretell as ft
from foretell import MovingAverage, Panel, Task, Training, forecast, from_array
from foretell.choosing import Choice, choose
from foretell.forecast import Member
from foretell.neighbours import Statistical
from foretell.nets import Ridge

Rows = Mapping[str, Member]


def judged(panel: Panel, choice: Choice, rows: Rows, windows: int, metric: str) -> tuple[float, float]:
    """Error of the choice on the last `windows` horizons, and of the best row there, each fitted once before them."""
    models = {name: partial(forecast.fit, task=choice.task, net=r.net, training=choice.training, per_series=r.per_series) for name, r in rows.items()}
    result = ft.backtest({**models, "the choice": choice.fit}, panel, task=choice.task, windows=windows, refit=0)
    scores = {name: float(found[metric]) for name, found in result.scores().items()}
    return scores["the choice"], min(scores[name] for name in rows)


def test_the_choice_holds_on_data_that_it_has_not_seen() -> None:
    """The quick sibling: a week's course with noise, alike in three series, which one ridge learns from all of them."""
    draw = np.random.default_rng(0)
    course = 100 + 20 * np.sin(np.arange(500) * 2 * np.pi / 7) + 3 * draw.normal(size=(3, 500))
    panel, rows = from_array(course, step="D"), {"ridge": Member(Ridge()), "mean": Member(MovingAverage()), "alone": Member(Ridge(), per_series=True)}
    task = Task(target="y", context=28, horizon=7, levels=())
    choice = choose(panel.until(399), task, Training(calibrate=0), nets=rows, windows=20)
    assert choice.name != "mean"
    found, best = judged(panel, choice, rows, 14, "MASE")
    assert found <= 1.01 * best


@pytest.mark.slow
def test_m4_hourly(data: Path) -> None:
    """The competition's OWA, its Naive 2 at sMAPE 18.383 and MASE 2.395: at most .52."""
    panel = ft.read(data / "bench/monash/m4_hourly_dataset.tsf.gz")
    task = Task(target="y", context=168, horizon=48, levels=())
    rows = {"ridge": Member(Ridge()), "alone": Member(Ridge(), per_series=True)}
    choice = choose(panel.until(panel.last("y") - 48), task, Training(stop=0.1, calibrate=0), nets=rows, windows=1)
    result = ft.backtest({"the choice": choice.fit}, panel, task=task, windows=1)
    truth, guess = result.truth[0, ..., 0].double(), result.point["the choice"][0, ..., 0].double()
    smape = float((200 * (truth - guess).abs() / (truth.abs() + guess.abs())).mean())
    past = [one[one.isfinite()][:-48] for one in panel.values[..., 0].double()]
    scale = np.array([float((one[24:] - one[:-24]).abs().mean()) for one in past])
    mase = float(((truth - guess).abs().mean(1).numpy() / scale).mean())
    assert (smape / 18.383 + mase / 2.395) / 2 <= 0.52


@pytest.mark.slow
def test_tourism_is_no_worse_than_autoets(data: Path) -> None:
    """24 months ahead; every fourth of the 366 series, since AutoETS takes its time."""
    pytest.importorskip("statsforecast")
    whole = ft.read(data / "bench/monash/tourism_monthly_dataset.tsf.gz").with_calendar("month")
    panel = whole.pick(*whole.series[::4])
    task = Task(target=panel.channels[0], known=ft.calendar_of(panel), context=24, horizon=24, levels=())
    rows = {"ridge": Member(Ridge()), "alone": Member(Ridge(), per_series=True), "theta": Member(Statistical(kind="Theta"))}
    before = panel.until(panel.last(*task.target) - 24)
    choice = choose(before, task, Training(stop=0.1, calibrate=0, scale="asinh"), nets=rows, windows=1)
    found, theirs = judged(panel, choice, {"autoets": Member(Statistical())}, 1, "MASE")
    assert found <= theirs
