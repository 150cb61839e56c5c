"""Advice and select: a channel that does nothing is named, left out, and not missed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import foretell as ft
from foretell import Panel, Task, TaskError, Training, from_array
from foretell.attribution.advice import advice
from foretell.attribution.deeplift import deeplift
from foretell.attribution.gradients import saliency
from foretell.attribution.types import Blocks, baseline
from foretell.nets import PeriodKernel, Ridge

X = {"x": torch.randn(20, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
X["x"][..., 2] = X["x"][..., 1]
ZERO = baseline({"x": torch.zeros_like(X["x"])})


def weighted(blocks: Blocks) -> Tensor:
    x = blocks["x"]
    return (3 * x[:, -1, 0] + 2 * x[:, -1, 1] + x[:, -1, 2] + 1e-4 * x[:, 0, 3])[:, None]


def test_what_is_weak_or_redundant_is_named_with_evidence() -> None:
    found = {a.channel: a for a in advice(deeplift(weighted, X, ZERO))}
    assert set(found) == {"x[2]", "x[3]"}
    assert found["x[3]"].finding == "weak" and "% of all that is attributed over 20 windows" in found["x[3]"].evidence
    assert found["x[2]"].finding == "redundant" and "go together with those of x[1]" in found["x[2]"].evidence


def test_cells_that_act_against_each_other_are_noisy() -> None:
    def rough(blocks: Blocks) -> Tensor:
        x = blocks["x"]
        return (x[:, -1, 0] + 50 * (x[:, 0, 3] - x[:, 1, 3]))[:, None]

    calm = {"x": X["x"].clone()}
    calm["x"][:, 1, 3] = calm["x"][:, 0, 3] + 0.02
    assert [a.finding for a in advice(deeplift(rough, calm, ZERO)) if a.channel == "x[3]"] == ["noisy"]


def test_an_explanation_gives_its_own_advice() -> None:
    why = deeplift(weighted, X, ZERO)
    assert why.advice() == advice(why) and {a.channel for a in why.advice(keep=("x[3]",))} == {"x[2]"}
    named = replace(why, labels=replace(why.labels, channels={"x": ("a", "b", "c", "d")}, target="d"))
    assert {a.channel for a in named.advice()} == {"c"}, "the target stays"


def test_advice_needs_windows_and_contributions() -> None:
    with pytest.raises(TaskError, match="would be guesswork: explain at least 3"):
        advice(deeplift(weighted, {"x": X["x"][:2]}, baseline({"x": ZERO.values["x"][:, :2]})))
    with pytest.raises(TaskError, match="needs contributions; saliency gives a sensitivity"):
        advice(saliency(weighted, X))


def driven(steps: int = 500) -> Panel:
    draw = np.random.default_rng(1)
    price, noise = draw.normal(size=steps), draw.normal(size=steps)
    sales = 20 + 3 * np.sin(2 * np.pi * np.arange(steps) / 7) - 4 * price + 0.2 * draw.normal(size=steps)
    return from_array(np.stack([sales, price, noise], -1)[None], ("sales", "price", "noise"), step="D")


def test_select_leaves_out_what_is_not_used_and_shows_the_test() -> None:
    task = Task(target="sales", known=("price", "noise"), context=14, horizon=7)
    chosen = ft.select(driven(), task, Ridge(), Training(seed=1), windows=4)
    assert chosen.dropped == ("noise",) and chosen.task.known == ("price",)
    assert chosen.backtest is not None and {"all channels", "selected"} <= set(chosen.backtest.models)
    scores = {name: float(found["MAE"]) for name, found in chosen.backtest.scores().items()}
    assert scores["selected"] < 1.1 * scores["all channels"]


def test_select_looks_at_nothing_of_the_test() -> None:
    panel = driven()
    values = panel.values.clone()
    values[:, -28:, 2] = 1e6
    task = Task(target="sales", known=("price", "noise"), context=14, horizon=7)
    wild = Panel(values, panel.shared, panel.start, panel.clock, panel.series, panel.channels)
    assert ft.select(wild, task, Ridge(), Training(seed=1), windows=4).advice == ft.select(panel, task, Ridge(), Training(seed=1), windows=4).advice


@pytest.mark.slow
def test_select_leaves_out_kernels_that_do_nothing() -> None:
    """Two periods that hardly differ: what their kernels add goes together, one is named, and the net is fitted again with fewer."""
    draw, day = np.random.default_rng(2), np.arange(220)
    wave = 4 * np.sin(2 * np.pi * day / 7) + 3.4 * np.sin(2 * np.pi * day / 5)
    panel = from_array((20 + wave + 0.5 * draw.normal(size=220))[None, :, None], ("sales",), step="D")
    net = PeriodKernel(kernels=3, filters=2, heads=1, size=2, dense=4, ridge=None)
    training = Training(epochs=6, seed=1, batch=32, optimizer=ft.Optimizer(rate=0.02))
    chosen = ft.select(panel, Task(target="sales", context=21, horizon=7), net, training, windows=2)
    assert chosen.dropped and all(one.startswith("period ") for one in chosen.dropped)
    assert all(a.channel in chosen.dropped and a.finding in ("weak", "redundant") for a in chosen.advice)
    assert chosen.net == net.model_copy(update={"kernels": 3 - len(chosen.dropped)}) and chosen.task.target == ("sales",)
    assert chosen.backtest is not None and {"all channels", "selected"} <= set(chosen.backtest.models)


def test_nothing_beside_the_target_is_said() -> None:
    with pytest.raises(TaskError, match="no measured channel beside the target"):
        ft.select(from_array(np.random.default_rng(0).normal(size=200)), Task(target="y", context=7, horizon=7))
