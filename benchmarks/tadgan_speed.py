"""How fast does a TadGAN train and score, beside the guidebook's TensorFlow loop and its loops for warping and threshold?"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.children import Answer, ChildError, ask, ours, peers
from common.spread import Spread, ratios
from common.tables import Table, page

ROUNDS, WINDOWS, MEMBERS = 5, 5999, 4


class Runner(NamedTuple):
    """What runs in a child process; `peer` if in the peer's environment."""

    about: str
    script: str
    options: Mapping[str, object]
    peer: bool = False


TRAINING = {
    "guidebook": Runner("guidebook's loop, TensorFlow", "tadgan_keras.py", {}, peer=True),
    "one": Runner("foretell, one detector", "tadgan_foretell.py", {}),
    "several": Runner(f"foretell, {MEMBERS} detectors as members", "tadgan_foretell.py", {"members": MEMBERS}),
}
SCORING = {
    "guidebook": Runner("guidebook's loops: pyts a row, fmin with pandas", "scoring_notebook.py", {}, peer=True),
    "ours": Runner("foretell, all rows at once, exact search", "scoring_foretell.py", {}),
}
Answers = dict[str, list[Answer]]


def main() -> None:
    """Rounds in which everyone runs once, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few windows")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    rounds, windows = (1, 640) if asked.quick else (asked.rounds, WINDOWS)
    sheet = page("tadgan-speed", "How fast a TadGAN trains and scores", PROTOCOL)
    pythons, missing = peers(["mtadgan"])
    training, scoring = Answers(), Answers()
    for turn in range(rounds):
        for runners, answers, options in ((TRAINING, training, {"windows": windows}), (SCORING, scoring, {})):
            for name, runner in runners.items():
                python = pythons.get("mtadgan") if runner.peer else ours()
                if python is not None:
                    _run(python, runner, answers.setdefault(name, []), {**options, **runner.options}, f"round {turn + 1} of {rounds}", missing)
    versions = [str(answers["guidebook"][-1]["versions"]) for answers in (training, scoring) if answers.get("guidebook")]
    sheet.publish([trained(training, rounds), scored(scoring, rounds)], quick=asked.quick, missing=sorted(set(missing)), versions=versions)


def _run(python: Path, runner: Runner, answers: list[Answer], options: Mapping[str, object], turn: str, missing: list[str]) -> None:
    try:
        answers.append(ask(python, runner.script, **options))
        print(f"{turn}: {runner.about}: { {k: v for k, v in answers[-1].items() if isinstance(v, float)} }", file=sys.stderr)
    except ChildError as error:
        missing.append(f"{runner.about}: {error}")


def trained(answers: Answers, rounds: int) -> Table:
    """Seconds a detector and epoch by the clock and of the processor, and each against the guidebook's loop at as many windows."""
    clock, busy = (
        {name: [float(a[kind]) / float(a["windows"]) * WINDOWS for a in found] for name, found in answers.items()} for kind in ("seconds", "processor")
    )
    rows = []
    for name, found in clock.items():
        against = [_against(kind.get("guidebook"), kind[name]) for kind in (clock, busy)]
        rows.append((TRAINING[name].about, f"{Spread.of(found):.2f}", against[0], f"{Spread.of(busy[name]):.2f}", against[1]))
    columns = ("who", "seconds by the clock", "times as fast", "seconds of processor", "times less")
    return Table(f"Training: an epoch of {WINDOWS:,} windows for one detector; median [least, most] of {rounds} interleaved rounds", columns, rows)


def scored(answers: Answers, rounds: int) -> Table:
    """Milliseconds of warping, of the threshold and of both."""
    both = {name: [float(a["warping"]) + float(a["threshold"]) for a in found] for name, found in answers.items()}
    rows = []
    for name, found in answers.items():
        warping, threshold = (Spread.of([1000 * float(a[part]) for a in found]) for part in ("warping", "threshold"))
        rows.append((SCORING[name].about, f"{warping:.1f}", f"{threshold:.1f}", _against(both.get("guidebook"), both[name], places=0)))
    columns = ("who", "warping, ms", "threshold, ms", "both, times as fast")
    return Table(f"Scoring: 4,584 rows, 11 of them warped around each; median [least, most] of {rounds} interleaved rounds", columns, rows)


def _against(peer: Sequence[float] | None, own: Sequence[float], places: int = 2) -> str:
    if not peer or peer is own or len(peer) != len(own):
        return ""
    return f"{ratios(peer, own):.{places}f}"


PROTOCOL = """The guidebook's net: windows of 10 rows and 3 channels, latent 20, batch 64, five critic steps, Adam 5e-4, float32; a made-up run
of 5,999 windows. The clock runs over the second epoch, since TensorFlow traces its graphs in the first. Not equal mathematics: the
guidebook's loop penalises the first window of a batch, drops the last 239 windows of an epoch and trains encoder and generator 18
times; ours penalises every window, uses all of them and trains 19 times; times are put at as many windows. Seconds of several members are divided by
their number. Warping and threshold are those of one error series in float64; ours is the median of 15 calls in a process, and the
sums of all distances agree. Everyone runs in a process of its own. TensorFlow takes the threads it likes, ours
runs on one: a net this small gains nothing from a second, and where others use the cores two threads wait for each other (we
have seen an epoch of 56 s that way). Processor time is that of all
threads of a process: it hardly depends on who else uses the machine. Ratios are taken round by round."""

if __name__ == "__main__":
    main()
