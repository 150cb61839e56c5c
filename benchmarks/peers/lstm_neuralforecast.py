"""Seconds of as many windows as an epoch has in neuralforecast's LSTM, as JSON; run by benchmarks/lstm_speed.py in its own environment."""

import json
import logging
import time
import warnings
from typing import ClassVar

warnings.filterwarnings("ignore")

import neuralforecast  # noqa: E402
import pandas as pd  # noqa: E402
import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from neuralforecast import NeuralForecast  # noqa: E402
from neuralforecast.losses.pytorch import MSE  # noqa: E402
from neuralforecast.models import LSTM  # noqa: E402
from shared import BATCH, CONTEXT, FEATURES, HORIZON, made_up, rows_for, windows_asked  # noqa: E402

WARM = 5  # steps before the clock runs


class Clock(pl.Callback):
    """When each step ended. The list belongs to the class: neuralforecast trains a copy of the model and all that is in it."""

    ends: ClassVar[list[float]] = []

    def on_train_batch_end(self, trainer: object, module: object, outputs: object, batch: object, batch_idx: int) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    """64 windows a step, drawn by neuralforecast from the one series; two layers of 64, since it has one width for both."""
    logging.disable(logging.WARNING)
    steps = windows_asked(__doc__) // BATCH
    rows = made_up(rows_for(steps * BATCH))
    others = [f"x{i}" for i in range(1, FEATURES)]
    frame = pd.DataFrame(rows, columns=["y", *others])
    frame.insert(0, "ds", pd.date_range("2020-01-01", periods=len(frame), freq="h"))
    frame.insert(0, "unique_id", "a")
    clock = Clock()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    model = LSTM(
        h=HORIZON, input_size=CONTEXT, encoder_n_layers=2, encoder_hidden_size=64, encoder_dropout=0.0, decoder_layers=1, decoder_hidden_size=64,
        hist_exog_list=others, loss=MSE(), learning_rate=1e-3, batch_size=1, windows_batch_size=BATCH, scaler_type="identity",
        max_steps=WARM + steps, random_seed=0, accelerator="cpu", callbacks=[clock], **quiet,
    )  # fmt: skip
    NeuralForecast(models=[model], freq="h").fit(frame)
    versions = f"neuralforecast {neuralforecast.__version__} on torch {torch.__version__}, lightning {pl.__version__}"
    print(json.dumps({"windows": steps * BATCH, "seconds": clock.ends[-1] - clock.ends[WARM - 1], "versions": versions}))


if __name__ == "__main__":
    main()
