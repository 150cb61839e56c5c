"""What is a plan worth in truth? Budgets planned in simulated worlds, evaluated in them, beside the historic split and the oracle's."""

import argparse
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch
from common.tables import Table, page

import foretell as ft
from foretell import Forecaster, Panel, Task, plan
from foretell.plan.ascent import ascend
from foretell.plan.space import Space
from foretell.worlds import ads
from foretell.worlds.ads import AdsWorld

WORLDS = 20
PROTOCOL = """
**Simulated.** Each world (`foretell.worlds.ads(seed)`, seeds 0 to 19) is 156 weeks of five media whose historic spend follows the
season, a holiday and noise of 3 %; about 35 % of revenue comes from media. The budget is last year's mean spend, for the 13 weeks
that follow; a medium may spend from 0 to the most it ever spent in a week. The models see revenue, spend, the holiday and the day
of the year. A plan is evaluated by the world's expected revenue; the oracle plans on the world itself. The historic split spends
last year's mean, every week. *Revenue* is the plan's true revenue as a share of the oracle's; *attributable* the same of what
media bring in, the base taken off. *Promised* is the ensemble's mean gain over the historic split with its 80 % band; *achieved*
is the world's.
"""
Fit = Callable[[Panel, Task, AdsWorld, bool], Forecaster]


class Row(NamedTuple):
    """A model's plan in a world."""

    revenue: float
    attributable: float
    promised: float
    low: float
    high: float
    achieved: float
    forecast: float


def main() -> None:
    """Plans in every world with both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two worlds, few epochs: shows that it runs")
    parser.add_argument("--worlds", type=int, default=WORLDS)
    asked = parser.parse_args()
    count = 2 if asked.quick else asked.worlds
    sheet = page("plan", "What is a plan worth in truth?", PROTOCOL)
    models: dict[str, Fit] = {"response net": constrained, "flexible net": flexible}
    found: dict[str, list[Row]] = {name: [] for name in models}
    usual = []
    for seed in range(count):
        world = ads(seed)
        best = oracle(world)
        usual.append((share(world, world.usual, best, whole=True), share(world, world.usual, best, whole=False)))
        for name, fit in models.items():
            found[name].append(planned(world, best, fit, quick=asked.quick))
            print(seed, name, found[name][-1], flush=True)
    tables = [summary(found, usual), *(by_world(name, rows, usual) for name, rows in found.items())]
    sheet.publish(tables, quick=asked.quick)


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


def planned(world: AdsWorld, best: torch.Tensor, fit: Fit, *, quick: bool) -> Row:
    panel = world.panel.with_calendar("dayofyear")
    task = Task(target="revenue", known=(*world.media, "holiday", *ft.calendar_of(panel)), context=13, horizon=world.horizon)
    model = fit(panel, task, world, quick)
    controls = {name: (0.0, float(top)) for name, top in zip(world.media, bounds(world)[0], strict=True)}
    made = plan.allocate(model, panel, float(world.usual.sum()), controls)
    low, high = made.gain.ends(80)
    achieved = float(world.revenue(made.spend).sum() - world.revenue(made.written).sum())
    off = float(made.before.mean() / world.revenue(made.written).sum() - 1)
    return Row(
        share(world, made.spend, best, whole=True), share(world, made.spend, best, whole=False), float(made.gain.mean), float(low), float(high), achieved, off
    )


def summary(found: dict[str, list[Row]], usual: Sequence[tuple[float, float]]) -> Table:
    columns = (
        "",
        "revenue, median (worst)",
        "attributable, median (worst)",
        "above the historic split",
        "promised, sum",
        "achieved, sum",
        "achieved in the 80 % band",
    )
    lines = [("historic split", middle([u[0] for u in usual]), middle([u[1] for u in usual]), "", "0", "0", "")]
    for name, rows in found.items():
        above, inside = sum(r.achieved > 0 for r in rows), sum(r.low <= r.achieved <= r.high for r in rows)
        lines.append((
            name, middle([r.revenue for r in rows]), middle([r.attributable for r in rows]), f"{above} of {len(rows)}",
            millions(sum(r.promised for r in rows)), millions(sum(r.achieved for r in rows)), f"{inside} of {len(rows)}",
        ))  # fmt: skip
    return Table("Both nets", columns, lines)


def by_world(name: str, rows: Sequence[Row], usual: Sequence[tuple[float, float]]) -> Table:
    columns = ("seed", "historic revenue", "revenue", "attributable", "promised gain", "80 % band", "achieved gain")
    lines = [
        (seed, percent(usual[seed][0]), percent(r.revenue), percent(r.attributable), millions(r.promised),
         f"{millions(r.low)} … {millions(r.high)}", millions(r.achieved))
        for seed, r in enumerate(rows)
    ]  # fmt: skip
    return Table(f"The {name}, world by world", columns, lines)


def middle(values: Sequence[float]) -> str:
    return f"{percent(median(values))} ({percent(min(values))})"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def millions(value: float) -> str:
    return f"{value / 1e6:.2f} M"


if __name__ == "__main__":
    main()
