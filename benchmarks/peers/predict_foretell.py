"""Seconds of warm predictions of one loaded foretell model, as JSON; run by benchmarks/latency.py."""

import argparse
import json
import tempfile
import time
from pathlib import Path

from shared import CONTEXT, FUTURE, HORIZON, PAST, year

import foretell as ft
from foretell import Task, Training, forecast
from foretell.nets import Ridge, StackedLSTM


def main() -> None:
    """Fit a little, save, load, and ask many times; how good the model is does not matter here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=("ridge", "lstm"), required=True)
    parser.add_argument("--calls", type=int, required=True)
    asked = parser.parse_args()
    values, start = year()
    panel = ft.from_array(values[None], ("y", *PAST), step="h", start=start).with_calendar("hour", "weekday", "weekend")
    task = Task(target="y", known=ft.calendar_of(panel), context=CONTEXT, horizon=HORIZON)
    assert len(task.known) == FUTURE
    net = Ridge() if asked.net == "ridge" else StackedLSTM()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.foretell"
        ft.save(forecast.fit(panel, task, net, Training(epochs=1)), path)
        model = ft.load(path)
    seconds = []
    for _ in range(asked.calls + 3):
        began = time.perf_counter()
        model.predict(panel)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"predict": sorted(seconds[3:])[asked.calls // 2], "versions": f"foretell {ft.__version__}"}))


if __name__ == "__main__":
    main()
