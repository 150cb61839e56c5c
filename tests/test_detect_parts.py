"""Detection piece by piece, against slow twins and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import naive_detect
from foretell.detect import Alarms, errors, events, threshold
from foretell.detect.features import aggregate, difference, filled, shifted, undifference, window_starts, without_median
from foretell.detect.scoring import top_mean
from foretell.errors import TaskError


def rows(time: int, channels: int, holes: float = 0.0, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(time, channels, dtype=torch.float64, generator=random)
    return x.masked_fill(torch.rand(time, channels, generator=random) < holes, torch.nan)


@pytest.mark.parametrize(("order", "lag"), [(0, 0), (1, 0), (2, 0), (0, 7), (1, 7), (3, 2)])
def test_differences_can_be_undone(order: int, lag: int) -> None:
    x = rows(60, 3)
    d = difference(x, order, lag)
    assert int(d.isnan().any(1).sum()) == order + lag
    back = undifference(d, x[: order + lag], order, lag)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)


def test_difference_of_order_two_is_not_of_lag_two() -> None:
    x = rows(20, 1)
    assert not torch.allclose(difference(x, 2)[2:], difference(x, 0, 2)[2:])
    torch.testing.assert_close(difference(x, 0, 2)[2:], x[2:] - x[:-2])


@pytest.mark.parametrize("statistics", [("mean",), ("min", "max"), ("std", "median", "last")])
def test_aggregates_are_those_of_the_loop(statistics: tuple[str, ...]) -> None:
    x = rows(53, 3, holes=0.3)
    np.testing.assert_allclose(aggregate(x, 5, statistics).numpy(), naive_detect.aggregate(x.numpy(), 5, statistics), atol=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 2), st.integers(1, 4))
def test_windows_touch_no_invalid_row(invalid: list[bool], window: int, ahead: int, stride: int) -> None:
    stride = min(stride, window)
    found = window_starts(torch.tensor(invalid), window, ahead, stride)
    assert found.tolist() == naive_detect.window_starts(np.array(invalid), window, ahead, stride)


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_only_short_gaps_are_filled(reach: int) -> None:
    x = rows(50, 2, holes=0.5)
    np.testing.assert_array_equal(filled(x, reach).numpy(), naive_detect.filled(x.numpy(), reach))


def test_shifted_runs_both_ways_and_past_the_end() -> None:
    x = torch.arange(3.0)[:, None]
    assert shifted(x, 1)[:, 0].isnan().tolist() == [True, False, False]
    assert shifted(x, -2)[0, 0] == 2.0
    assert shifted(x, 9).isnan().all()


def test_a_group_loses_its_own_median() -> None:
    x = rows(30, 5, holes=0.1)
    out = without_median(x, [[0, 2, 3]])
    mine = x[:, [0, 2, 3]].numpy()
    np.testing.assert_allclose(out[:, [0, 2, 3]].numpy(), mine - np.nanmedian(mine, 1, keepdims=True), atol=1e-12)
    torch.testing.assert_close(out[:, [1, 4]], x[:, [1, 4]], equal_nan=True)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.sampled_from([(0.0, 10.0), (0.0, 2.0), (1.0, 3.0)]))
def test_the_dynamic_threshold_is_the_best_of_all(values: list[int], z_range: tuple[float, float]) -> None:
    numbers = np.array(values, dtype=np.float64)
    found = threshold.dynamic(torch.from_numpy(numbers), z_range)
    if numbers.std() == 0:
        assert found == float("inf")
        return
    best = naive_detect.dynamic(numbers, *z_range)
    if naive_detect.cost(best, numbers) == float("inf"):
        assert found == float("inf")
    else:
        assert naive_detect.cost(found, numbers) == pytest.approx(naive_detect.cost(best, numbers), abs=1e-12)
        assert found <= best + 1e-12


def test_no_event_in_errors_that_do_not_differ() -> None:
    assert threshold.dynamic(torch.full((50,), 0.3)) == float("inf")
    assert not len(events.find_dynamic(torch.full((50,), 0.3), Alarms(threshold="dynamic")).ends)


@given(st.lists(st.booleans(), min_size=1, max_size=50), st.integers(0, 4))
def test_sequences_are_those_of_the_walk(above: list[bool], padding: int) -> None:
    ends = events.runs_of(events.widened(torch.tensor(above), padding))
    assert [tuple(e) for e in ends.tolist()] == naive_detect.sequences(np.array(above), padding)


def test_a_higher_threshold_never_adds_an_event_row() -> None:
    score = rows(400, 1, seed=3)[:, 0].abs()
    covered = [sum(b - a + 1 for a, b in events.find(score, limit, Alarms()).ends.tolist()) for limit in (0.5, 1.0, 2.0, 3.0)]
    assert covered == sorted(covered, reverse=True)
    assert covered[0] > covered[-1] > 0


def test_release_keeps_an_alarm_until_the_score_has_fallen() -> None:
    score = torch.tensor([0.0, 0.6, 1.2, 0.7, 0.6, 0.4, 0.7, 0.0])
    assert events.find(score, 1.0, Alarms(release=0.5)).ends.tolist() == [[2, 4]]
    assert events.find(score, 1.0, Alarms()).ends.tolist() == [[2, 2]]


def test_merging_padding_and_least_length() -> None:
    score = torch.tensor([0.0, 2, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0])
    assert events.find(score, 1.0, Alarms(merge=2)).ends.tolist() == [[1, 4], [9, 9]]
    assert events.find(score, 1.0, Alarms(merge=2, shortest=2)).ends.tolist() == [[1, 4]]
    assert events.find(score, 1.0, Alarms(padding=1)).ends.tolist() == [[0, 5], [8, 10]]
    found = events.find(score.index_fill(0, torch.tensor([4]), 3.0), 1.0, Alarms(merge=2))
    assert found.at.tolist() == [4, 9]
    assert found.peak.tolist() == [3.0, 2.0]


def test_rolled_dynamic_threshold_finds_what_the_whole_run_hides() -> None:
    score = torch.rand(600, generator=torch.Generator().manual_seed(0)) * 0.1
    score[400:] += 5.0
    score[100] = 1.0
    whole = events.find_dynamic(score, Alarms(threshold="dynamic"))
    rolled = events.find_dynamic(score, Alarms(threshold="dynamic", window=200, step=100))
    assert not any(a <= 100 <= b for a, b in whole.ends.tolist())
    assert any(a <= 100 <= b for a, b in rolled.ends.tolist())


def test_spot_reaches_the_rate_it_states() -> None:
    """Exponential scores: the value exceeded with probability q is −ln q."""
    score = -torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).log()
    for rate in (1e-2, 1e-3, 1e-4):
        assert threshold.spot(score, rate) == pytest.approx(-np.log(rate), rel=0.06)


@pytest.mark.slow
def test_the_tail_finds_shape_and_scale() -> None:
    uniform = torch.rand(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for shape in (0.3, -0.3):
        found = threshold.tail((uniform**-shape - 1) / shape, 1.0)
        assert found.shape == pytest.approx(shape, abs=0.02)
        assert found.scale == pytest.approx(1.0, abs=0.03)


def test_calibration_keeps_the_stated_rate_on_normal_runs_it_has_not_seen() -> None:
    """40 days of rows an hour apart, scores that stay for some hours: four alarms a week at most, about, in 400 further days."""
    score = torch.nn.functional.avg_pool1d(rows(24 * 440, 1, seed=5)[:, 0].abs()[None], 6, 1)[0]
    limit = threshold.calibrated([score[:480], score[480:960]], 4 / 7, 3600.0, 12)
    assert not limit.extrapolated
    assert limit.days == pytest.approx(40.0)
    later = events.find(score[960:], limit.value, Alarms()).ends
    assert 0.5 * 4 / 7 * 400 < len(later) < 1.5 * 4 / 7 * 400


def test_a_rate_that_was_never_seen_is_extrapolated_and_says_so() -> None:
    score = rows(2000, 1, seed=6)[:, 0].abs()
    rare, often = (threshold.calibrated([score], rate, 1.0, 10) for rate in (1.0, 5000.0))
    assert rare.extrapolated
    assert not often.extrapolated
    assert rare.value > float(score.max()) >= often.value


@pytest.mark.parametrize(("behind", "ahead"), [(0, 0), (3, 0), (2, 4)])
def test_rolled_values_pass_over_holes(behind: int, ahead: int) -> None:
    x = rows(40, 2, holes=0.4)
    np.testing.assert_allclose(errors.rolled_mean(x, behind, ahead)[:, 0].numpy(), naive_detect.rolled(x[:, 0].numpy(), behind, ahead), atol=1e-12)
    largest = errors.rolled_max(x, behind, ahead)
    for t in range(40):
        part = x[max(0, t - behind) : t + ahead + 1, 1]
        assert largest[t, 1].isnan() == part.isnan().all()
        assert part.isnan().all() or largest[t, 1] == part[~part.isnan()].max()


@pytest.mark.parametrize("how", ["median", "mean", "last"])
def test_unrolled_windows_are_those_of_the_loop(how: str) -> None:
    starts = [0, 1, 2, 3, 7, 8, 9, 20, 75, 76]
    windows = torch.randn(len(starts), 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = errors.unrolled(windows, torch.tensor(starts), 90, how)
    np.testing.assert_allclose(found.numpy(), naive_detect.unrolled(windows.numpy(), starts, 90, how), atol=1e-12)


def test_area_forgives_errors_that_cancel() -> None:
    error = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])[:, None]
    assert float(errors.area(error, 2, 2)[4, 0]) == 0.0
    assert float(errors.area(torch.ones(8, 1), 2, 2)[4, 0]) == 4.0


def test_the_mean_of_the_largest_passes_over_holes() -> None:
    x = torch.tensor([[1.0, torch.nan, 3.0, 2.0], [torch.nan] * 4])
    assert top_mean(x, 2)[0] == 2.5
    assert top_mean(x, 9)[0] == 2.0
    assert top_mean(x, 2)[1].isnan()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"false_alarms": "1/fortnight"}, 'false alarms are a number a hour, day, week, month, year, as "1/day"; got "1/fortnight"'),
        ({"false_alarms": "-1/day"}, 'a rate of false alarms must be above 0, as "1/day"; got "-1/day"'),
        ({"z_range": (3, 1)}, "z_range must rise"),
        ({"step": 5}, "step=5 moves a window, and no window= is given"),
        ({"window": 50}, 'window=50 rolls the "dynamic" threshold; the "calibrated" one comes from normal runs'),
        ({"threshold": "fixed"}, "threshold must be 'calibrated'"),
    ],
)
def test_wrong_alarms_get_their_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(TaskError) as caught:
        Alarms.model_validate(options)
    assert sentence in str(caught.value)
