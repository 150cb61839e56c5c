"""Is a net better for reading its neighbours? Known networks, M5's items across states, and the sensors of servers, with and without a graph."""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from common.data import DATA
from common.tables import Table, page
from demand import m5

import foretell as ft
from foretell import Panel, Task, Training, forecast
from foretell import graph as graphs
from foretell.graph import Graph, scores
from foretell.nets import GraphLSTM
from foretell.optim import Optimizer
from foretell.worlds import network
from foretell.worlds.network import NetworkWorld

PROTOCOL = """
Each row is one stacked LSTM for all series, standing on the ridge, fitted twice with the same options, training and seed: as it is (`StackedLSTM`),
and with the graph-mixing layer on top (`GraphLSTM`), whose edges are learned on the training cut. MASE over all series and origins of a
test part that no fit has seen; *lowered* is the share of the plain net's MASE that is gone. The ridge and the seasonal naive are the
rows of every backtest. **Simulated**: `foretell.worlds.network(seed)`, 40 customers over 600 days of whom 30 follow others after 3 to 10
days; 7 days ahead at every 7th day of the last 100. *Best possible* knows the truth but not the news still to come; AUROC is that of the
pairs' scores (`foretell.graph.scores`, 500 days) against the true edges. **M5**: 84 series of daily sales, 28 days ahead, the last three blocks,
price, events and calendar known. **SMD**: the sensors of each machine as series, its rows of training averaged over 5 minutes, 12 steps
ahead at every 12th step of the last day; sensors that stand still are left out.
"""
HIDDEN, REACH = (32,), 14


class Case(NamedTuple):
    """A panel, the question, how it is tested, and what is known of its edges."""

    name: str
    panel: Panel
    task: Task
    training: Training
    test: str | None  # a length; None: three blocks of a horizon
    world: NetworkWorld | None = None


def main() -> None:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small world, one epoch: shows that it runs")
    parser.add_argument("--only", default="network,m5,smd", help="sources, with commas between")
    parser.add_argument("--worlds", type=int, default=3)
    asked = parser.parse_args()
    for name in asked.only.split(","):
        run(name, asked)


def run(name: str, asked: argparse.Namespace) -> None:
    """One source's page; if the files are not there, it says so and an older result stays."""
    title = "" if name == "network" else f": {name}"
    sheet = page("network" if name == "network" else f"network-{name}", f"Is a net better for reading its neighbours{title}?", PROTOCOL)
    rows = []
    for case in SOURCES[name](asked):
        rows.append(compared(case, quick=asked.quick))
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    columns = ("", "series", "edges", "AUROC", "seasonal naive", "ridge", "without", "with", "lowered", "best possible", "seconds without", "seconds with")
    missing = [] if rows else ["the files are not in FORETELL_DATA (default ../shared/data)"]
    sheet.publish([Table("", columns, rows)], quick=asked.quick or not rows, missing=missing)


def worlds(asked: argparse.Namespace) -> Iterator[Case]:
    """Simulated customers with known edges."""
    training = Training(epochs=1 if asked.quick else 15, patience=4, batch=512, optimizer=Optimizer(rate=5e-3), device="cpu")
    for seed in range(1 if asked.quick else asked.worlds):
        world = network(seed, customers=8, days=300) if asked.quick else network(seed)
        yield Case(f"simulated network {seed}", world.panel, Task(target="units", context=28, horizon=7), training, "100 days", world)


def items(asked: argparse.Namespace) -> Iterator[Case]:
    """M5's items across states."""
    source = m5()
    if source is not None:
        panel = source.panel.pick(*source.panel.series[:6]) if asked.quick else source.panel
        training = Training(epochs=1 if asked.quick else 8, patience=3, batch=512, optimizer=Optimizer(rate=2e-3), scale="mean", stop=0.02, calibrate=0.0,
                            loss="mse", device="cpu")  # fmt: skip
        yield Case("M5, 84 state-item series", panel, source.task, training, None)


def sensors(asked: argparse.Namespace) -> Iterator[Case]:
    """Metrics of server machines."""
    training = Training(epochs=1 if asked.quick else 8, patience=3, batch=512, optimizer=Optimizer(rate=2e-3), device="cpu")
    for file in sorted((DATA / "anomaly" / "smd").glob("machine-*.npz"))[: 1 if asked.quick else None]:
        with np.load(file, allow_pickle=False) as held:
            rows = held["train"]
        rows = rows[: len(rows) // 5 * 5].reshape(-1, 5, rows.shape[1]).mean(1)[: 1000 if asked.quick else None]
        moving = rows[:, rows.std(0) > 1e-3]
        names = [f"metric {at}" for at in np.flatnonzero(rows.std(0) > 1e-3)]
        panel = ft.from_array(moving.T.astype(np.float32), ("value",), names, step="5min")
        yield Case(f"SMD {file.stem}", panel, Task(target="value", context=48, horizon=12), training, f"{max(1, len(rows) // 2880)} days")


SOURCES = {"network": worlds, "m5": items, "smd": sensors}


def compared(case: Case, *, quick: bool) -> tuple[object, ...]:
    """One row: both nets on the same cuts."""
    reach = min(REACH, case.task.steps_back(case.panel.clock))
    graph = GraphLSTM(hidden=HIDDEN, dropout=0.1, reach=reach, in_phase=False)
    fits = {name: partial(forecast.fit, task=case.task, net=net, training=case.training) for name, net in (("without", graph.plain), ("with", graph))}
    if case.test is None:
        result = ft.backtest(fits, case.panel, windows=1 if quick else 3, refit=0)
    else:
        result = ft.backtest(fits, case.panel, test=case.test, step=case.task.horizon, refit=0)
    found = {name: float(row["MASE"]) for name, row in result.scores().items()}
    seconds = result.seconds or {}
    best, area = "", ""
    if case.world is not None:
        best, area = f"{oracle(case.world, result):.4f}", f"{auroc(case.world, int(result.cutoff.min())):.3f}"
    cells = [f"{found[name]:.4f}" for name in ("seasonal_naive", "ridge", "without", "with")]
    lowered = f"{1 - found['with'] / found['without']:+.1%}"
    edges = str(len(learned(case, graph, int(result.cutoff.min()))))
    return (case.name, len(case.panel), edges, area, *cells, lowered, best, f"{seconds['without']:.0f}", f"{seconds['with']:.0f}")


def learned(case: Case, net: GraphLSTM, cut: int) -> Graph:
    """The graph of all that lies before the test."""
    return graphs.learned(case.panel.until(cut), case.task.target[0], most=net.neighbours, reach=net.reach or REACH, chance=net.chance)


def auroc(world: NetworkWorld, cut: int) -> float:
    """Of the scores of all pairs, on what lies before the test, against the true edges."""
    from sklearn.metrics import roc_auc_score

    off = ~torch.eye(len(world.panel), dtype=torch.bool)
    found = scores(world.panel.until(cut), "units", most=4, reach=REACH)
    return float(roc_auc_score((world.weight != 0)[off], found[off]))


def oracle(world: NetworkWorld, result: ft.Backtest) -> float:
    """MASE of the best forecast there can be, on the same origins."""
    horizon = result.truth.shape[2]
    told = torch.stack([world.expected(int(cut[0]), horizon) for cut in result.cutoff])
    error = (told - result.truth[..., 0].double()).abs().nanmean((0, 2)) / result.scale[:, 0]
    return float(error.nanmean())


if __name__ == "__main__":
    main()
