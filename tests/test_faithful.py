"""Measures of explanations: right on what can be said by hand, and the straw men lose."""

import pytest
import torch
from torch import Tensor

import foretell as ft
from foretell.attribution.deeplift import deeplift
from foretell.attribution.faithful import randomised, rank_correlation, ranking, removal, stability, straw_men
from foretell.attribution.gradients import smooth_gradient
from foretell.attribution.types import Blocks, Map, baseline
from zoo import C, T, nets

X = {"x": torch.randn(6, T, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)}
ZERO = baseline({"x": torch.zeros_like(X["x"])})
W = torch.randn(T, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def line(blocks: Blocks) -> Tensor:
    return (blocks["x"] * W).sum((1, 2))[:, None]


def test_a_ranking_by_hand() -> None:
    truth = torch.tensor([True, False, True, False])
    assert ranking(torch.tensor([3.0, 1, 2, 0]), truth)[:2] == (1.0, 1.0)
    assert ranking(torch.ones(4), truth).auroc == 0.5
    assert ranking(torch.tensor([1.0, 2, 3, 0]), truth).auroc == 0.75
    with pytest.raises(ft.TaskError, match="cells that matter and cells that do not"):
        ranking(torch.ones(2), torch.tensor([True, True]))


def test_ranks_with_ties() -> None:
    assert rank_correlation(torch.tensor([1.0, 2, 3]), torch.tensor([10.0, 20, 30])) == pytest.approx(1)
    assert rank_correlation(torch.tensor([1.0, 2, 3, 3]), torch.tensor([3.0, 2, 1, 1])) == pytest.approx(-1)


def test_the_true_contributions_of_a_line_beat_every_straw_man() -> None:
    why = deeplift(line, X, ZERO)
    ours = removal(line, why, X, ZERO, share=0.3)
    for man in straw_men(why, X).values():
        theirs = removal(line, man, X, ZERO, share=0.3)
        assert ours.cpd > theirs.cpd and ours.cpp < theirs.cpp
    assert ours.insertion < removal(line, straw_men(why, X)["random"], X, ZERO, share=0.3).insertion


def test_the_path_of_a_line_is_the_sum_of_what_was_taken() -> None:
    """One cell at a time: the path's length is Σ |contribution| of the cells taken, in units of the output's spread."""
    why = deeplift(line, X, ZERO)
    found = removal(line, why, X, ZERO, steps=T * C)
    whole = float((X["x"] * W).abs().sum((1, 2)).mean() / line(X).std(0).mean())
    assert found.cpd == pytest.approx(whole) and found.cpp == pytest.approx(whole)


def test_an_explanation_falls_when_the_weights_are_drawn_anew() -> None:
    def of(name: str) -> Map:
        net = nets()[name]
        return lambda blocks: net(blocks["x"])

    same, other = randomised(lambda f: deeplift(f, X, ZERO), [of("conv"), of("conv"), of("gru")])
    assert same == pytest.approx(1) and other < 0.8


def test_stability_is_the_agreement_of_seeds() -> None:
    square: Map = lambda blocks: (blocks["x"] ** 3).sum((1, 2))[:, None]  # noqa: E731  # one line says it
    rough, fine = (stability(lambda seed, n=n: smooth_gradient(square, X, noise=0.5, draws=n, seed=seed), 3) for n in (1, 64))
    assert rough < fine <= 1
