"""Counterfactuals against the closed form, within bounds and honest beyond them; effects and worth of channels of fitted models."""

import pytest
import torch
from torch import Tensor

import foretell as ft
from foretell import Task, TaskError, Training, forecast
from foretell.attribution.counterfactual import Reach, counterfactual
from foretell.attribution.types import Blocks
from foretell.explanation import counterfactual as of_model
from foretell.explanation import effect, worth
from foretell.nets import Ridge, StackedLSTM
from foretell.optim import Optimizer
from foretell.worlds import drivers
from laws import PLAIN, fitted, plain, refused

DRAW = torch.Generator().manual_seed(4)
X = {"x": torch.randn(2, 4, 2, generator=DRAW, dtype=torch.float64)}
W = torch.randn(4, 2, 2, generator=DRAW, dtype=torch.float64)
WIDTH = {"x": torch.tensor([1.0, 3.0], dtype=torch.float64).expand(2, 4, 2)}


def line(blocks: Blocks) -> Tensor:
    return torch.einsum("esc,sco->eo", blocks["x"], W)


def reach(far: float, free: Tensor | None = None) -> Reach:
    mark = torch.ones(4, 2, dtype=torch.bool) if free is None else free
    return Reach({"x": mark}, {"x": torch.full((2, 4, 2), -far).double()}, {"x": torch.full((2, 4, 2), far).double()}, WIDTH)


def test_of_a_line_it_is_the_change_of_least_norm() -> None:
    aim = line(X) + torch.tensor([2.0, -1.0], dtype=torch.float64)
    found = counterfactual(line, X, (aim, aim), reach(1e6))
    slope = (W * WIDTH["x"][0][..., None]).flatten(0, 1)
    least = slope @ torch.linalg.solve(slope.T @ slope, torch.tensor([2.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close((found.blocks["x"] - X["x"]) / WIDTH["x"], least.view(1, 4, 2).expand(2, -1, -1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.after, aim, rtol=1e-3, atol=2e-3)
    assert found.reached.tolist() == [1.0, 1.0] and found.distance[0] == pytest.approx(float(least.square().mean().sqrt()), rel=1e-3)


def pair(far: float) -> tuple[Blocks, Reach]:
    """One window of two free cells at 0, each within ±far."""
    zero = torch.zeros(1, 1, 2, dtype=torch.float64)
    return {"x": zero}, Reach({"x": torch.ones(1, 2, dtype=torch.bool)}, {"x": zero - far}, {"x": zero + far}, {"x": zero + 1})


def test_a_cell_at_its_bound_leaves_the_rest_to_the_others() -> None:
    blocks, within = pair(1.0)
    aim = torch.full((1, 1), 1.4, dtype=torch.float64)
    found = counterfactual(lambda b: (b["x"][:, 0] * torch.tensor([1.0, 0.5]).double()).sum(1, keepdim=True), blocks, (aim, aim), within)
    torch.testing.assert_close(found.blocks["x"][0, 0], torch.tensor([1.0, 0.8]).double(), rtol=0, atol=5e-3)


def test_of_a_product_the_change_is_along_the_slope_where_it_ends() -> None:
    """Least squares on a curved surface; the steepest way into the band alone ends elsewhere: 1.87, 1.12."""
    blocks, within = pair(1e3)
    aim = torch.full((1, 1), 4.0, dtype=torch.float64)
    found = counterfactual(lambda b: b["x"][:, 0, :1] * (1 + b["x"][:, 0, 1:]), blocks, (aim, aim), within).blocks["x"][0, 0]
    assert float(found[0] * (1 + found[1])) == pytest.approx(4, abs=5e-3) and float(found[0] ** 2) == pytest.approx(float(found[1] * (1 + found[1])), abs=0.02)


def test_an_open_end_is_met_at_its_edge_and_nothing_moves_inside_the_band() -> None:
    low = line(X) + 1.5
    found = counterfactual(line, X, (low, torch.full_like(low, torch.inf)), reach(1e6))
    assert bool((found.after >= low - 2e-3).all()) and bool((found.after - low < 1e-2).any(1).all())
    still = counterfactual(line, X, (line(X) - 1, line(X) + 1), reach(1e6))
    assert torch.equal(still.blocks["x"], X["x"]) and still.changed.tolist() == [0, 0] and not len(still.frame())


def test_only_free_cells_move_and_never_beyond_the_bounds() -> None:
    free = torch.zeros(4, 2, dtype=torch.bool)
    free[2:, 0] = True
    found = counterfactual(line, X, (line(X) + 50, torch.full((2, 2), torch.inf).double()), reach(3.0, free))
    assert torch.equal(found.blocks["x"][:, ~free], X["x"][:, ~free]) and float(found.blocks["x"][:, free].abs().max()) <= 3.0
    assert bool((found.reached < 1).all()), "fifty is beyond what two cells can do, and it says so"
    assert bool(((found.after - found.before).sum(1) > 0).all())


def test_wrong_aims_get_a_sentence() -> None:
    with refused(TaskError, "the band must rise"):
        counterfactual(line, X, (line(X) + 1, line(X) - 1), reach(1.0))
    with refused(TaskError, "changes from 1 to 600 cells of a window; got 0"):
        counterfactual(line, X, (line(X), line(X)), reach(1.0, torch.zeros(4, 2, dtype=torch.bool)))
    panel = plain()
    model = fitted("ridge", panel, PLAIN)
    with refused(TaskError, 'no channel to change "z"'):
        of_model(model, panel, (1, None), change="z")


@pytest.fixture(scope="module")
def sold() -> tuple[ft.Panel, ft.Forecaster]:
    world = drivers(0, series=2)
    task = Task(target="sales", known=("price", "event"), context=14, horizon=7)
    training = Training(epochs=2, batch=32, seed=0, device="cpu", optimizer=Optimizer(rate=0.01))
    return world.panel, forecast.fit(world.panel.until(440), task, StackedLSTM(hidden=(4,)), training)


def test_the_price_that_sells_more(sold: tuple[ft.Panel, ft.Forecaster]) -> None:
    """In units: a lower price within the range seen, and the model agrees that it then sells what was aimed at."""
    panel, model = sold
    told = float(model.predict(panel, origin=450).values[0].sum())
    found = of_model(model, panel.pick(panel.series[0]), (told + 20, None), change="price", origin=450)
    frame = found.frame()
    assert set(frame["channel"]) == {"price"} and set(frame["block"]) == {"future"} and frame["after"].mean() < frame["before"].mean()
    assert float(found.after[0, 0]) == pytest.approx(told + 20, abs=0.2) and found.reached.tolist() == [1.0]
    seen = panel.channel("price")[0, :441]
    assert frame["after"].min() >= float(seen.min()) - 1e-4
    far = of_model(model, panel.pick(panel.series[0]), (10 * told, None), change="price", origin=450)
    assert far.reached.tolist() == [0.0] and told < float(far.after[0, 0]) < 10 * told


def test_effects_and_worth_of_channels(sold: tuple[ft.Panel, ft.Forecaster]) -> None:
    panel, model = sold
    origins = list(range(441, 480, 7))
    for change in ("set", "shift", "scale", "ale"):
        curve = effect(model, panel, "price", origin=origins, change=change, where="future")
        assert float(curve.mean[-1].mean()) < float(curve.mean[0].mean()) and curve.labels.target == "sales"
    assert float(effect(model, panel, "event", origin=origins, grid=torch.tensor([0.0, 1.0]), where="future").mean.diff(dim=0).mean()) > 10
    why = worth(model, panel, origin=origins, repeats=3)
    for name in ("event", "price"):  # its past and its future are another window's together, and share what that costs
        halves = [why.values[b][0, :, 0, why.channels(b).index(name)] for b in ("past", "future")]
        assert torch.equal(*halves) and float(halves[0].abs().max()) > 0
    by = why.by_channel()
    assert float(by["event"].mean()) > 0 and float(by["price"].mean()) > 0
    with refused(TaskError, '"reach" is not read ahead by this model'):
        effect(model, panel, "reach", origin=origins, where="future")


def test_what_cannot_be_answered_is_said() -> None:
    panel = plain()
    model = forecast.fit(panel, PLAIN, Ridge())
    assert of_model(model, panel, (None, None), change="x").changed.sum() == 0
    with refused(TaskError, '"x" is not read ahead by this model'):
        effect(model, panel, "x", where="future")
    with refused(TaskError, "the truth is not known at every step"):
        worth(model, panel, origin=[130, 139])
