"""Seconds of one epoch of a Keras LSTM 64/32, as JSON; run by benchmarks/lstm_speed.py in Keras' own environment."""

import json
import time
from importlib import metadata

import keras
import numpy as np
from shared import BATCH, CONTEXT, FEATURES, HORIZON, made_up, rows_for, windows_asked


class Clock(keras.callbacks.Callback):
    """Seconds of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.began = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def main() -> None:
    """The second epoch: the first one traces the graph."""
    windows = windows_asked(__doc__)
    series = made_up(rows_for(windows))
    view = np.lib.stride_tricks.sliding_window_view(series, CONTEXT + HORIZON, axis=0)
    past, goal = np.ascontiguousarray(view[:, :, :CONTEXT].swapaxes(1, 2)), np.ascontiguousarray(view[:, 0, CONTEXT:])
    keras.utils.set_random_seed(0)
    layers = [keras.layers.LSTM(64, return_sequences=True), keras.layers.LSTM(32), keras.layers.Dense(HORIZON)]
    model = keras.Sequential([keras.Input((CONTEXT, FEATURES)), *layers])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    clock = Clock()
    model.fit(past, goal, batch_size=BATCH, epochs=2, shuffle=True, verbose=0, callbacks=[clock])
    backend = {"tensorflow": "tensorflow-cpu"}.get(keras.backend.backend(), keras.backend.backend())
    versions = f"keras {keras.__version__} on {backend} {metadata.version(backend)}"
    print(json.dumps({"windows": len(past), "seconds": clock.seconds[-1], "versions": versions}))


if __name__ == "__main__":
    main()
