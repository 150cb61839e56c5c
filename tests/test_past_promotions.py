"""What items' own past promotions say: random effects against their plain loops, corrections against items whose answer is known."""

import math

import pytest
import torch
from torch import Generator

import foretell as ft
from foretell import Task, Training, forecast, from_array, plan
from foretell.halves import Halves
from foretell.nets import Ridge
from foretell.plan import promoting
from foretell.plan.history import Past, _fair, depths, past_forecasts
from foretell.plan.pooled import Pooled
from foretell.plan.record import recorded
from foretell.worlds import shop
from naive_plan import random_effects


def test_items_are_drawn_to_their_mean_as_the_plain_loop_draws_them() -> None:
    found, error = [0.3, -0.1, 0.5, 0.1, 9.0], [0.1, 0.2, 0.05, 0.3, math.inf]
    pooled = Pooled.of(torch.tensor(found).double(), torch.tensor(error).double())
    means, deviations, between = random_effects(found, error)
    torch.testing.assert_close(pooled.mean, torch.tensor(means).double())
    torch.testing.assert_close((pooled.own.square() + pooled.shared.square()).sqrt(), torch.tensor(deviations).double())
    assert pooled.between == pytest.approx(between) and between > 0.1
    assert abs(float(pooled.mean[3] - 0.1)) > abs(float(pooled.mean[2] - 0.5))  # the less an item knows, the more it takes from the others


def test_items_that_differ_by_luck_alone_share_one_number_and_one_item_keeps_its_own() -> None:
    alike = Pooled.of(torch.tensor([0.1, 0.12, 0.09]).double(), torch.tensor([0.2, 0.2, 0.2]).double())
    assert alike.between == 0 and float(alike.mean.std()) == pytest.approx(0, abs=1e-12) and float(alike.own.max()) == 0
    for one in (Pooled.of(torch.tensor([0.4, 7.0], dtype=torch.float64), torch.tensor([0.1, math.inf]).double()),
                Pooled.of(torch.tensor([0.4, 0.0], dtype=torch.float64), torch.tensor([0.1, math.inf]).double(), pool=False)):  # fmt: skip
        assert one.mean.tolist() == [0.4, 0.0] and one.own.tolist() == pytest.approx([0.1, 0.0])


def test_draws_have_the_mean_and_the_deviation_they_stand_for() -> None:
    pooled = Pooled(torch.tensor([1.0, -2.0]).double(), torch.tensor([0.3, 0.0]).double(), torch.tensor([0.0, 0.2]).double(), 0.5)
    drawn = pooled.drawn(40, Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(0), pooled.mean)
    torch.testing.assert_close(drawn.std(0, correction=0), torch.tensor([0.3, 0.2]).double())


def past(items: int = 12, windows: int = 16, steps: int = 14, noise: float = 0.02) -> tuple[Past, torch.Tensor]:
    """A model that tells the same of all items, each of which sells `share` more for each unit of discount."""
    draw = Generator().manual_seed(0)
    depth = torch.zeros(items, windows, steps, dtype=torch.float64)
    depth[:, :, 4:8] = (torch.randint(1, 4, (items, windows, 1), generator=draw) / 10).double()
    depth[-1] = 0  # one without a promotion
    share = torch.linspace(-0.6, 0.6, items).double()
    bare = torch.full_like(depth, 50.0)
    told = bare * (1 + 2 * depth)
    told[:, :, 8:11] *= torch.where(depth[:, :, 7:8] > 0, 0.9, 1.0)
    true = told * (1 + share[:, None, None] * depth) * (1 + noise * torch.randn(depth.shape, generator=draw, dtype=torch.float64))
    return Past(true, told, bare, depth), share


def test_what_an_item_sold_beyond_the_word_is_found_with_an_honest_error() -> None:
    given, share = past()
    found = recorded(given, pool=True)
    curve = found.curve[0] + found.curve[1] * 0.2 + found.curve[2] * 0.04
    rise = curve / 0.2 + found.rise.mean
    away = (rise - share)[:-1]
    assert float(away.abs().max()) < 0.1 and float(found.rise.own[:-1].max()) < 0.1
    assert 0.4 < float((away / found.rise.own[:-1]).square().mean().sqrt()) < 2
    assert float(rise[-1]) == pytest.approx(float(share[:-1].mean()), abs=0.1)
    assert float(found.rise.own[-1]) == pytest.approx(float(share[:-1].std()), rel=0.4)  # of an item without any: how far the others differ
    assert found.times.tolist() == [16.0] * 11 + [0.0]


def test_promotions_that_differ_among_themselves_widen_the_next() -> None:
    given, _ = past()
    steady = recorded(given, pool=True)
    each = 0.5 * torch.randn(given.true.shape[:2], generator=Generator().manual_seed(2), dtype=torch.float64)[..., None]
    moody = recorded(given._replace(true=given.true * (1 + each * given.depth)), pool=True)
    assert float(steady.rise.own[:-1].max()) < 0.1
    assert 0.3 < float(moody.rise.own[:-1].mean()) < 0.8


def test_a_step_is_told_by_the_members_that_did_not_learn_from_it() -> None:
    halves = Halves(2, torch.tensor([[True, False, True], [False, True, True]]))
    share = _fair(halves, 2, torch.arange(6))[:, 0]
    assert share.tolist() == [[0, 0, 1, 1, 0.5, 0.5], [1, 1, 0, 0, 0.5, 0.5]]
    assert _fair(None, 4, torch.arange(3)).eq(0.25).all()


def test_past_steps_are_forecast_from_before_them_with_the_discounts_that_were() -> None:
    draw = Generator().manual_seed(0)
    depth = (torch.rand(2, 200, generator=draw) < 0.3) * 0.2
    units = torch.tensor([[100.0], [10.0]]) * (1 + 2 * depth)
    panel = from_array(torch.stack([units, depth], -1).double(), ("units", "discount"), ("a", "b"), step="D")
    panel.values[1, :40, 0] = torch.nan
    model = forecast.fit(panel, Task(target="units", known=("discount",), context=4, horizon=6), Ridge(penalties=(1e-9,)), Training())
    found = past_forecasts(model, panel, "discount", "units", 199, price=False)
    assert found is not None and found.true.shape == (2, 32, 6)
    torch.testing.assert_close(found.true[0, 0], units[0, 194:].double())
    torch.testing.assert_close(found.depth[1, 1], depth[1, 188:194].double())
    torch.testing.assert_close(found.told[0, 0], found.true[0, 0], atol=0.5, rtol=0)
    assert float((found.bare[0] - 100).abs().max()) < 1
    assert bool(found.told[1, -1].isnan().all())  # too little was observed before
    values = panel.values.clone()
    values[:, 194:, 0] = 1e6
    changed = past_forecasts(model, ft.Panel(**{**vars(panel), "values": values}), "discount", "units", 199, price=False)
    assert changed is not None and torch.equal(changed.told[0, 0], found.told[0, 0])


def test_a_price_is_lowered_from_the_highest_around_it() -> None:
    price = torch.full((1, 60), 4.0)
    price[0, 30:35] = 3.0
    panel = from_array(torch.stack([price, price], -1).double(), ("units", "price"), step="D")
    depth, full = depths(panel, "price", 59, price=True)
    assert depth[0, 30:35].tolist() == [0.25] * 5 and float(depth[0, :30].abs().max()) == 0 and bool((full == 4).all())


def test_the_past_brings_a_common_ridge_nearer_to_every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    world = shop(101, items=8, days=300)
    panel = world.panel.with_calendar("weekday")
    task = Task(target="units", known=("discount", *panel.calendar_channels), context=14, horizon=14, levels=(), floor=0)
    model = forecast.fit(panel, task, Ridge(), Training())
    found = plan.promotion(model, panel, 0.2, first=2, days=5)
    with monkeypatch.context() as patched:
        patched.setattr(promoting, "record", lambda *_, **__: None)
        plain = plan.promotion(model, panel, 0.2, first=2, days=5)
    ahead = torch.zeros(8, 14).double()
    ahead[:, 1:6] = 0.2
    true = world.units(ahead)[:, 1:6].sum(1) / world.units(torch.zeros_like(ahead))[:, 1:6].sum(1) - 1
    told, before = (torch.stack([one.lift(item).mean for item in panel.series]) for one in (found, plain))
    assert float((told - true).abs().mean()) < float((before - true).abs().mean())
    ends = [found.lift(item).ends(80) for item in panel.series]
    assert sum(float(low) <= float(t) <= float(high) for (low, high), t in zip(ends, true, strict=True)) >= 5
    assert found.notes[0].startswith("each item's own ") and "past promotions, on average, correct what the model says of it" in found.notes[0]
