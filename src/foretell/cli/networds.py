"""Net words: what is typed after --net as a net with its training: "lstm:hidden=128/64,rate=0.002" or "big=lstm:…"."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_origin

from pydantic.fields import FieldInfo

from ..baseline import Drift, MovingAverage, SeasonalNaive
from ..errors import TaskError, nearest
from ..forecast import Member
from ..forecaster import Net
from ..neighbours import Boosting, Statistical
from ..nets import ON_RIDGE, GraphLSTM, LSTMTransformer, PeriodKernel, Ridge, SeasonalRidge, StackedLSTM
from ..nets.period_kernel import presets as of_periods
from ..nets.stacked_lstm import presets
from ..optim import Optimizer
from ..train import Training

WORD = re.compile(r"(?:(?P<name>[^:=,]+)=)?(?P<kind>[^:=,]+)(?::(?P<options>.*))?", re.S)
NEIGHBOURS = ("seasonal_naive", "ridge")

Options = Mapping[str, Any]


class Kind(NamedTuple):
    """A net as it comes, and the training that belongs to it."""

    net: Net
    training: Options


class Contender(NamedTuple):
    """A row of the table."""

    name: str
    net: Net
    training: Training
    mixed: Mapping[str, Member] = MappingProxyType({})  # of an ensemble: its rows

    @property
    def trained(self) -> bool:
        """True if it learns by epochs."""
        return isinstance(self.net, ON_RIDGE)


def kinds() -> dict[str, Kind]:
    """Every net by its word."""
    simple: dict[str, Net] = {"ridge": Ridge(), "seasonal_naive": SeasonalNaive(), "drift": Drift(), "moving_average": MovingAverage(), "lstm": StackedLSTM()}
    simple |= {"seasonal_ridge": SeasonalRidge()}
    simple |= {"lightgbm": Boosting(), "xgboost": Boosting(kind="xgboost"), "period_kernel": PeriodKernel(), "lstm_transformer": LSTMTransformer()}
    simple |= {"graph_lstm": GraphLSTM()}
    simple |= {"autoets": Statistical(), "autoarima": Statistical(kind="AutoARIMA"), "theta": Statistical(kind="Theta")}
    found = {word: Kind(net, {}) for word, net in simple.items()} | {word: Kind(one.net, one.training) for word, one in presets().items()}
    return found | {word: Kind(one.net, one.training) for word, one in of_periods().items()}


def contenders(words: Sequence[str], training: Options, usual: Options = MappingProxyType({})) -> list[Contender]:
    """The rows asked for. `training` is what the flags say: it overrides a preset, which overrides what is `usual` of the data; a
    word's own options override it."""
    typed = [_Typed.of(word) for word in words]
    heads = [one.kind for one in typed if not one.name]
    found = [one.row(training, usual, alone=heads.count(one.kind) == 1) for one in typed]
    for at, row in enumerate(found):
        if row.name in [other.name for other in found[:at]]:
            raise TaskError(f'two rows would be called "{row.name}": give one another name, as in --net mine={typed[at].kind}:…')
    return found


def word_of(net: Net) -> str:
    """The word of a net's kind."""
    alike = {word: one.net for word, one in kinds().items() if type(one.net) is type(net)}
    kind = net.kind if isinstance(net, Boosting | Statistical) else None
    return next((word for word, one in alike.items() if kind in (None, vars(one).get("kind"))), type(net).__name__)


class _Typed(NamedTuple):
    """A word taken apart."""

    text: str
    name: str
    kind: str
    options: str

    @staticmethod
    def of(word: str) -> "_Typed":
        found = WORD.fullmatch(word.strip())
        if found is None:
            raise TaskError(f'--net "{word}" is not understood: write a net, or net:option=value,option=value, with name= before it if you like')
        kind = found["kind"].strip().lower().replace("-", "_")
        if kind not in kinds():
            raise TaskError(f'--net {word}: no net "{found["kind"]}": {nearest(kind, kinds(), limit=20)}')
        return _Typed(word.strip(), (found["name"] or "").strip(), kind, found["options"] or "")

    def row(self, training: Options, usual: Options, *, alone: bool) -> Contender:
        """With a name of its own: the one given, the net's word, or the whole text where that word comes twice."""
        name = self.name or (self.kind if alone else self.text)
        if name in NEIGHBOURS and self.kind != name:
            raise TaskError(f'--net {self.text}: "{name}" is the name of a row that every table shows; choose another')
        base = kinds()[self.kind]
        net, of_training, of_optimizer = self._sorted(base.net)
        try:
            made = type(base.net).model_validate({**base.net.model_dump(exclude_defaults=True), **net})
            return Contender(name, made, trained_by(usual, base.training, training, {**of_training, "optimizer": of_optimizer}))
        except TaskError as error:
            raise TaskError(f"--net {self.text}: {error}") from None

    def _sorted(self, net: Net) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Options of the net, of Training and of Optimizer; the first that knows a name has it."""
        homes: list[tuple[Mapping[str, FieldInfo], dict[str, Any]]] = [(spec.model_fields, {}) for spec in (type(net), Training, Optimizer)]
        for pair in filter(None, (part.strip() for part in self.options.split(","))):
            name, sign, text = pair.partition("=")
            name = "kind" if name.strip() == "optimizer" else name.strip()
            if not sign or not text:
                raise TaskError(f'--net {self.text}: "{pair}" is no option=value; several values are joined by /, as in hidden=128/64')
            home = next((h for h in homes if name in h[0]), None)
            if home is None:
                valid = [*type(net).model_fields, *Training.model_fields, *(f for f in Optimizer.model_fields if f != "kind")]
                raise TaskError(f'--net {self.text}: {self.kind} has no option "{name}": {nearest(name, valid, limit=40)}')
            home[1][name] = _frame(text.strip()) if name == "edges" else _value(text.strip(), home[0][name].annotation)
        return homes[0][1], homes[1][1], homes[2][1]


def trained_by(*options: Options) -> Training:
    """A Training from several sources, the later ones first in rank."""
    whole: dict[str, Any] = {}
    for one in options:
        optimizer = {**whole.get("optimizer", {}), **one.get("optimizer", {})}
        whole |= {**one, "optimizer": optimizer}
    if not whole["optimizer"]:
        del whole["optimizer"]
    return Training.model_validate(whole)


def _frame(path: str) -> Any:
    """The table in a CSV file."""
    import polars as pl

    if not Path(path).is_file():
        raise TaskError(f"edges={path}: there is no such file; it is a CSV with the columns unique_id, neighbour and, if known, lag and weight")
    return pl.read_csv(path)


def _value(text: str, annotation: Any) -> object:
    if annotation is str:
        return text
    if "/" in text or get_origin(annotation) is tuple:
        return tuple(_plain(part) for part in text.split("/") if part)
    return _plain(text)


def _plain(text: str) -> object:
    words = {"none": None, "true": True, "yes": True, "false": False, "no": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
