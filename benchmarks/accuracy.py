"""How accurate are ridge and the default net beside seasonal naive, on data and protocols that others have used?"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from common.data import find
from common.naive2 import naive2
from common.tables import Table, page

import foretell as ft
from foretell import Task, Training, forecast
from foretell.nets import Ridge, StackedLSTM

SEEDS, MEMBERS = 3, 5
# A part of the whole, as a share of what is left when the test part has been cut off: 70 % train, 10 % stop.
STOP = 0.125
Scores = Mapping[str, float]
Fit = Callable[[ft.Panel], ft.Forecaster]


@dataclass(frozen=True)
class Case:
    """A data set, the question asked of it, and how the answer is scored. `test` and `step` as in ft.backtest."""

    name: str
    about: str
    panel: ft.Panel
    task: Task
    training: Training
    test: float | str
    step: int
    score: Callable[[ft.Backtest, str], Scores]
    bands: bool = True
    net: StackedLSTM = field(default_factory=StackedLSTM)
    averaged: bool = True  # whether several members are averaged too
    settled: StackedLSTM | None = None  # options that were settled for this data on what comes before its test part


@dataclass(frozen=True)
class Effort:
    """How much of the whole a run does: a smoke run does little of everything."""

    quick: bool

    @property
    def seeds(self) -> int:
        return 1 if self.quick else SEEDS

    @property
    def members(self) -> int:
        return 2 if self.quick else MEMBERS

    def training(self, **fields: object) -> Training:
        return Training.model_validate({**fields, **({"epochs": 1} if self.quick else {})})

    def panel(self, panel: ft.Panel) -> ft.Panel:
        return panel.until(panel.start + 3999) if self.quick else panel

    def test(self, share: float | str) -> float | str:
        return 0.05 if self.quick else share


def main() -> None:
    """Every data set that was asked for and is there, each with a page of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"data sets, with commas between: {','.join(CASES)}", default=",".join(CASES))
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, a short test part: shows that it runs")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        if name not in CASES:
            parser.error(f"no data set {name!r}: one of {', '.join(CASES)}")
        run(name, Effort(asked.quick))


def run(name: str, effort: Effort) -> None:
    """One data set's page; if the file is not there, the page says so and an older result stays."""
    file, made = CASES[name]
    path = find(file)
    sheet = page(f"accuracy-{name.replace('_', '-')}", f"How accurate: {name.replace('_', ' ')}", made.__doc__ or "")
    if path is None:
        sheet.publish([], quick=True, missing=[f"{file} is not in FORETELL_DATA (default ../shared/data)"])
        return
    sheet.publish(made(path, effort), quick=effort.quick)


def tetuan(path: Path, effort: Effort) -> list[Table]:
    """City load, hourly. Chronological 70/10/20 (train, stop, test), context 168, horizon 24, origins every 24 h; hour, weekday
    and weekend known ahead, weather only in the past; every model fitted once, before the test part."""
    panel = effort.panel(ft.read(path, time="Date")).with_calendar("hour", "weekday", "weekend")
    task = Task(target="Usage", known=ft.calendar_of(panel), context=168, horizon=24)
    return compared(Case("tetuan", "Tetuan", panel, task, effort.training(stop=STOP, calibrate=0), effort.test(0.2), 24, plain("WAPE")), effort)


def nord_pool(path: Path, effort: Effort) -> list[Table]:
    """Day-ahead price, EUR/MWh, hourly. The last 728 days are the test part; of what is before, the last eighth is the stop
    part. Context 168, horizon 24, origins at midnight; asinh scale; grid load and wind forecasts and the calendar known ahead. The rows
    with `recent` set tomorrow's load and wind beside the last day as it was, an option that was settled on the year before the test part."""
    panel = effort.panel(ft.read(path)).with_calendar("hour", "weekday", "weekend")
    known = ("Grid load forecast", "Wind power forecast", *ft.calendar_of(panel))
    task = Task(target="Price", known=known, context=168, horizon=24)
    training = effort.training(stop=STOP, calibrate=0, scale="asinh")
    case = Case("nord_pool", "Nord Pool", panel, task, training, effort.test("728 days"), 24, plain("MAE"), settled=StackedLSTM(recent=True))
    return compared(case, effort)


def household(path: Path, effort: Effort) -> list[Table]:
    """One household's power, kW, hourly, 421 hours missing and left missing. Chronological 70/10/20, context 168, horizon 24,
    origins every 24 h; the target's own past and the calendar, nothing else."""
    panel = effort.panel(ft.read(path, time="dt")).with_calendar("hour", "weekday", "weekend")
    task = Task(target="Global_active_power", known=ft.calendar_of(panel), past=(), context=168, horizon=24)
    return compared(Case("household", "Household", panel, task, effort.training(stop=STOP, calibrate=0), effort.test(0.2), 24, plain("MAE")), effort)


def etth1(path: Path, effort: Effort) -> list[Table]:
    """Transformer temperature and loads, 7 channels as 7 series of one global model. First 14,400 hours: 8,640 train, 2,880
    stop, 2,880 test; context 336, horizon 96, every origin; errors in standard deviations of the training part, mean over
    all windows and channels. No calendar; the net is trained on every origin, as it is judged on every one; members are not averaged, for time."""
    wide = ft.read(path).until(14399)
    wide = effort.panel(wide)
    panel = replace(ft.from_array(wide.values[0].T, series=wide.channels, step="h"), clock=wide.clock)
    task = Task(target="y", context=336, horizon=96, levels=())
    spread = panel.values[:, :8640].std(1, correction=0)

    def score(result: ft.Backtest, model: str) -> Scores:
        error = (result.truth - result.point[model]) / spread[None, :, None]
        return {"MSE": float(error.square().mean()), "MAE": float(error.abs().mean())}

    training, step = effort.training(stop=0.25, calibrate=0), 24 if effort.quick else 1
    case = Case("etth1", "ETTh1, 96 ahead", panel, task, training, effort.test(0.2), step, score, bands=False, net=StackedLSTM(in_phase=False), averaged=False)
    extra = {"ridge, every origin alike": partial(forecast.fit, task=task, net=Ridge(phase=0), training=case.training)}
    return compared(case, effort, extra)


def m4_hourly(path: Path, effort: Effort) -> list[Table]:
    """M4 competition, 414 hourly series, the last 48 values of each forecast. OWA is the mean of sMAPE and MASE, each over that
    of Naive2, which is computed here; context 168; one ridge a series, and one for all."""
    panel = ft.read(path)
    panel = panel.pick(*panel.series[:20]) if effort.quick else panel
    task = Task(target="y", context=168, horizon=48)
    training = effort.training(stop=0.1, calibrate=0)
    own = partial(forecast.fit, task=task, net=Ridge(), training=training, per_series=True)
    shared = partial(forecast.fit, task=task, net=Ridge(), training=training)
    result = ft.backtest({"ridge, one a series": own, "ridge, one for all": shared, "ridge": shared}, panel, task=task, windows=1, watch=told)
    yardstick = torch.stack([torch.from_numpy(naive2(past.numpy(), 24, 48)) for past in histories(panel, 48)])
    base = m4_scores(result, panel, yardstick)
    rows = [("Naive2", *(f"{base[m]:.3f}" for m in ("sMAPE", "MASE")), "1.000", "")]
    for model in (m for m in result.models if m != "ridge"):
        found = m4_scores(result, panel, result.point[model][0, ..., 0])
        owa = (found["sMAPE"] / base["sMAPE"] + found["MASE"] / base["MASE"]) / 2
        rows.append((model, f"{found['sMAPE']:.3f}", f"{found['MASE']:.3f}", f"{owa:.3f}", seconds_of(result, model)))
    return [Table(f"{len(panel)} series", ("model", "sMAPE", "MASE", "OWA", "seconds"), rows)]


def histories(panel: ft.Panel, horizon: int) -> list[torch.Tensor]:
    """Each series without its last `horizon` values."""
    return [one[one.isfinite()][:-horizon] for one in panel.values[..., 0].double()]


def m4_scores(result: ft.Backtest, panel: ft.Panel, guess: torch.Tensor) -> Scores:
    """sMAPE (0 … 200) and MASE, averaged over the steps of a series, then over the series."""
    truth = result.truth[0, ..., 0].double()
    gap = (truth - guess).abs()
    scale = torch.stack([(past[24:] - past[:-24]).abs().mean() for past in histories(panel, truth.shape[1])])
    smape = 200 * gap / (truth.abs() + guess.abs())
    return {"sMAPE": float(smape.mean()), "MASE": float((gap.mean(1) / scale).mean())}


def plain(first: str) -> Callable[[ft.Backtest, str], Scores]:
    """The backtest's own numbers, the one that decides first."""
    names = tuple(dict.fromkeys((first, "WAPE", "MAE", "RMSE", "MASE")))
    return lambda result, model: {name: float(result.scores()[model][name][0]) for name in names}


def compared(case: Case, effort: Effort, extra: Mapping[str, Fit] | None = None) -> list[Table]:
    """Simple methods, ridge, the default net by seeds, several members averaged; then how often the 80 % band held."""
    fit = partial(forecast.fit, task=case.task)
    groups: dict[str, dict[str, Fit]] = {}
    for about, net in {"StackedLSTM": case.net, **({"StackedLSTM, recent": case.settled} if case.settled else {})}.items():
        seeds = {s: case.training.model_copy(update={"seed": s}) for s in range(effort.seeds)}
        groups[f"{about}, {effort.seeds} seed(s)"] = {f"{about}, seed {s}": partial(fit, net=net, training=one) for s, one in seeds.items()}
        if case.averaged:
            many = f"{about}, {effort.members} members"
            groups[many] = {many: partial(fit, net=net, training=case.training, members=effort.members)}
    week = {"week naive": partial(fit, net=ft.SeasonalNaive(season=168), training=case.training)}
    nets = {name: one for group in groups.values() for name, one in group.items()}
    result = ft.backtest({**week, **(extra or {}), **nets}, case.panel, task=case.task, test=case.test, step=case.step, watch=told)
    tables = [scored(case, result, list(extra or {}), {name: list(group) for name, group in groups.items()})]
    return tables + ([banded(case, effort)] if case.bands else [])


def scored(case: Case, result: ft.Backtest, extra: Sequence[str], nets: Mapping[str, list[str]]) -> Table:
    """A row a model; the seeds of the net are one row, mean and range."""
    scores = {model: case.score(result, model) for model in result.models}
    names = tuple(next(iter(scores.values())))
    groups = {"day naive": ["seasonal_naive"], "week naive": ["week naive"], "ridge": ["ridge"], **{name: [name] for name in extra}, **nets}
    rows = []
    for heading, models in groups.items():
        cells = [ranged([scores[m][name] for m in models]) for name in names]
        ratio = ranged([scores[m][names[0]] / scores["ridge"][names[0]] for m in models])
        rows.append((heading, *cells, ratio, seconds_of(result, *models)))
    about = f"{case.about}: {len(result.cutoff)} origins, {result.clock.local(int(result.cutoff.min()) + 1)} to {result.clock.local(int(result.cutoff.max()))}"
    return Table(about, ("model", *names, f"{names[0]} to ridge", "seconds a model"), rows)


def banded(case: Case, effort: Effort) -> Table:
    """With a tenth kept for calibration, as `Training` has it by default; bands roll forward over past origins."""
    training = effort.training(scale=case.training.scale)
    fit = partial(forecast.fit, task=case.task, training=training)
    models = {"ridge": partial(fit, net=Ridge()), "StackedLSTM": partial(fit, net=case.net)}
    models[f"StackedLSTM, {effort.members} members"] = partial(fit, net=case.net, members=effort.members)
    result = ft.backtest(models, case.panel, task=case.task, test=case.test, step=case.step, watch=told)
    scores = result.scores()
    names = ("coverage-80", "pinball", "WAPE", "MAE")
    rows = [(m, *(f"{float(scores[m][n][0]):.4g}" for n in names)) for m in result.models]
    return Table("80 % bands, rolling, with the default parts (10 % stop, 10 % calibrate)", ("model", "share inside", *names[1:]), rows)


def ranged(values: Sequence[float]) -> str:
    """One number, or mean and range."""
    mean = f"{sum(values) / len(values):.4f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.4f}, {max(values):.4f}]"


def seconds_of(result: ft.Backtest, *models: str) -> str:
    """Fitting and every forecast of the test part, per model."""
    return f"{sum((result.seconds or {})[m] for m in models) / len(models):.1f}"


def told(progress: object) -> None:
    """Who watches sees what is done."""
    print(progress, file=sys.stderr)


CASES: dict[str, tuple[str, Callable[[Path, Effort], list[Table]]]] = {
    "tetuan": ("power/tetuan_power/tetuan_hourly.csv.gz", tetuan),
    "nord_pool": ("bench/epf_nord_pool/NP.csv.gz", nord_pool),
    "household": ("power/uci_household/household_hourly.csv.gz", household),
    "etth1": ("bench/ett/ETTh1.csv.gz", etth1),
    "m4_hourly": ("bench/monash/m4_hourly_dataset.tsf.gz", m4_hourly),
}

if __name__ == "__main__":
    main()
