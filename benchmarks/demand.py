"""How good are the forecasts of daily demand, 28 days ahead, beside LightGBM, AutoETS and the seasonal naive?"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from common.data import DATA
from common.spread import Spread
from common.tables import Table, page

import foretell as ft
from foretell import MovingAverage, Panel, Task, Training, forecast
from foretell.forecast import Member
from foretell.forecaster import Net
from foretell.neighbours import Boosting, Statistical
from foretell.nets import PeriodKernel, SeasonalRidge
from foretell.nets.period_kernel import presets
from foretell.transform.price import price_channels

HORIZON, BLOCKS = 28, 3
STOP = 0.02  # of the days, for choices; nothing is kept back for bands here, which the table does not judge
PRICES = ("price_change", "price_relative")
LAGS = (1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 20, 21, 22, 27, 28, 29, 42, 56, 364)
TREES = Boosting(objective="tweedie", lags=LAGS, means=(7, 14, 28, 56, 182), history=400)
TOGETHER = PeriodKernel(kernels=8, filters=8, size=8, dense=32, ahead=32, own_head=True)
KEPT = " Rows were measured one after another or side by side and kept; their seconds are those of a machine as busy as it was then."
LONG = {"batch": 512, "epochs": 20, "patience": 4}  # of one net for all: a hundred thousand windows an epoch
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
    parser.add_argument("--rows", help="models, with semicolons between; left out: all but those that take hours", default="")
    parser.add_argument("--publish", action="store_true", help="write the page although it has only the rows asked for")
    parser.add_argument("--seeds", type=int, default=3, help="of rows that draw random numbers")
    parser.add_argument("--slow", action="store_true", help="the notebook's configuration too: hours")
    parser.add_argument("--earlier", type=int, default=0, help="judge on the blocks so many blocks before the last: where choices are made")
    parser.add_argument("--quick", action="store_true", help="a few series and one block: shows that it runs")
    parser.add_argument("--folder", type=Path, help="where each row and seed is kept when it is done: a killed run goes on, several can share the rows")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        run(name, asked)


def run(name: str, asked: argparse.Namespace) -> None:
    """One source's page; if the files are not there, the page says so and an older result stays."""
    made = {"m5": m5, "online_retail": online_retail}[name]
    about = (made.__doc__ or "") + (KEPT if asked.folder else "")
    sheet = page(f"demand-{name.replace('_', '-')}", f"How accurate: {name.replace('_', ' ')}, 28 days ahead", about)
    source = made()
    if source is None:
        sheet.publish([], quick=True, missing=["the files are not in FORETELL_DATA (default ../shared/data)"])
        return
    some = bool(asked.rows) and not asked.publish
    sheet.publish([compared(source, asked)], quick=asked.quick or some or bool(asked.earlier))


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
    panel = price_channels(panel, "price")
    known = ("price", *PRICES, "snap", "cultural", "national", "religious", "sporting", *ft.calendar_of(panel))
    revenue = panel.channel("sales").nan_to_num() * panel.channel("price").nan_to_num()
    return Source("M5, 84 state-item series", panel, Task(target="sales", known=known, past=(), context=56, horizon=HORIZON, floor=0), revenue)


def online_retail() -> Source | None:
    """The 200 busiest items of a British web shop, 739 days of quantities with price, holidays and the calendar known ahead; most
    buyers are wholesalers. Blocks, errors and weights as for M5; nothing was chosen on this source."""
    import polars as pl

    file = DATA / "retail" / "online_retail_daily" / "uk_top200_daily.parquet"
    if not file.is_file():
        return None
    frame = pl.read_parquet(file).with_columns(price=pl.when(pl.col("price") > 0).then("price").fill_null(strategy="forward").over("item_id"))
    begun = (pl.col("quantity") > 0).cum_max().over("item_id")
    frame = frame.sort("item_id", "date").with_columns(quantity=pl.when(begun).then(pl.col("quantity").cast(pl.Float64)), item_id=pl.col("item_id").cast(str))
    holiday = (pl.col("uk_holiday").fill_null("") != "").cast(pl.Float64).alias("uk_holiday")
    panel = ft.read(frame.select("item_id", "date", "quantity", "price", holiday), id="item_id", time="date")
    panel = price_channels(panel.with_calendar("weekday", "weekend", "dayofyear", "halfyear"), "price")
    known = ("price", *PRICES, "uk_holiday", *ft.calendar_of(panel))
    revenue = panel.channel("quantity").nan_to_num() * panel.channel("price").nan_to_num()
    return Source("Online retail, 200 items", panel, Task(target="quantity", known=known, past=(), context=56, horizon=HORIZON, floor=0), revenue)


class Row(NamedTuple):
    """How a row is fitted from a seed; `drawn` if it draws random numbers, `slow` if it takes hours."""

    fit: Callable[[int], Fit]
    drawn: bool = False
    slow: bool = False


def contenders(task: Task) -> Mapping[str, Row]:
    """The rows beside the seasonal naive, which every backtest has. Trees read prices against their own past too; others do by themselves."""
    lean = task.model_copy(update={"known": tuple(name for name in task.known if name not in PRICES)})
    plain, counts = Training(stop=STOP, calibrate=0), Training(stop=STOP, calibrate=0, scale="mean", loss="mse")
    notebook = presets()["notebook"]

    def fit(net: Net, training: Training = counts, *, of: Task = lean, per_series: bool = False) -> Callable[[int], Fit]:
        return lambda seed: partial(forecast.fit, task=of, net=net, training=training.model_copy(update={"seed": seed}), per_series=per_series)

    def mixed(seed: int) -> Fit:
        seeded = counts.model_copy(update={"seed": seed})
        nets = {
            "ridge": Member(SeasonalRidge(), seeded, per_series=True),
            "trees": Member(TREES, plain.model_copy(update={"seed": seed})),
            "net": Member(TOGETHER, seeded.model_copy(update=LONG)),
        }
        return partial(forecast.ensemble, task=task, nets=nets, training=seeded)

    return {
        "moving average, 28 days": Row(fit(MovingAverage(window=28), plain)),
        "AutoETS": Row(fit(Statistical(), plain)),
        "LightGBM, Tweedie": Row(fit(TREES, plain, of=task), drawn=True),
        "one seasonal ridge for all": Row(fit(SeasonalRidge())),
        "a seasonal ridge per item": Row(fit(SeasonalRidge(), per_series=True)),
        "a net per item": Row(fit(PeriodKernel(), per_series=True), drawn=True),
        "one net, labels as embeddings": Row(fit(TOGETHER.model_copy(update={"own_head": False}), counts.model_copy(update=LONG)), drawn=True),
        "one net, own heads": Row(fit(TOGETHER, counts.model_copy(update=LONG)), drawn=True),
        "ensemble: ridge per item, trees, one net": Row(mixed, drawn=True),
        "the notebook's configuration, a net per item": Row(
            fit(notebook.net, Training.model_validate({**notebook.training, "stop": STOP, "calibrate": 0}), per_series=True), drawn=True, slow=True
        ),
    }


def compared(source: Source, asked: argparse.Namespace) -> Table:
    """A row a model: the three errors, means over the blocks, and over the seeds of what draws random numbers."""
    panel = source.panel.pick(*source.panel.series[:6]) if asked.quick else source.panel
    if asked.earlier:
        panel = panel.until(panel.last(*source.task.target) - asked.earlier * HORIZON)
    rows = contenders(source.task)
    wanted = asked.rows.split(";") if asked.rows else [name for name, row in rows.items() if asked.slow or not row.slow]
    body = []
    for name in wanted:
        seeds = range(asked.seeds if rows[name].drawn else 1)
        every = [kept(source, panel, name, rows[name].fit(seed), seed, asked) for seed in seeds]
        if not body:
            naive = every[0].naive
            body.append(("seasonal naive", "", *(f"{v:.4f}" for v in naive.errors), f"{naive.seconds:.1f}"))
        spread = [Spread.of([one.row.errors[metric] for one in every]) for metric in range(3)]
        mean = [sum(one.row.errors[metric] for one in every) / len(every) for metric in range(3)]
        cells = [f"{m:.4f}" + (f" [{of.low:.4f}, {of.high:.4f}]" if len(every) > 1 else "") for m, of in zip(mean, spread, strict=True)]
        seconds = sum(one.row.seconds for one in every) / len(every)
        body.append((name, len(every) if rows[name].drawn else "", *cells, f"{seconds:.1f}"))
    return Table(f"{source.about}: {every[0].blocks}", ("model", "seeds", "RMSSE", "RMSSE by revenue", "WAPE", "seconds"), body)


class Scored(NamedTuple):
    """Mean RMSSE, RMSSE weighted by revenue, WAPE; and the seconds of all blocks."""

    errors: Sequence[float]
    seconds: float


class Judged(NamedTuple):
    """A row and seed, the seasonal naive of the same backtest, and which blocks they were judged on."""

    row: Scored
    naive: Scored
    blocks: str


def kept(source: Source, panel: Panel, name: str, fit: Fit, seed: int, asked: argparse.Namespace) -> Judged:
    """What a row and seed scored: read from the folder if it is there, else measured and put there."""
    scope = f"{len(panel)} series, {asked.earlier} blocks earlier" + (", quick" if asked.quick else "")
    file = asked.folder and asked.folder / f"{source.about.partition(',')[0]}, {scope}, {name.replace(':', '')}, {seed}.json"
    if file and file.is_file():
        row, naive, blocks = json.loads(file.read_text(encoding="utf-8"))
        return Judged(Scored(*row), Scored(*naive), blocks)
    found = judged(source, panel, fit, windows=1 if asked.quick else BLOCKS)
    print(f"{name}, seed {seed}: {', '.join(f'{v:.4f}' for v in found.row.errors)}; {found.row.seconds:.0f} s", file=sys.stderr, flush=True)
    if file:
        asked.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found), encoding="utf-8")
    return found


def judged(source: Source, panel: Panel, fit: Fit, windows: int) -> Judged:
    """One row, one seed: a backtest. It takes the place of the ridge that every backtest adds, which is the one for context,
    a map of hundreds of weights a step."""
    result = ft.backtest({"ridge": fit}, panel, task=source.task, windows=windows)
    revenue = source.revenue[[source.panel.series.index(s) for s in panel.series]]
    row, naive = (Scored(errors(result, model, panel, revenue), (result.seconds or {})[model]) for model in ("ridge", "seasonal_naive"))
    return Judged(row, naive, f"{len(result.cutoff)} blocks from {str(result.clock.local(int(result.cutoff.min()) + 1))[:10]}")


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


if __name__ == "__main__":
    main()
