"""How good are the forecasts of daily demand, 28 days ahead, beside LightGBM, AutoETS and the seasonal naive?"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from common.data import DATA
from common.tables import Table, page

import foretell as ft
from foretell import MovingAverage, Panel, Task, Training, forecast
from foretell.neighbours import Boosting, Statistical
from foretell.nets import SeasonalRidge

HORIZON, BLOCKS = 28, 3
STOP = 0.02  # of the days, for choices; nothing is kept back for bands here, which the table does not judge
Fit = Callable[[Panel], ft.Forecaster]


@dataclass(frozen=True)
class Source:
    """A panel, the question asked of it, and the revenue of each series and day, which weighs the errors."""

    about: str
    panel: Panel
    task: Task
    revenue: torch.Tensor


def main() -> None:
    """Both sources, each with a page of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="sources, with commas between: m5,online_retail", default="m5,online_retail")
    parser.add_argument("--rows", help="models, with commas between; left out: all", default="")
    parser.add_argument("--earlier", type=int, default=0, help="judge on the blocks so many blocks before the last: where choices are made")
    parser.add_argument("--quick", action="store_true", help="a few series and one block: shows that it runs")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        run(name, asked.rows, asked.earlier, asked.quick)


def run(name: str, rows: str, earlier: int, quick: bool) -> None:
    """One source's page; if the files are not there, the page says so and an older result stays."""
    made = {"m5": m5, "online_retail": online_retail}[name]
    sheet = page(f"demand-{name.replace('_', '-')}", f"How accurate: {name.replace('_', ' ')}, 28 days ahead", made.__doc__ or "")
    source = made()
    if source is None:
        sheet.publish([], quick=True, missing=["the files are not in FORETELL_DATA (default ../shared/data)"])
        return
    sheet.publish([compared(source, rows, earlier, quick)], quick=quick or bool(rows) or bool(earlier))


def m5() -> Source | None:
    """M5, 28 items in three states: 84 series of daily sales from 2011 to 2016, with price, snap, the four kinds of events and the
    calendar known ahead. Three blocks of 28 days, the last 84 days; every model is fitted again before each. RMSSE by the
    competition: squared errors over the mean squared change from day to day since the first sale; weighted by the revenue
    of the 28 days before the block; WAPE over all series and days. Means of the three blocks. All that was chosen (features, λ,
    scale) was chosen on six to thirteen blocks before these three."""
    folder = DATA / "retail" / "m5"
    if not folder.is_dir():
        return None
    panel = ft.read_m5(folder, "state-item", sales="sales_28items_10stores_d1_d1941.parquet").with_calendar("weekday", "weekend", "dayofyear", "halfyear")
    known = ("price", "snap", "cultural", "national", "religious", "sporting", *ft.calendar_of(panel))
    revenue = panel.channel("sales").nan_to_num() * panel.channel("price").nan_to_num()
    return Source("M5, 84 state-item series", panel, Task(target="sales", known=known, context=56, horizon=HORIZON, floor=0), revenue)


def online_retail() -> Source | None:
    """The 200 busiest items of a British web shop, 739 days of quantities with price, holidays and the calendar known ahead; most
    buyers are wholesalers. Blocks, errors and weights as for M5; nothing was chosen on this source."""
    import polars as pl

    file = DATA / "retail" / "online_retail_daily" / "uk_top200_daily.parquet"
    if not file.is_file():
        return None
    frame = pl.read_parquet(file).with_columns(price=pl.col("price").fill_null(strategy="forward").over("item_id"))
    begun = (pl.col("quantity") > 0).cum_max().over("item_id")
    frame = frame.sort("item_id", "date").with_columns(quantity=pl.when(begun).then(pl.col("quantity").cast(pl.Float64)), item_id=pl.col("item_id").cast(str))
    holiday = (pl.col("uk_holiday").fill_null("") != "").cast(pl.Float64).alias("uk_holiday")
    panel = ft.read(frame.select("item_id", "date", "quantity", "price", holiday), id="item_id", time="date")
    panel = panel.with_calendar("weekday", "weekend", "dayofyear", "halfyear")
    known = ("price", "uk_holiday", *ft.calendar_of(panel))
    revenue = panel.channel("quantity").nan_to_num() * panel.channel("price").nan_to_num()
    return Source("Online retail, 200 items", panel, Task(target="quantity", known=known, context=56, horizon=HORIZON, floor=0), revenue)


def contenders(task: Task) -> Mapping[str, Fit]:
    """The rows beside the seasonal naive, which every backtest has."""
    fit = partial(forecast.fit, task=task, training=Training(stop=STOP, calibrate=0))
    counts = Training(stop=STOP, calibrate=0, scale="mean")
    return {
        "moving average, 28 days": partial(fit, net=MovingAverage(window=28)),
        "AutoETS": partial(fit, net=Statistical()),
        "LightGBM, Tweedie": partial(fit, net=Boosting(objective="tweedie")),
        "one seasonal ridge for all": partial(fit, net=SeasonalRidge(), training=counts),
        "a seasonal ridge per item": partial(fit, net=SeasonalRidge(), training=counts, per_series=True),
    }


def compared(source: Source, rows: str, earlier: int, quick: bool) -> Table:
    """A row a model: the three errors, means over the blocks."""
    panel = source.panel.pick(*source.panel.series[:6]) if quick else source.panel
    at = [source.panel.series.index(s) for s in panel.series]
    if earlier:
        panel = panel.until(panel.last(*source.task.target) - earlier * HORIZON)
    models = contenders(source.task)
    chosen = {name: fit for name, fit in models.items() if not rows or name in rows.split(",")}
    # The ridge that every backtest adds is the one for context, a map of hundreds of weights a step: here the ridge for demand stands in.
    result = ft.backtest({"ridge": models["a seasonal ridge per item"], **chosen}, panel, task=source.task, windows=1 if quick else BLOCKS, watch=told)
    shown = [m for m in result.models if m != "ridge"]
    body = [(m, *(f"{v:.4f}" for v in errors(result, m, panel, source.revenue[at])), f"{(result.seconds or {})[m]:.1f}") for m in shown]
    blocks = f"{len(result.cutoff)} blocks from {str(result.clock.local(int(result.cutoff.min()) + 1))[:10]}"
    return Table(f"{source.about}: {blocks}", ("model", "RMSSE", "RMSSE by revenue", "WAPE", "seconds"), body)


def errors(result: ft.Backtest, model: str, panel: Panel, revenue: torch.Tensor) -> Sequence[float]:
    """Mean RMSSE, RMSSE weighted by revenue, WAPE."""
    found = []
    sales = panel.channel(result.targets[0]).double()
    for truth, point, cut in zip(result.truth[..., 0].double(), result.point[model][..., 0].double(), result.cutoff, strict=True):
        last = int(cut.max()) - int(panel.start.min())
        change = sales[:, : last + 1].diff(dim=1).square()
        square = (truth - point).square().nanmean(1) / change.nanmean(1)
        weight = revenue[:, last - HORIZON + 1 : last + 1].sum(1).double()
        each = square.sqrt()
        found.append((float(each.nanmean()), float((each * weight / weight.sum()).nansum()), float((truth - point).abs().nansum() / truth.nansum())))
    return [sum(column) / len(column) for column in zip(*found, strict=True)]


def told(progress: object) -> None:
    """Who watches sees what is done."""
    print(progress, file=sys.stderr)


if __name__ == "__main__":
    main()
