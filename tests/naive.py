"""The slow, obvious twins of everything fast."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import torch
from torch import Tensor

from foretell.forecaster import Forecaster
from foretell.nets.stacked_lstm import StackedLSTMNet
from foretell.optim import Optimizer
from foretell.panel import Panel
from foretell.task import Roles

# ---- training: optim, schedule, loss, noise ----


def torch_optimizer(spec: Optimizer, param: Tensor) -> torch.optim.Optimizer:
    """One member's optimiser, by torch itself."""
    match spec.kind:
        case "sgd" | "momentum":
            return torch.optim.SGD([param], lr=spec.rate, momentum=spec.inertia, weight_decay=spec.decay)
        case "rmsprop":
            return torch.optim.RMSprop([param], lr=spec.rate, alpha=spec.alpha, eps=spec.eps, momentum=spec.inertia, weight_decay=spec.decay)
        case "adam":
            return torch.optim.Adam([param], lr=spec.rate, betas=spec.betas, eps=spec.eps, weight_decay=spec.decay)
        case _:
            return torch.optim.AdamW([param], lr=spec.rate, betas=spec.betas, eps=spec.eps, weight_decay=spec.decay)


def cosine_rate(spec: Optimizer, step: int) -> float:
    """Walks through the cycles one by one."""
    length, height = float(spec.first_decay), 1.0
    begin = 0.0
    while step >= begin + length:
        begin, length, height = begin + length, length * spec.t_mul, height * spec.m_mul
    share = (step - begin) / length
    return spec.rate * (spec.floor + (1 - spec.floor) * height * (1 + math.cos(math.pi * share)) / 2)


def total_loss(output: Tensor, goal: Tensor, seen: Tensor, levels: tuple[float, ...], kind: str) -> list[float]:
    """One number at a time."""
    losses = []
    for member in range(len(output)):
        found = []
        for place in seen[member].nonzero().tolist():
            example, step, target = place
            truth = float(goal[member, example, step, target])
            error = truth - float(output[member, example, step, target, 0])
            size = abs(error)
            point = {"mse": size**2, "mae": size, "pinball": size / 2, "huber": size**2 / 2 if size < 1 else size - 0.5}[kind]
            quantile = []
            for slot, level in enumerate(levels):
                missed = truth - float(output[member, example, step, target, 1 + slot])
                quantile.append(level * missed if missed > 0 else (level - 1) * missed)
            found.append(point + (sum(quantile) / len(quantile) if quantile else 0.0))
        losses.append(sum(found) / len(found) if found else 0.0)
    return losses


def kept(key: int, step: int, call: int, size: int, rate: float) -> list[float]:
    """A member's dropout mask with Python's whole numbers, 32 bits of each."""

    def mixed(bits: int) -> int:
        bits &= 0xFFFFFFFF
        bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
        bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
        return bits ^ (bits >> 16)

    own = mixed(mixed(key + step) + call)
    draws = [mixed((number * 0x9E3779B9) ^ own) for number in range(size)]
    return [1 / (1 - rate) if (draw ^ 0x80000000) >= int(rate * 2**32) else 0.0 for draw in draws]


# ---- end of training ----


# ---- nets: layers, stacked LSTM (one member, no member axis; fit for vmap) ----


def lstm(x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor, keep: Tensor | None = None) -> Tensor:
    """[example, time, feature] -> [example, time, hidden], one step after the other."""
    state = cell = x.new_zeros(len(x), recurrent.shape[1])
    states = []
    for step in x.unbind(1):
        entering = state if keep is None else state * keep
        i, f, g, o = (step @ weight.T + entering @ recurrent.T + bias).chunk(4, -1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        state = o.sigmoid() * cell.tanh()
        states.append(state)
    return torch.stack(states, 1)


def conv(x: Tensor, weight: Tensor, bias: Tensor, same: bool) -> Tensor:
    """[example, time, feature] -> [example, time, output], Keras' place for the odd zero of an even kernel."""
    kernel, time = weight.shape[2], x.shape[1]
    left = (kernel - 1) // 2 if same else 0
    steps = []
    for t in range(time if same else time - kernel + 1):
        inside = [(j, t + j - left) for j in range(kernel) if 0 <= t + j - left < time]
        steps.append(sum((x[:, at] @ weight[:, :, j].T for j, at in inside), start=bias.expand(len(x), -1)))
    return torch.stack(steps, 1)


def attention(x: Tensor, into: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor], heads: int, causal: bool) -> Tensor:
    """Head by head and step by step."""
    size = x.shape[2] // heads
    q, k, v = (x @ into[0].T + into[1]).chunk(3, -1)
    told = []
    for t in range(x.shape[1]):
        source = slice(0, t + 1 if causal else x.shape[1])
        parts = []
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            weight = ((q[:, t, None, own] * k[:, source, own]).sum(-1) / math.sqrt(size)).softmax(-1)
            parts.append((weight[..., None] * v[:, source, own]).sum(1))
        told.append(torch.cat(parts, -1))
    return torch.stack(told, 1) @ out[0].T + out[1]


def stacked_lstm(net: StackedLSTMNet, weights: dict[str, Tensor], past: Tensor, observed: Tensor, future: Tensor, static: Tensor) -> Tensor:
    """The net of one member: `net` gives its options, `weights` its numbers."""
    spec, shape = net.spec, net.shape
    targets, seen = past[..., : shape.targets], observed[..., : shape.targets].to(past.dtype)
    level = torch.zeros_like(targets[:, 0])
    if spec.centre == "mean":
        level = (targets * seen).sum(1) / seen.sum(1).clamp(min=1)
    if spec.centre == "last":
        for t in range(shape.context):
            level = torch.where(seen[:, t] > 0, targets[:, t], level)
    x = torch.cat([targets - level[:, None], past[..., shape.targets :]], -1)
    if spec.mask:
        x = torch.cat([x * observed, observed.to(x.dtype)], -1)
    front = x.new_zeros(len(x), -shape.context % net.segment, x.shape[2])
    x = torch.cat([front, x], 1)
    x = torch.stack([torch.cat(x[:, t : t + net.segment].unbind(1), -1) for t in range(0, x.shape[1], net.segment)], 1)
    folds = x
    for layer in range(len(spec.hidden)):
        x = lstm(x, *(weights[f"layers.{layer}.{name}"] for name in ("weight", "recurrent", "bias")))
    told = torch.cat([x[:, -1], static, *future.unbind(1)], -1)
    if spec.ahead and shape.known:
        told = torch.cat([told, folds[:, -1]], -1) if spec.recent else told
        told = torch.cat([x[:, -1], static, (told @ weights["reader.weight"].T + weights["reader.bias"]).clamp(min=0)], -1)
    out = (told @ weights["head.weight"].T + weights["head.bias"]).reshape(len(x), shape.horizon, shape.targets, shape.slots)
    return out if spec.ridge else out + level[:, None, :, None]


# ---- end of nets ----


# ---- values over time: scales, seasonal index, metrics, periods ----


def quantile_map(training: list[float], x: float, most: int = 200, tail: int = 10) -> float:
    """Normal score of x: straight pieces between training values at even ranks, straight tails beyond."""
    from statistics import NormalDist

    ordered = sorted(v for v in training if math.isfinite(v))
    count, n = min(most, len(training)), len(ordered)
    if not n:
        return x
    knots = sorted({ordered[round(k * (n - 1) / max(1, count - 1))] for k in range(count)})
    scores = [NormalDist().inv_cdf((sum(v < k for v in ordered) + sum(v <= k for v in ordered)) / 2 / n) for k in knots]
    if len(knots) == 1:
        return scores[0] + x - knots[0]
    if knots[0] <= x <= knots[-1]:
        k = min(max(i for i, v in enumerate(knots) if v <= x), len(knots) - 2)
        return scores[k] + (x - knots[k]) * (scores[k + 1] - scores[k]) / (knots[k + 1] - knots[k])
    end, near = (0, range(1, min(tail, len(knots)))) if x < knots[0] else (len(knots) - 1, range(max(0, len(knots) - tail), len(knots) - 1))
    rise, run = [scores[i] - scores[end] for i in near], [knots[i] - knots[end] for i in near]
    return scores[end] + (x - knots[end]) * sum(r * r for r in rise) / sum(r * u for r, u in zip(rise, run, strict=True))


def seasonal_ratio(values: list[float], places: list[int], at: int, prior: int = 2) -> float:
    """Mean at a place over the mean, with `prior` more observations at the mean."""
    seen = [(v, p) for v, p in zip(values, places, strict=True) if math.isfinite(v)]
    mean = sum(v for v, _ in seen) / len(seen)
    here = [v for v, p in seen if p == at] + [mean] * prior
    return sum(here) / len(here) / mean


def mean_by_series(truth: Tensor, guess: Tensor, scale: Tensor, *, square: bool) -> float:
    """MASE or RMSSE of [cut, series, horizon, target], point by point: each series and target first, then their mean."""
    scores = []
    for s in range(truth.shape[1]):
        for t in range(truth.shape[3]):
            miss = [float(g - y) for y, g in zip(truth[:, s, :, t].flatten(), guess[:, s, :, t].flatten(), strict=True) if math.isfinite(y)]
            if not miss or not scale[s, t] > 0:
                continue
            ratio = sum(m * m if square else abs(m) for m in miss) / len(miss) / float(scale[s, t])
            scores.append(math.sqrt(ratio) if square else ratio)
    return sum(scores) / len(scores)


def hann_power(x: list[float], frequency: int) -> float:
    """Power at a whole number of cycles per series, by the sum that defines it."""
    n = len(x)
    bell = [v * math.sin(math.pi * (t + 0.5) / n) ** 2 for t, v in enumerate(x)]
    wave = [2 * math.pi * frequency * t / n for t in range(n)]
    return sum(v * math.cos(w) for v, w in zip(bell, wave, strict=True)) ** 2 + sum(v * math.sin(w) for v, w in zip(bell, wave, strict=True)) ** 2


def echo_at(x: list[float], lag: int) -> float:
    """Autocorrelation over the pairs of which both are observed."""
    pairs = [a * b for a, b in zip(x, x[lag:], strict=False) if math.isfinite(a) and math.isfinite(b)]
    own = [v * v for v in x if math.isfinite(v)]
    return (sum(pairs) / len(pairs)) / (sum(own) / len(own)) if pairs else 0.0


def seasonal_strength(x: list[float], period: int) -> float:
    """Adjusted R² of the means at each place of the period; x has mean 0."""
    seen = [(t % period, v) for t, v in enumerate(x) if math.isfinite(v)]
    places = {p: [v for q, v in seen if q == p] for p in {p for p, _ in seen}}
    left = sum((v - sum(places[p]) / len(places[p])) ** 2 for p, v in seen)
    total = sum(v * v for _, v in seen)
    return max(0.0, 1 - left / total * (len(seen) - 1) / (len(seen) - len(places)))


def strongest_period(x: list[float], longest: int) -> int:
    """The lag of highest correlation next to the strongest line of the spectrum, or its shortest multiple that repeats much better."""
    n = len(x)
    line = max((f for f in range(1, n // 2 + 1) if f >= n / longest), key=lambda f: hann_power(x, f))
    echo = {m: echo_at(x, round(n / line * m)) for m in range(1, 13) if round(n / line * m) <= longest}
    if echo[1] >= 0.2:
        echo.pop(7, None)
    best = max(echo.values())
    times = 1 if best - echo[1] < 0.1 else min(m for m, r in echo.items() if r >= best - 0.05)
    middle, doubt = n / line * times, max(0.5, times * (n / line) ** 2 / n / 2)
    return max((k for k in range(2, longest + 1) if abs(k - middle) <= doubt), key=lambda k: echo_at(x, k))


# ---- reading: rows on the grid, resampling ----


def cells(series: list[str], times: list[datetime], values: list[float]) -> dict[tuple[str, datetime], float]:
    """Every row under its series and time."""
    return {(s, t): v for s, t, v in zip(series, times, values, strict=True)}


def resampled(series: list[str], times: list[datetime], values: list[float | None], step: str, how: str) -> dict[tuple[str, datetime], float]:
    """Daily rows brought together row by row; NaN where less than half of a period's days is observed."""
    groups: dict[tuple[str, datetime], list[float]] = {}
    for s, t, v in zip(series, times, values, strict=True):
        first = {"W": t - timedelta(days=t.weekday()), "MS": t.replace(day=1), "2D": t - timedelta(days=(t - datetime(1970, 1, 1)).days % 2)}[step]
        seen = groups.setdefault((s, first), [])
        seen.extend([] if v is None else [v])
    found = {}
    for (s, first), seen in groups.items():
        days = {"W": 7, "2D": 2, "MS": ((first.replace(day=28) + timedelta(days=4)).replace(day=1) - first).days}[step]
        work = {"mean": lambda x: sum(x) / len(x), "sum": sum, "last": lambda x: x[-1], "max": max, "min": min}[how]
        found[s, first] = work(seen) if 2 * len(seen) >= days and seen else math.nan
    return found


# ---- end of reading ----


# ---- core: windows, ridge, bands, simple rules, backtest ----


def value_at(panel: Panel, series: int, row: int, channel: str) -> float:
    """One cell of a panel, in the user's units; NaN where there is none."""
    step = int(panel.start[series]) + row
    if channel in panel.own:
        inside = 0 <= row < panel.values.shape[1]
        return float(panel.values[series, row, panel.own.index(channel)]) if inside else math.nan
    if channel in panel.common:
        inside = 0 <= step < panel.shared.shape[0]
        return float(panel.shared[step, panel.common.index(channel)]) if inside else math.nan
    wall = panel.clock.local(step).astype("datetime64[s]").item()
    turn = {
        "hour": ((wall.hour * 3600 + wall.minute * 60 + wall.second) / 86400),
        "weekday": (wall.weekday() / 7),
        "month": ((wall.month - 1) / 12),
    }
    if channel == "weekend":
        return float(wall.weekday() >= 5)
    kind, wave = channel.rsplit("_", 1)
    return {"sin": math.sin, "cos": math.cos}[wave](2 * math.pi * turn[kind])


Scaled = Callable[[str, int, float], float]  # channel, series, value -> scaled value


def gathered(panel: Panel, roles: Roles, series: int, origin: int, context: int, horizon: int, scaled: Scaled) -> dict[str, list[list[float]]]:
    """One window, cell by cell: a gap takes the last value seen in the window, 0 before the first."""

    def cell(row: int, channel: str) -> float:
        return scaled(channel, series, value_at(panel, series, row, channel))

    past = [[0.0] * len(roles.features) for _ in range(context)]
    observed = [[0.0] * len(roles.features) for _ in range(context)]
    for c, channel in enumerate(roles.features):
        last = 0.0
        for t in range(context):
            value = cell(origin - context + 1 + t, channel)
            observed[t][c] = float(math.isfinite(value))
            last = value if math.isfinite(value) else last
            past[t][c] = last
    ahead = range(origin + 1, origin + 1 + horizon)
    future = [[cell(row, channel) for channel in roles.known] for row in ahead]
    goal = [[cell(row, channel) for channel in roles.target] for row in ahead]
    return {"past": past, "observed": observed, "future": future, "goal": goal}


def usable_origins(panel: Panel, targets: Sequence[str], series: int, first: int, last: int, context: int, horizon: int) -> list[int]:
    """Rows that can be an origin of a window whose goals lie in first < goal ≤ last."""
    found = []
    for row in range(panel.values.shape[1]):
        inside = row - context + 1 >= 0 and first <= row and row + horizon <= last
        back = [all(math.isfinite(value_at(panel, series, r, c)) for c in targets) for r in range(row - context + 1, row + 1)]
        ahead = [all(math.isfinite(value_at(panel, series, r, c)) for c in targets) for r in range(row + 1, row + horizon + 1)]
        if inside and 2 * sum(back) >= len(back) and any(ahead):
            found.append(row)
    return found


def ridge_inputs(window: dict[str, list[list[float]]], targets: int, clocked: int) -> list[float]:
    """One row of the design: measured channels over the context, targets less their last value; those the clock decides at
    three steps a horizon, the last one first; all known ones ahead."""
    past, future = window["past"], window["future"]
    measured = len(past[0]) - clocked
    row = [past[t][c] - (past[-1][c] if c < targets else 0.0) for t in range(len(past)) for c in range(measured)]
    apart = max(1, len(future) // 3)
    row += [past[t][c] for t in range(len(past) - 1, -1, -apart) for c in range(measured, measured + clocked)]
    return row + [v for step in future for v in step]


def ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares on standardised inputs: the weights of raw inputs, and the intercept."""
    share = weight / weight.sum()
    middle, centre = share @ x, share @ y
    deviation = np.sqrt(share @ (x - middle) ** 2)
    live = deviation > 1e-9
    z = (x - middle)[:, live] / deviation[live]
    gram = (z * share[:, None]).T @ z + penalty * np.eye(z.shape[1])
    told = np.zeros((x.shape[1], y.shape[1]))
    told[live] = np.linalg.solve(gram, (z * share[:, None]).T @ (y - centre)) / deviation[live][:, None]
    return told, centre - middle @ told


def conformal_rank(scores: list[float], prob: float) -> float:
    """The score of rank ⌈p(n+1)⌉ above the median, ⌊p(n+1)⌋ below it; beyond the scores seen, the outermost."""
    ordered = sorted(s for s in scores if math.isfinite(s))
    n = len(ordered)
    exact = round(prob * (n + 1), 9)
    rank = math.ceil(exact) if prob >= 0.5 else math.floor(exact)
    return ordered[min(max(rank, 1), n) - 1]


def seasonal_naive(past: list[float], horizon: int, season: int) -> list[float]:
    told = list(past)
    for _ in range(horizon):
        told.append(told[-season])
    return told[len(past) :]


def drift(past: list[float], horizon: int) -> list[float]:
    slope = (past[-1] - past[0]) / (len(past) - 1)
    return [past[-1] + slope * (step + 1) for step in range(horizon)]


def moving_average(past: list[float], horizon: int, window: int) -> list[float]:
    return [sum(past[-window:]) / window] * horizon


def backtested(fit: Callable[[Panel], Forecaster], panel: Panel, targets: tuple[str, ...], cuts: Sequence[Sequence[int]], every: int) -> list[Tensor]:
    """Point forecasts cut by cut: fitted on what was known at the cut, predicted with the targets after it erased."""
    told = []
    model = None
    for number, cut in enumerate(cuts):
        if model is None or (every and number % every == 0):
            model = fit(panel.until(torch.tensor(cut)))
        values = panel.values.clone()
        for s, step in enumerate(cut):
            for c, channel in enumerate(panel.own):
                if channel in targets:
                    values[s, step - int(panel.start[s]) + 1 :, c] = math.nan
        told.append(model.predict(replace(panel, values=values)).values)
    return told


# ---- end of core ----
