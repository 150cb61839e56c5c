"""Integrated gradients through kinks and steps: exact where the closed form is known, near a dense quadrature elsewhere, and within 1 %."""

import pytest
import torch
from torch import Tensor

from foretell.attribution.gradients import integrated_gradients
from foretell.attribution.types import Blocks, baseline
from foretell.explanation import explain
from foretell.function import elementwise
from laws import TRAINING, fitted, rich

DRAW = torch.Generator().manual_seed(8)
X = {"x": torch.randn(3, 5, 2, generator=DRAW, dtype=torch.float64)}
B = baseline({"x": torch.zeros_like(X["x"])})
W = torch.randn(5, 2, generator=DRAW, dtype=torch.float64)
KNOTS = torch.randn(40, generator=DRAW, dtype=torch.float64).sort().values * 2
HEIGHTS = torch.rand(40, generator=DRAW, dtype=torch.float64).cumsum(0)


def stairs(z: Tensor) -> Tensor:
    """Straight pieces of very different slopes between 40 knots."""
    at = torch.searchsorted(KNOTS, z.detach().contiguous()).clamp(1, 39)
    slope = (HEIGHTS[at] - HEIGHTS[at - 1]) / (KNOTS[at] - KNOTS[at - 1])
    return HEIGHTS[at - 1] + slope * (z - KNOTS[at - 1])


def bent(blocks: Blocks) -> Tensor:
    return elementwise(stairs, torch.einsum("esc,sc->e", blocks["x"], W)[:, None])


def test_a_bent_scale_of_a_line_is_shared_by_its_weights() -> None:
    """z moves evenly, so every cell gets its share of Δz times Δh: exact however few the nodes."""
    found = integrated_gradients(bent, X, B)
    line = X["x"] * W
    change = bent(X) - bent({"x": B.values["x"][0]})
    torch.testing.assert_close(found.values["x"][:, 0], line / line.sum((1, 2), keepdim=True) * change[:, :, None])
    assert found.gap < 1e-9 < 0.01 < integrated_gradients(bent, X, B, nodes=16).gap


def test_a_step_written_as_a_number_is_seen() -> None:
    """The share of steps that are not zero jumps right after the baseline: no slope anywhere, yet all of the change."""

    def lit(blocks: Blocks) -> Tensor:
        x = blocks["x"][:, :, 0]
        return torch.ne(x.detach(), torch.zeros_like(x), out=torch.empty_like(x)).mean(1, keepdim=True)

    found = integrated_gradients(lit, X, B)
    torch.testing.assert_close(found.values["x"][:, 0, :, 0], torch.full((3, 5), 0.2, dtype=torch.float64))
    assert integrated_gradients(lit, X, B, nodes=64).values["x"].abs().max() == 0


def test_stretches_come_near_the_integral() -> None:
    """A bend inside a product: the dense quadrature is the twin."""

    def mixed(blocks: Blocks) -> Tensor:
        inner = elementwise(stairs, blocks["x"].flatten(1))
        return elementwise(stairs, (inner.reshape(-1, 5, 2) * W).sum((1, 2))[:, None]) * blocks["x"][:, 0, :1].tanh()

    found, plain, dense = (integrated_gradients(mixed, X, B, nodes=n).values["x"] for n in (None, 128, 500))
    missed, before = (float((x - dense).square().mean()) for x in (found, plain))
    assert missed < before / 2


@pytest.mark.parametrize("name", ["ridge", pytest.param("period kernel", marks=pytest.mark.slow)])
def test_of_fitted_models_on_normal_scores_less_than_a_hundredth_is_missed(name: str) -> None:
    panel = rich()
    model = fitted(name, panel, training=TRAINING.model_copy(update={"scale": "quantile", "epochs": 1}))
    for of in ("step", "band"):
        assert explain(model, panel.pick("a"), origin=130, of=of, method="integrated_gradients").gap < 0.01
