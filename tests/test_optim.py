"""Optimisers: equal to torch's for one member, each member as if alone, and the rate at every step."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

import naive
from foretell import optim
from foretell.errors import TaskError
from foretell.optim import Optimizer, State
from foretell.schedule import rate_at

KINDS = ("sgd", "momentum", "rmsprop", "adam", "adamw")
SPECS = [Optimizer(kind=kind, rate=0.03, weight_decay=decay) for kind, decay in product(KINDS, (None, 0.1))] + [
    Optimizer(kind="rmsprop", rate=0.03, momentum=0.5, alpha=0.9),
    Optimizer(kind="adam", rate=0.03, betas=(0.5, 0.8), eps=1e-3),
]


def problem(members: int, seed: int = 0) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """First weights and the gradients of 30 steps."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"weight": (members, 3, 2), "bias": (members, 4)}

    def draw() -> dict[str, Tensor]:
        return {n: torch.randn(s, generator=random, dtype=torch.float64) for n, s in shapes.items()}

    return draw(), [draw() for _ in range(30)]


def run(spec: Optimizer, params: dict[str, Tensor], grads: list[dict[str, Tensor]], active: list[Tensor] | None = None) -> tuple[dict[str, Tensor], State]:
    params = {n: v.clone() for n, v in params.items()}
    members = len(params["bias"])
    state = optim.start(params, spec)
    for step, grad in enumerate(grads):
        now = active[step] if active else torch.ones(members, dtype=torch.bool)
        state = optim.update(params, {n: g.clone() for n, g in grad.items()}, state, spec, rate=rate_at(spec, state.step), active=now)
    return params, state


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.model_dump_json(exclude_defaults=True))
def test_one_member_is_torch(spec: Optimizer) -> None:
    params, grads = problem(1)
    ours, _ = run(spec, params, grads)
    for name, value in params.items():
        theirs = value[0].clone().requires_grad_()
        steps = naive.torch_optimizer(spec, theirs)
        for grad in grads:
            theirs.grad = grad[name][0].clone()
            steps.step()
        torch.testing.assert_close(ours[name][0], theirs.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.model_dump_json(exclude_defaults=True))
def test_inactive_members_stand_still_and_others_step_as_if_alone(spec: Optimizer) -> None:
    params, grads = problem(3)
    random = torch.Generator().manual_seed(4)
    active = [torch.rand(3, generator=random) < 0.6 for _ in grads]
    together, state = run(spec, params, grads, active)
    for member in range(3):
        turns = [s for s in range(len(grads)) if active[s][member]]
        only = slice(member, member + 1)
        alone, own = run(spec, {n: v[only] for n, v in params.items()}, [{n: g[only] for n, g in grads[s].items()} for s in turns])
        assert state.step[member] == own.step[0] == len(turns)
        for name in params:
            torch.testing.assert_close(together[name][only], alone[name], rtol=0, atol=1e-12)


def test_a_broken_gradient_stays_with_its_inactive_member() -> None:
    params, grads = problem(2)
    grads[0]["bias"][1] = torch.nan
    moved, state = run(Optimizer(), params, grads[:1], [torch.tensor([True, False])])
    assert moved["bias"].isfinite().all() and state.mean["bias"].isfinite().all()
    assert torch.equal(moved["bias"][1], params["bias"][1])


def test_clip_is_torchs_per_member() -> None:
    _, (grads, *_) = problem(3)
    grads["weight"][1] *= 1e-3
    grads["bias"][1] *= 1e-3
    ours = {n: g.clone() for n, g in grads.items()}
    norm = optim.clip(ours, 1.0, active=torch.tensor([True, True, False]))
    for member in range(3):
        leaves = [torch.zeros_like(g[member]).requires_grad_() for g in grads.values()]
        for leaf, grad in zip(leaves, grads.values(), strict=True):
            leaf.grad = grad[member].clone()
        whole = torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        torch.testing.assert_close(norm[member], whole, rtol=1e-12, atol=0)
        for leaf, (name, grad) in zip(leaves, grads.items(), strict=True):
            torch.testing.assert_close(ours[name][member], grad[member] if member == 2 else leaf.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0, 3.0, 5.0])
def test_cosine_is_the_plain_walk_through_its_cycles(growth: float) -> None:
    spec = Optimizer(rate=5e-4, schedule="cosine", first_decay=10, t_mul=growth, m_mul=0.9, floor=0.01)
    steps = torch.arange(4000)
    plain = torch.tensor([naive.cosine_rate(spec, s) for s in steps.tolist()], dtype=torch.float64)
    torch.testing.assert_close(rate_at(spec, steps), plain, rtol=1e-9, atol=0)


def test_cosine_is_that_of_keras(golden) -> None:
    kept = np.load(golden / "cosine_restarts.npz")
    spec = Optimizer(rate=5e-4, schedule="cosine", first_decay=1000, t_mul=2.0, m_mul=0.9, floor=1e-5)
    ours = rate_at(spec, torch.from_numpy(kept["step"])).numpy()
    # Keras computes in float32: beside the last steps of a cycle, where 1 + cos cancels, relative to the rate itself.
    inner = kept["rate"] > 0.1 * 5e-4
    np.testing.assert_allclose(ours[inner], kept["rate"][inner], rtol=1e-6)
    np.testing.assert_allclose(ours, kept["rate"], rtol=0, atol=1e-6 * 5e-4)


def test_the_constant_rate_is_constant() -> None:
    assert rate_at(Optimizer(rate=0.25), torch.tensor([0, 7])).tolist() == [0.25, 0.25]


def test_defaults_are_those_of_torch() -> None:
    assert (Optimizer().decay, Optimizer(kind="adamw").decay, Optimizer(kind="adamw", weight_decay=0).decay) == (0, 0.01, 0)
    assert (Optimizer(kind="momentum").inertia, Optimizer(kind="sgd").inertia, Optimizer(kind="momentum", momentum=0.5).inertia) == (0.9, 0, 0.5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kind": "adamm"}, "adamm"),
        ({"rate": 0}, "greater than 0"),
        ({"clip": -1}, "greater than 0"),
        ({"lr": 0.1}, 'no option "lr"'),
        ({"betas": (0.9, 1)}, "less than 1"),
    ],
)
def test_wrong_options_get_a_sentence(options: dict, told: str) -> None:
    with pytest.raises(TaskError, match=told):
        Optimizer(**options)
