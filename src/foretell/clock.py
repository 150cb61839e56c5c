"""Clock: the grid of times that all series of a panel share, counted in whole steps."""

import re
from dataclasses import dataclass
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from .errors import DataError, nearest

Times = np.ndarray  # datetime64[s]
Steps = np.ndarray  # int64, position on the clock

SECONDS = {"s": 1, "min": 60, "h": 3600, "D": 86400, "W": 7 * 86400}
MONTHS = {"MS": 1, "ME": 1, "QS": 3, "QE": 3, "YS": 12, "YE": 12}
ALIASES = {"S": "s", "T": "min", "m": "min", "H": "h", "d": "D", "M": "MS", "Q": "QS", "Y": "YS", "A": "YS", "mo": "MS", "w": "W"}


@dataclass(frozen=True)
class Clock:
    """`start` is step 0; `step` is a count and a unit: "30min", "h", "D", "W", "MS" (month start), "ME" (month end).

    With a `zone`, hours and finer are counted in UTC while the calendar reads local time;
    days and longer are always local dates, so a day of 23 hours is still one step.
    """

    start: np.datetime64
    step: str
    zone: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", np.asarray(self.start).astype("datetime64[s]")[()])
        count, unit = parse_step(self.step)
        object.__setattr__(self, "step", f"{count if count > 1 else ''}{unit}")
        if self.zone is not None:
            check_zone(self.zone)
        if self.monthly and self._date(0) != self.start:
            raise DataError(f"a clock of step {self.step} starts on a month's {'first' if self.unit[-1] == 'S' else 'last'} day; got {self.start}")

    @cached_property
    def count(self) -> int:
        return parse_step(self.step)[0]

    @cached_property
    def unit(self) -> str:
        return parse_step(self.step)[1]

    @property
    def monthly(self) -> bool:
        return self.unit in MONTHS

    @property
    def seconds(self) -> int:
        """Length of a step in seconds; of a month, 30.44 days."""
        return step_seconds(self.step)

    @property
    def sub_daily(self) -> bool:
        return not self.monthly and SECONDS[self.unit] < 86400

    @property
    def season(self) -> int:
        """Steps in the natural cycle: a day of hours, a week of days, a year of months; 1 if there is none."""
        cycle = 31_557_600 if self.seconds >= 7 * 86400 else 7 * 86400 if self.seconds >= 86400 else 86400 if self.seconds >= 60 else 60
        return max(1, round(cycle / self.seconds))

    def times(self, index: Steps | int) -> Times:
        """Steps → times: UTC where `zone` is set and the step is finer than a day, else as written."""
        index = np.asarray(index, dtype=np.int64)
        if self.monthly:
            return self._date(index)
        return np.asarray(self.start + (index * self.seconds).astype("timedelta64[s]"))

    def local(self, index: Steps | int) -> Times:
        """Steps → the time on the wall."""
        times = self.times(index)
        return local_from_utc(times, self.zone) if self.zone and self.sub_daily else times

    def index(self, times: Times) -> Steps:
        """Times (as `times` gives them) → steps; a time between two steps is refused."""
        times = np.asarray(times, dtype="datetime64[s]")
        if self.monthly:
            index = (_month(times) - _month(self.start)) // (self.count * MONTHS[self.unit])
        else:
            index = (times - self.start).astype(np.int64) // self.seconds
        off = np.flatnonzero(np.atleast_1d(self.times(index) != times))
        if len(off):
            raise DataError(f"{np.atleast_1d(times)[off[0]]} is not on the clock (every {self.step} from {self.start})")
        return np.asarray(index, dtype=np.int64)

    def _date(self, index: Steps | int) -> Times:
        ends = self.unit[-1] == "E"
        month = _month(self.start) + np.asarray(index, dtype=np.int64) * self.count * MONTHS[self.unit]
        first = (month + ends).astype("datetime64[M]").astype("datetime64[D]")
        return np.asarray((first - np.timedelta64(int(ends), "D")).astype("datetime64[s]"))


def parse_step(step: str) -> tuple[int, str]:
    """ "30min" → (30, "min"); pandas' older letters are understood.

    >>> parse_step("30T"), parse_step("W-SUN")
    ((30, 'min'), (1, 'W'))
    """
    found = re.fullmatch(r"\s*(\d*)\s*([A-Za-z]+?)(-[A-Za-z]{3})?\s*", str(step))
    unit = found and ALIASES.get(found[2], found[2])
    if not found or unit not in {**SECONDS, **MONTHS} or found[1] == "0":
        raise DataError(f'no step "{step}": {nearest(str(step), [*SECONDS, *MONTHS])}, with a count before it if wanted, as in 30min')
    return int(found[1] or 1), str(unit)


def step_seconds(step: str) -> int:
    """Length of a step in seconds; of a month, 30.44 days.

    >>> step_seconds("30min")
    1800
    """
    count, unit = parse_step(step)
    return count * (MONTHS[unit] * 2_629_800 if unit in MONTHS else SECONDS[unit])


def check_zone(zone: str) -> ZoneInfo:
    """The zone, or the sentence for one that does not exist."""
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        from zoneinfo import available_timezones

        raise DataError(f'no time zone "{zone}": {nearest(zone, sorted(available_timezones()))}') from None


def local_from_utc(times: Times, zone: str) -> Times:
    """UTC instants → wall time; one lookup per distinct quarter hour, where alone a zone can change."""
    info = check_zone(zone)
    times = np.asarray(times, dtype="datetime64[s]")
    quarters, back = np.unique(times.astype(np.int64) // 900, return_inverse=True)
    offset = np.array([_offset(int(q) * 900, info) for q in quarters], dtype=np.int64)
    return np.asarray(times + offset[back].reshape(times.shape).astype("timedelta64[s]"))


def utc_from_local(times: Times, zone: str, fold: int | None = None) -> Times:
    """Wall time → UTC. An hour that does not exist is refused; one that comes twice too, unless `fold` (0 first, 1 second) says which."""
    from datetime import UTC, datetime

    info = check_zone(zone)
    times = np.asarray(times, dtype="datetime64[s]")
    walls, back = np.unique(times.astype(np.int64), return_inverse=True)
    utc = np.empty_like(walls)
    for n, wall in enumerate(walls):
        naive = datetime.fromtimestamp(int(wall), UTC).replace(tzinfo=None)
        first, second = (int(naive.replace(tzinfo=info, fold=f).timestamp()) for f in (0, 1))
        if first > second:
            raise DataError(f"{naive} does not exist in {zone}: clocks are put forward there; is the file in another zone, or in UTC?")
        if first < second and fold is None:
            raise DataError(f"{naive} comes twice in {zone} (clocks are put back): say fold=0 for the first or fold=1 for the second")
        utc[n] = second if fold else first
    return utc[back].reshape(times.shape).astype("datetime64[s]")


def _offset(second: int, info: ZoneInfo) -> int:
    from datetime import UTC, datetime

    shift = datetime.fromtimestamp(second, UTC).astimezone(info).utcoffset()
    return int(shift.total_seconds()) if shift is not None else 0


def _month(times: Times | np.datetime64) -> np.ndarray:
    return np.asarray(times, dtype="datetime64[M]").astype(np.int64)
