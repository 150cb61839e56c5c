"""Diagnosis: planted faults get their verdict, errors are what predict would have made, and every advice can be typed as it is."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import foretell as ft
from foretell import forecast
from foretell.baseline import SeasonalNaive
from foretell.cli.networds import contenders
from foretell.diagnosis import Advice, Course, Diagnosis, Errors, advise, course_of, diagnose, judge
from foretell.errors import TaskError
from foretell.forecaster import Forecaster
from foretell.nets import Ridge, StackedLSTM
from foretell.nets.stacked_lstm import presets
from foretell.panel import Panel, from_array
from foretell.reporting import report
from foretell.scoreboard import Backtest
from foretell.task import Task, split
from foretell.train import Curves, Training
from laws import slow

ROOT = Path(__file__).resolve().parent.parent
TASK = Task(target="y", context=24, horizon=2, levels=())
TRAINING = Training(epochs=2, stop=0.2, calibrate=0, retrain=False)


def waves(series: int = 1, steps: int = 400, noise: float = 0.3, signal: float = 3.0) -> Panel:
    """A daily wave and noise, hourly, seed 0."""
    time = torch.arange(steps, dtype=torch.float64)
    wave = signal * torch.sin(time * 2 * torch.pi / 24)
    values = 20 + wave + noise * torch.randn(series, steps, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return from_array(values[..., None].float(), ("y",), [f"series {n}" for n in range(series)], start="2024-01-01", step="h")


def tried(panel: Panel, models: Mapping[str, Forecaster], step: int = 24) -> Backtest:
    """A backtest of models that are fitted already."""
    return ft.backtest({name: lambda _, model=model: model for name, model in models.items()}, panel, task=TASK, windows=3, step=step)


def kept(
    panel: Panel, net: Ridge | StackedLSTM | SeasonalNaive, training: Training = TRAINING, *, members: int = 1, per_series: bool = False, step: int = 24
) -> Forecaster:
    """Fitted on what is before the first of three cuts, a step apart."""
    return forecast.fit(panel.until(panel.last("y") - 2 - 2 * step), TASK, net, training, members=members, per_series=per_series)


SMALL = StackedLSTM(hidden=(4,), ahead=0)


@cache
def plain() -> tuple[Panel, dict[str, Forecaster], Backtest]:
    panel = waves(2)
    models = {"ridge": kept(panel, Ridge()), "net": kept(panel, SMALL), "alone": kept(panel, SMALL.model_copy(update={"ridge": False}))}
    return panel, models, tried(panel, models)


# ---------------------------------------------------------------- the rule

LINE = Errors(0.5, 0.6, 0.01)
CALM = Course(best=20, epochs=30, fall=0.02, rise=0.02, late=0.0, train_first=1, train_best=1, train_last=1, stop_first=1, stop_best=1, stop_last=1)
LEARNING = CALM._replace(best=29, late=0.05)
SPLIT = CALM._replace(rise=0.2, fall=0.3)


@pytest.mark.parametrize(
    ("own", "course", "verdict"),
    [
        (LINE, CALM, "balanced"),
        (LINE, LEARNING, "stopped too early"),
        (LINE, LEARNING._replace(late=0.01), "balanced"),
        (LINE, LEARNING._replace(best=20), "balanced"),  # patience had its time
        (Errors(0.49, 0.6, 0.0), SPLIT, "overfit"),  # by the curves
        (Errors(0.49, 0.6, 0.0), SPLIT._replace(rise=0.08), "balanced"),  # a curve's own noise
        (Errors(0.49, 0.6, 0.0), SPLIT._replace(fall=-0.01), "balanced"),
        (Errors(0.3, 0.6, 0.0), CALM, "overfit"),  # by the gap of what was kept
        (Errors(0.3, 0.4, 0.0), CALM, "balanced"),  # ridge has nearly the same gap
        (Errors(0.3, 0.6, 0.0), CALM._replace(fall=0.0), "balanced"),
        (Errors(0.6, 0.7, 0.0), CALM, "underfit"),
        (Errors(0.6, 0.65, 0.0), CALM, "balanced"),  # as good as ridge where it was not taught
        (Errors(0.5, 0.6, 0.04), CALM, "underfit"),  # flattened peaks
        (Errors(0.49, 0.6, 0.04), CALM, "balanced"),
        (Errors(0.6, 1.2, 0.0), SPLIT, "underfit"),  # what errs more than ridge where it learned has not learned by heart
        (Errors(0.6, float("nan"), 0.0), CALM, ""),
    ],
)
def test_the_rule(own: Errors, course: Course, verdict: str) -> None:
    assert judge(own, LINE, course, patience=7) == verdict


def test_how_losses_went() -> None:
    course = course_of(np.array([4.0, 3.0, 2.0, 1.0, 0.5]), np.array([4.0, 2.0, 3.0, 2.5, 2.6]))
    assert (course.best, course.epochs) == (2, 5)
    assert course.fall == pytest.approx(1 - 0.5 / 3) and course.rise == pytest.approx(0.25) and course.late == 0
    assert course[5:] == (4.0, 3.0, 0.5, 4.0, 2.0, 2.6)
    late = course_of(np.arange(10.0, 0, -1), np.arange(10.0, 0, -1))
    assert late.best == 10 and late.late == pytest.approx(1 - 1 / 3) and late.rise == late.fall == 0
    assert course_of(np.ones(1), np.ones(1)).late == 1


STRONG = StackedLSTM(hidden=(64, 32), l2=1e-3, dropout=(0.2, 0.2), ridge=False)
FREE = {"l2": 0.0, "dropout": 0.1}


@pytest.mark.parametrize(
    ("verdict", "net", "training", "change"),
    [
        ("underfit", STRONG, {}, "l2=1e-05, dropout=0.1"),
        ("underfit", STRONG.model_copy(update={"l2": 0.0}), {}, "dropout=0.1"),
        ("underfit", StackedLSTM(hidden=(64, 32), ridge=False, **FREE), {}, "hidden=128/64"),
        ("underfit", StackedLSTM(hidden=(128, 64), ridge=False, **FREE), {}, "hidden=128/64/32"),
        ("underfit", StackedLSTM(hidden=(128, 64, 32), ridge=False, **FREE), {}, "rate=0.002, patience=12"),
        ("underfit", StackedLSTM(hidden=(128, 64, 32), ridge=False, **FREE), {"patience": 12, "optimizer": {"rate": 0.002}}, "rate=0.005"),
        ("underfit", StackedLSTM(hidden=(128, 64, 32), ridge=False, **FREE), {"patience": 12, "optimizer": {"rate": 0.005}}, "ridge=true"),
        ("underfit", StackedLSTM(hidden=(128, 64, 32), **FREE), {"patience": 12, "optimizer": {"rate": 0.005}}, ""),
        ("overfit", StackedLSTM(hidden=(64, 32), l2=0.0, dropout=0.0), {}, "l2=0.0001, dropout=0.2"),
        ("overfit", STRONG, {}, "hidden=32/16"),
        ("stopped too early", STRONG, {"epochs": 50}, "epochs=100, rate=0.002"),
        ("stopped too early", StackedLSTM(hidden=(64,), **FREE), {"epochs": 50}, "epochs=100"),
        ("balanced", STRONG, {}, ""),
    ],
)
def test_the_advice_follows_the_lesson_and_can_be_typed(verdict: str, net: StackedLSTM, training: dict[str, object], change: str) -> None:
    found = advise(verdict, net, Training.model_validate({"patience": 7, **training}))
    assert found.change == change
    word = "lstm" + (f":{change.replace(', ', ',')}" if change else "")
    assert contenders([word], {})[0].trained


@pytest.mark.parametrize(
    ("verdict", "name", "preset"),
    [("underfit", "main2", "main3"), ("underfit", "main", "advice"), ("underfit", "advice", ""), ("overfit", "plain", "main"), ("balanced", "main2", "")],
)
def test_a_preset_leads_to_the_next(verdict: str, name: str, preset: str) -> None:
    one = presets()[name]
    assert advise(verdict, one.net, Training.model_validate(one.training)).preset == preset
    assert not preset or presets()[preset]


# ---------------------------------------------------------------- planted faults


def bare(units: int, l2: float = 0.0) -> StackedLSTM:
    """One layer by itself."""
    return StackedLSTM(hidden=(units,), dropout=0.0, l2=l2, ahead=0, centre="none", ridge=False)


def found(panel: Panel, net: StackedLSTM, **training: object) -> Diagnosis:
    model = kept(panel, net, Training.model_validate({"stop": 0.2, "calibrate": 0, "loss": "mse", "retrain": False, **training}), step=5)
    return diagnose({"net": model}, tried(panel, {"net": model}, step=5), panel)


@pytest.mark.slow
def test_a_net_that_learns_noise_by_heart_is_overfit() -> None:
    row = found(waves(steps=260, noise=1.0, signal=0.0), bare(32), epochs=20, patience=15, batch=16, optimizer={"rate": 0.01}).rows[0]
    assert row.verdict == "overfit" and row.advice.change == "l2=0.0001, dropout=0.2"
    assert row.course is not None and row.course.rise > 0.1 and row.own.train < row.line.train


def test_a_net_held_down_is_underfit_and_its_peaks_are_flat() -> None:
    row = found(waves(), bare(8, l2=10.0), epochs=30, patience=5, optimizer={"rate": 0.01}).rows[0]
    assert row.verdict == "underfit" and row.advice.change == "l2=1e-05"
    assert row.own.low > row.line.low and row.low > 0


def test_a_net_cut_short_was_stopped_too_early() -> None:
    row = found(waves(), bare(8), epochs=5, optimizer={"rate": 0.003}).rows[0]
    assert row.verdict == "stopped too early" and row.advice.change == "epochs=10"


def test_a_net_on_a_ridge_is_balanced() -> None:
    row = found(waves(noise=1.0), SMALL, epochs=12, patience=4).rows[0]
    assert row.verdict == "balanced" and row.advice.change == row.advice.preset == ""


# ---------------------------------------------------------------- the errors


@pytest.mark.parametrize("step", [24, slow(5)])
def test_errors_are_those_predict_would_have_made(step: int) -> None:
    panel, models, _ = plain()
    result = tried(panel, models, step)
    model = forecast.fit(panel.until(result.cutoff[0]), TASK, models["alone"].net, TRAINING)
    row = diagnose({"alone": model}, result, panel).rows[0]
    seen = panel.until(result.cutoff[0])
    train, stop, _ = split(seen, TASK, stop=0.2, calibrate=0.0)
    for span, error in ((train, row.own.train), (stop, row.own.stop)):
        misses = [miss(model, seen, origin, result) for origin in origins(int(span.first[0]), int(span.last[0]), result, step)]
        assert error == pytest.approx(float(torch.stack(misses).mean()), rel=1e-4)


def origins(first: int, last: int, result: Backtest, step: int) -> list[int]:
    """Every row whose goals lie in first … last and whose whole context is there; at a daily step, of the test's hour only."""
    every = range(max(first, TASK.steps_back(result.clock) - 1), last - TASK.horizon + 1)
    return [row for row in every if step != 24 or (row - int(result.cutoff[0, 0])) % 24 == 0]


def miss(model: Forecaster, panel: Panel, origin: int, result: Backtest) -> torch.Tensor:
    guess = model.predict(panel, origin=origin).values
    truth = torch.stack([panel.values[:, origin + 1 + h] for h in range(TASK.horizon)], 1)
    return ((guess - truth).abs() / result.scale[:, None]).mean((1, 2))


def test_the_test_error_and_peaks_are_the_backtests() -> None:
    panel, models, result = plain()
    for row in diagnose(models, result, panel).rows:
        assert row.test == pytest.approx(float(result.scores()[row.model]["MASE"]))
        truth, guess = (value[..., 0].movedim(1, 0).flatten(1) for value in (result.truth, result.point[row.model]))
        high = [one.sort(descending=True).indices[: -(-one.numel() // 10)] for one in truth]
        short = sum(float((t[h] - g[h]).sum()) for t, g, h in zip(truth, guess, high, strict=True))
        assert row.low == pytest.approx(short / sum(float(t[h].sum()) for t, h in zip(truth, high, strict=True)), rel=1e-4)


def test_a_ridge_is_judged_before_it_saw_the_stop_part() -> None:
    panel, models, result = plain()
    rows = {row.model: row for row in diagnose(models, result, panel).rows}
    seen = panel.until(result.cutoff[0])
    stop = split(seen, TASK, stop=0.2, calibrate=0.0).stop
    misses = [miss(models["ridge"], seen, origin, result) for origin in origins(int(stop.first[0]), int(stop.last[0]), result, 24)]
    assert rows["ridge"].own.stop > float(torch.stack(misses).mean())
    assert rows["ridge"].own == rows["ridge"].line
    assert rows["net"].line == pytest.approx(rows["ridge"].line, rel=1e-4)


def test_a_model_that_went_on_keeps_the_ridge_it_came_with() -> None:
    panel, _, result = plain()
    before = forecast.fit(panel.until(300), TASK, SMALL, TRAINING)
    after = forecast.fit(panel.until(result.cutoff[0]), TASK, SMALL, TRAINING, start=before)
    row = diagnose({"net": after}, tried(panel, {"net": after}), panel).rows[0]
    seen = panel.until(result.cutoff[0])
    stop = split(seen, TASK, stop=0.2, calibrate=0.0).stop
    misses = [miss(after, seen, origin, result) for origin in origins(int(stop.first[0]), int(stop.last[0]), result, 24)]
    assert row.own.stop == pytest.approx(float(torch.stack(misses).mean()), rel=1e-4)


@pytest.mark.parametrize("loss", ["mae", slow("mse")])
def test_a_net_refitted_on_the_stop_part_is_told_as_it_was_judged(loss: str) -> None:
    panel = waves(2)
    rows = []
    for refit in (False, True):
        training = TRAINING.model_copy(update={"retrain": refit, "loss": loss, "epochs": 4})
        model = kept(panel, SMALL.model_copy(update={"ridge": False}), training, step=5)
        rows.append(diagnose({"net": model}, tried(panel, {"net": model}, step=5), panel).rows[0])
    assert rows[1].own.stop == pytest.approx(rows[0].own.stop, rel=0.05) and rows[1].own.train != rows[0].own.train
    assert rows[1].line == pytest.approx(rows[0].line)


@pytest.mark.parametrize("refit", [False, True])
def test_a_net_that_adds_nothing_to_its_ridge_errs_as_the_ridge(refit: bool) -> None:
    panel = waves(2)
    model = kept(panel, SMALL, TRAINING.model_copy(update={"retrain": refit}))
    model = replace(model, weights={**model.weights, "alpha": torch.zeros_like(model.weights["alpha"])})
    row = diagnose({"net": model}, tried(panel, {"net": model}), panel).rows[0]
    assert row.own.stop == pytest.approx(row.line.stop, rel=1e-6)


@pytest.mark.parametrize("how", ["members", "per_series", "whole", "naive", "blind"])
def test_every_kind_of_model_has_its_row(how: str) -> None:
    panel = waves(2)
    net = SeasonalNaive() if how == "naive" else SMALL
    training = TRAINING.model_copy(update={"stop": 0.0}) if how == "blind" else TRAINING
    model = kept(panel, net, training, members=2 if how == "members" else 1, per_series=how == "per_series")
    fitted = forecast.fit(panel, TASK, net, training) if how == "whole" else model
    row = diagnose({"net": fitted}, tried(panel, {"net": model}), panel).rows[0]
    assert np.isfinite(row.own.train) and np.isfinite(row.test)
    assert bool(row.verdict) == (how not in ("naive", "blind"))
    assert (row.course is None) == (how in ("naive", "blind"))


def test_gaps_and_short_series_count_nowhere() -> None:
    panel = waves(3)
    panel.values[1, 100:130] = torch.nan
    panel.values[2, :300] = torch.nan
    model = kept(panel, Ridge())
    row = diagnose({"ridge": model}, tried(panel, {"ridge": model}), panel).rows[0]
    assert np.isfinite([*row.own, row.test, row.low]).all()


def test_units_do_not_matter() -> None:
    panel = waves()
    other = replace(panel, values=panel.values * 1000)
    rows = [diagnose({"ridge": model}, tried(one, {"ridge": model}), one).rows[0] for one in (panel, other) for model in [kept(one, Ridge())]]
    assert rows[0].own == pytest.approx(rows[1].own, rel=1e-3) and rows[0].low == pytest.approx(rows[1].low, rel=1e-3)


# ---------------------------------------------------------------- shown


def test_the_frame_is_of_the_users_kind() -> None:
    panel, models, result = plain()
    diagnosis = diagnose(models, result, panel)
    frame = diagnosis.frame()
    assert isinstance(frame, pl.DataFrame) and frame["model"].to_list() == ["ridge", "net", "alone"]
    assert {"train", "stop", "test", "gap", "peaks_low", "best_epoch", "epochs", "verdict", "try", "preset"} <= set(frame.columns)
    curves = models["net"].curves
    assert curves is not None
    assert frame["loss_stop_first"][1] == pytest.approx(float(curves.stop[0, 0])) and frame["loss_train_last"][1] == pytest.approx(float(curves.train[0, -1]))
    frame = replace(diagnosis, names=diagnosis.names._replace(native="pandas")).frame()
    assert type(frame).__module__.startswith("pandas")


def test_it_is_told_in_both_languages() -> None:
    panel, models, result = plain()
    rows = diagnose(models, result, panel).rows
    diagnosis = Diagnosis((rows[0], replace(rows[2], verdict="stopped too early", advice=Advice("epochs=4", "main"))), panel.names)
    english, korean = (" ".join(diagnosis.sentences(lang)) for lang in ("en", "ko"))
    assert "alone was stopped too early" in english and "Try next: epochs=4 or preset main." in english and not re.search("[가-힣]", english)
    assert "alone: 너무 일찍 멈췄습니다" in korean and "다음에 시도할 것: epochs=4 또는 프리셋 main." in korean
    lines = str(diagnosis).splitlines()
    assert lines[0].startswith("model") and lines[1].startswith("ridge") and lines[-1] == diagnosis.sentences()[-1]
    assert list(diagnosis.cells("ko").values())[7][1] == "너무 일찍 멈춤"


@pytest.mark.parametrize("verdict", ["overfit", "underfit", "balanced"])
@pytest.mark.parametrize("lang", ["en", "ko"])
def test_every_verdict_has_its_sentence(verdict: str, lang: str) -> None:
    panel, models, result = plain()
    rows = diagnose(models, result, panel).rows
    (line,) = Diagnosis((replace(rows[1], verdict=verdict),), panel.names).sentences(lang)
    assert "{" not in line and len(line) > 40
    flat = replace(rows[1], verdict="underfit", own=rows[1].own._replace(low=rows[1].line.low + 0.1))
    (line,) = Diagnosis((flat,), panel.names).sentences(lang)
    assert {"en": "peaks there are flattened", "ko": "피크가 뭉툭해져"}[lang] in line


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_report_puts_the_nets_side_by_side(tmp_path: Path, lang: str) -> None:
    panel, models, result = plain()
    diagnosis = diagnose(models, result, panel)
    curves = {name: one for name, model in models.items() if isinstance(one := model.curves, Curves)}
    text = report(tmp_path / "report.html", panel=panel, backtest=result, curves=curves, diagnosis=diagnosis, lang=lang).read_text(encoding="utf-8")
    title = {"en": "Net against net", "ko": "신경망 비교"}[lang]
    _, _, section = text.partition(f"<h2>{title}</h2>")
    section = section.partition("</section>")[0]
    assert section.count('class="figure"') == 1 and "alone: " in section
    assert all(cell in section for cells in diagnosis.cells(lang).values() for cell in cells)
    assert all(line in section for line in diagnosis.sentences(lang))
    assert {"en": "Learning curves", "ko": "학습 곡선"}[lang] not in text
    bare = report(tmp_path / "bare.html", panel=panel, backtest=result, diagnosis=diagnosis, lang=lang).read_text(encoding="utf-8")
    assert title in bare


@pytest.mark.parametrize(
    ("models", "panel", "said"),
    [
        ({}, waves(2), "no model to diagnose"),
        ({"nett": "net"}, waves(2), 'no model "nett" in this backtest.*net'),
        ({"net": "net"}, waves(1), "the panel has the series series 0, the backtest series 0, series 1"),
        ({"net": "net"}, waves(2, steps=500), "neither the first cut of this backtest nor the end of the panel"),
    ],
)
def test_what_does_not_belong_together_gets_its_sentence(models: dict[str, str], panel: Panel, said: str) -> None:
    _, known, result = plain()
    result = replace(result, cutoff=result.cutoff + (100 if panel.values.shape[1] == 500 else 0))
    with pytest.raises(TaskError, match=said):
        diagnose({name: known[one] for name, one in models.items()}, result, panel)


# ---------------------------------------------------------------- what the documentation quotes

QUOTE = re.compile(r"^<!-- measured: (?P<page>[\w-]+) -->\n(?P<text>.*?)^<!-- end -->$", re.M | re.S)


@pytest.mark.parametrize("name", ["regularisation", "optimisers", "sales"])
def test_documentation_quotes_what_was_measured(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    quotes = list(QUOTE.finditer(text))
    assert quotes and text.count("<!-- measured:") == len(quotes)
    for quote in quotes:
        results = (ROOT / "benchmarks" / "results" / f"{quote['page']}.md").read_text(encoding="utf-8")
        assert quote["text"].strip() in results, f"docs/{name}.md does not quote benchmarks/results/{quote['page']}.md as it is: copy its table again"
