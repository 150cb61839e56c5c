"""Anchors: accuracy on real data that must not get worse. They need the data folder and are skipped, visibly, without it."""

import gzip
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import foretell as ft
from foretell import Forecaster, Panel, Task, Training, forecast, from_array
from foretell.nets import Ridge


def table(path: Path) -> dict[str, np.ndarray]:
    frame = pl.read_csv(path, infer_schema_length=None)
    return {name: frame[name].to_numpy() for name in frame.columns}


def scores(panel: Panel, task: Task, training: Training, test: float | str) -> dict[str, float]:
    result = ft.backtest({"ridge": partial(forecast.fit, task=task, net=Ridge(), training=training)}, panel, test=test, step=24)
    return {name: float(value) for name, value in result.scores()["ridge"].items()}


def test_tetuan(data: Path) -> None:
    columns = table(data / "power/tetuan_power/tetuan_hourly.csv.gz")
    channels = ("Usage", "Temperature", "Humidity", "WindSpeed")
    values = np.stack([columns[c] for c in channels], -1).astype(np.float32)
    panel = from_array(values[None], channels, start="2017-01-01", step="h").with_calendar("hour", "weekday", "weekend")
    task = Task(target="Usage", known=ft.calendar_of(panel), context=168, horizon=24)
    found = scores(panel, task, Training(), 0.2)
    assert found["WAPE"] <= 0.0186
    assert 0.74 <= found["coverage-80"] <= 0.86


@pytest.mark.slow
def test_nord_pool(data: Path) -> None:
    columns = list(table(data / "bench/epf_nord_pool/NP.csv.gz").values())[1:4]
    values = np.stack([np.asarray(c, dtype=np.float32) for c in columns], -1)
    panel = from_array(values[None], ("Price", "Load", "Wind"), start="2013-01-01", step="h").with_calendar("hour", "weekday", "weekend")
    task = Task(target="Price", known=("Load", "Wind", *ft.calendar_of(panel)), context=168, horizon=24)
    found = scores(panel, task, Training(scale="asinh"), "728 days")
    assert found["MAE"] <= 1.99
    assert 0.77 <= found["coverage-80"] <= 0.83


def test_etth1_96(data: Path) -> None:
    """12/4/4 months, z-scored by the training part, look-back 336, every one of the 2785 test windows, no window dropped."""
    columns = list(table(data / "bench/ett/ETTh1.csv.gz").values())[1:]
    rows = np.stack(columns, -1)[:14400].astype(np.float32)
    rows = (rows - rows[:8640].mean(0)) / rows[:8640].std(0)
    panel = from_array(rows.T.copy(), start="2016-07-01", step="h")
    model = forecast.fit(panel.until(11519), Task(target="y", context=336, horizon=96, levels=()), Ridge(phase=0), Training(stop=0.25, calibrate=0))
    assert mean_squared_error(model, panel, 11519) == pytest.approx(0.370, abs=0.003)


def mean_squared_error(model: Forecaster, panel: Panel, first: int) -> float:
    last = panel.values.shape[1] - 1 - model.task.horizon
    source = model.source(model.view(panel), first, last)
    origin = torch.arange(first, last + 1)[None] - source.panel.start[:, None]
    assert origin.shape[1] == 2785
    errors = []
    for piece in origin.split(400, dim=1):
        output = model.outputs(source, piece)[..., 0].flatten(0, 1)
        series = torch.arange(len(panel)).repeat_interleave(piece.shape[1])
        goal = source.unscaled(source.goals(series, piece.flatten()), series)
        errors.append((source.unscaled(output, series) - goal).square())
    return float(torch.cat(errors).mean())


@pytest.mark.slow
def test_m4_hourly(data: Path) -> None:
    """One ridge a series; OWA as the competition has it, with its naive 2 at sMAPE 18.383, MASE 2.395."""
    with gzip.open(data / "bench/monash/m4_hourly_dataset.tsf.gz", "rt", encoding="latin-1") as lines:
        series = [np.array(line.strip().split(":")[-1].split(","), dtype=np.float32) for line in lines if line.strip() and line[0] not in "#@"]
    values = np.full((len(series), max(map(len, series)) - 48, 1), np.nan, dtype=np.float32)
    for row, one in zip(values, series, strict=True):
        row[: len(one) - 48, 0] = one[:-48]
    panel = from_array(values, step="h")
    task = Task(target="y", context=168, horizon=48)
    ahead = forecast.fit(panel, task, Ridge(), Training(stop=0.1, calibrate=0), per_series=True).predict(panel).values[..., 0].numpy()
    smape, mase = [], []
    for guess, one in zip(ahead, series, strict=True):
        truth, past = one[-48:], one[:-48]
        smape.append(np.mean(200 * abs(guess - truth) / (abs(guess) + abs(truth))))
        mase.append(abs(guess - truth).mean() / abs(past[24:] - past[:-24]).mean())
    assert (np.mean(smape) / 18.383 + np.mean(mase) / 2.395) / 2 <= 0.56


def test_a_leak_would_show_on_real_data(data: Path) -> None:
    """The law on a real file: a year of nonsense after the cut, the same forecast."""
    columns = table(data / "power/tetuan_power/tetuan_hourly.csv.gz")
    values = np.stack([columns[c] for c in ("Usage", "Temperature")], -1).astype(np.float32)[:3000]
    panel = from_array(values[None], ("Usage", "Temperature"), start="2017-01-01", step="h").with_calendar("hour")
    other = replace(panel, values=torch.cat([panel.values[:, :2000], torch.full_like(panel.values[:, 2000:], 1e9)], 1))
    task = Task(target="Usage", known=ft.calendar_of(panel), context=48, horizon=24)
    one, two = (forecast.fit(p.until(1999), task).predict(p, origin=1999) for p in (panel, other))
    assert torch.equal(one.values, two.values) and torch.equal(one.quantiles, two.quantiles)
