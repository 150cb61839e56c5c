"""The map behind a forecast: equal to predict for every net, differentiable, and blind to what it must not see."""

import pytest
import torch
from torch import Tensor

import foretell as ft
from foretell import Panel, Task, Training, forecast
from foretell.forecaster import Forecaster
from laws import DRAWN, NETS, PLAIN, TASK, TOGETHER, fitted, plain, rich, standing

TINY = Training(epochs=1, batch=64, seed=1, device="cpu")


def near(model: Forecaster, panel: Panel, origin: int | None = None) -> None:
    """f(blocks) says what predict says, before floor and sorting."""
    f, blocks = model.function(panel, origin, level=[80])
    said, ahead = f(blocks), model.predict(panel, origin=origin, level=[80])
    torch.testing.assert_close(said[..., 0], ahead.values, rtol=0, atol=1e-9)
    torch.testing.assert_close(said[..., 1:].sort(-1).values, ahead.quantiles, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_it_is_predict(name: str) -> None:
    panel, model = rich(), standing(name)
    near(model, panel, 130)
    near(model, panel.pick("c", "a"), 131)  # other rows, and an origin out of phase


@pytest.mark.parametrize("name", NETS)
def test_it_is_predict_with_a_net_for_every_series(name: str) -> None:
    panel = plain()
    if name not in TOGETHER:
        near(fitted(name, panel, PLAIN, per_series=True), panel.pick("b", "c"))


@pytest.mark.parametrize("scale", ["identity", "minmax", "robust", "asinh", "quantile"])
def test_it_is_predict_on_every_scale(scale: str) -> None:
    panel = rich(steps=120)
    near(fitted("ridge", panel, training=TINY.model_copy(update={"scale": scale})), panel, 100)


def test_it_is_predict_of_an_ensemble_and_of_a_new_series() -> None:
    panel = plain()
    model = forecast.fit(panel.pick("a", "b"), PLAIN, NETS["lstm alone"], TINY, members=2)
    near(model, panel)


def test_windows_of_several_origins_come_one_after_the_other() -> None:
    panel = plain()
    model = fitted("ridge", panel, PLAIN)
    f, blocks = model.function(panel, [100, 110])
    said = f(blocks)
    assert f.names == ("a", "b", "c", "a", "b", "c")
    for at, origin in enumerate((100, 110)):
        torch.testing.assert_close(said[3 * at : 3 * at + 3, ..., 0], model.predict(panel, origin=origin).values)
    one = f.pick([4])
    torch.testing.assert_close(one({name: x[[4]] for name, x in blocks.items()}), said[[4]])


@pytest.mark.parametrize("apart", [False, True])
def test_copies_of_the_windows_are_rows(apart: bool) -> None:
    panel = plain()
    f, blocks = fitted("lstm on ridge", panel, PLAIN, per_series=apart).function(panel)
    both = {name: torch.cat([x, x + 1]) for name, x in blocks.items()}
    expected = torch.cat([f(blocks), f({name: x + 1 for name, x in blocks.items()})])
    torch.testing.assert_close(f(both), expected)
    with pytest.raises(ft.TaskError, match="4 rows for 3 windows: rows must be whole copies of all windows"):
        f({name: x[[0, 1, 2, 0]] for name, x in blocks.items()})


def slopes(model: Forecaster, panel: Panel) -> tuple[Tensor, Tensor]:
    f, blocks = model.function(panel, 130)
    leaves = {name: x.clone().requires_grad_() for name, x in blocks.items()}
    past, future = torch.autograd.grad(f(leaves)[..., 0].sum(), list(leaves.values()))
    return past, future


@pytest.mark.parametrize("name", ["ridge", *DRAWN])
def test_slopes_are_those_of_differences(name: str) -> None:
    panel, model = rich(), standing(name)
    f, blocks = model.function(panel, 130)
    past, future = slopes(model, panel)
    for block, slope, at in (("past", past, (1, -2, 0)), ("future", future, (2, 1, 0))):
        step = torch.zeros_like(blocks[block])
        step[at] = 1e-5
        up, down = (float(f({**blocks, block: blocks[block] + sign * step})[..., 0].sum()) for sign in (1, -1))
        assert float(slope[at]) == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-7)


def test_a_gap_has_no_slope_and_the_value_that_stands_in_has_it() -> None:
    panel = rich()
    values = panel.values.clone()
    values[0, 128] = torch.nan
    panel = Panel(values, panel.shared, panel.start, panel.clock, panel.series, panel.channels, panel.calendar)
    model = fitted("ridge", panel)
    f, blocks = model.function(panel, 130)
    past, _ = slopes(model, panel)
    gap = TASK.context - 3
    assert not f.observed[0, gap, 0] and blocks["past"][0, gap, 0] == blocks["past"][0, gap - 1, 0]
    assert past[0, gap, 0] == 0 and past[0, gap - 1, 0] != 0


def test_blocks_are_the_raw_values_and_their_times() -> None:
    panel, model = rich(), standing("ridge")
    f, blocks = model.function(panel, 130)
    assert f.channels["past"][0] == "y" and f.channels["future"] == model.roles.known
    last = panel.channel("y")[2, 130 - int(panel.start[2])]
    assert blocks["past"][2, -1, 0] == last
    hour = f.channels["future"].index("hour_sin")
    angle = f.times()["future"].astype("datetime64[h]").astype(int) % 24 * (2 * torch.pi / 24)
    torch.testing.assert_close(blocks["future"][..., hour], torch.tensor(angle).sin())


def test_what_cannot_be_forecast_has_no_function() -> None:
    panel = plain(140)
    model = forecast.fit(panel, Task(target="y", known="x", context=12, horizon=3))
    with pytest.raises(ft.TaskError, match='known channel "x" has no value'):
        model.function(panel)
    with pytest.raises(ft.TaskError, match="half are needed"):
        model.function(panel, 3)
