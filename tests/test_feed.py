"""Feed: every window is handed out once, to the member it belongs to, by number; empty slots teach nothing."""

from dataclasses import replace

import pytest
import torch

from foretell import Panel, Task
from foretell.feed import Feed
from foretell.task import Batch, Source, fit_scaling, roles_of, split, windows
from laws import PLAIN, plain


def feed_of(panel: Panel, *, apart: bool, members: int = 3, stop: float = 0.2, task: Task = PLAIN) -> Feed:
    source = Source(panel, roles_of(task, panel), fit_scaling(panel, task.target, "identity"), 12, 3)
    return Feed.of(source, split(panel, task, stop=stop, calibrate=0.1), members, apart=apart)


def uneven() -> Panel:
    panel = plain(100)
    values = panel.values.clone()
    values[1, 30:34, 0] = torch.nan
    values[2, :50] = torch.nan
    return replace(panel, values=values)


def test_each_member_gets_its_own_series() -> None:
    panel = uneven()
    feed = feed_of(panel, apart=True)
    assert len(feed.counts.unique()) > 1
    for member in range(3):
        count = int(feed.counts[member])
        batch = feed.batch(torch.tensor([member]), torch.arange(count)[None])
        last = batch.past[0, batch.observed[0, :, -1, 0], -1, 0]
        assert torch.isin(last, panel.values[member, :, 0]).all()
        assert batch.seen.any((2, 3)).all()


def test_together_every_member_gets_all() -> None:
    feed = feed_of(uneven(), apart=False)
    assert feed.counts.tolist() == [len(feed.train)] * 3
    batch = feed.batch(torch.tensor([0, 2]), torch.tensor([[0, 5], [5, 0]]))
    assert torch.equal(batch.past[0, 0], batch.past[1, 1]) and torch.equal(batch.goal[0, 1], batch.goal[1, 0])


@pytest.mark.parametrize("apart", [False, True])
def test_the_stop_part_is_handed_out_once_and_whole(apart: bool) -> None:
    panel = uneven()
    feed = feed_of(panel, apart=apart)
    stop = windows(feed.source, split(panel, PLAIN, stop=0.2, calibrate=0.1).stop, by_series=True)
    total = torch.zeros(3, dtype=torch.long)
    for batch in feed.stop_batches(torch.arange(3)):
        total += batch.seen.any(2).any(2).sum(1)
    assert total.tolist() == (stop.counts.tolist() if apart else [int(stop.counts.sum())] * 3)


@pytest.mark.parametrize("apart", [False, True])
def test_without_a_stop_part_nothing_is_handed_out(apart: bool) -> None:
    feed = feed_of(plain(100), apart=apart, stop=0.0)
    assert list(feed.stop_batches(torch.arange(3))) == []


@pytest.mark.parametrize("apart", [False, True])
def test_an_empty_slot_has_nothing_seen(apart: bool) -> None:
    batch = feed_of(plain(100), apart=apart).batch(torch.arange(3), torch.tensor([[0, 1], [2, -1], [-1, -1]]))
    assert batch.seen.any(2).any(2).tolist() == [[True, True], [True, False], [False, False]]
    assert all(x.isfinite().all() for x in (batch.past, batch.future, batch.goal))


def test_past_values_are_copies_of_the_panel() -> None:
    panel = plain(60, ("a", "b"))
    feed = feed_of(panel, apart=True, members=2)
    batch = feed.batch(torch.tensor([1]), torch.tensor([[0, 4]]))
    series, origin = feed.train.at(torch.tensor([int(feed.counts[0]), int(feed.counts[0]) + 4]))
    assert series.tolist() == [1, 1]
    for n, o in enumerate(origin.tolist()):
        assert torch.equal(batch.past[0, n], panel.values[1, o - 11 : o + 1])
        assert torch.equal(batch.goal[0, n], panel.values[1, o + 1 : o + 4, :1])


@pytest.mark.parametrize("spans", [None, (12, 5, 9)])
def test_a_joined_table_hands_out_what_the_views_do(spans: tuple[int, ...] | None) -> None:
    """Gaps inside, before and after; a known channel with gaps ahead; contexts that differ by series."""
    panel = uneven()
    values = panel.values.clone()
    values[0, 20:24, 1] = values[1, 60:63, 1] = values[2, 95:, 1] = torch.nan
    panel = replace(panel, values=values)
    task = PLAIN.model_copy(update={"known": ("x",)})
    source = Source(panel, roles_of(task, panel), fit_scaling(panel, task.target, "identity"), 12, 3, spans=None if spans is None else torch.tensor(spans))
    feed = Feed.of(source, split(panel, task, stop=0.2, calibrate=0.1), 3, apart=False)
    series, origin = feed.train.at(torch.arange(len(feed.train)))
    assert feed.table is not None and int(origin.min()) == (11 if spans is None else 4)
    for name, fast, plainly in zip(Batch._fields, feed.table.batch(source, series, origin), source.batch(series, origin), strict=True):
        assert torch.equal(fast, plainly), name
