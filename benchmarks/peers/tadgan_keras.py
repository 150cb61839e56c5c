"""Seconds of one epoch of the guidebook's adversarial loop in TensorFlow, as JSON; run by benchmarks/tadgan_speed.py.

Written anew after its description: the same networks, the penalty on the first sample of a batch as the guidebook has it (so
less work than the penalty over all), a compiled function a step, one Adam a network since Keras 3 refuses one for all.
"""

import argparse
import json
import time
from importlib import metadata

import keras
import numpy as np
import tensorflow as tf
from guidebook import BATCH, CHANNELS, CRITIC_STEPS, LATENT, RATE, WINDOW, run
from keras import layers


def networks() -> tuple[keras.Model, keras.Model, keras.Model, keras.Model]:
    """Encoder, generator and both critics."""
    both = lambda units: layers.Bidirectional(layers.LSTM(units, return_sequences=True))  # noqa: E731
    encoder = keras.Sequential([keras.Input((WINDOW, CHANNELS)), both(WINDOW), layers.Flatten(), layers.Dense(LATENT), layers.Reshape((LATENT, 1))])
    maker = [keras.Input((LATENT, 1)), layers.Flatten(), layers.Dense(WINDOW), layers.Reshape((WINDOW, 1)), both(64), layers.Dropout(0.2)]
    maker += [layers.UpSampling1D(1), both(64), layers.Dropout(0.2), layers.TimeDistributed(layers.Dense(CHANNELS)), layers.Activation("tanh")]
    convolutions = [part for _ in range(4) for part in (layers.Conv1D(64, 2), layers.LeakyReLU(negative_slope=0.2), layers.Dropout(0.25))]
    hidden = [part for _ in range(2) for part in (layers.Dense(100), layers.LeakyReLU(negative_slope=0.2), layers.Dropout(0.2))]
    critic_x = keras.Sequential([keras.Input((WINDOW, CHANNELS)), *convolutions, layers.Flatten(), layers.Dense(1)])
    critic_z = keras.Sequential([keras.Input((LATENT, 1)), layers.Flatten(), *hidden, layers.Dense(1)])
    return encoder, keras.Sequential(maker), critic_x, critic_z


def critic_step(critic: keras.Model, other: keras.Model, optimiser: keras.optimizers.Optimizer, makes_x: bool) -> tf.types.experimental.PolymorphicFunction:
    """A compiled step of one critic: `other` makes its fakes."""

    @tf.function
    def step(x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            real, fake = (x, other(z, training=True)) if makes_x else (z, other(x, training=True))
            mix = tf.random.uniform((BATCH, 1, 1))
            mixed = mix * real + (1 - mix) * fake
            with tf.GradientTape() as inner:
                inner.watch(mixed)
                score = critic(mixed, training=True)
            slope = inner.gradient(score, mixed)[0]
            norm = tf.sqrt(1e-8 + tf.reduce_sum(tf.square(slope), axis=1))
            penalty = tf.reduce_mean((norm - 1.0) ** 2)
            loss = tf.reduce_mean(critic(fake, training=True)) - tf.reduce_mean(critic(real, training=True)) + 10.0 * penalty
        optimiser.apply_gradients(zip(tape.gradient(loss, critic.trainable_weights), critic.trainable_weights, strict=True))
        return loss

    return step


def main() -> None:
    """The second epoch: the first one traces the graphs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, required=True)
    windows = parser.parse_args().windows
    keras.utils.set_random_seed(0)
    x = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(run(windows), WINDOW, axis=0).swapaxes(1, 2))
    encoder, generator, critic_x, critic_z = networks()
    optimisers = [keras.optimizers.Adam(RATE) for _ in range(3)]
    step_x, step_z = critic_step(critic_x, generator, optimisers[0], True), critic_step(critic_z, encoder, optimisers[1], False)
    makers = encoder.trainable_weights + generator.trainable_weights

    @tf.function
    def step_makers(x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            code = encoder(x, training=True)
            rebuilt = generator(code, training=True)
            against = tf.reduce_mean(critic_x(generator(z, training=True), training=True)) + tf.reduce_mean(critic_z(code, training=True))
            loss = 10.0 * tf.reduce_mean(tf.square(x - rebuilt)) - against
        optimisers[2].apply_gradients(zip(tape.gradient(loss, makers), makers, strict=True))
        return loss

    random, seconds, processor, used = np.random.default_rng(0), 0.0, 0.0, 0
    for _ in range(2):
        began, busy, used = time.perf_counter(), time.process_time(), 0
        random.shuffle(x)
        for first in range(0, len(x) - BATCH * CRITIC_STEPS + 1, BATCH * CRITIC_STEPS):
            for step in range(CRITIC_STEPS):
                batch = x[first + step * BATCH : first + step * BATCH + BATCH]
                z = random.normal(size=(BATCH, LATENT, 1)).astype(np.float32)
                losses = [step_x(batch, z), step_z(batch, z)]
                used += BATCH
            losses.append(step_makers(batch, z))
        finite = all(np.isfinite(float(loss)) for loss in losses)
        seconds, processor = (time.perf_counter() - began, time.process_time() - busy) if finite else (float("nan"), float("nan"))
    versions = f"keras {keras.__version__} on tensorflow-cpu {metadata.version('tensorflow-cpu')}"
    print(json.dumps({"windows": used, "seconds": seconds, "processor": processor, "versions": versions}))


if __name__ == "__main__":
    main()
