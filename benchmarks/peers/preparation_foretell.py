"""Seconds and memory of one part of the preparation of all series at once, as JSON; run by benchmarks/preparation.py."""

import argparse
import json
import time
from pathlib import Path

import torch
from memory_foretell import resident
from preparation_shared import made_up, prices

import foretell as ft
from foretell.periods import dominant
from foretell.smooth import loess
from foretell.transform.price import log_change

STRONGEST = 20


def main() -> None:
    """Once on a few series, to bring code and threads into memory; then on all, or from the files of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, choices=("loess", "robust", "periods", "log_change", "read"))
    parser.add_argument("--series", type=int, default=0)
    parser.add_argument("--days", type=int, default=1941)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.work == "read":
        before, began = resident("VmRSS"), time.perf_counter()
        panel = ft.read_m5(asked.folder)
        told = {"series": len(panel), "days": panel.values.shape[1], "panel": panel.values.numel() * panel.values.element_size()}
    else:
        make = prices if asked.work == "log_change" else made_up
        do(asked.work, torch.from_numpy(make(50, asked.days)))
        values = torch.from_numpy(make(asked.series, asked.days))
        Path("/proc/self/clear_refs").write_text("5")  # the peak counter starts again from what is resident now
        before, began = resident("VmRSS"), time.perf_counter()
        do(asked.work, values)
        told = {"series": len(values), "days": values.shape[1], "panel": values.numel() * values.element_size()}
    seconds = time.perf_counter() - began
    print(json.dumps(told | {"seconds": seconds, "peak": resident("VmHWM"), "beyond": resident("VmHWM") - before, "threads": torch.get_num_threads()}))


def do(work: str, values: torch.Tensor) -> object:
    """One part."""
    if work == "periods":
        return dominant(values, STRONGEST)
    return log_change(values) if work == "log_change" else loess(values, 0.1, rounds=3 if work == "robust" else 0)


if __name__ == "__main__":
    main()
