"""Does regularisation help a stacked LSTM? The lesson's three scripts, the same net with nothing held back, its advice, and our default."""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from common.data import find
from common.tables import Table, page

import foretell as ft
from foretell import Task, Training, forecast
from foretell.backtesting import cuts_of
from foretell.diagnosis import Diagnosis, diagnose
from foretell.nets import Ridge, StackedLSTM
from foretell.nets.stacked_lstm import presets

TETUAN, LESSON = "power/tetuan_power/tetuan_hourly.csv.gz", "power/seed_power_3month/power_usage_dataset_3month.csv"
DAYS = 122  # as long as the lesson's own file
EPOCHS = 6  # of the long run, cut for time
STOP = 0.125  # of what is left when the test part has been cut off: 70/10/20


class Contender(NamedTuple):
    """A net and its training."""

    name: str
    net: Ridge | StackedLSTM
    training: Training


@dataclass(frozen=True)
class Race:
    """A question asked of a part of Tetuan. `days` None is the whole year; `epochs` None is as many as each script says."""

    about: str
    days: int | None
    horizon: int
    epochs: int | None

    def panel(self) -> ft.Panel:
        """The data, calendar included."""
        path = find(TETUAN)
        assert path is not None  # main has looked
        panel = ft.read(path, time="Date").with_calendar("hour", "weekday")
        return panel if self.days is None else panel.until(24 * self.days - 1)

    def task(self, panel: ft.Panel) -> Task:
        """Context 168; weather only in the past; the point forecast alone, so that the loss is the lesson's."""
        return Task(target="Usage", known=ft.calendar_of(panel), context=168, horizon=self.horizon, levels=())

    def rows(self) -> list[Contender]:
        """Ridge, the presets, our default."""
        cut = {"stop": STOP, "calibrate": 0.0}
        limit = {} if self.epochs is None else {"epochs": self.epochs}
        lesson = [Contender(name, one.net, Training.model_validate({**one.training, **cut, **limit})) for name, one in presets().items()]
        # One hour ahead, every hour is an origin; a day ahead, the origins are those of the test.
        ours = StackedLSTM(in_phase=self.horizon > 1)
        usual = Training.model_validate(cut) if self.epochs != 1 else Training.model_validate({**cut, "epochs": 1})
        return [Contender("ridge", Ridge(), usual), *lesson, Contender("our default", ours, usual)]


RACES = {
    "lesson": Race(f"One hour ahead, {DAYS} days, epochs and patience as the scripts say", DAYS, 1, None),
    "year": Race(f"A day ahead, the whole year, the scripts cut to {EPOCHS} epochs", None, 24, EPOCHS),
}


def main() -> None:
    """All races on one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="nets fitted at the same time, each by one thread")
    parser.add_argument("--models", type=Path, help="a folder in which fitted models are kept, and not fitted again by the next run")
    parser.add_argument("--only", default=",".join(RACES), help="races, with commas between")
    parser.add_argument("--quick", action="store_true", help="one epoch on 30 days: shows that it runs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sheet = page("regularisation", "Does regularisation help a stacked LSTM?", PROTOCOL)
    if find(TETUAN) is None:
        sheet.publish([], quick=True, missing=[f"{TETUAN} is not in FORETELL_DATA (default ../shared/data)"])
        return
    races = [Race("A smoke run", 30, 1, 1)] if asked.quick else [RACES[name] for name in asked.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        tables = [run(race, asked.models or Path(folder), asked.jobs) for race in races]
    sheet.publish([*tables, *read_lesson()], quick=asked.quick)


PROTOCOL = """
Tetuan city load, hourly, chronological 70/10/20 (train, stop, test), context 168, hour and weekday known ahead, weather only in the past;
every net fitted once, before the test part, from one seed. `main`, `main2`, `main3`: the lesson's scripts; `plain`: `main` with neither
L2 nor dropout; `advice`: what the lesson recommends in the end. Training, stop and test error are mean absolute errors in those of the
seasonal naive before the test (1 = that error), measured again on the weights kept, without dropout. "Peaks low": by how much the highest tenth of the test
is forecast too low. Verdict and next step: `foretell.diagnosis`, from training and stop part alone. Seconds: one thread to a net, on a
machine that had other work at the same time.
"""


def run(race: Race, folder: Path, jobs: int) -> Table:
    """Every net fitted, tested and diagnosed."""
    panel = race.panel()
    task = race.task(panel)
    kept = fitted(race, folder, jobs)
    result = ft.backtest({name: lambda _, model=model: model for name, model in kept.items()}, panel, task=task, test=0.2, step=race.horizon)
    found = diagnose(kept, result, panel)
    return table(race, found, result, kept)


def fitted(race: Race, folder: Path, jobs: int) -> dict[str, ft.Forecaster]:
    """Each net in a process of its own; models come back as files."""
    rows = race.rows()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        paths = pool.map(fit, [race] * len(rows), range(len(rows)), [folder] * len(rows))
        return {row.name: ft.load(path) for row, path in zip(rows, paths, strict=True)}


def fit(race: Race, at: int, folder: Path) -> Path:
    """One net on what lies before the test."""
    torch.set_num_threads(1)
    row = race.rows()[at]
    path = folder / f"{race.about.partition(',')[0]}, {row.name}.foretell"
    if path.exists():
        return path
    panel = race.panel()
    task = race.task(panel)
    cut = cuts_of(panel, task, 1, race.horizon, 0.2)[0]
    folder.mkdir(parents=True, exist_ok=True)
    model = forecast.fit(panel.until(cut), task, row.net, row.training, watch=lambda p: told(row.name, p), checkpoint=path.with_suffix(".run"))
    ft.save(model, path)
    return path


def told(name: str, progress: object) -> None:
    """Who watches sees what is done."""
    print(name, progress, file=sys.stderr, flush=True)


def table(race: Race, found: Diagnosis, result: ft.Backtest, kept: Mapping[str, ft.Forecaster]) -> Table:
    """A row a net, the seasonal naive for comparison first."""
    scores = result.scores()
    naive = scores["seasonal_naive"]
    rows: list[Sequence[str]] = [("seasonal naive", "", "", f"{float(naive['MASE']):.3f}", f"{float(naive['WAPE']):.4f}", *[""] * 6)]
    for row, cells in zip(found.rows, zip(*found.cells().values(), strict=True), strict=True):
        _, train, stop, test, gap, low, epoch, verdict, advice = cells
        wape, seconds = f"{float(scores[row.model]['WAPE']):.4f}", f"{kept[row.model].facts['seconds']:.0f}"
        rows.append((row.model, train, stop, test, wape, gap, low, epoch, verdict, advice, seconds))
    heads = ("net", "training", "stop", "test", "test WAPE", "stop over training", "peaks low", "best epoch", "verdict", "try next", "seconds")
    span = f"{len(result.cutoff)} origins, {result.clock.local(int(result.cutoff.min()) + 1)} to {result.clock.local(int(result.cutoff.max()) + race.horizon)}"
    return Table(f"{race.about}: {span}", heads, rows)


def read_lesson() -> list[Table]:
    """The lesson's own file, for its format only: that it is read as it is, and that each preset learns from it."""
    path = find(LESSON)
    if path is None:
        return []
    panel = ft.read(path, time="Date").with_calendar("hour", "weekday")
    task = Task(target="Usage", known=ft.calendar_of(panel), context=168, horizon=1, levels=())
    torch.set_num_threads(1)
    short = panel.until(399)
    done = [name for name, one in presets().items() if forecast.fit(short, task, one.net, Training.model_validate({**one.training, "epochs": 1})).curves]
    facts = (
        ("rows", f"{panel.values.shape[1]:,}"),
        ("step", panel.clock.step),
        ("channels", ", ".join(panel.channels)),
        ("one epoch on its first 400 rows", ", ".join(done)),
    )
    return [Table("The lesson's own file, format only (it has no licence to show more)", ("what", "found"), facts)]


if __name__ == "__main__":
    main()
