"""save() and load(): any fitted object as one safe file, rebuilt from the classes named in one explicit table.

In the JSON a tuple is a list and plain values are themselves; all else is an object with one tag:
{"float": "nan"} {"list": [...]} {"dict": {...}} {"datetime64": count, "unit": "s"} {"tensor": name} {"class": name, "fields": {...}}
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from re import fullmatch
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from .baseline import Drift, MovingAverage, SeasonalNaive
from .clock import Clock
from .detect.saved import classes as of_detection
from .errors import FileError, ForetellError, TaskError
from .files import CODES, JSON, read, write
from .forecaster import Forecaster
from .graph import Graph
from .interval import Conformal
from .label import Label
from .mixture import Mixture
from .neighbours import Boosting, Statistical
from .nets import GraphLSTM, LSTMTransformer, PeriodKernel, Response, Ridge, SeasonalRidge, StackedLSTM
from .nets.graph_lstm import Edge
from .optim import Optimizer
from .outcome import Part
from .panel import Names, Panel, Recipe
from .plan.episodes import Ground
from .plan.policy import Policy, Watched
from .task import Roles, Scaling, Task
from .train import Curves, Training
from .transform.saturating import Saturating
from .transform.scale import Affine, Asinh, Quantile
from .transform.season import SeasonIndex

Table = Mapping[str, type[Any]]

MINOR = 3  # one more whenever a class of the table gains a field or the table a class
PLAIN = (type(None), bool, int, str)
NUMPY = (np.bool_, np.integer, np.floating, np.str_)
REFUSALS = (ForetellError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)


def _table() -> dict[str, type[Any]]:
    """Name in the file → class. A name once published stays, so that format 1 remains readable."""
    return {
        "Affine": Affine,
        "Asinh": Asinh,
        "Boosting": Boosting,
        "Clock": Clock,
        "Conformal": Conformal,
        "Curves": Curves,
        "Drift": Drift,
        "Edge": Edge,
        "Forecaster": Forecaster,
        "Graph": Graph,
        "GraphLSTM": GraphLSTM,
        "Ground": Ground,
        "LSTMTransformer": LSTMTransformer,
        "Label": Label,
        "Mixture": Mixture,
        "MovingAverage": MovingAverage,
        "Names": Names,
        "Optimizer": Optimizer,
        "Panel": Panel,
        "Part": Part,
        "PeriodKernel": PeriodKernel,
        "Policy": Policy,
        "Quantile": Quantile,
        "Recipe": Recipe,
        "Response": Response,
        "Ridge": Ridge,
        "Roles": Roles,
        "Saturating": Saturating,
        "Scaling": Scaling,
        "SeasonIndex": SeasonIndex,
        "SeasonalNaive": SeasonalNaive,
        "SeasonalRidge": SeasonalRidge,
        "StackedLSTM": StackedLSTM,
        "Statistical": Statistical,
        "Task": Task,
        "Training": Training,
        "Watched": Watched,
        **of_detection(),
    }


def save(model: object, path: str | os.PathLike[str]) -> None:
    """Writes a fitted object (or a spec, a task, a clock) to one file; `load` gives it back bit for bit.

    TaskError for an object of another kind; after a failure an older file of that name is still whole.
    """
    if not isinstance(path, str | os.PathLike):
        raise TaskError(f"ft.save(model, path): the path comes second and is a text; got a {type(path).__name__}")
    value, tensors = encode(model, _table())
    write(path, tensors, {"minor": MINOR, "value": value})


def load(path: str | os.PathLike[str], *, device: str = "cpu") -> Any:
    """What `save` wrote, a model with its weights on `device`. Runs no code from the file; FileError for one that is damaged or newer."""
    _check_device(device)
    header, tensors = read(path)
    minor = header.get("minor", 0)
    if "value" not in header or type(minor) is not int:
        raise FileError(f'"{path}" holds no model: ft.load reads what ft.save wrote')
    try:
        value = decode(header["value"], tensors, _table(), newer=minor > MINOR)
        return value.to(device) if isinstance(value, Forecaster) else value
    except FileError as error:
        raise FileError(f'"{path}" cannot be loaded: {error}') from None


def encode(value: object, table: Table) -> tuple[JSON, dict[str, Tensor]]:
    """A value as JSON and the tensors that it names by their place ("value.net.weight"). Numpy's numbers become
    Python's, mappings dicts. TaskError for anything that is neither plain nor in the table."""
    tensors: dict[str, Tensor] = {}
    try:
        return _encode(value, "value", {cls: name for name, cls in table.items()}, tensors), tensors
    except RecursionError:
        raise TaskError(f"this {type(value).__name__} cannot be saved: it is nested too deeply, or contains itself") from None


def decode(value: JSON, tensors: Mapping[str, Tensor], table: Table, *, newer: bool = False) -> object:
    """The inverse of `encode`. Fields that are missing get their class's default; unknown ones are dropped if the file is `newer`, else refused."""
    try:
        return _decode(value, tensors, table, newer)
    except RecursionError:
        raise FileError("it is nested too deeply, as no saved object is") from None


def _encode(value: Any, where: str, names: Mapping[type, str], tensors: dict[str, Tensor]) -> JSON:
    if isinstance(value, NUMPY) and not isinstance(value, np.timedelta64):
        value = value.item()
    kind = type(value)
    if isinstance(value, bool | int | str | None) and kind in PLAIN:
        return value
    if kind is float:
        return value if isfinite(value) else {"float": str(value)}
    if kind is np.datetime64:
        return {"datetime64": int(value.view(np.int64)), "unit": value.dtype.name.removeprefix("datetime64").strip("[]")}
    if isinstance(value, Tensor):
        return {"tensor": _keep(value, where, tensors)}
    if kind in (tuple, list, torch.Size):
        items = [_encode(item, f"{where}.{i}", names, tensors) for i, item in enumerate(value)]
        return {"list": items} if kind is list else items
    if isinstance(value, Mapping):
        return {"dict": {_text(key, where): _encode(item, f"{where}.{key}", names, tensors) for key, item in value.items()}}
    if kind in names:
        contents = _contents(value)
        return {"class": names[kind], "fields": {name: _encode(item, f"{where}.{name}", names, tensors) for name, item in contents.items()}}
    raise _unsavable(kind, where, names.values())


def _decode(value: Any, tensors: Mapping[str, Tensor], table: Table, newer: bool) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return tuple(_decode(item, tensors, table, newer) for item in value)
        case {"list": list(items)}:
            return [_decode(item, tensors, table, newer) for item in items]
        case {"dict": dict(items)}:
            return {key: _decode(item, tensors, table, newer) for key, item in items.items()}
        case {"float": ("nan" | "inf" | "-inf") as text}:
            return float(text)
        case {"datetime64": int(count), "unit": str(unit)}:
            return _time(count, unit)
        case {"tensor": str(name)} if name in tensors:
            return tensors[name]
        case {"class": str(name), "fields": dict(contents)}:
            cls = _class(name, contents, table, newer)
            known = {field: _decode(contents[field], tensors, table, newer) for field in _fields(cls) if field in contents}
            return _build(name, cls, known)
    raise FileError(f"it says {str(value)[:60]} where a value should stand; save the model again")


def _keep(tensor: Tensor, where: str, tensors: dict[str, Tensor]) -> str:
    """The name under which a tensor is kept: its place, made unique."""
    if tensor.dtype not in CODES or tensor.layout != torch.strided:
        raise TaskError(f"{where}: a tensor of {tensor.dtype} ({tensor.layout}) cannot be saved; dense ones of {', '.join(map(str, CODES))} can")
    name = where
    while name in tensors:
        name += "'"
    tensors[name] = tensor.detach()
    return name


def _text(key: object, where: str) -> str:
    if type(key) is not str:
        raise TaskError(f"{where}: a dict with the key {key!r} cannot be saved: keys must be texts")
    return key


def _contents(value: Any) -> dict[str, Any]:
    names = _fields(type(value))
    return dict(zip(names, value, strict=True)) if isinstance(value, tuple) else {name: vars(value)[name] for name in names}


def _fields(cls: type[Any]) -> tuple[str, ...]:
    """What the class is made from: a pydantic model's, a dataclass's or a NamedTuple's fields."""
    if issubclass(cls, BaseModel):
        return tuple(cls.model_fields)
    return tuple(f.name for f in fields(cls) if f.init) if is_dataclass(cls) else tuple(cls._fields)


def _class(name: str, contents: Mapping[str, JSON], table: Table, newer: bool) -> type[Any]:
    """The class of that name, if this version knows it and everything the file says of it."""
    if name not in table:
        raise FileError(f'it holds a "{name}", which this foretell does not know, so a newer one wrote it: upgrade with pip install -U foretell')
    unknown = [field for field in contents if field not in _fields(table[name])]
    if unknown and not newer:
        raise FileError(f'its {name} has a field "{unknown[0]}", which this foretell does not know: upgrade with pip install -U foretell')
    return table[name]


def _build(name: str, cls: type[Any], contents: Mapping[str, object]) -> object:
    try:
        return cls(**contents)
    except REFUSALS as error:
        raise FileError(f"its {name} is not valid ({' '.join(str(error).split())}); save the model again") from None


def _time(count: int, unit: str) -> np.datetime64:
    if not fullmatch(r"\d{0,9}[A-Za-zμ]*", unit) or not -(2**63) <= count < 2**63:
        raise FileError(f'it holds a time of {count} "{unit}", which is no time; save the model again')
    try:
        time: np.datetime64 = np.int64(count).view(f"datetime64[{unit}]" if unit else "datetime64")
    except (TypeError, ValueError):
        raise FileError(f'it holds a time in "{unit}", which is no unit of time; save the model again') from None
    return time


def _unsavable(kind: type, where: str, names: Iterable[str]) -> TaskError:
    at = "" if where == "value" else f" (at {where.removeprefix('value.')})"
    can = f"{', '.join(names)}; numbers, texts, times, tensors; tuples, lists and dicts of these"
    return TaskError(f"a value of type {kind.__name__} cannot be saved{at}. What can be saved: {can}")


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # an unknown name, or a kind that this machine or this torch lacks
        here = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
        raise TaskError(f'no device "{device}" here: there are {", ".join(here)}') from None
