"""Seconds a series of the same preparation in a loop over series, as a notebook does it, as JSON; run by benchmarks/preparation.py."""

import argparse
import json
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from preparation_shared import made_up, prices
from statsmodels.nonparametric.smoothers_lowess import lowess

from foretell.periods import dominant

STRONGEST = 20


def main() -> None:
    """So many series, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, choices=("loess", "robust", "periods", "alone", "log_change"))
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--days", type=int, default=1941)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    make = prices if asked.work == "log_change" else made_up
    values = make(asked.series, asked.days)
    frame = pd.DataFrame(values, index=[f"item_{i}" for i in range(len(values))])
    do(asked.work, frame.iloc[0])
    began = time.perf_counter()
    for name in frame.index:
        do(asked.work, frame.loc[name])
    seconds = time.perf_counter() - began
    print(json.dumps({"series": len(values), "seconds": seconds, "versions": f"statsmodels {version('statsmodels')}, pandas {version('pandas')}"}))


def do(work: str, row: pd.Series) -> object:
    """One part of one series."""
    if work == "log_change":
        return np.log(row).diff().fillna(0.0)
    if work == "alone":
        return dominant(torch.tensor(row.to_numpy())[None], STRONGEST)
    seen = row.dropna().to_numpy(np.float64)
    if work == "periods":
        power = np.abs(np.fft.rfft(seen - seen.mean())) ** 2
        power[0] = 0
        top = np.argsort(power)[::-1][:STRONGEST]
        return len(seen) / np.maximum(top, 1), power[top] / np.median(power)
    return lowess(seen, np.arange(len(seen)), frac=0.1, it=3 if work == "robust" else 0, return_sorted=False)


if __name__ == "__main__":
    main()
