"""How many epochs a second of a period-kernel net an item, beside the notebook's loop in Keras?"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from common.children import Answer, ChildError, ask, ours, peers
from common.spread import Spread, ratios
from common.tables import Table, page

PAIRS, WINDOWS = 5, 1856


class Racer(NamedTuple):
    """A row of the table: what runs, in how many processes at once."""

    about: str
    script: str
    options: Mapping[str, object]
    processes: int = 1


def main() -> None:
    """Rounds in which everyone runs once, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few windows")
    parser.add_argument("--rounds", type=int, default=PAIRS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of foretell at once, one thread each")
    asked = parser.parse_args()
    rounds, windows = (1, 128) if asked.quick else (asked.rounds, WINDOWS)
    sheet = page("per-item", "Epochs a second of one net an item", PROTOCOL)
    pythons, missing = peers(["keras"])
    racers = {
        "notebook": Racer("foretell, the notebook's configuration", "period_kernel_foretell.py", {"items": 8}, asked.processes),
        "default": Racer("foretell, the compact default", "period_kernel_foretell.py", {"items": 64, "default": 1}, asked.processes),
    }
    racers |= {name: Racer("the notebook's loop in Keras", "period_kernel_keras.py", {}) for name in pythons}
    answers: dict[str, list[Sequence[Answer]]] = {name: [] for name in racers}
    for turn in range(rounds):
        for name in list(racers):
            try:
                answers[name].append(timed(racers[name], pythons.get(name), windows))
                print(f"round {turn + 1} of {rounds}: {racers[name].about}: {rate(answers[name][-1]):.3g} item-epochs/s", file=sys.stderr)
            except ChildError as error:
                missing.append(f"{racers.pop(name).about}: {error}")
    versions = [str(answers[name][-1][0]["versions"]) for name in racers if name in pythons]
    sheet.publish([table(racers, answers, rounds)], quick=asked.quick, missing=missing, versions=versions)


def timed(racer: Racer, python: Path | None, windows: int) -> list[Answer]:
    """One epoch in each of its processes, all at the same time."""
    with ThreadPoolExecutor(racer.processes) as pool:
        return [one.result() for one in [pool.submit(ask, python or ours(), racer.script, windows=windows, **racer.options) for _ in range(racer.processes)]]


def rate(answers: Sequence[Answer]) -> float:
    """Item-epochs a second of all processes together."""
    return sum(float(one["items"]) / float(one["seconds"]) for one in answers)


def table(racers: Mapping[str, Racer], answers: Mapping[str, Sequence[Sequence[Answer]]], rounds: int) -> Table:
    """Rates, and how many times the loop's."""
    rows = []
    rates = {name: [rate(one) for one in answers[name]] for name in racers}
    for name, racer in racers.items():
        times = f"**{ratios(rates[name], rates['keras']):.0f}**" if "keras" in racers and name != "keras" else ""
        weights = f"{answers[name][-1][0]['weights']:,}" if "weights" in answers[name][-1][0] else ""
        rows.append((racer.about, racer.processes, racer.options.get("items", 1), weights, f"{Spread.of(rates[name]):.3g}", times))
    columns = ("who", "processes", "items side by side in each", "weights an item", "item-epochs/s", "times the loop's")
    return Table(f"Median [least, most] of {rounds} interleaved rounds", columns, rows)


PROTOCOL = """One made-up item: 1,856 windows of 92 days and 7 channels, 20 kernels of 2 to 92 days and 32 filters, batch 64, float32, the
peak loss, Adam with the notebook's schedule and clipping by variable: equal mathematics in Keras and in foretell's row of the notebook's
configuration, but for what can reach no output and is not computed. The clock runs over the second epoch, so neither Keras' tracing, which the
loop pays again for every item, nor anyone's preparation counts. The compact default reads as many windows of 56 days with the same channels, now known
ahead, and forecasts 28 days with three quantiles; it is another, smaller net, so its ratio says what an item costs, not how fast the same
arithmetic is. foretell runs one process with one thread a core, Keras one process with its own default of threads. Ratios are taken round by round."""

if __name__ == "__main__":
    main()
