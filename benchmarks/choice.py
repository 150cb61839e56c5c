"""Would the choice have been right: ft.choose on the data before the test, then every row of it on the test itself."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accuracy import m4_scores
from common.data import find
from common.naive2 import naive2
from common.tables import Table, page

import foretell as ft
from foretell import Task, Training, forecast
from foretell.backtesting import cuts_of
from foretell.choosing import ENSEMBLE
from foretell.forecast import Learnt, Member
from foretell.neighbours import Boosting, Statistical
from foretell.nets import LSTMTransformer, Ridge, StackedLSTM

Scores = Mapping[str, float]
QUICK = {"epochs": 1}


@dataclass(frozen=True)
class Case:
    """A data set, the rows to choose from, and the test that the choice has not seen. `beside` are rows of the test alone."""

    panel: ft.Panel
    task: Task
    training: Training
    rows: Mapping[str, Member]
    test: float | str | int
    score: Callable[[ft.Backtest, str], Scores]
    windows: int | None = None
    refit: int = 0
    beside: Mapping[str, Member] | None = None


def main() -> None:
    """Every data set that was asked for and is there, each with a page of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES), help=f"data sets, with commas between: {','.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="one epoch, little data: shows that it runs")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        if name not in CASES:
            parser.error(f"no data set {name!r}: one of {', '.join(CASES)}")
        file, made = CASES[name]
        sheet, path = page(f"choice-{name.replace('_', '-')}", f"Was the choice right: {name.replace('_', ' ')}", made.__doc__ or ""), find(file)
        if path is None:
            sheet.publish([], quick=True, missing=[f"{file} is not in FORETELL_DATA (default ../shared/data)"])
        else:
            sheet.publish(compared(made(path, asked.quick)), quick=asked.quick)


def compared(case: Case) -> list[Table]:
    """The table that chose, then the table of the test with the choice among its rows."""
    test = {"windows": case.test} if isinstance(case.test, int) else {"test": case.test, "step": case.task.horizon}
    counted = (case.test, None) if isinstance(case.test, int) else (1, case.test)
    first = cuts_of(case.panel, case.task, counted[0], case.task.horizon, counted[1])[0]
    choice = ft.choose(case.panel.until(first), case.task, case.training, nets=case.rows, windows=case.windows, watch=told)
    learnt: dict[tuple[str, int], Learnt] = {}
    models = {name: partial(kept, name, row, case, learnt) for name, row in case.rows.items()}
    models[ENSEMBLE] = partial(mixed, case, learnt)
    models |= {name: partial(kept, name, row, case, {}) for name, row in (case.beside or {}).items()}
    result = ft.backtest(models, case.panel, task=case.task, refit=case.refit, watch=told, **test)
    scores = {name: case.score(result, name) for name in (n for n in result.models if n in models or n == "seasonal_naive")}
    names = tuple(next(iter(scores.values())))
    before = choice.table.scores()
    rows = [
        (
            f"**{name}** (chosen)" if name == choice.name else name,
            f"{float(before[name][choice.metric]):.4f}" if name in before else "",
            *(f"{found[n]:.4f}" for n in names),
            f"{(result.seconds or {})[name]:.0f}",
        )
        for name, found in scores.items()
    ]
    single = min(found[names[0]] for name, found in scores.items() if name in case.rows)
    ratio = scores[choice.name][names[0]] / single
    about = (
        f"chosen by {choice.metric} over {len(choice.table.cutoff)} origins before the test: {choice.name}, {ratio - 1:+.1%} against the best "
        f"single row of the test; shares of the ensemble: {SHARES.get('told', '')}"
    )
    return [Table(about, ("model", f"{choice.metric} before the test", *names, "seconds"), rows)]


SHARES: dict[str, str] = {}


def kept(name: str, row: Member, case: Case, learnt: dict[tuple[str, int], Learnt], panel: ft.Panel) -> ft.Forecaster:
    """Fits a row and puts it aside, by the end of what it saw, for the ensemble."""
    found = learnt[name, ended(panel, case)] = forecast.learnt(panel, case.task, row, case.training)
    return found.model


def ended(panel: ft.Panel, case: Case) -> int:
    """Clock step of the last target."""
    return int(panel.last(*case.task.target).max())


def mixed(case: Case, learnt: Mapping[tuple[str, int], Learnt], panel: ft.Panel) -> ft.Forecaster:
    """The ensemble of all rows that saw as much as this panel holds."""
    rows = {name: one for (name, end), one in learnt.items() if end == ended(panel, case)}
    model = forecast.mixed(panel, case.task, rows, case.training)
    SHARES["told"] = str(model.facts["shares"])
    return model


def nord_pool(path: Path, quick: bool) -> Case:
    """Day-ahead price, EUR/MWh, hourly; the last 728 days are the test part, every row fitted before its first and again before
    its second year. Context 168, horizon 24, origins at midnight; asinh scale; grid load and wind forecasts and the calendar known
    ahead. The nets are two to four members averaged, each on the asinh scale and on a standard one."""
    panel = ft.read(path).with_calendar("hour", "weekday", "weekend")
    panel = panel.until(5999) if quick else panel
    known = ("Grid load forecast", "Wind power forecast", *ft.calendar_of(panel))
    task = Task(target="Price", known=known, context=168, horizon=24)
    training = Training.model_validate({"stop": 0.125, "calibrate": 0, "scale": "asinh", "seed": 1, **(QUICK if quick else {})})
    straight = training.model_copy(update={"scale": "standard"})
    nets = {
        "lstm": Member(StackedLSTM(), members=4), "lstm, standard scale": Member(StackedLSTM(), straight, members=3),
        "lstm_transformer": Member(LSTMTransformer(), members=2), "lstm_transformer, standard scale": Member(LSTMTransformer(), straight, members=2),
    }  # fmt: skip
    rows = {"ridge": Member(Ridge()), "lightgbm": Member(Boosting(difference=24)), **nets}
    return Case(panel, task, training, rows, "728 days" if not quick else "40 days", lambda result, name: named(result, name, "MAE"), 3 if quick else 100, 364)


def etth1(path: Path, quick: bool) -> Case:
    """Transformer temperature and loads, 7 channels as 7 series, first 14,400 hours, the last 2,880 the test; context 336,
    horizon 96, an origin every 96 hours; errors in standard deviations of the first 8,640 hours. No calendar. At most 20 epochs."""
    wide = ft.read(path).until(14399)
    panel = ft.from_array(wide.values[0].T, series=wide.channels, step="h")
    task = Task(target="y", context=336, horizon=96, levels=())
    spread = panel.values[:, :8640].std(1, correction=0)

    def score(result: ft.Backtest, name: str) -> Scores:
        error = (result.truth - result.point[name]) / spread[None, :, None]
        return {"MAE": float(error.abs().mean()), "MSE": float(error.square().mean())}

    training = Training.model_validate({"epochs": 20, "patience": 4, "stop": 0.25, "calibrate": 0, "seed": 1, **(QUICK if quick else {})})
    trees = Boosting(rounds=100, rate=0.1, difference=24)
    rows = {"ridge": Member(Ridge()), "lightgbm": Member(trees), "lstm": Member(StackedLSTM()), "lstm_transformer": Member(LSTMTransformer())}
    return Case(panel, task, training, rows, 0.2, score, 2 if quick else None)


def m4_hourly(path: Path, quick: bool) -> Case:
    """M4 competition, 414 hourly series, the last 48 values of each the test, the 48 before them the choice. OWA is the mean
    of sMAPE and MASE, each over that of Naive2, which is computed here. Deep nets are left out: hours on this machine."""
    panel = ft.read(path)
    panel = panel.pick(*panel.series[:12]) if quick else panel
    task = Task(target="y", context=168, horizon=48, levels=())
    yardstick = torch.stack([torch.from_numpy(naive2(one[one.isfinite()][:-48].numpy(), 24, 48)) for one in panel.values[..., 0].double()])

    def score(result: ft.Backtest, name: str) -> Scores:
        found, base = (m4_scores(result, panel, guess) for guess in (result.point[name][0, ..., 0], yardstick))
        return {"OWA": (found["sMAPE"] / base["sMAPE"] + found["MASE"] / base["MASE"]) / 2, **found}

    rows = {
        "ridge": Member(Ridge()),
        "ridge, one a series": Member(Ridge(), per_series=True),
        "lightgbm": Member(Boosting(rounds=60, rate=0.2, difference=24)),
    }
    return Case(panel, task, Training(stop=0.1, calibrate=0), rows, 1, score, 1)


def tourism(path: Path, quick: bool) -> Case:
    """Tourism competition, 366 monthly series, the last 24 months of each the test, the 24 before them the choice; the month
    known ahead; asinh scale. AutoETS stands beside as statsforecast has it; it is no row of the choice, to save hours."""
    panel = ft.read(path).with_calendar("month")
    panel = panel.pick(*panel.series[:12]) if quick else panel
    task = Task(target=panel.channels[0], known=ft.calendar_of(panel), context=24, horizon=24, levels=())
    rows = {
        "ridge": Member(Ridge()), "ridge, one a series": Member(Ridge(), per_series=True), "lightgbm": Member(Boosting(difference=12)),
        "theta": Member(Statistical(kind="Theta")),
    }  # fmt: skip
    beside = {"autoets": Member(Statistical(kind="AutoETS"))}
    return Case(
        panel, task, Training(stop=0.1, calibrate=0, scale="asinh"), rows, 1, lambda result, name: named(result, name, "MASE", "sMAPE"), 1, beside=beside
    )


def named(result: ft.Backtest, name: str, *metrics: str) -> Scores:
    """The backtest's own numbers."""
    return {metric: float(result.scores()[name][metric][0]) for metric in metrics}


def told(progress: object) -> None:
    """Who watches sees what is done."""
    print(progress, file=sys.stderr)


CASES: dict[str, tuple[str, Callable[[Path, bool], Case]]] = {
    "nord_pool": ("bench/epf_nord_pool/NP.csv.gz", nord_pool),
    "etth1": ("bench/ett/ETTh1.csv.gz", etth1),
    "m4_hourly": ("bench/monash/m4_hourly_dataset.tsf.gz", m4_hourly),
    "tourism_monthly": ("bench/monash/tourism_monthly_dataset.tsf.gz", tourism),
}

if __name__ == "__main__":
    main()
