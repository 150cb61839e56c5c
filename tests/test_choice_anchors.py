"""Anchors of the choice on real data, in `make check`: with the test kept away from it, what it picks must stay good."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import Task, Training, forecast
from foretell.choosing import Choice
from foretell.forecast import Member
from foretell.neighbours import Boosting, Statistical
from foretell.nets import Ridge, StackedLSTM

pytestmark = pytest.mark.slow


def tested(panel: ft.Panel, choice: Choice, rows: dict[str, Member], test: dict[str, object], metric: str) -> tuple[float, float]:
    """Error of the choice on the test, and of the best single row there."""
    models = {name: partial(forecast.fit, task=choice.task, net=r.net, training=choice.training, per_series=r.per_series) for name, r in rows.items()}
    result = ft.backtest({**models, "the choice": choice.fit}, panel, task=choice.task, refit=0, **test)  # type: ignore[arg-type]  # windows, step or test
    scores = {name: float(found[metric]) for name, found in result.scores().items()}
    return scores["the choice"], min(scores[name] for name in rows)


def test_etth1(data: Path) -> None:
    """96 ahead, 7 channels: within 1 % of the best single row of the test that the choice has not seen."""
    pytest.importorskip("lightgbm")
    wide = ft.read(data / "bench/ett/ETTh1.csv.gz").until(14399)
    panel = ft.from_array(wide.values[0].T, series=wide.channels, step="h")
    task, rows = Task(target="y", context=336, horizon=96, levels=()), {"ridge": Member(Ridge()), "lightgbm": Member(Boosting()), "lstm": Member(StackedLSTM())}
    choice = ft.choose(panel.until(11519), task, Training(stop=0.25, calibrate=0, seed=1), nets=rows)
    found, best = tested(panel, choice, rows, {"test": 0.2, "step": 96}, "MASE")
    assert found <= 1.01 * best


def test_tourism_is_no_worse_than_autoets(data: Path) -> None:
    """24 months ahead, 366 series; every fourth of them, since AutoETS takes its time."""
    pytest.importorskip("statsforecast")
    whole = ft.read(data / "bench/monash/tourism_monthly_dataset.tsf.gz").with_calendar("month")
    panel = whole.pick(*whole.series[::4])
    task = Task(target=panel.channels[0], known=ft.calendar_of(panel), context=24, horizon=24, levels=())
    rows = {"ridge": Member(Ridge()), "alone": Member(Ridge(), per_series=True), "theta": Member(Statistical(kind="Theta"))}
    last = panel.last(*task.target) - 24
    choice = ft.choose(panel.until(last), task, Training(stop=0.1, calibrate=0, scale="asinh"), nets=rows, windows=1)
    autoets = {"autoets": Member(Statistical())}
    found, theirs = tested(panel, choice, autoets, {"windows": 1}, "MASE")
    assert found <= theirs


def test_m4_hourly(data: Path) -> None:
    """The competition's OWA, its Naive 2 at sMAPE 18.383 and MASE 2.395: at most .52."""
    panel = ft.read(data / "bench/monash/m4_hourly_dataset.tsf.gz")
    task = Task(target="y", context=168, horizon=48, levels=())
    rows = {"ridge": Member(Ridge()), "alone": Member(Ridge(), per_series=True)}
    choice = ft.choose(panel.until(panel.last("y") - 48), task, Training(stop=0.1, calibrate=0), nets=rows, windows=1)
    result = ft.backtest({"the choice": choice.fit}, panel, task=task, windows=1)
    truth, guess = result.truth[0, ..., 0].double(), result.point["the choice"][0, ..., 0].double()
    past = [one[one.isfinite()][:-48] for one in panel.values[..., 0].double()]
    scale = torch.stack([(one[24:] - one[:-24]).abs().mean() for one in past])
    smape = float((200 * (truth - guess).abs() / (truth.abs() + guess.abs())).mean())
    mase = float(((truth - guess).abs().mean(1) / scale).mean())
    assert np.mean([smape / 18.383, mase / 2.395]) <= 0.52
