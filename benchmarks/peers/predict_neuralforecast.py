"""Seconds of warm predictions of one fitted neuralforecast model, as JSON; run by benchmarks/latency.py in its own environment."""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable

warnings.filterwarnings("ignore")

import neuralforecast  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from neuralforecast import NeuralForecast  # noqa: E402
from neuralforecast.models import LSTM  # noqa: E402
from shared import CONTEXT, FUTURE, HORIZON, PAST, year  # noqa: E402

KNOWN = [f"known{i}" for i in range(FUTURE)]


def main() -> None:
    """Asked in both of its ways: of the data it keeps, and of a frame handed over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, required=True)
    calls = parser.parse_args().calls
    logging.disable(logging.WARNING)
    values, start = year()
    past, future = framed(values, start, HORIZON)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    model = LSTM(
        h=HORIZON, input_size=CONTEXT, encoder_n_layers=2, encoder_hidden_size=64, decoder_layers=1, hist_exog_list=[*PAST], futr_exog_list=KNOWN,
        batch_size=1, windows_batch_size=64, max_steps=2, accelerator="cpu", **quiet,
    )  # fmt: skip
    fitted = NeuralForecast(models=[model], freq="h")
    fitted.fit(past)
    kept = warm(lambda: fitted.predict(futr_df=future), calls)
    handed = warm(lambda: fitted.predict(df=past, futr_df=future), calls)
    print(json.dumps({"kept": kept, "handed": handed, "versions": f"neuralforecast {neuralforecast.__version__} on torch {torch.__version__}"}))


def framed(values: np.ndarray, start: str, ahead: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """History and future in long form, with the calendar as columns."""
    time_ = pd.date_range(start, periods=len(values) + ahead, freq="h")
    turns = [(time_.hour, 24), (time_.weekday, 7)]
    waves = [wave(2 * np.pi * place / period) for place, period in turns for wave in (np.sin, np.cos)]
    calendar = np.stack([*waves, time_.weekday >= 5], 1).astype(np.float32)
    frame = pd.DataFrame(calendar, columns=KNOWN).assign(unique_id="a", ds=time_)
    past = frame.iloc[: len(values)].assign(**{name: values[:, i] for i, name in enumerate(("y", *PAST))})
    return past, frame.iloc[len(values) :]


def warm(call: Callable[[], object], calls: int) -> float:
    """The median of many, after three that do not count."""
    seconds = []
    for _ in range(calls + 3):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds[3:])[calls // 2]


if __name__ == "__main__":
    main()
