"""Graphs: planted edges are found, neighbours are read at the right moment, and what they bring is told by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import foretell as ft
import naive_graph
from foretell import Panel, Task, TaskError, Training, forecast, from_array
from foretell.cli.networds import contenders
from foretell.explanation import by_neighbour
from foretell.graph import Graph, Lines, _correlated, given, learned, scores
from foretell.nets import GraphLSTM, Shape, StackedLSTM
from foretell.nets.graph_lstm import Edge, mixed
from foretell.optim import Optimizer
from foretell.worlds import network
from foretell.worlds.network import NetworkWorld
from laws import refused

TASK = Task(target="y", context=10, horizon=3)
QUICK = Training(epochs=1, batch=256, seed=2, device="cpu")


def pair(steps: int = 160, seed: int = 0) -> Panel:
    """Series b does on each day what a did three days before, plus a little of its own; c is nobody's business."""
    draw = np.random.default_rng(seed)
    a, c, own = draw.normal(size=(3, steps + 3))
    values = np.stack([a[3:], a[:-3] + 0.2 * own[3:], c[3:]])
    return from_array(10 + values, ("y",), ("a", "b", "c"), step="D")


def world() -> NetworkWorld:
    return network(1, customers=12, days=420)


def test_a_network_is_drawn_by_its_seed_and_says_what_it_is() -> None:
    one, two = world(), world()
    assert one.simulated and torch.equal(one.panel.values, two.panel.values)
    assert len(one.edges) == int((one.weight != 0).sum()) and set(one.edges.columns) == {"unique_id", "neighbour", "lag", "weight"}
    assert not bool(one.weight.diagonal().any())
    with refused(TaskError, "worlds.network: customers must be from 2 to 5000; got 1"):
        network(customers=1)
    with refused(TaskError, "strength from 0 to below 0.7"):
        network(strength=0.9)


def test_the_best_forecast_is_right_on_average() -> None:
    """Its errors are the news that come: none of what is known is left in them."""
    one, days = world(), torch.arange(100, 410, 3)
    miss = torch.stack([(one.panel.values[:, d + 1 : d + 4, 0] - one.expected(int(d), 3)) / one.size[:, None] for d in days])
    leaders = ~(one.weight != 0).any(1)
    assert float(miss[:, leaders, 0].std()) == pytest.approx(1.0, abs=0.1)
    assert float(miss[:, ~leaders, 0].std()) == pytest.approx(0.3, abs=0.05)
    assert abs(float(miss.mean())) < 0.05


def test_planted_edges_are_found() -> None:
    one, task = world(), {"most": 4, "reach": 12}
    pairs, off = scores(one.panel, "units", **task), ~torch.eye(12, dtype=torch.bool)
    assert naive_graph.auroc((one.weight != 0)[off].numpy(), pairs[off].numpy()) >= 0.9
    found = learned(one.panel, "units", **task)
    table = found.frame()
    true = {(e["unique_id"], e["neighbour"]): e for e in one.edges.iter_rows(named=True)}
    right = [e for e in table.iter_rows(named=True) if (e["unique_id"], e["neighbour"]) in true]
    assert len(right) >= 0.8 * len(true) and len(right) >= 0.8 * len(table)
    assert all(e["lag"] == true[e["unique_id"], e["neighbour"]]["lag"] for e in right)
    assert np.mean([abs(e["weight"] - true[e["unique_id"], e["neighbour"]]["weight"]) for e in right]) < 0.15
    assert (table["score"] > 3).all()


def test_noise_has_no_edges() -> None:
    panel = from_array(np.random.default_rng(3).normal(size=(10, 300)), step="D")
    assert len(learned(panel, "y", most=4, reach=7)) <= 1


def test_correlations_are_the_plain_loop() -> None:
    panel = pair(60)
    lines = Lines.of(panel, "y", 4)
    rows = torch.arange(3)
    found = _correlated(lines, lines.news, rows, 4)
    for one in range(3):
        for other in range(3):
            told = naive_graph.correlated(lines.news[one].tolist(), lines.news[other].tolist(), 4) if one != other else [0.0] * 4
            torch.testing.assert_close(found[one, other], torch.tensor(told, dtype=torch.float64))


def test_what_neighbours_bring_is_the_plain_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    past, edge = torch.randn(2, 3, 9, 2, generator=draw, dtype=torch.float64), torch.randn(2, 3, 2, 12, generator=draw, dtype=torch.float64)
    seen = torch.rand(2, 3, 9, 2, generator=draw) < 0.7
    seen[0, 0, :, 1] = False
    found = mixed(past, seen, edge, 4)
    for member in range(2):
        for example in range(3):
            told = naive_graph.mixed(past[member, example].numpy(), seen[member, example].numpy(), edge[member, example].numpy(), 4)
            np.testing.assert_allclose(found[member, example, :, 0].numpy(), told, atol=1e-12)


def test_a_neighbour_is_read_at_the_same_moment() -> None:
    """Whatever row its series has it in; what it does not have is not observed."""
    panel = replace(pair(20), start=torch.tensor([0, 4, 0]))
    graph = given(panel, "y", [Edge("b", "a", 3, 0.5), Edge("b", "c", 1, 0.1), Edge("a", "b", 2, 0.1)], reach=3)
    assert graph.channels == ("neighbour 1", "neighbour 2") and graph.names("b") == ("a", "c") and graph.names("c") == ()
    wide = graph.widened(panel)
    assert wide.own == ("y", "neighbour 1", "neighbour 2")
    own = panel.values[..., 0]
    assert torch.equal(wide.channel("neighbour 1")[1, :16], own[0, 4:]) and bool(wide.channel("neighbour 1")[1, 16:].isnan().all())
    assert torch.equal(wide.channel("neighbour 1")[0, 4:], own[1, :16]) and bool(wide.channel("neighbour 1")[0, :4].isnan().all())
    assert torch.equal(wide.channel("neighbour 2")[1, :16], own[2, 4:])
    assert bool(wide.channel("neighbour 1")[2].isnan().all())
    assert graph.widened(wide) is wide
    assert bool(graph.widened(panel.pick("b")).channel("neighbour 1").isnan().all()) and graph.absent(panel.pick("b")) == ("a", "c")


def test_what_is_left_open_of_an_edge_is_fitted() -> None:
    panel = pair(400)
    frame = pl.DataFrame({"unique_id": ["b", "c"], "neighbour": ["a", "b"], "lag": [None, 2], "weight": [None, 0.25]})
    net = GraphLSTM(edges=frame)
    assert net.edges == (Edge("b", "a"), Edge("c", "b", 2, 0.25))
    assert GraphLSTM.model_validate_json(net.model_dump_json()) == net
    graph = given(panel, "y", net.edges, reach=5)
    found, true = graph.weight[1, 0], torch.tensor([0, 0, 1 / 1.04**0.5, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(found, true, atol=0.06, rtol=0)
    assert graph.weight[2, 0].tolist() == [0, 0.25, 0, 0, 0][: graph.reach] or graph.weight[2, 0].tolist() == [0, 0.25, 0, 0, 0]
    assert bool(graph.score.isnan().all())


def test_wrong_edges_get_a_sentence() -> None:
    panel = pair(60)
    for edges, words in (
        ([Edge("b", "d")], 'no series of an edge "d"'),
        ([Edge("b", "b")], 'an edge leads from "b" to itself'),
        ([Edge("b", "a", 9)], 'the edge "a" → "b" acts after 9 steps, and reach=3'),
    ):
        with refused(TaskError, words):
            given(panel, "y", edges, reach=3)
    with refused(TaskError, 'have the columns unique_id, neighbour and, if known, lag and weight; "neighbour" is not among unique_id, to'):
        GraphLSTM(edges=pl.DataFrame({"unique_id": ["a"], "to": ["b"]}))
    with refused(TaskError, "GraphLSTM: hidden needs at least one layer"):
        GraphLSTM(hidden=())
    with refused(TaskError, "per_series=True: a graph net is one net for all series"):
        forecast.fit(panel, TASK, GraphLSTM(), QUICK, per_series=True)
    with refused(TaskError, "a graph net forecasts one target"):
        GraphLSTM().build(Shape(1, 10, 2, 3, 0, 2, 0, 0), [torch.Generator()])


def test_edges_come_from_a_file_on_the_command_line(tmp_path: Path) -> None:
    pl.DataFrame({"unique_id": ["b"], "neighbour": ["a"], "lag": [3]}).write_csv(tmp_path / "edges.csv")
    row = contenders([f"graph-lstm:hidden=8,reach=5,edges={tmp_path}/edges.csv"], {})[0]
    assert row.net == GraphLSTM(hidden=8, reach=5, edges=(Edge("b", "a", 3),))
    with refused(TaskError, "edges=nowhere.csv: there is no such file"):
        contenders(["graph_lstm:edges=nowhere.csv"], {})


def test_without_edges_it_is_the_plain_net() -> None:
    panel, net = pair(120), GraphLSTM(hidden=(4,), dropout=0.1, edges=())
    one, two = forecast.fit(panel, TASK, net, QUICK), forecast.fit(panel, TASK, net.plain, QUICK)
    assert isinstance(net.plain, StackedLSTM) and one.graph is not None and len(one.graph) == 0
    assert torch.equal(one.predict(panel).values, two.predict(panel).values)


@pytest.fixture(scope="module")
def model() -> tuple[ft.Forecaster, Panel]:
    panel = pair(300)
    training = Training(epochs=20, batch=128, seed=1, device="cpu", optimizer=Optimizer(rate=0.05), patience=20)
    return forecast.fit(panel, TASK, GraphLSTM(hidden=(4,), dropout=0.0, reach=4, ahead=0, ridge=False), training), panel


def test_a_follower_is_foretold_and_the_reason_has_a_name(model: tuple[ft.Forecaster, Panel]) -> None:
    fitted, panel = model
    assert fitted.graph is not None and fitted.graph.names("b") == ("a",) and fitted.graph.names("a") == ()
    assert "edges: 1 between 3 series" in fitted.summary()
    told = torch.stack([fitted.predict(panel, origin=o).values[1, :, 0] for o in range(270, 297)])
    true = torch.stack([panel.values[1, o + 1 : o + 4, 0] for o in range(270, 297)])
    assert float((told - true).abs().mean()) < 0.5 * float((true - 10).abs().mean())
    why = ft.explain(fitted, panel, origin=250, method="integrated_gradients")
    assert why.gap < 0.05
    table = by_neighbour(why, fitted)
    assert set(table["unique_id"]) == {"b"} and set(table["neighbour"]) == {"a"} and len(table) == 3
    whole = (why.prediction - why.base)[1]
    assert float(torch.corrcoef(torch.stack([torch.tensor(table["value"].to_list()), whole.flatten()]))[0, 1]) > 0.9
    with refused(TaskError, "StackedLSTM reads no neighbours"):
        by_neighbour(why, forecast.fit(panel, TASK, StackedLSTM(hidden=(2,)), QUICK))


def test_a_neighbour_that_is_not_there_is_told(model: tuple[ft.Forecaster, Panel]) -> None:
    fitted, panel = model
    alone = fitted.predict(panel.pick("b"))
    assert alone.notes == ("neighbours that these data lack bring nothing: a",)
    assert fitted.predict(panel).notes == () and bool(alone.values.isfinite().all())


def test_training_goes_on_with_the_same_edges(model: tuple[ft.Forecaster, Panel], tmp_path: Path) -> None:
    fitted, panel = model
    still = Training(epochs=1, stop=0.0, device="cpu", optimizer=Optimizer(kind="sgd", rate=1e-30))
    again = forecast.fit(panel, TASK, fitted.net, still, start=fitted)
    assert again.graph is fitted.graph
    torch.testing.assert_close(again.predict(panel).values, fitted.predict(panel).values)
    ft.save(fitted.net, tmp_path / "net.foretell")
    assert ft.load(tmp_path / "net.foretell") == fitted.net


def test_a_graph_is_drawn() -> None:
    graph: Graph = learned(world().panel, "units", most=4, reach=12)
    figure = ft.plot(graph)
    assert len(figure.data) == len(graph) + 1
    some = ft.plot(graph, series=str(graph.frame()["unique_id"][0]), lang="ko")
    assert 2 <= len(some.data) < len(figure.data)
    with refused(TaskError, 'no series "nobody"'):
        ft.plot(graph, series="nobody")
