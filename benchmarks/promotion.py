"""How well is a promotion's lift recovered? Nets against the known path in simulated shops, and M5's price changes with bands."""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from common.data import find
from common.tables import Table, page

import foretell as ft
from foretell import Forecaster, Panel, Task, Training, forecast, plan
from foretell.nets import LSTMTransformer, Ridge, StackedLSTM
from foretell.optim import Optimizer
from foretell.worlds import shop
from foretell.worlds.shop import ShopWorld

FIRST, DAYS, HORIZON, DISCOUNT = 3, 5, 21, 0.2
PROTOCOL = """
**Simulated.** Each shop (`foretell.worlds.shop(seed)`) is 20 items over 420 days with discounts of 10 to 30 %, noise of 15 %.
Every net is fitted on the history of all items, with the discount known ahead; the promotion is 20 % on days 3 to 7 of the 21
that follow. *Lift* is the share by which the promoted days exceed the same days without it, of each item; its error is
|estimate − truth| / truth. *Path* is the mean absolute error of the extra units, day by day over the whole horizon, as a share
of the mean true extra units of a promoted day. *After* is the estimated dip after the promotion over the true one, all items
together. 80 % band: share of items whose true extra units on the promoted days lie in it.
"""
Fit = Callable[[Panel, Task, bool], Forecaster]


class Row(NamedTuple):
    """A net in a shop."""

    lift: float
    path: float
    after: float
    covered: float


def main() -> None:
    """Every net in every shop, then M5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one shop, one epoch: shows that it runs")
    parser.add_argument("--shops", type=int, default=3)
    asked = parser.parse_args()
    sheet = page("promotion", "How well is a promotion's lift recovered?", PROTOCOL)
    found: dict[str, list[Row]] = {name: [] for name in NETS}
    for seed in range(1 if asked.quick else asked.shops):
        world = shop(seed, items=4 if asked.quick else 20)
        panel = world.panel.with_calendar("weekday")
        task = Task(target="units", known=("discount", *ft.calendar_of(panel)), context=28, horizon=HORIZON, levels=(), floor=0)
        for name, fit in NETS.items():
            found[name].append(judged(world, plan.promotion(fit(panel, task, asked.quick), panel, DISCOUNT, first=FIRST, days=DAYS)))
            print(seed, name, found[name][-1], flush=True)
    tables = [recovered(found)]
    retail = find("retail/m5/state_item_84_d1_d1941_long.parquet")
    if retail:
        tables.append(prices(ft.read(retail, id=("state_id", "item_id"), time="date", channels=("sales", "sell_price", "snap")), asked.quick))
    sheet.publish(tables, quick=asked.quick, missing=[] if retail else ["M5"])


def trained(panel: Panel, task: Task, quick: bool, *, net: StackedLSTM | LSTMTransformer) -> Forecaster:
    optimizer = Optimizer(rate=2e-3)
    training = Training(epochs=1 if quick else 25, batch=256, optimizer=optimizer, halves=True, patience=5, retrain=False, device="cpu", seed=1)
    return forecast.fit(panel, task, net, training, members=2 if quick else 3)


def straight(panel: Panel, task: Task, quick: bool) -> Forecaster:
    return forecast.fit(panel, task, Ridge(), Training(), per_series=True)


NETS: dict[str, Fit] = {
    "ridge, one an item": straight,
    "LSTM": partial(trained, net=StackedLSTM(hidden=(32,), dropout=0.1)),
    "LSTM + Transformer": partial(trained, net=LSTMTransformer(hidden=32, feedforward=64)),
}


def judged(world: ShopWorld, found: plan.Promotion) -> Row:
    """Against the world's own path."""
    ahead = torch.zeros(len(world.base), HORIZON, dtype=torch.float64)
    bare = world.units(ahead)
    at = slice(FIRST - 1, FIRST - 1 + DAYS)
    ahead[:, at] = DISCOUNT
    extra = world.units(ahead) - bare
    lift = extra[:, at].sum(1) / bare[:, at].sum(1)
    told = torch.tensor([float(found.lift(item).mean) for item in found.series]).double()
    path = torch.stack([found.path(item).mean for item in found.series]).double()
    ends = [found.during(item).ends(80) for item in found.series]
    inside = [float(low) <= float(e) <= float(high) for (low, high), e in zip(ends, extra[:, at].sum(1), strict=True)]
    return Row(
        float(((told - lift).abs() / lift).median()), float((path - extra).abs().mean() / extra[:, at].mean()),
        float(path[:, at.stop :].sum() / extra[:, at.stop :].sum()), sum(inside) / len(inside),
    )  # fmt: skip


def recovered(found: dict[str, list[Row]]) -> Table:
    columns = ("net", "error of the lift, median item", "error of the path", "after: told / true", "in the 80 % band")
    rows = [
        (name, *(percent(median([row[k] for row in rows])) for k in (0, 1)), f"{median([row.after for row in rows]):.2f}",
         "" if name.startswith("ridge") else percent(median([row.covered for row in rows])))
        for name, rows in found.items()
    ]  # fmt: skip
    return Table(f"Lift in {len(next(iter(found.values())))} simulated shops, medians over the shops", columns, rows)


def prices(panel: Panel, quick: bool) -> Table:
    """A tenth off the usual price for a week, in the series of M5 whose price moved most."""
    last = int(panel.last("sales").min())
    panel = panel.until(last).between(last - 799, last)
    price = panel.channel("sell_price")
    moved = [float(line[line.isfinite()].std() / line[line.isfinite()].mean()) if int(line.isfinite().sum()) > 700 else 0.0 for line in price]
    names = [panel.series[i] for i in sorted(range(len(moved)), key=lambda i: -moved[i])[: 4 if quick else 12]]
    chosen = panel.pick(*names).with_calendar("weekday")
    task = Task(target="sales", known=("sell_price", *ft.calendar_of(chosen)), past=(), context=28, horizon=14, levels=(), floor=0)
    found = plan.promotion(trained(chosen, task, quick, net=StackedLSTM(hidden=(32,), dropout=0.1)), chosen, 0.1, channel="sell_price", price=True, days=7)
    rows = found.rows()
    lines = [
        (str(item), percent(rows["lift"][k]), f"{percent(rows['lift-lo-80'][k])} … {percent(rows['lift-hi-80'][k])}",
         f"{rows['after'][k]:.1f} ({rows['after-lo-80'][k]:.1f} … {rows['after-hi-80'][k]:.1f})")
        for k, item in enumerate(rows[panel.names.id])
    ]  # fmt: skip
    return Table("M5: a tenth off the usual price for seven days (no truth is known)", ("series", "lift", "80 % band", "units in the seven days after"), lines)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


if __name__ == "__main__":
    main()
