"""foretell plan: from a file of spend and revenue to a run folder; what is missing or contradictory gets its sentence."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import plan
from foretell.baseline import MovingAverage
from foretell.cli import main
from foretell.errors import TaskError
from foretell.nets import Ridge
from foretell.plan.limits import accuracy_limit
from foretell.plan.plans import Band
from foretell.worlds import ads, shop
from laws import slow
from test_cli import Said

SMALL = ("--epochs", "3", "--horizon", "4")
TWO = ("--members", "2", *SMALL)
FOLDER = {"controls.csv", "curve-tv.csv", "curve-search.csv", "metrics.json", "model.foretell", "plan.csv", "report.html"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)
    world = ads(1, weeks=90, media=2, horizon=4)
    times = world.panel.clock.local(np.arange(90)).astype("datetime64[D]")
    rows = zip(times, world.panel.channel("revenue")[0, :90].tolist(), *world.spend.T.tolist(), strict=True)
    lines = [f"{t},{y:.2f},{a:.2f},{b:.2f},{a * 3:.1f},text{t}" for t, y, a, b in rows]
    (tmp_path / "media.csv").write_text("week,revenue,tv,search,clicks,remark\n" + "\n".join(lines) + "\n")

    def call(*words: str) -> Said:
        code = main(words)
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return call


def test_one_command_leaves_a_whole_run_folder(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("plan", "media.csv", "--target", "revenue", "--controls", "tv:0..60000,search", "--budget", "100000", *TWO)
    assert said.code == 0, said.err
    folder = tmp_path / "foretell-media-plan"
    assert {file.name for file in folder.iterdir()} == FOLDER
    facts = json.loads((folder / "metrics.json").read_text())
    assert facts["model"] == "response net" and sum(facts["plan"].values()) <= 100_000 * (1 + 1e-9)
    assert set(facts["opinions"]) == {"response net", "flexible net"}
    curve = (folder / "curve-tv.csv").read_text().splitlines()
    assert curve[0].startswith("net,") and {line.split(",")[0] for line in curve[1:]} == {"response net", "flexible net"}
    assert facts["bounds"]["tv"] == [0, 60_000] and facts["bounds"]["search"][1] > 0
    assert "What these data cannot tell:" in said.out and "less than two years" in said.out
    page = (folder / "report.html").read_text()
    assert all(word in page for word in ("What each net expects of each plan", "half-saturation", "history is not an experiment", "KKT residual"))
    model = ft.load(folder / "model.foretell")
    assert model.net.media == ("tv", "search")


@pytest.mark.slow
def test_scenarios_stand_beside_the_plan(run: Callable[..., Said], tmp_path: Path) -> None:
    asked = ("--scenario", "more tv: tv=+20%, search=1000", "--scenario", "less: tv=x0.5")
    said = run("plan", "media.csv", "--target", "revenue", "--controls", "tv:0..60000,search", *asked, *SMALL, "--members", "3", "--rehearse", "3")
    assert said.code == 0, said.err
    assert "rehearsed in 3 worlds with a known answer" in said.out
    folder = tmp_path / "foretell-media-plan"
    assert len(json.loads((folder / "metrics.json").read_text())["rehearsal"]["achieved"]) == 3
    assert list(json.loads((folder / "metrics.json").read_text())["scenarios"]) == ["as written", "more tv", "less"]
    page = (folder / "report.html").read_text()
    assert "What if" in page and "more tv" in page and "checked by the other half" in page
    assert "to count on (rehearsed)" in page and "Gain to count on:" in page
    header, first = (folder / "scenarios.csv").read_text().splitlines()[:2]
    assert header.startswith("scenario,") and header.endswith("difference,difference-lo-80,difference-hi-80") and first.startswith("as written,")


@pytest.mark.slow
def test_a_promotion_is_planned_by_two_nets_item_by_item(run: Callable[..., Said], tmp_path: Path) -> None:
    world = shop(2, items=3, days=150)
    times = world.panel.clock.local(np.arange(150)).astype("datetime64[D]")
    units, discount = (world.panel.channel(name) for name in ("units", "discount"))
    lines = [f"item {k},{t},{units[k, d]:.2f},{discount[k, d]:.2f}" for k in range(3) for d, t in enumerate(times)]
    (tmp_path / "shop.csv").write_text("unique_id,ds,units,discount\n" + "\n".join(lines) + "\n")
    asked = ("plan", "shop.csv", "--target", "units", "--discount", "0.2", "--first", "2", "--days", "5", "--members", "2", "--epochs", "1")
    said = run(*asked, "--lang", "ko")
    assert said.code == 0, said.err
    folder = tmp_path / "foretell-shop-plan"
    assert {file.name for file in folder.iterdir()} == {"items.csv", "metrics.json", "model.foretell", "promotion.csv", "report.html"}
    facts = json.loads((folder / "metrics.json").read_text())
    assert facts["task"]["horizon"] == 20 and set(facts["LSTM"]) == {"lift", "during", "after", "total", "break_even"}
    assert "LSTM + Transformer: On the promoted days" in said.out and "promotions in 3 series" in said.out
    page = (folder / "report.html").read_text()
    assert "품목별" in page and "손익분기" in page and "item 2" in page
    lines = [f"{line},{'price' if at == 0 else at % 5}" for at, line in enumerate((tmp_path / "shop.csv").read_text().splitlines())]
    (tmp_path / "priced.csv").write_text("\n".join(lines) + "\n")
    refused = run("plan", "priced.csv", *asked[2:], "--known", "price")
    assert refused.code == 2 and '"price" of series "item 0" has no value at' in refused.err and "by --future, or leave price out of --known" in refused.err
    assert "fitting" not in refused.err + refused.out
    assert run(*asked, "--controls", "tv").err.strip().endswith("--discount plans a promotion and --controls a budget: ask for one of them")


@pytest.mark.slow
def test_the_flexible_net_plans_if_asked_and_korean_is_spoken(run: Callable[..., Said], tmp_path: Path) -> None:
    words = ("plan", "media.csv", "--target", "revenue", "--controls", "tv:0..60000", "--use", "flexible", "--follows", "clicks=tv", "--lang", "ko", "--json")
    said = run(*words, *TWO)
    assert said.code == 0, said.err
    facts = json.loads(said.out)
    assert facts["model"] == "flexible net" and facts["task"]["past"] == ["clicks"]
    page = (tmp_path / "foretell-media-plan" / "report.html").read_text()
    assert all(text in page for text in ("이 데이터로 알 수 없는 것", "인증: KKT 잔차", "과거 자료는 실험이 아닙니다"))
    assert "budget: " in said.err and "the mean spend of the last year over 4 steps" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--controls", "tv:a..b"), 'bounds are written name:least..most, as in tv:0..50000, or name:value; got "a..b"'),
        (("--controls", "tvv:0..5"), "tvv"),
        (("--controls", "tv:5..9", "--budget", "1"), "no plan keeps the budget: 1 is less than"),
        ((), "--controls names no column: write tv:0..50000,search:0..20000, or plan a promotion with --discount 0.2"),
        (("--controls", "tv", "--scenario", "more tv"), '--scenario more tv: write a name and what changes, as in "more tv: tv=+20%, search=0"'),
        (("--discount", "0.2"), '--channels names a column "discount" that is not there'),
        (("--controls", "tv:0..9", "--follows", "clicks"), "--follows clicks: write column=control, as in clicks=search"),
        (("--controls", "tv:0..9", "--follows", "clicks=search"), '"clicks" follows "search", which is no control of this plan'),
    ],
)
def test_what_cannot_be_planned_gets_its_sentence(run: Callable[..., Said], tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    said = run("plan", "media.csv", "--target", "revenue", *words, *TWO)
    assert said.code == 2 and told in said.err, said.err
    assert not (tmp_path / "foretell-media-plan").exists()


def test_limits_name_what_the_data_cannot_tell() -> None:
    draw = np.random.default_rng(0)
    days = 91
    spend = np.where(np.arange(days) < 40, 100.0, 40.0) + draw.normal(size=days)
    values = np.stack([spend * 3 + draw.normal(size=days), spend, spend * 2 + draw.normal(size=days), 50 + draw.normal(size=days)], -1)
    panel = ft.from_array(values[None], ("sales", "a", "b", "flat"), step="D", start="2020-04-01")
    told = "\n".join(plan.limits(panel, "sales", ("a", "b", "flat"), 90))
    for words in (
        "91 days are less than two years", "91 steps for about 20 parameters, 4.5 each: below 10", "a and b moved together (correlation 1.00)",
        "flat hardly varied (2\u00a0% about its mean)", "a was never below ", "the level of sales breaks at 2020-05-11, from ", "history is not an experiment",
    ):  # fmt: skip
        assert words in told, (words, told)
    assert "91일은 두 해가 되지 않습니다" in "\n".join(plan.limits(panel, "sales", ("a", "b", "flat"), 90, lang="ko"))
    years = np.arange(400)
    wave = 10 + 5 * np.sin(2 * np.pi * years / 52.18)
    weeks = ft.from_array(np.stack([wave + draw.normal(size=400), wave], -1)[None], ("y", "a"), step="W")
    assert "of what a varied by follows the time of year" in "\n".join(plan.limits(weeks, "y", ("a",), 399))


def test_a_net_that_forecasts_worse_than_the_last_season_is_named() -> None:
    wave = torch.sin(torch.arange(120) * 2 * torch.pi / 7)[None, :, None].double()
    panel = ft.from_array(10 + 5 * wave + 0.1 * torch.randn(1, 120, 1, generator=torch.Generator().manual_seed(0)).double(), ("y",), step="D")
    task = ft.Task(target="y", context=14, horizon=7)
    fits = {name: partial(ft.forecast.fit, task=task, net=net) for name, net in (("poor", MovingAverage()), ("good", Ridge()))}
    tested = ft.backtest(fits, panel, task=task, windows=2, step=7)
    assert "on the last steps of the history the poor was less accurate than the seasonal naive" in accuracy_limit(tested, "poor")
    assert accuracy_limit(tested, "good") == "" and "seasonal naive" not in accuracy_limit(tested, "poor", lang="ko")


def test_a_band_needs_two_members_and_a_judge_the_same_columns() -> None:
    assert Band(torch.tensor([3.0])).told() == "3"
    low, high = Band(torch.tensor([1.0, 3.0])).ends(80)
    assert float(high - 2) == pytest.approx(1.2816 * 2**0.5, rel=1e-3) and float(low) == pytest.approx(4 - float(high))
    with pytest.raises(TaskError, match=r"risk must be less than 0\.5; got 0\.7"):
        plan.Goal(risk=0.7)


@pytest.mark.parametrize("file", [slow("robyn"), slow("online")])
def test_real_files_run_from_csv_to_report_in_one_command(run: Callable[..., Said], data: Path, tmp_path: Path, file: str) -> None:
    robyn = (str(data / "ads/robyn_weekly/dt_simulated_weekly.csv"), "--target", "revenue", "--controls", "tv_S,ooh_S,print_S,facebook_S,search_S")
    online = (str(data / "ads/online_advertising/daily_total.csv.gz"), "--target", "sales", "--controls", "ad_spend", "--follows", "clicks=ad_spend")
    said = run("plan", *(robyn if file == "robyn" else online), "--members", "2", "--epochs", "2", "--out", "run")
    assert said.code == 0, said.err
    assert (tmp_path / "run" / "report.html").is_file()
    if file == "online":
        assert all(words in said.out for words in ("91 days are less than two years", "the level of sales breaks at", "ad_spend was never below"))
