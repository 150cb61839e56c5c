"""Detection on real runs: entity by entity, which scores rank faults best, whether alarms hold, and whether the culprits are named.

python benchmarks/detection.py                    every data set that is there
python benchmarks/detection.py --only asd --quick
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from common.data import DATA

import foretell as ft
from foretell import detect
from foretell.detect import PCA, Blend, Detector, Linear, Preparation, Random, Scoring, Spread, alarmed, hit_at, ranked

RESULTS = Path(__file__).resolve().parent / "results" / "detection.md"
PLAIN = Scoring(reach=1, smooth=10)
NETS: Mapping[str, tuple[object, Scoring]] = {
    "random": (Random(), Scoring()),
    "spread": (Spread(), Scoring()),
    "PCA-Q": (PCA(), PLAIN),
    "PCA-Q, 10 rows": (PCA(rows=10), Scoring(reach=1, smooth=1)),
    "T²": (PCA(statistic="t2"), PLAIN),
    "ridge forecast, causal": (Linear(), PLAIN.model_copy(update={"look": "causal"})),
    "ridge forecast, centred": (Linear(), PLAIN),
    "forecast + fill": (Blend(nets=(Linear(), Linear(back=2, ahead=2))), Scoring()),
    "auto": ("auto", Scoring()),
}
COLUMNS = ("VUS-PR", "AUC-PR", "AUROC", "event recall", "event precision", "false alarms a day", "F1", "false alarm ratio", "hit@3")


HOW = """Limits as shipped: one false alarm a day, from normal rows alone. Inside `fit` no label is used; the defaults (how far a method
looks, smoothing, the kinds of planted faults) were settled while looking at these very labels, so the rows of our own methods are optimistic."""


def row(guard: Detector, test: ft.Panel, label: np.ndarray, truth: list[tuple[int, int, frozenset[str]]]) -> dict[str, float]:
    """All measures of one detector on one run."""
    scores = guard.score(test)
    events, mark = guard.events(scores), torch.from_numpy(label > 0)
    alarm = torch.zeros(len(mark), dtype=torch.bool)
    for event in events.rows:
        alarm[event.start : event.stop + 1] = True
    line = torch.full((len(mark),), torch.nan, dtype=torch.float64)
    line[scores.start[0] : scores.start[0] + scores.values.shape[1]] = scores.values[0]
    at, over = alarmed(alarm, mark, guard.row_seconds), ranked(line, mark)
    found = (over.vus_pr, over.auc_pr, over.auroc, at.event_recall, at.event_precision, at.false_alarms_per_day, at.f1, at.false_alarm_ratio)
    return dict(zip(COLUMNS, (*found, hit_at(events.rows, truth)), strict=True))


def asd(number: int, only: list[str]) -> dict[str, dict[str, float]]:
    """One server of ASD: 19 metrics, 8,640 normal rows, 4,320 with labels and root causes."""
    folder = DATA / "anomaly" / "asd"
    data = np.load(folder / f"omi-{number}.npz", allow_pickle=False)
    names = [f"metric{k}" for k in range(1, 20)]
    normal, test = (ft.from_array(data[part][None], names, step="5min") for part in ("train", "test"))
    truth = []
    for line in (folder / "interpretation_label" / f"omi-{number}.txt").read_text().split():
        span, causes = line.split(":")
        first, last = map(int, span.split("-"))
        truth.append((first, last, frozenset(f"metric{c}" for c in causes.split(","))))
    return {n: row(detect.fit(normal, net, scoring=how), test, data["label"], truth) for n, (net, how) in NETS.items() if not only or n in only}  # type: ignore[arg-type]


def skab(number: int, only: list[str]) -> dict[str, dict[str, float]]:
    """One run of the valve bench: its first 400 rows are normal, the rest is judged."""
    panel = ft.read(DATA / "anomaly" / "skab" / "data" / "valve1" / f"{number}.csv.gz")
    names = [c for c in panel.channels if c not in ("anomaly", "changepoint")]
    kept = torch.stack([panel.channel(c)[0] for c in names], -1)
    label = torch.nan_to_num(panel.channel("anomaly")[0]).numpy()
    seen = torch.isfinite(panel.channel("anomaly")[0]).nonzero()[:, 0]
    cut = int(seen[400])
    normal, test = (ft.from_array(part[None].numpy(), names, step="s") for part in (kept[:cut], kept[cut:]))
    plain = Preparation(groups=())
    return {
        n: row(detect.fit(normal, net, scoring=how, preparation=plain), test, label[cut:], [])  # type: ignore[arg-type]
        for n, (net, how) in NETS.items()
        if not only or n in only
    }


def mean(found: list[dict[str, dict[str, float]]]) -> list[str]:
    """A table: a row a detector, means over the runs."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "| :-- |" + " --: |" * len(COLUMNS)]
    for name in found[0]:
        values = [np.nanmean([one[name][c] for one in found]) if any(np.isfinite(one[name][c]) for one in found) else np.nan for c in COLUMNS]
        lines.append(f"| {name} | " + " | ".join("–" if np.isnan(v) else f"{v:.3f}" for v in values) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="asd,skab")
    parser.add_argument("--nets", default="")
    parser.add_argument("--quick", action="store_true")
    typed = parser.parse_args()
    only = [n for n in typed.nets.split(";") if n]
    began, page = (
        perf_counter(),
        [
            "# Detection",
            "",
            HOW,
            "",
        ],
    )
    for name, one, numbers in (("asd", asd, range(1, 7)), ("skab", skab, range(16))):
        if name in typed.only.split(","):
            if not (DATA / "anomaly" / name).is_dir():
                page += [f"{name}: the data are absent.", ""]
                continue
            some = list(numbers)[:1] if typed.quick else list(numbers)
            page += [f"## {name}: mean of {len(some)} runs", "", *mean([one(n, only) for n in some]), ""]
            sys.stderr.write(f"{name} done after {perf_counter() - began:.0f} s\n")
    page += [f"Command: `{' '.join(['benchmarks/detection.py', *sys.argv[1:]])}`; torch {torch.__version__}, numpy {np.__version__}."]
    sys.stdout.write("\n".join(page) + "\n")
    if not typed.quick and not only:
        RESULTS.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
