"""The highest resident memory of one piece of foretell's work on a large panel, as JSON; run by benchmarks/memory.py."""

import argparse
import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import torch

import foretell as ft
from foretell import Task, Training, forecast
from foretell.nets import Ridge, StackedLSTM

CALENDAR = ("weekday", "month", "dayofyear")  # two channels each
BATCH, CONTEXT, HORIZON = 4096, 28, 7
NET = StackedLSTM(hidden=(8,), dropout=0.0)
PACKAGE = str(Path(ft.__file__).parent)


def main() -> None:
    """The work on a small panel, then on the large one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True)
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    asked = parser.parse_args()
    small = panel_of(500, 300) if asked.work == "each" else panel_of(40, asked.steps)
    peak_of(asked.work, small, 2)
    batch, _, _ = peak_of(asked.work, small, 2)
    panel = panel_of(asked.series, asked.steps)
    peak, seconds, where = peak_of(asked.work, panel, asked.seconds)
    print(json.dumps({"panel": size_of(panel), "batch": max(0, batch - size_of(small)), "peak": peak, "seconds": seconds, "where": where}))


def peak_of(work: str, panel: ft.Panel, seconds: int) -> tuple[int, float, str]:
    """Bytes that the work needs at its highest beyond those before it, how long it took, and where that was."""
    model = forecast.fit(panel_of(len(panel), 300), task_of(panel), Ridge(), Training()) if work == "predict" else None
    Path("/proc/self/clear_refs").write_text("5")  # the peak counter starts again from what is resident now
    before, began = resident("VmRSS"), time.perf_counter()
    with Watch() as watch:
        if model is None:
            do(work, panel, seconds)
        else:
            model.predict(panel)
    return resident("VmHWM") - before, time.perf_counter() - began, watch.where


def size_of(panel: ft.Panel) -> int:
    return panel.values.numel() * panel.values.element_size()


def panel_of(series: int, steps: int) -> ft.Panel:
    """Weekly seasons of different heights, with noise."""
    values = torch.randn(series, steps, generator=torch.Generator().manual_seed(0))
    values += torch.arange(steps).mul(2 * torch.pi / 7).sin()
    return ft.from_array(values, step="D").with_calendar(*CALENDAR)


def task_of(panel: ft.Panel) -> Task:
    return Task(target="y", known=ft.calendar_of(panel), context=CONTEXT, horizon=HORIZON)


def do(work: str, panel: ft.Panel, seconds: int) -> None:
    """One piece of work; what would take hours is interrupted as a user would, with Ctrl-C."""
    task = task_of(panel)
    once = Training(epochs=1, batch=BATCH)
    if work in ("ridge", "predict"):
        forecast.fit(panel, task, Ridge(), Training())
    elif work == "net":
        forecast.fit(panel, task, NET, once.model_copy(update={"stop": 0.45, "calibrate": 0.45}))
    elif work == "epoch":
        with interrupted(seconds):
            forecast.fit(panel, task, NET.model_copy(update={"ridge": False}), once)
    else:
        with interrupted(seconds):
            forecast.fit(panel.pick(*panel.series[:500]), task, NET, once.model_copy(update={"batch": 64}), per_series=True)


@contextmanager
def interrupted(seconds: int) -> Iterator[None]:
    """Ctrl-C after so many seconds, and nothing said about it."""
    signal.signal(signal.SIGALRM, _interrupt)
    signal.alarm(seconds)
    with suppress(KeyboardInterrupt):
        yield
    signal.alarm(0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def resident(field: str) -> int:
    """Bytes, as the system counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


class Watch:
    """Looks every millisecond from a thread of its own; `where` is the deepest line of foretell at the highest resident memory."""

    def __init__(self) -> None:
        self.where, self.most, self.over = "", 0, False
        self.steps: list[tuple[int, str]] = []
        self.main, self.thread = threading.get_ident(), threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over = True
        self.thread.join()
        for size, where in self.steps:
            print(f"{size / 2**20:.0f} MB  {where}", file=sys.stderr)

    def _look(self) -> None:
        while not self.over:
            size = resident("VmRSS")
            if size > self.most * 1.02:
                self.most = size
                frames = traceback.extract_stack(sys._current_frames()[self.main])
                inside = [f for f in frames if f.filename.startswith(PACKAGE)]
                places = [f"{f.filename[len(PACKAGE) + 1 :]}:{f.lineno}" for f in inside[-3:]]
                self.where = " > ".join(places) or self.where
                self.steps.append((size, self.where))
            time.sleep(0.001)


if __name__ == "__main__":
    main()
