"""Timing: the rows of many series put on one clock: wall times to UTC, the step found, every row given its step."""

from typing import NamedTuple

import numpy as np

from ..clock import MONTHS, SECONDS, Clock, check_zone, local_from_utc, parse_step, utc_from_local
from ..errors import DataError
from .tables import Log

Times = np.ndarray  # datetime64[s]
Codes = np.ndarray  # int64, the number of a row's series
DAY = 86400


class Grid(NamedTuple):
    """The common step of some times. `off` marks rows, sorted by series and time, that follow the one before by no whole number of steps."""

    step: str
    off: np.ndarray


# ---------------------------------------------------------------- the step


def find_grid(code: Codes, time: Times) -> Grid | None:
    """The most common difference between a series' rows, as a step; None where no series has two. Rows are sorted by series and time."""
    gap, after = _gaps(code, time)
    if not len(gap):
        return None
    for unit in ("MS", "ME"):
        if _on_month_days(time[:99], unit) and _on_month_days(time, unit):
            month = time.astype("datetime64[M]").astype(np.int64)
            return _monthly_grid(month, after, unit)
    usual = _most_common(gap)
    off = np.zeros(len(time), dtype=bool)
    off[after[gap % usual != 0]] = True
    return Grid(step_text(usual), off)


def _on_month_days(time: Times, unit: str) -> bool:
    """True if all times are midnights of a month's first day, or with "ME" its last."""
    if (time.astype(np.int64) % DAY).any():
        return False
    first = time + np.timedelta64(DAY if unit == "ME" else 0, "s")
    return bool((first.astype("datetime64[M]") == first).all())


def _gaps(code: Codes, time: Times) -> tuple[np.ndarray, np.ndarray]:
    """Seconds between neighbouring rows of one series, duplicates left out, and the later row's position."""
    gap = np.diff(time.astype(np.int64))
    after = np.flatnonzero((np.diff(code) == 0) & (gap > 0)) + 1
    return gap[after - 1], after


def _monthly_grid(month: np.ndarray, after: np.ndarray, unit: str) -> Grid:
    gap = month[after] - month[after - 1]
    usual = _most_common(gap)
    off = np.zeros(len(month), dtype=bool)
    off[after[gap % usual != 0]] = True
    for size, letter in ((12, "Y"), (3, "Q")):
        if usual % size == 0:
            return Grid(_counted(usual // size, letter + unit[1]), off)
    return Grid(_counted(usual, unit), off)


def _most_common(gap: np.ndarray) -> int:
    values, counts = np.unique(gap, return_counts=True)
    return int(values[counts.argmax()])


def step_text(seconds: int) -> str:
    """Seconds as a step, in the largest unit that counts whole.

    >>> step_text(1800), step_text(7 * 86400), step_text(2 * 86400)
    ('30min', 'W', '2D')
    """
    unit = next(u for u in ("W", "D", "h", "min", "s") if seconds % SECONDS[u] == 0)
    return _counted(seconds // SECONDS[unit], unit)


def _counted(count: int, unit: str) -> str:
    return f"{count if count > 1 else ''}{unit}"


# ---------------------------------------------------------------- rows on the clock


def on_clock(code: Codes, time: Times, series: tuple[str, ...], step: str | None, zone: str | None, log: Log) -> tuple[Clock, np.ndarray]:
    """The clock that all rows share, and each row's step on it; rows are sorted by series and time. Off-grid times are refused; a log
    that goes on rounds them down."""
    grid = find_grid(code, time)
    if step is None and grid is None:
        raise DataError('every series has one row only, so the step between rows is not known: say it with step=, as in step="D"')
    if step is None and grid is not None:
        step = grid.step
        if grid.off.any():
            log.wrong(_mixed(code, time, series, grid))
    assert step is not None
    clock = Clock(_anchor(time.min(), step, log), step, zone)
    index = _floor_index(clock, time)
    off = clock.times(index) != time
    if off.any() and not (log.problems and grid is not None and grid.off.any()):
        log.wrong(_off_grid(code, time, series, clock, int(np.flatnonzero(off)[0]), int(off.sum())))
    return clock, index


def _anchor(first: np.datetime64, step: str, log: Log) -> np.datetime64:
    _, unit = parse_step(step)
    if unit not in MONTHS:
        return first
    ends = int(unit[-1] == "E")
    month = first.astype("datetime64[M]")
    date = ((month + ends).astype("datetime64[D]") - ends).astype("datetime64[s]")
    if date != first:
        side = "last" if ends else "first"
        log.wrong(f'step="{step}" counts from the {side} day of a month, but the first time is {first}: say resample="{step}" to bring the rows there')
    return np.datetime64(date)


def _floor_index(clock: Clock, time: Times) -> np.ndarray:
    if not clock.monthly:
        return np.asarray((time - clock.start).astype("timedelta64[s]").astype(np.int64) // clock.seconds)
    month = time.astype("datetime64[M]").astype(np.int64) - clock.start.astype("datetime64[M]").astype(np.int64)
    return np.asarray(month // (clock.count * MONTHS[clock.unit]))


def _mixed(code: Codes, time: Times, series: tuple[str, ...], grid: Grid) -> str:
    row = int(np.flatnonzero(grid.off)[0])
    gap, _ = _gaps(code, time)
    common = int(np.gcd.reduce(gap))
    _, unit = parse_step(grid.step)
    usual = Clock(np.datetime64("2000-01-31" if unit[-1] == "E" else "2000-01-01"), grid.step).seconds
    finer = f'step="{step_text(common)}", which fits them all and makes the rest gaps, or ' if unit not in MONTHS and common * 4 >= usual else ""
    where = f' in series "{series[code[row]]}"' if len(series) > 1 else ""
    day = _day_of_month(time)
    if day:
        return f'the rows are months apart, all on day {day} of the month: say resample="MS" to count from the first of each month'
    return (
        f"the times are not on one grid{where}: most steps are {grid.step}, but {_text(time[row])} follows {_text(time[row - 1])}, "
        f'and so {int(grid.off.sum())} of {len(time)} rows. Say {finer}resample="{grid.step}" to bring them onto even steps'
    )


def _day_of_month(time: Times) -> int:
    """The day, if every time is on the same day of its month, 28 days or more apart; else 0."""
    days = (time.astype("datetime64[D]") - time.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    return int(days[0]) if len(time) > 2 and (days == days[0]).all() and 1 < days[0] < 29 else 0


def _off_grid(code: Codes, time: Times, series: tuple[str, ...], clock: Clock, row: int, count: int) -> str:
    whose = f' of series "{series[code[row]]}"' if len(series) > 1 else ""
    return (
        f"{_text(time[row])}{whose} is not on the grid of every {clock.step} from {_text(clock.start)}, and so {count} of {len(time)} rows: "
        f'say another step=, or resample="{clock.step}" to bring them onto even steps'
    )


def _text(time: np.datetime64) -> str:
    return str(time).replace("T", " ").removesuffix(" 00:00:00")


# ---------------------------------------------------------------- zones


def to_utc(code: Codes, wall: Times, zone: str, fold: int | str | None, log: Log) -> Times:
    """Wall times → UTC. An hour that comes twice is told apart by `fold`: 0 the first, 1 the second, "order" as the rows follow each other."""
    check_zone(zone)
    if fold != "order":
        try:
            return utc_from_local(wall, zone, int(fold) if fold is not None else None)
        except DataError as error:
            log.wrong(f"{error}{_order_hint(code, wall, fold)}")
            return utc_from_local(np.where(_missing_hour(wall, zone), wall + np.timedelta64(3600, "s"), wall), zone, 0)
    first, second = utc_from_local(wall, zone, 0), utc_from_local(wall, zone, 1)
    return np.where(repeated_times(code, wall) & (first != second), second, first)


def _order_hint(code: Codes, wall: Times, fold: int | str | None) -> str:
    if fold is not None:
        return ""
    order = ', or fold="order" if the file has both, one after the other' if repeated_times(code, wall).any() else ""
    return f"{order} (an option of Reading)"


def _missing_hour(wall: Times, zone: str) -> np.ndarray:
    # Wall times that no instant maps to: going to UTC with the winter offset and back does not return to them.
    distinct, back = np.unique(wall, return_inverse=True)
    around = [local_from_utc(distinct + np.timedelta64(h, "h"), zone) - np.timedelta64(h, "h") - distinct for h in (-24, 24)]
    lands = [local_from_utc(distinct - shift, zone) == distinct for shift in around]
    return np.asarray(~(lands[0] | lands[1])[back])


def repeated_times(code: Codes, wall: Times) -> np.ndarray:
    """Marks rows whose (series, time) came before in the file."""
    order = in_order(code, wall)
    whose, when = (code, wall) if order is None else (code[order], wall[order])
    same = (np.diff(whose) == 0) & (np.diff(when.astype(np.int64)) == 0)
    again = np.zeros(len(wall), dtype=bool)
    again[slice(1, None) if order is None else order[1:]] = same
    return again


def in_order(code: Codes, time: Times) -> np.ndarray | None:
    """The rows by series and time, equal ones as in the file; None if they are so already."""
    later, ahead = np.diff(code), np.diff(time.astype(np.int64))
    if ((later > 0) | ((later == 0) & (ahead >= 0))).all():
        return None
    return np.lexsort((time.astype(np.int64), code))


def sub_daily(time: Times, step: str | None) -> bool:
    """True if a step finer than a day is asked for, or some time is not midnight."""
    if step is not None:
        _, unit = parse_step(step)
        return unit not in MONTHS and SECONDS[unit] < DAY
    return bool((time.astype(np.int64) % DAY).any())


def autumn_hour(time: Times) -> bool:
    """True if doubled times look like clocks put back: Sundays, between midnight and three, in the months when this happens."""
    day = time.astype("datetime64[D]")
    sunday = (day.astype(np.int64) + 4) % 7 == 0
    month = time.astype("datetime64[M]").astype(np.int64) % 12 + 1
    hour = (time - day).astype("timedelta64[s]").astype(np.int64) / 3600
    return bool((sunday & np.isin(month, (4, 10, 11)) & (hour < 3.5)).all())


# ---------------------------------------------------------------- periods


def period_starts(time: Times, step: str) -> tuple[Times, Times]:
    """The period of length `step` that each time lies in: its time on the clock, and its length in seconds. Weeks start on Monday."""
    count, unit = parse_step(step)
    if unit in MONTHS:
        size = count * MONTHS[unit]
        month = time.astype("datetime64[M]").astype(np.int64) // size * size
        first, after = (m.astype("datetime64[M]").astype("datetime64[s]") for m in (month, month + size))
        ends = unit[-1] == "E"
        return (after - np.timedelta64(DAY, "s") if ends else first), (after - first).astype(np.int64)
    size = count * SECONDS[unit]
    shift = 3 * DAY if unit == "W" else 0  # 1970-01-01 was a Thursday
    seconds = (time.astype(np.int64) + shift) // size * size - shift
    return seconds.astype("datetime64[s]"), np.full(len(time), size, dtype=np.int64)
