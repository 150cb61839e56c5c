"""Dynamic time warping and the critic's score, against their twins and against what they promise of a stream."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import naive_gan
from foretell.detect.critic import CriticScale, critic_modes, critic_score
from foretell.detect.dtw import BLOCK, dtw
from foretell.errors import TaskError


@given(st.integers(0, 10**6), st.integers(1, 24), st.integers(0, 5), st.integers(0, 5), st.integers(1, 3))
def test_every_row_is_warped_as_by_hand(seed: int, rows: int, behind: int, ahead: int, channels: int) -> None:
    random = torch.Generator().manual_seed(seed)
    seen, expected = torch.randn(2, rows, channels, generator=random, dtype=torch.float64)
    found = dtw(seen, expected, behind, ahead)
    for channel in range(channels):
        own = seen[:, channel].tolist(), expected[:, channel].tolist()
        wanted = [naive_gan.warped_around(*own, row, behind, ahead) for row in range(rows)]
        torch.testing.assert_close(found[:, channel], torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_blocks_do_not_show() -> None:
    seen, expected = torch.randn(2, 3 * BLOCK + 5, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = dtw(seen, expected, 2, 1)
    for row in (0, BLOCK - 2, BLOCK - 1, BLOCK, 2 * BLOCK, len(seen) - 1):
        part = slice(max(0, row - 3), row + 4)
        assert float(dtw(seen[part], expected[part], 2, 1)[row - part.start]) == pytest.approx(float(whole[row]), abs=1e-12)


def test_a_spike_is_centred_and_the_last_row_counts() -> None:
    """The notebook's comes five rows late and is 0 over the last six."""
    seen = torch.zeros(60, 1, dtype=torch.float64)
    seen[30], seen[59] = 1.0, 2.0
    found = dtw(seen, torch.zeros_like(seen), 5, 5)[:, 0]
    assert found[:54].nonzero().flatten().tolist() == list(range(25, 36))
    assert found[54:].tolist() == [2.0] * 6


def test_a_shift_in_time_costs_less_than_its_point_errors() -> None:
    time = torch.arange(80, dtype=torch.float64)
    seen, late = (torch.sin(time / 5 - lag / 5)[:, None] for lag in (0, 1))
    straight = (seen - late).square().unfold(0, 11, 1).sum(-1).sqrt()
    warped = dtw(seen, late, 5, 5)[5:75]
    assert bool((warped <= straight).all())
    assert float(warped.mean()) < 0.5 * float(straight.mean())


def test_a_missing_row_is_missing_and_bends_nothing_else() -> None:
    seen, expected = torch.randn(2, 30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    broken = seen.clone()
    broken[12, 0] = torch.nan
    found, whole = dtw(broken, expected, 3, 3), dtw(seen, expected, 3, 3)
    assert found.isnan().nonzero().tolist() == [[12, 0]]
    assert torch.equal(found[:9, 0], whole[:9, 0])
    assert torch.equal(found[:, 1], whole[:, 1])


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 7), st.floats(0, 0.6))
def test_the_likeliest_value_is_scipys(seed: int, starts: int, window: int, lost: float) -> None:
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(starts, generator=random, dtype=torch.float64)
    values[torch.rand(starts, generator=random) < lost] = torch.nan
    found = critic_modes(values, window)
    assert len(found) == starts + window - 1
    for row, mode in enumerate(found.tolist()):
        own = [v for v in values[max(0, row - window + 1) : row + 1].tolist() if not math.isnan(v)]
        if not own:
            assert math.isnan(mode)
        elif len(own) == 2:  # both are as likely
            assert mode in own
        else:
            assert mode == pytest.approx(naive_gan.likeliest(own), abs=1e-12)


def test_equal_values_are_their_own_mode() -> None:
    assert critic_modes(torch.full((9,), 0.3, dtype=torch.float64), 4).tolist() == [0.3] * 12


def test_constants_are_those_of_the_normal_rows_and_stay() -> None:
    normal = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scale = CriticScale.of([normal[:100], normal[100:], torch.tensor([torch.nan], dtype=torch.float64)])
    inner = normal[(normal >= normal.quantile(0.25)) & (normal <= normal.quantile(0.75))]
    assert scale == pytest.approx((float(inner.mean()), float(normal.std(correction=0))))
    strange = torch.tensor([scale.centre, scale.centre - 3 * scale.width, torch.nan], dtype=torch.float64)
    assert critic_score(strange, scale).tolist()[:2] == pytest.approx([1.0, 4.0])
    assert critic_score(strange, scale)[2].isnan()
    assert torch.equal(critic_score(strange[:1], scale), critic_score(strange, scale)[:1])  # more data change no score
    with pytest.raises(TaskError, match="no window of the normal runs was judged by the critic"):
        CriticScale.of([normal[:0]])
