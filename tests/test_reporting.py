"""The report: one whole file, valid, harmless, without a network, in two complete languages, the same bytes twice."""

import base64
import gzip
import json
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell import forecast
from foretell import words as wording
from foretell.clock import Clock
from foretell.errors import FileError, TaskError
from foretell.forecaster import Forecaster
from foretell.page import Section, page
from foretell.panel import Panel
from foretell.reporting import backtest_html, forecast_html, headline, report
from foretell.storage import load, save
from foretell.task import Task
from foretell.train import Curves
from foretell.words import number, percent, stamp, wall, words
from laws import slow
from test_plotting import STRANGE, ahead, some, trial

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Reads a page; its tags must close in order. Keeps the words a reader sees, and every address the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []
        self.scripts: dict[str, str] = {}
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "action", "poster", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "script":
            self.scripts[given.get("id") or f"script {len(self.scripts)}"] = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[list(self.scripts)[-1]] += data
        elif self.open and self.open[-1] != "style":
            self.seen.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.seen).split())


def written(folder: Path, data: Panel, lang: str = "en", **changes: object) -> str:
    changes["forecast"] = changes["forecast"] if "forecast" in changes else ahead(data)
    changes["backtest"] = changes["backtest"] if "backtest" in changes else trial(data)
    return report(folder / "report.html", panel=data, lang=lang, **changes).read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["en", slow("ko")])
def lang(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("series", [1, slow(40)])
def test_the_page_is_whole_and_loads_nothing(tmp_path: Path, series: int, lang: str) -> None:
    text = written(tmp_path, some(series), lang)
    read = Page(text)
    assert read.loads == []
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert len(read.ids) == len(set(read.ids))
    assert f'<html lang="{lang}">' in text and '<meta charset="utf-8">' in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_library_is_there_once_and_packed(tmp_path: Path) -> None:
    text = written(tmp_path, some())
    library = gzip.decompress(base64.b64decode(Page(text).scripts["library"])).decode()
    assert library.startswith("/**\n* plotly.js v") and text.count('id="library"') == 1
    assert len(text) < 2_500_000


def test_pictures_carry_the_data(tmp_path: Path) -> None:
    data = some()
    scripts = Page(written(tmp_path, data)).scripts
    figures = [json.loads(body) for name, body in scripts.items() if name.endswith("-data")]
    assert len(figures) == 5  # forecast, week, by step, by origin, peaks
    line = next(trace for trace in figures[0]["data"] if trace.get("name") == "forecast")
    values = np.frombuffer(base64.b64decode(line["y"]["bdata"]), line["y"]["dtype"])
    np.testing.assert_allclose(values, data.values[0, -24:, 0], rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, slow({"backtest": None}), slow({"forecast": None}), {"forecast": None, "backtest": None}])
def test_the_same_values_give_the_same_bytes(tmp_path: Path, changes: dict[str, None]) -> None:
    data = some(2)
    first = written(tmp_path, data, **changes)
    assert first == written(tmp_path, data, **changes)
    Page(first)


def test_a_name_is_never_markup(tmp_path: Path) -> None:
    data = replace(some(2), series=(STRANGE, "</title><img src=x onerror=alert(1)>"), channels=(STRANGE,))
    backtest = trial(data)
    odd = {"seasonal_naive": backtest.point["seasonal_naive"], STRANGE: backtest.point["ridge"]}
    bands = {"seasonal_naive": backtest.quantiles["seasonal_naive"], STRANGE: backtest.quantiles["ridge"]}
    backtest = replace(backtest, point=odd, quantiles=bands, notes=(STRANGE,))
    curves = {STRANGE: Curves(train=torch.ones(1, 3), stop=torch.ones(1, 3), seconds=torch.ones(3))}
    text = written(tmp_path, data, backtest=backtest, title=f"</title>{STRANGE}", curves=curves)
    read = Page(text)
    assert read.loads == [] and STRANGE in read.text
    assert "<script>alert" not in text and "<img" not in text
    for body in read.scripts.values():
        assert "<script" not in body


def test_no_figure_can_end_its_script() -> None:
    from plotly.graph_objects import Figure

    figure = Figure(layout={"title": {"text": f"</script>{STRANGE}"}}, data=[])
    scripts = Page(page("t", "u", "", [Section("s", figure=figure)], words("en"))).scripts
    assert json.loads(scripts["figure-1-data"])["layout"]["title"]["text"] == f"</script>{STRANGE}"


def test_the_headline_says_what_to_expect_and_how_far_to_trust_it() -> None:
    data = some()
    first, second, third = headline(ahead(data), trial(data), words("en"))
    assert first.startswith("y, next 24 hours (Fri 26 Jan 2024, 00:00 to 23:00): between 8.94 and 10.99, highest on Fri 26 Jan 2024, 05:00.")
    assert "The 80\u00a0% bands reach from 8.0" in first
    assert re.fullmatch(r"On the last 10 days \(.*\), ridge was 80\xa0% more accurate than seasonal naive \(MAE 0\.\d+ against 0\.\d+\)\.", second)
    assert third == "Of the observed values, 100.0\u00a0% lay inside its 80\u00a0% bands."


def test_a_model_that_did_not_earn_its_place_is_told_so() -> None:
    backtest = trial(some())
    worse = replace(backtest, point={**backtest.point, "ridge": backtest.point["seasonal_naive"] * 1.02})
    assert "less accurate than seasonal naive" in headline(None, worse, words("en"))[0]
    assert "The most accurate in this test was seasonal naive" in headline(None, worse, words("en"))[1]
    same = replace(backtest, point={**backtest.point, "ridge": backtest.point["seasonal_naive"]})
    assert "exactly as accurate as" in headline(None, same, words("en"))[0]
    alone = replace(backtest, point={"seasonal_naive": backtest.point["seasonal_naive"]})
    assert "seasonal naive had MAE" in headline(None, alone, words("en"))[0]


def test_the_forecasts_own_model_is_the_one_spoken_of() -> None:
    data = some()
    backtest = trial(data)
    both = replace(
        backtest, point={**backtest.point, "mine": backtest.point["ridge"] * 1.01}, quantiles={**backtest.quantiles, "mine": backtest.quantiles["ridge"]}
    )
    lines = headline(replace(ahead(data), model="mine"), both, words("en"))
    assert ", mine was " in lines[1] and "The most accurate in this test was ridge" in lines[2]


def test_accuracy_has_the_baseline_first_and_the_best_bold() -> None:
    table = backtest_html(trial(some()))
    rows = re.findall(r"<tr[^>]*>.*?</tr>", table)
    assert "seasonal naive" in rows[1] and 'class="base"' in rows[1] and "ridge" in rows[2]
    heads = re.findall(r"<th[^>]*>(.*?)</th>", rows[0])
    cells = re.findall(r"<td([^>]*)>(.*?)</td>", rows[2])
    assert cells[heads.index("skill")][1] == "80.0\u00a0%"
    for metric in ("MAE", "skill", "bias"):
        assert "best" in cells[heads.index(metric)][0] and "best" not in re.findall(r"<td([^>]*)>", rows[1])[heads.index(metric)]


def test_the_forecast_table_folds_what_is_long() -> None:
    assert "<details>" not in forecast_html(ahead(some(), horizon=12))
    long = forecast_html(ahead(some(3), horizon=24))
    assert "All 72 rows" in long and long.count("<tr>") == 1 + 12 + 1 + 72
    wide = forecast_html(ahead(some(100), horizon=24))
    assert "The first 2,000 of 2,400 rows" in wide
    assert "80\u00a0% 예측 구간 ↓" in forecast_html(ahead(some()), "ko")


def test_parts_data_and_gaps_are_told(tmp_path: Path) -> None:
    data = some(2)
    data.values[0, 100:107, 0] = torch.nan
    data.values[1] = 3.0
    seen = Page(written(tmp_path, data, forecast=None)).text
    assert "stop: λ, early stopping, choices 2024-01-11 20:00 2024-01-13 21:00 50" in seen
    assert "series 0 2024-01-01 00:00 2024-01-25 23:00 593 7" in seen
    assert "series 1 (constant) 2024-01-01 00:00 2024-01-25 23:00 600 0 3 3 3" in seen


def test_bands_stated_and_measured(tmp_path: Path) -> None:
    backtest = trial(some())
    narrow = replace(
        backtest,
        quantiles={
            "seasonal_naive": torch.full_like(backtest.quantiles["ridge"], torch.nan),
            "ridge": backtest.point["ridge"][..., None].expand(-1, -1, -1, -1, 3),
        },
    )
    seen = Page(written(tmp_path, some(), backtest=narrow)).text
    assert re.search(r"ridge 80 % \d\.\d % 0 too narrow", seen)
    assert "seasonal naive 80 %" not in seen


def test_odd_cases_are_written(tmp_path: Path, lang: str) -> None:
    data = some(steps=80)
    bare = trial(data, cuts=1, horizon=1, probs=())
    Page(written(tmp_path, data, lang, forecast=ahead(data, horizon=1, probs=()), backtest=bare))
    blank = trial(data, cuts=2)
    blank.truth[:] = torch.nan
    empty = replace(ahead(data), values=torch.full((1, 24, 1), torch.nan), quantiles=torch.full((1, 24, 1, 3), torch.nan))
    Page(written(tmp_path, data, lang, forecast=empty, backtest=blank))
    silent = replace(data, values=torch.full_like(data.values, torch.nan))
    Page(written(tmp_path, silent, lang, forecast=empty, backtest=None))
    Page(written(tmp_path, some(2, targets=2), lang))
    monthly = some(2, step="MS")
    assert "2074" in written(tmp_path, monthly, lang, backtest=None)


def test_learning_curves_by_name(tmp_path: Path) -> None:
    one = Curves(train=torch.tensor([[3.0, 2.0]]), stop=torch.tensor([[3.0, 2.5]]), seconds=torch.ones(2))
    text = written(tmp_path, some(), curves={"main": one, "main2": one})
    assert "Learning curves" in Page(text).text and "main2: stop part" in text


@pytest.fixture(scope="module")
def model() -> Forecaster:
    return forecast.fit(some(2, steps=200), Task(target="y", context=24, horizon=6))


def test_the_card_says_what_the_model_is(tmp_path: Path, model: Forecaster, lang: str) -> None:
    data = some(2, steps=200)
    seen = Page(written(tmp_path, data, lang, forecast=model.predict(data), backtest=None, model=model)).text
    say = words(lang)
    for name in ("target", "context", "horizon", "net", "seed", "versions", "seconds", "λ"):
        assert say[f"card_{name}"] in seen, name
    assert "Ridge(" in seen and f"torch {torch.__version__}" in seen
    assert say["part_train"] in seen
    save(model, tmp_path / "model.foretell")
    assert Page(written(tmp_path, data, lang, forecast=model.predict(data), backtest=None, model=load(tmp_path / "model.foretell"))).text == seen


def test_both_languages_are_complete() -> None:
    english, korean = words("en").table, words("ko").table
    assert list(english) == list(korean)
    for key in english:
        assert _places(english[key]) == _places(korean[key]), key
        assert english[key].strip() and (korean[key].strip() or key == "why_plural"), key  # Korean nouns have no plural to write
        if key not in ("period", "head_step", "why_plural"):
            assert re.search("[가-힣]", korean[key]), f"{key} is not translated: {korean[key]}"
        assert not re.search("[가-힣]", english[key])


def test_every_word_is_used_and_every_word_used_is_there() -> None:
    source = Path(wording.__file__).parent
    code = "".join(file.read_text(encoding="utf-8") for file in source.rglob("*.py"))
    table = words("en").table
    for key in set(re.findall(r"""say\[["'](\w+)["']\]""", code)) | set(re.findall(r"""self\[["'](\w+)["']\]""", code)):
        assert key in table, key
    loose = [k for k in table if not re.search(rf"""["']{k}["']""", code) and not k.startswith(SPELLED) and k not in METRICS]
    assert not loose


# Keys put together from a name: why_ + the unit of a season, the name of a baseline, of a parameter.
SPELLED = ("model_", "plan_parameter_", "part_", "card_", "fact_", "why_baseline_", "why_day", "why_week", "why_year", "why_season")
METRICS = ("skill", "coverage", "bias", "pinball", "peak_WAPE", "peak_bias")


def test_a_korean_page_has_no_english_sentence(tmp_path: Path) -> None:
    seen = Page(written(tmp_path, some(3), "ko")).text
    names = {"y", "series", "MAE", "RMSE", "MAPE", "sMAPE", "MASE", "RMSSE", "WAPE", "JavaScript", "foretell"}
    assert set(re.findall(r"[A-Za-z]{2,}", seen)) <= names


def test_numbers_and_times_as_readers_write_them() -> None:
    assert [number(v) for v in (31234.56, 1.2345, -0.00012, 0.0, float("nan"), 1e9)] == ["31,235", "1.234", "−0.00012", "0", "–", "1,000,000,000"]
    assert [number(-0.001, 2), percent(-0.5), percent(float("nan")), percent(0.8)] == ["0.00", "−50\u00a0%", "–", "80\u00a0%"]
    hourly, time = Clock(np.datetime64("2024-01-01"), "30min"), np.datetime64("2024-03-01T23:30:00")
    assert words("en").moment(time, hourly) == "Fri 1 Mar 2024, 23:30"
    assert words("ko").moment(time, hourly) == "2024년 3월 1일(금) 23:30"
    assert words("en").period(time, time + 3600, hourly) == "Fri 1 Mar 2024, 23:30 to Sat 2 Mar 2024, 00:30"
    monthly = Clock(np.datetime64("2024-01-31"), "ME")
    assert words("ko").moment(wall(monthly, 1), monthly) == "2024년 2월"
    assert stamp(time, Clock(np.datetime64("2024-01-01"), "D")) == "2024-03-01"


@pytest.mark.parametrize(
    ("step", "steps", "english", "korean"),
    [
        ("h", 24, "24 hours", "24시간"), ("h", 1, "1 hour", "1시간"), ("30min", 48, "24 hours", "24시간"), ("h", 1752, "73 days", "73일"),
        ("h", 1747, "72.8 days", "72.8일"), ("D", 28, "28 days", "28일"), ("QS", 4, "12 months", "12개월"), ("MS", 36, "3 years", "3년"),
        ("YS", 2, "2 years", "2년"), ("W", 5, "5 weeks", "5주"), ("s", 90, "90 seconds", "90초"), ("10s", 360, "1 hour", "1시간"),
    ],
)  # fmt: skip
def test_spans_of_time(step: str, steps: int, english: str, korean: str) -> None:
    clock = Clock(np.datetime64("2024-01-01"), step)
    assert (words("en").length(clock, steps), words("ko").length(clock, steps)) == (english, korean)


def test_what_cannot_be_written_gets_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        written(tmp_path / "file", some())
    with pytest.raises(FileError, match="cannot write"):
        (tmp_path / "report.html").mkdir()
        written(tmp_path, some())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "report.html"]
    with pytest.raises(TaskError, match='no language "de"'):
        written(tmp_path, some(), "de")


@pytest.mark.slow
def test_plotly_is_loaded_only_to_draw() -> None:
    code = "import sys, foretell.reporting; sys.exit(any(name in sys.modules for name in ('plotly', 'polars', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode == 0


def _places(text: str) -> set[str]:
    fields: Iterator[tuple[str, str | None, str | None, str | None]] = iter(string.Formatter().parse(text))
    return {name for _, name, _, _ in fields if name}
