"""The full matrix of explanations: every method on every kind of model, of the point and of the band; a slice of it in the quick suite."""

import pytest

from axioms import BLACK, CASES, EVERY, OFS, case, verdict
from laws import slow

QUICK = ("deeplift", "integrated_gradients", "shapley")  # of the ridge; the period kernel has every method
LONG = ("temporal_gradients", "expected_gradients", "smooth_gradient", "timing")  # gradients that the others are made of, many times over


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("period kernel", method) if method not in LONG else slow("period kernel", method) for method in EVERY),
        *(("ridge", method) for method in QUICK),
    ],
)
def test_a_slice_of_the_matrix(name: str, method: str) -> None:
    assert not verdict(name, method, "point").broken


@pytest.mark.slow
@pytest.mark.parametrize("of", OFS)
@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("name", CASES)
def test_the_whole_matrix(name: str, method: str, of: str) -> None:
    found = verdict(name, method, of)
    assert not found.broken
    assert bool(found.why_not) == (not found.kind) and case(name).model.differentiable == (name not in BLACK)
