"""storage: save → load gives back every bit; a file of format 1 stays readable; nothing outside the table gets in or out."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import unwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from foretell import files, storage
from foretell.clock import Clock
from foretell.errors import FileError, TaskError
from foretell.panel import Names, Recipe
from foretell.storage import decode, encode

FORMAT_1 = Path(__file__).parent / "files" / "format1.foretell"


class Spot(NamedTuple):
    name: str
    at: float = 0.5


class Net(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.1


class Word(str):
    """A text that is more than a text."""


@dataclass(frozen=True, eq=False)
class Fitted:
    net: Net
    weights: Mapping[str, Tensor]
    clock: Clock
    spots: tuple[Spot, ...] = ()
    notes: list[object] = field(default_factory=list)
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if not self.weights:
            raise TaskError("no weights")
        object.__setattr__(self, "size", sum(w.numel() for w in self.weights.values()))

    @cached_property
    def total(self) -> float:
        return float(sum(w.sum() for w in self.weights.values()))


TABLE: dict[str, type[Any]] = {"Clock": Clock, "Fitted": Fitted, "Net": Net, "Spot": Spot}


def sample() -> Fitted:
    """What tests/files/format1.foretell holds."""
    weights = {
        "lstm.weight": torch.arange(12.0).reshape(2, 6) / 7,
        "lstm.bias": torch.tensor([1 / 3, torch.nan, -0.0], dtype=torch.float64),
        "seen": torch.tensor([[True], [False]]),
        "start": torch.tensor([-1, 2**40]),
        "place": torch.tensor(3, dtype=torch.int32),
        "none": torch.zeros(0, 4),
    }
    notes = [None, True, 7, 2**64, -0.0, math.inf, -math.inf, math.nan, 1e-320, "전력 \n \0", (), (1, [2]), {"": {}, "class": "x"}, np.datetime64("NaT")]
    return Fitted(Net(hidden=(3,)), weights, Clock(np.datetime64("2017-01-01"), "30min", "Asia/Seoul"), (Spot("peak", 0.25), Spot("low")), notes)


def pieces(value: object) -> object:
    """A value as nested tuples that are equal only if types and every bit are."""
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.datetime64):
        return value.dtype.name, int(value.view(np.int64))
    if isinstance(value, Mapping):
        return "mapping", [(key, pieces(item)) for key, item in value.items()]
    if isinstance(value, tuple | list):
        return type(value), [pieces(item) for item in value]
    if isinstance(value, BaseModel | Fitted | Clock):
        return type(value), [(name, pieces(vars(value)[name])) for name in storage._fields(type(value))]
    return type(value), repr(value)


def through(value: object, table: storage.Table = TABLE) -> object:
    return decode(*encode(value, table), table)


def put(path: Path, value: object, minor: int = storage.MINOR, change: Callable[[Any], object] = lambda json: None) -> None:
    """As `save` with the table of this test, its JSON changed before it is signed."""
    json, tensors = encode(value, TABLE)
    change(json)
    files.write(path, tensors, {"minor": minor, "value": json})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.foretell"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """save and load know the classes of this test."""
    monkeypatch.setattr(storage, "_table", lambda: TABLE)


def test_every_kind_of_value_comes_back_bit_for_bit(path: Path, known: None) -> None:
    storage.save(sample(), path)
    assert pieces(storage.load(path)) == pieces(sample())


def test_format_1_stays_readable(known: None) -> None:
    assert FORMAT_1.stat().st_size < 5000
    assert pieces(storage.load(FORMAT_1)) == pieces(sample())


@pytest.mark.parametrize("name", sorted(storage._table()))
def test_a_name_in_the_table_is_the_class_of_that_name(name: str) -> None:
    assert storage._table()[name].__name__ == name


@pytest.mark.parametrize("value", [Clock(np.datetime64("2020-01-31"), "ME"), Recipe("holiday", "MA"), Names("상품", "날짜", "pandas"), {"a": (1.5,)}])
def test_save_and_load_by_the_real_table(path: Path, value: object) -> None:
    storage.save(value, path)
    assert storage.load(str(path)) == value


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "15m"])
def test_a_time_keeps_its_unit(unit: str) -> None:
    time = np.datetime64("1969-07-20T20:17:40").astype(f"datetime64[{unit}]")
    assert pieces(through(time)) == pieces(time)


@pytest.mark.parametrize(
    ("numpy", "plain"), [(np.float64(0.1), 0.1), (np.float32(0.1), float(np.float32(0.1))), (np.int64(3), 3), (np.bool_(True), True), (np.str_("a"), "a")]
)
def test_numbers_of_numpy_become_plain(numpy: object, plain: object) -> None:
    assert pieces(through(numpy)) == pieces(plain)


def test_mappings_become_dicts_in_their_order_and_sizes_tuples() -> None:
    assert list(through(OrderedDict(b=1, a=2))) == ["b", "a"]  # type: ignore[call-overload]
    assert through(torch.zeros(2, 3).shape) == (2, 3)


def test_a_parameter_comes_back_as_a_tensor_without_gradient() -> None:
    back = through(torch.nn.Parameter(torch.ones(2)))
    assert type(back) is Tensor
    assert not back.requires_grad


def test_tensors_of_one_name_do_not_meet(path: Path, known: None) -> None:
    value = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "__metadata__": torch.full((1,), 2.0)}
    storage.save(value, path)
    assert pieces(storage.load(path)) == pieces(value)


def test_saving_changes_nothing(path: Path, known: None) -> None:
    value = sample()
    before = pieces(value)
    storage.save(value, path)
    assert pieces(value) == before


def test_what_was_computed_on_the_way_is_not_saved(path: Path, known: None) -> None:
    fresh, used = sample(), sample()
    assert math.isnan(used.total)
    assert encode(used, TABLE)[0] == encode(fresh, TABLE)[0]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), "a value of type object cannot be saved. What can be saved: Clock, Fitted, Net, Spot; numbers, texts, times, tensors"),
        ({"a": (1, lambda: 1)}, r"a value of type function cannot be saved \(at a.1\)"),
        (torch.nn.Linear(1, 1), "type Linear cannot be saved"),
        ({3: 1}, "a dict with the key 3 cannot be saved: keys must be texts"),
        (np.timedelta64(1, "s"), "a value of type timedelta64 cannot be saved"),
        (np.arange(3), "a value of type ndarray cannot be saved"),
        ({1, 2}, "a value of type set cannot be saved"),
        (Word("x"), "a value of type Word cannot be saved"),
        (b"x", "a value of type bytes cannot be saved"),
        (torch.zeros(1, dtype=torch.complex64), r"a tensor of torch.complex64 .* cannot be saved; dense ones of torch.bool"),
        (torch.eye(2).to_sparse(), "a tensor of torch.float32 .torch.sparse_coo. cannot be saved"),
    ],
)
def test_what_cannot_be_saved(value: object, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        encode(value, TABLE)


def test_what_contains_itself_cannot_be_saved() -> None:
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(TaskError, match="this list cannot be saved: it is nested too deeply, or contains itself"):
        encode(ring, TABLE)


def test_a_subclass_is_another_class() -> None:
    class Wider(Net):
        more: int = 1

    with pytest.raises(TaskError, match="a value of type Wider cannot be saved"):
        encode(Wider(), TABLE)


def test_a_refused_save_writes_nothing(path: Path) -> None:
    with pytest.raises(TaskError):
        storage.save({"a": object()}, path)
    assert not list(path.parent.iterdir())


def test_path_and_model_exchanged(path: Path) -> None:
    with pytest.raises(TaskError, match=r"ft.save\(model, path\): the path comes second and is a text; got a Net"):
        unwrap(storage.save)("model.foretell", Net())  # without the check of types at run time, if it is on


def test_a_missing_field_gets_its_default(path: Path, known: None) -> None:
    put(
        path,
        {"net": Net(hidden=(3,)), "spot": Spot("a", 1.0)},
        change=lambda json: (json["dict"]["net"]["fields"].pop("dropout"), json["dict"]["spot"]["fields"].pop("at")),
    )
    assert storage.load(path) == {"net": Net(hidden=(3,), dropout=0.1), "spot": Spot("a", 0.5)}


def test_a_missing_field_without_default(path: Path, known: None) -> None:
    put(path, Spot("a"), change=lambda json: json["fields"].pop("name"))
    with pytest.raises(FileError, match=r'model.foretell" cannot be loaded: its Spot is not valid \(.*name.*\); save the model again'):
        storage.load(path)


def test_a_field_of_a_newer_version_is_dropped_only_there(path: Path, known: None) -> None:
    put(path, Net(), minor=storage.MINOR + 1, change=lambda json: json["fields"].update(bias={"class": "Prior", "fields": {}}))
    assert storage.load(path) == Net()
    put(path, Net(), change=lambda json: json["fields"].update(bias=True))
    with pytest.raises(FileError, match='its Net has a field "bias", which this foretell does not know: upgrade'):
        storage.load(path)


def test_a_class_of_a_newer_version(path: Path, known: None) -> None:
    put(path, (Net(),), change=lambda json: json[0].update({"class": "Wavelet"}))
    with pytest.raises(
        FileError, match=r'model.foretell" cannot be loaded: it holds a "Wavelet", which this foretell does not know, so a newer one wrote it: upgrade'
    ):
        storage.load(path)


def test_a_file_that_is_no_model(path: Path) -> None:
    for header in ({"epoch": 3}, {"value": 1, "minor": "new"}):
        files.write(path, {}, header)
        with pytest.raises(FileError, match="holds no model"):
            storage.load(path)


@pytest.mark.parametrize(
    "json",
    [
        {"tensor": "value.none"},
        {"float": "1e999"},
        {"float": 1.0},
        {"datetime64": 0, "unit": "parsec"},
        {"datetime64": 2**70, "unit": "s"},
        {"datetime64": 0, "unit": "s],(0,)datetime64[s"},
        {"class": "Net", "fields": [1]},
        {"class": "Net", "fields": {"hidden": "many"}},
        {"class": "Fitted", "fields": {"net": 1, "weights": 2, "clock": 3}},
        {"class": "Fitted", "fields": {"net": 1, "weights": {"dict": {}}, "clock": 3}},
        {"class": "Clock", "fields": {"start": "yesterday", "step": "h"}},
        {"class": ["Net"], "fields": {}},
        {"class": "__import__", "fields": {"name": "os"}},
        {"hidden": 1},
        {},
    ],
    ids=str,
)
def test_json_that_no_save_wrote(json: object) -> None:
    with pytest.raises(FileError):
        decode(json, {}, TABLE)  # type: ignore[arg-type]


def test_a_file_nested_without_end() -> None:
    json: list[object] = []
    for _ in range(100_000):
        json = [json]
    with pytest.raises(FileError, match="nested too deeply"):
        decode(json, {}, TABLE)


@pytest.mark.parametrize("device", ["gpu", "cpu:x", ""])
def test_a_device_that_is_not_here(path: Path, device: str) -> None:
    storage.save(Names(), path)
    with pytest.raises(TaskError, match=f'no device "{device}" here: there are cpu'):
        storage.load(path, device=device)
