"""The response net: its curves against a plain loop, what it can never do, what it finds, and its sentences."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

import foretell as ft
from foretell import Forecaster, Task, Training, forecast
from foretell.errors import TaskError
from foretell.halves import Halves
from foretell.nets import Response, Shape
from foretell.nets.response import ResponseNet
from foretell.optim import Optimizer
from foretell.panel import Panel
from foretell.worlds import ads
from foretell.worlds.ads import AdsWorld
from laws import refused
from naive_plan import media_effect

SHAPE = Shape(members=2, context=6, features=5, horizon=4, known=4, targets=1, levels=2, static=0, clocked=2)


def net(members: int = 2) -> ResponseNet:
    streams = [Generator().manual_seed(k) for k in range(members)]
    made = Response(media=("a", "b")).build(Shape(**{**vars(SHAPE), "members": members}), streams).double()
    made.zero.copy_(torch.tensor([-1.5, -0.5]).expand(members, -1))
    with torch.no_grad():
        made.base.normal_(generator=streams[0])
    return made.requires_grad_(False)


def windows(examples: int = 3, seed: int = 0, members: int = 2) -> tuple[Tensor, ...]:
    draw = Generator().manual_seed(seed)
    past = torch.randn(1, examples, 6, 5, generator=draw, dtype=torch.float64).expand(members, -1, -1, -1).clone()
    future = torch.randn(1, examples, 4, 4, generator=draw, dtype=torch.float64).expand(members, -1, -1, -1).clone()
    return past, torch.rand(past.shape, generator=draw) > 0.2, future, past.new_zeros(members, examples, 0)


def test_effects_are_the_plain_loop() -> None:
    made = net()
    past, _, future, _ = windows()
    known = torch.cat([past[..., 1:], future], 2)
    effects, curve = made.effects(known), made.curve()
    for m, e, c in [(0, 0, 0), (1, 2, 1), (0, 1, 1)]:
        spend = (known[m, e, :, c] - made.zero[m, c]).clamp(min=0).tolist()
        plain = media_effect(spend, *(float(p[m, c]) for p in curve))
        torch.testing.assert_close(effects[m, e, :, c], torch.tensor(plain, dtype=torch.float64))


def test_more_spend_never_lowers_a_forecast_and_saturates() -> None:
    made, (past, observed, future, static) = net(), windows()
    told = []
    for more in (0.0, 1.0, 3.0, 1e3, 1e4):
        changed = future.clone()
        changed[..., :2] += more
        told.append(made(past, observed, changed, static)[..., 0])
    assert all(bool((b >= a).all()) for a, b in itertools.pairwise(told))
    assert float((told[4] - told[3]).max()) < 0.2 * float((told[3] - told[0]).max())


def test_an_example_is_forecast_as_if_alone_and_so_is_a_member() -> None:
    made, inputs = net(), windows(4)
    whole = made(*inputs)
    torch.testing.assert_close(whole[:, 1:2], made(*(x[:, 1:2] for x in inputs)))
    alone = net(1)
    alone.load_state_dict({name: value[1:] for name, value in made.state_dict().items()})
    torch.testing.assert_close(whole[1:], alone(*(x[1:] for x in inputs)))


def test_what_is_not_observed_has_no_influence() -> None:
    made, (past, observed, future, static) = net(), windows()
    changed = past.clone()
    changed[..., 0] = torch.where(observed[..., 0], changed[..., 0], 99.0)
    assert torch.equal(made(past, observed, future, static), made(changed, observed, future, static))


def fitted(world: AdsWorld, *, members: int = 1, epochs: int = 60, halves: bool = False, panel: Panel | None = None) -> Forecaster:
    panel = panel or world.panel.with_calendar("dayofyear")
    task = Task(target="revenue", known=(*world.media, "holiday", *ft.calendar_of(panel)), context=6, horizon=world.horizon, levels=())
    optimizer = Optimizer(rate=0.05, schedule="cosine", first_decay=10 * epochs)
    training = Training(epochs=epochs, batch=128, stop=0.0, calibrate=0.0, loss="mse", optimizer=optimizer, halves=halves, device="cpu", seed=1)
    return forecast.fit(panel, task, Response(media=world.media), training, members=members)


def test_a_fitted_net_knows_zero_spend_and_finds_the_worth_of_media() -> None:
    world = ads(3, weeks=120, horizon=4, media=2, noise=0.005, confounded=0.3)
    model = fitted(world)
    made = model.module
    assert isinstance(made, ResponseNet)
    made.double().load_state_dict(dict(model.weights))
    own = [model.own.index(name) for name in world.media]
    width, center = model.scaling.own.width[0, own], model.scaling.own.center[0, own]
    torch.testing.assert_close(made.zero[0] * width + center, torch.zeros_like(center), atol=1e-6, rtol=0)
    known = ((world.spend[:40] - center) / width)[None, None]
    blank = torch.cat([known, known.new_zeros(1, 1, 40, len(model.roles.known) - 2)], -1)
    told = made.effects(blank)[0, 0, 8:].sum(0) * model.scaling.target.width[0, 0]
    truth = world._effects(world.spend[:40])[8:].sum(0)
    assert float(((told - truth).abs() / truth).max()) < 0.35


def test_a_model_is_saved_and_loaded_bit_for_bit(tmp_path: object) -> None:
    world = ads(1, weeks=70, horizon=3, media=2)
    model = fitted(world, epochs=2, members=2)
    path = f"{tmp_path}/m.foretell"
    ft.save(model, path)
    panel = model.view(world.panel)
    panel = panel.until(panel.last("revenue") + 3)
    again = ft.load(path)
    assert all(torch.equal(w, again.weights[name]) for name, w in model.weights.items())
    known = world.panel.with_calendar("dayofyear")
    assert torch.equal(model.predict(known, origin=60).values, again.predict(known, origin=60).values)


def test_each_member_learns_from_one_of_every_two_blocks() -> None:
    model = fitted(ads(1, weeks=70, horizon=3, media=2), epochs=1, members=3, halves=True)
    panel = model.view(ads(1, weeks=70, horizon=3, media=2).panel)
    source = model.source(panel, 60, 60)
    halves = Halves.of(source, model.training.seed, model.members)
    assert bool((halves.kept.view(3, -1, 2).sum(-1) == 1).all())
    assert not torch.equal(halves.kept[0], halves.kept[2])
    told = Halves.of(source, model.training.seed, model.members, paired=True)  # as a model's members are
    assert torch.equal(told.kept[1], ~halves.kept[0]) and torch.equal(told.kept[[0, 2]], halves.kept[[0, 2]])
    assert [Halves.of(replace(source, horizon=h), 0, ("a",)).size for h in (1, 3, 13, 28)] == [1, 1, 4, 9]


@pytest.mark.parametrize(
    ("media", "words"),
    [
        (("tv", "serch"), 'no medium among the known channels "serch": did you mean "search"'),
        (("tv", "search", "holiday", "a", "b", "c"), "the task knows 5 channels ahead; every medium must be in its known="),
    ],
)
def test_media_that_are_not_there_get_their_sentence(media: tuple[str, ...], words: str) -> None:
    world = ads(1, weeks=70, horizon=3, media=2)
    panel = world.panel.with_calendar("dayofyear")
    task = Task(target="revenue", known=(*world.media, "holiday", *ft.calendar_of(panel)), context=6, horizon=3)
    with refused(TaskError, words):
        forecast.fit(panel, task, Response(media=media), Training(epochs=1))


def test_negative_spend_and_series_with_scales_of_their_own_are_refused() -> None:
    world = ads(1, weeks=70, horizon=3, media=2)
    bad = world.panel.values.clone()
    bad[0, 5, 1] = -3.0
    one = Panel(bad, world.panel.shared, world.panel.start, world.panel.clock, ("simulated",), world.panel.channels).with_calendar("dayofyear")
    with refused(TaskError, 'medium "tv" has negative spend: -3; spend is 0 or more'):
        fitted(world, epochs=1, panel=one)
    two = Panel(world.panel.values.repeat(2, 1, 1), world.panel.shared, world.panel.start.repeat(2), world.panel.clock, ("a", "b"), world.panel.channels)
    with refused(TaskError, "which scales of their own hide in 2 series: use per_series=True"):
        fitted(world, epochs=1, panel=two.with_calendar("dayofyear"))
