"""Seconds of one epoch of the notebook's period-kernel network in Keras, one item, as JSON; run by benchmarks/per_item.py.

The network, loss, optimiser and schedule are the notebook's; it trains item after item, and builds and traces each anew.
"""

import json
import time
from importlib import metadata

import keras
import numpy as np
from item_shared import BATCH, CHANNELS, CONTEXT, KERNELS, made_up, windows_asked
from keras import layers, ops


class Blend(layers.Layer):
    """The weighted sum of a list of equal tensors, weights by softmax from `first`."""

    def __init__(self, first: list[float]) -> None:
        super().__init__()
        self.scores = self.add_weight(shape=(len(first),), initializer=keras.initializers.Constant(np.asarray(first)), name="scores")

    def call(self, parts: list) -> object:
        return ops.sum(ops.stack(parts, axis=-1) * ops.softmax(self.scores), axis=-1)


class PeriodNet(keras.Model):
    """A bank of convolutions on every channel, attention from sales to both tokens, smoothing, two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = [layers.Conv1D(32, k, padding="same") for k in KERNELS]
        self.blend = Blend([1.0] * len(KERNELS))
        self.lean = self.add_weight(shape=(len(CHANNELS) - 1,), initializer="ones", name="lean")
        self.attention = layers.MultiHeadAttention(4, 32)
        self.smooth, self.norm, self.drop = layers.Conv1D(32, 3, padding="same", activation="relu"), layers.LayerNormalization(), layers.Dropout(0.2)
        self.inner, self.head = layers.Dense(64, activation="relu"), layers.Dense(1, activation="relu")

    def call(self, inputs: object, training: bool = False) -> object:
        def features(channel: object) -> object:
            return self.blend([conv(channel[..., None]) for conv in self.bank])

        own, others = features(inputs[..., 0]), inputs[..., 1:]
        share = ops.softmax(self.lean * ops.mean(ops.cast(others != 0, "float32"), axis=1))
        each = ops.stack([features(others[..., i]) for i in range(len(CHANNELS) - 1)], axis=-1)
        aux = ops.sum(each * share[:, None, None], axis=-1)
        tokens = ops.reshape(ops.stack([own, aux], axis=1), (-1, 2, CONTEXT * 32))
        mixed = self.attention(tokens[:, :1], tokens)
        x = self.drop(self.norm(self.smooth(ops.reshape(mixed, (-1, CONTEXT, 32)))), training=training)
        return self.head(self.inner(x[:, -1]))


def peak_loss(truth: object, guess: object) -> object:
    """Squared error, weighted by exp(size over the batch's largest size)."""
    return ops.mean(ops.square(truth - guess) * ops.exp(ops.abs(truth) / ops.max(ops.abs(truth))))


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
    series = made_up(0, windows + CONTEXT)
    view = np.lib.stride_tricks.sliding_window_view(series, CONTEXT + 1, axis=0)[:windows]
    past, goal = np.ascontiguousarray(view[:, :, :CONTEXT].swapaxes(1, 2)), np.ascontiguousarray(view[:, :1, CONTEXT])
    keras.utils.set_random_seed(0)
    model, began = PeriodNet(), time.perf_counter()
    rate = keras.optimizers.schedules.CosineDecayRestarts(5e-4, first_decay_steps=1000, t_mul=2.0, m_mul=0.9, alpha=1e-5)
    model.compile(keras.optimizers.Adam(rate, clipnorm=0.5), peak_loss)
    clock = Clock()
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=20, restore_best_weights=True)
    model.fit(past, goal, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=[clock, stop])
    backend = {"tensorflow": "tensorflow-cpu"}.get(keras.backend.backend(), keras.backend.backend())
    versions = f"keras {keras.__version__} on {backend} {metadata.version(backend)}"
    whole = time.perf_counter() - began
    print(json.dumps({"items": 1, "windows": len(past), "seconds": clock.seconds[-1], "first": whole - clock.seconds[-1], "versions": versions}))


if __name__ == "__main__":
    main()
