"""The page and pictures of an explanation, in both languages, and the command that writes them."""

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
from foretell.attribution.effects import dependence
from foretell.attribution.types import Curve
from foretell.cli import main
from foretell.dossier import dossier, headline
from foretell.explanation import components, explain
from foretell.portraits import KINDS, ceiling, largest, moments, named, portrait
from foretell.words import words
from laws import PLAIN, TASK, fitted, plain, refused, rich, slow


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lang", ["en", slow("ko")])
def test_every_picture_is_drawn(kind: str, lang: str) -> None:
    panel = rich()
    why = explain(fitted("ridge", panel), panel, origin=130)
    figure = portrait(why, kind, example=1, lang=lang)
    assert figure.layout.height and figure.data


def test_plot_knows_an_explanation_a_curve_and_all_it_knew() -> None:
    panel = plain()
    model = fitted("ridge", panel, PLAIN)
    why, slope = (explain(model, panel, method=m) for m in ("deeplift", "saliency"))
    assert ft.plot(why, series="b") == portrait(why, "parts", example=1)
    assert ft.plot(why, "waterfall") == portrait(why, "waterfall") and ft.plot(slope) == portrait(slope, "cells")
    f, blocks = model.function(panel)
    curve = dependence(lambda x: f(x)[:, :, 0, 0], blocks, [("past", 1)], name="x")
    assert ft.plot(curve).layout.xaxis.title.text == curve.channel
    assert ft.plot(model.predict(panel), history=panel).data
    with refused(TaskError, 'no picture "part" of an explanation'):
        ft.plot(why, "part")
    with refused(TaskError, "one series at a time; got 2: a, b"):
        ft.plot(why, series=["a", "b"])
    with refused(TaskError, 'no series "z"'):
        ft.plot(why, series="z")


def test_the_bars_of_a_step_and_its_line_agree() -> None:
    panel = plain()
    why = explain(fitted("lstm on ridge", panel, PLAIN), panel)
    figure = portrait(why, "parts", example=2)
    bars = np.sum([np.array(trace.y) for trace in figure.data if trace.type == "bar"], 0)
    np.testing.assert_allclose(bars, figure.data[-1].y, atol=1e-9)
    np.testing.assert_allclose(figure.data[-1].y, (why.prediction - why.base)[2])


def test_a_waterfall_ends_at_the_forecast() -> None:
    panel = plain()
    why = explain(fitted("ridge", panel, PLAIN), panel)
    figure = portrait(why, "waterfall")
    for output, trace in enumerate(figure.data):
        assert trace.x[0] + sum(trace.x[1:-1]) == pytest.approx(float(why.prediction[0, output])) == pytest.approx(trace.x[-1])
    assert sum(bool(trace.visible) for trace in figure.data) == 1


def test_all_else_comes_last_in_a_waterfall() -> None:
    panel = plain(steps=400)
    why = explain(fitted("ridge", panel, PLAIN.model_copy(update={"context": 300})), panel)
    names = list(portrait(why, "waterfall").data[0].y)
    assert names[-3] == "all else" and names[-2:] == ["unexplained", "forecast"]


def test_a_curve_begins_at_nothing_and_few_values_are_bars() -> None:
    grid = torch.tensor([0.0, 1.0])
    ice = torch.stack([torch.tensor([[5.0], [9.0]]), torch.tensor([[7.0], [9.5]])])
    figure = ft.plot(Curve(grid, ice, "flag", "set", density=torch.tensor([3.0, 1.0])))
    assert [list(trace.y) for trace in figure.data[:3]] == [[0, 2.0], [0, 0.5], [0, 1.25]]
    assert figure.data[3].type == "bar" and figure.data[3].y[0] == pytest.approx(3 * figure.data[3].y[1])
    assert list(figure.layout.xaxis.tickvals) == [0, 1]
    flat = ft.plot(Curve(grid, torch.full((2, 2, 1), 100.0), "flag", "set"))
    assert flat.layout.yaxis.range[1] - flat.layout.yaxis.range[0] > 1, "what does not move the forecast looks flat"


def test_one_strong_cell_does_not_blank_the_others() -> None:
    values = torch.ones(100)
    values[7] = -50
    assert ceiling(values) == 12.5 and ceiling(torch.ones(9)) == 1 == ceiling(torch.zeros(3))


def test_other_series_stand_beside_this_one(tmp_path: Path) -> None:
    """Those that have a forecast at that moment; of a net with kernels, what each adds."""
    panel = plain(series=("a", "b", "c"))
    model = fitted("ridge", panel, PLAIN)
    why = explain(model, panel.pick("b"), origin=100)
    say = words("en")
    assert say["why_items"] in ft.dossier(tmp_path / "why.html", why, model, panel).read_text()
    alone = ft.dossier(tmp_path / "alone.html", why, model, panel.pick("b")).read_text()
    assert say["why_items"] not in alone and say["why_kernels"] not in alone
    assert re.search(r"<footer><p>" + re.escape(say["why_world"][:40]), alone)


def test_parts_beyond_the_largest_are_summed() -> None:
    panel = plain(steps=400)
    why = explain(fitted("ridge", panel, PLAIN.model_copy(update={"context": 300})), panel)
    few = largest(components(why), 0)
    assert len(few) == 9 and "all else" in few
    assert float(sum(few.values()).sum()) == pytest.approx(float(sum(components(why).values()).sum()))
    assert named("same time 2 days before", words("ko")) == "2일 전 같은 시각" and named("price before", words("en")) == "price until now"


@pytest.mark.parametrize("lang", ["en", slow("ko")])
def test_the_page_stands_alone(lang: str, tmp_path: Path) -> None:
    panel = rich()
    model = fitted("lstm on ridge", panel)
    why = explain(model, panel.pick("b"), origin=130)
    text = ft.dossier(tmp_path / "why.html", why, model, panel, lang=lang).read_text()
    assert words(lang)["why_world"] in text and not re.search(r'(?:src|href)="https?:', text)
    assert text.count('<script type="application/json"') >= 6
    for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S):
        json.loads(block)


def test_the_command_writes_a_page_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    panel = plain().pick("a")
    panel.frame().write_csv("data.csv")
    ft.save(fitted("ridge", ft.read("data.csv"), PLAIN), "m.foretell")
    assert main(["explain", "m.foretell", "data.csv", "--out", "why.html"]) == 0
    assert "the explanation's own error" in capsys.readouterr().out
    rows = pl.read_csv("why.csv")
    assert set(rows["block"]) == {"past", "base", "residual"} and Path("why.html").is_file()
    assert main(["explain", "m.foretell", "data.csv", "--out", "slope.html", "--method", "saliency"]) == 0
    said = capsys.readouterr().out
    assert "no parts of the forecast" in said and "usual" not in said and Path("slope.csv").is_file() and not Path("slope.html").exists()
    assert main(["explain", "m.foretell", "data.csv", "--method", "deplift"]) == 2
    assert 'did you mean "deeplift"' in capsys.readouterr().err


def test_days_are_told_without_an_hour() -> None:
    days = np.array([["2016-02-07", "2016-02-08"]], dtype="datetime64[s]")
    assert moments(days) == ["2016-02-07", "2016-02-08"] and moments(days + np.timedelta64(1, "h"))[0] == "2016-02-07 01:00"
    assert moments(days + np.timedelta64(1, "s"))[0] == "2016-02-07 00:00:01"


def test_a_steady_price_is_one_part_and_an_event_two() -> None:
    """What a price adds until now and from now on cancels where it does not change: one bar near 0, not two against each other."""
    panel = rich()
    why = explain(fitted("ridge", panel), panel, origin=130)
    at, ahead = why.channels("past").index("price"), why.channels("future").index("price")
    past, future = why.values["past"].clone(), torch.zeros_like(why.values["future"])
    past[..., at] = 0.0
    past[..., 0, at], future[..., 0, ahead] = 2.0, -1.9
    steady = components(replace(why, values={"past": past, "future": future}))
    assert "price before" not in steady and float(steady["price"].max()) == pytest.approx(0.1)
    future[..., 0, ahead] = 2.0
    moved = components(replace(why, values={"past": past, "future": future}))
    assert float(moved["price before"].max()) == 2.0 == float(moved["price"].max())


def test_wrong_pictures_get_a_sentence() -> None:
    panel = plain()
    why = explain(fitted("ridge", panel, PLAIN), panel)
    with pytest.raises(ft.TaskError, match="a page shows what adds up to the forecast; saliency gives sensitivity values"):
        ft.dossier("never.html", explain(fitted("ridge", panel, PLAIN), panel, method="saliency"), fitted("ridge", panel, PLAIN), panel)
    with pytest.raises(ft.TaskError, match='no picture "part" of an explanation: did you mean "parts"'):
        portrait(why, "part")
    assert TASK.horizon == why.prediction.shape[1]


def test_the_page_of_a_series_that_began_late_asks_for_no_window_before_it(tmp_path: Path) -> None:
    panel = rich(steps=400)
    late = replace(panel, values=panel.values.clone())
    late.values[0, :300, 0] = torch.nan
    model = fitted("ridge", panel)
    made = dossier(tmp_path / "why.html", explain(model, late.pick("a"), origin=390), model, late)
    assert made.read_text(encoding="utf-8").count("<section") > 3


def test_the_sum_of_all_steps_is_told_as_one() -> None:
    panel = rich()
    told = headline(explain(fitted("ridge", panel), panel, origin=130, of="total"), words("en"))[0]
    assert " … " in told and ", all steps together: " in told
