"""How well is a promotion's lift recovered? Nets against the known path in simulated shops, and M5's price changes with bands."""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import mean, median
from typing import NamedTuple

import torch
from common.data import find
from common.tables import Table, page

import foretell as ft
from foretell import Forecaster, Panel, Task, Training, forecast, plan
from foretell.nets import LSTMTransformer, Ridge, StackedLSTM
from foretell.optim import Optimizer
from foretell.plan.plans import Band
from foretell.worlds import shop
from foretell.worlds.shop import ShopWorld

FIRST, DAYS, HORIZON, DISCOUNT = 3, 5, 21, 0.2
PROTOCOL = """
**Simulated.** Each shop (`foretell.worlds.shop(seed)`) is 20 items over 420 days with discounts of 10 to 30 %, noise of 15 %.
Every net is fitted on the history of all items, with the discount known ahead; the promotion is 20 % on days 3 to 7 of the 21
that follow. *Lift* is the share by which the promoted days exceed the same days without it, of each item; its error is
|estimate − truth| / truth. *Path* is the mean absolute error of the extra units, day by day over the whole horizon, as a share
of the mean true extra units of a promoted day. *After* is the estimated dip after the promotion over the true one, all items
together. In the 80 % band: share of items whose true lift, extra units on the promoted days, later and in total lie in theirs, which
rest on each item's own past promotions (`plan.promotion`); how was settled on shops of seeds from 100 on.
"""
MEASURED = """
The last 800 days of the 12 state and item series of M5 with the most price promotions: days on which the price stands 5 % or more below the
highest of the 29 days around. One LSTM of all 12, `plan.fit_promotion`, whose members learn from a half of the days each, is asked what a tenth off the
usual price brings for seven days, and what the seven days after them lose. Bands rest on each item's own past promotions, drawn towards what
all share; they do not know whether prices were lowered for a reason that moves sales as well. *Checked*: nothing can be, for M5 holds no
experiment.
"""
Fit = Callable[[Panel, Task, bool], Forecaster]


class Row(NamedTuple):
    """A net in a shop."""

    lift: float
    path: float
    after: float
    covered: tuple[float, ...]  # lift, during, after, total


def main() -> None:
    """Every net in every shop, then M5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one shop, one epoch: shows that it runs")
    parser.add_argument("--shops", type=int, default=3)
    parser.add_argument("--only", choices=("shops", "m5"), help="one of the two pages")
    asked = parser.parse_args()
    if asked.only != "m5":
        shops(1 if asked.quick else asked.shops, asked.quick)
    if asked.only != "shops":
        retail(asked.quick)


def shops(count: int, quick: bool) -> None:
    """Every net in every shop, against the known path."""
    sheet = page("promotion", "How well is a promotion's lift recovered?", PROTOCOL)
    found: dict[str, list[Row]] = {name: [] for name in NETS}
    for seed in range(count):
        world = shop(seed, items=4 if quick else 20)
        panel = world.panel.with_calendar("weekday")
        task = Task(target="units", known=("discount", *ft.calendar_of(panel)), context=28, horizon=HORIZON, levels=(), floor=0)
        for name, fit in NETS.items():
            found[name].append(judged(world, plan.promotion(fit(panel, task, quick), panel, DISCOUNT, first=FIRST, days=DAYS)))
            print(seed, name, found[name][-1], flush=True)
    sheet.publish([recovered(found)], quick=quick)


def retail(quick: bool) -> None:
    """M5's prices: no truth is known, so the bands are all there is."""
    sheet = page("promotion-m5", "What do M5's price changes bring?", MEASURED)
    path = find("retail/m5/state_item_84_d1_d1941_long.parquet")
    panel = path and ft.read(path, id=("state_id", "item_id"), time="date", channels=("sales", "sell_price", "snap"))
    sheet.publish([prices(panel, quick)] if panel else [], quick=quick, missing=[] if panel else ["M5"])


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
    truths = ((found.lift, lift), (found.during, extra[:, at].sum(1)), (found.after, extra[:, at.stop :].sum(1)), (found.total, extra[:, at.start :].sum(1)))
    inside = tuple(
        sum(float(low) <= float(t) <= float(high) for (low, high), t in zip((of(item).ends(80) for item in found.series), true, strict=True)) / len(true)
        for of, true in truths
    )
    return Row(
        float(((told - lift).abs() / lift).median()), float((path - extra).abs().mean() / extra[:, at].mean()),
        float(path[:, at.stop :].sum() / extra[:, at.stop :].sum()), inside,
    )  # fmt: skip


def recovered(found: dict[str, list[Row]]) -> Table:
    columns = ("net", "error of the lift, median item", "error of the path", "after: told / true", "in the 80 % band: lift", "during", "after", "in total")
    rows = [
        (name, *(percent(median([row[k] for row in rows])) for k in (0, 1)), f"{median([row.after for row in rows]):.2f}",
         *(percent(mean([row.covered[k] for row in rows])) for k in range(4)))
        for name, rows in found.items()
    ]  # fmt: skip
    return Table(f"Lift in {len(next(iter(found.values())))} simulated shops, medians over the shops; shares of all items", columns, rows)


def prices(panel: Panel, quick: bool) -> Table:
    """A tenth off the usual price for a week, in the series with the most promotions."""
    last = int(panel.last("sales").min())
    panel = panel.until(last).between(last - 799, last)
    price = panel.channel("sell_price").double()
    highest = torch.nn.functional.max_pool1d(price.nan_to_num(0.0)[:, None], 29, 1, 14)[:, 0]
    promoted = (price < 0.95 * highest).sum(1).where(price.isfinite().sum(1) > 700, -1)
    at = promoted.argsort(descending=True)[: 4 if quick else 12].tolist()
    chosen = panel.pick(*(panel.series[k] for k in at)).with_calendar("weekday")
    task = Task(target="sales", known=("sell_price", *ft.calendar_of(chosen)), past=(), context=28, horizon=14, levels=(), floor=0)
    model = plan.fit_promotion(chosen, task, members=2 if quick else 4, epochs=1 if quick else 25)
    found = plan.promotion(model, chosen, 0.1, channel="sell_price", price=True, days=7)
    days = [*(int(promoted[k]) for k in at), int(promoted[at].sum())]
    lines = [
        (item or "(all)", count, banded(found.lift(item), 100, " %"), banded(found.during(item), 1), banded(found.after(item), 1), banded(found.total(item), 1))
        for item, count in zip([*found.series, None], days, strict=True)
    ]
    return Table("A tenth off for seven days, 80 % bands", ("series", "days promoted", "lift", "extra units", "in the seven days after", "in total"), lines)


def banded(band: Band, times: float, unit: str = "") -> str:
    low, high = (float(end) * times for end in band.ends(80))
    return f"{float(band.mean) * times:.1f} ({low:.1f} … {high:.1f}){unit}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


if __name__ == "__main__":
    main()
