"""fit_each: a net for every series of a panel of any size, pack after pack, in all processes at hand, to be gone on with when killed."""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import workers
from .errors import ForetellError, TaskError
from .forecast import Member, learnt, too_short
from .forecaster import Forecaster, Net
from .interval import Conformal, kept
from .nets import PeriodKernel
from .outcome import Part
from .panel import Panel
from .periodic import resolved
from .periods import dominant
from .storage import load, save
from .task import Scaling, Task, same_width
from .train import Training
from .transform.scale import Scale


class Done(NamedTuple):
    """How far it is: series done of all, those left out, seconds passed, and seconds left if the rest goes as fast."""

    series: int
    of: int
    failed: int
    seconds: float
    left: float


class Question(NamedTuple):
    """What is fitted, whatever the series."""

    task: Task
    net: Net
    training: Training


def fit_each(
    panel: Panel,
    task: Task,
    net: Net,
    training: Training | None = None,
    *,
    size: int = 128,
    processes: int | None = None,
    folder: str | Path | None = None,
    watch: Callable[[Done], None] | None = None,
) -> Forecaster:
    """What `fit(..., per_series=True)` gives, for panels too large for one computation: `size` series at a time, those of alike
    length together, in so many `processes` (one a core).

    Packs are written to `folder`, from which a killed run goes on. A series that cannot be fitted stops no other: its forecast
    is NaN, and the model's notes name it and say why. TaskError if none can be fitted.
    """
    asked = Question(resolved(panel, task), net, training or Training())
    task = asked.task
    if asked.training.pooled:
        raise TaskError("Training(pooled=True) has one scale for all series, and a net for each knows only its own: leave pooled out")
    if size < 1:
        raise TaskError(f"size must be at least 1 series a pack, got {size}")
    began, count = time.perf_counter(), workers.cores(processes)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(folder or scratch)
        home.mkdir(parents=True, exist_ok=True)
        packs = {_mark(panel.pick(*names), asked): names for names in packed(panel, task, size, net)}
        failed: dict[str, str] = {}
        done = 0
        for answer in _answers(panel, packs, asked, home, count):
            failed |= answer.told["failed"] if not answer.error else dict.fromkeys(packs[answer.job], answer.error)
            done += len(packs[answer.job])
            if watch:
                passed = time.perf_counter() - began
                watch(Done(done, len(panel), len(failed), passed, passed / done * (len(panel) - done)))
        found = [model for model, _ in (load(_file(home, mark)) for mark in packs if _file(home, mark).exists()) if model is not None]
    if not found:
        raise TaskError(f"no series could be fitted: {next(iter(failed.values()))}")
    whole = joined([*found, *(_blank(found[0], name) for name in failed)], panel.series)
    notes = tuple(f'series "{name}" has no net: {why}' for name, why in failed.items())
    return replace(whole, notes=notes + whole.notes, facts={**whole.facts, "packs": len(packs), "seconds": round(time.perf_counter() - began, 3)})


def packed(panel: Panel, task: Task, size: int, net: Net | None = None) -> Iterator[tuple[str, ...]]:
    """Names of the series, `size` at a time, those with as much to learn from and, of a PeriodKernel, with as many periods side by side;
    inside a pack in the panel's order."""
    seen = panel.values[..., [panel.own.index(c) for c in task.target if c in panel.own]].isfinite().all(-1).sum(1)
    if isinstance(net, PeriodKernel) and len(panel) > size:
        longest = None if task.context == "auto" else task.context
        found = dominant(panel.channel(task.target[0]), net.kernels, longest=longest).length
        seen = seen * (net.kernels + 1) + (found > 1).sum(1)
    for part in seen.argsort(stable=True).split(size):
        yield tuple(panel.series[i] for i in sorted(part.tolist()))


def _mark(part: Panel, asked: Question) -> str:
    """A name for a pack's file that changes with the question, the options and the data."""
    digest = hashlib.sha256(repr((part.series, part.start.tolist(), part.channels, part.calendar, part.clock, part.labels)).encode())
    for one in asked:
        digest.update(f"{type(one).__name__}{one.model_dump_json()}".encode())
    for values in (part.values, part.shared):
        digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]


def _file(home: Path, mark: str) -> Path:
    """Where a pack's model is written once it is done."""
    return home / f"{mark}.foretell"


def _answers(panel: Panel, packs: Mapping[str, Sequence[str]], asked: Question, home: Path, processes: int) -> Iterator[workers.Answer]:
    """Of packs done before, at once; of the others, as they are done."""
    rest = []
    for mark in packs:
        if _file(home, mark).exists():
            yield workers.Answer(mark, {"failed": load(_file(home, mark))[1]})
        else:
            rest.append(mark)
    if processes == 1 or len(rest) < 2:
        for mark in rest:
            yield workers.Answer(mark, {"failed": _pack(panel.pick(*packs[mark]), asked, _file(home, mark))})
        return
    for mark in rest:
        save((panel.pick(*packs[mark]), *asked), home / f"{mark}.job")
    yield from workers.run("foretell.packs", [str(home)], rest, min(processes, len(rest)))


def _pack(panel: Panel, asked: Question, path: Path) -> dict[str, str]:
    """Fits a pack and writes it; what could not be fitted, by name."""
    model, failed = _fitted(panel, asked)
    save((model, failed), path)
    return failed


def _fitted(panel: Panel, asked: Question) -> tuple[Forecaster | None, dict[str, str]]:
    """All of a pack's series together; if one of them stops the others, each half by itself, and so on down to the one. Those too
    short to learn from are left out."""
    try:
        found = learnt(panel, asked.task, Member(asked.net, per_series=True), asked.training)
        short = too_short(found.source, found.parts)
        return found.model.pick(*(name for name in panel.series if name not in short)), short
    except ForetellError as error:
        if len(panel) == 1:
            return None, {panel.series[0]: str(error)}
    half = len(panel) // 2
    pairs = [_fitted(panel.pick(*names), asked) for names in (panel.series[:half], panel.series[half:])]
    models = [model for model, _ in pairs if model is not None]
    failed = {name: why for _, found in pairs for name, why in found.items()}
    return joined(models, [name for name in panel.series if name not in failed]) if models else None, failed


def _blank(model: Forecaster, name: str) -> Forecaster:
    """A model of one series that could not be fitted: it forecasts NaN."""
    one = model.pick(model.series[0])
    weights = {n: torch.full_like(w, torch.nan) if w.is_floating_point() else w for n, w in one.weights.items()}
    return replace(one, series=(name,), members=(name,), weights=weights, parts=(), notes=())


def joined(models: Sequence[Forecaster], order: Sequence[str]) -> Forecaster:
    """One model of all the series of several with a net for each, in this order."""
    first, series = models[0], tuple(name for model in models for name in model.series)
    weights = {name: torch.cat(_alike(name, [model.weights[name] for model in models])) for name in first.weights}
    whole = replace(
        first, context=max(m.context for m in models), series=series, members=series, weights=weights,
        scaling=_scaling([m.scaling for m in models]), bands=_bands([m.bands for m in models]),
        anchor=None if first.anchor is None else torch.cat([m.anchor for m in models if m.anchor is not None]), curves=None,
        parts=_parts(models), notes=tuple(note for model in models for note in model.notes),
    )  # fmt: skip
    return whole.pick(*order)


def _alike(name: str, weights: list[Tensor]) -> list[Tensor]:
    """Kernels are centred and as wide as the longest of their pack, and what reads the window ends where it ends: zeros around them,
    or before, change nothing."""
    if len({w.shape[1:] for w in weights}) == 1:
        return weights
    width = max(w.shape[1] for w in weights)
    if name.endswith(("query", "key", "value")):
        return [F.pad(w, (0, 0, width - w.shape[1], 0)) for w in weights]
    left = [(width - 1) // 2 - (w.shape[1] - 1) // 2 for w in weights]
    return [F.pad(w, (0, 0, a, width - w.shape[1] - a)) for w, a in zip(weights, left, strict=True)]


def _scaling(parts: Sequence[Scaling]) -> Scaling:
    """Rows one after another; a shared channel's scale has a row a series, unless all packs agree on it."""
    common = [part.common for part in parts]
    same = all(torch.equal(a, b) for one in common for a, b in zip(vars(one).values(), vars(common[0]).values(), strict=True))
    counts = [len(next(iter(vars(part.target).values()))) for part in parts]
    wide = [type(one)(**{n: f.expand(rows, *f.shape[1:]) for n, f in vars(one).items()}) for one, rows in zip(common, counts, strict=True)]
    indices = tuple(replace(same_place[0], table=torch.cat([one.table for one in same_place])) for same_place in zip(*(p.indices for p in parts), strict=True))
    return Scaling(_stacked([p.target for p in parts]), _stacked([p.own for p in parts]), common[0] if same else _stacked(wide), indices)


def _stacked(scales: Sequence[Scale]) -> Scale:
    facts = {name: torch.cat(same_width(*(vars(scale)[name] for scale in scales))) for name in vars(scales[0])}
    return type(scales[0])(**facts)


def _bands(parts: Sequence[Conformal]) -> Conformal:
    """Scores of all packs together: each pack's come from as many windows a series, and are thinned alike."""
    return Conformal(kept(torch.cat([part.scores for part in parts], 2)), torch.cat([part.spread for part in parts]))


def _parts(models: Sequence[Forecaster]) -> tuple[Part, ...]:
    """First and last goal of any pack, and the windows of all."""
    every = [part for model in models for part in model.parts]
    names = dict.fromkeys(part.name for part in every)
    same = {name: [part for part in every if part.name == name] for name in names}
    return tuple(Part(name, min(p.first for p in all_), max(p.last for p in all_), sum(p.rows for p in all_)) for name, all_ in same.items())


def main(home: Path) -> None:
    """A worker: packs by name from standard input, an answer for each on standard output."""
    torch.set_num_threads(1)

    def jobs() -> Iterator[Mapping[str, Any]]:
        for line in sys.stdin:
            path = home / f"{line.strip()}.job"
            panel, task, net, training = load(path)
            yield {"failed": _pack(panel, Question(task, net, training), _file(home, line.strip()))}
            path.unlink()

    workers.serve(jobs())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
