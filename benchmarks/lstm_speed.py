"""How many windows a second does one training epoch of a stacked LSTM take in, beside neuralforecast, darts and Keras?"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.children import Answer, ChildError, ask, ours, peers
from common.spread import Spread, ratios
from common.tables import Table, page

PAIRS, WINDOWS = 5, 3200


class Racer(NamedTuple):
    """A row of the table: what runs, and which of our rows does the same mathematics."""

    about: str
    script: str
    options: Mapping[str, object]
    equal: str = ""


OURS = {
    "64/32": Racer("foretell 64/32, step by step", "lstm_foretell.py", {"hidden": "64,32"}),
    "64/64": Racer("foretell 64/64, step by step", "lstm_foretell.py", {"hidden": "64,64"}),
    "default": Racer("foretell, default configuration", "lstm_foretell.py", {"default": 1}),
}
PEERS = {
    "neuralforecast": Racer("neuralforecast LSTM 64/64", "lstm_neuralforecast.py", {}, "64/64"),
    "darts": Racer("darts BlockRNN 64/64", "lstm_darts.py", {}, "64/64"),
    "keras": Racer("Keras 64/32", "lstm_keras.py", {}, "64/32"),
}


def main() -> None:
    """Rounds in which everyone runs once, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of a few steps")
    parser.add_argument("--only", default=",".join(PEERS), help=f"peers, with commas between: {','.join(PEERS)}")
    asked = parser.parse_args()
    rounds, windows = (1, 320) if asked.quick else (PAIRS, WINDOWS)
    sheet = page("lstm-speed", "How fast an epoch of a stacked LSTM is", PROTOCOL)
    pythons, missing = peers(asked.only.split(","))
    racers = OURS | {name: PEERS[name] for name in pythons}
    answers: dict[str, list[Answer]] = {name: [] for name in racers}
    for turn in range(rounds):
        for name in list(racers):
            try:
                answers[name].append(timed(racers[name], pythons.get(name), windows))
                print(f"round {turn + 1} of {rounds}: {racers[name].about}: {rate(answers[name][-1]):.0f} windows/s", file=sys.stderr)
            except ChildError as error:
                missing.append(f"{racers.pop(name).about}: {error}")
    versions = [str(answers[name][-1]["versions"]) for name in racers if name in PEERS]
    sheet.publish([table(racers, answers, rounds)], quick=asked.quick, missing=missing, versions=versions)


def timed(racer: Racer, python: Path | None, windows: int) -> Answer:
    """One epoch, in a process of its own."""
    return ask(python or ours(), racer.script, windows=windows, **racer.options)


def rate(answer: Answer) -> float:
    return float(answer["windows"]) / float(answer["seconds"])


def table(racers: Mapping[str, Racer], answers: Mapping[str, Sequence[Answer]], rounds: int) -> Table:
    """Windows a second, and against each peer our two ways."""
    rows = []
    rates = {name: [rate(a) for a in answers[name]] for name in racers}
    for name, racer in racers.items():
        equal = f"{ratios(rates[racer.equal], rates[name]):.2f}" if racer.equal else ""
        default = f"{ratios(rates['default'], rates[name]):.1f}" if racer.equal else ""
        rows.append((racer.about, f"{Spread.of(rates[name]):.0f}", equal, default))
    columns = ("who", "windows/s", "foretell at equal mathematics, times as fast", "foretell's default, times as fast")
    return Table(f"Median [least, most] of {rounds} interleaved rounds", columns, rows)


PROTOCOL = """Context 168, 6 features, horizon 24, batch 64, float32, Adam, squared error, one made-up series of 3,200 windows; the
clock runs over one epoch after a first one (neuralforecast, which has no epochs over windows: over as many steps). Equal
mathematics: two LSTM layers of the peer's widths, step by step, a linear head on the last state, no dropout, no clipping;
neuralforecast and darts have one width for both layers, and neuralforecast's head reads the last 24 states, each for its own
step ahead. The default
configuration folds a day into one step, starts from the ridge, and trains three quantiles beside the point; that by default it
also leaves out the windows of 23 hours in 24 is switched off, since this page counts windows. Everyone runs in a
process and an environment of its own with its own default of threads; ratios are taken round by round."""

if __name__ == "__main__":
    main()
