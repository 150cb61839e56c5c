"""Calendar channels: what the clock alone decides, for any step, past the end of the data too."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .clock import Clock, Steps, Times
from .errors import TaskError, nearest
from .panel import CYCLES, FLAGS, Recipe


def cyclic(position: Int[Tensor, "..."] | Float[Tensor, "..."], period: float | int | Float[Tensor, "..."]) -> Float[Tensor, "... 2"]:
    """Sine and cosine of the position's angle, float64: `period` positions make one turn, so the last stands beside the first.

    >>> cyclic(torch.tensor(6), 24.0)
    tensor([1.0000e+00, 6.1232e-17], dtype=torch.float64)
    """
    angle = 2 * torch.pi * position.double() / period
    return torch.stack([angle.sin(), angle.cos()], -1)


def columns(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    """Names of the channels that `evaluate` gives for these recipes; a seasonal index is not among them: it is fitted."""
    return tuple(name for recipe in recipes if recipe.kind != "index" for name in recipe.channels)


def evaluate(recipes: Sequence[Recipe], clock: Clock, index: Int[Tensor, " time"] | Steps, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """[time, channel]: the channels `columns(recipes)` at these clock steps, from the time on the wall there.

    Cycles count from 0 (midnight, Monday, the first of a month, January) and are sine and cosine; flags are 0 or 1.
    """
    local = clock.local(np.asarray(index))
    wanted = [recipe for recipe in recipes if recipe.kind != "index"]
    turns = iter(_turns([recipe.kind for recipe in wanted if recipe.kind in CYCLES], local))
    parts = [next(turns) if recipe.kind in CYCLES else torch.from_numpy(_flag(recipe, local)).double()[:, None] for recipe in wanted]
    return torch.cat(parts, 1).to(dtype) if parts else torch.empty(len(index), 0, dtype=dtype)


def _turns(kinds: Sequence[str], local: Times) -> Sequence[Float[Tensor, "time 2"]]:
    """The sine and cosine of every cycle, computed together."""
    if not kinds:
        return ()
    places, periods = zip(*(_cycle(kind, local) for kind in kinds), strict=True)
    position, period = np.stack(places).astype(np.float64), np.stack([np.broadcast_to(p, local.shape) for p in periods])
    return tuple(cyclic(torch.from_numpy(position), torch.from_numpy(period)))


def _flag(recipe: Recipe, local: Times) -> np.ndarray:
    if recipe.kind == "weekend":
        return np.asarray(_weekday(local) >= 5)
    if recipe.kind == "holiday":
        return _on(local, holidays_between(recipe.argument, local))
    raise TaskError(f'no calendar channel "{recipe.kind}": {nearest(recipe.kind, (*CYCLES, *FLAGS, "holiday"))}')


def _on(local: Times, days: np.ndarray) -> np.ndarray:
    """Whether each time falls on one of these days, which rise."""
    dates = local.astype("datetime64[D]")
    place = np.searchsorted(days, dates)
    return np.asarray(np.append(days, np.datetime64("NaT"))[place] == dates)


def _cycle(kind: str, local: Times) -> tuple[np.ndarray, float | np.ndarray]:
    """Where each time stands in its cycle, and how long the cycle is there."""
    if kind == "minute":
        return _since(local, 3600) / 60, 60.0
    if kind == "hour":
        return _since(local, 86400) / 3600, 24.0
    if kind == "weekday":
        return _weekday(local), 7.0
    if kind == "month":
        return local.astype("datetime64[M]").astype(np.int64) % 12, 12.0
    if kind in ("dayofyear", "halfyear"):
        return _days_since(local, "Y"), 365.25 / (2 if kind == "halfyear" else 1)
    month = local.astype("datetime64[M]")
    return _days_since(local, "M"), ((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")) / np.timedelta64(1, "D")


def _since(local: Times, cycle: int) -> np.ndarray:
    """Seconds since the hour (of 3600) or the day (of 86400) began."""
    return np.asarray(local.astype(np.int64) % cycle)


def _days_since(local: Times, unit: str) -> np.ndarray:
    """Whole days since the month ("M") or the year ("Y") began."""
    days = local.astype("datetime64[D]") - local.astype(f"datetime64[{unit}]").astype("datetime64[D]")
    return np.asarray(days.astype(np.int64))


def _weekday(local: Times) -> np.ndarray:
    """Monday = 0; day 0 of the Unix count was a Thursday."""
    return np.asarray((local.astype(np.int64) // 86400 + 3) % 7)


def holidays_between(land: str, local: Times) -> np.ndarray:
    """The public holidays (rising datetime64[D]) of every year that these times touch."""
    if not local.size:
        return np.empty(0, "datetime64[D]")
    first, last = (int(time.astype("datetime64[Y]").astype(np.int64)) + 1970 for time in (local.min(), local.max()))
    years = [holidays_of(land, year) for year in range(first, last + 1)]
    return np.concatenate(years)


@lru_cache(maxsize=4096)
def holidays_of(land: str, year: int) -> np.ndarray:
    """The public holidays of a country ("MA") or a region of it ("DE-BY") in a year, as datetime64[D]."""
    import holidays

    country, region = check_land(land)
    days = holidays.country_holidays(country, subdiv=region or None, years=year)
    return np.array(sorted(days), "datetime64[D]")


@lru_cache(maxsize=256)
def check_land(land: str) -> tuple[str, str]:
    """From "DE-BY" to ("DE", "BY"), or the sentence for a country or region whose holidays are not known."""
    import holidays

    lands = holidays.list_supported_countries()
    country, _, region = land.partition("-")
    if country not in lands:
        raise TaskError(f'no holidays of a country "{country}": {nearest(country, lands)}; two letters as in "MA", a region after a hyphen as in "DE-BY"')
    if region and region not in lands[country]:
        raise TaskError(f'no holidays of a region "{region}" of {country}: {nearest(region, lands[country])}')
    return country, region
