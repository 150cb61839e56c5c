"""Sketches: label against prediction of single series as small SVG files, which open anywhere; thousands of them cost seconds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from .errors import TaskError, nearest
from .hierarchy import ranked
from .plotting import COLOURS, GRID, INK, MUTED, cutoffs
from .scoreboard import Backtest
from .words import Words, decimals, number

WIDTH, HEIGHT = 960, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 44, 36
RULES, DATES = 5, 6  # marks on each axis
FONT = 'font-family="-apple-system, Segoe UI, Roboto, Noto Sans KR, sans-serif"'


class Sketch(NamedTuple):
    """A file's name without ending, and its text."""

    name: str
    svg: str


def chosen(backtest: Backtest, model: str, wanted: str) -> tuple[str, ...]:
    """The series that "all", "worst:12" or names with commas between stand for."""
    if wanted.strip() == "all":
        return backtest.series
    if found := re.fullmatch(r"\s*worst\s*:\s*(\d+)\s*", wanted):
        return tuple(name for name, _ in ranked(backtest, model)[: int(found[1])])
    names = tuple(name.strip() for name in wanted.split(",") if name.strip())
    strange = next((name for name in names if name not in backtest.series), None)
    if strange is not None or not names:
        raise TaskError(
            f'figures="{wanted}": no series "{strange or wanted}"; give all, worst:12, or names with commas between: {nearest(strange or "", backtest.series)}'
        )
    return names


def sketches(backtest: Backtest, model: str, series: Sequence[str], say: Words) -> Iterator[Sketch]:
    """What came and what the model had said of it, over the whole test: of origins closer than a horizon those that do not overlap."""
    taken: set[str] = set()
    for name in series:
        one = backtest.series.index(name)
        cuts = _apart(cutoffs(backtest)[:, one], backtest.truth.shape[2])
        steps = (cutoffs(backtest)[cuts, one][:, None] + 1 + np.arange(backtest.truth.shape[2])).ravel()
        times = backtest.clock.local(steps)
        for at, target in enumerate(backtest.targets):
            pick = (cuts, one, slice(None), at)
            lines = {
                say["actual"]: backtest.truth[pick].double().numpy().ravel(),
                say.named("model_", model): backtest.point[model][pick].double().numpy().ravel(),
            }
            told = f"{name} · {target}" if len(backtest.targets) > 1 else name
            yield Sketch(_free(told, taken), draw(told, times, lines))


def draw(title: str, times: np.ndarray, lines: Mapping[str, np.ndarray]) -> str:
    """One picture: the first line dark, the others in colour and dashed; gaps where a value is not finite."""
    values = np.concatenate([v[np.isfinite(v)] for v in lines.values()] or [np.zeros(0)])
    low, high = (min(0.0, float(values.min())), float(values.max())) if len(values) else (0.0, 1.0)
    high = high if high > low else low + 1
    x = LEFT + (WIDTH - LEFT - RIGHT) * np.linspace(0, 1, len(times)) if len(times) > 1 else np.full(len(times), LEFT + (WIDTH - LEFT - RIGHT) / 2)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" {FONT} font-size="12">']
    parts += [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', f'<text x="{LEFT}" y="18" font-size="15" fill="{INK}">{escape(title)}</text>']
    marks = np.linspace(low, high, RULES)
    for mark in marks:
        height = _height(mark, low, high)
        parts.append(f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{height + 4:.1f}" text-anchor="end" fill="{MUTED}">{number(float(mark), decimals(marks.tolist()))}</text>')
    for at in np.unique(np.linspace(0, len(times) - 1, min(DATES, len(times))).round().astype(int)) if len(times) else ():
        told = str(times[at].astype("datetime64[m]")).replace("T", " ").removesuffix(" 00:00")
        parts.append(f'<text x="{x[at]:.1f}" y="{HEIGHT - 12}" text-anchor="middle" fill="{MUTED}">{told}</text>')
    for order, (name, line) in enumerate(lines.items()):
        colour = INK if order == 0 else COLOURS[(order - 1) % len(COLOURS)]
        dash = "" if order == 0 else ' stroke-dasharray="6 3"'
        parts.append(f'<path d="{_path(x, line, low, high)}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        parts.append(f'<text x="{LEFT + 150 * order}" y="36" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _height(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)


def _path(x: np.ndarray, line: np.ndarray, low: float, high: float) -> str:
    """Moves at the beginning and after every gap, lines between."""
    seen = np.isfinite(line)
    begins = seen & ~np.concatenate([[False], seen[:-1]])
    return "".join(f"{'M' if begins[i] else 'L'}{x[i]:.1f} {_height(line[i], low, high):.1f}" for i in np.flatnonzero(seen))


def _apart(cutoff: np.ndarray, horizon: int) -> list[int]:
    """Cuts whose forecasts do not overlap, counted back from the last."""
    kept: list[int] = []
    for at in range(len(cutoff) - 1, -1, -1):
        if not kept or cutoff[kept[-1]] - cutoff[at] >= horizon:
            kept.append(at)
    return kept[::-1]


def _free(name: str, taken: set[str]) -> str:
    """A file's name for a series', not taken yet."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._") or "series"
    free = next(one for n in range(1, len(taken) + 2) if (one := plain if n == 1 else f"{plain}-{n}").lower() not in taken)
    taken.add(free.lower())
    return free
