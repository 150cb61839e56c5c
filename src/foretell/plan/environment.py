"""Environment: episodes as Gymnasium and Stable-Baselines3 want them, one at a time or many as one batch."""

from collections.abc import Iterable
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn
from torch import Tensor

from .episodes import DECAYS, Simulator, State, advanced, begun, decided, gained, observed, unit_of

Seen = np.ndarray[Any, np.dtype[np.float32]]


def spaces_of(simulator: Simulator) -> tuple[spaces.Box, spaces.Box]:
    """What a policy sees and what it may say: the pace, then a number a column."""
    columns = len(simulator.ground.columns)
    return spaces.Box(0, 10, (3 + columns * len(DECAYS),), np.float32), spaces.Box(-1, 1, (1 + columns,), np.float32)


class BudgetEnv(gymnasium.Env[Seen, Seen]):
    """One budget spent over the steps of a plan. The reward of a step is what the plan gains by it, the rest being spent in the usual way, in
    tenths of what the usual plan brings in: an episode's sum is the whole gain over the usual plan. `options={"budget": …}` of `reset`
    sets an episode's budget; left out it is drawn within `spread` about the simulator's own. Mutable, as Gymnasium's interface is."""

    def __init__(self, simulator: Simulator, spread: float = 0.4) -> None:
        self.simulator, self.spread, self.unit = simulator, spread, unit_of(simulator)
        seen, said = spaces_of(simulator)
        self.observation_space, self.action_space = cast("spaces.Space[Seen]", seen), cast("spaces.Space[Seen]", said)
        self.state = begun(simulator.ground, torch.tensor([simulator.ground.budget], dtype=torch.float64))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, dict[str, Any]]:
        """A new episode."""
        super().reset(seed=seed)
        ground = self.simulator.ground
        budget = (options or {}).get("budget", ground.budget * (1 + self.spread * self.np_random.uniform(-1, 1)))
        self.state = begun(ground, torch.tensor([float(budget)], dtype=torch.float64))
        return self._seen(), {"budget": float(self.state.budget[0])}

    def step(self, action: Seen) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """One period."""
        ground, before = self.simulator.ground, gained(self.simulator, self.state)
        spend = decided(ground, self.state, torch.from_numpy(np.asarray(action, dtype=np.float32)).clamp(-1, 1)[None])
        self.state = advanced(ground, self.state, spend)
        reward = float((gained(self.simulator, self.state) - before)[0]) / self.unit
        return self._seen(), reward, self.state.step == ground.steps, False, {"spend": spend[0].numpy()}

    def _seen(self) -> Seen:
        told: Seen = _numbers(observed(self.simulator.ground, self.state))[0]
        return told


class Episodes(VecEnv):
    """Many such episodes at once, one call of the simulator a step; budgets are drawn from a seed."""

    def __init__(self, simulator: Simulator, count: int, *, spread: float, seed: int) -> None:
        super().__init__(count, *spaces_of(simulator))
        self.simulator, self.spread, self.unit = simulator, spread, unit_of(simulator)
        self.draw = np.random.default_rng([seed, 13])
        self.state, self.worth = self._begun()
        self.asked = torch.zeros(count, 1 + len(simulator.ground.columns))

    def reset(self) -> Seen:
        """New episodes."""
        self.state, self.worth = self._begun()
        return _numbers(observed(self.simulator.ground, self.state))

    def step_async(self, actions: np.ndarray) -> None:
        """What is to be done."""
        self.asked = torch.from_numpy(np.asarray(actions, dtype=np.float32)).clamp(-1, 1)

    def step_wait(self) -> VecEnvStepReturn:
        """And what came of it; finished episodes begin anew."""
        ground = self.simulator.ground
        self.state = advanced(ground, self.state, decided(ground, self.state, self.asked))
        worth = gained(self.simulator, self.state)
        reward, self.worth = _numbers((worth - self.worth) / self.unit), worth
        seen, done = _numbers(observed(ground, self.state)), self.state.step == ground.steps
        told: list[dict[str, Any]] = [{"terminal_observation": one, "TimeLimit.truncated": False} if done else {} for one in seen]
        return self.reset() if done else seen, reward, np.full(self.num_envs, done), told

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Of all episodes alike."""
        held = {"render_mode": None, "spec": None}
        return [held.get(attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Nothing of an episode can be set."""

    def env_method(self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None) -> list[Any]:  # type: ignore[override]  # no method takes options
        """An episode has no methods of its own."""
        return [None] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: int | Iterable[int] | None = None) -> list[bool]:
        """None is."""
        return [False] * len(list(self._get_indices(indices)))

    def _begun(self) -> tuple[State, Tensor]:
        budget = self.simulator.ground.budget * (1 + self.spread * self.draw.uniform(-1, 1, self.num_envs))
        state = begun(self.simulator.ground, torch.from_numpy(budget))
        return state, gained(self.simulator, state)


def _numbers(x: Tensor) -> Seen:
    told: Seen = x.float().numpy()
    return told
