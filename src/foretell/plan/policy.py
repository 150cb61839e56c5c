"""Policy: a budget spent by a learned rule, period by period; and the rule that needs no learning, a plan made again every period."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import TaskError
from ..neighbours.extras import needed
from .ascent import ascend
from .episodes import Ground, Simulator, advanced, begun, decided, gained, observed, unit_of
from .space import Space

WIDE = (64, 64)  # units of the policy's net
LOOKS = 6  # times that a training is looked at; the best is kept
JUDGED = 16  # evaluation episodes, their budgets evenly over the range
REPLANNED = 80  # steps of the ascent that replans


class Watched(NamedTuple):
    """A look at a training: rounds done, the mean gain over the usual plan in the evaluation episodes (a share of what the usual plan
    brings in), seconds."""

    rounds: int
    gain: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Policy:
    """A rule learned by reinforcement: from what is left of the budget and what is carried over to the next period's spend. It is told its
    ground, needs no simulator to be asked, and never leaves the bounds, whatever its weights are."""

    ground: Ground
    weights: Mapping[str, Tensor]
    spread: float
    looks: tuple[Watched, ...] = ()
    facts: Mapping[str, str | float] = field(default_factory=dict)

    def plan(self, budget: float | None = None) -> Float[Tensor, "step column"]:
        """All periods, one after the other."""
        return self.plans(torch.tensor([self.ground.budget if budget is None else budget], dtype=torch.float64))[0]

    def plans(self, budget: Float[Tensor, " episode"]) -> Float[Tensor, "episode step column"]:
        """For several budgets at once."""
        state = begun(self.ground, budget)
        for _ in range(self.ground.steps):
            state = advanced(self.ground, state, decided(self.ground, state, self.said(observed(self.ground, state))))
        return state.plan

    def next(self, spent: Float[Tensor, "done column"], budget: float | None = None) -> Float[Tensor, " column"]:
        """The spend of the next period, when so much was truly spent in those before it. TaskError if the budget is spent or the plan is over."""
        if len(spent) >= self.ground.steps:
            raise TaskError(f"this policy plans {self.ground.steps} periods, and {len(spent)} are over")
        state = begun(self.ground, torch.tensor([self.ground.budget if budget is None else budget], dtype=torch.float64))
        for row in spent:
            state = advanced(self.ground, state, row.double()[None])
        least = float(self.ground.low[len(spent) :].sum())
        if float(state.left[0]) < least - 1e-6 * max(1.0, least):
            raise TaskError(f"{float(state.left[0]):,.0f} of the budget is left, and the bounds ask for {least:,.0f} in the periods to come")
        return decided(self.ground, state, self.said(observed(self.ground, state)))[0]

    def said(self, seen: Float[Tensor, "episode fact"]) -> Float[Tensor, "episode choice"]:
        """The action, without chance: tanh layers, then a linear one, cut at −1 and 1."""
        x = seen.float()
        for at in range(len(WIDE)):
            x = torch.tanh(x @ self.weights[f"{at}.weight"].T + self.weights[f"{at}.bias"])
        return (x @ self.weights["last.weight"].T + self.weights["last.bias"]).clamp(-1, 1)

    def __repr__(self) -> str:
        return f"Policy({', '.join(self.ground.columns)}: {self.ground.steps} periods, budget {self.ground.budget:,.0f} ± {self.spread:.0%})"


def learn(
    simulator: Simulator, *, rounds: int = 60, episodes: int = 64, spread: float = 0.4, seed: int = 0, watch: Callable[[Watched], None] | None = None
) -> Policy:
    """A policy learned by proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347; Stable-Baselines3's PPO) in a simulator.

    A round is so many episodes of all periods, their budgets drawn within `spread` about the simulator's own. Several times on the way
    the rule is judged without chance in evaluation episodes, and the best is kept. Needs the extra `plan`.
    """
    for name, value in (("rounds", rounds), ("episodes", episodes)):
        if value < 1:
            raise TaskError(f"{name}={value}: a policy learns from at least 1")
    if not 0 <= spread < 1:
        raise TaskError(f"spread={spread:g}: budgets are drawn within a share of 0 to below 1 about the simulator's own")
    ppo = needed("stable_baselines3", "learn()", "plan").PPO
    needed("gymnasium", "learn()", "plan")
    from .environment import Episodes

    began, ground = perf_counter(), simulator.ground
    with _own_chance():
        made = ppo(
            "MlpPolicy", Episodes(simulator, episodes, spread=spread, seed=seed), n_steps=ground.steps, batch_size=max(16, ground.steps * episodes // 4),
            n_epochs=8, gamma=1.0, gae_lambda=0.95, learning_rate=1e-3, seed=seed, device="cpu", verbose=0,
            policy_kwargs={"net_arch": list(WIDE), "log_std_init": -1.0},
        )  # fmt: skip
        with torch.no_grad():
            made.policy.action_net.weight.zero_()  # the first rule is the usual plan
        best, looks = Policy(ground, _weights(made), spread), list[Watched]()
        for look in np.linspace(0, rounds, LOOKS + 1).round().astype(int).tolist():
            done = looks[-1].rounds if looks else 0
            if look > done:
                made.learn((look - done) * ground.steps * episodes, reset_num_timesteps=False)
            now = Policy(ground, _weights(made), spread)
            told = Watched(look, judged(now, simulator), perf_counter() - began)
            best = now if not looks or told.gain > max(one.gain for one in looks) else best
            looks.append(told)
            if watch is not None:
                watch(told)
    facts = {"rounds": float(rounds), "episodes": float(rounds * episodes), "seconds": round(perf_counter() - began, 3)}
    return Policy(ground, best.weights, spread, tuple(looks), facts)


def judged(policy: Policy, simulator: Simulator, episodes: int = JUDGED) -> float:
    """Mean gain over the usual plan in evaluation episodes, a share of what the usual plan brings in."""
    budget = policy.ground.budget * (1 + policy.spread * torch.linspace(-1, 1, episodes, dtype=torch.float64))
    first = begun(simulator.ground, budget)
    with torch.no_grad():
        last = simulator.revenue(policy.plans(budget)).sum(1).double()
    return float((last - gained(simulator, first)).mean()) / (10 * unit_of(simulator))


def replanned(simulator: Simulator, *, starts: int = 8) -> Float[Tensor, "step column"]:
    """What a policy competes with: the best plan by the simulator's gradient, made again every period with what is spent held."""
    ground = simulator.ground
    allowed = Space.of(ground.low, ground.high, torch.tensor([ground.budget], dtype=torch.float64), ground.columns)

    def worth(plans: Float[Tensor, "plan step column"]) -> Float[Tensor, " plan"]:
        return simulator.revenue(plans).sum(1)

    plan = ascend(worth, allowed, torch.cat([ground.usual[None].double(), allowed.drawn(max(1, starts - 1), seed=0)])).plan
    for step in range(1, ground.steps):
        cells = torch.zeros_like(plan, dtype=torch.bool)
        cells[:step] = True
        plan = ascend(worth, allowed.fixed(plan, cells), plan[None], steps=REPLANNED).plan
    return plan


def _weights(made: Any) -> dict[str, Tensor]:
    """Those of the rule alone, out of Stable-Baselines3's policy; what judged it is not needed any more."""
    held, actor = made.policy.mlp_extractor.policy_net, made.policy.action_net
    layers = {str(at): held[2 * at] for at in range(len(WIDE))} | {"last": actor}
    return {f"{name}.{part}": w.detach().clone() for name, layer in layers.items() for part, w in (("weight", layer.weight), ("bias", layer.bias))}


@contextmanager
def _own_chance() -> Iterator[None]:
    """Stable-Baselines3 seeds the generators of the whole process; afterwards they are as they were."""
    plain, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
