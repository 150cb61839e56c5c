"""The slow, obvious twins of what demand needs: one series, one number after the other."""

import math


def mean_of(values: list[float]) -> float | None:
    """Of what was observed; None where nothing was."""
    seen = [v for v in values if math.isfinite(v)]
    return sum(seen) / len(seen) if seen else None


def seasonal_features(
    past: list[float], known_past: list[list[float]], future: list[list[float]], season: int, seasons: int
) -> tuple[list[list[float]], float]:
    """One row a step ahead, and the level they start from. `known_past` are measured known channels, first in `future` too; NaN = not observed."""
    fit = max(1, min(seasons, len(past) // season))
    half, whole = min(len(past), max(1, fit // 2) * season), min(len(past), fit * season)
    level = mean_of(past[-half:]) or 0.0
    rows = []
    for step, ahead in enumerate(future):
        row = [level]
        for span in (min(season, len(past)), whole):
            found = mean_of(past[-span:])
            row.append(0.0 if found is None else found - level)
        for span in (half, whole):
            same = [past[len(past) - back] for back in range(1, span + 1) if len(past) >= season and (back - 1 + step + 1) % season == 0]
            found = mean_of(same)
            row.append(0.0 if found is None else found - level)
        usual = [mean_of([line[k] for line in known_past[-half:]]) or 0.0 for k in range(len(known_past[0]))]
        usual += [0.0] * (len(ahead) - len(usual))
        away = [value - mean for value, mean in zip(ahead, usual, strict=True)]
        rows.append(row + away + [value * level for value in away])
    return rows, level
