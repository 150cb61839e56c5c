"""tune: a killed search goes on to the result of one that was not; trials come from the specs' fields; what is asked wrongly is said."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import Panel, Task, TaskError, Training, forecast
from foretell.neighbours import Boosting
from foretell.nets import LSTMTransformer, PeriodKernel, Ridge, StackedLSTM
from foretell.tuning import Range, Study, Trial, space_of, tune, windows_of
from laws import plain, refused

pytest.importorskip("optuna")

TASK = Task(target="y", context=12, horizon=3)
NET = StackedLSTM(hidden=(4,))
HOW = Training(epochs=6, batch=128, seed=2, device="cpu", retrain=False)
SPACE = {"hidden": (4, 6), "dropout": (0.0, 0.3), "rate": Range(1e-3, 0.1, log=True), "context": (12, 24)}


def searched(panel: Panel, trials: int = 8, path: Path | None = None, watch: object = None) -> Study:
    return tune(panel, TASK, NET, HOW, budget=trials, windows=3, space=SPACE, path=path, watch=watch)  # type: ignore[arg-type]  # a function or None


def told(study: Study) -> list[tuple[object, ...]]:
    return [(tuple(t.options.items()), repr(t.error), t.state) for t in study.trials]


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_result_of_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed twice: between two trials, and within one, after its epochs were told to the study."""
    panel = plain(200, ("a",))
    whole = searched(panel)
    path, seen = tmp_path / "study.db", []

    def between(trial: Trial) -> None:
        seen.append(trial)
        if len(seen) == 3:
            raise Killed

    with pytest.raises(Killed):
        searched(panel, path=path, watch=between)
    true_fit, calls = forecast.fit, []

    def within(*args: object, **kwargs: object) -> object:
        calls.append(1)
        model = true_fit(*args, **kwargs)  # type: ignore[arg-type]  # as they came
        if len(calls) == 2:
            raise Killed
        return model

    with monkeypatch.context() as patch:
        patch.setattr(forecast, "fit", within)
        with pytest.raises(Killed):
            searched(panel, path=path)
    assert sqlite3.connect(path).execute("select count(*) from trials where state = 'RUNNING'").fetchone() == (1,)
    again = searched(panel, path=path)
    assert told(again) == told(whole)
    assert again.best.options == whole.best.options and again.net == whole.net and again.task == whole.task
    assert len(searched(panel, path=path).trials) == 8, "a finished search is not gone on with"


@pytest.mark.slow
def test_the_first_trial_is_the_net_as_it_is_and_the_best_is_made_of_its_options() -> None:
    panel = plain(200, ("a",))
    study = searched(panel, 5)
    assert study.trials[0].options == {"hidden": 4, "dropout": 0.3, "rate": 0.001, "context": 12}
    best = study.best
    assert best.error == min(t.error for t in study.trials if t.state == "complete")
    assert study.net == StackedLSTM(hidden=(best.options["hidden"],), dropout=(best.options["dropout"],))
    assert study.task.context == best.options["context"] and study.training.optimizer.rate == best.options["rate"]
    by_hand = forecast.fit(panel.until(199 - 9), study.task, study.net, study.training)
    errors = [(by_hand.predict(panel, origin=199 - 3 * k).values[0, :, 0] - panel.values[0, 200 - 3 * k : 203 - 3 * k, 0]).abs() for k in (3, 2, 1)]
    assert best.error == pytest.approx(float(torch.stack(errors).mean()), rel=1e-6)
    frame = study.frame()
    assert len(frame) == 5 and {"trial", "state", "MAE", "seconds", "hidden"} <= set(frame.columns)


def test_nothing_outside_the_data_given_is_used() -> None:
    panel = plain(200, ("a",))
    cut = panel.until(170)
    values = panel.values.clone()
    values[:, 171:] = 1e9
    other = ft.from_array(values, ("y", "x"), panel.series, step="h").until(170)
    assert told(searched(cut, 3)) == told(searched(other, 3))


@pytest.mark.slow
def test_hopeless_trials_are_ended_early() -> None:
    panel = plain(200, ("a",))
    space = {"rate": (0.001, 0.002, 0.003, 3.0)}
    how = HOW.model_copy(update={"epochs": 8, "patience": 8})
    net = StackedLSTM(hidden=(4,), ridge=False)
    states = {(t.options["rate"] == 3.0, t.state) for t in tune(panel, TASK, net, how, budget=11, windows=3, space=space).trials}
    assert (True, "pruned") in states and (False, "complete") in states


def test_what_is_searched_comes_from_the_fields_of_the_spec() -> None:
    assert set(space_of(LSTMTransformer(), TASK)) == {"hidden", "layers", "dropout", "heads", "encoders", "feedforward", "segment", "rate", "context"}
    assert set(space_of(StackedLSTM(), TASK)) == {"hidden", "layers", "dropout", "segment", "rate", "context"}
    assert set(space_of(Boosting(), TASK)) == {"leaves", "least", "share", "rate", "context"}
    assert {"filters", "dense", "rate"} <= set(space_of(PeriodKernel(), TASK))
    assert space_of(StackedLSTM(), TASK)["rate"] == Range(1e-4, 1e-3, log=True)
    assert space_of(StackedLSTM(hidden=(8, 4)), TASK)["hidden"] == (8, 16, 32, 64, 128), "the net as it is, for the first trial"
    for net in (LSTMTransformer(), StackedLSTM()):
        for name in set(space_of(net, TASK)) - {"layers", "rate", "context"}:
            assert name in type(net).model_fields


def test_options_that_cannot_be_are_a_trial_refused_not_an_end() -> None:
    panel = plain(120, ("a",))
    study = tune(panel, TASK, NET, HOW.model_copy(update={"epochs": 1}), budget=6, windows=2, space={"context": (12, 500)})
    states = {t.options["context"]: t.state for t in study.trials}
    assert states[12] == "complete" and states[500].startswith("refused: ") and study.task.context == 12


def test_a_time_budget_ends_the_search() -> None:
    study = tune(plain(150, ("a",)), TASK, NET, HOW.model_copy(update={"epochs": 1}), budget="0.5 seconds", windows=1, space=SPACE)
    assert 1 <= len(study.trials) < 500


def test_windows_fit_the_data() -> None:
    assert windows_of(plain(140), TASK) == 5
    assert windows_of(plain(60), TASK) == 3
    assert windows_of(plain(38), TASK) == 1


def test_what_is_asked_wrongly_is_said() -> None:
    panel = plain(120, ("a",))
    for budget in (0, "0 minutes", "a while", -3):
        with refused(TaskError, "so many trials, as 20, or a time, as '30 seconds', '10 minutes', '2 hours'"):
            tune(panel, TASK, NET, budget=budget)
    with refused(TaskError, 'space: StackedLSTM has no option "hiden": did you mean "hidden"'):
        tune(panel, TASK, NET, space={"hiden": (4,)})
    with refused(TaskError, 'space: "hidden" has no value to try'):
        tune(panel, TASK, NET, space={"hidden": ()})
    with refused(TaskError, "Ridge has nothing to search"):
        tune(panel, Task(target="y", horizon=3), Ridge())
    with refused(TaskError, "none of 2 trials could be finished: refused: "):
        tune(panel, TASK, NET, budget=2, windows=2, space={"context": (900,)})
    assert np.isnan(Trial(0, {}, float("nan"), "pruned", 0.0).error)
