"""Simulated worlds: the same seed gives the same world, the truth in them is what they say, and they say they are simulated."""

import pytest
import torch

from foretell import Task, Training, forecast
from foretell.errors import TaskError
from foretell.explanation import components, explain
from foretell.nets import StackedLSTM
from foretell.optim import Optimizer
from foretell.worlds import ads, drivers
from foretell.worlds.ads import carried_over, hill
from laws import refused
from naive_plan import media_effect


def test_a_seed_is_a_world() -> None:
    one, two, other = ads(4, weeks=80), ads(4, weeks=80), ads(5, weeks=80)
    assert torch.equal(one.panel.values.nan_to_num(), two.panel.values.nan_to_num())
    assert not torch.equal(one.panel.values.nan_to_num(), other.panel.values.nan_to_num())
    assert one.simulated and one.panel.series == ("simulated",)
    assert (one.weeks, one.horizon, one.spend.shape) == (80, 13, (80, 5))


def test_effects_are_the_plain_loop() -> None:
    spend = torch.rand(30, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    carry, half, shape = (torch.tensor([v], dtype=torch.float64) for v in (0.6, 0.4, 1.3))
    told = hill(carried_over(torch.cat([spend[:1].expand(400, -1), spend]), carry), half, shape)[400:, 0]
    plain = media_effect(spend[:, 0].tolist(), 0.6, 0.4, 1.3, 1.0, tiny=1e-12)
    torch.testing.assert_close(told, torch.tensor(plain, dtype=torch.float64), atol=1e-7, rtol=1e-7)


def test_revenue_is_base_and_what_media_add() -> None:
    world = ads(2, weeks=90, media=3)
    plan = world.usual
    nothing = torch.zeros_like(plan)
    torch.testing.assert_close(world.revenue(plan) - world.revenue(nothing), world.attributable(plan))
    assert float(world.attributable(plan).sum()) > 0
    assert float(world.revenue(plan * 1.1).sum()) > float(world.revenue(plan).sum())


def test_historic_spend_follows_the_season_only_where_asked() -> None:
    def together(confounded: float) -> float:
        world = ads(7, weeks=300, confounded=confounded, share=0.05)
        both = torch.stack([world.panel.channel("revenue")[0, :300], world.spend.sum(1)])
        return float(torch.corrcoef(both)[0, 1])

    assert together(1.0) > together(0.0) + 0.2


def test_the_optimum_is_above_the_usual_split_and_within_bounds() -> None:
    world = ads(1, weeks=90, horizon=4, media=3)
    low, high = torch.zeros(4, 3), world.spend.amax(0).expand(4, -1)
    budget = float(world.usual.sum())
    best = world.optimum(budget, low, high, starts=2)
    assert float(best.sum()) <= budget * (1 + 1e-6)
    assert bool((best <= high + 1e-6).all()) and bool((best >= 0).all())
    assert float(world.revenue(best).sum()) >= float(world.revenue(world.usual).sum())


def test_impossible_worlds_get_their_sentence() -> None:
    with refused(TaskError, "worlds.ads: media must be from 1 to 8; got 9"):
        ads(0, media=9)
    with refused(TaskError, "a budget of 1 is below the least that the bounds spend, 26"):
        ads(0, weeks=80, media=1).optimum(1.0, torch.full((13, 1), 2.0), torch.full((13, 1), 3.0))


def test_drivers_add_up_to_the_sales_without_noise() -> None:
    one, two = drivers(3, series=2, days=80, noise=0.0), drivers(3, series=2, days=80, noise=0.0)
    assert torch.equal(one.panel.values, two.panel.values) and one.simulated
    whole = one.level[:, None] + torch.stack(list(one.effect.values())).sum(0)
    torch.testing.assert_close(one.panel.channel("sales").double(), whole, rtol=1e-6, atol=1e-4)
    late = one.panel.channel("reach").double()[:, : -one.lag]
    torch.testing.assert_close(one.effect["reach"][:, one.lag :], 2.5 * (late - 10), rtol=1e-5, atol=1e-5)
    with refused(TaskError, "worlds.drivers: lag must be from 1 to 28; got 40"):
        drivers(lag=40)


@pytest.mark.slow
def test_additive_methods_find_the_drivers_in_a_trained_net() -> None:
    """Price and event of the step itself, and the reach of the campaign at its lag: in units, on days the net has not seen."""
    world = drivers(0)
    task = Task(target="sales", known=("price", "event"), context=14, horizon=7)
    training = Training(epochs=6, batch=32, seed=0, device="cpu", optimizer=Optimizer(rate=0.01))
    model = forecast.fit(world.panel.until(440), task, StackedLSTM(hidden=(16,)), training)
    origins = list(range(441, 490, 7))
    truth = {name: torch.cat([x[:, o + 1 : o + 8] for o in origins]) for name, x in world.effect.items()}
    for method in ("deeplift", "integrated_gradients", "shapley"):
        why = explain(model, world.panel, origin=origins, method=method)
        found = {name: value for name, value in components(why).items() if name in ("price", "event")}
        if method != "shapley":  # its groups are stretches: a single lag is not told apart
            reach = why.values["past"][..., why.channels("past").index("reach")]
            found["reach"] = torch.stack([reach[:, h, task.context - world.lag + h] for h in range(7)], 1)
        for name, value in found.items():
            both = torch.stack([value.flatten().double(), truth[name].flatten()])
            assert float(torch.corrcoef(both)[0, 1]) > 0.9, (method, name)
            assert 0.7 < float((both[0] * both[1]).sum() / both[1].square().sum()) < 1.3, (method, name)
