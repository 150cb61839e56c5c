"""fit_each: as one computation gives it, whatever the packs and processes; what fails is named, what is done is not done again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import foretell as ft
from foretell import DataError, Forecaster, Panel, Task, TaskError, forecast, workers
from foretell.nets import PeriodKernel, Ridge, SeasonalRidge
from foretell.packs import Done, fit_each, joined, packed
from laws import TASK, TRAINING, rich, slow

NET = PeriodKernel(kernels=3, filters=2, heads=1, size=2, dense=4, ahead=3)
SERIES = ("a", "b", "c", "d", "e")
LEARNS = TRAINING.model_copy(update={"scale": "standard"})


def alike(one: Forecaster, two: Forecaster, panel: Panel) -> bool:
    first, second = (model.predict(panel, origin=140).values for model in (one, two))
    return torch.allclose(first, second, rtol=1e-6, atol=1e-8)


def broken() -> Panel:
    """One series with an infinite price, one that is constant, one that was hardly seen."""
    panel = rich(SERIES)
    values = panel.values.clone()
    values[1, 50, 1] = torch.inf
    values[2, :, 0] = 7.0
    values[3, :140, 0] = torch.nan
    return replace(panel, values=values)


def test_packs_are_one_computation_in_parts() -> None:
    """Ends differ, so that the packs scale what they share differently: each keeps its own."""
    panel = rich(SERIES)
    told: list[Done] = []
    parts = fit_each(panel, TASK, NET, LEARNS, size=2, processes=1, watch=told.append)
    assert parts.series == parts.members == SERIES and len({len(p) for p in packed(panel, TASK, 2)}) > 1
    alone = [forecast.fit(panel.pick(*names), TASK, NET, LEARNS, per_series=True) for names in packed(panel, TASK, 2)]
    for model in alone:
        assert alike(parts.pick(*model.series), model, panel.pick(*model.series))
    assert [one.series for one in told] == [2, 4, 5] and told[-1].left == 0 and told[-1].of == 5
    assert parts.facts["packs"] == 3 and parts.parts[0].rows == sum(model.parts[0].rows for model in alone)


def test_packs_are_of_one_length_and_then_of_as_many_periods() -> None:
    """A wave or none: those without come first, and before them a series that begins late."""
    wave = 5 * torch.sin(2 * torch.pi * torch.arange(160) / 7)
    waves = torch.stack([wave, 0 * wave, wave, wave, 0 * wave, wave, wave]) + 20
    waves[6, :20] = torch.nan
    panel = ft.from_array(waves, ("y",), tuple("abcdefg"), step="D")
    task = Task(target="y", context=30, horizon=3)
    assert list(packed(panel, task, 2, NET)) == [("b", "g"), ("a", "e"), ("c", "d"), ("f",)]
    assert list(packed(panel, task, 2)) == [("a", "g"), ("b", "c"), ("d", "e"), ("f",)]


@pytest.mark.slow
def test_processes_give_what_one_gives() -> None:
    panel = rich(SERIES[:2])
    one, two = (fit_each(panel, TASK, NET, LEARNS, size=1, processes=n) for n in (1, 2))
    for name, weights in one.weights.items():
        assert torch.equal(weights, two.weights[name]), name
    assert torch.equal(one.predict(panel, origin=140).quantiles, two.predict(panel, origin=140).quantiles)


def test_one_bad_series_stops_no_other() -> None:
    panel = broken()
    with pytest.raises(DataError, match='series "b" is infinite'):
        forecast.fit(panel, TASK, NET, LEARNS, per_series=True)
    model = fit_each(panel, TASK, NET, LEARNS, size=5, processes=1)
    assert model.series == SERIES
    assert 'series "b" has no net: channel "price" of series "b" is infinite at ' in model.notes[0]
    ahead = model.predict(panel, origin=140)
    assert torch.allclose(ahead.values[2], torch.full_like(ahead.values[2], 7.0), atol=1e-6)
    assert ahead.values[[0, 2, 4]].isfinite().all() and ahead.values[1].isnan().all() and ahead.quantiles[1].isnan().all()


def test_when_none_can_be_fitted_the_reason_is_said() -> None:
    panel = rich(("a", "b"))
    with pytest.raises(TaskError, match=r"no series could be fitted: .* are needed"):
        fit_each(panel, Task(target="y", context=500, horizon=3), Ridge(), processes=1)


def test_a_run_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """What is done is taken as it is, and what differs in the question or the data is done anew."""
    panel = broken().pick("a", "b", "c")
    first = fit_each(panel, TASK, NET, LEARNS, size=2, processes=1, folder=tmp_path)
    files = sorted(tmp_path.glob("*.foretell"))
    stamps = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()
    again = fit_each(panel, TASK, NET, LEARNS, size=2, processes=1, folder=tmp_path)
    assert sorted(tmp_path.glob("*.foretell")) == files
    assert [file for file in files if file.stat().st_mtime_ns != stamps[file]] == files[:1]
    assert again.notes == first.notes and all(torch.allclose(w, again.weights[n], 0, 0, equal_nan=True) for n, w in first.weights.items())
    fit_each(panel.pick("a"), TASK, NET.model_copy(update={"dense": 3}), LEARNS, size=2, processes=1, folder=tmp_path)
    assert len(list(tmp_path.glob("*.foretell"))) == len(files) + 1


def test_one_model_is_picked_saved_and_loaded_alone(tmp_path: Path) -> None:
    panel = rich(SERIES[1:4])
    for per_series in (True, False):
        model = forecast.fit(panel, TASK, NET, LEARNS, per_series=per_series)
        one = model.pick("c")
        ft.save(one, tmp_path / "c.foretell")
        again = ft.load(tmp_path / "c.foretell")
        assert again.series == ("c",) and alike(again, one, panel.pick("c"))
        assert torch.allclose(one.predict(panel.pick("c"), origin=140).quantiles, model.predict(panel, origin=140).quantiles[[1]])
    with pytest.raises(TaskError, match='no series "z"'):
        model.pick("z")


def test_kernels_of_other_widths_are_joined_around_their_middle() -> None:
    panel = rich(("a", "b"))
    step = torch.arange(panel.values.shape[1], dtype=torch.float64)
    panel.values[..., 0] = torch.sin(2 * torch.pi * step / torch.tensor([[4.0], [11.0]])) + 0.01 * panel.values[..., 1]
    models = [forecast.fit(panel.pick(name), TASK, NET, LEARNS, per_series=True) for name in panel.series]
    assert len({model.weights["net.kernels.0"].shape for model in models}) > 1, "periods are to differ here"
    whole = joined(models, panel.series)
    for model in models:
        assert alike(whole.pick(*model.series), model, panel.pick(*model.series))


def test_a_worker_that_dies_answers_with_an_error_and_is_replaced(tmp_path: Path) -> None:
    lines = ["import sys, json, os", "for line in sys.stdin:", "    job = line.strip()", "    if job == 'bad': os._exit(3)"]
    (tmp_path / "dying.py").write_text("\n".join([*lines, "    print(json.dumps({'said': job}), flush=True)"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        answers = {one.job: one for one in workers.run("dying", [], ["1", "bad", "2", "3"], 1)}
    assert {job for job, one in answers.items() if not one.error} == {"1", "2", "3"}
    assert "ended with code 3 before it had an answer" in answers["bad"].error
    assert answers["3"].told == {"said": "3"}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"size": 0}, "size must be at least 1 series a pack, got 0"), ({"processes": 0}, "processes must be at least 1, got 0")],
)
def test_options_that_make_no_sense_get_a_sentence(options: dict[str, int], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        fit_each(rich(("a",)), TASK, NET, LEARNS, **options)


def test_a_pooled_scale_is_refused() -> None:
    with pytest.raises(TaskError, match="leave pooled out"):
        fit_each(rich(("a",)), TASK, NET, LEARNS.model_copy(update={"pooled": True}))


def of_periods(periods: dict[str, int], steps: int = 150) -> Panel:
    """A wave a series, and a channel that is almost none."""
    time, draw = torch.arange(steps, dtype=torch.float64), torch.Generator().manual_seed(0)
    wave = torch.sin(2 * torch.pi * time / torch.tensor(list(periods.values()))[:, None])
    noise = 0.05 * torch.randn(len(periods), steps, 2, generator=draw, dtype=torch.float64)
    return ft.from_array(noise + torch.stack([wave, torch.zeros_like(wave)], -1) + 5, ("y", "x"), tuple(periods), step="h")


AUTO = Task(target="y", horizon=3)
READS = NET.model_copy(update={"filters": 5})  # a norm over two numbers forgets how far apart they are
BARE = READS.model_copy(update={"ridge": None})


@pytest.mark.parametrize("net", [BARE, slow(READS.model_copy(update={"ridge": SeasonalRidge(season=5, seasons=2)}))])
def test_each_series_reads_as_far_back_as_its_longest_period(net: PeriodKernel) -> None:
    """Side by side with longer ones it learns and says what it does alone: a gap at the edge of its context is one."""
    panel = of_periods({"a": 4, "b": 11, "c": 23})
    panel.values[:, 60:70:3, 0] = torch.nan
    model = forecast.fit(panel, AUTO, net, LEARNS, per_series=True)
    own = model.spans_of(panel.series)
    assert own is not None and own.tolist()[:2] == [4 if net.ridge is None else 10, 11] and own[2] == model.context > 20
    apart = [forecast.fit(panel.pick(name), AUTO, net, LEARNS, per_series=True) for name in panel.series]
    whole = joined(apart, panel.series)
    for at, (name, alone) in enumerate(zip(panel.series, apart, strict=True)):
        assert alone.context == own[at]
        for origin in (72, 140):
            one = alone.predict(panel.pick(name), origin=origin)
            for other in (model.predict(panel, origin=origin), whole.predict(panel, origin=origin)):
                assert torch.allclose(other.values[at], one.values[0], rtol=1e-6, atol=1e-8)
        assert alike(model.pick(name), alone, panel.pick(name))


def test_nothing_before_its_own_context_reaches_a_forecast() -> None:
    panel = of_periods({"a": 4, "b": 23})
    model = forecast.fit(panel, AUTO, BARE, LEARNS, per_series=True)
    for at, steps in ((0, 4), (1, 23)):
        moved = [panel.values.clone() for _ in range(2)]
        moved[0][at, 141 - steps - 1] += 10.0
        moved[1][at, 141 - steps] += 10.0
        told = [model.predict(replace(panel, values=values), origin=140).values for values in (panel.values, *moved)]
        assert torch.equal(told[0], told[1]) and not torch.equal(told[0], told[2])


def test_a_net_of_all_series_reads_as_far_as_the_longest_shared_period() -> None:
    model = forecast.fit(of_periods({"a": 4, "b": 11}), AUTO, BARE, LEARNS)
    assert model.context == int(model.weights["length"].max()) == 11 and model.spans_of(model.series) is None
    assert forecast.fit(of_periods({"a": 4}, 300), AUTO, NET.model_copy(update={"ridge": Ridge()}), LEARNS, per_series=True).context == 7 * 24


def test_a_series_shorter_than_context_and_horizon_is_left_out_by_name() -> None:
    panel = of_periods({"a": 4, "b": 11, "c": 23})
    panel.values[1, :125, 0] = torch.nan
    model = fit_each(panel, AUTO, NET.model_copy(update={"ridge": SeasonalRidge(season=10, seasons=2)}), LEARNS, size=3, processes=1)
    said = 'series "b" has no net: series "b" has 25 steps, 0 of them before the stop and calibrate parts; context 24 + horizon 3 = 27 are needed: '
    assert model.notes[0].startswith(said)
    ahead = model.predict(panel).values
    assert ahead[[0, 2]].isfinite().all() and ahead[1].isnan().all()
