"""Reading: how a source is to be read; every option of `read` and `check` as one frozen value."""

import datetime
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from ..clock import parse_step
from ..errors import DataError, TaskError
from ..spec import Spec

How = Literal["mean", "sum", "last", "max", "min"]


def _text(value: object) -> object:
    return str(value) if isinstance(value, datetime.date | np.datetime64) else value


def _columns(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Reading(Spec):
    """What a source does not say itself.

    `id` and `time` name columns (several are joined), `"auto"` finds them, `None` says that there is none: one series; rows are
    equal steps from `start`. `channels` keeps only these. `step` is the clock's ("h", "D", "W", "MS"), `zone` the time zone of the
    wall times, `fold` which of two equal autumn hours is meant (0, 1, or "order": as the rows follow each other).
    `resample` brings rows onto longer or even steps, each channel by `how`. `derive` makes channels from channels
    ({"ctr": "clicks / impressions"}). `labels` are facts that stay the same in a series; text columns that do are found.
    `wide=True`: one row a series, one column a step. `series` keeps only these. A folder with the files of M5 is read at the level
    `hierarchy` ("state-item"), its sales from the file `sales` if that is not Kaggle's name.
    """

    id: Annotated[str | tuple[str, ...] | None, BeforeValidator(_columns)] = "auto"
    time: Annotated[str | tuple[str, ...] | None, BeforeValidator(_columns)] = "auto"
    channels: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = None
    step: str | None = None
    start: Annotated[str | None, BeforeValidator(_text)] = None
    zone: str | None = None
    fold: Literal[0, 1, "order"] | None = None
    resample: str | None = None
    how: How | Mapping[str, How] = "mean"
    derive: Mapping[str, str] = Field(default_factory=dict)
    labels: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    wide: bool | None = None
    series: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = None
    hierarchy: str = "item-store"
    sales: str | None = None
    encoding: str | None = None
    dtype: Literal["float32", "float64"] = "float32"

    @field_validator("step", "resample")
    @classmethod
    def _a_step(cls, value: str | None) -> str | None:
        try:
            _ = value and parse_step(value)
        except DataError as error:
            raise ValueError(f"has {error}") from None
        return value

    @field_validator("start")
    @classmethod
    def _a_time(cls, value: str | None) -> str | None:
        try:
            return value if value is None else str(np.datetime64(value, "s"))
        except ValueError:
            raise ValueError("must be a time like 2024-01-31 or 2024-01-31 13:00") from None


def combined(reading: Reading | None, given: Mapping[str, object]) -> Reading:
    """A reading with some options given beside it; those left at their defaults change nothing. Options at odds are refused."""
    base = reading or Reading()
    said = {name: value for name, value in given.items() if value != Reading.model_fields[name].default}
    whole = Reading.model_validate({**base.model_dump(exclude_unset=True), **said})
    if whole.resample and whole.step:
        raise TaskError(f'step="{whole.step}" says what the rows are and resample="{whole.resample}" what they shall be: give one')
    if whole.resample is None and whole.how != "mean":
        raise TaskError("how= says how rows are brought together by resample=, which is not given")
    if whole.fold is not None and whole.zone is None:
        raise TaskError("fold= tells two equal hours of a time zone apart: give zone= too")
    return whole
