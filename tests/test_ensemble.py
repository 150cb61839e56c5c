"""Ensemble: shares half by greedy selection on the stop part, half equal, the mean of its models to the last digit, bands, files, laws."""

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import Drift, Forecaster, MovingAverage, Panel, SeasonalNaive, Task, TaskError, Training, forecast
from foretell.forecast import Member
from foretell.mixture import NEAR, greedy, shares
from foretell.nets import Ridge, StackedLSTM
from laws import PLAIN, TASK, after, plain, refused, rich, told, unknown

NETS = {
    "ridge": Ridge(),
    "lstm": Member(StackedLSTM(hidden=(4,)), Training(epochs=2, seed=3, device="cpu")),
    "mean": MovingAverage(window=5),
    "alone": Member(Ridge(), per_series=True),
}
HOW = Training(seed=1, device="cpu")


def mixed(panel: Panel, task: Task = PLAIN, training: Training = HOW) -> Forecaster:
    return forecast.ensemble(panel, task, NETS, training)


def errors_of(shares: list[float], guess: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(np.array(shares) @ guess - truth).mean())


def slow(guess: np.ndarray, truth: np.ndarray, rounds: int) -> list[float]:
    """Add the model that helps most, one at a time, and keep the best stage."""
    counts, stages = [0] * len(guess), []
    for _ in range(rounds):
        tried = []
        for model in range(len(guess)):
            more = [c + (m == model) for m, c in enumerate(counts)]
            tried.append((errors_of([c / sum(more) for c in more], guess, truth), model))
        counts[min(tried)[1]] += 1
        stages.append((min(tried)[0], [c / sum(counts) for c in counts]))
    return min(stages, key=lambda stage: stage[0])[1]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_the_slow_twin_and_close_to_the_best_shares_there_are(seed: int) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.normal(size=60)
    guess = truth + draw.normal(size=(3, 60)) * draw.uniform(0.5, 1.5, size=(3, 1)) + 0.3 * draw.normal(size=(3, 1))
    found = greedy(torch.from_numpy(guess), torch.from_numpy(truth), 20)
    np.testing.assert_allclose(found.numpy(), slow(guess, truth, 20), atol=1e-12)
    grid = [(a / 20, b / 20, 1 - (a + b) / 20) for a, b in product(range(21), repeat=2) if a + b <= 20]
    best = min(errors_of(list(shares), guess, truth) for shares in grid)
    assert errors_of(found.tolist(), guess, truth) <= min(best * 1.03, np.abs(guess - truth).mean(1).min() + 1e-12)


def test_nothing_known_means_equal_shares() -> None:
    for how in (greedy, shares):
        assert how(torch.randn(4, 3), torch.full((3,), torch.nan), 10).tolist() == [0.25] * 4


def test_half_of_a_share_is_the_same_for_all_that_come_near() -> None:
    truth = torch.zeros(40)
    guess = torch.stack([torch.ones(40), -torch.full((40,), NEAR - 0.01), torch.full((40,), NEAR + 0.01)])
    found = shares(guess, truth, 50)
    torch.testing.assert_close(found, (greedy(guess, truth, 50) + torch.tensor([0.5, 0.5, 0.0])) / 2)
    assert found[2] == greedy(guess, truth, 50)[2] / 2 and float(found.sum()) == pytest.approx(1)


def test_it_is_the_mean_of_its_models() -> None:
    panel = rich(steps=130)
    model = mixed(panel, TASK)
    given = model.weights["shares"][0]
    assert float(given.sum()) == pytest.approx(1) and (given > 0).all() and len(given) == len(model.mixed)
    parts = torch.stack([one.predict(panel, origin=125).values for one in model.mixed])
    torch.testing.assert_close(model.predict(panel, origin=125).values, torch.einsum("m,m...->...", given, parts))
    assert model.facts["shares"].count("%") == len(given)  # type: ignore[union-attr]  # a text


def test_shares_come_from_models_that_have_not_seen_the_stop_part() -> None:
    """With the stop part given away there are no shares to choose; and what the stop part says decides them."""
    panel = plain(160)
    equal = forecast.ensemble(panel, PLAIN, {"naive": SeasonalNaive(), "drift": Drift()}, Training(stop=0))
    assert equal.weights["shares"].tolist() == [[0.5, 0.5]]
    chosen = forecast.ensemble(panel, PLAIN, {"drift": Drift(), "ridge": Ridge()})
    assert chosen.mixed[-1].net == Ridge() and float(chosen.weights["shares"][0, -1]) > 0.7


def test_nothing_after_the_origin_matters() -> None:
    panel, cut = rich(("a", "b"), steps=140), 110
    changed = after(panel, cut, unknown(panel, TASK), 1e9)
    one, two = mixed(panel.until(cut), TASK), mixed(changed.until(cut), TASK)
    assert torch.equal(one.weights["shares"], two.weights["shares"])
    for a, b in zip(told(one, panel, cut), told(two, changed, cut), strict=True):
        assert torch.equal(a, b)


def test_saved_and_loaded_bit_for_bit(tmp_path: Path) -> None:
    panel = plain(120)
    model = mixed(panel)
    ft.save(model, tmp_path / "m")
    again = ft.load(tmp_path / "m")
    one, two = model.predict(panel), again.predict(panel)
    assert torch.equal(one.values, two.values) and torch.equal(one.quantiles, two.quantiles)
    assert again.net == model.net and len(again.mixed) == len(model.mixed)


def test_trees_and_recipes_come_back_from_the_file(tmp_path: Path) -> None:
    pytest.importorskip("mlforecast")
    pytest.importorskip("statsforecast")
    from foretell.neighbours import Boosting, Statistical

    panel = plain(120, ("a", "b"))
    nets = {"lightgbm": Boosting(rounds=9, season=4), "xgboost": Boosting(kind="xgboost", rounds=9, season=4), "theta": Statistical(kind="Theta", season=1)}
    model = forecast.ensemble(panel, PLAIN, nets, Training(stop=0))
    assert model.refitted and len(model.mixed) == 3
    ft.save(model, tmp_path / "m")
    assert torch.equal(ft.load(tmp_path / "m").predict(panel).values, model.predict(panel).values)


def test_a_row_of_the_backtest_with_bands_that_hold() -> None:
    panel = plain(400)
    result = ft.backtest({"ensemble": partial(forecast.ensemble, task=PLAIN, nets=NETS, training=HOW)}, panel, windows=30, step=3, refit=0)
    scores = result.scores()["ensemble"]
    assert 0.7 < float(scores["coverage-80"]) < 0.9
    assert float(scores["MAE"]) <= 1.02 * float(result.scores()["ridge"]["MAE"])
    assert (result.quantiles["ensemble"].diff(dim=-1) >= 0).all()


def test_it_is_explained_by_perturbation_alone_and_says_so() -> None:
    panel = plain(140)
    model = mixed(panel)
    assert not model.differentiable and model.mixed[0].differentiable
    function, blocks = model.function(panel)
    torch.testing.assert_close(function(blocks)[..., 0], model.predict(panel).values)
    twice = {name: torch.cat([block, block]) for name, block in blocks.items()}
    torch.testing.assert_close(function(twice)[3:], function(blocks))
    with refused(TaskError, "an ensemble is explained by perturbation methods only: it has no gradients"):
        function({**blocks, "past": blocks["past"].clone().requires_grad_()})
    with refused(TaskError, "an ensemble has no net of its own: its models are in .mixed"):
        _ = model.module


@pytest.mark.slow
def test_a_large_series_does_not_choose_for_all() -> None:
    """Errors are counted in each series' own usual error: shares do not change when one series is in another unit."""
    panel = plain(160)
    values = panel.values.clone()
    values[0, :, 0] *= 1e4
    one = mixed(panel).weights["shares"]
    other = mixed(ft.from_array(values, ("y", "x"), panel.series, step="h")).weights["shares"]
    torch.testing.assert_close(one, other)


def test_an_ensemble_of_nothing_is_refused() -> None:
    with refused(TaskError, "an ensemble needs at least one net"):
        forecast.ensemble(plain(100), PLAIN, {})


def test_explain_takes_a_perturbation_method_and_refuses_slopes() -> None:
    panel = plain(140)
    model = mixed(panel)
    assert ft.explain(model, panel.pick("a")).method == "shapley"
    with refused(TaskError, "deeplift does not work for Mixture: it has no slopes"):
        ft.explain(model, panel.pick("a"), method="deeplift")
