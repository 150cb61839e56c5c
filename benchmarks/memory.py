"""How much memory does training take on 10,000 series of 2,000 steps, beyond the panel itself and what torch needs to run?"""

import argparse

from common.children import ChildError, ask, ours
from common.tables import Table, page

GOAL = 1.5
WORK = {
    "ridge": "ridge, one for all: the whole fit",
    "epoch": "small net, one for all: the first epoch with the default parts, ended from outside",
    "net": "small net, one for all: the whole fit, trained on the first tenth (the rest is stop and calibrate part)",
    "predict": "ridge: a forecast of every series",
    "each": "a small net for each of the first 500 series: the first epoch, ended from outside",
}


def main() -> None:
    """Each kind of work in a child of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the series, seconds of training")
    parser.add_argument("--only", default=",".join(WORK), help=f"with commas between: {','.join(WORK)}")
    asked = parser.parse_args()
    series, seconds = (1000, 5) if asked.quick else (10_000, 60)
    sheet = page("memory", "How much memory training takes", PROTOCOL)
    rows, missing = [], []
    for name in asked.only.split(","):
        try:
            rows.append(row(WORK[name], ask(ours(), "memory_foretell.py", work=name, series=series, steps=2000, seconds=seconds)))
        except ChildError as error:
            missing.append(f"{WORK[name]}: {error}")
    columns = ("work", "panel MB", "a batch MB", "peak beyond both MB", "to the panel", f"at most {GOAL} ×", "seconds", "where the peak was seen")
    sheet.publish([Table(f"{series:,} series × 2,000 days, 6 calendar channels, float32", columns, rows)], quick=asked.quick, missing=missing)


def row(about: str, found: object) -> tuple[str, ...]:
    """One line of the table."""
    assert isinstance(found, dict)
    mega = {name: found[name] / 2**20 for name in ("panel", "batch", "peak")}
    beyond = max(0.0, mega["peak"] - mega["batch"])
    ratio = beyond / mega["panel"]
    verdict = "yes" if ratio <= GOAL else "**no**"
    return (about, *(f"{v:.1f}" for v in (mega["panel"], mega["batch"], beyond)), f"{ratio:.2f}", verdict, f"{found['seconds']:.0f}", found["where"])


PROTOCOL = """A child does the same work twice on a small panel first: 40 series, or for a net for each series as many nets with fewer
steps. The first time brings code and thread pools into memory; what the second needs beyond what is resident before it is what a
batch takes, whatever the number of windows: 4,096 of them 28 steps back and 7 ahead in 7 channels (64 for each of 500 nets), the
net's own arithmetic on them included. Then the large panel is made, the system's peak counter is reset and the work done: the
highest resident memory less that before the work, and less a batch. A thread notes where the program is whenever memory reaches
a new height."""

if __name__ == "__main__":
    main()
