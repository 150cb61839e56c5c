"""Screen: tables and results on stdout, remarks and progress with time left on stderr."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..scoreboard import Backtest
from ..words import decimals, number, percent, stamp, wall

SHOWN = ("MAE", "RMSE", "WAPE", "MASE", "coverage", "bias", "peak_WAPE", "skill")
SPARE = ("peak WAPE", "bias", "RMSE", "MASE")
SHARES = ("WAPE", "coverage", "peak_WAPE", "skill")
WIDE = 160  # columns where there is no terminal to ask


@dataclass(frozen=True)
class Screen:
    """What may be shown: everything, errors alone (`quiet`), or one JSON document."""

    quiet: bool = False
    json: bool = False

    def remark(self, text: str) -> None:
        """A sentence beside the results."""
        if not self.quiet and text:
            _console(error=True).print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, text: str = "") -> None:
        """A line of the results."""
        if not self.quiet and not self.json:
            _console().print(text, markup=False, highlight=False, soft_wrap=True)

    def document(self, facts: Mapping[str, Any]) -> None:
        """The results as JSON, if that was asked for."""
        if self.json:
            sys.stdout.write(json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, indent=1) + "\n")

    def accuracy(self, backtest: Backtest) -> None:
        """The accuracy table, and what was learned from and tested on."""
        from rich import box
        from rich.table import Table

        columns = fitting({"model": [str(m) for m in backtest.models], **_cells(backtest)}, _console().width)
        grid = Table(*columns, box=box.SIMPLE_HEAD)
        for column in grid.columns:
            column.justify = "right" if column.header != "model" else "left"
            column.no_wrap = True
        for row in zip(*columns.values(), strict=True):
            grid.add_row(*row)
        if not self.quiet and not self.json:
            _console().print(grid, markup=False, highlight=False)
        for part in backtest.parts:
            ends = [stamp(wall(backtest.clock, step), backtest.clock) for step in (part.first, part.last)]
            self.show(f"  {part.name:<9} {ends[0]} … {ends[1]}, {part.rows:,} window{'' if part.rows == 1 else 's'}")

    def table(self, columns: Mapping[str, Sequence[str]]) -> None:
        """A table of texts, the first column left, the others right."""
        from rich import box
        from rich.table import Table

        grid = Table(*columns, box=box.SIMPLE_HEAD)
        for at, column in enumerate(grid.columns):
            column.justify, column.no_wrap = "left" if at == 0 else "right", True
        for row in zip(*columns.values(), strict=True):
            grid.add_row(*row)
        if not self.quiet and not self.json:
            _console().print(grid, markup=False, highlight=False)

    @contextmanager
    def progress(self) -> Iterator["Bars"]:
        """Bars while something runs; nothing is drawn where nobody looks."""
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = _console(error=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(compact=True), TextColumn("left"))
        off = self.quiet or not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=off) as drawn:
            yield Bars(drawn)


@dataclass(frozen=True)
class Bars:
    """One bar a model: `fits` times `epochs` units of work."""

    drawn: Any

    def add(self, name: str, fits: int, epochs: int) -> "Bar":
        """A bar that stands still until its model's turn comes."""
        return Bar(self.drawn, self.drawn.add_task(name, total=fits * epochs, start=False), epochs)


@dataclass(frozen=True)
class Bar:
    """One model's bar."""

    drawn: Any
    task: Any
    epochs: int

    def begin(self) -> None:
        """Its turn has come."""
        self.drawn.start_task(self.task)

    def epoch(self, done: int, epoch: int) -> None:
        """`epoch` epochs of a fit, after `done` fits."""
        self.drawn.update(self.task, completed=done * self.epochs + min(epoch, self.epochs))


def _console(*, error: bool = False) -> Any:
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE)


def _cells(backtest: Backtest) -> dict[str, list[str]]:
    """Columns of the table that fit a terminal, as text; accuracy.csv has them all."""
    found = {}
    for name, values in backtest.table_columns().items():
        base, _, level = name.partition("-")
        if base in SHOWN and np.isfinite(values).any():
            title = f"in {level} % band" if level else base.replace("_", " ")
            listed = [float(v) for v in values]
            digits = decimals(listed)
            found[title] = [percent(v, 1) if base in SHARES else number(v, digits) for v in listed]
    return found


def fitting(columns: Mapping[str, list[str]], width: int) -> dict[str, list[str]]:
    """Without the columns that a narrow terminal can spare; whole numbers rather than cut ones."""
    kept = dict(columns)
    for spare in SPARE:
        if sum(max(map(len, (name, *cells))) + 2 for name, cells in kept.items()) + 2 > width:
            kept.pop(spare, None)
    return kept


def plain(value: Any) -> Any:
    """Anything of ours as JSON holds it: NaN and infinity are null, times are text."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.float32):
        value = float(str(value))  # 0.1, not the 0.10000000149011612 that it is in 64 bits
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, int | str | None) else str(value)


def cell(value: object) -> str:
    """A value of a table, numbers with thousands commas."""
    return value if isinstance(value, str) else number(float(np.float64(str(value))))


def rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Columns as one mapping a row."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
