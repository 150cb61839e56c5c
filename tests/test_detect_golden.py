"""Detection against the values recorded from the notebook: features, windows, thresholds, sequences, scores."""

from pathlib import Path

import numpy as np
import pytest
import torch

import naive_detect
from foretell.detect import events, threshold
from foretell.detect.features import aggregate, difference, lagged, smooth, window_starts

FEATURES = ["lags0_diffs0_smooth0_dabs0_fabs0", "lags0_diffs1_smooth0_dabs0_fabs0", "lags2_diffs1_smooth3_dabs0_fabs0", "lags1_diffs2_smooth4_dabs1_fabs0"]
FEATURES += ["lags0_diffs0_smooth5_dabs0_fabs1"]


@pytest.mark.parametrize("name", FEATURES)
def test_features(golden: Path, name: str) -> None:
    said = np.load(golden / "featurize.npz", allow_pickle=False)
    count = {part.rstrip("0123456789"): int(part.lstrip("abcdefghijklmnopqrstuvwxyz")) for part in name.split("_")}
    x = difference(torch.from_numpy(said["frame"]), lag=count["diffs"])
    x = lagged(smooth(x.abs() if count["dabs"] else x, count["smooth"]), count["lags"])
    x = x.abs() if count["fabs"] else x
    columns = [f"{c}_lag{n}" if count["lags"] else str(c) for n in range(count["lags"] + 1) for c in said["columns"]]
    assert sorted(columns) == said[f"{name}_columns"].tolist()
    ours = x[~x.isnan().any(1)][:, np.argsort(columns)]
    np.testing.assert_allclose(ours.numpy(), said[name], rtol=0, atol=1e-10)


def test_aggregates_and_windows(golden: Path) -> None:
    said = np.load(golden / "aggregate_windows.npz", allow_pickle=False)
    frame = torch.from_numpy(said["frame"])[:, 1:]
    np.testing.assert_array_equal(aggregate(frame, 1).numpy(), said["mean1"])
    np.testing.assert_allclose(aggregate(frame, 7, ("mean", "max")).numpy(), said["mean_max7"], rtol=0, atol=1e-12)
    starts = window_starts(torch.zeros(len(frame), dtype=torch.bool), 10, ahead=1, stride=3)
    windows = frame.unfold(0, 10, 1).movedim(1, 2)[starts]
    np.testing.assert_array_equal(windows.numpy(), said["win_X"])
    np.testing.assert_array_equal(frame[starts + 10, :1].numpy(), said["win_y"])
    np.testing.assert_array_equal(said["frame"][starts, 0], said["win_X_index"])


@pytest.mark.parametrize("number", range(6))
def test_thresholds(golden: Path, number: int) -> None:
    said = np.load(golden / f"anomaly_thresholds_{number}.npz", allow_pickle=False)
    errors = torch.from_numpy(said["errors"])
    assert threshold.sigma(errors, 3.0) == pytest.approx(float(said["fixed_threshold"]), abs=1e-12)
    tried = errors.mean() + torch.from_numpy(said["z"]) * errors.std(correction=0)
    np.testing.assert_allclose(threshold.costs(errors, tried).numpy(), said["z_cost"], rtol=0, atol=1e-12)
    best = threshold.dynamic(errors)
    theirs = naive_detect.cost(float(said["find_threshold"]), said["errors"])
    assert naive_detect.cost(best, said["errors"]) <= theirs + 1e-12
    assert best == naive_detect.dynamic(said["errors"], 0.0, 10.0)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("kind", ["find", "fixed"])
@pytest.mark.parametrize("padding", [0, 5])
def test_sequences(golden: Path, number: int, kind: str, padding: int) -> None:
    said = np.load(golden / f"anomaly_thresholds_{number}.npz", allow_pickle=False)
    errors, limit = torch.from_numpy(said["errors"]), float(said[f"{kind}_threshold"])
    mask = events.widened(errors > limit, padding)
    ends, below = events.runs_of(mask), events.largest_outside(errors, mask)
    peak = events.peaks(errors, ends)
    assert ends.tolist() == said[f"{kind}_pad{padding}_sequences"].tolist()
    assert below == float(said[f"{kind}_pad{padding}_max_below"])
    table = said[f"{kind}_pad{padding}_max_errors"]
    assert sorted([*zip(*ends.T.tolist(), peak.tolist(), strict=True), (-1.0, -1.0, below)]) == sorted(map(tuple, table.tolist()))
    kept = events.pruned(ends, peak, below, 0.1)
    theirs = said[f"{kind}_pad{padding}_pruned"].reshape(-1, 3)
    np.testing.assert_array_equal(torch.cat([ends[kept].double(), peak[kept][:, None]], 1).numpy(), theirs)
    severity = events.severity(peak[kept], limit, float(errors.mean() + errors.std(correction=0)))
    scores = torch.cat([ends[kept].double() + 100, severity[:, None]], 1).numpy()
    np.testing.assert_allclose(scores, said[f"{kind}_pad{padding}_scores"].reshape(-1, 3), rtol=0, atol=1e-12)
