"""How much faster do 64 tiny nets train side by side on the member axis than one after another?"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from common.spread import Spread, ratios
from common.tables import Table, page

import foretell as ft
from foretell import Task, Training, forecast
from foretell.feed import Feed
from foretell.nets import StackedLSTM
from foretell.nets.layers import Shape
from foretell.noise import streams
from foretell.supervised import train
from foretell.task import Source, fit_scaling, roles_of, split

STEPS, CONTEXT, HORIZON = 300, 24, 7
NETS = {
    "24 recurrent steps": StackedLSTM(hidden=(8,), dropout=0.0, segment=1, ridge=False),
    "2 recurrent steps": StackedLSTM(hidden=(8,), dropout=0.0, segment=12, ridge=False),
}
DEFAULT = StackedLSTM(hidden=(8,))
TASK = Task(target="y", context=CONTEXT, horizon=HORIZON)


class Contest(NamedTuple):
    """The same work twice: of the whole panel in one go, and of one series at a time."""

    about: str
    batch: int
    epochs: int
    together: Callable[[ft.Panel, Training], None]
    alone: Callable[[ft.Panel, Training], None]


def main() -> None:
    """Pairs in turn: together, then alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one pair of 4 nets, two epochs")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads, for both")
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    pairs, nets, epochs = (1, 4, 2) if asked.quick else (asked.pairs, 64, 10)
    sheet = page("members", "64 tiny nets side by side", PROTOCOL)
    torch.set_num_threads(asked.threads)
    panel = made_up(nets)
    rows = [raced(contest, panel, pairs) for contest in contests(epochs)]
    columns = ("what", "batch", "epochs", "together, s", "one after another, s", "times as fast")
    sheet.publish([Table(f"{nets} nets, {asked.threads} thread(s), median [least, most] of {pairs} pairs", columns, rows)], quick=asked.quick)


def contests(epochs: int) -> list[Contest]:
    """With and without all that a fit does around training; the default net (ridge start, dropout) has rows of its own."""
    found = []
    for batch in (64, 16):
        for about, net in NETS.items():
            loop = looped(net)
            found += [Contest(f"training loop, {about}", batch, epochs, loop, loop)]
            found += [Contest(f"whole fit, {about}", batch, epochs, fitted(net, True), fitted(net, False))]
        found += [Contest("whole fit, 8 units, else by default", batch, epochs, fitted(DEFAULT, True), fitted(DEFAULT, False))]
    return found


def raced(contest: Contest, panel: ft.Panel, pairs: int) -> tuple[object, ...]:
    """One row; a first pair of one epoch warms up."""
    each = [panel.pick(name) for name in panel.series]
    together, alone = [], []
    for turn in range(pairs + 1):
        training = Training(epochs=contest.epochs if turn else 1, batch=contest.batch, patience=contest.epochs, stop=0.1, calibrate=0.1)
        together.append(seconds(contest.together, [panel], training))
        alone.append(seconds(contest.alone, each if turn else each[:2], training))
        print(f"{contest.about}, batch {contest.batch}, pair {turn} of {pairs}: {alone[-1] / together[-1]:.1f}", file=sys.stderr)
    ratio = ratios(alone[1:], together[1:])
    return (contest.about, contest.batch, contest.epochs, f"{Spread.of(together[1:]):.2f}", f"{Spread.of(alone[1:]):.1f}", f"**{ratio:.1f}**")


def seconds(work: Callable[[ft.Panel, Training], None], panels: Sequence[ft.Panel], training: Training) -> float:
    """For all of them, one after another."""
    began = time.perf_counter()
    for panel in panels:
        work(panel, training)
    return time.perf_counter() - began


def fitted(net: StackedLSTM, per_series: bool) -> Callable[[ft.Panel, Training], None]:
    """forecast.fit, bands and all."""

    def work(panel: ft.Panel, training: Training) -> None:
        forecast.fit(panel, TASK, net, training, per_series=per_series)

    return work


def looped(net: StackedLSTM) -> Callable[[ft.Panel, Training], None]:
    """The training loop alone, on windows that are ready."""

    def work(panel: ft.Panel, training: Training) -> None:
        roles, parts = roles_of(TASK, panel), split(panel, TASK, stop=training.stop, calibrate=training.calibrate)
        scaling = fit_scaling(panel.until(panel.start + parts.train.last), TASK.target, training.scale)
        source = Source(panel, roles, scaling, CONTEXT, HORIZON)
        shape = Shape(len(panel), CONTEXT, len(roles.features), HORIZON, len(roles.known), len(roles.target), len(TASK.levels), 0)
        feed = Feed.of(source, parts, len(panel), apart=True)
        train(net.build(shape, streams(training.seed, panel.series)), feed, training, names=panel.series, levels=TASK.levels)

    return work


def made_up(series: int) -> ft.Panel:
    """Daily values with weekly seasons of different heights, and noise."""
    noise = torch.randn(series, STEPS, generator=torch.Generator().manual_seed(0))
    height = torch.linspace(0.5, 2, series)[:, None]
    return ft.from_array(height * torch.arange(STEPS).mul(2 * torch.pi / 7).sin() + 0.3 * noise, step="D")


PROTOCOL = """64 series of 300 days, a StackedLSTM of 8 units for each; context 24, horizon 7, three quantiles beside the point.
Together is one call with per_series=True, one after another is a call for each series; the nets and what they learn are the same.
All epochs are run, nobody stops early. Ratios are taken pair by pair."""

if __name__ == "__main__":
    main()
