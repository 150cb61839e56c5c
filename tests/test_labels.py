"""Labels in a net of all series: embeddings, the strengths of shared periods, a head of each series' own; and series never seen."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator

import foretell as ft
from foretell import Forecaster, Panel, forecast
from foretell.label import SERIES, labels_of
from foretell.nets import PeriodKernel, Shape
from foretell.nets.labels import Facts, Own
from foretell.nets.period_kernel import PeriodKernelNet
from laws import TASK, TRAINING, rich

NET = PeriodKernel(kernels=3, filters=2, heads=1, size=2, dense=4, ahead=3, own_head=True)
LEARNS = TRAINING.model_copy(update={"scale": "standard"})
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def panel() -> Panel:
    return replace(rich(NAMES), labels={"dept": ("x", "y", "x"), "size": (1.0, 2.0, 4.0)})


@pytest.fixture(scope="module")
def model(panel: Panel) -> Forecaster:
    return forecast.fit(panel, TASK, NET, LEARNS)


def net_of(own_head: bool) -> tuple[PeriodKernelNet, tuple[torch.Tensor, ...]]:
    """A net of two members that knows three series, a label of two categories and a number, and windows for it."""
    shape = Shape(2, 8, 3, 4, 2, 1, 2, 3, kinds=(3, 2, 0))
    net = NET.model_copy(update={"own_head": own_head}).build(shape, [Generator().manual_seed(n) for n in (1, 2)]).double()
    draw = Generator().manual_seed(0)
    past, future = (torch.randn(2, 4, *size, generator=draw, dtype=torch.float64) for size in ((8, 3), (4, 2)))
    static = torch.tensor([[1, 2, 0.5], [3, 1, -1.0], [0, 2, 2.0], [2, 0, 0.0]], dtype=torch.float64).expand(2, -1, -1)
    return net, (past, torch.ones_like(past, dtype=torch.bool), future, static)


def test_facts_are_looked_up_one_by_one() -> None:
    facts = Facts([Generator().manual_seed(1), Generator().manual_seed(2)], (3, 2, 0), 4).double()
    facts.profile = torch.randn(2, 4, 4, dtype=torch.float64)
    static = net_of(False)[1][3]
    got = facts(static)
    for m in range(2):
        for e, (series, label, number) in enumerate(static[m].tolist()):
            told = facts.labels[0].weight[m, int(label) - 1] if label else torch.zeros(1, dtype=torch.float64)
            want = torch.cat([facts.profile[m, int(series)], told, torch.tensor([number], dtype=torch.float64)])
            assert torch.equal(got[m, e], want)
    assert facts.width == got.shape[-1] == 4 + 1 + 1


def test_own_heads_add_a_line_of_their_own() -> None:
    own = Own(2, 3, 5, 2).double()
    static = net_of(False)[1][3]
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    assert not own(x, static).any() and not own(x[:, :, 0], static).any()
    with torch.no_grad():
        own.weight.normal_()
        own.bias.normal_()
    for m in range(2):
        for e, series in enumerate(static[m, :, 0].long().tolist()):
            want = x[m, e] @ own.weight[m, series] + own.bias[m, series] if series else torch.zeros(6, 2, dtype=torch.float64)
            torch.testing.assert_close(own(x, static)[m, e], want)
            torch.testing.assert_close(own(x[:, :, 0], static)[m, e], want[0])


def test_a_net_begins_as_the_shared_one() -> None:
    with_heads, inputs = net_of(True)
    without, _ = net_of(False)
    without.load_state_dict({n: w for n, w in with_heads.state_dict().items() if not n.startswith("own")})
    assert torch.equal(with_heads(*inputs), without(*inputs))
    assert "labels and own heads" in str(with_heads.summary())


def test_it_learns_what_each_series_has_of_its_own(model: Forecaster, panel: Panel) -> None:
    own, profile = model.weights["net.own.bias"][0], model.weights["net.facts.profile"][0]
    assert own.shape == (4, 4) and not own[0].any() and len(own[1:].unique(dim=0)) == 3
    torch.testing.assert_close(profile[0], profile[1:].mean(0))
    assert [label.name for label in model.labels] == [SERIES, "dept", "size"]
    assert model.labels[0].categories == labels_of(panel, named=True)[0].categories == NAMES


def test_a_series_never_seen_is_told_by_its_labels(model: Forecaster, panel: Panel) -> None:
    """By another name the same values get no head of their own; another department changes the forecast."""
    strange = replace(panel.pick("b"), series=("new",))
    told = model.predict(strange, origin=140).values
    assert told.isfinite().all() and not torch.equal(told, model.predict(panel.pick("b"), origin=140).values)
    moved = replace(strange, labels={**strange.labels, "dept": ("x",)})
    assert not torch.equal(told, model.predict(moved, origin=140).values)
    headless = {n: torch.zeros_like(w) if ".own" in n else w for n, w in model.weights.items()}
    headless["net.facts.profile"] = headless["net.facts.profile"][:, :1].expand(-1, 4, -1)
    plain = replace(model, weights=headless, scaling=model.scaling_of(strange, 140).rows([0, 0, 0]))
    torch.testing.assert_close(told, plain.predict(panel.pick("b"), origin=140).values)


def test_it_is_saved_with_its_labels(model: Forecaster, panel: Panel, tmp_path: Path) -> None:
    ft.save(model, tmp_path / "m.foretell")
    again = ft.load(tmp_path / "m.foretell")
    assert torch.equal(again.predict(panel, origin=140).quantiles, model.predict(panel, origin=140).quantiles)
