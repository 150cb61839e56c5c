"""The command line without turning knobs: --net auto, --neighbours and tune, on the data before the test of accuracy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from foretell.choosing import choose
from foretell.cli import flags, main
from foretell.cli.asked import Asked
from foretell.cli.automatic import _contender, before
from foretell.cli.race import Race, planned, race
from foretell.nets import Ridge
from foretell.reading import Reading
from laws import PLAIN, plain

pytest.importorskip("mlforecast")
pytest.importorskip("optuna")
SMALL = ("--target", "sales", "--horizon", "7", "--context", "14", "--past", "none", "--no-calendar", "--test", "21 days")


class Said(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs one command in a folder that holds 91 days of shop.csv."""
    monkeypatch.chdir(tmp_path)
    day = np.datetime64("2024-01-01") + np.arange(91)
    sales = 100 + 20 * np.sin(np.arange(91) * 2 * np.pi / 7) + np.random.default_rng(0).normal(size=91)
    pl.DataFrame({"date": day, "sales": sales.round(2)}).write_csv("shop.csv")

    def command(*words: str) -> Said:
        code = main(words)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return command


def test_auto_chooses_before_the_test_and_shows_the_table(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("forecast", "shop.csv", *SMALL, "--net", "auto", "--out", "here")
    assert said.code == 0, said.err
    assert "chosen: " in said.err and "too little data for lstm, lstm_transformer, period_kernel, lightgbm, xgboost" in said.err
    assert said.out.count("seasonal_naive") >= 2 and "ensemble" in said.out, "the table that chose, then that of the test"
    facts = json.loads((tmp_path / "here" / "metrics.json").read_text())
    assert facts["model"] == "auto" and set(facts["scores"]) == {"seasonal_naive", "ridge", "auto"}
    table = pl.read_csv(tmp_path / "here" / "choice.csv")
    assert {"ridge", "moving_average", "ensemble"} <= set(table["model"])
    page = (tmp_path / "here" / "report.html").read_text()
    for line in ("too little data for lstm", "chosen: "):
        assert line in page and any(note.startswith(line) for note in facts["notes"]), "the reader of the report is told, too"
    assert (tmp_path / "here" / "model.foretell").is_file()


def test_what_is_chosen_has_seen_nothing_of_the_test() -> None:
    panel = plain(200)
    asked = Asked("", Reading(), panel, PLAIN)
    plan = planned(asked, flags.Test(windows=3))
    assert before(asked, plan).last("y").tolist() == [199 - 3 * 3] * 3


@pytest.mark.parametrize("per_series", [True, False])
def test_the_chosen_row_is_fitted_as_it_was_chosen(per_series: bool) -> None:
    from foretell.forecast import Member

    panel = plain(160)
    choice = choose(panel, PLAIN, nets={"one": Member(Ridge(), per_series=per_series)}, windows=2)
    rows = Race((_contender(choice),), ())
    model = rows.fitted(rows.rows[0], PLAIN, None)(panel)
    np.testing.assert_allclose(model.predict(panel).values, choice.fit(panel).predict(panel).values, rtol=1e-5)


def test_neighbours_stand_beside_the_rows_typed() -> None:
    names = [row.name for row in race(flags.Nets(net=("ridge", "lightgbm:rounds=9"), neighbours=True), {}).rows]
    assert names == ["ridge", "lightgbm", "xgboost", "autoets", "theta"]


@pytest.mark.slow
def test_backtest_with_neighbours(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("backtest", "shop.csv", *SMALL, "--neighbours", "--out", "here")
    assert said.code == 0, said.err
    assert all(name in said.out for name in ("lightgbm", "xgboost", "autoets", "theta"))


@pytest.mark.slow
def test_tune_goes_on_and_is_tested_on_what_it_has_not_seen(run: Callable[..., Said], tmp_path: Path) -> None:
    words = ("tune", "shop.csv", *SMALL, "--net", "lightgbm:rounds=20,least=5,patience=5", "--study", "s.db")
    first = run(*words, "--budget", "2", "--out", "a")
    assert first.code == 0, first.err
    second = run(*words, "--budget", "3", "--out", "b")
    assert second.code == 0, second.err
    assert second.err.count("trial ") == 1 and "best of 3 trials" in second.err
    assert len(pl.read_csv(tmp_path / "b" / "trials.csv")) == 3
    facts = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert list(facts["scores"]) == ["seasonal_naive", "ridge", "lightgbm", "tuned"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("tune", "shop.csv", *SMALL, "--net", "ridge"), "ridge has nothing to search: tune lstm, lstm-transformer, period-kernel, lightgbm or xgboost"),
        (("tune", "shop.csv", *SMALL, "--budget", "long"), "so many trials, as 20, or a time"),
        (("tun", "shop.csv"), 'no command "tun": did you mean "tune"'),
    ],
)
def test_what_goes_wrong_is_one_sentence(run: Callable[..., Said], tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    said = run(*words)
    assert said.code == 2 and sentence in said.err
    assert [p.name for p in tmp_path.iterdir()] == ["shop.csv"]
