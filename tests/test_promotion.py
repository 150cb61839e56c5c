"""Promotions against a linear model and against the known path of a simulated shop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell import Task, Training, forecast, from_array, plan
from foretell.errors import TaskError
from foretell.nets import Ridge
from foretell.plan.ahead import with_ahead
from foretell.worlds import shop
from foretell.worlds.shop import BEFORE, _units
from laws import refused


def linear() -> tuple[object, object]:
    """Units 100 + 200 · discount, less 50 · yesterday's discount: a promotion takes a quarter of what it brings from the next day."""
    draw = torch.Generator().manual_seed(0)
    depth = (torch.rand(2, 200, generator=draw) < 0.3) * 0.2 * torch.rand(2, 200, generator=draw)
    before = torch.cat([depth[:, :1], depth[:, :-1]], 1)
    units = torch.tensor([[100.0], [10.0]]) * (1 + 2 * depth - 0.5 * before)
    panel = from_array(torch.stack([units, depth], -1).double(), ("units", "discount"), ("a", "b"), step="D")
    task = Task(target="units", known=("discount",), context=2, horizon=6)
    return panel, forecast.fit(panel, task, Ridge(penalties=(1e-9,)), Training())


def quiet() -> tuple[object, object]:
    """The same where the past holds no promotion."""
    panel, _ = linear()
    bare = replace(panel, values=panel.values.clone())
    bare.values[..., 1] = bare.values[..., 1] * 0
    return bare, forecast.fit(panel, Task(target="units", known=("discount",), context=2, horizon=6), Ridge(), Training())


def test_a_linear_promotion_is_told_exactly() -> None:
    panel, model = linear()
    found = plan.promotion(model, panel, 0.1, first=2, days=2)
    extra = torch.tensor([0, 20, 15, -5, 0, 0.0]).double()
    torch.testing.assert_close(found.path("a").mean, extra, atol=0.25, rtol=0)
    assert float(found.lift("a").mean) == pytest.approx(0.175, abs=2e-3)
    assert float(found.during("a").mean) == pytest.approx(35, abs=0.3)
    assert float(found.after("a").mean) == pytest.approx(-5, abs=0.3)
    assert float(found.total().mean) == pytest.approx(33, abs=0.4)
    assert float(found.break_even("a").mean) == pytest.approx(0.1 * 235 / 30, rel=0.02)
    assert float(found.profit(1.0, "a").mean) == pytest.approx(30 - 23.5, abs=0.4)
    rows = found.rows()
    assert list(rows["unique_id"]) == ["a", "b", "(all)"] and len(found.frame()) == 18
    assert found.notes[0].startswith("each item's own ")
    assert plan.promotion(*reversed(quiet()), 0.1, first=2, days=2).notes[-1].startswith("one member and no past promotion: no bands")


def test_the_frame_has_later_demand_and_break_even_by_item_and_for_all() -> None:
    panel, model = linear()
    found = plan.promotion(model, panel, 0.1, first=2, days=2)
    cells, rows = found.cells(), found.rows()
    for item in ("a", "b", "(all)"):
        at, row = np.flatnonzero(cells["unique_id"] == item), list(rows["unique_id"]).index(item)
        assert cells["cumulative"][at[-1]] == pytest.approx(rows["total"][row])
        assert cells["after"][at].tolist() == pytest.approx([0, 0, 0, *[rows["after"][row]] * 3], abs=0.3)
        assert cells["break_even"][at[-1]] == pytest.approx(rows["break_even"][row])
        assert np.isnan(cells["break_even"][at[0]])
    first = np.flatnonzero(cells["unique_id"] == "a")[1]
    assert cells["break_even"][first] == pytest.approx(0.1 * 120 / 20, rel=0.02)  # after one day, nothing has been taken from later yet
    whole = cells["unique_id"] == "(all)"
    for name in ("promoted", "bare", "difference", "cumulative", "after"):
        parts = cells[name][cells["unique_id"] == "a"] + cells[name][cells["unique_id"] == "b"]
        np.testing.assert_allclose(cells[name][whole], parts, rtol=1e-9, atol=1e-9)


def test_a_price_is_lowered_from_its_usual_value() -> None:
    draw = torch.Generator().manual_seed(1)
    price = 4 + torch.rand(1, 200, generator=draw).double()
    panel = from_array(torch.stack([50 - 5 * price, price], -1), ("units", "price"), step="D")
    model = forecast.fit(panel, Task(target="units", known=("price",), context=2, horizon=5), Ridge(penalties=(1e-9,)), Training())
    found = plan.promotion(model, panel, 0.1, channel="price", price=True, days=3)
    usual = float(price[0].mean())
    assert float(found.during().mean) == pytest.approx(3 * 5 * 0.1 * usual, rel=0.01)
    written = with_ahead(panel, 199, {"price": torch.full((1, 5), 4.0).double()})
    assert float(plan.promotion(model, written, 0.1, channel="price", price=True, days=3).during().mean) == pytest.approx(6, rel=0.01)
    assert not any("outside" in note for note in found.notes)
    deep = plan.promotion(model, panel, 0.5, channel="price", price=True, days=3)
    assert deep.notes[1] == "100% of the promoted values lie outside what their series' history has seen"


def test_where_nothing_is_sold_without_it_there_is_no_lift() -> None:
    panel, model = linear()
    found = plan.promotion(model, panel, 0.1, first=2, days=2)
    none = replace(found, promoted=found.promoted - found.bare, bare=found.bare * 0)
    assert np.isnan(none.rows()["lift"]).all() and float(none.during("a").mean) == pytest.approx(35, abs=0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"discount": 20.0}, "a discount is a share between 0 and 1, like 0.2; got 20"),
        ({"discount": 0.2, "days": 9}, "a promotion of 9 steps from step 1 on does not fit into the model's horizon of 6 steps"),
        ({"discount": 0.2, "first": 0}, "a promotion of 7 steps from step 0 on does not fit into the model's horizon of 6 steps"),
        ({"discount": 0.2, "days": 3, "target": "sales"}, 'no target "sales"'),
        ({"discount": 0.2, "channel": "price"}, 'no channel "price" to plan with: '),
    ],
)
def test_a_promotion_that_cannot_be_gets_its_sentence(options: dict[str, object], words: str) -> None:
    panel, model = linear()
    with refused(TaskError, words):
        plan.promotion(model, panel, options.pop("discount"), **options)


def test_a_promotion_that_ends_with_the_horizon_says_what_it_cannot_see() -> None:
    panel, model = linear()
    assert any(note.startswith("the horizon ends with the promotion") for note in plan.promotion(model, panel, 0.1, days=6).notes)


def test_the_shop_is_the_plain_loop_and_its_discounts_are_followed_by_a_dip() -> None:
    world = shop(3, items=2, days=90)
    assert world.simulated and world.panel.series == ("simulated 0", "simulated 1")
    ahead = torch.zeros(2, 20).double()
    ahead[:, 2:7] = 0.2
    told, bare = world.units(ahead), world.units(torch.zeros_like(ahead))
    extra = told - bare
    assert bool((extra[:, 2] > 0).all()) and bool((extra[:, 7:] < 0).all()) and bool((extra[:, :2] == 0).all())
    pantry, expected = 0.0, []
    depth = [*[0.0] * BEFORE, *world.panel.channel("discount")[0].tolist()]
    for day, d in enumerate(depth):
        lift = 2.718281828459045 ** (float(world.elasticity[0]) * d)
        expected.append(float(world.base[0] * world.week[0, (day - BEFORE) % 7]) * lift * 2.718281828459045**-pantry)
        pantry = float(world.keep[0]) * pantry + float(world.store[0]) * (lift - 1)
    told = _units(world, torch.tensor([depth, depth]).double(), -BEFORE)[0]
    torch.testing.assert_close(told, torch.tensor(expected).double())


def test_a_ridge_recovers_the_lift_of_the_shop_roughly() -> None:
    world = shop(1, items=6, days=300, noise=0.05)
    panel = world.panel.with_calendar("weekday")
    task = Task(target="units", known=("discount", *panel.calendar_channels), context=14, horizon=14, levels=())
    model = forecast.fit(panel, task, Ridge(), Training(), per_series=True)
    found = plan.promotion(model, panel, 0.2, first=2, days=5)
    ahead = torch.zeros(6, 14).double()
    ahead[:, 1:6] = 0.2
    true = world.units(ahead)[:, 1:6].sum(1) / world.units(torch.zeros_like(ahead))[:, 1:6].sum(1) - 1
    told = torch.tensor([float(found.lift(item).mean) for item in panel.series]).double()
    assert float(((told - true).abs() / true).median()) < 0.3


def test_a_break_even_with_a_member_that_gains_nothing_is_that_of_the_means() -> None:
    """One draw of many below 0 makes no promotion a losing one; its range says how unsure that is."""
    panel, model = linear()
    one = plan.promotion(model, panel, 0.1, first=2, days=2)
    bare, extra = one.bare[:1], one.promoted[:1] - one.bare[:1]
    told = torch.cat([bare + extra * times for times in (-0.5, 1.0, 2.0, 3.5)])
    many = replace(one, promoted=told, bare=bare.repeat(4, 1, 1), level=one.level[:1].repeat(4, 1))
    found = many.break_even("a")
    sold = (many.promoted[:, 0, 1:3]).sum(1).mean()
    assert float(found.mean) == pytest.approx(float(0.1 * sold / many.total("a").mean), rel=1e-6)
    low, high = found.ends()
    assert 0 < float(low) < float(found.mean) and bool(high.isinf())
    assert many.cells()["break_even"][5] == pytest.approx(float(found.mean))


def test_no_band_says_that_less_than_nothing_is_sold_of_what_never_was() -> None:
    panel, model = linear()
    found = plan.promotion(model, panel, 0.1, first=2, days=2)
    far = replace(found, promoted=found.promoted * torch.linspace(0, 3, len(found.promoted))[:, None, None])
    assert float(far.lift("a").ends(99)[0]) == -1 and not bool((far.with_it("a").ends(99)[0] < 0).any())
    below = replace(panel, values=panel.values - torch.tensor([500.0, 0.0]))
    free = plan.promotion(model, below, 0.1, first=2, days=2)
    free = replace(free, promoted=free.promoted + torch.linspace(-999, 999, len(free.promoted))[:, None, None])
    assert bool((free.with_it("a").ends(99)[0] < 0).all())
