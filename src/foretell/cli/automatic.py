"""Automatic: the net chosen, and the net tuned, on the data before the test of accuracy."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..backtesting import cuts_of
from ..choosing import ENSEMBLE, Choice, choose
from ..errors import TaskError
from ..mixture import Mixture
from ..panel import Panel
from ..tuning import Study, Trial, space_of, tune
from .asked import Asked
from .flags import Search
from .networds import Contender
from .race import AUTO, Plan, Race
from .screen import Screen

Tables = Mapping[str, Mapping[str, np.ndarray]]


def before(asked: Asked, plan: Plan) -> Panel:
    """The data up to the first origin of the test."""
    return asked.panel.until(cuts_of(asked.panel, asked.task, plan.windows, plan.step, plan.test)[0])


def with_choice(asked: Asked, rows: Race, plan: Plan, screen: Screen) -> tuple[Asked, Race, Tables]:
    """The rows with the one that "auto" stands for, what is to be said of it, and the table that chose it; shown as it is made."""
    if not rows.auto:
        return asked, rows, {}
    training = rows.neighbours[0].training if rows.neighbours else rows.rows[0].training
    choice = choose(before(asked, plan), asked.task, training, watch=lambda p: screen.remark(f"  choosing: {p.model}, {p.seconds:.0f} s"))
    screen.accuracy(choice.table)
    said = (*choice.notes, choice.reason())
    for line in said:
        screen.remark(line)
    asked = replace(asked, notes=(*asked.notes, *said))
    return asked, replace(rows, rows=(*rows.rows, _contender(choice))), {"choice": choice.table.table_columns()}


def _contender(choice: Choice) -> Contender:
    if choice.name == ENSEMBLE:
        return Contender(AUTO, Mixture(names=tuple(choice.rows)), choice.training, choice.rows)
    row = choice.rows[choice.name]
    if row.per_series:  # as a mixture of one, which keeps what the row alone says
        return Contender(AUTO, Mixture(names=(choice.name,)), choice.training, {choice.name: row})
    return Contender(AUTO, row.net, row.training or choice.training)


def tuned(asked: Asked, row: Contender, plan: Plan, search: Search, screen: Screen) -> tuple[Contender, Study]:
    """The row with the best options found on the data before the test; the context stays as it was asked for."""

    def told(trial: Trial) -> None:
        screen.remark(f"  trial {trial.number}: {trial.state}, {trial.error:.4g}, {trial.seconds:.0f} s, {written(trial)}")

    space = {name: values for name, values in space_of(row.net, asked.task).items() if name != "context"}
    if not space:
        raise TaskError(f"{row.name} has nothing to search: tune lstm, lstm-transformer, period-kernel, lightgbm or xgboost")
    study = tune(before(asked, plan), asked.task, row.net, row.training, budget=search.budget, space=space, path=search.study, watch=told)
    screen.remark(f"best of {len(study.trials)} trials: {study.metric} {study.best.error:.4g} with {written(study.best)}")
    return Contender("tuned", study.net, study.training), study


def written(trial: Trial) -> str:
    """Options as one reads them."""
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in trial.options.items())
