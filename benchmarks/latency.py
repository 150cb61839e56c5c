"""How long does a forecast of one loaded model take when all is warm, and how long does `import foretell` take on top of torch's own?"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.children import Answer, ChildError, ask, ours, peers
from common.spread import Spread, ratios
from common.tables import Table, page

PEER = "neuralforecast"
Timings = Mapping[str, Sequence[float]]


def main() -> None:
    """Ours and the peer in turn, a process each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, few calls")
    asked = parser.parse_args()
    rounds, calls = (1, 5) if asked.quick else (5, 51)
    sheet = page("latency", "How long one forecast and the import take", PROTOCOL)
    pythons, missing = peers([PEER])
    seconds: dict[str, list[float]] = {}
    versions = ""
    for turn in range(rounds):
        for name, value in predictions(None, calls).items():
            seconds.setdefault(name, []).append(value)
        if PEER in pythons:
            try:
                found = predictions(pythons[PEER], calls)
                versions = str(found.pop("versions"))
            except ChildError as error:
                missing.append(f"{PEER}: {error}")
                pythons.pop(PEER)
            else:
                for name, value in found.items():
                    seconds.setdefault(name, []).append(value)
        print(f"round {turn + 1} of {rounds} done", file=sys.stderr)
