"""Run folders: what a command leaves behind, there whole or not at all."""

import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..clock import Clock
from ..diagnosis import Advice, Course, Diagnosis, Errors, Finding
from ..errors import FileError
from ..files import read, write
from ..frames import to_frame
from ..hierarchy import only
from ..outcome import Forecast, Part
from ..panel import Names, Recipe
from ..scoreboard import Backtest
from ..sketch import Sketch
from ..storage import decode, encode
from ..train import Curves
from ..words import words
from .flags import Output

TYPED: ContextVar[tuple[str, ...]] = ContextVar("TYPED", default=())  # the words of the running command, for its metrics.json
PIECE = 2000  # series whose forecasts are written at a time
METRICS, MODEL, RESULTS, REPORT = "metrics.json", "model.foretell", "results.foretell", "report.html"


@dataclass(frozen=True, eq=False)
class Results:
    """What a run has to show: the forecast, the test, how the losses fell in it, and what that says of the nets."""

    forecast: Forecast | None
    backtest: Backtest | None
    curves: Mapping[str, Curves]
    diagnosis: Diagnosis | None = None


KINDS: tuple[type[Any], ...] = (Clock, Names, Recipe, Part, Forecast, Backtest, Curves, Errors, Course, Advice, Finding, Diagnosis, Results)
VALUES = {kind.__name__: kind for kind in KINDS}


@dataclass(frozen=True)
class Place:
    """Where a run folder will stand."""

    path: Path
    force: bool = False


def place(output: Output, usual: str) -> Place:
    """The folder asked for, or the first free one of the usual name; FileError, before any work, if it cannot be."""
    words(output.lang)  # and the language, if there is none such
    if output.out is None:
        free = next(p for n in count(1) if not (p := Path(usual if n == 1 else f"{usual}-{n}")).exists())
        return _writable(Place(free))
    if output.out.exists() and not output.force:
        raise FileError(f'"{output.out}" is there already: choose another --out, or replace it with --force')
    if output.out.exists() and not _replaceable(output.out):
        raise FileError(f'"{output.out}" is no run folder of foretell (no {METRICS} in it), so --force does not replace it: choose another --out')
    return _writable(Place(output.out, output.force))


def _replaceable(path: Path) -> bool:
    return path.is_dir() and ((path / METRICS).is_file() or not any(path.iterdir()))


def _writable(where: Place) -> Place:
    above = next(p for p in where.path.absolute().parents if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise FileError(f'"{where.path}" cannot be written: "{above}" is {"not writable" if above.is_dir() else "a file"}; choose another --out')
    return where


@contextmanager
def staged(where: Place) -> Iterator[Path]:
    """A temporary folder beside the place, which takes it when all went well; otherwise nothing has changed."""
    mark = secrets.token_hex(6)
    new, old = (where.path.absolute().with_name(f".{where.path.name}.{mark}.{kind}") for kind in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        if where.path.exists():
            if not where.force:
                raise FileError(f'"{where.path}" has appeared meanwhile: choose another --out, or replace it with --force')
            where.path.rename(old)
        new.rename(where.path)
    except OSError as error:
        raise FileError(f'"{where.path}" cannot be written: {error.strerror or error}') from None
    finally:
        if old.exists() and not where.path.exists():
            old.rename(where.path)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def write_table(folder: Path, name: str, columns: Mapping[str, np.ndarray], kind: str) -> None:
    """One table, as csv or parquet."""
    frame = to_frame(columns, "polars")
    if kind == "parquet":
        frame.write_parquet(folder / f"{name}.parquet")
        return
    whole = all((c.astype("datetime64[D]") == c).all() for c in columns.values() if c.dtype.kind == "M")
    frame.write_csv(folder / f"{name}.csv", datetime_format="%Y-%m-%d" if whole else "%Y-%m-%d %H:%M:%S")


def write_backtest(folder: Path, backtest: Backtest, kind: str) -> None:
    """The forecasts of the test. As parquet, those of many series go piece by piece into a folder, which polars and others read as one
    table; names and times of all at once would take many times the memory of the numbers."""
    if kind != "parquet" or len(backtest.series) <= PIECE:
        write_table(folder, "backtest", backtest.columns(), kind)
        return
    (folder / "backtest").mkdir()
    for at, rows in enumerate(torch.arange(len(backtest.series)).split(PIECE)):
        write_table(folder / "backtest", f"part-{at:05d}", only(backtest, rows).columns(), kind)


def write_sketches(folder: Path, pictures: Iterable[Sketch]) -> None:
    """A file a picture."""
    (folder / "figures").mkdir()
    for one in pictures:
        (folder / "figures" / f"{one.name}.svg").write_text(one.svg, encoding="utf-8")


def write_results(path: Path, results: Results) -> None:
    """What a report can be made of again."""
    value, tensors = encode(results, VALUES)
    write(path, tensors, {"results": value})


def read_results(path: Path) -> Results:
    """What `write_results` wrote."""
    header, tensors = read(path)
    found = decode(header.get("results"), tensors, VALUES)
    if not isinstance(found, Results):
        raise FileError(f'"{path}" holds no results of a run')
    return found


def versions() -> dict[str, str]:
    """What the run was made with."""
    return {"python": platform.python_version()} | {name: release(name) for name in ("foretell", "torch", "numpy", "polars")}


def release(package: str) -> str:
    """The installed version; a checkout that is not installed has none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
