"""Pictures of planning: every number drawn is one the value says; bands, days and names are where they belong."""

import json
from typing import Any

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import Forecaster, Panel, Task, Training, forecast, from_array, plan
from foretell.errors import TaskError
from foretell.nets import Ridge
from foretell.plan.ahead import with_ahead
from foretell.plan.plans import Band
from foretell.plan.promoting import Promotion
from laws import refused

STRANGE = "<b>b</b>"


def shops() -> tuple[Panel, Forecaster]:
    """Two shops, sales linear in a spend and in a discount."""
    draw = torch.Generator().manual_seed(0)
    spend, depth = torch.rand(2, 2, 160, generator=draw).double()
    depth = depth * (depth < 0.3)
    units = torch.tensor([[100.0], [10.0]]) * (1 + spend + 2 * depth) + torch.randn(2, 160, generator=draw)
    panel = from_array(torch.stack([units, spend, depth], -1), ("units", "ads", "discount"), ("a", STRANGE), step="D")
    task = Task(target="units", known=("ads", "discount"), context=2, horizon=5)
    model = forecast.fit(panel, task, Ridge(), Training(calibrate=0.2))
    return with_ahead(panel, 159, {"discount": torch.zeros(2, 5)}), model


def pair() -> Promotion:
    """Two members that differ by 2 units a day; the second item sells a tenth of the first."""
    bare = torch.full((2, 2, 5), 10.0, dtype=torch.float64)
    bare[:, 1] = 1.0
    extra = torch.tensor([[0, 4, 4, -1, 0], [0, 6, 6, -3, 0]]).double()[:, None] * torch.tensor([1, 0.1]).double()[:, None]
    times = np.datetime64("2024-05-01", "s") + np.arange(5) * np.timedelta64(86_400, "s")
    return Promotion(bare + extra, bare, torch.ones(bare.shape[:2]).to(bare), 1, 2, 0.2, ("a", STRANGE), times, "units")


def named(figure: Any, name: str, row: str = "y") -> Any:
    return next(line for line in figure.data if line.name == name and line.yaxis == row)


def test_scenarios_are_laid_over_each_other_above_the_difference_each_makes() -> None:
    panel, model = shops()
    told = plan.what_if(model, panel, {"more": {"ads": "+20%"}, "none": {"ads": 0}})
    figure = ft.plot(told, history=panel, series="a")
    for name, label in (("as written", "written"), ("more", "more"), ("none", "none")):
        np.testing.assert_allclose(named(figure, label).y, told.forecasts[name].values[0, :, 0])
        low, high = told.forecasts[name].band(80)
        np.testing.assert_allclose(named(figure, f"{label} −").y, low[0, :, 0])
        np.testing.assert_allclose(named(figure, f"{label} +").y, high[0, :, 0])
    np.testing.assert_allclose(named(figure, "none", "y2").y, told.difference["none"][0, 0])
    assert not any(line.name == "none −" and line.yaxis == "y2" for line in figure.data)  # one member has no band of its own
    assert named(figure, "observed").x[0] < named(figure, "none").x[0]
    assert figure.layout.yaxis.title.text == "units" and figure.layout.yaxis2.title.text == "difference"


def test_the_difference_is_shaded_over_an_ensemble() -> None:
    panel, model = shops()
    told = plan.what_if(model, panel, {"none": {"ads": 0}})
    moved = torch.cat([told.difference["none"], 3 * told.difference["none"]])
    wide = plan.WhatIf(told.forecasts, {"as written": 0 * moved, "none": moved}, told.outside, told.target)
    figure = ft.plot(wide, series=["a"])
    low, high = Band(moved[:, 0]).ends()
    np.testing.assert_allclose(named(figure, "none −", "y2").y, low)
    np.testing.assert_allclose(named(figure, "none +", "y2").y, high)


def test_a_promotion_shows_all_items_first_then_the_largest() -> None:
    found = pair()
    figure = ft.plot(found)
    heads = [note.text.split("<br>") for note in figure.layout.annotations]
    assert [head[0] for head in heads] == ["all items", "a", "&lt;b&gt;b&lt;/b&gt;"]
    assert heads[0][1:] == ["lift 50\u00a0% · after it −2.2", "in the long run 8.8 (6.806 … 10.79)", "pays from a margin of 75\u00a0%"]
    np.testing.assert_allclose(named(figure, "with the promotion").y, [11, 16.5, 16.5, 8.8, 11])
    np.testing.assert_allclose(named(figure, "without it").y, [11] * 5)
    np.testing.assert_allclose(named(figure, "extra, cumulated", "y4").y, [0, 5.5, 11, 8.8, 8.8])
    low, _ = found.cumulative().ends()
    np.testing.assert_allclose(named(figure, "extra, cumulated −", "y4").y, low)
    spans = {(str(shape.x0)[:13], str(shape.x1)[:13]) for shape in figure.layout.shapes}
    assert spans == {("2024-05-01T12", "2024-05-03T12")} and len(figure.layout.shapes) == 6
    assert STRANGE not in json.dumps(figure.to_plotly_json(), default=str)
    assert "전체 품목" in ft.plot(found, lang="ko").layout.annotations[0].text


def test_a_promotion_that_brings_nothing_pays_at_no_margin() -> None:
    found = pair()
    lost = Promotion(found.bare - 1, found.bare, found.level, 1, 2, 0.2, found.series, found.times, found.target)
    assert ft.plot(lost, series="a").layout.annotations[0].text.endswith("pays at no margin")


def test_a_curve_has_its_effect_its_marginal_return_and_its_data() -> None:
    panel, model = shops()
    curve = plan.response(model, panel, "ads", points=9)
    figure = ft.plot(curve)
    np.testing.assert_allclose(named(figure, "effect").y, curve.effect[0])
    np.testing.assert_allclose(named(figure, "marginal return", "y2").y, curve.marginal[0])
    np.testing.assert_allclose(named(figure, "history").x, curve.spend[curve.density > 0])
    assert named(figure, "written").x[0] == pytest.approx(curve.now)


def test_a_plan_has_what_was_written_beside_what_is_planned() -> None:
    panel, model = shops()
    best = plan.allocate(model, panel, 5.0, {"ads": (0, 1)}, starts=2)
    figure = ft.plot(best)
    written, planned = figure.data
    np.testing.assert_allclose(written.x, best.written.sum(0))
    np.testing.assert_allclose(planned.x, best.spend.sum(0))
    assert list(planned.y) == ["a · ads", "&lt;b&gt;b&lt;/b&gt; · ads"]


def test_what_has_no_picture_and_no_series_gets_its_sentence() -> None:
    with refused(TaskError, "what can be drawn is .* or a value of foretell.plan; got int"):
        ft.plot(3)
    with pytest.raises(TaskError, match='no series "c"'):
        ft.plot(pair(), series="c")
