"""What is a plan worth in truth? Budgets planned in simulated worlds, evaluated in them, beside the historic split and the oracle's."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

import torch
from common.tables import Table, page

import foretell as ft
from foretell import Forecaster, Panel, Task, plan
from foretell.plan.ascent import ascend
from foretell.plan.plans import Band
from foretell.plan.space import Space
from foretell.worlds import ads
from foretell.worlds.ads import AdsWorld

WORLDS, TRIALS = 20, 6
PROTOCOL = """
**Simulated.** Each world (`foretell.worlds.ads(seed)`, seeds 0 to 19) is 156 weeks of five media whose historic spend follows the
season, a holiday and noise of 3 %; about 35 % of revenue comes from media. The budget is last year's mean spend, for the 13 weeks
that follow; a medium may spend from 0 to the most it ever spent in a week. The models see revenue, spend, the holiday and the day
of the year. A plan is evaluated by the world's expected revenue; the oracle plans on the world itself. The historic split spends
last year's mean, every week. *Revenue* is the plan's true revenue as a share of the oracle's; *attributable* the same of what
media bring in, the base taken off. *Achieved* is the world's gain over the historic split; three numbers want to foretell it, each with
an 80 % band over an ensemble of twelve half-samples. *Promised*: the gain by the net that made the plan. *Checked*: the gain
of each member's own plan by the member that learned from the other half of the steps, which takes out the luck of the data that chose the
plan. *Second opinion*: the gain of the plan by the other net, which takes out the faults of the net that chose it too.
"""
Fit = Callable[[Panel, Task, AdsWorld, bool], Forecaster]


class Told(NamedTuple):
    """A gain as it was foretold, with its 80 % band."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, band: Band) -> Self:
        low, high = band.ends(80)
        return cls(float(band.mean), float(low), float(high))


class Row(NamedTuple):
    """A model's plan in a world."""

    revenue: float
    attributable: float
    achieved: float
    promised: Told
    checked: Told
    second: Told
    rehearsed: Told


def main() -> None:
    """Plans in every world with both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two worlds, few epochs: shows that it runs")
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--first", type=int, default=0, help="seed of the first world; those of choices begin at 100")
    parser.add_argument("--keep", type=Path, help="folder of finished worlds, from which a run that was cut off goes on")
    asked = parser.parse_args()
    count = 2 if asked.quick else asked.worlds
    sheet = page("plan", "What is a plan worth in truth?", PROTOCOL)
    models: dict[str, Fit] = {"response net": constrained, "flexible net": flexible}
    found: dict[str, list[Row]] = {name: [] for name in models}
    usual = []
    for seed in range(asked.first, asked.first + count):
        world = ads(seed)
        best = oracle(world)
        usual.append((share(world, world.usual, best, whole=True), share(world, world.usual, best, whole=False)))
        for name, row in kept(seed, partial(planned, world, best, models, quick=asked.quick), asked.keep).items():
            found[name].append(row)
            print(seed, name, row, flush=True)
    tables = [summary(found, usual), foretold(found), *(by_world(name, rows, usual, asked.first) for name, rows in found.items())]
    sheet.publish(tables, quick=asked.quick)


def kept(seed: int, plans: Callable[[], dict[str, Row]], folder: Path | None) -> dict[str, Row]:
    """A world's rows: read from the folder if they are there, else found and written."""
    file = folder and folder / f"{seed}.json"
    if file and file.exists():
        return {name: Row(*row[:3], *(Told(*told) for told in row[3:])) for name, row in json.loads(file.read_text()).items()}
    rows = plans()
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows))
    return rows


def constrained(panel: Panel, task: Task, world: AdsWorld, quick: bool) -> Forecaster:
    return plan.fit_media(panel, task, world.media, epochs=10 if quick else 120, members=4 if quick else 12)


def flexible(panel: Panel, task: Task, world: AdsWorld, quick: bool) -> Forecaster:
    return plan.fit_flexible(panel, task, epochs=3 if quick else 60, members=4 if quick else 12)


def bounds(world: AdsWorld) -> torch.Tensor:
    return world.spend.amax(0).expand(world.horizon, -1).double()


def oracle(world: AdsWorld) -> torch.Tensor:
    """The best plan in truth."""
    high = bounds(world)
    space = Space.of(torch.zeros_like(high), high, world.usual.double().sum()[None], world.media)
    return ascend(lambda plans: world.revenue(plans).sum(-1), space, space.drawn(8, 0)).plan


def share(world: AdsWorld, one: torch.Tensor, best: torch.Tensor, *, whole: bool) -> float:
    worth = world.revenue if whole else world.attributable
    return float(worth(one.double()).sum() / worth(best).sum())


def planned(world: AdsWorld, best: torch.Tensor, fits: Mapping[str, Fit], *, quick: bool) -> dict[str, Row]:
    """Both nets' plans, each valued by its own net, by its halves, by the other net and by the world."""
    panel = world.panel.with_calendar("dayofyear")
    task = Task(target="revenue", known=(*world.media, "holiday", *ft.calendar_of(panel)), context=13, horizon=world.horizon)
    models = {name: fit(panel, task, world, quick) for name, fit in fits.items()}
    controls = {name: (0.0, float(top)) for name, top in zip(world.media, bounds(world)[0], strict=True)}
    found = {}
    for name, model in models.items():
        made = plan.allocate(model, panel, float(world.usual.sum()), controls)
        tried = plan.rehearse(made, model, panel, models["response net"], trials=3 if quick else TRIALS)
        other = next(one for key, one in models.items() if key != name)
        achieved = float(world.revenue(made.spend).sum() - world.revenue(made.written).sum())
        second = plan.judge(other, panel, made, world.media)
        found[name] = Row(
            share(world, made.spend, best, whole=True), share(world, made.spend, best, whole=False), achieved,
            Told.of(made.gain), Told.of(made.promise), Told.of(second), Told.of(tried.promise),
        )  # fmt: skip
    return found


def summary(found: dict[str, list[Row]], usual: Sequence[tuple[float, float]]) -> Table:
    columns = ("", "revenue, median (worst)", "attributable, median (worst)", "above the historic split")
    lines = [("historic split", middle([u[0] for u in usual]), middle([u[1] for u in usual]), "")]
    for name, rows in found.items():
        lines.append((name, middle([r.revenue for r in rows]), middle([r.attributable for r in rows]), f"{sum(r.achieved > 0 for r in rows)} of {len(rows)}"))
    return Table("Both nets' plans", columns, lines)


def foretold(found: dict[str, list[Row]]) -> Table:
    """What was said of the gain, and what came of it."""
    columns = ("plan of", "gain", "sum over the worlds", "achieved, sum", "achieved in the 80 % band")
    lines = []
    for name, rows in found.items():
        achieved = millions(sum(r.achieved for r in rows))
        kinds = (("promised", "promised"), ("rehearsed", "rehearsed"), ("checked", "checked"), ("second opinion", "second"))
        for kind, field in kinds:
            told = [row._asdict()[field] for row in rows]
            inside = sum(t.low <= r.achieved <= t.high for t, r in zip(told, rows, strict=True))
            lines.append((name, kind, millions(sum(t.mean for t in told)), achieved, f"{inside} of {len(rows)}"))
    return Table("The gain foretold and achieved", columns, lines)


def by_world(name: str, rows: Sequence[Row], usual: Sequence[tuple[float, float]], first: int) -> Table:
    columns = ("seed", "historic revenue", "revenue", "attributable", "promised", "rehearsed", "checked", "second opinion", "achieved")
    lines = [
        (seed, percent(usual[at][0]), percent(r.revenue), percent(r.attributable), *map(banded, (r.promised, r.rehearsed, r.checked, r.second)),
         millions(r.achieved))
        for at, (seed, r) in enumerate(zip(range(first, first + len(rows)), rows, strict=True))
    ]  # fmt: skip
    return Table(f"The {name}, world by world", columns, lines)


def banded(told: Told) -> str:
    return f"{millions(told.mean)} ({millions(told.low)} … {millions(told.high)})"


def middle(values: Sequence[float]) -> str:
    return f"{percent(median(values))} ({percent(min(values))})"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def millions(value: float) -> str:
    return f"{value / 1e6:.2f} M"


if __name__ == "__main__":
    main()
