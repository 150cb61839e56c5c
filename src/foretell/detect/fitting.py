"""Fitting: from normal runs to a detector, its constants taken from parts of the runs that its method had not seen."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import InstanceOf
from torch import Tensor

from ..errors import DataError, TaskError
from ..panel import Panel
from ..spec import Spec
from ..train import Training
from .detector import Detector
from .events import Alarms
from .method import PCA, Linear, Method, Random, Spread, SpreadFit, fit_linear, fit_pca, fit_random
from .preparation import Preparation, Prepared, fit_preparation
from .runs import Piece, Rows, runs_of
from .scoring import DetectorPart, Judged, Scoring, judge, levelled, measure, together, widths
from .trees import EllipticEnvelope, IsolationForest, fit_envelope, fit_forest

FOLDS = 4  # parts of every run, each judged by methods fitted on the others
FEWEST = 40  # rows of a run that are worth holding out

Net = Spread | PCA | Linear | IsolationForest | EllipticEnvelope | Random


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


def fit(
    runs: Panel | Sequence[Panel],
    net: Net | Blend | Literal["auto"] = "auto",
    training: Training | None = None,
    *,
    preparation: Preparation | None = None,
    scoring: Scoring | None = None,
    alarms: Alarms | None = None,
) -> Detector:
    """A detector from runs known to be good: panels, of which every series is a run; no window spans two.

    "auto" takes what finds planted faults best in held-out parts of the normal runs. Scales and groups are fitted on all of them;
    usual errors and thresholds are those of methods fitted on the other parts of the runs.
    """
    found, training, how = runs_of(runs), training or Training(), scoring or Scoring()
    inputs = (runs if isinstance(runs, Panel) else runs[0]).channels
    prepared = fit_preparation(preparation or Preparation(), [run.rows for run in found], inputs)
    kept = [run.rows[:, [inputs.index(c) for c in prepared.channels]] for run in found]
    parted = folds(kept, prepared.spec.aggregate)
    nets = nets_of(net)
    tried = [attempt(one, parted, kept, prepared, training, how) for one in nets]
    parts = tuple(t.part for t in tried)
    normal = tuple(together(parts, [t.judged[at][n] for t in tried])[0] for at, fold in enumerate(parted) for n in range(len(fold.held)))
    chosen = net if isinstance(net, Spec) else Blend(nets=nets)
    return Detector(chosen, training, prepared, how, parts, alarms or Alarms(), inputs, normal, found[0].clock.step, found[0].clock.zone)


def nets_of(net: object) -> tuple[Net, ...]:
    """The methods of a net; TaskError for what is none."""
    if isinstance(net, Blend):
        return tuple(one for part in net.nets for one in nets_of(part))
    if not isinstance(net, Net):
        raise TaskError(f'net must be "auto" or one of Spread(), PCA(), Linear(), IsolationForest(), EllipticEnvelope(), Blend(...); got {net!r}')
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


def attempt(net: Net, parted: Sequence[Fold], runs: Sequence[Piece], prepared: Prepared, training: Training, how: Scoring) -> Tried:
    """Fits on all runs for use, and on each fold's for the constants."""
    methods = tuple(learned(net, fold.learn, prepared, training) for fold in parted)
    ready = [[prepared.apply(rows) for rows in fold.held] for fold in parted]
    found = [[measure(method, prepared, one, how) for one in held] for method, held in zip(methods, ready, strict=True)]
    part = DetectorPart(learned(net, runs, prepared, training), *widths([m for held in found for m in held], prepared))
    pairs = [list(zip(one, held, strict=True)) for one, held in zip(found, ready, strict=True)]
    judged = tuple(tuple(judge(part, m, how, r.observed) for m, r in fold) for fold in pairs)
    return Tried(levelled(part, [j.row for fold in judged for j in fold]), methods, judged)


def learned(net: Net, runs: Sequence[Piece], prepared: Prepared, training: Training) -> Method:
    """One method fitted on rows of the judged channels."""
    x = [prepared.apply(rows).x for rows in runs]
    match net:
        case Spread():
            return SpreadFit(_groups(prepared))
        case PCA():
            return fit_pca(net, x)
        case Linear():
            return fit_linear(net, x)
        case IsolationForest():
            return fit_forest(net, x, training.seed)
        case EllipticEnvelope():
            return fit_envelope(net, x, training.seed)
        case Random():
            return fit_random(training.seed, prepared.variables)


def _groups(prepared: Prepared) -> Tensor:
    group = torch.full((prepared.variables,), -1, dtype=torch.long)
    for number, one in enumerate(prepared.groups):
        if not len(prepared.axes):
            group[torch.isin(prepared.owner, torch.tensor(one.members))] = number
    return group
