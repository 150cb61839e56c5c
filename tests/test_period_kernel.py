"""Tests of the period-kernel net: the notebook's network weight for weight, and the fast form beside the plain one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.func import functional_call

import naive_period_kernel as naive
from foretell import TaskError
from foretell.nets import PeriodKernel, Shape
from foretell.nets.bank import Bank
from foretell.nets.period_kernel import PeriodKernelNet, presets
from foretell.noise import Noise, noise_keys

EXAMPLES = 4
SPECS = {
    "compact": PeriodKernel(kernels=3, filters=2, heads=1, size=3, dense=5, ahead=4),
    "rectified, no ridge": PeriodKernel(kernels=3, filters=3, heads=2, size=2, dense=4, ahead=0, rectify=True, ridge=None),
    "nothing known ahead": PeriodKernel(kernels=3, filters=2, heads=2, size=2, dense=4, ahead=0, ridge=None),
}
LENGTHS = [[7, 3, 12], [1, 2, 0], [6, 0, 5]]
SPANS = [12, 2, 9]


def streams(count: int) -> list[Generator]:
    return [Generator().manual_seed(m) for m in range(count)]


def bank(lengths: list[list[int]], spans: list[int]) -> Bank:
    strength = torch.tensor([[k % 5 / 4 for k in row] for row in lengths])
    return Bank(torch.tensor(lengths), strength, torch.tensor(spans))


def built(name: str, rows: tuple[int, ...] = (0, 1, 2), context: int = 12) -> PeriodKernelNet:
    """Float64, weights away from the almost nothing of a start."""
    known = 2 if SPECS[name].ahead else 0
    shape = Shape(len(rows), context, 4, 3, known, 1, 2, 0)
    net = SPECS[name].build(shape, [streams(3)[m] for m in rows], bank([LENGTHS[m] for m in rows], [SPANS[m] for m in rows])).double()
    with torch.no_grad():
        for at, m in enumerate(rows):
            draw = Generator().manual_seed(100 + m)
            net.zero[at] = torch.tensor([0.0, -0.7, 0.0])
            for part in ("strength", "auxiliary", "query_bias", "value_bias"):
                net.get_parameter(part)[at] += torch.randn(net.get_parameter(part)[at].shape, generator=draw)
            for part in ("head", "told", "reader"):
                layer = net.get_submodule(part) if part != "reader" and part in dict(net.named_children()) else None
                for weights in () if layer is None else layer.parameters():
                    weights[at] = torch.randn(weights[at].shape, generator=draw, dtype=torch.float64)
    return net


def windows(net: PeriodKernelNet, rows: tuple[int, ...] = (0, 1, 2)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """past, observed, future, static; a channel of flags that are mostly zero in the user's units."""
    shape, parts = net.shape, []
    for m in rows:
        draw = Generator().manual_seed(m)
        past = torch.randn(EXAMPLES, 12, 4, generator=draw, dtype=torch.float64)
        past[..., 2] = -0.7 + (past[..., 2] > 1).double()
        past[:, -5:, 3] = 0.0
        parts.append((past, torch.randn(EXAMPLES, shape.horizon, shape.known, generator=draw, dtype=torch.float64)))
    past, future = (torch.stack(each) for each in zip(*parts, strict=True))
    return past, torch.ones_like(past, dtype=torch.bool), future, past.new_zeros(len(rows), EXAMPLES, 0)


@pytest.mark.parametrize("name", ["period_kernel_small", "period_kernel_wide"])
def test_the_notebooks_network_weight_for_weight(golden: Path, name: str) -> None:
    """Stages and output, of the fast form and of the plain one."""
    z = np.load(golden / f"{name}.npz")
    sizes, horizon = z["kernel_sizes"], int(z["horizon"])
    sales, others = torch.from_numpy(z["in_sales"]), torch.stack([torch.from_numpy(z[f"in_{c}"]) for c in naive.CHANNELS], -1)
    context = sales.shape[1]
    spec = presets()["notebook"].net.model_copy(update={"kernels": len(sizes)})
    shape = Shape(1, context, 7, horizon, 0, 1, 0, 0)
    net = spec.build(shape, streams(1), Bank(torch.from_numpy(sizes)[None], torch.from_numpy(z["kernel_strengths"])[None], torch.tensor([context])))
    net.load_state_dict({**net.state_dict(), **naive.from_notebook(z)})
    past = torch.cat([sales[..., None], others], -1)[None]
    out = net(past, torch.ones_like(past, dtype=torch.bool), past.new_zeros(1, len(sales), horizon, 0), past.new_zeros(1, len(sales), 0))
    close = {"atol": 1e-4, "rtol": 0.0}
    assert torch.allclose(out[0, :, :, 0, 0], torch.from_numpy(z["out"]), **close)
    raw = PeriodKernelNet(spec.model_copy(update={"rectify": False}), shape, streams(1), Bank.whole(1, len(sizes), context))
    before = functional_call(raw, dict(net.state_dict()), (past, past.bool(), past.new_zeros(1, len(sales), horizon, 0), past.new_zeros(1, len(sales), 0)))
    assert torch.allclose(before[0, :, :, 0, 0], torch.from_numpy(z["out_before_relu"]), **close)
    inside = net.inside(past)
    assert torch.allclose(net.ratio(past, inside)[0], torch.from_numpy(z["stage_ratio"]), **close)
    for token, stage in ((past[..., 0], "stage_sales"), (net.weighted(past, inside), "stage_aux")):
        assert torch.allclose(net.convolved(token, inside)[0], torch.from_numpy(z[stage]), **close)
    assert torch.allclose(net.attention(past)[0].mean(1), torch.from_numpy(z["attention"])[:, 0], **close)
    plain = naive.forward(naive.as_twin(z), sales, others)
    for stage, key in (("sales", "stage_sales"), ("ratio", "stage_ratio"), ("aux", "stage_aux"), ("attention", "attention"), ("before", "out_before_relu")):
        assert torch.allclose(plain[stage], torch.from_numpy(z[key]), **close), stage


@pytest.mark.parametrize("name", SPECS)
def test_the_collapsed_form_is_the_plain_form(name: str) -> None:
    """Values and every gradient, members of different periods and spans side by side, each as the notebook's network computes it alone."""
    net = built(name)
    past, observed, future, static = windows(net)
    params = {n: p.detach().requires_grad_() for n, p in net.named_parameters()}
    buffers = dict(net.named_buffers())
    fast = functional_call(net, {**params, **buffers}, (past, observed, future, static))
    slow = torch.stack([naive.whole_net(net, params, m, past[m], future[m], static[m]) for m in range(3)])
    assert fast.detach().abs().max() > 0.1
    assert torch.allclose(fast, slow, atol=1e-12, rtol=1e-10)
    above = torch.randn(fast.shape, generator=Generator().manual_seed(9), dtype=torch.float64)
    one, two = (torch.autograd.grad((out * above).sum(), list(params.values()), allow_unused=True, materialize_grads=True) for out in (fast, slow))
    for at, (a, b) in enumerate(zip(one, two, strict=True)):
        assert torch.allclose(a, b, atol=1e-8, rtol=1e-8), list(params)[at]


@pytest.mark.parametrize("name", SPECS)
def test_a_member_is_as_alone(name: str) -> None:
    """First weights, values and gradients; the company has longer kernels and reads further back."""
    together = built(name)
    whole = together(*windows(together))
    for m in range(3):
        alone = built(name, (m,))
        assert torch.allclose(alone(*windows(alone, (m,))), whole[m : m + 1], atol=1e-12)
        assert torch.equal(alone.dense.weight, together.dense.weight[m : m + 1])


def test_gradients_by_the_input_are_the_plain_forms() -> None:
    """What explanations need."""
    net = built("compact")
    past, observed, future, static = windows(net)
    past, future = past.requires_grad_(), future.requires_grad_()
    fast = net(past, observed, future, static)
    slow = torch.stack([naive.whole_net(net, dict(net.named_parameters()), m, past[m], future[m], static[m]) for m in range(3)])
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), (past, future), retain_graph=True) for out in (fast, slow)), strict=True):
        assert torch.allclose(a, b, atol=1e-10)
        assert b.abs().max() > 1e-3


def test_second_derivatives_are_refused() -> None:
    net = built("compact")
    out = net(*windows(net)).sum()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(out, [net.query], create_graph=True)


@pytest.mark.parametrize("name", SPECS)
def test_an_example_is_forecast_alike_in_any_company(name: str) -> None:
    net = built(name)
    batch = windows(net)
    whole = net(*batch)
    assert torch.allclose(net(*(x[:, 1:2] for x in batch)), whole[:, 1:2], atol=1e-12)


def test_a_window_without_other_channels_has_one_silent_token() -> None:
    net = PeriodKernel(kernels=2, ridge=None).build(
        Shape(1, 8, 1, 2, 0, 1, 0, 0), streams(1), Bank(torch.tensor([[7, 3]]), torch.ones(1, 2), torch.tensor([8]))
    )
    past = torch.randn(1, 3, 8, 1, generator=Generator().manual_seed(0))
    assert net(past, past.bool(), past.new_zeros(1, 3, 2, 0), past.new_zeros(1, 3, 0)).isfinite().all()


def test_steps_before_the_span_change_nothing() -> None:
    net = built("compact")
    past, observed, future, static = windows(net)
    other = past.clone()
    other[1, :, :-2], other[2, :, :-9] = 1e6, -1e6
    assert torch.equal(net(past, observed, future, static), net(other, observed, future, static))


def test_dropout_only_in_training_and_each_member_from_its_own_stream() -> None:
    net = built("compact")
    batch = windows(net)
    noise = [Noise(noise_keys(0, names, 0), 0, torch.float64) for names in (("a", "b", "c"), ("b",))]
    trained = net(*batch, noise[0])
    assert not torch.allclose(trained, net(*batch))
    alone = built("compact", (1,))
    assert torch.allclose(alone(*windows(alone, (1,)), noise[1]), trained[1:2], atol=1e-12)


def test_the_default_is_compact() -> None:
    """At four weeks ahead from eight weeks, eight channels and three levels."""
    shape = Shape(1, 56, 9, 28, 8, 1, 3, 0)
    assert PeriodKernel().summary(shape).parameters <= 10_000
    assert "attention" in str(PeriodKernel().summary(shape))


@pytest.mark.parametrize(
    ("shape", "given", "words"),
    [
        (Shape(1, 12, 4, 3, 0, 2, 0, 0), None, "forecasts one target, the task has 2"),
        (Shape(2, 12, 4, 3, 0, 1, 0, 0), None, "2 members but 1 random streams"),
        (Shape(1, 5, 4, 3, 0, 1, 0, 0), bank([[7]], [5]), "a period of 7 steps is longer than the context of 5 steps"),
    ],
)
def test_what_cannot_be_built_gets_a_sentence(shape: Shape, given: Bank | None, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        PeriodKernel().build(shape, streams(1), given)
