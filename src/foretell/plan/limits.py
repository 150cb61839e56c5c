"""Limits: what the history of some controls cannot tell, in sentences, each with the number it rests on."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..panel import Panel
from ..scoreboard import Backtest
from ..words import Words, number, percent, stamp, wall, words
from .ahead import YEAR, before
from .history import depths
from .record import SMALL

TOGETHER, STEADY, SEASONAL, FEW, BROKEN = 0.8, 0.15, 0.5, 10, 4.0
OFTEN = 5  # so many promotions of a series say something of it
EDGE = 0.15  # of the history at each end in which no break is looked for


def limits(panel: Panel, target: str, controls: Sequence[str], origin: int, *, lang: str = "en") -> tuple[str, ...]:
    """Sentences on one series: its length, controls that moved together or hardly at all or with the season, values never seen,
    a broken level. The last one holds for every history."""
    say = words(lang)
    lines = {name: _line(panel, name, origin) for name in (target, *controls)}
    year, size = YEAR / panel.clock.seconds, len(lines[target])
    found = [
        *_short(panel, size, year, len(controls), say),
        *(_moved_together(a, b, lines, say) for a, b in combinations(controls, 2)),
        *(_hardly_moved(name, lines[name], say) for name in controls),
        *(_with_season(name, lines[name], year, say) for name in controls if size >= year),
        *(_never_zero(name, lines[name], say) for name in controls),
        *(_break(panel, name, lines[name], origin, say) for name in (target, *controls) if size < 2 * year),
        say["limit_history"].format(names=", ".join(controls[:3]) + (" …" if len(controls) > 3 else "")),
    ]  # fmt: skip
    return tuple(sentence for sentence in found if sentence)


def promotion_limits(panel: Panel, channel: str, discount: float, origin: int, *, price: bool = False, lang: str = "en") -> tuple[str, ...]:
    """The same of a promotion: how often there was one, how deep, and for how many series; a price counts as lowered by its share below
    the highest price of the four weeks around it."""
    depth, _ = depths(panel, channel, origin, price=price)
    observed, given = depth.isfinite(), depth > SMALL
    begun = (given[:, 1:] & ~given[:, :-1]).sum(1) + given[:, 0]
    few = int((begun < OFTEN).sum())
    deepest = float(depth.nan_to_num(0.0).max())
    share, say = percent(float(given.sum() / observed.sum().clamp(min=1))), words(lang)
    found = [
        say["limit_promotions"].format(name=channel, times=int(begun.sum()), series=len(panel), share=share, most=percent(deepest)),
        say["limit_few"].format(few=few, series=len(panel), often=OFTEN) if few else "",
        say["limit_deep"].format(asked=percent(discount), most=percent(deepest)) if discount > deepest * 1.001 else "",
        say["limit_promoted"],
    ]
    return tuple(sentence for sentence in found if sentence)


def accuracy_limit(found: Backtest, net: str, *, lang: str = "en") -> str:
    """Where a plan's net forecast the last steps worse than the seasonal naive did; empty where it did not."""
    mae = {name: float(scores["MAE"]) for name, scores in found.scores().items()}
    if found.baseline not in mae or not mae[net] > mae[found.baseline]:
        return ""
    say = words(lang)
    own, simple = say.named("model_", net), say.named("model_", found.baseline)
    return say["limit_worse"].format(net=own, error=number(mae[net]), simple=simple, least=number(mae[found.baseline]))


def _line(panel: Panel, name: str, origin: int) -> np.ndarray:
    values, observed = before(panel, name, origin)
    return values[0].where(observed[0], np.nan).double().numpy()


def _short(panel: Panel, size: int, year: float, controls: int, say: Words) -> list[str]:
    found = []
    if size < 2 * year:
        found.append(say["limit_short"].format(span=say.length(panel.clock, size)))
    needed = 4 * controls + 8
    if size < FEW * needed:
        found.append(say["limit_parameters"].format(steps=size, needed=needed, each=number(size / needed, 1), few=FEW))
    return found


def _moved_together(a: str, b: str, lines: dict[str, np.ndarray], say: Words) -> str:
    r = _correlation(lines[a], lines[b])
    return say["limit_together"].format(one=a, two=b, r=f"{r:.2f}") if abs(r) > TOGETHER else ""


def _hardly_moved(name: str, line: np.ndarray, say: Words) -> str:
    mean = float(np.nanmean(line))
    spread = float(np.nanstd(line)) / mean if mean > 0 else 0.0
    return say["limit_steady"].format(name=name, spread=percent(spread)) if spread < STEADY else ""


def _with_season(name: str, line: np.ndarray, year: float, say: Words) -> str:
    """The share of a control's variance that two yearly harmonics explain."""
    angle = 2 * np.pi * np.arange(len(line)) / year
    design = np.stack([np.ones_like(angle), *(f(k * angle) for k in (1, 2) for f in (np.sin, np.cos))], 1)
    seen = np.isfinite(line)
    weight, *_ = np.linalg.lstsq(design[seen], line[seen], rcond=None)
    whole = float(np.var(line[seen]))
    share = 1 - float(np.var(line[seen] - design[seen] @ weight)) / whole if whole > 0 else 0.0
    return say["limit_season"].format(name=name, share=percent(share)) if share > SEASONAL else ""


def _never_zero(name: str, line: np.ndarray, say: Words) -> str:
    least = float(np.nanmin(line))
    return say["limit_zero"].format(name=name, least=number(least)) if least > 0 else ""


def _break(panel: Panel, name: str, line: np.ndarray, origin: int, say: Words) -> str:
    """The split at which the levels before and after differ most, in standard errors that allow for the memory of the series."""
    edge = max(5, round(EDGE * len(line)))
    best, at = 0.0, 0
    for cut in range(edge, len(line) - edge):
        if abs(score := _shift(line[:cut], line[cut:])) > abs(best):
            best, at = score, cut
    if abs(best) < BROKEN:
        return ""
    first, last = float(np.nanmean(line[:at])), float(np.nanmean(line[at:]))
    when = stamp(wall(panel.clock, origin - len(line) + 1 + at), panel.clock)
    return say["limit_break"].format(name=name, when=when, first=number(first), last=number(last))


def _shift(one: np.ndarray, two: np.ndarray) -> float:
    rest = np.concatenate([one - np.nanmean(one), two - np.nanmean(two)])
    memory = min(0.9, max(0.0, _correlation(rest[1:], rest[:-1])))
    error = np.nanstd(rest) * np.sqrt((1 / len(one) + 1 / len(two)) * (1 + memory) / (1 - memory))
    return float((np.nanmean(two) - np.nanmean(one)) / error) if error > 0 else 0.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 8 or np.std(a[both]) == 0 or np.std(b[both]) == 0:
        return 0.0
    return float(np.corrcoef(a[both], b[both])[0, 1])
