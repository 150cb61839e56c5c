"""The command line: every command from words to exit code, what it writes and says, and that nothing half-written stays."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from foretell.cli import main
from foretell.cli.flags import ASKS, READS, STEPS, TRAINS
from foretell.cli.main import in_flags
from foretell.cli.networds import contenders
from foretell.cli.runs import METRICS, Place, staged
from foretell.cli.screen import Bar, fitting
from foretell.errors import FileError, TaskError
from foretell.nets import StackedLSTM
from foretell.optim import Optimizer
from foretell.reading import Reading
from foretell.task import Task
from foretell.train import Training

SMALL = ("--horizon", "6", "--context", "24", "--windows", "3")
FOLDER = {"model.foretell", "forecast.csv", "backtest.csv", "accuracy.csv", "accuracy_by_origin.csv", "accuracy_by_step.csv"} | {
    "results.foretell", "metrics.json", "report.html",
}  # fmt: skip


class Said(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs one command in a folder that holds power.csv, load.csv and ahead.csv."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)

    def command(*words: str) -> Said:
        code = main(words)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return command


@pytest.fixture
def run(whole: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """The same with an empty report, which takes longer to draw than all else."""

    def blank(path: Path, **_: object) -> Path:
        path.touch()
        return path

    monkeypatch.setattr("foretell.cli.work.reporting.report", blank)
    return whole


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one forecast, made once."""
    folder = tmp_path_factory.mktemp("done")
    write_files(folder)
    assert main(("forecast", str(folder / "power.csv"), "--target", "Usage", *SMALL, "--out", str(folder / "run"), "--quiet")) == 0
    return folder / "run"


def write_files(folder: Path) -> None:
    """Twenty days of hours: power.csv of two columns; load.csv of two series whose Wind goes on in ahead.csv."""
    hours = np.datetime64("2024-01-01T00", "h") + np.arange(480)
    noise = np.random.default_rng(1).normal(size=480)
    usage, heat = 10 + 3 * np.sin(np.arange(480) * np.pi / 12) + 0.2 * noise, 15 + noise
    lines = [f"{str(t).replace('T', ' ')}:00,{h:.2f},{u:.3f}" for t, h, u in zip(hours, heat, usage, strict=True)]
    (folder / "power.csv").write_text("Date,Temperature,Usage\n" + "\n".join(lines) + "\n")
    two = [f"{name},{t}:00,{n:.3f},{u + k:.3f}" for k, name in enumerate(("north", "south")) for t, n, u in zip(hours, noise * (k + 1), usage, strict=True)]
    (folder / "load.csv").write_text("unique_id,ds,wind,y\n" + "\n".join(two) + "\n")
    later = [f"{name},{hours[-1] + 1 + step}:00,{step}" for name in ("north", "south") for step in range(6)]
    (folder / "ahead.csv").write_text("unique_id,ds,wind\n" + "\n".join(later) + "\n")


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


# ---------------------------------------------------------------- forecast


def test_a_file_and_two_words_give_a_whole_run_folder(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("forecast", "power.csv", "--target", "Usage", *SMALL)
    assert said.code == 0, said.err
    assert names(tmp_path / "foretell-power") == FOLDER
    assert "report: foretell-power/report.html" in said.out
    assert all(word in said.out for word in ("seasonal_naive", "ridge", "MAE", "skill", "calibrate", "Usage, next 6 hours"))
    assert "test: 3 forecasts" in said.err
    lines = (tmp_path / "foretell-power" / "forecast.csv").read_text().splitlines()
    assert lines[0] == "unique_id,Date,foretell,foretell-lo-80,foretell-hi-80"
    assert len(lines) == 7 and lines[1].startswith("power,2024-01-21 00:00:00,")


def test_the_next_run_takes_the_next_number(run: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "foretell-power").mkdir()
    run("forecast", "power.csv", "--target", "Usage", *SMALL, "--quiet")
    assert names(tmp_path / "foretell-power-2") == FOLDER
    assert not names(tmp_path / "foretell-power")


def test_metrics_say_how_to_do_it_again(done: Path) -> None:
    facts = json.loads((done / METRICS).read_text())
    assert facts["command"].startswith("foretell forecast ") and "--context 24" in facts["command"]
    assert facts["task"]["target"] == ["Usage"] and facts["task"]["horizon"] == 6
    assert facts["calendar"] == [["hour", ""], ["weekday", ""], ["weekend", ""]]
    assert set(facts["scores"]) == set(facts["nets"]) == {"seasonal_naive", "ridge"}
    assert facts["model"] == "ridge" and facts["scores"]["seasonal_naive"]["skill"] == 0
    assert [part["name"] for part in facts["parts"]] == ["train", "stop", "calibrate", "test"]
    assert {"foretell", "torch", "python"} <= set(facts["versions"])


def test_json_is_one_document_and_nothing_else(run: Callable[..., Said]) -> None:
    said = run("forecast", "power.csv", "--target", "Usage", *SMALL, "--json")
    document = json.loads(said.out)
    assert document["folder"] == "foretell-power" and set(document["files"]) == FOLDER
    assert len(document["forecast"]) == 6 and document["forecast"][0]["Date"] == "2024-01-21T00:00:00"
    assert document["scores"]["ridge"]["MAE"] > 0


def test_quiet_is_quiet(run: Callable[..., Said]) -> None:
    assert run("forecast", "power.csv", "--target", "Usage", *SMALL, "--quiet") == (0, "", "")


def test_what_is_left_out_is_filled_in_and_said(run: Callable[..., Said]) -> None:
    said = run("forecast", "load.csv", "--past", "none", "--context", "24", "--windows", "1")
    assert said.code == 0, said.err
    assert 'target: "y"' in said.err and "horizon: 24 steps, 24 hours" in said.err


def test_the_test_takes_a_fifth_of_the_data_ending_where_the_data_end(run: Callable[..., Said]) -> None:
    said = run("backtest", "power.csv", "--target", "Usage", "--horizon", "6", "--context", "24")
    assert "test: 16 forecasts, made from 2024-01-16 23:00 to 2024-01-20 17:00; fitted once, at the first" in said.err


def test_known_columns_come_from_the_future_file(run: Callable[..., Said], tmp_path: Path) -> None:
    typed = ("forecast", "load.csv", "--target", "y", "--known", "wind", *SMALL)
    without = run(*typed)
    assert without.code == 2
    assert '"wind" of series "north" has no value at 2024-01-21 00:00' in without.err and "by --future" in without.err
    said = run(*typed, "--future", "ahead.csv", "--out", "here")
    assert said.code == 0, said.err
    assert len((tmp_path / "here" / "forecast.csv").read_text().splitlines()) == 13
    assert names(tmp_path / "here") == FOLDER | {"accuracy_by_series.csv"}


def test_the_most_accurate_of_several_nets_forecasts(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("forecast", "power.csv", "--target", "Usage", *SMALL, "--net", "drift", "flat=moving-average:window=24", "--out", "here", "--no-calendar")
    assert said.code == 0, said.err
    facts = json.loads((tmp_path / "here" / METRICS).read_text())
    assert list(facts["scores"]) == ["seasonal_naive", "ridge", "drift", "flat"]
    assert facts["model"] == min(("drift", "flat"), key=lambda name: facts["scores"][name]["MAE"])
    assert facts["task"]["known"] == []
    assert "was more accurate in this test than" in said.err


def test_flags_reach_reading_task_and_training(run: Callable[..., Said], tmp_path: Path) -> None:
    words = ("--derive", "double=Usage * 2", "--channels", "double", "--zone", "Asia/Seoul", "--scale", "robust", "--floor", "0", "--level", "50", "90")
    said = run("forecast", "power.csv", *SMALL, *words, "--format", "parquet", "--out", "here", "--target", "double")
    assert said.code == 0, said.err
    facts = json.loads((tmp_path / "here" / METRICS).read_text())
    assert facts["zone"] == "Asia/Seoul" and facts["reading"]["derive"] == {"double": "Usage * 2"}
    assert facts["nets"]["ridge"]["training"] == facts["nets"]["seasonal_naive"]["training"] == {"scale": "robust"}
    assert "coverage-90" in facts["scores"]["ridge"] and facts["task"]["floor"] == 0
    assert "forecast.parquet" in names(tmp_path / "here")


def test_per_series_gives_each_its_own_ridge(run: Callable[..., Said], tmp_path: Path) -> None:
    assert run("forecast", "load.csv", "--target", "y", *SMALL, "--per-series", "--out", "here").code == 0
    from foretell import load

    assert load(tmp_path / "here" / "model.foretell").per_series


def test_an_lstm_stands_beside_the_others(whole: Callable[..., Said], tmp_path: Path) -> None:
    words = ("--net", "lstm:hidden=4,epochs=1,segment=6", "b=lstm:hidden=4,epochs=1,segment=6,rate=0.01")
    said = whole("backtest", "power.csv", "--target", "Usage", *SMALL, "--refit", "0", *words, "--members", "2", "--out", "here")
    assert said.code == 0, said.err
    facts = json.loads((tmp_path / "here" / METRICS).read_text())
    assert list(facts["scores"]) == ["seasonal_naive", "ridge", "lstm", "b"]
    assert facts["nets"]["b"]["training"]["optimizer"] == {"rate": 0.01} and facts["nets"]["b"]["options"]["hidden"] == [4]
    assert "Net against net" in (tmp_path / "here" / "report.html").read_text()
    assert [row["model"] for row in facts["diagnosis"]] == ["lstm", "b"] and "b " in said.err
    before = (tmp_path / "here" / "report.html").read_bytes()
    assert whole("report", "here").code == 0
    assert (tmp_path / "here" / "report.html").read_bytes() == before


# ---------------------------------------------------------------- the other commands


def test_backtest_writes_tables_and_no_model(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("backtest", "power.csv", "--target", "Usage", *SMALL, "--step", "3", "--refit", "2")
    assert said.code == 0, said.err
    assert names(tmp_path / "foretell-power-backtest") == FOLDER - {"model.foretell", "forecast.csv"}
    assert "fitted again at every 2nd" in said.err


def test_predict_takes_a_run_folder_or_a_file(run: Callable[..., Said], done: Path, tmp_path: Path) -> None:
    there = (done / "forecast.csv").read_text()
    assert run("predict", "power.csv", "--model", str(done), "--out", "a").code == 0
    assert (tmp_path / "a" / "forecast.csv").read_text() == there
    assert run("predict", "power.csv", "--model", str(done / "model.foretell"), "--origin", "2024-01-10 12:00", "--level", "50", "--out", "b").code == 0
    lines = (tmp_path / "b" / "forecast.csv").read_text().splitlines()
    assert lines[0].endswith("foretell-lo-50,foretell-hi-50") and lines[1].startswith("power,2024-01-10 13:00:00")


def test_predict_reads_as_the_run_did(run: Callable[..., Said]) -> None:
    assert run("forecast", "power.csv", "--derive", "double=Usage * 2", "--target", "double", *SMALL, "--out", "here").code == 0
    said = run("predict", "power.csv", "--model", "here", "--json")
    assert json.loads(said.out)["reading"] == {"derive": {"double": "Usage * 2"}}


def test_check_says_what_it_found_and_writes_nothing(run: Callable[..., Said], tmp_path: Path) -> None:
    before = names(tmp_path)
    said = run("check", "power.csv")
    assert said.code == 0 and "Nothing wrong found." in said.out
    assert run("check", "power.csv", "--target", "Usage", "--known", "Temperature").code == 1
    found = json.loads(run("check", "power.csv", "--target", "Usage", "--json").out)
    assert found["ok"] and found["period"] == 24 and found["facts"]["channel"] == ["Temperature", "Usage"]
    assert names(tmp_path) == before


def test_check_needs_a_target_for_a_question(run: Callable[..., Said]) -> None:
    assert run("check", "power.csv", "--horizon", "24") == (2, "", "foretell: --horizon belongs to a question: say its --target too\n")


def test_report_again_in_korean(whole: Callable[..., Said], done: Path, tmp_path: Path) -> None:
    said = whole("report", str(done), "--lang", "ko", "--title", "전력", "--out", "ko.html")
    assert said.code == 0, said.err
    text = (tmp_path / "ko.html").read_text()
    assert "전력" in text and 'lang="ko"' in text
    assert whole("report", str(done), "--out", "en.html").code == 0
    pages = [file.read_text().partition("Model card</h2>") for file in (tmp_path / "en.html", done / "report.html")]
    assert pages[0][1] and pages[0][0] == pages[1][0]


def test_report_of_a_model_and_a_file(whole: Callable[..., Said], done: Path, tmp_path: Path) -> None:
    assert whole("report", "power.csv", "--model", str(done)).out == "report: foretell-power.html\n"
    assert (tmp_path / "foretell-power.html").is_file()


def test_report_says_when_the_file_is_gone(run: Callable[..., Said], tmp_path: Path) -> None:
    run("backtest", "power.csv", "--target", "Usage", *SMALL, "--out", "here", "--quiet")
    (tmp_path / "power.csv").rename(tmp_path / "moved.csv")
    assert run("report", "here").err == 'foretell: the file of this run, "power.csv", is not there: say where it is now by --data\n'
    assert run("report", "here", "--data", "moved.csv").code == 0


@pytest.mark.slow
def test_demo(whole: Callable[..., Said], tmp_path: Path) -> None:
    pytest.importorskip("pmdarima")
    said = whole("demo", "--out", "here")
    assert said.code == 0, said.err
    assert said.out.endswith("report: here/report.html\n") and "lstm" in said.out
    assert "the data carry no dates" in said.err and "the data carry no dates" in (tmp_path / "here" / "report.html").read_text()


def test_demo_without_its_data_is_a_sentence(run: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pmdarima.datasets", None)
    before = names(tmp_path)
    assert run("demo") == (2, "", 'foretell: the example data come with pmdarima: pip install "foretell[demo]"\n')
    assert names(tmp_path) == before


def test_help_and_version(run: Callable[..., Said]) -> None:
    assert all(word in run().out for word in ("forecast", "predict", "backtest", "check", "report", "demo"))
    assert run("--version").out.startswith("foretell ")
    said = run("forecast", "--help")
    assert said.code == 0
    for group in ("The question", "What is known ahead", "The models", "The test of accuracy", "How the file is read", "How nets are trained"):
        assert group in said.out
    for spec, lines in ((Reading, READS), (Task, ASKS), (Training, TRAINS), (Optimizer, STEPS)):
        missing = set(spec.model_fields) - set(lines)
        # --level, in percent, serves for the levels; the steps ahead of single series follow from --horizon period.
        assert missing == ({"levels", "each"} if spec is Task else set()), f"no flag for {missing}"


def test_the_lessons_file_goes_to_a_report_in_one_command(whole: Callable[..., Said], data: Path, tmp_path: Path) -> None:
    """Format test: the file is generated, not measured, so no number of it counts."""
    file = data / "power" / "seed_power_3month" / "power_usage_dataset_3month.csv"
    said = whole("forecast", str(file), "--target", "Usage", "--horizon", "24", "--past", "none")
    assert said.code == 0, said.err
    assert names(tmp_path / "foretell-power_usage_dataset_3month") == FOLDER


# ---------------------------------------------------------------- what goes wrong


WRONG = [
    ("forecast power.csv", "which column is to be forecast? Say --target and one of: Temperature, Usage"),
    ("forecast power.csv --target Usgae", 'no target channel "Usgae": did you mean "Usage"?'),
    ("forecast power.csv --target Usage --known Wind", 'no known channel "Wind"'),
    ("forecast power.csv --target Usage --horizon 0", 'horizon must be at least 1 step, or "period": of each series its own; got 0'),
    ("forecast power.csv --target Usage --horizon soon", "--horizon"),
    ("forecast power.csv --target Usage --hirizon 6", "Did you mean --horizon?"),
    ("forecast power.csv more.csv --target Usage", '"more.csv" is one word too many'),
    ("forecast --target Usage power.csv", "foretell forecast needs DATA, the file to read"),
    ("frecast power.csv", 'no command "frecast": did you mean "forecast"?'),
    ("forecast pwoer.csv --target Usage", 'did you mean "power.csv"?'),
    ("forecast empty.csv --target Usage", "empty.csv is empty"),
    ("forecast text.csv", '"x" in column "Usage"'),
    ("forecast untimed.csv", "--time none, --row-step h"),
    ("forecast power.csv --target Usage --net lstn", 'no net "lstn": did you mean "lstm"?'),
    ("forecast power.csv --target Usage --net ridge:phse=1", 'ridge has no option "phse": did you mean "phase"?'),
    ("forecast power.csv --target Usage --net ridge:phase=2", "phase must be less than 1; got 2"),
    ("forecast power.csv --target Usage --net ridge:phase", '"phase" is no option=value'),
    ("forecast power.csv --target Usage --net lstm:rate=fast", "rate"),
    ("forecast power.csv --target Usage --net drift drift", 'two rows would be called "drift"'),
    ("forecast power.csv --target Usage --net ridge=drift", '"ridge" is the name of a row that every table shows'),
    ("forecast power.csv --target Usage --net a,b", '--net "a,b" is not understood'),
    ("forecast power.csv --target Usage --members 3", "use it with --net lstm"),
    ("forecast power.csv --target Usage --calendar hours", 'no calendar channel "hours": did you mean "hour"?'),
    ("forecast power.csv --target Usage --holidays XX", 'no holidays of a country "XX"'),
    ("forecast power.csv --target Usage --test 2", "--test 2.0 must be a share between 0 and 1"),
    ("forecast power.csv --target Usage --test 0.2 --windows 3", "--test and --windows both say"),
    ("forecast power.csv --target Usage --windows 0", "--windows must be at least 1; got 0"),
    ("forecast power.csv --target Usage --context 5000", "context + horizon"),
    ("forecast power.csv --target Usage --level 200", "between 0 and 100"),
    ("forecast power.csv --target Usage --lang fr", 'no language "fr"'),
    ("forecast power.csv --target Usage --scale log", '"log" for --scale'),
    ("forecast power.csv --target Usage --zone Europe/Oso", 'did you mean "Europe/Oslo"?'),
    ("forecast power.csv --target Usage --derive Usage", '"Usage" is no pair: write name=value'),
    ("forecast power.csv --target Usage --future power.csv", "name them with --known"),
    ("forecast power.csv --target Usage --known Temperature --future load.csv", 'has no column "Temperature"'),
    ("forecast power.csv --target Usage --out full", '"full" is there already: choose another --out, or replace it with --force'),
    ("forecast power.csv --target Usage --out full --force", '"full" is no run folder of foretell'),
    ("forecast power.csv --target Usage --out power.csv/x", "is a file; choose another --out"),
    ("predict power.csv", "--model"),
    ("predict power.csv --model none.foretell", 'no file "none.foretell"'),
    ("predict power.csv --model power.csv", '"power.csv" is not a file that foretell saved'),
    ("report full", '"full" is no run folder: there is no metrics.json in it'),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=lambda text: text)
def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(run: Callable[..., Said], tmp_path: Path, words: str, sentence: str) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "text.csv").write_text("Date,Usage\n2024-01-01,1\n2024-01-02,2\n2024-01-03,x\n2024-01-04,3\n")
    (tmp_path / "untimed.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    before = names(tmp_path)
    said = run(*words.split())
    assert said.code == 2 and not said.out
    assert "test:" not in said.err, "said only after the work had begun"
    last = said.err.splitlines()[-1]
    assert last.startswith("foretell: ") and sentence in last
    assert names(tmp_path) == before and names(tmp_path / "full") == {"mine.txt"}


def test_force_replaces_a_run_only_after_success(run: Callable[..., Said], tmp_path: Path) -> None:
    assert run("backtest", "power.csv", "--target", "Usage", *SMALL, "--out", "here").code == 0
    before = (tmp_path / "here" / METRICS).read_bytes()
    assert run("backtest", "power.csv", "--target", "Usgae", *SMALL, "--out", "here", "--force").code == 2
    assert (tmp_path / "here" / METRICS).read_bytes() == before
    assert run("backtest", "power.csv", "--target", "Usage", *SMALL, "--out", "here", "--force", "--net", "drift").code == 0
    assert "drift" in json.loads((tmp_path / "here" / METRICS).read_text())["scores"]
    assert names(tmp_path) == {"power.csv", "load.csv", "ahead.csv", "here"}


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    old = tmp_path / "run"
    old.mkdir()
    (old / METRICS).write_text("old")
    with pytest.raises(FileError, match="No space left"), staged(Place(old, force=True)) as folder:
        (folder / METRICS).write_text("new")
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyboardInterrupt), staged(Place(old, force=True)):
        raise KeyboardInterrupt
    with pytest.raises(FileError, match="cannot be written"), staged(Place(old, force=True)) as folder:
        folder.rmdir()
    with pytest.raises(FileError, match="appeared meanwhile"), staged(Place(old)):
        pass
    assert names(tmp_path) == {"run"} and (old / METRICS).read_text() == "old"


def test_ctrl_c_ends_with_130_and_leaves_nothing(run: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foretell.cli.race.backtest", stop)
    before = names(tmp_path)
    assert run("backtest", "power.csv", "--target", "Usage", *SMALL).code == 130
    assert names(tmp_path) == before


def test_ctrl_c_in_a_nets_training_ends_the_test_too(run: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train keeps the best weights so far and says so; a table of nets half trained would mislead."""

    def stop(bar: Bar, done: int, epoch: int) -> None:
        if 1 < epoch < bar.epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "epoch", stop)
    before = names(tmp_path)
    assert run("backtest", "power.csv", "--target", "Usage", *SMALL, "--net", "lstm:hidden=4,epochs=5,segment=6").code == 130
    assert names(tmp_path) == before


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    table = {"model": ["a" * 20], "MAE": ["1"], "RMSE": ["1"], "bias": ["1"], "peak WAPE": ["1"], "skill": ["1"]}
    assert list(fitting(table, 60)) == list(table)
    assert list(fitting(table, 50)) == ["model", "MAE", "RMSE", "bias", "skill"]
    assert list(fitting(table, 10)) == ["model", "MAE", "skill"]


# ---------------------------------------------------------------- net words


def test_net_words() -> None:
    one, two = contenders(["lstm:hidden=128/64,l2=1e-4,batch=32,rate=0.002", "plain"], {"epochs": 9})
    assert one.name == "lstm" and two.name == "plain"
    assert one.net == StackedLSTM(hidden=(128, 64), l2=1e-4)
    assert one.training == Training(epochs=9, batch=32, optimizer=Optimizer(rate=0.002))
    assert two.training.epochs == 9 and two.training.scale == "minmax" and two.training.optimizer.clip is None


def test_the_words_own_options_go_before_the_flags_and_these_before_a_preset() -> None:
    flags = {"batch": 16, "optimizer": {"rate": 0.5, "kind": "sgd"}}
    (row,) = contenders(["main2:rate=0.1,patience=3,clip=none,betas=0.5/0.6"], flags)
    assert row.training.batch == 16 and row.training.patience == 3
    assert row.training.optimizer == Optimizer(rate=0.1, kind="sgd", clip=None, betas=(0.5, 0.6))
    assert contenders(["lstm:optimizer=adamw"], {})[0].training.optimizer.kind == "adamw"
    assert contenders(["ridge:penalties=0.1"], {})[0].net.model_dump()["penalties"] == (0.1,)
    assert contenders(["lstm:ridge=false,segment=none,scale=asinh"], {})[0].training.scale == "asinh"


def test_rows_of_one_net_get_names_of_their_own() -> None:
    rows = contenders(["lstm:hidden=8", "lstm:hidden=16", "big=lstm:hidden=64", "Seasonal-Naive"], {})
    assert [row.name for row in rows] == ["lstm:hidden=8", "lstm:hidden=16", "big", "seasonal_naive"]
    with pytest.raises(TaskError, match='two rows would be called "a"'):
        contenders(["a=lstm", "a=drift"], {})


def test_options_are_named_as_they_are_typed() -> None:
    assert in_flags('say time=None, step="h", or channels=("A", "B")') == "say --time none, --row-step h, or --channels A B"
    assert in_flags("stop=0.6 and calibrate=0.5") == "--stop 0.6 and --calibrate 0.5"
    untouched = "--net lstm:batch=0,loss=x: Training: batch must be 1; predict(future=frame)"
    assert in_flags(untouched) == untouched


@pytest.mark.slow
def test_a_large_panel_has_a_net_for_every_series_in_packs(run: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More series than a pack holds; one of them cannot be fitted and stops no other."""
    from foretell import load
    from foretell.cli import race

    monkeypatch.setattr(race, "PACK", 2)
    rows = [
        f"{name},2024-01-{day:02d},{(day % 7 + place) * (1 if name != 'c' or day > 28 else 0) or ''}"
        for place, name in enumerate("abc")
        for day in range(1, 31)
    ]
    (tmp_path / "many.csv").write_text("\n".join(["unique_id,ds,y", *rows]) + "\n")
    typed = ["--horizon", "2", "--context", "7", "--per-series", "--net", "period-kernel:epochs=2,filters=2", "--windows", "1", "--out", str(tmp_path / "here")]
    assert run("forecast", str(tmp_path / "many.csv"), "--target", "y", *typed).code == 0
    model = load(tmp_path / "here" / "model.foretell")
    assert model.per_series and model.series == ("a", "b", "c") and model.facts["packs"] == 2
    head, *lines = (tmp_path / "here" / "weights.csv").read_text().splitlines()
    assert head.startswith("unique_id,period_1,share_1,") and head.endswith("test MAE,test RMSE") and len(lines) == 3
