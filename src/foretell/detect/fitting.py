"""Fitting: from normal runs to a detector, its constants taken from parts of the runs that its method had not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import InstanceOf
from torch import Tensor

from ..errors import DataError, TaskError
from ..nets.autoencoder import LSTMAutoencoder
from ..nets.tadgan import TadGAN
from ..panel import Panel
from ..spec import Spec
from ..train import Curves, Training
from .detector import Detector
from .events import Alarms
from .gan import fit_gan
from .method import PCA, Linear, Method, Random, Spread, SpreadFit, fit_linear, fit_pca, fit_random
from .planting import choice
from .preparation import Preparation, Prepared, fit_preparation
from .rewriting import fit_autoencoder
from .runs import Piece, Rows, runs_of
from .scoring import TOP, DetectorPart, Judged, Scoring, judge, levelled, measure, together, widths, with_critic
from .trees import EllipticEnvelope, IsolationForest, fit_envelope, fit_forest

FOLDS = 4  # parts of every run, each judged by methods fitted on the others
FEWEST = 40  # rows of a run that are worth holding out

Net = Spread | PCA | Linear | IsolationForest | EllipticEnvelope | LSTMAutoencoder | TadGAN | Random
TRAINED = LSTMAutoencoder | TadGAN  # by descent: once, on what comes before the end of every run, which is held out for good


class Blend(Spec):
    """Several methods at once: the mean of their scores, each in its own usual largest on normal rows."""

    nets: tuple[InstanceOf[Spec], ...]


class Fold(NamedTuple):
    """Rows of the judged channels: pieces to fit on, and those held out."""

    learn: list[Piece]
    held: list[Piece]


class Tried(NamedTuple):
    """A method with its constants, the same fitted for each fold, and its judgement of the held-out rows [fold][piece]."""

    part: DetectorPart
    methods: tuple[Method, ...]
    judged: tuple[tuple[Judged, ...], ...]
    curves: Curves | None = None


def fit(
    runs: Panel | Sequence[Panel],
    net: Net | Blend | Literal["auto"] = "auto",
    training: Training | None = None,
    *,
    preparation: Preparation | None = None,
    scoring: Scoring | None = None,
    alarms: Alarms | None = None,
    checkpoint: str | Path | None = None,
) -> Detector:
    """A detector from runs known to be good: panels, of which every series is a run; no window spans two.

    "auto" takes what finds planted faults best in held-out parts of the normal runs. Scales and groups are fitted on all of them;
    usual errors and thresholds are those of methods fitted on the other parts of the runs. `checkpoint` names a file from which the
    training of a net that was killed goes on to the same result.
    """
    ran, training, how = runs_of(runs), training or Training(), scoring or Scoring()
    inputs = (runs if isinstance(runs, Panel) else runs[0]).channels
    prepared = fit_preparation(preparation or Preparation(), [run.rows for run in ran], inputs)
    how = how if how.top else how.model_copy(update={"top": 1 if prepared.groups else min(TOP, len(prepared.channels))})
    kept = [run.rows[:, [inputs.index(c) for c in prepared.channels]] for run in ran]
    parted = folds(kept, prepared.spec.aggregate)
    nets = candidates(how, prepared) if net == "auto" else nets_of(net)
    if any(isinstance(one, TRAINED) for one in nets):
        parted = parted[-1:]
    tried = [attempt(one, parted, kept, prepared, training, how, place) for one, place in zip(nets, _checkpoints(nets, checkpoint), strict=True)]
    facts: dict[str, str | float] = {}
    if net == "auto":
        held = [fold.held for fold in parted]
        best, found = choice([t.part for t in tried], [t.methods for t in tried], held, prepared, how, training.seed)
        facts = {f"planted faults, average precision: {_named([nets[at] for at in some])}": round(value, 4) for some, value in _ordered(found)}
        tried, nets = [tried[at] for at in best], tuple(nets[at] for at in best)
    parts = tuple(t.part for t in tried)
    normal = tuple(together(parts, [t.judged[at][n] for t in tried])[0] for at, fold in enumerate(parted) for n in range(len(fold.held)))
    chosen = net if isinstance(net, Spec) else Blend(nets=nets)
    curves = next((t.curves for t in tried if t.curves), None)
    return Detector(chosen, training, prepared, how, parts, alarms or Alarms(), inputs, normal, ran[0].clock.step, ran[0].clock.zone, curves, facts)


def _checkpoints(nets: Sequence[Net], path: str | Path | None) -> list[Path | None]:
    """A file for each net that is trained by descent; if there are several, their places follow its name."""
    count = sum(isinstance(one, TRAINED) for one in nets)
    return [Path(f"{path}-{at}" if count > 1 else path) if path and isinstance(one, TRAINED) else None for at, one in enumerate(nets)]


def candidates(how: Scoring, prepared: Prepared) -> tuple[Net, ...]:
    """What "auto" chooses from: every combination of these; what looks ahead only where scores may come late, the spread of a group
    only where there is a group."""
    ahead: tuple[Net, ...] = () if how.look == "causal" else (Linear(back=2, ahead=2),)
    spread: tuple[Net, ...] = (Spread(),) if prepared.groups else ()
    return (Linear(), *ahead, *spread, PCA())


def _named(nets: Sequence[Spec]) -> str:
    return " + ".join(f"{type(one).__name__}({_options(one)})" for one in nets)


def _options(one: Spec) -> str:
    return ", ".join(f"{name}={value}" for name, value in one if name in one.model_fields_set)


def _ordered(found: Mapping[tuple[int, ...], float]) -> list[tuple[tuple[int, ...], float]]:
    return sorted(found.items(), key=lambda one: -one[1])


def fit_beside(runs: Panel | Sequence[Panel], guard: Detector) -> Detector:
    """The detector with its honest neighbours, prepared and scored alike: random, spread, PCA, and the forecast one step ahead."""
    nets: dict[str, Net] = {"random": Random(), "spread": Spread(), "pca": PCA(), "forecast": Linear()}
    how, prepared = guard.scoring.model_copy(update={"error": "point"}), guard.prepared.spec
    prepared = prepared if prepared.gaps != "keep" else Preparation(groups=())
    found = {name: fit(runs, net, guard.training, preparation=prepared, scoring=how, alarms=guard.alarms) for name, net in nets.items()}
    return replace(guard, beside=found)


def nets_of(net: object) -> tuple[Net, ...]:
    """The methods of a net; TaskError for what is none."""
    if isinstance(net, Blend):
        return tuple(one for part in net.nets for one in nets_of(part))
    if not isinstance(net, Net):
        names = "Spread(), PCA(), Linear(), IsolationForest(), EllipticEnvelope(), LSTMAutoencoder(), TadGAN(), Blend(...)"
        raise TaskError(f'net must be "auto" or one of {names}; got {net!r}')
    return (net,)


def folds(runs: Sequence[Piece], aggregate: int) -> list[Fold]:
    """Every run cut into as many as FOLDS parts in time; fold k holds out part k of each and learns from the rest.

    A run too short to be cut is held out whole, in turn. DataError if there is nothing to hold out beside something to learn from.
    """
    cut = [rows.tensor_split([n * len(rows) // parts for n in range(1, parts)]) for rows in runs for parts in [_parts(rows, aggregate)]]
    whole = [at for at, parts in enumerate(cut) if len(parts) == 1]
    found = []
    for fold in range(FOLDS):
        learn: list[Piece] = []
        held: list[Piece] = []
        for at, parts in enumerate(cut):
            turn = whole.index(at) % FOLDS if len(parts) == 1 else fold % len(parts) if fold < len(parts) else -1
            if len(parts) == 1:
                (held if turn == fold else learn).append(parts[0])
            elif turn < 0:
                learn.append(runs[at])
            else:
                held.append(parts[turn])
                learn += [torch.cat(piece) for piece in (parts[:turn], parts[turn + 1 :]) if piece]
        if held and learn:
            found.append(Fold(learn, held))
    if not found:
        total = sum(len(rows) for rows in runs)
        raise DataError(f"the normal runs hold {total} rows; {2 * FEWEST * aggregate} or more are needed, to learn from one part and to hold out another")
    return found


def _parts(rows: Rows, aggregate: int) -> int:
    return max(1, min(FOLDS, len(rows) // (FEWEST * aggregate)))


def attempt(
    net: Net, parted: Sequence[Fold], runs: Sequence[Piece], prepared: Prepared, training: Training, how: Scoring, checkpoint: Path | None = None
) -> Tried:
    """Fits on all runs for use, and on each fold's for the constants; what is trained by descent is trained once and used as it is."""
    fitted = [learned(net, fold.learn, prepared, training, how, checkpoint) for fold in parted]
    methods = tuple(method for method, _ in fitted)
    ready = [[prepared.apply(rows) for rows in fold.held] for fold in parted]
    found = [[measure(method, prepared, one, how) for one in held] for method, held in zip(methods, ready, strict=True)]
    last = methods[-1] if isinstance(net, TRAINED) else learned(net, runs, prepared, training, how)[0]
    part = DetectorPart(last, *widths([m for held in found for m in held], prepared))

    def judged(with_: DetectorPart) -> tuple[tuple[Judged, ...], ...]:
        return tuple(tuple(judge(with_, m, how, r.observed) for m, r in zip(one, held, strict=True)) for one, held in zip(found, ready, strict=True))

    if isinstance(net, TadGAN):
        part = with_critic(part, [j for fold in judged(part) for j in fold])
    rows = judged(part)
    return Tried(levelled(part, [j.row for fold in rows for j in fold]), methods, rows, fitted[-1][1])


def learned(
    net: Net, runs: Sequence[Piece], prepared: Prepared, training: Training, how: Scoring, checkpoint: Path | None = None
) -> tuple[Method, Curves | None]:
    """One method fitted on rows of the judged channels, and how its losses fell."""
    x = [prepared.apply(rows).x for rows in runs]
    match net:
        case Spread():
            return SpreadFit(_groups(prepared)), None
        case PCA():
            return fit_pca(net, x), None
        case Linear():
            return fit_linear(net, x), None
        case IsolationForest():
            return fit_forest(net, x, training.seed), None
        case EllipticEnvelope():
            return fit_envelope(net, x, training.seed), None
        case LSTMAutoencoder():
            return fit_autoencoder(net, x, training, "last" if how.look == "causal" else how.unroll, checkpoint)
        case TadGAN():
            return fit_gan(net, x, training, "last" if how.look == "causal" else how.unroll, checkpoint)
        case Random():
            return fit_random(training.seed, prepared.variables), None


def _groups(prepared: Prepared) -> Tensor:
    group = torch.full((prepared.variables,), -1, dtype=torch.long)
    for number, one in enumerate(prepared.groups):
        if not len(prepared.axes):
            group[torch.isin(prepared.owner, torch.tensor(one.members))] = number
    return group
