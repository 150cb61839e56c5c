"""How long does a forecast of one loaded model take when all is warm, and how long does `import foretell` take on top of torch's own?"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.children import ChildError, ask, ours, peers
from common.spread import Spread, ratios
from common.tables import Table, page

PEER = "neuralforecast"
Timings = Mapping[str, Sequence[float]]


class Racer(NamedTuple):
    """What runs, in whose environment, and the rows of a table that its answer fills: heading → name in the answer."""

    script: str
    peer: bool
    options: Mapping[str, object]
    rows: Mapping[str, str]


IMPORTS = [
    Racer("import_time.py", False, {"package": "foretell"}, {"torch, in foretell's environment": "torch", "foretell, on top": "package"}),
    Racer("import_time.py", True, {"package": PEER}, {f"{PEER}, on top of torch": "package"}),
]


def forecasts(calls: int) -> list[Racer]:
    """Each row is one process's median of so many calls."""
    kept, handed = f"{PEER} LSTM, data kept from fit", f"{PEER} LSTM, data handed over"
    return [
        Racer("predict_foretell.py", False, {"net": "ridge", "calls": calls}, {"foretell ridge": "predict"}),
        Racer("predict_foretell.py", False, {"net": "lstm", "calls": calls}, {"foretell StackedLSTM": "predict"}),
        Racer("predict_neuralforecast.py", True, {"calls": calls}, {kept: "kept", handed: "handed"}),
    ]


def main() -> None:
    """Ours and the peer in turn, a process each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, few calls")
    asked = parser.parse_args()
    rounds, calls = (1, 5) if asked.quick else (5, 51)
    sheet = page("latency", "How long one forecast and the import take", PROTOCOL)
    pythons, missing = peers([PEER])
    versions: set[str] = set()
    timings = [race(racers, rounds, pythons, missing, versions) for racers in (forecasts(calls), IMPORTS)]
    warm = table("One forecast, warm", "ms", 1000, timings[0], "foretell StackedLSTM")
    imports = table("Import", "s", 1, timings[1], "foretell, on top")
    sheet.publish([warm, imports], quick=asked.quick, missing=missing, versions=sorted(v for v in versions if not v.startswith("foretell")))


def race(racers: Sequence[Racer], rounds: int, pythons: Mapping[str, Path], missing: list[str], versions: set[str]) -> Timings:
    """Rounds in which every racer runs once; one that fails is missing from then on."""
    timings: dict[str, list[float]] = {row: [] for racer in racers for row in racer.rows}
    running = [racer for racer in racers if not racer.peer or pythons]
    for turn in range(rounds):
        for racer in list(running):
            try:
                answer = ask(pythons[PEER] if racer.peer else ours(), racer.script, **racer.options)
            except ChildError as error:
                missing.append(f"{', '.join(racer.rows)}: {error}")
                running.remove(racer)
                continue
            versions.update([str(answer["versions"])] if "versions" in answer else [])
            for row, name in racer.rows.items():
                timings[row].append(float(answer[name]))
        print(f"round {turn + 1} of {rounds} done", file=sys.stderr)
    return {row: seconds for row, seconds in timings.items() if len(seconds) == rounds}


def table(heading: str, unit: str, times: int, timings: Timings, ours_: str) -> Table:
    """Medians with intervals, and how many times as long as ours."""
    rows = []
    for row, seconds in timings.items():
        ratio = f"{ratios(seconds, timings[ours_]):.2f}" if ours_ in timings and row != ours_ else ""
        rows.append((row, f"{Spread.of([s * times for s in seconds]):.2f}", ratio))
    return Table(heading, ("what", f"{unit}, median [least, most] of the processes", f"times as long as {ours_}"), rows)


PROTOCOL = """One series of 8,736 hours with three weather channels and five calendar channels known ahead; context 168, horizon 24.
foretell's model is fitted, saved and loaded, then asked with `model.predict(panel)`: quantiles and bands included. The peer's is
fitted for two steps and asked in its two ways. A process's answer is the median of 51 calls after three warm ones; five processes
each, in turn. Import: a fresh process imports torch, then the package; what the second import adds is counted."""

if __name__ == "__main__":
    main()
