"""Which optimiser, at which rate, and does a cosine with restarts help? Five of them on the default net, and on the net without its ridge."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from common.data import find
from common.tables import Table, page

import foretell as ft
from foretell import Optimizer, Task, Training, forecast
from foretell.backtesting import cuts_of
from foretell.nets import Ridge, StackedLSTM

TETUAN = "power/tetuan_power/tetuan_hourly.csv.gz"
STOP = 0.125  # of what is left when the test part has been cut off: 70/10/20
ADAPTIVE = (3e-4, 1e-3, 3e-3)
RATES: Mapping[str, Sequence[float]] = {"sgd": (0.03, 0.1, 0.3), "momentum": (0.003, 0.01, 0.03), "rmsprop": ADAPTIVE, "adam": ADAPTIVE, "adamw": ADAPTIVE}
PROTOCOL = """
Tetuan city load, hourly, chronological 70/10/20 (train, stop, test), context 168, horizon 24, origins every 24 h, calendar known ahead, weather only in the
past, point forecast alone; gradients clipped at 1, no retraining on the stop part, everything else as `Training` has it. Stop loss: the least reached, on
scaled values; test: WAPE of the weights of that epoch. Several seeds are trained as members of one run and scored one by one: mean [least, most]; epochs to the
best one: their median. Cosine: half a cosine down to 0, then begun anew with a cycle twice as long.
"""


@dataclass(frozen=True)
class Question:
    """A net to be trained in every way. `cycle` is the length of cosine's first one, in steps; `middle`: each kind's middle rate only."""

    about: str
    net: StackedLSTM
    epochs: int
    patience: int
    members: int
    cycle: int
    middle: bool = False


QUESTIONS = {
    "default": Question("The default net: it starts at the ridge", StackedLSTM(), 60, 8, 3, 40),
    "alone": Question("The same net without the ridge, 6 epochs: the optimiser does all the work", StackedLSTM(ridge=False), 6, 6, 1, 186),
}


def main() -> None:
    """Both nets on one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, one rate a kind, 60 days: shows that it runs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sheet = page("optimisers", "Which optimiser, at which rate?", PROTOCOL)
    path = find(TETUAN)
    if path is None:
        sheet.publish([], quick=True, missing=[f"{TETUAN} is not in FORETELL_DATA (default ../shared/data)"])
        return
    panel = ft.read(path, time="Date").with_calendar("hour", "weekday", "weekend")
    questions = list(QUESTIONS.values())
    if asked.quick:
        panel, questions = panel.until(24 * 60 - 1), [replace(one, epochs=1, members=1, middle=True) for one in questions]
    sheet.publish([answered(one, panel) for one in questions], quick=asked.quick)


def answered(question: Question, panel: ft.Panel) -> Table:
    """Every optimiser at every rate, constant and cosine, in one backtest."""
    task = Task(target="Usage", known=ft.calendar_of(panel), context=168, horizon=24, levels=())
    seen = panel.until(cuts_of(panel, task, 1, 24, 0.2)[0])
    models = {name: fitted(question, optimizer, seen, task) for name, optimizer in ways(question).items()}
    single = {f"{name}/{m}": one for name, model in models.items() for m, one in enumerate(apart(model))}
    single["ridge"] = forecast.fit(seen, task, Ridge(), Training(stop=STOP, calibrate=0))
    result = ft.backtest({name: lambda _, model=model: model for name, model in single.items()}, panel, task=task, test=0.2, step=24)
    error = {name: float(found["WAPE"]) for name, found in result.scores().items()}
    rows: list[Sequence[str]] = [(name, "", "", "", "", f"{error[key]:.4f}") for name, key in (("seasonal naive", "seasonal_naive"), ("ridge", "ridge"))]
    rows += [row(name, model, [error[f"{name}/{m}"] for m in range(len(model.members))]) for name, model in models.items()]
    return Table(f"{question.about}: {question.members} seed(s)", ("optimiser", "rate", "schedule", "stop loss", "epochs to best", "test WAPE"), rows)


def ways(question: Question) -> dict[str, Optimizer]:
    """First one that stands still, to see where training starts."""
    found = {"(no step taken)": Optimizer(kind="sgd", rate=1e-12)}
    for kind, rates in RATES.items():
        for rate in rates[1:2] if question.middle else rates:
            # Cosine at the middle rate only: one rate is enough to see what it does.
            for schedule in ("constant", "cosine") if rate == rates[1] else ("constant",):
                fields = {"kind": kind, "rate": rate, "schedule": schedule, "first_decay": question.cycle}
                found[f"{kind} {rate:g} {schedule}"] = Optimizer.model_validate(fields)
    return found


def fitted(question: Question, optimizer: Optimizer, seen: ft.Panel, task: Task) -> ft.Forecaster:
    """One way through training, its seeds side by side."""
    epochs = 1 if optimizer.rate < 1e-9 else question.epochs
    training = Training(epochs=epochs, patience=question.patience, optimizer=optimizer, stop=STOP, calibrate=0, retrain=False)
    model = forecast.fit(seen, task, question.net, training, members=question.members)
    print(optimizer.kind, optimizer.rate, optimizer.schedule, dict(model.facts), file=sys.stderr, flush=True)
    return model


def apart(model: ft.Forecaster) -> list[ft.Forecaster]:
    """The members, each as a model of its own."""
    parts = [{name: weight[m : m + 1] for name, weight in model.weights.items()} for m in range(len(model.members))]
    return [replace(model, weights=weights, members=("all",)) for weights in parts]


def row(name: str, model: ft.Forecaster, errors: Sequence[float]) -> Sequence[str]:
    """What one way came to."""
    assert model.curves is not None  # it was trained
    stop = [float(curve[curve.isfinite()].min()) for curve in model.curves.stop]
    best = [int(curve.nan_to_num(torch.inf).argmin()) + 1 for curve in model.curves.stop]
    if name.startswith("("):
        return (name, "", "", ranged(stop), "", "")
    kind, rate, schedule = name.split()
    return (kind, rate, schedule, ranged(stop), f"{median(best):g}", ranged(errors))


def ranged(values: Sequence[float]) -> str:
    """One number, or mean and range."""
    mean = f"{sum(values) / len(values):.4f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.4f}, {max(values):.4f}]"


if __name__ == "__main__":
    main()
