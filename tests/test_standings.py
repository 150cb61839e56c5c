"""A test of many series: errors by label, best and worst, label against prediction as small pictures, tables in pieces; M5's folder in one command."""

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import torch

import foretell as ft
from foretell import Backtest, Panel, Task, TaskError, Training, forecast
from foretell.backtesting import backtest
from foretell.cli import main, runs
from foretell.hierarchy import ranked
from foretell.nets import SeasonalRidge
from foretell.reporting import report
from foretell.sketch import chosen, draw, sketches
from foretell.standings import labels_of, standings
from foretell.words import words
from laws import refused

SERIES = tuple(f"{state}/{item}" for state in ("CA", "TX") for item in ("A_1", "A_2", "B_1", "B_2", "B_3"))
SAY = words("en")


@pytest.fixture(scope="module")
def panel() -> Panel:
    draw_ = torch.Generator().manual_seed(1)
    level = torch.linspace(1, 10, len(SERIES))[:, None]
    values = torch.poisson(level * (1 + 0.5 * torch.sin(torch.arange(120) * 2 * torch.pi / 7)), generator=draw_)
    labels = {"state": tuple(s[:2] for s in SERIES), "dept": tuple(s[3] for s in SERIES), "item": SERIES, "same": ("x",) * len(SERIES)}
    made = ft.from_array(values, ("sales",), SERIES, step="D")
    return Panel(made.values, made.shared, made.start, made.clock, made.series, made.channels, labels=labels)


@pytest.fixture(scope="module")
def result(panel: Panel) -> Backtest:
    task = Task(target="sales", context=28, horizon=7, floor=0)
    fits: Mapping[str, object] = {"own": lambda part: forecast.fit(part, task, SeasonalRidge(seasons=4), Training(scale="mean"), per_series=True)}
    return backtest(fits, panel, task=task, windows=3, step=3)  # type: ignore[arg-type]


def test_labels_that_make_a_table(result: Backtest, panel: Panel) -> None:
    """One group, or a group a series, is none."""
    assert labels_of(result, panel) == ["state", "dept"]
    assert labels_of(result, panel.pick(*SERIES[:3])) == []


def test_the_report_has_groups_and_both_ends(result: Backtest, panel: Panel) -> None:
    found = standings(result, panel, "own", SAY)
    assert [one.title for one in found] == ["Accuracy by state", "Accuracy by dept", "The worst series", "The best series"]
    order = [name for name, _ in ranked(result, "own")]
    assert found[2].body.index(order[0]) < found[2].body.index(order[1]) and order[-1] in found[3].body and found[3].figure is not None
    assert found[0].figure is None


@pytest.mark.slow
def test_the_page_of_the_report_shows_them(result: Backtest, panel: Panel, tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", panel=panel, backtest=result).read_text()
    assert "Accuracy by dept" in page and "The worst series" in page


def test_pictures_are_chosen_by_name_or_rank(result: Backtest) -> None:
    order = tuple(name for name, _ in ranked(result, "own"))
    assert (
        chosen(result, "own", "all") == SERIES
        and chosen(result, "own", "worst:3") == order[:3]
        and chosen(result, "own", "TX/B_1, CA/A_2") == ("TX/B_1", "CA/A_2")
    )
    with refused(TaskError, 'figures="CA/A_3": no series "CA/A_3"; give all, worst:12, or names'):
        chosen(result, "own", "CA/A_3")


def test_a_sketch_shows_the_test_without_overlap(result: Backtest) -> None:
    """Three origins three days apart: the last one's seven days are drawn, and what of earlier ones does not overlap."""
    (one,) = sketches(result, "own", ("CA/A_1",), SAY)
    assert one.name == "CA_A_1"
    root = ElementTree.fromstring(one.svg)
    lines = [p for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("fill") == "none"]
    assert len(lines) == 2 and all(line.get("d", "").count("L") == 6 for line in lines) and "CA/A_1" in one.svg


def test_gaps_and_names_in_a_sketch() -> None:
    times = np.datetime64("2024-01-01T00:00:00") + np.arange(5) * np.timedelta64(86400, "s")
    svg = draw("a <b>", times, {"actual": np.array([1, np.nan, 3, 4, np.nan]), "x": np.full(5, np.nan)})
    ElementTree.fromstring(svg)
    assert "a &lt;b&gt;" in svg and svg.count("M64.0") >= 1 and svg.count('fill="none"') == 2
    ElementTree.fromstring(draw("none", times[:0], {"actual": np.zeros(0)}))


def test_two_names_that_look_alike_get_two_files(result: Backtest) -> None:
    names = [one.name for one in sketches(result, "own", ("CA/A_1", "CA/A_1", "TX/A_1"), SAY)]
    assert names == ["CA_A_1", "CA_A_1-2", "TX_A_1"]


def test_many_series_are_written_in_pieces(result: Backtest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PIECE", 4)
    runs.write_backtest(tmp_path, result, "parquet")
    parts = sorted((tmp_path / "backtest").iterdir())
    assert len(parts) == 3
    runs.write_backtest(tmp_path, result, "csv")
    whole = pl.read_csv(tmp_path / "backtest.csv")
    read = pl.read_parquet(tmp_path / "backtest" / "*.parquet")
    assert len(read) == len(whole) and set(read.columns) == set(whole.columns) and read["own"].sum() == pytest.approx(whole["own"].sum())


# ---------------------------------------------------------------- M5's folder on the command line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two states, five items, 230 days of sales and 28 more of what is known, as Kaggle writes it."""
    home, days, draw_ = tmp_path / "m5", 230, np.random.default_rng(0)
    home.mkdir()
    rows = ["id,item_id,dept_id,cat_id,store_id,state_id," + ",".join(f"d_{d + 1}" for d in range(days))]
    prices = ["store_id,item_id,wm_yr_wk,sell_price"]
    for state in ("CA", "TX"):
        for n in range(5):
            item = f"FOODS_1_{n:03d}"
            sold = draw_.poisson(3 + n + (np.arange(days) % 7 > 4) * 2)
            rows.append(f"{item}_{state}_1,{item},FOODS_{1 + n % 2},FOODS,{state}_1,{state}," + ",".join(map(str, sold)))
            prices += [f"{state}_1,{item},{w},{2 + n / 2 + 0.1 * (w % 5 == 0):.2f}" for w in range(40)]
    (home / "sales_train_evaluation.csv").write_text("\n".join(rows) + "\n")
    (home / "sell_prices.csv").write_text("\n".join(prices) + "\n")
    lines = ["date,wm_yr_wk,d,event_name_1,event_type_1,event_name_2,event_type_2,snap_CA,snap_TX"]
    kinds = ("Cultural", "National", "Religious", "Sporting")
    for d in range(days + 28):
        event = f"E,{kinds[d // 11 % 4]},," if d % 11 == 3 else ",,,"
        lines.append(f"{date(2011, 1, 29) + timedelta(d)},{d // 7},d_{d + 1},{event},{int(d % 4 == 0)},{int(d % 3 == 0)}")
    (home / "calendar.csv").write_text("\n".join(lines) + "\n")
    return home


def test_m5_from_its_folder_to_figures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell.cli.work.reporting.report", lambda path, **_: path)
    monkeypatch.chdir(tmp_path)
    how = ("--hierarchy", "state-item", "--net", "seasonal-ridge", "--per-series", "--windows", "1", "--figures", "worst:2", "--quiet")
    assert main(("forecast", "m5", *how, "--out", "run")) == 0
    made = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"model.foretell", "forecast.csv", "accuracy_by_state.csv", "accuracy_by_dept.csv", "figures"} <= made
    assert len(list((tmp_path / "run" / "figures").iterdir())) == 2
    ahead = pl.read_csv(tmp_path / "run" / "forecast.csv")
    assert len(ahead) == 10 * 28 and float(ahead["foretell"].min()) >= 0
    model = ft.load(tmp_path / "run" / "model.foretell")
    assert model.task.known[:3] == ("price", "snap", "cultural") and model.training.scale == "mean" and model.training.loss == "mse"


def test_one_series_of_m5_by_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("foretell.cli.work.reporting.report", lambda path, **_: path)
    monkeypatch.chdir(tmp_path)
    how = ("--hierarchy", "state-item", "--series", "CA/FOODS_1_003", "--net", "seasonal-ridge", "--windows", "1", "--quiet")
    assert main(("forecast", "m5", *how, "--out", "run", "--figures", "all", "--horizon", "7")) == 0
    assert [file.name for file in (tmp_path / "run" / "figures").iterdir()] == ["CA_FOODS_1_003.svg"]
    assert main(("forecast", "m5", "--series", "CA/FOODS_9_003")) == 2
    assert 'no series "CA/FOODS_9_003"' in capsys.readouterr().err
