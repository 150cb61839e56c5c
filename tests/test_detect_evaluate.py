"""Evaluation against scikit-learn, closed forms and a loop; the command line of detection."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

import foretell as ft
from foretell.cli import main
from foretell.cli.detecting import follow
from foretell.detect import Event, alarmed, hit_at, ranked
from foretell.detect.evaluate import adjusted_f1, auroc, average_precision, range_f1, vus_pr
from foretell.detect.events import Culprit


def marks(*ranges: tuple[int, int], length: int = 100) -> torch.Tensor:
    found = torch.zeros(length, dtype=torch.bool)
    for a, b in ranges:
        found[a : b + 1] = True
    return found


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_those_of_scikit_learn(ties: bool) -> None:
    random = torch.Generator().manual_seed(0)
    score, label = torch.randn(500, generator=random).double(), torch.rand(500, generator=random) < 0.1
    score = score.round() if ties else score
    assert average_precision(score, label) == pytest.approx(average_precision_score(label, score), abs=1e-12)
    assert auroc(score, label) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def naive_vus(score: np.ndarray, label: np.ndarray, buffer: int, thresholds: int) -> float:
    """Every buffer, every threshold, every event in turn."""
    areas, order = [], np.sort(score)[::-1]
    first = [a for a in range(len(label)) if label[a] and (a == 0 or not label[a - 1])]
    events = [(a, next(k for k in range(a, len(label) + 1) if k == len(label) or not label[k]) - 1) for a in first]
    for width in range(buffer + 1):
        near = label.astype(float)
        for a, b in events:
            for distance in range(1, width // 2):
                for row in (a - distance, b + distance):
                    if 0 <= row < len(label):
                        near[row] = min(1.0, near[row] + np.sqrt(1 - distance / width))
        groups, area, before = [], 0.0, 0.0
        for row in range(len(near)):
            if near[row] > 0:
                groups = [*groups[:-1], [*groups[-1], row]] if groups and groups[-1][-1] == row - 1 else [*groups, [row]]
        for at in np.linspace(0, len(score) - 1, thresholds).astype(int):
            said = score >= order[at]
            hit = (near * said).sum()
            recall = min(1.0, hit / ((label.sum() + label.sum() + (near * said * ~label).sum()) / 2)) * np.mean([said[g].any() for g in groups])
            area, before = area + (recall - before) * hit / said.sum(), recall
        areas.append(area)
    return float(np.mean(areas))


def test_the_volume_is_that_of_the_loop() -> None:
    random = np.random.default_rng(1)
    score, label = random.normal(size=200), marks((30, 45), (120, 123), (190, 199), length=200).numpy()
    score[label] += 1.0
    fast = vus_pr(torch.from_numpy(score), torch.from_numpy(label), buffer=12, thresholds=40)
    assert fast == pytest.approx(naive_vus(score, label, 12, 40), abs=1e-9)


def test_a_perfect_score_and_a_useless_one() -> None:
    label = marks((40, 59))
    assert ranked(label.double(), label).auc_pr == 1.0
    assert ranked(label.double(), label).auroc == 1.0
    assert ranked(torch.zeros(100).double(), label).auc_pr == pytest.approx(0.2)
    noise = torch.rand(100, generator=torch.Generator().manual_seed(0)).double()
    assert vus_pr(label.double(), label, 10) > 0.8 > 0.5 > vus_pr(noise, label, 10)


def test_alarms_by_event_row_and_time() -> None:
    found = alarmed(marks((42, 45), (80, 81)), marks((40, 49), (60, 64)), 864.0)  # 100 rows are one day
    assert (found.event_recall, found.event_precision, found.false_alarms_per_day, found.delay) == (0.5, 0.5, 1.0, 2.0)
    assert found.precision == pytest.approx(4 / 6)
    assert found.recall == pytest.approx(4 / 15)
    assert found.false_alarm_ratio == pytest.approx(2 / 85)


def test_point_adjustment_flatters_and_its_share_shows_how_much() -> None:
    label, one_row = marks((40, 59)), marks((50, 50))
    assert adjusted_f1(one_row, label, 0) == 1.0
    assert adjusted_f1(one_row, label, 20) == pytest.approx(2 / 21)
    assert adjusted_f1(label, label, 100) == 1.0


def test_one_alarm_over_everything_is_no_good_range() -> None:
    label = marks((10, 19), (50, 59), (80, 89))
    assert range_f1(label, label) == 1.0
    assert range_f1(torch.ones(100, dtype=torch.bool), label) < 0.2


def test_culprits_hit() -> None:
    events = [Event("s", 10, 20, 15, 2.0, 1.0, (Culprit("a", 0.6), Culprit("b", 0.3), Culprit("c", 0.1)))]
    assert hit_at(events, [(12, 13, frozenset({"a", "c", "d"}))]) == pytest.approx(2 / 3)
    assert hit_at(events, [(12, 13, frozenset({"a"}))]) == 1.0
    assert np.isnan(hit_at(events, [(30, 40, frozenset({"a"}))]))


def write(path: Path, seed: int, fault: bool = False) -> None:
    random = np.random.default_rng(seed)
    state = random.normal(size=400).cumsum() * 0.1
    values = state[:, None] * [1.0, -1.0, 0.5] + 0.1 * random.normal(size=(400, 3))
    if fault:
        values[200:230, 1] += 3
    lines = ["Date,Time,a,b,c,constant", *(f"2024-01-01,{k // 60 + 8:02}:{k % 60:02}:00,{x[0]:.4f},{x[1]:.4f},{x[2]:.4f},5" for k, x in enumerate(values))]
    path.write_text("\n".join(lines) + "\n")


def test_the_command_learns_scores_and_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("one", 1), ("two", 2), ("bad", 3)):
        write(tmp_path / f"{name}.csv", seed, name == "bad")
    (tmp_path / "labels.csv").write_text("start,stop,channels\n2024-01-01 11:20:00,2024-01-01 11:49:00,b\n")
    assert main(["detect", "--train", "one.csv", "two.csv", "--out", "guard.foretell", "--net", "forecast"]) == 0
    assert "constant in the normal runs, so left out: constant" in capsys.readouterr().out
    assert main(["detect", "--model", "guard.foretell", "--test", "bad.csv", "--labels", "labels.csv", "--out", "run"]) == 0
    facts = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert facts["alarms"] >= 1
    assert list(facts["table"]) == ["detector", "random", "spread", "pca", "forecast", "all positive"]
    assert facts["table"]["detector"]["event recall"] == 1.0
    assert facts["table"]["detector"]["hit@3"] == 1.0
    assert facts["table"]["detector"]["AUC-PR"] > 2 * facts["table"]["random"]["AUC-PR"]
    for name in ("alarms.csv", "scores.csv", "report.html", "model.foretell"):
        assert (tmp_path / "run" / name).is_file()
    assert "\u2192" not in (tmp_path / "run" / "alarms.csv").read_text()
    (tmp_path / "rows.csv").write_text("start,stop,channels\n200,229,b\n")
    assert main(["detect", "--model", "guard.foretell", "--test", "bad.csv", "--labels", "rows.csv", "--out", "rows"]) == 0
    assert json.loads((tmp_path / "rows" / "metrics.json").read_text())["table"] == facts["table"]
    before = (tmp_path / "run" / "report.html").read_text()
    assert main(["report", "run"]) == 0
    assert (tmp_path / "run" / "report.html").read_text() == before
    assert main(["report", "run", "--lang", "ko", "--out", "again.html"]) == 0
    assert "검출기의 구조" in (tmp_path / "again.html").read_text()
    (tmp_path / "bad.csv").rename(tmp_path / "moved.csv")
    assert main(["report", "run"]) == 2
    assert 'the file of this run, "bad.csv", is not there: say where it is now by --data' in capsys.readouterr().err
    assert main(["report", "run", "--data", "moved.csv"]) == 0
    (tmp_path / "moved.csv").rename(tmp_path / "bad.csv")
    lines = list(follow(ft.load("guard.foretell"), (tmp_path / "bad.csv").read_text().splitlines()))
    assert lines[0] == "row,score,alarm,culprits"
    assert len(lines) == 401
    alarm = [line.split(",") for line in lines[1:] if line.split(",")[2] == "1"]
    assert any(195 <= int(row) < 240 and names.startswith("b") for row, _, _, names in alarm)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give either --train with files of normal runs, or --model"),
        (["--model", "guard.foretell"], "give the run to score by --test, or --follow"),
        (["--train", "one.csv", "--labels", "l.csv"], "--labels belong to a test run"),
        (["--train", "one.csv", "--net", "pcb"], 'no detector "pcb": did you mean "pca"?'),
        (["--train", "one.csv", "--false-alarms", "often"], "false alarms are a number a hour, day"),
        (["--train", "none.csv"], "none.csv"),
    ],
)
def test_wrong_commands_get_their_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "one.csv", 1)
    assert main(["detect", *words]) == 2
    assert sentence in capsys.readouterr().err
