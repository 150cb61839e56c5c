"""How long does the preparation of all of M5 take, beside a loop over its series, and how much memory; and how much does reading it take?"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.children import Answer, ChildError, ask, ours
from common.data import DATA
from common.spread import Spread, ratios
from common.tables import Table, page

SERIES, DAYS, KNOWN = 30_490, 1941, 447
WORK = {
    "loess": "LOESS, a tenth of the series, plain",
    "robust": "LOESS, three robust rounds",
    "periods": "the 20 strongest periods",
    "log_change": "log-differenced price",
}
SAMPLE = {"loess": 20, "robust": 6, "periods": 400, "alone": 200, "log_change": 400}
GOALS = {"loess": 500, "robust": 400}
KINDS = {"loess": "plain LOESS", "robust": "robust LOESS"}
FOUND = {"periods": "strongest lines in the loop", "alone": "the same periods in the loop"}
MOST = 3.0  # GB that reading may take


def main() -> None:
    """Rounds in which everyone runs once, one after another, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few series, one round")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    series, rounds = (300, 1) if asked.quick else (SERIES, asked.rounds)
    sheet = page("preparation", "Preparing 30,490 series of 1,941 days", PROTOCOL)
    missing: list[str] = []
    mine: dict[str, list[Answer]] = {work: [] for work in WORK}
    loops: dict[str, list[Answer]] = {work: [] for work in SAMPLE}
    try:
        for turn in range(rounds):
            for work in WORK:
                mine[work].append(ask(ours(), "preparation_foretell.py", work=work, series=series))
                for loop in ("periods", "alone") if work == "periods" else (work,):
                    loops[loop].append(ask(ours(), "preparation_loop.py", work=loop, series=3 if asked.quick else SAMPLE[loop]))
                print(f"round {turn + 1} of {rounds}: {WORK[work]}: {mine[work][-1]['seconds']:.2f} s", file=sys.stderr)
    except ChildError as error:
        sheet.publish([], quick=True, missing=[str(error)])
        return
    tables = [speed(mine, loops, series), *reading(missing, quick=asked.quick)]
    sheet.publish(tables, quick=asked.quick, missing=missing, versions=[str(loops["loess"][-1]["versions"])])


def speed(mine: Mapping[str, Sequence[Answer]], loops: Mapping[str, Sequence[Answer]], series: int) -> Table:
    """Seconds of each part, and of all three together with either LOESS."""
    ours_ = {work: [float(one["seconds"]) for one in found] for work, found in mine.items()}
    loop = {work: [float(one["seconds"]) / int(one["series"]) * series for one in found] for work, found in loops.items()}
    about = {**WORK, "alone": "the same periods, series after series"}
    rows = []
    for work in loop:
        here = ours_["periods" if work == "alone" else work]
        peak = f"{max(int(one['beyond']) for one in mine[work]) / 1e9:.2f}" if work in mine else ""
        rows.append((about[work], f"{Spread.of(here):.2f}", f"{Spread.of(loop[work]):.0f}", f"{ratios(loop[work], here):.0f}", "", peak))
    for kind, goal in GOALS.items():
        for found, told in FOUND.items():
            whole = [sum(ours_[part][turn] for part in (kind, "periods", "log_change")) for turn in range(len(ours_[kind]))]
            looped = [sum(loop[part][turn] for part in (kind, found, "log_change")) for turn in range(len(whole))]
            name = f"**all three, {KINDS[kind]}, {told}**"
            rows.append((name, f"{Spread.of(whole):.2f}", f"{Spread.of(looped):.0f}", f"**{ratios(looped, whole):.0f}**", f"≥ {goal}", ""))
    columns = ("part", "all at once, s", "the loop, extrapolated, s", "times faster", "goal", "peak beyond the panel, GB")
    return Table(f"{series:,} series × {DAYS:,} days, float32", columns, rows)


def reading(missing: list[str], *, quick: bool) -> list[Table]:
    """`ft.read_m5` of a folder as Kaggle gives it: the days that are here, repeated back to the first."""
    folder = DATA / "retail" / "m5"
    if not (folder / "sell_prices.parquet").is_file():
        missing.append("the M5 files are not in FORETELL_DATA (default ../shared/data): reading was not measured")
        return []
    with tempfile.TemporaryDirectory() as scratch:
        made = kaggle(folder, Path(scratch), 300 if quick else SERIES)
        found = ask(ours(), "preparation_foretell.py", work="read", folder=made)
    row = (
        f"{found['series']:,} × {found['days']:,}",
        f"{found['panel'] / 1e9:.2f}",
        f"{found['seconds']:.1f}",
        f"**{found['peak'] / 1e9:.2f}**",
        f"≤ {MOST:g}",
    )
    return [Table("ft.read_m5, all item-store series, from csv", ("series × days", "panel, GB", "s", "highest resident memory, GB", "goal"), [row])]


def kaggle(folder: Path, scratch: Path, series: int) -> Path:
    """The three files, csv, of the full size."""
    import polars as pl

    wide = pl.read_parquet(folder / "sales_all30490_d1495_d1941.parquet").head(series)
    here = [c for c in wide.columns if c.startswith("d_")]
    facts = wide.select([c for c in wide.columns if not c.startswith("d_")])
    days = {f"d_{day}": wide[here[(day - 1) % len(here)]] for day in range(1, DAYS + 1)}
    facts.with_columns(**days).write_csv(scratch / "sales_train_evaluation.csv")
    pl.read_parquet(folder / "sell_prices.parquet").write_csv(scratch / "sell_prices.csv")
    pl.read_csv(folder / "calendar.csv.gz").write_csv(scratch / "calendar.csv")
    return scratch


PROTOCOL = """Made-up sales of the size of M5: counts with a week in them, many zeros, items that start late. The loop takes one series after another:
statsmodels' lowess (frac 0.1), numpy's spectrum and its 20 strongest lines, pandas' difference of logs; it is timed on a sample and
extrapolated. What is done at once is more for the periods: harmonics and trend are told apart, and each strength is the share of variance that
the period explains; so a row has the very same periods found series after series, by foretell too. Ours runs with torch's default of threads,
the loop with one, as such loops do. Each part in a process of its own, round after round; memory is the highest resident size beyond that before
the part began. For reading it is that of the whole process: sales and prices as csv files, the days before those at hand filled by repeating
them."""

if __name__ == "__main__":
    main()
