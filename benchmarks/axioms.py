"""Every explanation method on every kind of model, of the point and of the band: how much it misses, and which axioms it breaks.

The questions are those of the tests (tests/axioms.py); this prints the answers into docs/axioms.md.
"""

import argparse
import sys

import torch
from common.tables import HOME, Table, page

sys.path.insert(0, str(HOME / "tests"))

from axioms import AXIOMS, BAND, CASES, EVERY, OFS, PROMISED, Verdict, verdict

PROTOCOL = """Tiny nets of every kind, fitted for an epoch on two series with gaps, prices, a zone and a calendar; a net on a ridge counts whole.
A number is the largest residual relative to the change explained, of what adds up or is in units; **~** slopes and weights, which add up to
nothing; **–** does not work for this model (reasons below). Promised: {promised}. Of a band also asked: {band}. Held by `make check`."""


def told(one: Verdict) -> str:
    """A cell."""
    if one.why_not:
        return "–"
    text = "~" if one.gap != one.gap else f"{one.gap:.0e}"
    return f"{text} **breaks {', '.join(one.broken)}**" if one.broken else text


def main() -> None:
    """Writes docs/axioms.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: two models, nothing is written")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    promised = ", ".join(f"`{name}` {value:g}" for name, value in PROMISED.items())
    sheet = page("axioms", "The axioms of explanations: every method on every model", PROTOCOL.format(promised=promised, band=", ".join(BAND)))
    names = ("ridge", "period kernel") if asked.quick else CASES
    tables, reasons, broken = [], dict[str, None](), 0
    for of in OFS:
        found = {name: {method: verdict(name, method, of) for method in EVERY} for name in names}
        rows = [(method, *(told(found[name][method]) for name in names)) for method in EVERY]
        tables.append(Table(f"Explained: the {'point forecast' if of == 'point' else 'width of the 80 % band'}", ("method", *names), rows))
        reasons |= dict.fromkeys(f"{method} on {name}: {v.why_not}" for name in names for method, v in found[name].items() if v.why_not)
        broken += sum(len(v.broken) for each in found.values() for v in each.values())
    axioms = [(name, " ".join((how.__doc__ or "").split())) for name, how in AXIOMS.items()]
    axioms.append(("linear", "Of a linear model: slope times distance from the baseline."))
    tables.append(
        Table(
            f"What was asked of every cell; broken: {broken}",
            ("axiom", "says"),
            axioms,
        )
    )
    tables.append(Table("Why a method does not work", ("", "reason"), [tuple(line.split(": ", 1)) for line in reasons]))
    sheet.publish(tables, quick=asked.quick, folder=HOME / "docs")


if __name__ == "__main__":
    main()
