"""Naive2, the yardstick of the M4 competition: the last value, after a multiplicative season has been taken out where one is found.

Makridakis, Spiliotis & Assimakopoulos (2020), doi:10.1016/j.ijforecast.2019.04.014, section 3.3 and appendix A.
"""

import numpy as np

CRITICAL = 1.645  # 90 %, two-sided: the competition's own threshold


def naive2(history: np.ndarray, season: int, horizon: int) -> np.ndarray:
    """The `horizon` values after `history` [time]."""
    index = seasonal_index(history, season) if seasonal(history, season) else np.ones(season)
    now = len(history)
    return history[-1] / index[(now - 1) % season] * index[(now + np.arange(horizon)) % season]


def seasonal(history: np.ndarray, season: int) -> bool:
    """Whether the autocorrelation one season back stands out."""
    if len(history) < 3 * season:
        return False
    lags = autocorrelation(history, season)
    limit = CRITICAL / np.sqrt(len(history)) * np.sqrt(1 + 2 * (lags[:-1] ** 2).sum())
    return bool(abs(lags[-1]) > limit)


def autocorrelation(history: np.ndarray, lags: int) -> np.ndarray:
    """At lags 1 to `lags`."""
    gap = history - history.mean()
    return np.array([(gap[lag:] * gap[:-lag]).sum() for lag in range(1, lags + 1)]) / (gap**2).sum()


def seasonal_index(history: np.ndarray, season: int) -> np.ndarray:
    """Mean ratio to the centred moving average at each place in the season, their mean 1."""
    weights = np.ones(season + 1) if season % 2 == 0 else np.ones(season)
    if season % 2 == 0:
        weights[[0, -1]] = 0.5
    trend = np.convolve(history, weights / season, mode="valid")
    lead = len(weights) // 2
    ratio = np.full(len(history), np.nan)
    ratio[lead : lead + len(trend)] = history[lead : lead + len(trend)] / trend
    places = np.arange(len(history)) % season
    index = np.array([np.nanmean(ratio[places == place]) for place in range(season)])
    return index / index.mean()
