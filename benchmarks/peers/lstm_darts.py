"""Seconds of one epoch of darts' BlockRNNModel, as JSON; run by benchmarks/lstm_speed.py in darts' own environment."""

import json
import logging
import time
import warnings

warnings.filterwarnings("ignore")

import darts  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from darts.models import BlockRNNModel  # noqa: E402
from shared import BATCH, CONTEXT, HORIZON, made_up, rows_for, windows_asked  # noqa: E402


class Clock(pl.Callback):
    """Seconds of every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = 0.0

    def on_train_epoch_start(self, trainer: object, module: object) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: object, module: object) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def main() -> None:
    """The second epoch."""
    logging.disable(logging.WARNING)
    windows = windows_asked(__doc__)
    rows = made_up(rows_for(windows))
    index = pd.date_range("2020-01-01", periods=len(rows), freq="h")
    target, others = (darts.TimeSeries.from_times_and_values(index, np.ascontiguousarray(part)) for part in (rows[:, :1], rows[:, 1:]))
    clock = Clock()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    model = BlockRNNModel(
        input_chunk_length=CONTEXT, output_chunk_length=HORIZON, model="LSTM", hidden_dim=64, n_rnn_layers=2, dropout=0.0,
        batch_size=BATCH, n_epochs=2, random_state=0, pl_trainer_kwargs={"accelerator": "cpu", "callbacks": [clock], **quiet},
    )  # fmt: skip
    model.fit(target, past_covariates=others)
    versions = f"darts {darts.__version__} on torch {torch.__version__}, lightning {pl.__version__}"
    print(json.dumps({"windows": windows, "seconds": clock.seconds[-1], "versions": versions}))


if __name__ == "__main__":
    main()
