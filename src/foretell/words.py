"""What a picture or a report says, in English and Korean: sentences, numbers, dates and spans of time."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from math import floor, isfinite, log10

import numpy as np

from .clock import Clock
from .errors import TaskError, nearest

LANGUAGES = ("en", "ko")
UNITS = {
    "en": {"s": "second", "min": "minute", "h": "hour", "D": "day", "W": "week", "M": "month", "Y": "year"},
    "ko": {"s": "초", "min": "분", "h": "시간", "D": "일", "W": "주", "M": "개월", "Y": "년"},
}
WEEKDAYS = {"en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), "ko": tuple("월화수목금토일")}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LARGER = {"s": (60, 120, "min"), "min": (60, 60, "h"), "h": (24, 72, "D"), "M": (12, 24, "Y")}


@dataclass(frozen=True)
class Words:
    """One language: `words["forecast"]`, and numbers, dates and spans as its readers write them."""

    lang: str
    table: Mapping[str, str]

    def __getitem__(self, key: str) -> str:
        return self.table[key]

    def named(self, prefix: str, name: str) -> str:
        """The word for a name of ours ("ridge"); a name of the user's stays as it is."""
        return self.table.get(prefix + name, name)

    def count(self, series: int) -> str:
        return self["one_series"] if series == 1 else self["many_series"].format(count=f"{series:,}")

    def length(self, clock: Clock, steps: int) -> str:
        """So many steps in hours, days or months: "24 hours", "24시간"."""
        unit = "M" if clock.unit in ("MS", "ME", "QS", "QE", "YS", "YE") else clock.unit
        size = float(steps * clock.count * {"Q": 3, "Y": 12}.get(clock.unit[0], 1))
        while unit in LARGER and size >= LARGER[unit][1] and (size % LARGER[unit][0] == 0 or size >= 4 * LARGER[unit][1]):
            size, unit = size / LARGER[unit][0], LARGER[unit][2]
        number = f"{size:,.0f}" if round(size, 1) == int(size) else f"{size:,.1f}"
        return f"{number}{UNITS['ko'][unit]}" if self.lang == "ko" else f"{number} {UNITS['en'][unit]}{'' if size == 1 else 's'}"

    def step(self, clock: Clock) -> str:
        """The clock's step: "hour", "30 minutes"; "1시간", "30분"."""
        full = self.length(clock, 1)
        return full.removeprefix("1 ") if self.lang == "en" else full

    def moment(self, time: np.datetime64, clock: Clock) -> str:
        """A time as said in a sentence: "Sat 30 Dec 2017, 23:00"; "2017년 12월 30일(토) 23:00"."""
        day, month, year = (int(part) for part in reversed(str(time.astype("datetime64[D]")).split("-")))
        hour = f"{' ' if self.lang == 'ko' else ', '}{stamp(time, clock)[11:]}" if clock.sub_daily else ""
        if clock.monthly:
            return f"{year}년 {month}월" if self.lang == "ko" else f"{MONTHS[month - 1]} {year}"
        weekday = WEEKDAYS[self.lang][(int(time.astype("datetime64[D]").astype(np.int64)) + 3) % 7]
        return f"{year}년 {month}월 {day}일({weekday}){hour}" if self.lang == "ko" else f"{weekday} {day} {MONTHS[month - 1]} {year}{hour}"

    def period(self, first: np.datetime64, last: np.datetime64, clock: Clock) -> str:
        """From a time to another; the day is said once where it is the same."""
        same = clock.sub_daily and first.astype("datetime64[D]") == last.astype("datetime64[D]")
        end = stamp(last, clock)[11:] if same else self.moment(last, clock)
        return self["period"].format(first=self.moment(first, clock), last=end)


def words(lang: str) -> Words:
    """The words of a language, "en" or "ko"."""
    if lang not in LANGUAGES:
        raise TaskError(f'no language "{lang}": {nearest(lang, LANGUAGES)}')
    return Words(lang, json.loads(text(f"{lang}.json")))


def text(name: str) -> str:
    """A text file that comes with the package: the words of a language, the style and script of a report."""
    return (files("foretell") / "texts" / name).read_text(encoding="utf-8")


def wall(clock: Clock, step: int) -> np.datetime64:
    """The time on the wall at a clock step."""
    time: np.datetime64 = clock.local(np.array([step]))[0]
    return time


def stamp(time: np.datetime64, clock: Clock) -> str:
    """A time as written in a table: 2017-12-30 23:00; whole days without the hour.

    >>> stamp(np.datetime64("2017-12-30T23:00:00"), Clock(np.datetime64("2017-01-01"), "h"))
    '2017-12-30 23:00'
    """
    if not clock.sub_daily:
        return str(time.astype("datetime64[D]"))
    return str(time.astype("datetime64[s]" if clock.unit == "s" else "datetime64[m]")).replace("T", " ")


def percent(share: float, digits: int = 0) -> str:
    r"""0.345 → "34 %" or, with one digit, "34.5 %"; "–" where there is none.

    >>> percent(0.8) == "80\u00a0%", percent(0.789, 1) == "78.9\u00a0%"
    (True, True)
    """
    return f"{number(100 * share, digits)}\u00a0%" if isfinite(share) else "–"


def number(value: float, digits: int | None = None) -> str:
    """A number with thousands commas, to four figures or so many decimals; "–" where there is none.

    >>> number(31234.56), number(1.2345), number(-0.00012), number(float("nan"))
    ('31,235', '1.234', '−0.00012', '–')
    """
    if not isfinite(value):
        return "–"
    text = f"{value:,.{decimals([value]) if digits is None else digits}f}"
    text = text.rstrip("0").rstrip(".") if digits is None and "." in text else text
    return text.removeprefix("-") if not text.strip("-0.") else text.replace("-", "\u2212")


def decimals(values: list[float]) -> int:
    """Decimals that give the largest of a column four figures, so that a column lines up."""
    largest = max((abs(v) for v in values if isfinite(v)), default=0.0)
    return 0 if largest == 0 else max(0, min(8, 3 - floor(log10(largest))))
