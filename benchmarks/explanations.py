"""How right and how fast explanations are: white boxes, nets and simulated worlds whose drivers are known, captum's time beside ours.

A section a page: rare, state, switch, suite, worlds, speed. The data are in common/known.py.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping

import torch
from common.children import ChildError, ask, ours, peers
from common.known import Attending, Conv, Lstm, driven, hidden_states, labelled, rare, switching, trained
from common.spread import Spread, ratios
from common.tables import Table, page
from torch import Tensor, nn

from foretell import Task, Training, forecast
from foretell.attribution.deeplift import deeplift
from foretell.attribution.faithful import Ranking, ranking, removal, straw_men
from foretell.attribution.gradients import gradient_input, integrated_gradients, saliency, smooth_gradient, temporal_gradients, timing
from foretell.attribution.groups import by_segment, cells
from foretell.attribution.lrp import lrp
from foretell.attribution.probe import Probe
from foretell.attribution.removal import lime, occlusion, shapley
from foretell.attribution.types import Attribution, Baseline, Blocks, Map, baseline
from foretell.explanation import components, explain
from foretell.nets import LSTMTransformer, Ridge, StackedLSTM
from foretell.optim import Optimizer
from foretell.worlds import drivers

Explain = Callable[[Map, Blocks, Baseline], Attribution]
Rows = list[dict[str, str]]
METHODS: dict[str, Explain] = {
    "saliency": lambda f, x, b: saliency(f, x),
    "smooth gradient": lambda f, x, b: smooth_gradient(f, x),
    "gradient × input": gradient_input,
    "integrated gradients": lambda f, x, b: integrated_gradients(f, x, b, nodes=16),
    "temporal gradients": lambda f, x, b: temporal_gradients(f, x, b, stairs=14),
    "TIMING": timing,
    "DeepLIFT (engine)": deeplift,
    "LRP": lambda f, x, b: lrp(f, x),
    "occlusion": occlusion,
}
AREAS = ("AUROC", "AP", "AUP", "AUR")


def areas(scores: list[Ranking]) -> dict[str, str]:
    """The mean over folds of each area."""
    return {name: f"{statistics.mean(one):.3f}" for name, one in zip(AREAS, zip(*scores, strict=True), strict=True)}


def told(x: float) -> str:
    """A residual; of what adds up to nothing, a dash."""
    return "–" if x != x else f"{x:.0e}"


# ---------------------------------------------------------------- white boxes


def rare_rows(quick: bool) -> Rows:
    """Every method on both white boxes, 3 folds."""
    rows, folds = [], range(1 if quick else 3)
    some = [name for name in METHODS if name not in ("temporal gradients", "occlusion")]
    for kind in ("Rare-Time", "Rare-Feature"):
        boxes = [rare(kind, seed) for seed in folds]
        zero = [baseline({"x": torch.zeros_like(x)}) for _, x, _ in boxes]
        for name in some:
            found = [METHODS[name](f, {"x": x}, b).values["x"][:, 0].abs() for (f, x, _), b in zip(boxes, zero, strict=True)]
            rows.append({"data": kind, "method": name, **areas([ranking(v, mark) for v, (_, _, mark) in zip(found, boxes, strict=True)])})
        f, x, mark = boxes[0]
        lost = occlusion(f, {"x": x}, zero[0], cells({"x": x}))
        rows.append({"data": kind, "method": "occlusion, here also the exact Shapley values (1 fold)", **areas([ranking(lost.values["x"][:, 0].abs(), mark)])})
        for name, man in straw_men(lost, {"x": x}).items():
            rows.append({"data": kind, "method": f"straw man: {name}", **areas([ranking(man.values["x"][:, 0], mark)])})
    return rows


# ---------------------------------------------------------------- classifiers of hidden states


class Steps(nn.Module):
    """A GRU that says of every step the log odds of its label."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body, self.head = nn.GRU(3, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x)[0])[..., 0]
        return out


def state_rows(quick: bool) -> Rows:
    """Attributions of every step's output to that step: the net is causal, so with the state before it held each step is a window of one."""
    torch.manual_seed(0)
    net = labelled(Steps(64), *hidden_states(100 if quick else 1000, 1)[:2], epochs=2 if quick else 25)
    test, _, mark = hidden_states(20 if quick else 40, 2)
    with torch.no_grad():
        states = net.body(test)[0]
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], 1).reshape(1, -1, states.shape[-1])

    def f(blocks: Blocks) -> Tensor:
        rows = blocks["x"]
        out: Tensor = net.head(net.body(rows, before.repeat(1, len(rows) // before.shape[1], 1))[0][:, -1])
        return out

    one = {"x": test.reshape(-1, 1, 3)}
    zero = baseline({"x": torch.zeros_like(one["x"])})
    found = {name: METHODS[name](f, one, zero) for name in METHODS if name not in ("temporal gradients", "TIMING")}
    found |= {f"straw man: {name}": man for name, man in straw_men(found["saliency"], one).items() if name != "recency"}
    return [{"method": name, **areas([ranking(why.values["x"][:, 0].abs().view(test.shape), mark)])} for name, why in found.items()]


def switch_rows(quick: bool) -> Rows:
    """Attributions of the sum over all steps' outputs; what happens to the probabilities while the tenth named is taken out."""
    torch.manual_seed(0)
    net = labelled(Steps(64), *switching(100 if quick else 1000, 1)[:2], epochs=2 if quick else 40)
    test, label, mark = switching(10 if quick else 50, 2)
    accuracy = float(((net(test) > 0) == label.bool()).double().mean())
    x = {"x": test}
    zero, mean = baseline({"x": torch.zeros_like(test)}, "zero"), baseline({"x": test.mean(1, keepdim=True).expand_as(test).clone()}, "mean")

    def f(blocks: Blocks) -> Tensor:
        return net(blocks["x"]).sigmoid().sum(1, keepdim=True)

    groups = by_segment(x, {"x": list(range(10, 100, 10))})
    how = METHODS | {
        "Shapley, stretches of 10 steps": lambda f, x, b: shapley(f, x, b, groups),
        "LIME, stretches of 10 steps": lambda f, x, b: lime(f, x, b, groups),
    }
    found = {name: one(f, x, zero) for name, one in how.items()}
    found |= {f"straw man: {name}": man for name, man in straw_men(found["saliency"], x).items()}
    rows = []
    for name, why in found.items():
        score = why.values["x"][:, 0].abs()
        cpd, average = (prediction_path(net, test, score, one.mean()["x"]) for one in (zero, mean))
        rows.append({"method": name, "CPD, zeros": f"{cpd:.3f}", "CPD, averages": f"{average:.3f}", **areas([ranking(score, mark)])})
    rows += [
        {"method": f"published: {name}", "CPD, zeros": "", "CPD, averages": cpd, "AUROC": "", "AP": "", "AUP": aup, "AUR": aur}
        for name, cpd, aup, aur in SWITCH
    ]
    return [{**row, "accuracy of the net": f"{accuracy:.3f}" if not row["method"].startswith("published") else ""} for row in rows]


SWITCH = (("IG", ".196", ".918", ".433"), ("TIMING", ".208", ".926", ".434"), ("DeepLIFT", ".196", ".918", ".432"), ("LIME", ".195", ".949", ".391"))


def prediction_path(net: nn.Module, x: Tensor, score: Tensor, base: Tensor, share: float = 0.1) -> float:
    """Length of the way that both classes' probabilities go, the mean over steps, while the greatest share of cells is replaced one by one."""
    rank = score.flatten(1).argsort(stable=True, dim=1, descending=True).argsort(1).view(x.shape)
    last = round(share * x[0].numel())
    probe = Probe(lambda blocks: net(blocks["x"]).sigmoid(), {"x": x})
    way = probe.values({"x": torch.stack([torch.where(rank < k, base, x) for k in range(last + 1)])})
    return float(2 * way.diff(dim=0).abs().mean(2).sum(0).mean())


# ---------------------------------------------------------------- forecasters whose drivers are known


def suite_rows(quick: bool) -> Rows:
    """Correlation with the true contributions, average precision of the true cells, CPD by mean removal."""
    torch.manual_seed(1)
    data = driven(1000 if quick else 24_000, 1)
    test = driven(30 if quick else 120, 2, stride=7, mean=data.mean)
    epochs = {"LSTM": (60, 6e-3), "conv": (30, 2e-3), "Transformer": (20, 2e-3)}
    against, x, rows = baseline({"x": data.mean.expand_as(test.x).clone()}, "mean"), {"x": test.x}, []
    for kind, net in (("LSTM", Lstm()), ("conv", Conv()), ("Transformer", Attending())):
        trained(net, data, 2 if quick else epochs[kind][0], epochs[kind][1])
        error = float((net(test.x) - test.y).square().mean().sqrt())

        def f(blocks: Blocks, net: nn.Module = net) -> Tensor:
            out: Tensor = net(blocks["x"])
            return out

        found = {name: how(f, x, against) for name, how in METHODS.items()}
        found |= {f"straw man: {name}": man for name, man in straw_men(found["saliency"], x).items()}
        for name, why in found.items():
            value = why.values["x"][:, 0]
            rank, cpd = ranking(value.abs(), test.truth.abs() > 1e-6), removal(f, why, x, against, share=0.1, steps=8).cpd
            rows.append({"net": kind, "error of the net": f"{error:.3f}", "method": name, "correlation with the truth": f"{correlation(value, test.truth):.3f}",
                         "AP": f"{rank.ap:.3f}", "AUROC": f"{rank.auroc:.3f}", "CPD 10 %": f"{cpd:.3f}", "residual": told(why.gap)})  # fmt: skip
    return rows


def correlation(a: Tensor, b: Tensor) -> float:
    """Of all numbers together."""
    return float(torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1])


def worlds_rows(quick: bool) -> Rows:
    """Nets of ours trained on simulated sales: price and event of the step itself, reach of the campaign at its lag, in units on unseen days."""
    nets = {
        "ridge": (Ridge(), 1), "LSTM on its ridge": (StackedLSTM(hidden=(16,)), 6), "LSTM alone": (StackedLSTM(hidden=(32,), ridge=False), 40),
        "LSTM + Transformer on its ridge": (LSTMTransformer(hidden=16, heads=2, feedforward=32), 6),
    }  # fmt: skip
    rows, seeds = [], range(1 if quick else 3)
    for kind, (net, epochs) in list(nets.items())[: 2 if quick else None]:
        scores: dict[str, list[list[float]]] = {}
        for seed in seeds:
            for name, found, truth in world_parts(seed, net, epochs):
                scores.setdefault(name, []).append(
                    [correlation(found[part], truth[part]) if part in found else float("nan") for part in ("price", "event", "reach")]
                )
        for name, each in scores.items():
            worst = [min(column) for column in zip(*each, strict=True)]
            rows.append(
                {
                    "net": kind,
                    "method": name,
                    **{part: f"{w:.3f}" if w == w else "–" for part, w in zip(("price", "event", "campaign, at its lag"), worst, strict=True)},
                }
            )
    return rows


def world_parts(seed: int, net: Ridge | StackedLSTM | LSTMTransformer, epochs: int) -> list[tuple[str, Mapping[str, Tensor], Mapping[str, Tensor]]]:
    """(method, what it gives to each driver, the truth), [window, step] each."""
    world = drivers(seed)
    task = Task(target="sales", known=("price", "event"), context=14, horizon=7)
    training = Training(epochs=epochs, batch=32, seed=seed, device="cpu", optimizer=Optimizer(rate=0.01))
    model = forecast.fit(world.panel.until(440), task, net, training)
    origins = list(range(441, 490, 7))
    truth = {name: torch.cat([x[:, o + 1 : o + 8] for o in origins]) for name, x in world.effect.items()}
    rows = []
    for method in ("deeplift", "integrated_gradients", "gradient_input", "occlusion", "shapley"):
        why = explain(model, world.panel, origin=origins, method=method)
        found = {name: value for name, value in components(why).items() if name in ("price", "event")}
        if method != "shapley":  # its groups are stretches of time: one lag is not told apart
            reach = why.values["past"][..., why.channels("past").index("reach")]
            found["reach"] = torch.stack([reach[:, h, task.context - world.lag + h] for h in range(7)], 1)
        rows.append((method.replace("_", " "), found, truth))
    return rows


# ---------------------------------------------------------------- speed


def speed_rows(quick: bool) -> tuple[Rows, list[str], list[str]]:
    """One window, T = 96, 7 channels, H = 24: the engine for all steps at once against captum's IG looped over them, in turn."""
    found, missing = peers(["captum"])
    pythons = {"engine": ours(), "our IG-50": ours(), **({"captum IG-50": found["captum"]} if found else {})}
    rows, versions, residual = [], [], float("nan")
    for net in ("conv", "LSTM-64", "Transformer"):
        times: dict[str, list[float]] = {name: [] for name in pythons}
        for _ in range(2 if quick else 5):
            for name, python in pythons.items():
                try:
                    answer = ask(python, "explain_captum.py" if name.startswith("captum") else "explain_foretell.py", net=net, method=name)
                except ChildError as error:
                    missing.append(f"{name}: {error}")
                    continue
                times[name].append(answer["seconds"])
                versions = answer["versions"] if name.startswith("captum") else versions
                residual = answer["residual"] if name == "engine" else residual
        shown = {name: f"{Spread.of(t):.3f} s" if t else "–" for name, t in times.items()}
        theirs = times.get("captum IG-50") or []
        faster = f"{ratios(theirs, times['engine']):.1f}" if len(theirs) == len(times["engine"]) else "–"
        rows.append({"net": net, **shown, "captum / engine": faster, "residual of the engine": f"{residual:.0e}"})
    return rows, missing, versions


QUESTION = "How right and how fast explanations are"
SECTIONS: dict[str, tuple[str, str]] = {
    "rare": ("white boxes", """Which cells matter, of a sum of squares over the salient cells of ARMA noise (Dynamask's recipe, own generator). Published:
        exact methods reach AUROC 1. AUP and AUR can be raised by any monotone change of the values and stand here for comparison only; straw
        men know nothing of the box."""),
    "state": ("State", """A GRU on two hidden states of which each makes another channel decide the label (FIT's recipe, own generator). Attributions of
        every step's output, a log odd, to that step; true cells are the channel that decides. Zero baseline. Best published row: AUROC
        .938; plain |gradient|, which answers another question, .967 in our research."""),
    "switch": ("Switch-Feature", """Three hidden states, channels are Gaussian processes. Attributions of the sum of all steps' outputs; CPD is the
        length of the way that both classes' probabilities go (the mean over steps) while the tenth of all cells named first is replaced one
        by one. Published rows are TIMING's (arXiv 2506.05035, table of Switch-Feature; five folds). What differs: our generator draws the
        processes by Cholesky in place of TimeSynth, one net of one seed, 50 test windows, 100 steps; the labels' noise, the epochs and
        so the accuracy of the net are ours. CPD grows with how steep the net is, so compare methods inside a column, and with the published
        rows only the order."""),
    "suite": ("forecasters whose drivers are known", """y[t+1] = .55 y[t−6] + .3 y[t] − .9 price[t] + 1.2 event[t] + .5 price[t]·event[t] + noise of
        0.1, 28 steps of 3 channels, explained against the training mean, against which the truth is counted too. 24,000 training windows and the
        epochs were settled by the error on windows held out, never by what the explanations say of the truth."""),
    "worlds": ("simulated sales", """`worlds.drivers`: a price of falling effect, events, a campaign that acts a week later, on top of a weekly course.
        Nets of ours trained on the first 440 days, explained on days unseen; the lowest correlation over 3 worlds of what a method gives to
        a driver at each step with what it truly added, in units."""),
    "speed": ("speed", """One window of 96 steps and 7 channels, 24 steps ahead, one thread. Everyone explains all 24 steps in a process of his own, after
        one call to warm up; median of 3 calls, rounds in turn. captum: IntegratedGradients, 50 nodes, looped over the steps."""),
}  # fmt: skip


def table(rows: Rows) -> Table:
    """Rows that share their keys."""
    return Table("", tuple(rows[0]), [tuple(row.values()) for row in rows])


def main() -> None:
    """Writes results/explanations-<section>.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny nets, few epochs, nothing is written")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, by commas")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    made = {"rare": rare_rows, "state": state_rows, "switch": switch_rows, "suite": suite_rows, "worlds": worlds_rows}
    for name in asked.only.split(","):
        heading, protocol = SECTIONS[name]
        sheet = page(f"explanations-{name}", f"{QUESTION}: {heading}", protocol)
        rows, missing, versions = speed_rows(asked.quick) if name == "speed" else (made[name](asked.quick), [], [])
        sheet.publish([table(rows)], quick=asked.quick, missing=missing, versions=versions)


if __name__ == "__main__":
    main()
