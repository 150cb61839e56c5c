"""Seconds of one epoch of foretell's StackedLSTM, as JSON; run by benchmarks/lstm_speed.py."""

import argparse
import json

from shared import BATCH, CONTEXT, FEATURES, HORIZON, made_up, rows_for

import foretell as ft
from foretell import Optimizer, Task, Training, forecast
from foretell.nets import StackedLSTM

CHANNELS = ("y", *(f"x{i}" for i in range(1, FEATURES)))
LEAST = 1e-9  # a stop part of one window: nobody else judges an epoch while the clock runs


def main() -> None:
    """The second epoch, seen through the public API: gathering windows, forward, backward, optimiser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, required=True)
    parser.add_argument("--hidden", default="64,32")
    parser.add_argument("--default", type=int, default=0, help="1: the default configuration instead of the plain one")
    asked = parser.parse_args()
    panel = ft.from_array(made_up(rows_for(asked.windows) + HORIZON)[None], CHANNELS, step="h")
    if asked.default:
        # By default an epoch leaves out all windows but those of one hour; here it counts only how fast they go by.
        net, optimizer, task = StackedLSTM(in_phase=False), Optimizer(), Task(target="y", context=CONTEXT, horizon=HORIZON)
    else:
        hidden = tuple(int(width) for width in asked.hidden.split(","))
        net = StackedLSTM(hidden=hidden, dropout=0.0, segment=1, ahead=0, centre="none", ridge=False)
        optimizer, task = Optimizer(clip=None), Task(target="y", context=CONTEXT, horizon=HORIZON, levels=())
    model = forecast.fit(panel, task, net, Training(epochs=2, batch=BATCH, optimizer=optimizer, stop=LEAST, calibrate=0))
    assert model.curves is not None
    print(json.dumps({"windows": model.parts[0].rows, "seconds": float(model.curves.seconds[-1]), "versions": f"foretell {ft.__version__}"}))


if __name__ == "__main__":
    main()
