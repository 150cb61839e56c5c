"""choose: the model for this data and task, picked by backtest, with the table that made it be picked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from . import forecast
from .backtesting import Watch, backtest, told_ahead
from .baseline import MovingAverage, SeasonalNaive
from .errors import TaskError
from .forecast import Learnt, Member
from .forecaster import Forecaster, Net
from .neighbours import Boosting, Statistical
from .nets import LSTMTransformer, PeriodKernel, Ridge, SeasonalRidge, StackedLSTM
from .panel import Panel
from .scoreboard import Backtest
from .task import Task, split
from .train import Training
from .tuning import BY_HAND, windows_of

NET_WINDOWS = 300  # training windows below which a net is not asked
TREE_WINDOWS = 200  # and boosted trees
FITS = 400  # fits of one statistical method that a choice may cost
ENSEMBLE = "ensemble"
TELLING = 20  # origins from which the error of a difference can be told


@dataclass(frozen=True, eq=False)
class Choice:
    """`name` is the row chosen, `rows` how each was fitted, `table` the backtest that chose, `notes` what was left out and why."""

    name: str
    rows: Mapping[str, Member]
    task: Task
    training: Training
    table: Backtest
    metric: str
    notes: tuple[str, ...] = ()

    @property
    def net(self) -> Net | None:
        """The chosen net; None for the ensemble of all rows."""
        return None if self.name == ENSEMBLE else self.rows[self.name].net

    def fit(self, panel: Panel) -> Forecaster:
        """The choice fitted on a panel: a row of a backtest like any other."""
        if self.name == ENSEMBLE:
            return forecast.ensemble(panel, self.task, self.rows, self.training)
        row = self.rows[self.name]
        return forecast.fit(panel, self.task, row.net, row.training or self.training, per_series=row.per_series, members=row.members)

    def reason(self) -> str:
        """One sentence: what was chosen, its error, and that of the next best."""
        scores = {name: float(found[self.metric]) for name, found in self.table.scores().items()}
        rest = sorted((score, name) for name, score in scores.items() if name != self.name)
        nearest = f"; {self._beside(rest[0][1], rest[0][0] < scores[self.name])}: {rest[0][1]} {rest[0][0]:.4g}" if rest else ""
        origins = "1 origin" if len(self.table.cutoff) == 1 else f"{len(self.table.cutoff)} origins"
        return f"chosen: {self.name}, {self.metric} {scores[self.name]:.4g} over {origins} before the end of the data{nearest}"

    def _beside(self, name: str, less: bool) -> str:
        """What the other row with the least error is to the chosen one."""
        if not less:
            return "next best"
        return "less by no more than chance explains" if name in self.rows else "less, though not among the rows to choose from"

    def frame(self) -> Any:
        """The table that chose, one row a model."""
        return self.table.table()

    def __repr__(self) -> str:
        return f"Choice({'; '.join((self.reason(), *self.notes))})"


def choose(
    panel: Panel,
    task: Task,
    training: Training | None = None,
    *,
    nets: Mapping[str, Net | Member] | None = None,
    windows: int | None = None,
    watch: Watch | None = None,
) -> Choice:
    """Picks among seasonal naive, ridge (of demand, a seasonal one for each series), LSTM, LSTM + Transformer, period-kernel, boosted trees,
    statistical methods and the ensemble of them all, as far as the data are enough for them and the extra `baselines` is installed; or
    among `nets`.

    Each is fitted once and judged at `windows` origins counted back from the end of `panel` (None: over a tenth of it), so
    hand it the data before your own test. The least MAE wins, or MASE of several series or targets; the ensemble wins a tie, within
    one standard error of the difference over 20 origins or more.
    """
    training = training or Training()
    task = told_ahead(panel, task, windows or 1, None, None)
    rows, notes = _candidates(panel, task, training) if nets is None else ({n: r if isinstance(r, Member) else Member(r) for n, r in nets.items()}, ())
    if not rows:
        raise TaskError("nothing to choose from: nets={'ridge': Ridge(), 'lstm': StackedLSTM()}, or leave nets out")
    if ENSEMBLE in rows:
        raise TaskError(f'nets: "{ENSEMBLE}" is the name of the row that mixes all others; give it another')
    learnt: dict[str, Learnt] = {}
    models = {name: partial(_kept, name, row, task, training, learnt) for name, row in rows.items()}
    mix = {ENSEMBLE: partial(_mixed, task, training, learnt)} if len(rows) > 1 and training.stop else {}
    result = backtest({**models, **mix}, panel, task=task, windows=windows or windows_of(panel, task), refit=0, watch=watch)
    metric = "MASE" if len(task.target) > 1 or len(panel) > 1 else "MAE"
    return Choice(_least(result, (*rows, *mix), metric), rows, task, training, result, metric, notes)


def _least(table: Backtest, names: Sequence[str], metric: str) -> str:
    """The row of the least error; where the ensemble's is larger by no more than one standard error of the difference, the ensemble,
    which leans on no one row: Breiman et al. 1984, "Classification and Regression Trees", §3.4.3."""
    scores = {name: float(table.scores()[name][metric].nan_to_num(torch.inf)) for name in names}
    best = min(scores, key=lambda name: scores[name])
    if best == ENSEMBLE or ENSEMBLE not in names or len(table.cutoff) < TELLING:
        return best
    each = table.scores("origin")
    more = each[ENSEMBLE][metric] - each[best][metric]
    more = more[more.isfinite()]
    return ENSEMBLE if len(more) >= TELLING and float(more.mean()) <= float(more.std()) / len(more) ** 0.5 else best


def _kept(name: str, row: Member, task: Task, training: Training, learnt: dict[str, Learnt], panel: Panel) -> Forecaster:
    """Fits a row and puts it aside for the ensemble, which then costs no second fit."""
    learnt[name] = forecast.learnt(panel, task, row, training)
    if any(note.startswith(BY_HAND) for note in learnt[name].model.notes):
        raise KeyboardInterrupt  # half-trained rows would choose wrongly
    return learnt[name].model


def _mixed(task: Task, training: Training, learnt: Mapping[str, Learnt], panel: Panel) -> Forecaster:
    return forecast.mixed(panel, task, learnt, training)


def _candidates(panel: Panel, task: Task, training: Training) -> tuple[dict[str, Member], tuple[str, ...]]:
    """The rows that this data are enough for, and a sentence on those that they are not."""
    count, longest = training_windows(panel, task, training)
    rows = {"seasonal_naive": Member(SeasonalNaive()), "moving_average": Member(MovingAverage()), "ridge": Member(Ridge())}
    if len(panel) > 1 and longest >= 2 * (task.steps_back(panel.clock) + task.horizon):
        rows["ridge, one a series"] = Member(Ridge(), per_series=True)
        if task.floor is not None and not panel.clock.sub_daily:  # demand: few numbers a series, on levels and what is known ahead
            rows["seasonal ridge, one a series"] = Member(SeasonalRidge(), per_series=True)
    nets: dict[str, Net] = {"lstm": StackedLSTM(), "lstm_transformer": LSTMTransformer(), "period_kernel": PeriodKernel()}
    trees: dict[str, Net] = {"lightgbm": Boosting(), "xgboost": Boosting(kind="xgboost")}
    rules: dict[str, Net] = {"autoets": Statistical(), "theta": Statistical(kind="Theta")}
    here = {name for name, package in (("lightgbm", "lightgbm"), ("xgboost", "xgboost")) if find_spec(package) and find_spec("mlforecast")}
    few = {name: net for name, net in {**nets, **trees}.items() if count < (NET_WINDOWS if name in nets else TREE_WINDOWS)}
    rows |= {name: Member(net) for name, net in {**nets, **trees}.items() if name not in few and (name in nets or name in here)}
    fits = len(panel) * windows_of(panel, task)
    if find_spec("statsforecast") and fits <= FITS and panel.clock.season <= 24:
        rows |= {name: Member(net) for name, net in rules.items()}
    return rows, _left_out(few, count, panel) + _missing(trees, here)


def _left_out(few: Mapping[str, Net], count: int, panel: Panel) -> tuple[str, ...]:
    if not few:
        return ()
    data = f"{len(panel)} series of {panel.values.shape[1]} steps" if len(panel) > 1 else f"{panel.values.shape[1]} steps"
    return (
        f"too little data for {', '.join(few)}: {data} give {count} training windows; a net needs {NET_WINDOWS} and boosted trees {TREE_WINDOWS} "
        "before they can say more than a simple method",
    )


def _missing(trees: Mapping[str, Net], here: set[str]) -> tuple[str, ...]:
    absent = [name for name in trees if name not in here]
    return (f'not installed, so not asked: {", ".join(absent)} (pip install "foretell[baselines]")',) if absent else ()


def training_windows(panel: Panel, task: Task, training: Training) -> tuple[int, int]:
    """How many windows there are to learn from before the stop and calibrate parts, and the steps of the longest series."""
    parts = split(panel, task, stop=training.stop, calibrate=training.calibrate)
    need = task.steps_back(panel.clock) + task.horizon
    rows = parts.train.last + 1
    return int((rows - need + 1).clamp(min=0).sum()), int(rows.max())
