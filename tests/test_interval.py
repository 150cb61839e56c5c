"""Conformal bands: ranks by sorting, widths, spreads of series, and how often a band holds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import naive
from foretell.interval import KEPT, Conformal, conformal, kept, quantiles, ranked, scores_of

PROBS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@given(st.lists(st.floats(-1e3, 1e3, width=32) | st.just(math.nan), min_size=1, max_size=60), st.lists(st.sampled_from(PROBS), min_size=1, max_size=7))
def test_a_quantile_is_the_score_of_its_rank(scores: list[float], probs: list[float]) -> None:
    if not any(math.isfinite(s) for s in scores):
        scores = [*scores, 0.5]
    found = ranked(kept(torch.tensor(scores, dtype=torch.float64)[None, None]), sorted(probs))[0, 0]
    assert found.tolist() == [naive.conformal_rank(scores, p) for p in sorted(probs)]


def test_scores_are_errors_in_widths_of_the_models_band() -> None:
    output = torch.tensor([10.0, 8.0, 10.0, 11.0]).expand(2, 1, 1, 4)
    truth = torch.tensor([[[6.0]], [[13.0]]])
    assert scores_of(output, truth, torch.ones(2, 1))[0, 0].tolist() == [-2.0, 3.0]
    assert scores_of(output, truth, torch.tensor([[2.0], [0.5]]))[0, 0].tolist() == [-1.0, 6.0]
    bare = output[..., :1]
    assert scores_of(bare, truth, torch.ones(2, 1))[0, 0].tolist() == [-4.0, 3.0]


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_quantiles_are_their_twin(seed: int, slots: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    output = torch.randn(40, 3, 2, slots, generator=draw, dtype=torch.float64)
    output = torch.cat([output[..., :1], output[..., 1:].sort(-1).values + output[..., :1]], -1)
    truth = output[..., 0] + torch.randn(40, 3, 2, generator=draw, dtype=torch.float64)
    truth[torch.rand(40, 3, 2, generator=draw) < 0.2] = torch.nan
    series = torch.arange(40) % 4
    fitted = conformal(output, truth, series, 5)
    found = quantiles(output, fitted, series, PROBS)
    for n, h, t, p in [(0, 0, 0, 0), (7, 1, 1, 3), (22, 2, 0, 5), (39, 2, 1, 6)]:
        scores = []
        for k in range(40):
            low, high = widths(output[k, h, t].tolist())
            miss = float(truth[k, h, t] - output[k, h, t, 0])
            scores.append(miss / (low if miss < 0 else high) / float(fitted.spread[series[k], t]))
        score = naive.conformal_rank(scores, PROBS[p])
        score = min(score, 0.0) if PROBS[p] < 0.5 else max(score, 0.0) if PROBS[p] > 0.5 else score  # the point lies in its bands
        low, high = widths(output[n, h, t].tolist())
        expected = float(output[n, h, t, 0]) + score * (low if score < 0 else high) * float(fitted.spread[series[n], t])
        assert float(found[n, h, t, p]) == pytest.approx(expected, abs=1e-9)
    assert (found.diff(dim=-1) >= 0).all()


def widths(slots: list[float]) -> tuple[float, float]:
    if len(slots) < 3:
        return 1.0, 1.0
    low, high = max(0.0, slots[0] - min(slots[1:])), max(0.0, max(slots[1:]) - slots[0])
    return max(low, 0.1 * (low + high)), max(high, 0.1 * (low + high))


def test_the_spread_of_a_series_is_its_error_over_the_pools() -> None:
    errors = torch.tensor([1.0, 1.0, 4.0, 4.0]).repeat(100)
    output, truth = torch.zeros(400, 2, 1, 1), errors[:, None, None].expand(400, 2, 1)
    series = torch.tensor([0, 0, 1, 1]).repeat(100)
    spread = conformal(output, truth, series, 3).spread[:, 0]
    # 200 sights each, 20 sights of prior at 1; pool 2.5
    assert spread.tolist() == pytest.approx([(200 * 0.4 + 20) / 220, (200 * 1.6 + 20) / 220, 1.0])


def test_no_scores_no_band_and_zero_errors_are_no_trouble() -> None:
    output = torch.ones(3, 2, 1, 1)
    series = torch.zeros(3, dtype=torch.long)
    for truth in (torch.full((3, 2, 1), torch.nan), torch.ones(3, 2, 1)):
        fitted = conformal(output, truth, series, 1)
        assert quantiles(output, fitted, series, (0.1, 0.9)).unique().tolist() == [1.0]
    empty = Conformal(torch.zeros(2, 1, 0), torch.ones(1, 1))
    assert quantiles(output, empty, series, (0.1, 0.9)).unique().tolist() == [1.0]


def test_thinned_scores_keep_their_quantiles() -> None:
    scores = torch.randn(1, 1, 50_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    few = kept(scores)
    assert few.shape[-1] == KEPT
    assert (few[..., 0] == scores.amin(-1)).all() and (few[..., -1] == scores.amax(-1)).all()
    many = ranked(scores.sort(-1).values, PROBS)
    assert torch.allclose(ranked(few, PROBS), many, atol=0.06)


def test_a_band_holds_as_often_as_it_says() -> None:
    draw = torch.Generator().manual_seed(3)
    seen, hits = 0, 0
    for _ in range(200):
        errors = torch.randn(60, 1, 1, generator=draw).exp() - 1
        fitted = conformal(torch.zeros(39, 1, 1, 1), errors[:39], torch.zeros(39, dtype=torch.long), 1)
        low, high = quantiles(torch.zeros(21, 1, 1, 1), fitted, torch.zeros(21, dtype=torch.long), (0.1, 0.9)).unbind(-1)
        hits += int(((errors[39:] >= low) & (errors[39:] <= high)).sum())
        seen += 21
    assert 0.78 < hits / seen < 0.83
