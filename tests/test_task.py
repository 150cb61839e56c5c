"""Task, windows and gathering: fast = naive twins on panels with gaps; every wrong question gets its sentence."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import naive
from foretell import Panel, Task, TaskError, from_array
from foretell.feed import Feed
from foretell.task import Roles, Source, Span, fit_scaling, roles_of, split, windows
from laws import TASK, rich


def holed(seed: int) -> Panel:
    """A rich panel of random size, a quarter of its cells empty, with a series that ends early."""
    draw = np.random.default_rng(seed)
    panel = rich(("a", "b"), seed=seed, steps=int(draw.integers(25, 40)))
    values, shared = panel.values.clone(), panel.shared.clone()
    values[torch.tensor(draw.random(values.shape) < 0.25)] = torch.nan
    shared[torch.tensor(draw.random(shared.shape) < 0.25)] = torch.nan
    values[1, 20:] = torch.nan
    calendar = tuple(r for r in panel.calendar if r.kind != "index")
    return replace(panel, values=values, shared=shared[: int(draw.integers(20, 45))], calendar=calendar)


def source_of(panel: Panel, context: int, horizon: int, target: tuple[str, ...] = ("y",)) -> Source:
    task = Task(target=target, known=("sun", "hour_sin", "price", "weekend", "hour_cos"), context=context, horizon=horizon)
    scaling = fit_scaling(panel, task.target, "standard")
    return Source(panel, roles_of(task, panel), scaling, context, horizon)


def scaled_by_hand(panel: Panel) -> naive.Scaled:
    """Mean and deviation of each series and channel; what the clock decides is taken as it is."""

    @cache
    def facts(channel: str, series: int) -> tuple[float, float]:
        seen = panel.values[series, :, panel.own.index(channel)] if channel in panel.own else panel.shared[:, panel.common.index(channel)]
        known = [v for v in seen.tolist() if math.isfinite(v)]
        mean = sum(known) / len(known)
        return mean, math.sqrt(sum((v - mean) ** 2 for v in known) / len(known))

    def scaled(channel: str, series: int, value: float) -> float:
        mean, deviation = facts(channel, series) if channel in panel.channels else (0.0, 1.0)
        return (value - mean) / deviation

    return scaled


@pytest.mark.parametrize("target", [("y",), ("x", "y")])
@pytest.mark.parametrize("seed", range(4))
def test_gather_is_its_twin(seed: int, target: tuple[str, ...]) -> None:
    panel = holed(seed)
    source = source_of(panel, 6, 4, target)
    series, origin = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([5, 9, 30, 24, 3])
    batch = source.batch(series, origin)
    for n, (s, o) in enumerate(zip(series.tolist(), origin.tolist(), strict=True)):
        window = naive.gathered(panel, source.roles, s, o, 6, 4, scaled_by_hand(panel))
        for name, got in (("past", batch.past[n]), ("observed", batch.observed[n].double())):
            assert torch.allclose(got, torch.tensor(window[name], dtype=torch.float64), atol=1e-9), name
        goal = torch.tensor(window["goal"], dtype=torch.float64)
        assert torch.equal(batch.seen[n], goal.isfinite())
        assert torch.allclose(batch.goal[n], goal.nan_to_num(0.0), atol=1e-9)
        future = torch.tensor(window["future"], dtype=torch.float64)
        assert torch.allclose(batch.future[n][future.isfinite()], future[future.isfinite()], atol=1e-9)
        assert batch.future.isfinite().all()


@pytest.mark.parametrize("seed", range(4))
def test_a_feed_gives_what_gathering_gives(seed: int) -> None:
    """Joined ahead or cell by cell, the windows of the training loop are the same."""
    panel = holed(seed)
    source = source_of(panel, 4, 2)
    parts = split(panel, Task(target="y", context=4, horizon=2), stop=0.3, calibrate=0.0)
    for apart in (False, True):
        fast = Feed.of(source, parts, 2, apart=apart)
        slow = replace(fast, table=None)
        assert fast.table is not None
        members = torch.arange(2)
        numbers = torch.arange(int(fast.counts.min())).flip(0)[None].repeat(2, 1)
        numbers[1, -1] = -1
        batches = [(fast.batch(members, numbers), slow.batch(members, numbers)), *zip(fast.stop_batches(members), slow.stop_batches(members), strict=True)]
        for one, two in batches:
            for name, a, b in zip(one._fields, one, two, strict=True):
                whole = torch.ones_like(a, dtype=torch.bool) if name != "goal" else one.seen
                assert torch.equal(a[whole], b[whole]), name
        assert not fast.batch(members, numbers).seen[1, -1].any()


@pytest.mark.parametrize("target", [("y",), ("y", "x")])
@pytest.mark.parametrize("seed", range(6))
def test_usable_windows_are_their_twin(seed: int, target: tuple[str, ...]) -> None:
    panel = holed(seed)
    source = source_of(panel, 5, 3, target)
    span = Span(torch.tensor([-1, 6]), torch.tensor([panel.values.shape[1] - 1, 18]))
    expected = [(s, r) for s in (0, 1) for r in naive.usable_origins(panel, target, s, int(span.first[s]), int(span.last[s]), 5, 3)]
    found = windows(source, span)
    series, row = found.at(torch.arange(len(found)))
    assert list(zip(series.tolist(), row.tolist(), strict=True)) == expected
    assert found.counts.tolist() == [len(expected)]
    apart = windows(source, span, by_series=True)
    assert apart.counts.tolist() == [sum(s == which for s, _ in expected) for which in (0, 1)]


@given(length=st.integers(1, 300), horizon=st.integers(1, 20), stop=st.sampled_from([0.0, 0.1, 0.2, 0.45]), calibrate=st.sampled_from([0.0, 0.1, 0.2, 0.45]))
def test_parts_are_in_order_and_share_nothing(length: int, horizon: int, stop: float, calibrate: float) -> None:
    panel = from_array(np.ones(length))
    train, second, third = split(panel, Task(target="y", horizon=horizon, context=1), stop=stop, calibrate=calibrate)
    assert int(train.first) == -1 and int(third.last) == length - 1
    assert torch.equal(train.last, second.first) and torch.equal(second.last, third.first)
    for part, share in ((second, stop), (third, calibrate)):
        steps = int(part.last - part.first)
        assert steps == (0 if share == 0 else max(horizon, round(share * length)))


def test_goals_of_a_window_lie_in_its_part_alone() -> None:
    panel = rich(steps=120)
    parts = split(panel, TASK, stop=0.2, calibrate=0.2)
    source = Source(panel, roles_of(TASK, panel), fit_scaling(panel, TASK.target, "standard"), 12, 3)
    for span in parts:
        found = windows(source, span)
        series, row = found.at(torch.arange(len(found)))
        assert len(found)
        assert (row >= span.first[series]).all() and (row + 3 <= span.last[series]).all()
    count = [len(windows(source, span)) for span in parts]
    assert count[1] == count[2] - 0 or abs(count[1] - count[2]) < 15


def test_roles_are_in_the_order_a_net_reads() -> None:
    roles = roles_of(TASK, rich())
    assert roles == Roles(("y",), ("x", "wind"), ("price", "sun", "hour_sin", "hour_cos", "weekend", "index_y"))
    assert roles.features == ("y", "x", "wind", "price", "sun", "hour_sin", "hour_cos", "weekend", "index_y")
    mixed = Task(target=["x", "y"], known=("weekend", "sun"), past=(), horizon=1)
    assert roles_of(mixed, rich()).features == ("x", "y", "sun", "weekend")


@pytest.mark.parametrize(("step", "steps"), [("h", 168), ("30min", 336), ("D", 28), ("MS", 24), ("W", 104), ("YS", 5)])
def test_auto_context_follows_the_clock(step: str, steps: int) -> None:
    assert Task(target="y", horizon=5).steps_back(from_array([1.0], step=step).clock) == steps
    assert Task(target="y", horizon=500).steps_back(from_array([1.0], step=step).clock) == 500


WRONG = {
    "horizon 0": ({"target": "y", "horizon": 0}, "horizon.*at least 1|horizon.*greater than or equal to 1.*got 0"),
    "context 0": ({"target": "y", "horizon": 1, "context": 0}, "context.*got 0"),
    "context word": ({"target": "y", "horizon": 1, "context": "long"}, "context.*'long'"),
    "no horizon": ({"target": "y"}, '"horizon" must be given'),
    "no target": ({"target": (), "horizon": 1}, "target.*at least 1"),
    "level": ({"target": "y", "horizon": 1, "levels": (0.1, 1.0)}, "levels.*less than 1.*got 1"),
    "typo": ({"target": "y", "horizon": 1, "knwon": "x"}, 'no option "knwon": did you mean "known"'),
    "two roles": ({"target": "y", "known": ("x", "y"), "horizon": 1}, 'channel "y" is named twice; each channel is target, known or past'),
    "past and known": ({"target": "y", "known": "x", "past": "x", "horizon": 1}, 'channel "x" is named twice'),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_task_gets_its_sentence(case: str) -> None:
    options, words = WRONG[case]
    with pytest.raises(TaskError, match=words) as caught:
        Task.model_validate(options)
    assert "\n" not in str(caught.value)


def test_a_task_is_frozen_and_goes_through_json() -> None:
    task = Task(target=["y"], known="x", levels=[0.9, 0.1], horizon=2, floor=0)
    assert Task.model_validate_json(task.model_dump_json()) == task
    assert (task.target, task.known, task.levels) == (("y",), ("x",), (0.1, 0.9))
    with pytest.raises(Exception, match="frozen"):
        task.horizon = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "Y"}, 'no .*channel "Y": did you mean "y"'),
        ({"target": "y", "known": "hour_sinn"}, 'no known channel "hour_sinn": did you mean "hour_sin"'),
        ({"target": "y", "past": ("wund",)}, 'no past channel "wund": did you mean "wind"'),
        ({"target": "hour_sin"}, 'no .*channel "hour_sin"'),
    ],
)
def test_a_name_the_panel_lacks_is_told_with_the_nearest(options: dict[str, str], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        roles_of(Task.model_validate({"horizon": 1, **options}), rich())
