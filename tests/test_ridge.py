"""Ridge: the closed form from second moments = weighted least squares on an explicit design matrix; λ, channels and thinning."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import naive
from foretell import Panel, Task, Training, forecast, from_array
from foretell.halves import Halves
from foretell.nets import Ridge
from foretell.nets.layers import Shape
from foretell.nets.ridge import RidgeNet, design, inputs_of, moments, solutions
from foretell.solve import _thinning, solve
from foretell.task import Source, Span, Split, fit_scaling, roles_of, split
from laws import rich, slow
from test_task import scaled_by_hand

CONTEXT, HORIZON = 6, 3
KNOWN = ("price", "sun", "hour_sin", "hour_cos", "weekend")
PENALTIES = (1e-4, 1e-2, 1.0)


def world(seed: int, target: tuple[str, ...] = ("y",)) -> tuple[Panel, Source, Shape]:
    """A panel with gaps and a late start; scales of all of it."""
    panel = rich(("a", "b"), seed=seed, steps=60)
    panel = replace(panel, calendar=tuple(r for r in panel.calendar if r.kind != "index"))
    values = panel.values.clone()
    values[0, 20:22, 0] = values[1, 33, 0] = values[1, 50:, 0] = torch.nan
    panel = replace(panel, values=values)
    task = Task(target=target, known=KNOWN, context=CONTEXT, horizon=HORIZON)
    roles = roles_of(task, panel)
    source = Source(panel, roles, fit_scaling(panel, target, "standard"), CONTEXT, HORIZON)
    return panel, source, Shape(1, CONTEXT, len(roles.features), source.horizon, len(roles.known), len(target), 0, 0, 3)


def by_hand(
    panel: Panel, source: Source, span: Span, phase: float, counts: Callable[[int, int], bool] = lambda step, ahead: True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every window's inputs, centred goals and weight, one after the other; `counts` says which goals do, by clock step and step ahead."""
    rows, goals, weights = [], [], []
    targets, season = source.roles.target, panel.clock.season
    for s in range(len(panel)):
        seen = [r for r in range(panel.values.shape[1]) if all(np.isfinite(naive.value_at(panel, s, r, c)) for c in targets)]
        origins = naive.usable_origins(panel, targets, s, int(span.first[s]), int(span.last[s]), CONTEXT, source.horizon)
        inside = [o for o in origins if (seen[-1] - o) % season == 0]
        heavy = phase / (1 - phase) * (len(origins) - len(inside)) / max(1, len(inside)) if phase else 1.0
        for o in origins:
            window = naive.gathered(panel, source.roles, s, o, CONTEXT, source.horizon, scaled_by_hand(panel))
            window["future"] = without_gaps(window["future"])
            last = window["past"][-1][: len(targets)]
            rows.append(naive.ridge_inputs(window, len(targets), 3))
            goal = without_gaps([last, *window["goal"]])[1:]
            goals.append([v - m for step in goal for v, m in zip(step, last, strict=True)])
            begin = int(panel.start[s] - panel.start.min()) + o
            observed = [np.isfinite(v) and counts(begin + h, h) for h, step in enumerate(window["goal"], 1) for v in step]
            weights.append((heavy if o in inside else 1.0) * sum(observed) / len(observed))
    return np.array(rows), np.array(goals), np.array(weights)


def without_gaps(steps: list[list[float]]) -> list[list[float]]:
    told: list[list[float]] = []
    for step in steps:
        before = told[-1] if told else [0.0] * len(step)
        told.append([v if np.isfinite(v) else b for v, b in zip(step, before, strict=True)])
    return told


@pytest.mark.parametrize("phase", [0.0, 0.4])
@pytest.mark.parametrize("target", [("y",), ("y", "x")])
@pytest.mark.parametrize("seed", [0, slow(1)])
def test_the_closed_form_is_weighted_least_squares(seed: int, target: tuple[str, ...], phase: float) -> None:
    panel, source, shape = world(seed, target)
    spans = Split(
        Span(torch.tensor([-1, -1]), torch.tensor([38, 34])),
        Span(torch.tensor([38, 34]), torch.tensor([59, 49])),
        Span(torch.zeros(2).long(), torch.zeros(2).long()),
    )
    (x, y, w), (x2, y2, w2) = (by_hand(panel, source, span, phase) for span in spans[:2])
    lean = np.array(naive_lean(source, shape))
    tried = []
    for keep in [lean, np.ones_like(lean)]:
        for penalty in PENALTIES:
            weight, bias = np.zeros((x.shape[1], y.shape[1])), None
            weight[keep], bias = naive.ridge(x[:, keep], y, w, penalty)
            error = float(w2 @ ((x2 @ weight + bias - y2) ** 2).mean(1) / w2.sum())
            tried.append((error, penalty, bool(keep.all()), keep))
    error, penalty, used, keep = min(tried, key=lambda t: t[0])
    solved = solve(Ridge(penalties=PENALTIES, phase=phase), shape, source, spans, ())
    assert float(solved.chosen.penalty[0]) == penalty
    assert bool(solved.chosen.past_used[0]) == used
    assert float(solved.chosen.error[0]) == pytest.approx(error, rel=1e-6)
    both = [np.concatenate(pair) for pair in ((x, x2), (y, y2), (w, w2))]
    weight = np.zeros((x.shape[1], y.shape[1]))
    weight[keep], bias = naive.ridge(both[0][:, keep], both[1], both[2], penalty)
    assert torch.allclose(solved.weights["weight"][0], torch.tensor(weight), atol=1e-7)
    assert torch.allclose(solved.weights["bias"][0], torch.tensor(bias), atol=1e-7)


def test_a_member_with_a_half_of_its_own_is_solved_from_it_alone_run_by_run() -> None:
    panel, source, shape = world(4)
    source, shape = replace(source, horizon=8), replace(shape, horizon=8)
    halves = Halves.of(source, 3, ("member 0", "member 1"))
    assert halves.size == 3  # so the runs are of steps 1 to 3, 4 to 6, 7 and 8
    none = Span(torch.zeros(2).long(), torch.zeros(2).long())
    parts = Split(Span(torch.tensor([-1, -1]), torch.tensor([50, 44])), none, none)
    solved = solve(Ridge(penalties=(1e-2,), phase=0.0), shape, source, parts, (), halves=halves)
    assert solved.weights["weight"].shape == (2, inputs_of(shape), 8)
    for member, run in ((0, (1, 2, 3)), (1, (7, 8))):
        x, y, w = by_hand(panel, source, parts.train, 0.0, partial(own, halves.kept[member].tolist(), run))
        keep = np.ones(inputs_of(shape), dtype=bool) if bool(solved.chosen.past_used.all()) else np.array(naive_lean(source, shape))
        weight, bias = naive.ridge(x[:, keep], y, w, 1e-2)
        at = slice(run[0] - 1, run[-1])
        assert torch.allclose(solved.weights["weight"][member, keep][:, at], torch.tensor(weight[:, at]), atol=1e-7)
        assert torch.allclose(solved.weights["bias"][member, at], torch.tensor(bias[at]), atol=1e-7)


def own(kept: list[bool], run: tuple[int, ...], step: int, h: int) -> bool:
    """Whether a goal counts for a member and the map of a run of steps ahead: it has half of the window's run or more; blocks are of three steps."""
    return h in run and sum(kept[(step - h + ahead) // 3] for ahead in run) >= len(run) / 2


def naive_lean(source: Source, shape: Shape) -> list[bool]:
    """Inputs that do not belong to a past-only channel."""
    measured = source.roles.features[: -shape.clocked]
    rest = inputs_of(shape) - CONTEXT * len(measured)
    return [c not in source.roles.past for _ in range(CONTEXT) for c in measured] + [True] * rest


def test_the_design_is_as_written() -> None:
    panel, source, shape = world(2)
    batch = source.inputs(torch.tensor([0]), torch.tensor([30]))
    window = naive.gathered(panel, source.roles, 0, 30, CONTEXT, HORIZON, scaled_by_hand(panel))
    window["future"] = without_gaps(window["future"])
    expected = torch.tensor(naive.ridge_inputs(window, 1, 3), dtype=torch.float64)
    assert torch.allclose(design(shape, batch.past[None], batch.future[None])[0, 0], expected, atol=1e-9)
    assert len(expected) == inputs_of(shape)


def test_an_unsolved_map_repeats_the_last_value() -> None:
    shape = Shape(2, 4, 3, 5, 0, 2, 3, 0)
    past = torch.randn(2, 7, 4, 3, generator=torch.Generator().manual_seed(0))
    out = Ridge().build(shape, [])(past, torch.ones_like(past, dtype=torch.bool), past.new_zeros(2, 7, 5, 0), past.new_zeros(2, 7, 0))
    assert torch.equal(out, past[:, :, -1, None, :2, None].expand(2, 7, 5, 2, 4))


def test_an_input_that_never_moved_has_no_weight() -> None:
    shape = Shape(1, 3, 2, 1, 0, 1, 0, 0)
    past = torch.randn(1, 50, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    past[..., 1] = 7.0
    goal = 1.0 + 0.9 * past[:, :, -1:, :1] + 0.1 * past[:, :, :1, :1]
    summed = moments(shape, past, past.new_zeros(1, 50, 1, 0), goal, past.new_ones(1, 50))
    line = solutions(summed, torch.ones(6, dtype=torch.bool), [1e-6])[0]
    assert line.weight.isfinite().all()
    assert line.weight[0, [1, 3, 5]].abs().max() == 0
    net = RidgeNet(shape).double()
    net.load_state_dict({"weight": line.weight, "bias": line.bias, "offset": net.offset})
    out = net(past, past > -9, past.new_zeros(1, 50, 1, 0), past.new_zeros(1, 50, 0))
    assert torch.allclose(out[..., 0], goal, atol=1e-3)


def test_past_only_channels_are_used_where_they_help() -> None:
    draw = np.random.default_rng(3)
    cause, noise = draw.normal(size=(2, 400))
    y = np.r_[0, cause[:-1]] * 2 + 0.1 * draw.normal(size=400)
    for channel, used in ((cause, "used"), (noise, "not used")):
        panel = from_array(np.stack([y, channel], -1)[None], ("y", "x"), step="D")
        model = forecast.fit(panel, Task(target="y", context=7, horizon=1), Ridge())
        assert model.facts["past-only channels"] == used


def test_a_heavy_penalty_gives_the_mean_change_and_a_light_one_fits() -> None:
    draw = np.random.default_rng(4)
    panel = from_array(np.sin(np.arange(300) / 3) + 0.01 * draw.normal(size=300), step="D")
    task = Task(target="y", context=7, horizon=2)
    stiff, free = (forecast.fit(panel, task, Ridge(penalties=(p,))) for p in (1e9, 1e-6))
    truth = np.sin((299 + np.arange(1, 3)) / 3)
    assert abs(stiff.predict(panel).values[0, :, 0].numpy() - float(panel.values[0, -1, 0])).max() < 0.05
    assert abs(free.predict(panel).values[0, :, 0].numpy() - truth).max() < 0.05
    assert stiff.facts["λ"] == "1e+09"


def test_windows_are_thinned_without_losing_an_hour() -> None:
    panel = from_array(np.random.default_rng(5).normal(size=(3, 500)), step="h")
    task = Task(target="y", context=24, horizon=4)
    parts = split(panel, task, stop=0.1, calibrate=0.0)
    source = Source(panel, roles_of(task, panel), fit_scaling(panel, ("y",), "standard"), 24, 4)
    thin = _thinning(Ridge(most=100), source, parts.train)
    assert np.gcd(thin.other, 24) == 1
    assert 1100 / 24 < 1300 / thin.other <= 100 and 1300 / 24 / thin.phase <= 100
    few, all_ = (forecast.fit(panel, task, Ridge(most=m), Training(calibrate=0.0)) for m in (100, 100_000))
    assert not torch.equal(few.weights["weight"], all_.weights["weight"])


def test_phase_weighs_the_hour_at_which_forecasts_are_made() -> None:
    """The origin's hour decides what comes next; the weight follows the series' end."""
    draw = np.random.default_rng(6)
    hour = np.arange(24 * 40) % 24
    y = np.where(hour < 12, 0.0, np.repeat(draw.normal(size=40), 24) * np.where(hour == 12, 1, hour)) + 0.05 * draw.normal(size=960)
    panel = from_array(y[:-9], step="h")
    task = Task(target="y", context=6, horizon=1)
    miss = []
    for phase in (0.0, 0.9):
        model = forecast.fit(panel, task, Ridge(phase=phase), Training(calibrate=0.0))
        origins = range(24 * 5 + 14, 950, 24)
        miss.append(np.mean([abs(float(model.predict(panel, origin=o).values) - y[o + 1]) for o in origins]))
    assert miss[1] < miss[0]
