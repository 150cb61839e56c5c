"""Is a budget better spent by a learned rule? Policies in simulated worlds beside the plan made again every period and plain splits."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter

import torch
from common.tables import Table, page

import foretell as ft
from foretell import Task, plan
from foretell.plan.episodes import Simulator, filled
from foretell.plan.policy import learn, replanned
from foretell.worlds import ads
from foretell.worlds.ads import AdsWorld

WORLDS = 10
PROTOCOL = """
**Simulated.** Worlds, budget and bounds as in [plan](plan.md): `foretell.worlds.ads(seed)`, five media, 13 weeks, seeds 0 to 9. Two simulators: the
response net fitted to the world's history (`plan.fit_media`), and the world itself, which nobody has in truth. In each, a policy is learned (PPO,
the same options and seed for all worlds, budgets drawn within 40 % of the true one) and the best plan is made by gradient and made again every
week (`plan.replanned`, the ascent of `plan.allocate`, 8 starts). *Historic split*: last year's mean, every week. *Proportional split*: in proportion
to what the fitted net attributes to each medium, every week, as far as the bounds allow. All are evaluated by the world's expected revenue,
as a share of what replanning on the same simulator truly earns; *attributable* takes the base off. Medians over the worlds, the worst in
brackets. A bound is broken if any cell or the sum lies beyond it by more than a 10⁻⁹ share.
"""


def main() -> None:
    """Ten worlds, both simulators."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one world, few rounds: shows that it runs")
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--rounds", type=int, default=60)
    asked = parser.parse_args()
    sheet = page("policy", "Is a budget better spent by a learned rule?", PROTOCOL)
    count, rounds = (1, 3) if asked.quick else (asked.worlds, asked.rounds)
    told = [one(ads(seed), rounds, quick=asked.quick) for seed in range(count)]
    every, seconds = [t[0] for t in told], [t[1] for t in told]
    body = []
    for name in every[0]:
        shares = [[w[name][at] for w in every] for at in (0, 1)]
        broken = sum(w[name][2] for w in every)
        taken = sum(s.get(name, 0.0) for s in seconds)
        body.append((name, *(middle(s) for s in shares), f"{sum(s >= 0.95 for s in shares[0])} of {count}", f"{broken:.0f}", f"{taken:.0f}" if taken else ""))
    columns = ("", "revenue", "attributable", "worlds at 95 % or more", "bounds broken", "seconds, all worlds")
    sheet.publish([Table("", columns, body)], quick=asked.quick, versions=versions())


def one(world: AdsWorld, rounds: int, *, quick: bool) -> tuple[dict[str, Sequence[float]], Mapping[str, float]]:
    """Every row in one world: share of revenue, of attributable revenue, bounds broken; and the seconds of each."""
    panel = world.panel.with_calendar("dayofyear")
    task = Task(target="revenue", known=(*world.media, "holiday", *ft.calendar_of(panel)), context=13, horizon=world.horizon)
    model = plan.fit_media(panel, task, world.media, epochs=5 if quick else 120, members=2 if quick else 12)
    controls = {name: (0.0, float(top)) for name, top in zip(world.media, world.spend.amax(0), strict=True)}
    simulators = {"net": Simulator.of_model(model, panel, float(world.usual.sum()), controls), "world": Simulator.of_world(world)}
    plans, seconds = {}, {}
    for where, simulator in simulators.items():
        for name, make in (("replanned", lambda s: replanned(s)), ("policy", lambda s: learn(s, rounds=rounds).plan())):
            began = perf_counter()
            plans[f"{name} on the {where}"] = make(simulator)
            seconds[f"{name} on the {where}"] = perf_counter() - began
    plans["historic split"], plans["proportional split"] = world.usual.double(), proportional(simulators["net"])
    found = {}
    for name, spend in plans.items():
        against = plans["replanned on the world" if "world" in name else "replanned on the net"]
        shares = [float(f(spend).sum() / f(against).sum()) for f in (world.revenue, world.attributable)]
        found[name] = (*shares, float(broken(spend, simulators["world"])))
        print(name, *found[name], f"{seconds.get(name, 0):.1f} s", file=sys.stderr, flush=True)
    return found, seconds


def proportional(simulator: Simulator) -> torch.Tensor:
    """The budget in proportion to what each medium brings in at its usual spend, by the simulator."""
    ground = simulator.ground
    without = torch.stack([ground.usual.index_fill(1, torch.tensor([at]), 0.0) for at in range(len(ground.columns))])
    brought = (simulator.revenue(ground.usual[None]).sum() - simulator.revenue(without).sum(1)).detach().clamp(min=0).double()
    share = (brought / brought.sum().clamp(min=1e-9)).expand(ground.steps, -1)
    amount = torch.full((ground.steps,), ground.budget / ground.steps, dtype=torch.float64)
    return filled(share, amount, ground.low[0], ground.high[0])


def broken(spend: torch.Tensor, simulator: Simulator) -> bool:
    """Whether any bound or the budget is broken."""
    ground = simulator.ground
    room = 1e-9 * ground.budget
    return bool((spend < ground.low - room).any() or (spend > ground.high + room).any() or float(spend.sum()) > ground.budget + room)


def middle(values: Sequence[float]) -> str:
    return f"{100 * median(values):.1f} % ({100 * min(values):.1f} %)"


def versions() -> list[str]:
    from importlib.metadata import version

    return [f"{name} {version(name)}" for name in ("gymnasium", "stable-baselines3")]


if __name__ == "__main__":
    main()
