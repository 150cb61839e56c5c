"""Every state-item series of M5, a net for each: how long does it take, how much memory, how large is the file, and is it of use?"""

import argparse
import itertools
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from common.data import DATA
from common.tables import Table, page

import foretell as ft
from foretell import Forecaster, Panel, SeasonalNaive, Task, Training, forecast
from foretell.nets import PeriodKernel, SeasonalRidge
from foretell.packs import Done, fit_each

HORIZON, WHOLE = 28, 30_490
SALES = "sales_all30490_d1495_d1941.parquet"
GOALS = {"minutes": 20.0, "GB": 6.0, "MB": 500.0}


@dataclass(frozen=True)
class Took:
    """What the nets took: seconds by part, GB at the highest, MB of the file."""

    read: float
    fit: float
    forecast: float
    save: float
    load: float
    memory: float
    file: float

    @property
    def seconds(self) -> float:
        """From the files on disk to forecasts of every series and the models in one file."""
        return self.read + self.fit + self.forecast + self.save


def main() -> None:
    """One run: the nets first, so that what they take is not what others have left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=0, help="so many series, evenly spaced; 0: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="one thread each")
    parser.add_argument("--size", type=int, default=64, help="series trained in one computation")
    parser.add_argument("--folder", type=Path, help="where packs are kept, so that a killed run goes on; left out: a temporary one")
    parser.add_argument("--quick", action="store_true", help="a few series and epochs: shows that it runs")
    asked = parser.parse_args()
    sheet = page("scale", "A net for every state-item series of M5", PROTOCOL)
    folder = DATA / "retail" / "m5"
    if not (folder / SALES).is_file():
        sheet.publish([], quick=True, missing=[f"{SALES} is not in FORETELL_DATA (default ../shared/data)"])
        return
    torch.set_num_threads(1)
    began = time.perf_counter()
    panel = ft.read_m5(folder, "state-item", sales=SALES).with_calendar("weekday", "weekend")
    read = time.perf_counter() - began
    count = 12 if asked.quick else asked.items or len(panel)
    panel = panel.pick(*panel.series[:: max(1, len(panel) // count)][:count])
    before = panel.until(panel.last("sales") - HORIZON)
    training = Training(loss="mse", scale="mean", epochs=3 if asked.quick else 60)
    took, model = trained(panel, before, training, asked, read)
    points = {
        name: one.predict(panel, origin=last_of(before)).values[..., 0] for name, one in {"a net per item": model, **neighbours(before, training)}.items()
    }
    sheet.publish([effort(took, model, before, asked.processes), accuracy(points, panel, before)], quick=asked.quick or bool(asked.items))


def task_of(panel: Panel) -> Task:
    """28 days ahead, price, snap, events and the calendar known."""
    known = ("price", "snap", "cultural", "national", "religious", "sporting", *ft.calendar_of(panel))
    return Task(target="sales", known=known, context=56, horizon=HORIZON, floor=0)


def trained(panel: Panel, before: Panel, training: Training, asked: argparse.Namespace, read: float) -> tuple[Took, Forecaster]:
    """All nets, their forecasts, their file."""
    with tempfile.TemporaryDirectory() as scratch:
        ticks = [time.perf_counter()]
        model = fit_each(before, task_of(before), PeriodKernel(), training, size=asked.size, processes=asked.processes, folder=asked.folder, watch=told)
        ticks.append(time.perf_counter())
        model.predict(panel, origin=last_of(before))
        ticks.append(time.perf_counter())
        file = Path(scratch) / "models.foretell"
        ft.save(model, file)
        ticks.append(time.perf_counter())
        ft.load(file)
        ticks.append(time.perf_counter())
        size = file.stat().st_size / 1e6
    fit, ahead, save, load = (b - a for a, b in itertools.pairwise(ticks))
    own, others = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Took(read, fit, ahead, save, load, (own + (asked.processes if asked.processes > 1 else 0) * others) * 1024 / 1e9, size), model


def last_of(before: Panel) -> int:
    """The last step that was learned from; sales of all series end together."""
    return int(before.last("sales").max())


def neighbours(before: Panel, training: Training) -> dict[str, Forecaster]:
    """The ridge per item that the nets start from, and the seasonal naive."""
    task = task_of(before)
    ridge = fit_each(before, task, SeasonalRidge(), training, size=512, processes=1)
    return {"a seasonal ridge per item": ridge, "seasonal naive": forecast.fit(before, task, SeasonalNaive(), Training(calibrate=0))}


def effort(took: Took, model: Forecaster, before: Panel, processes: int) -> Table:
    """Seconds, memory and the file, beside the goals, and as they would be of all item-store series."""
    count, more = len(before), WHOLE / len(before)
    weights = sum(w[0].numel() for w in model.weights.values() if w.is_floating_point())
    minutes = (took.seconds / 60, (took.read + (took.seconds - took.read) * more) / 60)
    rows = [
        ("read the files, s", f"{took.read:.1f}", "", ""),
        ("train all nets, s", f"{took.fit:.1f}", "", f"{took.fit * more:.0f}"),
        ("forecast all, s", f"{took.forecast:.1f}", "", f"{took.forecast * more:.0f}"),
        ("save all in one file, s", f"{took.save:.1f}", "", f"{took.save * more:.0f}"),
        ("**together, minutes**", f"**{minutes[0]:.1f}**", f"≤ {GOALS['minutes']:g}", f"{minutes[1]:.1f}"),
        ("load the file again, s", f"{took.load:.1f}", "", f"{took.load * more:.0f}"),
        ("highest memory of all processes, at most, GB", f"{took.memory:.2f}", f"≤ {GOALS['GB']:g}", ""),
        ("the file, MB", f"{took.file:.0f}", f"≤ {GOALS['MB']:g}", f"{took.file * more:.0f}"),
        ("weights an item", f"{weights:,}", "≤ 10,000", ""),
        ("left out, too short", f"{sum('has no net' in note for note in model.notes)}", "", ""),
    ]
    days, ways = last_of(before) + 1, f"{processes} processes of one thread" if processes > 1 else "one process of one thread"
    return Table(f"{count:,} series × {days} days, {ways}", ("", "measured", "goal", f"extrapolated to {WHOLE:,} series"), rows)


def accuracy(points: dict[str, torch.Tensor], panel: Panel, before: Panel) -> Table:
    """Errors of the last 28 days, which no model has seen, over the series that every row forecasts."""
    width = before.values.shape[1]
    truth = panel.channel("sales")[:, width : width + HORIZON].double()
    square = before.channel("sales").double().diff(dim=1).square().nanmean(1)
    both = torch.stack([one.isfinite().all(1) for one in points.values()]).all(0) & truth.isfinite().all(1) & (square > 0)
    body = []
    for name, point in points.items():
        error, of = (truth - point.double())[both], truth[both]
        rmsse = (error.square().mean(1) / square[both]).sqrt()
        body.append((name, f"{float(rmsse.mean()):.4f}", f"{float(error.abs().sum() / of.sum()):.4f}", f"{float(point[both].double().sum() / of.sum()):.3f}"))
    return Table(f"The last {HORIZON} days, {int(both.sum()):,} series", ("model", "mean RMSSE", "WAPE", "forecast sum / sold"), body)


def told(done: Done) -> None:
    """How far it is, for who watches."""
    print(f"{done.series:,} of {done.of:,} series, {done.failed} left out, {done.seconds:.0f} s gone, {done.left:.0f} s left", file=sys.stderr)


PROTOCOL = """All 3,049 items of M5 in three states, daily sales of 447 days with price, snap, the four kinds of events and the calendar known
ahead. The compact default, a net an item on its own seasonal ridge: own weights, own early stop, own best epoch, own periods; stop and calibrate
parts a tenth each; three quantiles. Trained on all but the last 28 days, which are then forecast. A series too short for context + horizon
before its stop part is left out by name. Memory is the highest resident size of the parent plus so many times that of the largest
worker. RMSSE: squared errors over the mean squared change from day to day since the first sale."""

if __name__ == "__main__":
    main()
