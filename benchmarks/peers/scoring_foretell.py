"""Seconds of foretell's warping and exact threshold, as JSON; run by benchmarks/tadgan_speed.py."""

import json
import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

import torch
from guidebook import SPAN, courses, errors

import foretell as ft
from foretell.detect.dtw import dtw
from foretell.detect.threshold import dynamic

TIMES = 15
Answer = TypeVar("Answer")


def main() -> None:
    """The median of several calls, after a first one."""
    torch.set_num_threads(1)
    seen, expected = (torch.from_numpy(one)[:, None] for one in courses())
    found = torch.from_numpy(errors())
    warping, distance = timed(lambda: dtw(seen, expected, SPAN // 2, SPAN // 2))
    threshold, level = timed(lambda: dynamic(found, (0.0, 10.0)))
    told = {"warping": warping, "threshold": threshold, "distance": float(distance.sum()), "level": float(level), "versions": f"foretell {ft.__version__}"}
    print(json.dumps(told))


def timed(call: Callable[[], Answer]) -> tuple[float, Answer]:
    """Seconds of a call, and its answer."""
    answer, seconds = call(), []
    for _ in range(TIMES):
        began = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - began)
    return median(seconds), answer


if __name__ == "__main__":
    main()
