"""weighing: the numbers are those that the net itself computes with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from foretell import Forecaster, Panel, Task, forecast
from foretell.backtesting import backtest
from foretell.nets import PeriodKernel, Ridge
from foretell.nets.bank import Bank
from foretell.nets.period_kernel import PeriodKernelNet
from foretell.packs import fit_each
from foretell.reporting import report
from foretell.weighing import weighing
from laws import TASK, TRAINING, rich

NET = PeriodKernel(kernels=3, filters=2, heads=1, size=2, dense=4, ahead=3)
LEARNS = TRAINING.model_copy(update={"scale": "standard"})


@pytest.fixture(scope="module")
def panel() -> Panel:
    """A channel is mostly zero; the target ends before what is known ahead of it."""
    panel = rich(("a", "b"))
    values = panel.values.clone()
    values[..., 2] = torch.where(values[..., 2] > 1, values[..., 2], 0.0)
    values[:, 140:, 0] = torch.nan
    return replace(panel, values=values)


@pytest.fixture(scope="module")
def model(panel: Panel) -> Forecaster:
    return forecast.fit(panel, TASK, NET, LEARNS, per_series=True)


def own_net(model: Forecaster) -> PeriodKernelNet:
    """The net itself, with the periods and weights of the model."""
    weights = {name.removeprefix("net."): w for name, w in model.weights.items() if name.startswith("net.")}
    bank = Bank(weights["length"], weights["strength"], weights["span"])
    net = model.net.build(model.shape, [Generator() for _ in model.members], bank).double() if isinstance(model.net, PeriodKernel) else None
    assert net is not None
    net.load_state_dict(weights)
    return net


def test_the_weights_are_those_of_the_net_in_the_last_window(model: Forecaster, panel: Panel) -> None:
    columns, net = weighing(model, panel), own_net(model)
    function, blocks = model.function(panel)
    past = torch.stack([function._scaled(blocks["past"], model.roles.features, function.series)], 1)
    with torch.no_grad():
        weights = (net.auxiliary[:, None] * net.ratio(past, net.inside(past))).softmax(-1)[:, 0]
        share = net.share()
    told = np.stack([columns[f"weight {channel}"] for channel in model.roles.features[1:]], 1)
    assert np.allclose(told, weights.numpy(), atol=1e-9) and np.ptp(told[0]) > 0.01
    for at in range(3):
        there = (net.length[:, at] > 0).numpy()
        assert np.allclose(columns[f"share_{at + 1}"][there], share[:, at].numpy()[there])
        assert (columns[f"period_{at + 1}"][there] == net.length[:, at].numpy()[there]).all() and np.isnan(columns[f"period_{at + 1}"][~there]).all()
    assert np.allclose(columns["α"], model.weights["alpha"].numpy())


def test_what_is_left_out_has_no_numbers_and_other_nets_no_table(panel: Panel) -> None:
    values = panel.values.clone()
    values[1, 50, 1] = torch.inf
    broken = replace(panel, values=values)
    columns = weighing(fit_each(broken, TASK, NET, LEARNS, processes=1), panel)
    assert all(np.isnan(column[1]) and name for name, column in columns.items() if name != "unique_id")
    assert np.isfinite(columns["share_1"][0])
    assert weighing(forecast.fit(panel, TASK, Ridge()), panel) == {}
    assert weighing(forecast.fit(panel, TASK, NET, LEARNS, members=2), panel) == {}
    shared = weighing(forecast.fit(panel, TASK, NET, LEARNS), panel)
    assert (shared["period_1"] == shared["period_1"][0]).all() and len(shared["period_1"]) == 2


def test_the_report_shows_them_with_the_tests_loss(model: Forecaster, panel: Panel, tmp_path: Path) -> None:
    task = Task(target="y", context=12, horizon=3)
    result = backtest({"kernel": lambda _: forecast.fit(panel, task, Ridge())}, panel, task=task, windows=2)
    columns = weighing(model, panel, result, "kernel")
    assert np.allclose(columns["test MAE"], result.scores("series")["kernel"]["MAE"].numpy()) and "test RMSE" in columns
    assert "test MAE" not in weighing(model, panel, result, "another")
    page = report(tmp_path / "report.html", panel=panel, model=model).read_text()
    assert "What the net reads of each series" in page and "weight price" in page
    assert "각 시계열에서" in report(tmp_path / "ko.html", panel=panel, model=model, lang="ko").read_text()
    assert "What the net reads" not in report(tmp_path / "other.html", panel=panel, model=forecast.fit(panel, task)).read_text()
