"""A detector's score explained: the planted sensor gets it, the parts add up, normal rows are what it is compared with."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import foretell as ft
from foretell import TaskError
from foretell.cli import main
from foretell.detect import Preparation
from foretell.explanation import explain, methods
from foretell.words import words
from laws import refused, slow
from test_detect import faulty, guard, machine, panel

NETS = ("spread", *(pytest.param(name, marks=pytest.mark.slow) for name in ("forecast", "pca", "forest", "gan", "blend")))


@pytest.mark.parametrize("name", NETS)
def test_the_parts_of_a_score_add_up_and_the_planted_sensor_has_most(name: str) -> None:
    watcher, bad = guard(name), panel(faulty())
    why = explain(watcher, bad, origin=265, baseline=panel(machine(200, 1)))
    told = watcher.score(bad).values[0, 265]
    torch.testing.assert_close(why.prediction[0, 0], told)
    assert why.kind == "contribution" and why.method == "shapley" and why.gap < 1e-9
    by = {sensor: float(value) for sensor, value in why.by_channel().items()}
    assert max(by, key=lambda sensor: by[sensor]) == "heat" and "still" not in by
    assert by["heat"] > 0.5 * float(why.prediction - why.base)


def test_left_out_it_is_the_highest_score_against_the_panel_itself() -> None:
    bad = panel(faulty())
    watcher = guard("forecast")
    scores, why = watcher.score(bad), explain(watcher, bad)
    torch.testing.assert_close(why.prediction[0, 0], scores.values.nan_to_num().max())
    assert float(why.base) < float(why.prediction) / 2
    assert why.baseline is not None and why.baseline.name == "normal" and why.facts["limit"] == watcher.limit().value


def test_the_normal_windows_are_the_nearest() -> None:
    """A window of the normal run itself is its own nearest: nothing is left to explain but what the other three say."""
    good = panel(machine(200, 1))
    watcher = guard("spread")
    why = explain(watcher, good, origin=watcher.memory, baseline=good)
    assert why.baseline is not None
    torch.testing.assert_close(why.baseline.values["rows"][0, 0], watcher.kept(torch.from_numpy(machine(200, 1)[0]))[: why.values["rows"].shape[2]])


def test_when_as_well_as_which() -> None:
    """Occlusion tells stretches of time apart: before the fault began nothing is lost."""
    watcher, bad = guard("spread"), panel(faulty())
    why = explain(watcher, bad, origin=256, method="occlusion", baseline=panel(machine(200, 1)))
    heat = why.values["rows"][0, 0, :, why.channels("rows").index("heat")]
    began = why.values["rows"].shape[2] - watcher.delay - 1 - 6
    assert heat[began - 8 :].sum() > 5 * heat[: began - 8].abs().sum()


def test_runs_that_begin_late_hold_gaps_or_are_aggregated() -> None:
    values = machine(400, 3)
    values[0, 100:103, 1] = float("nan")
    watcher = guard("forecast", preparation=Preparation(aggregate=2))
    torch.testing.assert_close(
        explain(watcher, panel(values), origin=110, baseline=panel(machine(300, 1))).prediction[0, 0], watcher.score(panel(values)).values[0, 55]
    )
    early = guard("forecast")
    torch.testing.assert_close(explain(early, panel(values), origin=14).prediction[0, 0], early.score(panel(values)).values[0, 14])


def test_normal_runs_with_gaps_are_bridged() -> None:
    """No window of this run is whole; a steady sensor must not fall to 0 where it was not observed."""
    values = machine(300, 1)
    values[0, ::5, :] = float("nan")
    watcher, bad = guard("spread"), panel(faulty())
    why = explain(watcher, bad, origin=265, baseline=panel(values))
    assert why.baseline is not None and why.gap < 1e-9
    assert float(why.baseline.values["rows"].amin()) > 5, "the sensors run about 20, the still one at 7"
    assert max(why.by_channel(), key=lambda name: float(why.by_channel()[name])) == "heat"


def test_it_is_drawn_and_tabled() -> None:
    why = explain(guard("spread"), panel(faulty()), origin=265)
    assert list(ft.plot(why).data[0].y) == list(guard("spread").channels)
    assert set(why.frame()["channel"].unique()) == {*guard("spread").channels, ""}


@pytest.mark.parametrize("lang", ["en", slow("ko")])
def test_the_page_of_an_alarm_stands_alone(lang: str, tmp_path: Path) -> None:
    bad, watcher = panel(faulty()), guard("spread")
    why = explain(watcher, bad, origin=265, baseline=panel(machine(200, 1)))
    text = ft.dossier(tmp_path / "why.html", why, watcher, bad, lang=lang).read_text()
    say = words(lang)
    assert say["why_world"] in text and not re.search(r'(?:src|href)="https?:', text) and text.count('<script type="application/json"') == 4
    figures = [json.loads(one)["data"] for one in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)]
    bars = dict(zip(figures[1][0]["y"], figures[1][0]["x"], strict=True))
    assert bars["heat"] == pytest.approx(float(why.by_channel()["heat"]))
    assert {say["why_alarm_base"], say["alarm_score"]} <= set(bars)
    assert sum(float(v) for v in list(bars.values())[:-1]) == pytest.approx(float(why.prediction))
    seen = next(trace for trace in figures[2] if trace["name"] == say["actual"])
    place = watcher.channels.index("heat")
    np.testing.assert_allclose(seen["y"], watcher.kept(torch.from_numpy(faulty()[0]))[265 - watcher.memory : 265 + watcher.delay + 1, place])
    with refused(TaskError, "of a forecast take dossier"):
        ft.dossier(tmp_path / "x.html", replace(why, values={"past": why.values["rows"]}), watcher, bad)


def test_the_command_explains_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    ft.save(guard("spread"), "guard.foretell")
    panel(faulty()).frame().write_csv("bad.csv")
    panel(machine(200, 1)).frame().write_csv("good.csv")
    assert main(["explain", "guard.foretell", "bad.csv", "--normal", "good.csv", "--out", "why.html"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Normal windows like this one have" in said and "heat +" in said and "It is above the limit" in said
    rows = pl.read_csv("why.csv")
    assert set(rows["block"]) == {"rows", "base", "residual"} and Path("why.html").is_file()
    assert main(["explain", "guard.foretell", "bad.csv", "--of", "total"]) == 2
    assert "--of is for forecasts" in capsys.readouterr().err
    assert main(["explain", "guard.foretell", "bad.csv", "--method", "deeplift"]) == 2
    assert "deeplift does not work for a detector" in capsys.readouterr().err


def test_what_cannot_be_answered_is_said() -> None:
    watcher, bad = guard("spread"), panel(faulty())
    told = methods(watcher)
    assert [m for m in told if not told[m]] == ["auto", "occlusion", "shapley", "lime", "temporal_lime"] and "only called" in told["deeplift"]
    with refused(TaskError, "deeplift does not work for a detector: its score is only called"):
        explain(watcher, bad, method="deeplift")
    with refused(TaskError, 'no baseline "last_period" of a detector'):
        explain(watcher, bad, baseline="last_period")
    with refused(TaskError, "has no score at"):
        explain(watcher, bad, origin=100_000)
